// A sleeper that is stopped and continued sleeps on; a handler ends the sleep and tells what was left.
#include "guest.h"
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>

#define MS 1000000ll

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static int pipe_fd[2];

static int sleep_relative(void) { return nanosleep(&(struct timespec){0, 60 * MS}, NULL); }
static int sleep_clock(void) { return clock_nanosleep(CLOCK_REALTIME, 0, &(struct timespec){0, 60 * MS}, NULL); }
static int sleep_absolute(void)
{
    long long at = now_ns() + 60 * MS;
    struct timespec until = {at / 1000000000, at % 1000000000};
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}
static int sleep_poll(void) { return poll(NULL, 0, 60); }
static int sleep_ppoll(void) { return ppoll(NULL, 0, &(struct timespec){0, 60 * MS}, NULL); }
static int sleep_select(void) { return select(0, NULL, NULL, NULL, &(struct timeval){0, 60000}); }
static int sleep_futex(void)
{
    static int word;
    int result = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &(struct timespec){0, 60 * MS}, NULL, 0);
    return result == -1 ? -errno : result;
}
static int sleep_epoll(void)
{
    struct epoll_event event;
    int fd = epoll_create1(0);
    int result = epoll_wait(fd, &event, 1, 60);
    close(fd);
    return result == -1 ? -errno : result;
}
static int sleep_sigtimedwait(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int result = sigtimedwait(&set, NULL, &(struct timespec){0, 60 * MS});
    return result == -1 ? -errno : result;
}

static void stopped(const char *name, int (*sleeper)(void), int whole)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        long long start = now_ns();
        int result = sleeper();
        long long took = (now_ns() - start) / MS;
        printf("%s = %d, %s\n", name, result, !whole || (took >= 60 && took < 1000) ? "in time" : "at the WRONG time");
        fflush(stdout);
        _exit(0);
    }
    usleep(10000);
    for (int i = 0; i < 3; i++) {
        kill(pid, SIGSTOP);
        waitpid(pid, &status, WUNTRACED);
        usleep(5000);
        kill(pid, SIGCONT);
        usleep(2000);
    }
    waitpid(pid, &status, 0);
    SHOW(status);
}

static void late(void)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        struct timespec left = {77, 78};
        SHOW(nanosleep(&(struct timespec){0, 20 * MS}, &left));
        fflush(stdout);
        _exit(0);
    }
    usleep(5000);
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    usleep(50000);
    kill(pid, SIGCONT);
    waitpid(pid, &status, 0);
}

static void nothing(int signo) { (void)signo; }

static void handled(int flags)
{
    struct timespec left = {0, 0};
    struct sigaction action = {.sa_handler = nothing, .sa_flags = flags};
    sigaction(SIGALRM, &action, NULL);
    printf("flags %x\n", flags);
    ualarm(5000, 0);
    SHOW(nanosleep(&(struct timespec){50, 0}, &left));
    CHECK(left.tv_sec == 49 && left.tv_nsec > 900 * MS);
    left.tv_sec = 0;
    ualarm(5000, 0);
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){50, 0}, &left));
    CHECK(left.tv_sec == 49);
    ualarm(5000, 0);
    left.tv_sec = 7;
    struct timespec far = {2000000000, 0};
    SHOW(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &far, &left));
    SHOW(left.tv_sec);
    ualarm(5000, 0);
    SHOW(poll(NULL, 0, 5000));
    ualarm(5000, 0);
    left = (struct timespec){50, 0};
    SHOW(syscall(SYS_ppoll, NULL, 0, &left, NULL, 8));
    CHECK(left.tv_sec == 49);
    ualarm(5000, 0);
    struct timeval rest = {50, 0};
    SHOW(select(0, NULL, NULL, NULL, &rest));
    CHECK(rest.tv_sec == 49);
    ualarm(5000, 0);
    static int word;
    SHOW(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &(struct timespec){50, 0}, NULL, 0));
    ualarm(5000, 0);
    SHOW(pause());
    SHOW(syscall(SYS_restart_syscall));
}

int main(void)
{
    stopped("nanosleep", sleep_relative, 1);
    stopped("clock_nanosleep", sleep_clock, 1);
    stopped("clock_nanosleep absolute", sleep_absolute, 1);
    stopped("poll", sleep_poll, 1);
    stopped("ppoll", sleep_ppoll, 1);
    stopped("select", sleep_select, 1);
    stopped("futex", sleep_futex, 1);
    stopped("epoll", sleep_epoll, 0);
    stopped("sigtimedwait", sleep_sigtimedwait, 0);
    late();
    handled(0);
    handled(SA_RESTART);
    return 0;
}
