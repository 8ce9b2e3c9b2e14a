// 64 MiB to another process over TCP on the loopback, in writes of 64 KiB.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char buffer[65536];

int main(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    long total = 0, n;
    bind(listener, (struct sockaddr *)&at, sizeof(at));
    listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&at, &length);
    if (fork() == 0) {
        int s = socket(AF_INET, SOCK_STREAM, 0);
        connect(s, (struct sockaddr *)&at, sizeof(at));
        for (int i = 0; i < 1024; i++)
            write(s, buffer, sizeof(buffer));
        _exit(0);
    }
    int s = accept(listener, NULL, NULL);
    while ((n = read(s, buffer, sizeof(buffer))) > 0)
        total += n;
    wait(NULL);
    printf("%ld\n", total);
    return 0;
}
