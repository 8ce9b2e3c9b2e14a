// epoll that waits: other processes, timeouts, signals and masks, threads, many descriptors.
// guest: libc=glibc
// guest: libs=-lpthread
#include "guest.h"
#include <pthread.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>

static int ep, hits;

static void on_signal(int signo)
{
    hits++;
}

static int add(int ep, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
}

static long elapsed_ms(const struct timespec *from)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - from->tv_sec) * 1000 + (now.tv_nsec - from->tv_nsec) / 1000000;
}

static void *waiter(void *unused)
{
    struct epoll_event event;
    return (void *)(long)epoll_wait(ep, &event, 1, 5000);
}

#define MANY 500

int main(void)
{
    int p[2];
    struct epoll_event events[8];
    struct timespec start;
    pipe(p);
    ep = epoll_create1(0);
    add(ep, p[0], EPOLLIN);

    clock_gettime(CLOCK_MONOTONIC, &start);
    SHOW(epoll_wait(ep, events, 8, 30));
    CHECK(elapsed_ms(&start) >= 30);
    struct timespec brief = {0, 20000000}, wrong = {0, 2000000000};
    clock_gettime(CLOCK_MONOTONIC, &start);
    SHOW(epoll_pwait2(ep, events, 8, &brief, NULL));
    CHECK(elapsed_ms(&start) >= 20);
    SHOW(epoll_pwait2(ep, events, 8, &wrong, NULL));

    pid_t child = fork();
    if (!child) {
        usleep(20000);
        write(p[1], "x", 1);
        _exit(0);
    }
    SHOW(epoll_wait(ep, events, 8, -1));
    CHECK(events[0].data.fd == p[0] && events[0].events == EPOLLIN);
    waitpid(child, NULL, 0);
    char c;
    read(p[0], &c, 1);

    /* A signal ends the wait with EINTR, SA_RESTART or not. */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    child = fork();
    if (!child) {
        usleep(20000);
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    SHOW(epoll_wait(ep, events, 8, 5000));
    SHOW(hits);
    waitpid(child, NULL, 0);

    /* Blocked outside, open inside. */
    sigset_t block, old, inside;
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, &old);
    kill(getpid(), SIGUSR1);
    SHOW(hits);
    SHOW(epoll_wait(ep, events, 8, 10));
    sigemptyset(&inside);
    SHOW(epoll_pwait(ep, events, 8, 5000, &inside));
    SHOW(hits);
    sigprocmask(SIG_SETMASK, NULL, &inside);
    CHECK(sigismember(&inside, SIGUSR1) == 1);
    kill(getpid(), SIGUSR1);
    write(p[1], "y", 1);
    sigemptyset(&inside);
    SHOW(epoll_pwait(ep, events, 8, 5000, &inside));
    SHOW(hits);
    SHOW(syscall(SYS_epoll_pwait, ep, events, 8, 0, &inside, 4L));
    SHOW(syscall(SYS_epoll_pwait, ep, events, 8, 0, -16L, 8L));
    sigprocmask(SIG_SETMASK, &old, NULL);
    SHOW(hits);
    read(p[0], &c, 1);

    /* One event, two threads: edge-triggered wakes one, the other runs into its time. */
    close(ep);
    ep = epoll_create1(0);
    add(ep, p[0], EPOLLIN);
    pthread_t threads[2];
    void *results[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, waiter, NULL);
    usleep(20000);
    write(p[1], "z", 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], &results[i]);
    CHECK(results[0] == (void *)1L && results[1] == (void *)1L);
    read(p[0], &c, 1);

    /* Closed by another thread while one waits: the wait goes on. */
    int many = epoll_create1(0), fds[MANY], total = 0;
    for (int i = 0; i < MANY; i++) {
        fds[i] = eventfd(0, EFD_NONBLOCK);
        add(many, fds[i], EPOLLIN);
    }
    for (int round = 0; round < 200; round++) {
        uint64_t one = 1;
        int fd = fds[round * 7 % MANY];
        write(fd, &one, 8);
        int n = epoll_wait(many, events, 8, -1);
        total += n == 1 && events[0].data.fd == fd;
        read(fd, &one, 8);
    }
    SHOW(total);

    /* Shared over fork; a descriptor that lives on in the child keeps reporting. */
    int q[2];
    pipe(q);
    add(many, q[0], EPOLLIN);
    child = fork();
    if (!child) {
        usleep(30000);
        _exit(0);
    }
    close(q[0]);
    write(q[1], "w", 1);
    SHOW(epoll_wait(many, events, 8, 0));
    SHOW(epoll_ctl(many, EPOLL_CTL_DEL, q[0], NULL));
    waitpid(child, NULL, 0);
    SHOW(epoll_wait(many, events, 8, 0));
    return 0;
}
