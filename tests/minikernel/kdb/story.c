#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int counter;
char *page;

int leaf(int n)
{
    counter += n;
    return counter;
}

int middle(int n)
{
    int sum = 0;
    for (int i = 1; i <= n; i++)
        sum += leaf(i);
    return sum;
}

static void on_usr1(int signo)
{
    (void)signo;
    counter = 100;
}

int main(int argc, char **argv)
{
    (void)argv;
    page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[0] = 'a';
    int sum = middle(4);
    signal(SIGUSR1, on_usr1);
    raise(SIGUSR1);
    pid_t child = fork();
    if (child == 0) {
        page[0] = 'b';
        _exit(7);
    }
    int status;
    waitpid(child, &status, 0);
    printf("sum %d counter %d status %d\n", sum, counter, WEXITSTATUS(status));
    fflush(stdout);
    if (argc > 1) *(volatile int *)16 = 1;
    return 3;
}
