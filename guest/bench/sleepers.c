// 1,000 processes sleep until a pipe is closed; then all of them end.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    int gate[2], ended = 0;
    char byte;
    pipe(gate);
    for (int i = 0; i < 1000; i++)
        if (fork() == 0) {
            close(gate[1]);
            read(gate[0], &byte, 1);
            _exit(0);
        }
    close(gate[1]);
    while (wait(NULL) > 0)
        ended++;
    printf("%d\n", ended);
    return 0;
}
