// RLIMIT_STACK is where growth ends; the handler runs on its own stack.
#include "guest.h"

static volatile int depth;

static NOINLINE int forever(int n)
{
    volatile char frame[1024];
    frame[0] = n;
    depth = n;
    return forever(n + 1) + frame[0];
}

int main(void)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
    struct rlimit limit = {1 << 20, 8 << 20};
    SHOW(setrlimit(RLIMIT_STACK, &limit));
    SHOW(sigaltstack(&stack, NULL));
    catch_faults(SA_ONSTACK);
    char here;
    if (FAULT(forever(0))) {
        printf("signal %d code %d\n", caught.signo, caught.code);
        CHECK(&here - caught.address > (1 << 20) - 65536 && &here - caught.address <= (1 << 20) + 65536);
        CHECK(depth > 100 && depth < 1024);
    }
    stack_t now;
    SHOW(sigaltstack(NULL, &now));
    CHECK(now.ss_flags == 0 && now.ss_sp == alternate);
    return 0;
}
