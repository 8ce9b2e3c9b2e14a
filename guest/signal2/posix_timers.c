// POSIX timers: signals, values, overruns, clocks, errors; gone after fork, exec and deletion.
// guest: libc=glibc
#include "guest.h"
#include <sys/wait.h>
#include <time.h>

#define MS 1000000ll
static volatile int hits, code, timer_of, overrun, value;

static void on_signal(int signo, siginfo_t *info, void *context)
{
    (void)context;
    hits++;
    code = info->si_code;
    timer_of = info->si_timerid;
    overrun = info->si_overrun;
    value = info->si_value.sival_int;
}

/* The kernel's own calls: glibc's timer_t is not the kernel's number for SIGEV_THREAD only. */
static int create(clockid_t clock, struct sigevent *event, int *id) { return syscall(SYS_timer_create, clock, event, id); }
static int getoverrun(int id) { return syscall(SYS_timer_getoverrun, id); }
static int delete(int id) { return syscall(SYS_timer_delete, id); }
struct setting { struct timespec interval, value; };

static int settime(int id, int flags, long long value_ns, long long interval_ns, struct setting *old)
{
    struct setting new = {{interval_ns / 1000000000, interval_ns % 1000000000},
                          {value_ns / 1000000000, value_ns % 1000000000}};
    return syscall(SYS_timer_settime, id, flags, &new, old);
}

static int gettime(int id, struct setting *now)
{
    memset(now, 1, sizeof(*now));
    return syscall(SYS_timer_gettime, id, now);
}

static int is_off(int id)
{
    struct setting now;
    return gettime(id, &now) == 0 && !now.value.tv_sec && !now.value.tv_nsec && !now.interval.tv_sec &&
           !now.interval.tv_nsec;
}

static void wait_hit(void)
{
    while (!hits)
        usleep(1000);
}

static void errors(void)
{
    int id = 77;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65};
    struct setting bad = {{0, 0}, {0, 1000000000}};
    SHOW(create(CLOCK_MONOTONIC, &event, &id));
    event.sigev_signo = 0;
    SHOW(create(CLOCK_MONOTONIC, &event, &id));
    event.sigev_notify = 9;
    SHOW(create(CLOCK_MONOTONIC, &event, &id));
    event.sigev_notify = SIGEV_THREAD_ID | SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR1;
    event._sigev_un._tid = 1;
    SHOW(create(CLOCK_MONOTONIC, &event, &id));
    event.sigev_notify = SIGEV_THREAD_ID;
    SHOW(create(CLOCK_MONOTONIC, &event, &id));
    SHOW(create(CLOCK_MONOTONIC_RAW, NULL, &id));
    SHOW(create(CLOCK_REALTIME_COARSE, NULL, &id));
    SHOW(create(10, NULL, &id));
    SHOW(create(12, NULL, &id));
    SHOW(create(100, NULL, &id));
    SHOW(create(CLOCK_MONOTONIC, (void *)8, &id));
    SHOW(create(CLOCK_MONOTONIC, NULL, (void *)8));
    SHOW(settime(12345, 0, 1, 0, NULL));
    SHOW(syscall(SYS_timer_gettime, 12345, &bad));
    SHOW(getoverrun(12345));
    SHOW(delete(12345));
    SHOW(delete(-1));
    SHOW(create(CLOCK_MONOTONIC, NULL, &id));
    SHOW(syscall(SYS_timer_settime, id, 0, &bad, NULL));
    bad.value.tv_nsec = -1;
    SHOW(syscall(SYS_timer_settime, id, 0, &bad, NULL));
    SHOW(syscall(SYS_timer_settime, id, 0, NULL, NULL));
    SHOW(syscall(SYS_timer_settime, id, 0, (void *)8, NULL));
    SHOW(syscall(SYS_timer_gettime, id, (void *)8));
    SHOW(delete(id));
    SHOW(delete(id));
}

static void oneshot(clockid_t clock)
{
    int id;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 4711};
    printf("clock %d\n", clock);
    SHOW(create(clock, &event, &id));
    CHECK(is_off(id));
    hits = 0;
    SHOW(settime(id, 0, 3 * MS, 0, NULL));
    wait_hit();
    CHECK(hits == 1 && code == SI_TIMER && timer_of == id && overrun == 0 && value == 4711);
    CHECK(is_off(id));
    hits = 0;
    struct setting at = {{0, 0}, {0, 1}};
    SHOW(syscall(SYS_timer_settime, id, TIMER_ABSTIME, &at, NULL));
    wait_hit();
    SHOW(hits);
    SHOW(settime(id, 0, 100000 * MS, 7 * MS, NULL));
    struct setting old;
    SHOW(settime(id, 0, 0, 5 * MS, &old));
    CHECK(old.value.tv_sec >= 99 - 1 && old.value.tv_sec < 100 && old.interval.tv_nsec == 7 * MS);
    CHECK(is_off(id));
    SHOW(delete(id));
}

static void overruns(void)
{
    int id;
    sigset_t set;
    siginfo_t info;
    struct setting now;
    struct timespec zero = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    create(CLOCK_MONOTONIC, &event, &id);
    settime(id, 0, 5 * MS, 10 * MS, NULL);
    SHOW(getoverrun(id));
    usleep(60000);
    gettime(id, &now);
    CHECK(now.value.tv_nsec > 0 && now.value.tv_nsec <= 10 * MS && now.interval.tv_nsec == 10 * MS);
    SHOW(sigtimedwait(&set, &info, &zero) == SIGUSR2);
    CHECK(info.si_overrun >= 4 && info.si_overrun == getoverrun(id) && info.si_code == SI_TIMER);
    SHOW(sigtimedwait(&set, &info, &zero));
    SHOW(sigwaitinfo(&set, &info) == SIGUSR2);
    CHECK(info.si_overrun >= 0 && info.si_overrun < 10);
    /* Setting it anew, and deleting it, take back what is pending. */
    usleep(20000);
    settime(id, 0, 100000 * MS, 0, NULL);
    SHOW(sigtimedwait(&set, &info, &zero));
    settime(id, 0, 1 * MS, 0, NULL);
    usleep(5000);
    SHOW(delete(id));
    SHOW(sigtimedwait(&set, &info, &zero));
    /* Two timers with one standard signal: both are queued. */
    int other;
    create(CLOCK_MONOTONIC, &event, &id);
    event.sigev_value.sival_int = 2;
    create(CLOCK_MONOTONIC, &event, &other);
    settime(id, 0, 1 * MS, 0, NULL);
    settime(other, 0, 2 * MS, 0, NULL);
    usleep(10000);
    sigtimedwait(&set, &info, &zero);
    printf("value %d\n", info.si_value.sival_int);
    sigtimedwait(&set, &info, &zero);
    printf("value %d\n", info.si_value.sival_int);
    SHOW(sigtimedwait(&set, &info, &zero));
    delete(id);
    delete(other);
}

static void ignored(void)
{
    int id;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    signal(SIGUSR1, SIG_IGN);
    create(CLOCK_MONOTONIC, &event, &id);
    settime(id, 0, 5 * MS, 10 * MS, NULL);
    usleep(40000);
    hits = 0;
    sigaction(SIGUSR1, &action, NULL);
    wait_hit();
    CHECK(hits && code == SI_TIMER && timer_of == id);
    delete(id);
}

static void silent(void)
{
    int id;
    struct setting now;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    SHOW(create(CLOCK_MONOTONIC, &event, &id));
    CHECK(is_off(id));
    SHOW(settime(id, 0, 5 * MS, 0, NULL));
    gettime(id, &now);
    CHECK(now.value.tv_nsec > 0);
    usleep(10000);
    CHECK(is_off(id));
    SHOW(settime(id, 0, 5 * MS, 10 * MS, NULL));
    usleep(30000);
    gettime(id, &now);
    CHECK(now.value.tv_nsec > 0 && now.value.tv_nsec <= 10 * MS && now.interval.tv_nsec == 10 * MS);
    SHOW(delete(id));
}

static void cpu(clockid_t clock)
{
    int id;
    volatile unsigned x = 0;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    printf("clock %d\n", clock);
    SHOW(create(clock, &event, &id));
    hits = 0;
    SHOW(settime(id, 0, 5 * MS, 5 * MS, NULL));
    while (hits < 3)
        x++;
    struct setting now;
    gettime(id, &now);
    CHECK(now.interval.tv_nsec == 5 * MS && now.value.tv_nsec <= 10 * MS);
    SHOW(delete(id));
}

static void defaults(void)
{
    int id;
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGALRM, &action, NULL);
    hits = 0;
    create(CLOCK_REALTIME, NULL, &id);
    settime(id, 0, 1 * MS, 0, NULL);
    wait_hit();
    CHECK(value == id && timer_of == id);
    fflush(stdout);
    pid_t pid = fork();
    int status;
    if (!pid) {
        int mine;
        SHOW(delete(id));
        SHOW(create(CLOCK_REALTIME, NULL, &mine));
        SHOW(mine);
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    settime(id, 0, 20 * MS, 0, NULL);
    printf("exec\n");
    fflush(stdout);
    char number[20];
    sprintf(number, "%d", id);
    execl("/proc/self/exe", "self", number, NULL);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        usleep(40000); /* SIGALRM would be fatal */
        SHOW(delete(atoi(argv[1])));
        int id;
        SHOW(create(CLOCK_MONOTONIC, NULL, &id));
        return 0;
    }
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    errors();
    oneshot(CLOCK_REALTIME);
    oneshot(CLOCK_MONOTONIC);
    oneshot(CLOCK_BOOTTIME);
    oneshot(CLOCK_TAI);
    overruns();
    silent();
    ignored();
    cpu(CLOCK_PROCESS_CPUTIME_ID);
    cpu(CLOCK_THREAD_CPUTIME_ID);
    defaults();
    return 1;
}
