// 10,000 times: a byte to another process and back, through two pipes.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    int there[2], back[2], trips = 0;
    char byte = 0;
    pipe(there);
    pipe(back);
    if (fork() == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) {
            byte++;
            write(back[1], &byte, 1);
        }
        _exit(0);
    }
    for (int i = 0; i < 10000; i++) {
        write(there[1], &byte, 1);
        trips += read(back[0], &byte, 1) == 1;
    }
    close(there[1]);
    wait(NULL);
    printf("%d %d\n", trips, byte);
    return 0;
}
