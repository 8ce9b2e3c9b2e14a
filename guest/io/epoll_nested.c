// epoll in epoll: readiness goes up, circles and deep nesting are refused.
#include "guest.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int add(int ep, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = 0};
    return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
}

static int ready(int ep)
{
    struct epoll_event event = {0};
    int n = epoll_wait(ep, &event, 1, 0);
    return n == 1 ? (int)event.events : -n;
}

static int polled(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
    int n = poll(&p, 1, 0);
    return n == 1 ? p.revents : -n;
}

int main(void)
{
    int e = eventfd(0, EFD_NONBLOCK), a = epoll_create1(0), b = epoll_create1(0), c = epoll_create1(0);
    uint64_t value = 1;
    SHOW(add(a, e, EPOLLIN));
    SHOW(add(b, a, EPOLLIN));
    SHOW(add(c, b, EPOLLIN | EPOLLET));
    SHOW(add(a, c, EPOLLIN));
    SHOW(add(a, b, EPOLLIN));
    SHOW(add(a, a, EPOLLIN));
    SHOW(add(c, a, EPOLLIN | EPOLLEXCLUSIVE));
    SHOW(ready(a));
    SHOW(ready(b));
    SHOW(ready(c));
    SHOW(polled(c));
    write(e, &value, 8);
    SHOW(polled(a));
    SHOW(polled(c));
    SHOW(ready(c));
    SHOW(ready(c));
    SHOW(ready(b));
    SHOW(ready(a));
    read(e, &value, 8);
    SHOW(ready(b));
    SHOW(ready(a));
    SHOW(polled(a));
    write(e, &value, 8);
    SHOW(ready(c));
    close(e);
    SHOW(ready(b));

    int chain[8];
    for (int i = 0; i < 8; i++)
        chain[i] = epoll_create1(0);
    for (int i = 0; i < 7; i++)
        SHOW(add(chain[i + 1], chain[i], EPOLLIN));
    for (int i = 6; i > 4; i--)
        SHOW(add(chain[i + 1], chain[i], EPOLLIN));
    int d[8];
    for (int i = 0; i < 8; i++)
        d[i] = epoll_create1(0);
    for (int i = 7; i > 0; i--)
        SHOW(add(d[i], d[i - 1], EPOLLIN));
    return 0;
}
