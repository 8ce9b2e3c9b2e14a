// select, pselect6, poll and ppoll: errors, timeouts written back, masks, other processes.
#include "guest.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>

static int hits;

static void on_signal(int signo)
{
    hits++;
}

static long sys_select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t)
{
#ifdef __i386__
    return syscall(SYS__newselect, n, r, w, e, t);
#else
    return syscall(SYS_select, n, r, w, e, t);
#endif
}

static long sys_pselect(int n, fd_set *r, long *ts, const void *mask, size_t size)
{
    struct {
        const void *mask;
        size_t size;
    } arg = {mask, size};
    return syscall(SYS_pselect6, n, r, NULL, NULL, ts, &arg);
}

static pid_t later(int us, int signo, int fd)
{
    pid_t parent = getpid(), child = fork();
    if (!child) {
        usleep(us);
        if (signo)
            kill(parent, signo);
        if (fd >= 0)
            write(fd, "x", 1);
        _exit(0);
    }
    return child;
}

int main(void)
{
    int p[2];
    char c;
    fd_set r, w;
    pipe(p);
    setvbuf(stdout, NULL, _IOLBF, 0);

    FD_ZERO(&r);
    FD_SET(p[0], &r);
    struct timeval tv = {0, 20000};
    SHOW(sys_select(p[0] + 1, &r, NULL, NULL, &tv));
    SHOW(FD_ISSET(p[0], &r));
    CHECK(tv.tv_sec == 0 && tv.tv_usec == 0);
    FD_SET(p[0], &r);
    FD_ZERO(&w);
    FD_SET(p[1], &w);
    tv.tv_sec = 5;
    SHOW(sys_select(p[1] + 1, &r, &w, NULL, &tv));
    CHECK(FD_ISSET(p[1], &w) && !FD_ISSET(p[0], &r));
    CHECK(tv.tv_sec == 4 || (tv.tv_sec == 5 && tv.tv_usec == 0));
    FD_SET(p[0], &r);
    pid_t child = later(20000, 0, p[1]);
    tv.tv_sec = 5;
    tv.tv_usec = 0;
    SHOW(sys_select(p[0] + 1, &r, NULL, NULL, &tv));
    CHECK(FD_ISSET(p[0], &r) && tv.tv_sec == 4);
    waitpid(child, NULL, 0);
    read(p[0], &c, 1);
    FD_ZERO(&r);
    FD_SET(50, &r);
    SHOW(sys_select(51, &r, NULL, NULL, &tv));
    SHOW(sys_select(-1, NULL, NULL, NULL, &tv));
    tv.tv_sec = -1;
    SHOW(sys_select(0, NULL, NULL, NULL, &tv));
    tv.tv_sec = 0;
    tv.tv_usec = 0;
    SHOW(sys_select(0, NULL, NULL, NULL, &tv));
    SHOW(sys_select(1, (void *)-8L, NULL, NULL, &tv));
    SHOW(sys_select(0, NULL, NULL, NULL, (void *)-8L));

    /* Signals. */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    child = later(10000, SIGUSR1, -1);
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    tv.tv_sec = 5;
    SHOW(sys_select(p[0] + 1, &r, NULL, NULL, &tv));
    SHOW(hits);
    CHECK(tv.tv_sec == 4 && FD_ISSET(p[0], &r));
    waitpid(child, NULL, 0);

    sigset_t block, none;
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    kill(getpid(), SIGUSR1);
    long ts[2] = {5, 0};
    SHOW(sys_pselect(p[0] + 1, &r, ts, &none, 8));
    SHOW(hits);
    CHECK(ts[0] == 4 || (ts[0] == 5 && !ts[1]));
    ts[0] = 0;
    ts[1] = 10000000;
    SHOW(sys_pselect(p[0] + 1, &r, ts, &none, 8));
    SHOW(ts[0] | ts[1]);
    SHOW(sys_pselect(p[0] + 1, &r, ts, &none, 4));
    SHOW(sys_pselect(p[0] + 1, &r, ts, NULL, 4));
    ts[1] = 1000000000;
    SHOW(sys_pselect(p[0] + 1, &r, ts, NULL, 0));
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    SHOW(sigismember(&now, SIGUSR1));

    /* poll. */
    struct pollfd fds[4] = {{p[0], POLLIN}, {p[1], POLLIN | POLLOUT}, {-1, POLLIN, 77}, {60, POLLIN}};
    SHOW(poll(fds, 4, -1));
    printf("%x %x %x %x\n", fds[0].revents, fds[1].revents, fds[2].revents, fds[3].revents);
    SHOW(poll(fds, 1, 10));
    child = later(10000, 0, p[1]);
    SHOW(poll(fds, 1, 5000));
    waitpid(child, NULL, 0);
    SHOW(fds[0].revents);
    read(p[0], &c, 1);
    kill(getpid(), SIGUSR1);
    ts[0] = 3;
    ts[1] = 0;
    SHOW(syscall(SYS_ppoll, fds, 1, ts, &none, 8));
    SHOW(hits);
    CHECK(ts[0] == 2 || (ts[0] == 3 && !ts[1]));
    SHOW(syscall(SYS_ppoll, fds, 1, ts, &none, 7));
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    child = later(10000, SIGUSR1, -1);
    SHOW(poll(fds, 1, 5000));
    SHOW(hits);
    waitpid(child, NULL, 0);
    SHOW(poll(NULL, 0, 10));
    SHOW(poll((void *)-64L, 1, 0));
    struct rlimit limit = {20, 20};
    setrlimit(RLIMIT_NOFILE, &limit);
    SHOW(poll(fds, 21, 0));
    /* The writer goes. */
    close(p[1]);
    SHOW(poll(fds, 1, -1));
    SHOW(fds[0].revents);
    fds[0].events = 0;
    SHOW(poll(fds, 1, -1));
    SHOW(fds[0].revents);
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    SHOW(sys_select(p[0] + 1, &r, NULL, NULL, NULL));

    /* eventfd blocks both ways. */
    int e = eventfd(0, 0);
    uint64_t value = 5;
    child = fork();
    if (!child) {
        usleep(10000);
        write(e, &value, 8);
        _exit(0);
    }
    SHOW(read(e, &value, 8));
    SHOW((long)value);
    waitpid(child, NULL, 0);
    value = UINT64_MAX - 1;
    SHOW(write(e, &value, 8));
    child = fork();
    if (!child) {
        usleep(10000);
        read(e, &value, 8);
        _exit(0);
    }
    value = 2;
    SHOW(write(e, &value, 8));
    waitpid(child, NULL, 0);
    SHOW(read(e, &value, 8));
    SHOW((long)value);
    uint64_t two[2] = {3, 4};
    SHOW(write(e, two, 16));
    SHOW(write(e, two, 7));
    SHOW(write(e, two, 8));
    SHOW(read(e, two, 16));
    SHOW((long)two[0]);
    return 0;
}
