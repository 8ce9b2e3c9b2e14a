// 20,000 times: a signal to oneself, its handler, and back.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int seen;

static void handler(int number)
{
    seen++;
}

int main(void)
{
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    int self = getpid();
    for (int i = 0; i < 20000; i++)
        syscall(SYS_kill, self, SIGUSR1);
    printf("%d\n", seen);
    return 0;
}
