// 10,000 times: a byte to another process and back, over a pair of AF_UNIX sockets.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    int s[2], trips = 0;
    char byte = 0;
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    if (fork() == 0) {
        close(s[0]);
        while (read(s[1], &byte, 1) == 1) {
            byte++;
            write(s[1], &byte, 1);
        }
        _exit(0);
    }
    close(s[1]);
    for (int i = 0; i < 10000; i++) {
        write(s[0], &byte, 1);
        trips += read(s[0], &byte, 1) == 1;
    }
    close(s[0]);
    wait(NULL);
    printf("%d %d\n", trips, byte);
    return 0;
}
