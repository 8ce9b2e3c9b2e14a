// Death by SIGSEGV.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    puts("before");
    fflush(stdout);
    *(volatile int *)16 = 1;
    puts("never");
    return 0;
}
