// sigaltstack(2): used where asked for, not switched twice, its errors, SS_ONSTACK, SS_AUTODISARM.
#include "guest.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

static char area[65536];

static bool on_area(void)
{
    char here;
    return &here >= area && &here < area + sizeof(area);
}

static void handler(int signo)
{
    stack_t now;
    sigaltstack(NULL, &now);
    printf("signal %d on the alternate stack %d flags %#x\n", signo, on_area(), now.ss_flags);
    if (signo == SIGUSR1) {
        stack_t off = {.ss_flags = SS_DISABLE};
        SHOW(sigaltstack(&off, NULL));
        raise(SIGUSR2);
    }
}

int main(void)
{
    stack_t stack = {.ss_sp = area, .ss_size = sizeof(area)}, old;
    SHOW(sigaltstack(NULL, &old));
    printf("%#x %d\n", old.ss_flags, old.ss_sp == NULL);
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR2, &action, NULL);
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    SHOW(sigaltstack(&stack, NULL));
    raise(SIGUSR1);
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR1);
    raise(SIGUSR2);
    stack.ss_size = 100;
    SHOW(sigaltstack(&stack, NULL));
    stack.ss_size = sizeof(area);
    stack.ss_flags = 64;
    SHOW(sigaltstack(&stack, NULL));
    stack.ss_flags = SS_ONSTACK;
    SHOW(sigaltstack(&stack, NULL));
    stack.ss_flags = SS_AUTODISARM;
    SHOW(sigaltstack(&stack, NULL));
    raise(SIGUSR2);
    SHOW(sigaltstack(NULL, &old));
    printf("%#x\n", old.ss_flags);
    stack.ss_flags = SS_DISABLE;
    SHOW(sigaltstack(&stack, &old));
    raise(SIGUSR2);
    return 0;
}
