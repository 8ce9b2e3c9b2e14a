// signal(2), raise(3), kill(2), dispositions, what a handler is told.
#include "guest.h"

static volatile int last, count;

static void simple(int signo) { last = signo; count++; }

static void detailed(int signo, siginfo_t *info, void *context)
{
    (void)context;
    printf("signal %d code %d from us %d\n", signo, info->si_code, info->si_pid == getpid() && info->si_uid == getuid());
}

int main(void)
{
    struct sigaction action = {0}, old;
    CHECK(signal(SIGUSR1, simple) == SIG_DFL);
    CHECK(signal(SIGUSR1, simple) == simple);
    SHOW(raise(SIGUSR1));
    printf("%d %d\n", last, count);
    SHOW(kill(getpid(), SIGUSR1));
    printf("%d %d\n", last, count);
    action.sa_sigaction = detailed;
    action.sa_flags = SA_SIGINFO;
    SHOW(sigaction(SIGUSR2, &action, NULL));
    raise(SIGUSR2);
    kill(getpid(), SIGUSR2);
    union sigval value = {.sival_int = 1234};
    SHOW(sigqueue(getpid(), SIGUSR2, value));
    SHOW(sigaction(SIGUSR2, NULL, &old));
    CHECK(old.sa_sigaction == detailed && (old.sa_flags & SA_SIGINFO));
    SHOW(sigaction(SIGKILL, &action, NULL));
    SHOW(sigaction(SIGSTOP, &action, NULL));
    SHOW(sigaction(SIGKILL, NULL, &old));
    SHOW(sigaction(0, &action, NULL));
    SHOW(sigaction(65, &action, NULL));
    SHOW(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4));
    SHOW(kill(getpid(), 0));
    SHOW(kill(getpid(), 65));
    SHOW(kill(999999, 0));
    SHOW(syscall(SYS_tgkill, getpid(), getpid(), 0));
    SHOW(syscall(SYS_tgkill, -1, getpid(), 0));
    CHECK(signal(SIGUSR1, SIG_IGN) == simple);
    raise(SIGUSR1);
    printf("%d\n", count);
    CHECK(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
    SHOW(raise(SIGCHLD));
    SHOW(raise(SIGURG));
    SHOW(raise(SIGWINCH));
    SHOW(raise(SIGCONT));
    return 0;
}
