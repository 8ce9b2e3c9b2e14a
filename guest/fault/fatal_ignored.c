// A fault cannot be ignored or blocked away: the kernel forces it.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    signal(SIGSEGV, SIG_IGN);
    raise(SIGSEGV);
    puts("a sent one can");
    fflush(stdout);
    *(volatile int *)4 = 1;
    puts("never");
    return 0;
}
