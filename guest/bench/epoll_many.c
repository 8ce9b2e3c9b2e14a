// 1,000 descriptors in an epoll, of which one is ready: 5,000 times written to, waited for and read.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    static int s[500][2];
    struct rlimit limit;
    struct epoll_event got[16];
    int ep = epoll_create1(0), found = 0;
    char byte = 0;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 2048 ? limit.rlim_max : 2048;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < 500; i++) {
        socketpair(AF_UNIX, SOCK_STREAM, 0, s[i]);
        for (int j = 0; j < 2; j++) {
            struct epoll_event ev = {EPOLLIN, {.fd = s[i][j]}};
            epoll_ctl(ep, EPOLL_CTL_ADD, s[i][j], &ev);
        }
    }
    for (int i = 0; i < 5000; i++) {
        write(s[i * 7 % 500][i & 1], &byte, 1);
        int n = epoll_wait(ep, got, 16, -1);
        for (int j = 0; j < n; j++)
            found += read(got[j].data.fd, &byte, 1);
    }
    printf("%d\n", found);
    return 0;
}
