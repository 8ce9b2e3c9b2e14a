// 5,000 times: a byte to another process and back, over TCP on the loopback.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, trips = 0;
    char byte = 0;
    bind(listener, (struct sockaddr *)&at, sizeof(at));
    listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&at, &length);
    if (fork() == 0) {
        int s = accept(listener, NULL, NULL);
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        while (read(s, &byte, 1) == 1) {
            byte++;
            write(s, &byte, 1);
        }
        _exit(0);
    }
    int s = socket(AF_INET, SOCK_STREAM, 0);
    connect(s, (struct sockaddr *)&at, sizeof(at));
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    for (int i = 0; i < 5000; i++) {
        write(s, &byte, 1);
        trips += read(s, &byte, 1) == 1;
    }
    close(s);
    wait(NULL);
    printf("%d %d\n", trips, byte);
    return 0;
}
