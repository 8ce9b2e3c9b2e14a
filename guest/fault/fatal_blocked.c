// A blocked fault kills even where there is a handler.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    sigset_t set;
    catch_faults(0);
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    puts("before");
    fflush(stdout);
    *(volatile int *)4 = 1;
    puts("never");
    return 0;
}
