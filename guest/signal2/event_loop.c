// An event loop: epoll over a timerfd, a signalfd and a pipe, as programs without handlers do it.
#include "guest.h"
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

enum { TIMER, SIGNALS, PIPE };

static void add(int epoll, int fd, int kind, int flags)
{
    struct epoll_event event = {.events = EPOLLIN | flags, .data.u32 = kind};
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

int main(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), fds[2];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int signals = signalfd(-1, &set, SFD_NONBLOCK);
    if (pipe(fds))
        return 1;
    add(epoll, timer, TIMER, 0);
    add(epoll, signals, SIGNALS, EPOLLET);
    add(epoll, fds[0], PIPE, 0);
    struct itimerspec soon = {.it_value.tv_nsec = 60000000};
    timerfd_settime(timer, 0, &soon, NULL);
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        usleep(10000);
        kill(getppid(), SIGUSR1);
        usleep(10000);
        if (write(fds[1], "hello", 5) != 5)
            _exit(1);
        _exit(42);
    }
    for (int expired = 0, ended = 0; !expired || !ended;) {
        struct epoll_event events[4];
        int count = epoll_wait(epoll, events, 4, -1);
        for (int i = 0; i < count; i++) {
            struct signalfd_siginfo info;
            uint64_t ticks;
            char text[10];
            switch (events[i].data.u32) {
            case TIMER:
                expired = read(timer, &ticks, sizeof(ticks)) == sizeof(ticks);
                printf("timer %d\n", (int)ticks);
                break;
            case SIGNALS:
                while (read(signals, &info, sizeof(info)) == sizeof(info)) {
                    printf("signal %u status %d\n", info.ssi_signo, info.ssi_status);
                    if (info.ssi_signo == SIGCHLD)
                        ended = waitpid(-1, NULL, WNOHANG) == pid;
                }
                break;
            case PIPE:
                printf("pipe %d\n", (int)read(fds[0], text, sizeof(text)));
            }
        }
    }
    return 0;
}
