// 200,000 system calls that do nothing.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    long sum = 0;
    for (int i = 0; i < 200000; i++)
        sum += syscall(SYS_getppid) >= 0;
    printf("%ld\n", sum);
    return 0;
}
