// epoll: errors, level, edge and one-shot, closing, dup, order.
#include "guest.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int ep;

static int ctl(int op, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(ep, op, fd, &event);
}

static void show_ready(const char *what, int max)
{
    struct epoll_event events[16];
    int n = epoll_wait(ep, events, max, 0);
    printf("%s: %d", what, n);
    for (int i = 0; i < n; i++)
        printf(" [%x %llx]", events[i].events, (unsigned long long)events[i].data.u64);
    printf("%s\n", n < 0 ? strerror(errno) : "");
}

static void errors(int *pipe_fds)
{
    struct epoll_event event = {.events = EPOLLIN};
    int file = make_file("f", 10), null = open("/dev/null", O_RDWR);
    SHOW(epoll_create(0));
    SHOW(epoll_create(-1));
    SHOW(epoll_create1(1));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, file, &event));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, null, &event));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &event));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, 99, &event));
    SHOW(epoll_ctl(99, EPOLL_CTL_ADD, pipe_fds[0], &event));
    SHOW(epoll_ctl(pipe_fds[0], EPOLL_CTL_ADD, pipe_fds[1], &event));
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, pipe_fds[0], NULL));
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, pipe_fds[0], &event));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, pipe_fds[0], NULL));
    SHOW(epoll_ctl(ep, 77, pipe_fds[0], &event));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, pipe_fds[0], &event));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, pipe_fds[0], &event));
    event.events = EPOLLIN | EPOLLEXCLUSIVE;
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, pipe_fds[0], &event));
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, pipe_fds[0], NULL));
    event.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, pipe_fds[0], &event));
    event.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLET;
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, pipe_fds[0], &event));
    event.events = EPOLLIN;
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, pipe_fds[0], &event));
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, pipe_fds[0], NULL));
    SHOW(epoll_wait(ep, &event, 0, 0));
    SHOW(epoll_wait(ep, &event, -1, 0));
    SHOW(epoll_wait(99, &event, 0, 0));
    SHOW(epoll_wait(pipe_fds[0], &event, 1, 0));
    SHOW(epoll_wait(pipe_fds[0], &event, 0, 0));
    SHOW(epoll_wait(ep, (void *)-100L, 8, 0));
    SHOW(read(ep, &event, sizeof(event)));
    SHOW(write(ep, &event, sizeof(event)));
    SHOW(lseek(ep, 0, SEEK_SET));
    unlink("f");
    close(file);
    close(null);
}

int main(void)
{
    int p[2], q[2];
    uint64_t value = 1;
    char buf[64];
    ep = epoll_create1(EPOLL_CLOEXEC);
    SHOW(fcntl(ep, F_GETFD));
    pipe(p);
    pipe(q);
    errors(p);

    ctl(EPOLL_CTL_ADD, p[0], EPOLLIN, 1);
    ctl(EPOLL_CTL_ADD, p[1], EPOLLOUT, 2);
    show_ready("level", 16);
    write(p[1], "abc", 3);
    show_ready("level, data", 16);
    show_ready("level, data, again", 16);
    show_ready("one at a time", 1);
    show_ready("one at a time", 1);
    show_ready("one at a time", 1);
    read(p[0], buf, 1);
    show_ready("part read", 16);
    read(p[0], buf, 9);
    show_ready("all read", 16);
    ctl(EPOLL_CTL_MOD, p[1], 0, 3);
    show_ready("nothing asked", 16);

    ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 4);
    write(p[1], "abc", 3);
    show_ready("edge", 16);
    show_ready("edge, again", 16);
    write(p[1], "def", 3);
    show_ready("edge, more", 16);
    read(p[0], buf, 2);
    show_ready("edge, read", 16);
    ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 5);
    show_ready("edge, modified", 16);

    ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 6);
    show_ready("one shot", 16);
    write(p[1], "x", 1);
    show_ready("one shot, over", 16);
    ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 7);
    show_ready("one shot, armed", 16);

    int e = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
    ctl(EPOLL_CTL_ADD, e, EPOLLIN | EPOLLOUT | EPOLLET, 8);
    show_ready("eventfd", 16);
    read(e, &value, 8);
    show_ready("eventfd, read", 16);
    ctl(EPOLL_CTL_MOD, e, EPOLLIN | EPOLLET, 9);
    show_ready("eventfd, modified", 16);
    read(e, &value, 8);
    show_ready("eventfd, read for input only", 16);
    write(e, &value, 8);
    show_ready("eventfd, written", 16);

    int copy = dup(e);
    ctl(EPOLL_CTL_ADD, copy, EPOLLIN, 10);
    show_ready("dup", 16);
    close(e);
    show_ready("one of two closed", 16);
    SHOW(ctl(EPOLL_CTL_DEL, e, 0, 0));
    close(copy);
    show_ready("both closed", 16);

    ctl(EPOLL_CTL_ADD, q[0], EPOLLIN | EPOLLRDHUP, 11);
    ctl(EPOLL_CTL_ADD, q[1], 0, 12);
    close(q[1]);
    show_ready("writer gone", 16);
    pipe(q + 0);
    ctl(EPOLL_CTL_ADD, q[1], EPOLLOUT, 13);
    close(q[0]);
    show_ready("reader gone", 16);
    SHOW(ctl(EPOLL_CTL_DEL, q[1], 0, 0));

    struct epoll_event *bad = map_pages(2, PROT_READ | PROT_WRITE);
    munmap((char *)bad + PAGE, PAGE);
    ctl(EPOLL_CTL_MOD, p[0], EPOLLIN, 14);
    ctl(EPOLL_CTL_MOD, p[1], EPOLLOUT, 15);
    bad = (void *)((char *)bad + PAGE - sizeof(*bad));
    SHOW(epoll_wait(ep, bad, 8, 0));
    SHOW(epoll_wait(ep, bad + 1, 8, 0));
    show_ready("after faults", 16);
    return 0;
}
