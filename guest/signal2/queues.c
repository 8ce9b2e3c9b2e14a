// Signal queues: order, values, what is kept once, limits, and whom a signal reaches.
#include "guest.h"
#include <sys/wait.h>
#include <time.h>

static int order[64], values[64], codes[64];
static volatile int count;

static void note(int signo, siginfo_t *info, void *context)
{
    order[count] = signo;
    values[count] = info->si_value.sival_int;
    codes[count] = info->si_code;
    count++;
}

static void show(void)
{
    for (int i = 0; i < count; i++)
        printf("%d:%d code %d, ", order[i] >= SIGRTMIN ? order[i] - SIGRTMIN + 100 : order[i],
               codes[i] == SI_QUEUE ? values[i] : 0, codes[i]);
    printf("\n");
    count = 0;
}

static int tgkill_me(int signo) { return syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signo); }

static int queue_info(int signo, int code, int value)
{
    siginfo_t info;
    memset(&info, 0, sizeof(info));
    info.si_code = code;
    info.si_pid = 1234;
    info.si_value.sival_int = value;
    return syscall(SYS_rt_sigqueueinfo, getpid(), signo, &info);
}

int main(void)
{
    sigset_t all, none, wanted;
    siginfo_t info;
    struct timespec zero = {0, 0};
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    for (int signo = 1; signo <= SIGRTMAX; signo++)
        if (signo != SIGKILL && signo != SIGSTOP && (signo < 32 || signo >= SIGRTMIN))
            sigaction(signo, &action, NULL);
    sigfillset(&all);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &all, NULL);

    /* Standard signals are kept once, realtime ones all; low numbers first, in order. */
    for (int i = 0; i < 3; i++) {
        sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = i});
        sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 10 + i});
        sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 20 + i});
        kill(getpid(), SIGHUP);
    }
    tgkill_me(SIGRTMIN + 1);
    tgkill_me(SIGUSR1);
    sigprocmask(SIG_SETMASK, &none, NULL);
    show();
    sigprocmask(SIG_SETMASK, &all, NULL);

    /* The thread's own come before the process's. */
    kill(getpid(), SIGHUP);
    tgkill_me(SIGTERM);
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGHUP);
    sigaddset(&wanted, SIGTERM);
    SHOW(sigtimedwait(&wanted, &info, &zero));
    SHOW(sigtimedwait(&wanted, &info, &zero));
    SHOW(sigtimedwait(&wanted, &info, &zero));

    /* Made-up siginfo. */
    SHOW(queue_info(SIGUSR2, SI_QUEUE, 5));
    SHOW(queue_info(SIGUSR2, SI_QUEUE, 6));
    SHOW(queue_info(SIGRTMIN, -60, 7));
    SHOW(queue_info(SIGRTMIN, SI_USER, 8));
    SHOW(queue_info(SIGRTMIN, SI_TKILL, 8));
    SHOW(queue_info(65, SI_QUEUE, 0));
    SHOW(queue_info(0, SI_QUEUE, 0));
    sigprocmask(SIG_SETMASK, &none, NULL);
    show();
    sigprocmask(SIG_SETMASK, &all, NULL);

    /* An ignored signal that is blocked is kept, until it is ignored anew. */
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    sigset_t pending;
    sigpending(&pending);
    SHOW(sigismember(&pending, SIGUSR1));
    signal(SIGUSR1, SIG_IGN);
    sigpending(&pending);
    SHOW(sigismember(&pending, SIGUSR1));
    /* SIGCHLD, ignored by default, can be waited for. */
    signal(SIGCHLD, SIG_DFL);
    if (!fork()) {
        usleep(10000);
        _exit(3);
    }
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    SHOW(sigtimedwait(&wanted, &info, &(struct timespec){5, 0}) == SIGCHLD);
    printf("code %d status %d\n", info.si_code, info.si_status);
    wait(NULL);

    /* The limit. */
    struct rlimit limit = {3, 3};
    if (getuid() == 0 && setresuid(12345, 12345, 12345))
        return 1;
    SHOW(setrlimit(RLIMIT_SIGPENDING, &limit));
    for (int i = 0; i < 5; i++)
        SHOW(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i}));
    SHOW(kill(getpid(), SIGRTMIN + 3));
    SHOW(kill(getpid(), SIGRTMIN + 4));
    SHOW(kill(getpid(), SIGUSR2));
    SHOW(tgkill_me(SIGTERM));
    SHOW(tgkill_me(SIGRTMIN + 5));
    SHOW(sigqueue(getpid(), SIGHUP, (union sigval){.sival_int = 77}));
    timer_t timer;
    SHOW(timer_create(CLOCK_MONOTONIC, NULL, &timer));
    sigprocmask(SIG_SETMASK, &none, NULL);
    show();
    SHOW(timer_create(CLOCK_MONOTONIC, NULL, &timer));

    SHOW(kill(getpid(), 65));
    SHOW(kill(getpid(), -1));
    SHOW(kill(1 << 29, 65));
    SHOW(kill(INT_MIN, 0));
    SHOW(kill(-(1 << 29), 0));
    SHOW(syscall(SYS_tgkill, getpid(), 0, 0));
    SHOW(syscall(SYS_tgkill, 1, getpid(), 0));
    SHOW(syscall(SYS_tkill, -1, 0));
    SHOW(kill(getpid(), 0));
    return 0;
}
