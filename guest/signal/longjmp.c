// siglongjmp(3) out of handlers, many times; the mask comes back when asked for.
#include "guest.h"

static sigjmp_buf back;

static void handler(int signo) { siglongjmp(back, signo); }

int main(void)
{
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    volatile int rounds = 0;
    int signo = sigsetjmp(back, 1);
    if (rounds < 1000) {
        rounds++;
        if (rounds & 1)
            raise(SIGUSR1);
        else
            *(volatile int *)0 = 1;
    }
    printf("%d %d\n", rounds, signo);
    rounds = 0;
    if (sigsetjmp(back, 0) == 0)
        raise(SIGUSR1);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("without saving the mask it stays blocked: %d\n", sigismember(&now, SIGUSR1));
    return 0;
}
