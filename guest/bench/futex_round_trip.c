// 10,000 times: two threads wake each other through a futex.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRIPS 10000
static volatile int turn;

static void hand_over(int mine, int next)
{
    while (turn != mine)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, next, NULL, NULL, 0);
    turn = next;
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *other(void *unused)
{
    for (int i = 0; i < TRIPS; i++)
        hand_over(1, 0);
    return unused;
}

int main(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, other, NULL);
    for (int i = 0; i < TRIPS; i++)
        hand_over(0, 1);
    pthread_join(thread, NULL);
    printf("%d\n", turn);
    return 0;
}
