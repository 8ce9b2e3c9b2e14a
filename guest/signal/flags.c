// SA_NODEFER, SA_RESETHAND, sa_mask, handlers inside handlers.
#include "guest.h"

static volatile int depth, rounds;

static void nested(int signo)
{
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("depth %d self blocked %d usr2 blocked %d\n", depth, sigismember(&now, signo), sigismember(&now, SIGUSR2));
    depth++;
    if (rounds++ < 2)
        raise(signo);
    depth--;
    printf("leaving %d\n", depth);
}

static void other(int signo) { printf("other %d at depth %d\n", signo, depth); }

static void raises_other(int signo)
{
    (void)signo;
    depth = 5;
    raise(SIGUSR2);
    puts("raised");
    depth = 6;
}

int main(void)
{
    struct sigaction action = {.sa_handler = nested, .sa_flags = SA_NODEFER};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    puts("-- without SA_NODEFER: one after the other");
    action.sa_flags = 0;
    depth = rounds = 0;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    puts("-- SA_RESETHAND");
    action.sa_flags = SA_RESETHAND;
    rounds = 9;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    struct sigaction now;
    sigaction(SIGUSR1, NULL, &now);
    CHECK(now.sa_handler == SIG_DFL);
    puts("-- sa_mask");
    signal(SIGUSR2, other);
    action = (struct sigaction){.sa_handler = raises_other};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    return 0;
}
