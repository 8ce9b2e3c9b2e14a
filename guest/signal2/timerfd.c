// timerfd: one-shot, periodic, absolute; reading, polling, errors.
// guest: libc=glibc
#include "guest.h"
#include <poll.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#define MS 1000000ll

static int set(int fd, int flags, long long value_ns, long long interval_ns, struct itimerspec *old)
{
    struct itimerspec new = {{interval_ns / 1000000000, interval_ns % 1000000000},
                             {value_ns / 1000000000, value_ns % 1000000000}};
    return timerfd_settime(fd, flags, &new, old);
}

static long ticks(int fd)
{
    uint64_t count = 0;
    long got = read(fd, &count, sizeof(count));
    return got == sizeof(count) ? (long)count : got;
}

static void errors(void)
{
    struct itimerspec now = {{0, 0}, {0, 0}}, bad = {{0, 0}, {0, 1000000000}};
    char small[7];
    SHOW(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
    SHOW(timerfd_create(CLOCK_TAI, 0));
    SHOW(timerfd_create(77, 0));
    SHOW(timerfd_create(CLOCK_MONOTONIC, 1));
    SHOW(timerfd_settime(99, 0, &now, NULL));
    SHOW(timerfd_gettime(99, &now));
    SHOW(timerfd_gettime(1, &now));
    SHOW(set(1, 0, 1, 0, NULL));
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    SHOW(fcntl(fd, F_GETFD));
    SHOW(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE));
    SHOW(timerfd_settime(fd, 0, &bad, NULL));
    SHOW(set(fd, 4, MS, 0, NULL));
    SHOW(set(fd, 8, MS, 0, NULL));
    SHOW(syscall(SYS_timerfd_settime, fd, 0, NULL, NULL));
    SHOW(syscall(SYS_timerfd_gettime, fd, (void *)8));
    SHOW(read(fd, small, sizeof(small)));
    SHOW(ticks(fd));
    SHOW(write(fd, "12345678", 8));
    SHOW(pread(fd, small, 8, 0));
    SHOW(lseek(fd, 5, SEEK_SET));
    SHOW(set(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, 0, 0, NULL));
    close(fd);
}

static void oneshot(int clock)
{
    struct itimerspec now;
    int fd = timerfd_create(clock, 0);
    struct pollfd polled = {.fd = fd, .events = POLLIN | POLLOUT};
    SHOW(timerfd_gettime(fd, &now));
    CHECK(!now.it_value.tv_sec && !now.it_value.tv_nsec);
    SHOW(set(fd, 0, 10 * MS, 0, NULL));
    SHOW(poll(&polled, 1, 0));
    timerfd_gettime(fd, &now);
    CHECK(!now.it_value.tv_sec && now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 10 * MS);
    SHOW(poll(&polled, 1, -1));
    SHOW(polled.revents);
    timerfd_gettime(fd, &now);
    CHECK(!now.it_value.tv_sec && !now.it_value.tv_nsec);
    SHOW(ticks(fd));
    SHOW(poll(&polled, 1, 0));
    SHOW(set(fd, 0, 5 * MS, 0, NULL));
    SHOW(ticks(fd));
    now.it_value.tv_sec = 0;
    now.it_value.tv_nsec = 1;
    now.it_interval.tv_sec = 0;
    now.it_interval.tv_nsec = 0;
    SHOW(timerfd_settime(fd, TFD_TIMER_ABSTIME, &now, NULL));
    SHOW(ticks(fd));
    SHOW(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &now, NULL));
    SHOW(ticks(fd));
    /* Setting it anew forgets what has not been read. */
    set(fd, 0, 1 * MS, 0, NULL);
    usleep(5000);
    SHOW(set(fd, 0, 0, 0, &now));
    CHECK(!now.it_value.tv_sec && !now.it_value.tv_nsec);
    SHOW(fcntl(fd, F_SETFL, O_NONBLOCK));
    SHOW(ticks(fd));
    close(fd);
}

static void periodic(void)
{
    struct itimerspec now;
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    SHOW(set(fd, 0, 5 * MS, 10 * MS, NULL));
    CHECK(ticks(fd) >= 1);
    CHECK(ticks(fd) >= 1);
    usleep(55000);
    long count = ticks(fd);
    CHECK(count >= 5);
    timerfd_gettime(fd, &now);
    CHECK(now.it_interval.tv_nsec == 10 * MS && now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 10 * MS);
    usleep(25000);
    timerfd_gettime(fd, &now);
    CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 10 * MS);
    count = ticks(fd);
    CHECK(count >= 2);
    /* A child shares the timer. */
    fflush(stdout);
    int status;
    if (!fork()) {
        _exit(ticks(fd) >= 1 ? 3 : 4);
    }
    wait(&status);
    SHOW(WEXITSTATUS(status));
    SHOW(set(fd, 0, 0, 10 * MS, &now));
    CHECK(now.it_interval.tv_nsec == 10 * MS);
    timerfd_gettime(fd, &now);
    printf("value %ld interval %ld\n", (long)now.it_value.tv_nsec, (long)now.it_interval.tv_nsec);
    close(fd);
}

static void nothing(int signo) { (void)signo; }

static void interrupted(void)
{
    struct sigaction action = {.sa_handler = nothing};
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    sigaction(SIGALRM, &action, NULL);
    ualarm(5000, 0);
    SHOW(ticks(fd));
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    set(fd, 0, 30 * MS, 0, NULL);
    ualarm(5000, 0);
    SHOW(ticks(fd));
    close(fd);
}

int main(void)
{
    errors();
    oneshot(CLOCK_MONOTONIC);
    oneshot(CLOCK_REALTIME);
    oneshot(CLOCK_BOOTTIME);
    periodic();
    interrupted();
    return 0;
}
