// signalfd: reading signals, their fields, masks, polling, errors.
#include "guest.h"
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>

static void show(const struct signalfd_siginfo *info)
{
    printf("signo %u errno %d code %d mine %d uid %d int %d ptr %llx status %d overrun %u\n", info->ssi_signo,
           info->ssi_errno, info->ssi_code, info->ssi_pid == getpid(), info->ssi_uid == getuid(), info->ssi_int,
           (unsigned long long)info->ssi_ptr, info->ssi_status, info->ssi_overrun);
}

static void drain(int fd)
{
    struct signalfd_siginfo infos[4];
    for (;;) {
        long got = read(fd, infos, sizeof(infos));
        if (got < 0) {
            printf("read errno %d\n", errno);
            return;
        }
        printf("%ld bytes\n", got);
        for (size_t i = 0; i < got / sizeof(infos[0]); i++)
            show(&infos[i]);
    }
}

static void nothing(int signo) { (void)signo; }

int main(void)
{
    sigset_t set, none;
    int status;
    sigemptyset(&none);
    sigfillset(&set);
    sigdelset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGKILL);
    int fd = SHOW_OK(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(signalfd(-1, &set, 1));
    SHOW(signalfd(1, &set, 0));
    SHOW(signalfd(99, &set, 0));
    SHOW(syscall(SYS_signalfd4, -1, &set, 4, 0));
    SHOW(syscall(SYS_signalfd4, -1, (void *)8, 8, 0));
    SHOW(syscall(SYS_signalfd4, -1, (void *)8, 8, 1));
    SHOW(read(fd, &status, 4));
    SHOW(write(fd, &status, 4));
    drain(fd);
    struct pollfd polled = {.fd = fd, .events = POLLIN | POLLOUT};
    SHOW(poll(&polled, 1, 0));
    raise(SIGUSR2);
    SHOW(poll(&polled, 1, 0));
    kill(getpid(), SIGUSR1);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = -5});
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 6});
    SHOW(poll(&polled, 1, 0));
    SHOW(polled.revents);
    drain(fd);
    /* Other signals for the same descriptor. */
    sigaddset(&set, SIGUSR2);
    SHOW(signalfd(fd, &set, 0) == fd);
    drain(fd);
    /* A child reads its own. */
    fflush(stdout);
    raise(SIGUSR1);
    if (!fork()) {
        drain(fd);
        raise(SIGUSR2);
        drain(fd);
        fflush(stdout);
        _exit(7);
    }
    wait(&status);
    drain(fd);
    sigaddset(&set, SIGCHLD);
    signalfd(fd, &set, 0);
    struct signalfd_siginfo info;
    SHOW(read(fd, &info, sizeof(info)) == sizeof(info));
    printf("signo %u code %d status %d\n", info.ssi_signo, info.ssi_code, info.ssi_status);
    /* A blocking read ends with the signal; another signal's handler interrupts it. */
    fcntl(fd, F_SETFL, 0);
    if (!fork()) {
        usleep(20000);
        kill(getppid(), SIGUSR2);
        _exit(0);
    }
    SHOW(read(fd, &info, sizeof(info)) == sizeof(info));
    SHOW(info.ssi_signo);
    SHOW(read(fd, &info, sizeof(info)) == sizeof(info));
    SHOW(info.ssi_signo);
    wait(NULL);
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGALRM, &action, NULL);
    ualarm(5000, 0);
    SHOW(read(fd, &info, sizeof(info)));
    /* A timer's signal. */
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 12};
    struct itimerspec soon = {.it_value.tv_nsec = 1000000};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &soon, NULL);
    SHOW(read(fd, &info, sizeof(info)) == sizeof(info));
    printf("signo %u code %d tid %u overrun %u int %d\n", info.ssi_signo, info.ssi_code, info.ssi_tid,
           info.ssi_overrun, info.ssi_int);
    signalfd(fd, &none, 0);
    SHOW(poll(&polled, 1, 0));
    return 0;
}
