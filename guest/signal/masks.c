// Blocked signals wait, once each; real-time ones queue in order; sigpending tells, sigsuspend waits.
#include "guest.h"

static void handler(int signo)
{
    printf("signal %s%d\n", signo >= SIGRTMIN ? "RTMIN+" : "", signo >= SIGRTMIN ? signo - SIGRTMIN : signo);
}

static void queued(int signo, siginfo_t *info, void *context)
{
    (void)context;
    printf("RTMIN+%d value %d code %d\n", signo - SIGRTMIN, info->si_value.sival_int, info->si_code);
}

int main(void)
{
    sigset_t set, old, pending;
    struct sigaction action = {.sa_sigaction = queued, .sa_flags = SA_SIGINFO};
    signal(SIGUSR1, handler);
    signal(SIGUSR2, handler);
    sigaction(SIGRTMIN + 1, &action, NULL);
    sigaction(SIGRTMIN + 5, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN + 1);
    sigaddset(&set, SIGRTMIN + 5);
    sigaddset(&set, SIGKILL);
    SHOW(sigprocmask(SIG_BLOCK, &set, &old));
    CHECK(!sigismember(&old, SIGUSR1));
    SHOW(sigprocmask(SIG_BLOCK, NULL, &old));
    CHECK(sigismember(&old, SIGUSR1) && !sigismember(&old, SIGKILL));
    raise(SIGUSR2);
    raise(SIGUSR1);
    raise(SIGUSR1);
    for (int i = 0; i < 3; i++) {
        sigqueue(getpid(), SIGRTMIN + 5, (union sigval){.sival_int = 50 + i});
        sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 10 + i});
    }
    SHOW(sigpending(&pending));
    CHECK(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGUSR2) && sigismember(&pending, SIGRTMIN + 5));
    puts("unblock");
    SHOW(sigprocmask(SIG_UNBLOCK, &set, NULL));
    SHOW(sigpending(&pending));
    CHECK(!sigismember(&pending, SIGUSR1));
    SHOW(sigprocmask(77, &set, NULL));
    /* sigsuspend: the handler runs with the mask given, then the old one is back */
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    sigset_t wait;
    sigfillset(&wait);
    sigdelset(&wait, SIGUSR1);
    SHOW(sigsuspend(&wait));
    sigprocmask(SIG_BLOCK, NULL, &old);
    CHECK(sigismember(&old, SIGUSR1) && !sigismember(&old, SIGTERM));
    /* ignoring a pending signal throws it away */
    raise(SIGUSR2);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGUSR2, handler);
    sigpending(&pending);
    CHECK(!sigismember(&pending, SIGUSR2));
    return 0;
}
