// Interval timers: alarm, the three of setitimer, what fork, exec, blocking and ignoring do to them.
#include "guest.h"
#include <sys/time.h>
#include <sys/wait.h>

static volatile int hits[NSIG];
static void count(int signo) { hits[signo]++; }

static int set(int which, long value_us, long interval_us)
{
    struct itimerval timer = {
        .it_value = {value_us / 1000000, value_us % 1000000},
        .it_interval = {interval_us / 1000000, interval_us % 1000000},
    };
    return setitimer(which, &timer, NULL);
}

static int is_off(int which)
{
    struct itimerval now;
    memset(&now, 1, sizeof(now));
    return getitimer(which, &now) == 0 && !now.it_value.tv_sec && !now.it_value.tv_usec && !now.it_interval.tv_sec &&
           !now.it_interval.tv_usec;
}

static void burn_until(int signo, int times)
{
    volatile unsigned x = 0;
    while (hits[signo] < times)
        x++;
}

static void validation(void)
{
    struct itimerval timer = {.it_value = {0, 1000000}}, old;
    SHOW(setitimer(ITIMER_REAL, &timer, NULL));
    timer.it_value.tv_usec = -1;
    SHOW(setitimer(ITIMER_REAL, &timer, NULL));
    timer.it_value.tv_usec = 0;
    timer.it_interval.tv_sec = -1;
    SHOW(setitimer(ITIMER_PROF, &timer, NULL));
    timer.it_interval.tv_sec = 0;
    SHOW(setitimer(3, &timer, NULL));
    SHOW(setitimer(-1, &timer, NULL));
    SHOW(syscall(SYS_setitimer, ITIMER_REAL, (void *)8, NULL));
    SHOW(syscall(SYS_setitimer, 7, (void *)8, NULL));
    SHOW(syscall(SYS_getitimer, 3, &old));
    SHOW(syscall(SYS_getitimer, ITIMER_REAL, (void *)8));
    SHOW(syscall(SYS_setitimer, ITIMER_REAL, NULL, NULL));
    CHECK(is_off(ITIMER_REAL) && is_off(ITIMER_VIRTUAL) && is_off(ITIMER_PROF));
}

static void alarms(void)
{
    struct itimerval now;
    SHOW(alarm(0));
    SHOW(alarm(100));
    getitimer(ITIMER_REAL, &now);
    CHECK(now.it_value.tv_sec == 99 && now.it_interval.tv_sec == 0);
    SHOW(alarm(5));
    SHOW(alarm(0));
    set(ITIMER_REAL, 300000, 7000000);
    SHOW(alarm(0));
    CHECK(is_off(ITIMER_REAL));
    set(ITIMER_REAL, 2700000, 0);
    SHOW(alarm(0));
}

static void cpu_time(void)
{
    struct itimerval now;
    SHOW(set(ITIMER_VIRTUAL, 5000, 0));
    burn_until(SIGVTALRM, 1);
    CHECK(is_off(ITIMER_VIRTUAL));
    SHOW(set(ITIMER_PROF, 5000, 8000));
    burn_until(SIGPROF, 4);
    getitimer(ITIMER_PROF, &now);
    CHECK(now.it_interval.tv_usec == 8000 && now.it_interval.tv_sec == 0);
    CHECK(now.it_value.tv_usec > 0 && now.it_value.tv_usec <= 30000);
    SHOW(set(ITIMER_PROF, 0, 8000));
    getitimer(ITIMER_PROF, &now);
    CHECK(now.it_value.tv_usec == 0);
    printf("interval left %ld\n", (long)now.it_interval.tv_usec);
    /* A sleeping process uses no CPU time. */
    hits[SIGPROF] = 0;
    SHOW(set(ITIMER_PROF, 100000, 0));
    usleep(150000);
    SHOW(hits[SIGPROF]);
    set(ITIMER_PROF, 0, 0);
}

static void blocked_and_ignored(void)
{
    sigset_t alrm, old, pending;
    struct itimerval now;
    sigemptyset(&alrm);
    sigaddset(&alrm, SIGALRM);
    sigprocmask(SIG_BLOCK, &alrm, &old);
    hits[SIGALRM] = 0;
    set(ITIMER_REAL, 2000, 3000);
    usleep(30000);
    sigpending(&pending);
    SHOW(sigismember(&pending, SIGALRM));
    getitimer(ITIMER_REAL, &now);
    printf("while pending: %ld %ld interval %ld\n", (long)now.it_value.tv_sec, (long)now.it_value.tv_usec,
           (long)now.it_interval.tv_usec);
    sigprocmask(SIG_SETMASK, &old, NULL);
    SHOW(hits[SIGALRM]);
    getitimer(ITIMER_REAL, &now);
    CHECK(now.it_value.tv_usec > 0 && now.it_value.tv_usec <= 3000);
    set(ITIMER_REAL, 0, 0);
    signal(SIGALRM, SIG_IGN);
    set(ITIMER_REAL, 2000, 3000);
    usleep(20000);
    getitimer(ITIMER_REAL, &now);
    printf("ignored: %ld interval %ld\n", (long)now.it_value.tv_usec, (long)now.it_interval.tv_usec);
    signal(SIGALRM, count);
    hits[SIGALRM] = 0;
    usleep(20000);
    SHOW(hits[SIGALRM]);
    set(ITIMER_REAL, 0, 0);
}

static void family(char *self)
{
    int status;
    set(ITIMER_REAL, 50000000, 1000000);
    set(ITIMER_VIRTUAL, 50000000, 0);
    set(ITIMER_PROF, 50000000, 0);
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        CHECK(is_off(ITIMER_REAL) && is_off(ITIMER_VIRTUAL) && is_off(ITIMER_PROF));
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    CHECK(!is_off(ITIMER_REAL) && !is_off(ITIMER_VIRTUAL) && !is_off(ITIMER_PROF));
    fflush(stdout);
    execl(self, self, "again", NULL);
    perror("exec");
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        struct itimerval now;
        CHECK(!is_off(ITIMER_REAL) && !is_off(ITIMER_VIRTUAL) && !is_off(ITIMER_PROF));
        getitimer(ITIMER_REAL, &now);
        CHECK(now.it_interval.tv_sec == 1 && now.it_value.tv_sec > 40);
        return 0;
    }
    signal(SIGALRM, count);
    signal(SIGVTALRM, count);
    signal(SIGPROF, count);
    validation();
    alarms();
    cpu_time();
    blocked_and_ignored();
    family("/proc/self/exe");
    return 1;
}
