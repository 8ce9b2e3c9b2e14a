// TCP over IPv6 and over mapped addresses; servers and clients in several processes, with poll, select and epoll.
#include "net.h"
#include <sys/select.h>

static void show6(const char *what, int fd, int (*get)(int, struct sockaddr *, socklen_t *))
{
    struct sockaddr_in6 at = {0};
    socklen_t length = sizeof(at);
    char text[64] = "";
    int result = get(fd, (struct sockaddr *)&at, &length);
    inet_ntop(AF_INET6, &at.sin6_addr, text, sizeof(text));
    printf("%s: %d length %u family %d %s\n", what, result, length, at.sin6_family, text);
}

int main(void)
{
    char buf[64];
    int n, status;
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    int l = socket(AF_INET6, SOCK_STREAM, 0);
    show6("fresh", l, (void *)getsockname);
    SHOW(bind(l, inet6("::1", 0), 23));
    SHOW(bind(l, inet6("2001:db8::1", 0), 28));
    SHOW(bind(l, inet6("ff02::1", 0), 28));
    SHOW(bind(l, inet6("::", 0), 28));
    SHOW(listen(l, 10));
    int port = port_of(l), v4 = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(bind(v4, inet(INADDR_LOOPBACK, port), 16));
    int c = socket(AF_INET6, SOCK_STREAM, 0);
    SHOW(connect(c, inet6("::1", port), 23));
    SHOW(connect(c, inet(INADDR_LOOPBACK, port), 16));
    SHOW(connect(c, inet6("ff02::1", port), 28));
    SHOW(connect(c, inet6("::1", port), 28));
    int d = accept(l, NULL, NULL);
    show6("client", c, (void *)getsockname);
    show6("client's peer", c, (void *)getpeername);
    show6("server", d, (void *)getsockname);
    close(c);
    close(d);
    SHOW(connect(v4, inet(INADDR_LOOPBACK, port), 16));
    d = accept(l, NULL, NULL);
    show6("mapped", d, (void *)getpeername);
    close(d);
    close(v4);
    c = socket(AF_INET6, SOCK_STREAM, 0);
    SHOW(connect(c, inet6("::ffff:127.0.0.1", port), 28));
    show6("mapped client", c, (void *)getsockname);
    d = accept(l, NULL, NULL);
    close(c);
    close(d);
    c = socket(AF_INET6, SOCK_STREAM, 0);
    SHOW(set_option(c, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    SHOW(get_option(c, IPPROTO_IPV6, IPV6_V6ONLY));
    SHOW(connect(c, inet6("::ffff:127.0.0.1", port), 28));
    SHOW(connect(c, inet6("::", port), 28));
    show6("to the wildcard", c, (void *)getpeername);
    d = accept(l, NULL, NULL);
    close(c);
    close(d);

    puts("- many clients, one epoll");
    int ep = epoll_create1(0), done = 0, bytes = 0;
    struct epoll_event ev = {EPOLLIN, {.fd = l}}, got[8];
    fcntl(l, F_SETFL, O_NONBLOCK);
    epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev);
    for (int i = 0; i < 6; i++)
        if (!fork()) {
            int s = socket(i % 2 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
            if (connect(s, i % 2 ? inet(INADDR_LOOPBACK, port) : inet6("::1", port), i % 2 ? 16 : 28))
                _exit(1);
            for (int j = 0; j < 20; j++) {
                memset(buf, 'a' + i, 30);
                if (send(s, buf, 30, 0) != 30 || recv(s, buf, 30, MSG_WAITALL) != 30 || buf[29] != 'A' + i)
                    _exit(2);
            }
            _exit(0);
        }
    while (done < 6) {
        n = epoll_wait(ep, got, 8, -1);
        for (int i = 0; i < n; i++) {
            if (got[i].data.fd == l) {
                int s;
                while ((s = accept4(l, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    struct epoll_event e = {EPOLLIN | EPOLLRDHUP, {.fd = s}};
                    epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
                }
                continue;
            }
            int s = got[i].data.fd, r = recv(s, buf, sizeof(buf), 0);
            if (r <= 0) {
                close(s);
                done++;
                continue;
            }
            bytes += r;
            for (int j = 0; j < r; j++)
                buf[j] -= 32;
            send(s, buf, r, 0);
        }
    }
    SHOW(bytes);
    for (int i = 0; i < 6; i++) {
        wait(&status);
        SHOW(WEXITSTATUS(status));
    }

    puts("- a full backlog makes connect wait");
    int k = socket(AF_INET, SOCK_STREAM, 0);
    bind(k, inet(INADDR_LOOPBACK, 0), 16);
    SHOW(listen(k, 0));
    int s[3];
    for (int i = 0; i < 3; i++)
        s[i] = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(s[0], inet(INADDR_LOOPBACK, port_of(k)), 16));
    fcntl(s[1], F_SETFL, O_NONBLOCK);
    SHOW(connect(s[1], inet(INADDR_LOOPBACK, port_of(k)), 16));
    show_poll("waits", s[1]);
    SHOW(connect(s[1], inet(INADDR_LOOPBACK, port_of(k)), 16));
    SHOW(send(s[1], "x", 1, 0));
    SHOW(recv(s[1], buf, 1, 0));
    struct timeval tv = {0, 30000};
    setsockopt(s[2], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
    SHOW(connect(s[2], inet(INADDR_LOOPBACK, port_of(k)), 16));
    close(accept(k, NULL, NULL));
    struct pollfd p = {s[1], POLLOUT};
    SHOW(poll(&p, 1, 10000));
    SHOW(get_option(s[1], SOL_SOCKET, SO_ERROR));
    fd_set w;
    FD_ZERO(&w);
    FD_SET(s[1], &w);
    SHOW(select(s[1] + 1, NULL, &w, NULL, NULL));

    puts("- a waiting accept ends when another shuts the listener");
    int status2;
    fcntl(l, F_SETFL, 0);
    if (!fork()) {
        usleep(20000);
        _exit(shutdown(l, SHUT_RDWR));
    }
    SHOW(accept(l, NULL, NULL));
    wait(&status2);
    SHOW(WEXITSTATUS(status2));
    return 0;
}
