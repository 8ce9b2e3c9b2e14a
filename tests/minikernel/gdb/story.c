/* What the tests of gdb are about: functions, a library call, threads, a child, an exec, a signal, SSE and x87. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int counter;
volatile int guarded = 5;
double half = 0.5;
long double third = 3.0L;
char text[32] = "text";
__thread int own = 3;

int leaf(int n)
{
    counter += n;
    return counter;
}

void *work(void *argument)
{
    own = 10 * (int)(long)argument;
    for (int i = 0; i < 3; i++)
        leaf((int)(long)argument);
    return 0;
}

static void on_usr1(int signo)
{
    counter += signo;
}

static void with_threads(void)
{
    pthread_t threads[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], 0, work, (void *)(i + 1));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], 0);
}

static int in_child(void)
{
    counter = 1000;
    return 7;
}

static int with_fork(void)
{
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(in_child());
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static int with_exec(const char *self)
{
    int status;
    pid_t child = vfork();
    if (child == 0) {
        execl(self, self, "exit", (char *)0);
        _exit(1);
    }
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "library";
    if (!strcmp(what, "exit"))
        return 9;
    if (!strcmp(what, "library")) {
        strcpy(text, what);
        half = half * third;
        guarded = (int)strlen(text) + guarded;
        leaf(2);
    }
    if (!strcmp(what, "threads"))
        with_threads();
    if (!strcmp(what, "fork"))
        leaf(with_fork());
    if (!strcmp(what, "exec"))
        leaf(with_exec(argv[0]));
    if (!strcmp(what, "signal")) {
        signal(SIGUSR1, on_usr1);
        raise(SIGUSR1);
    }
    if (!strcmp(what, "segv"))
        *(volatile int *)16 = 1;
    while (!strcmp(what, "forever"))
        counter++;
    if (!strcmp(what, "corrupt"))
        for (int i = 0; i < 100; i++)
            text[i % 32] = (char)i;
    printf("%s: counter %d, guarded %d\n", what, counter, guarded);
    return counter & 0x7f;
}
