// Two processes yield to each other, 20,000 times each.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    pid_t child = fork();
    int done = 0;
    for (int i = 0; i < 20000; i++)
        done += sched_yield() == 0;
    if (child == 0)
        _exit(0);
    wait(NULL);
    printf("%d\n", done);
    return 0;
}
