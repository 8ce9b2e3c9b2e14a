// Death by SIGTRAP.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    puts("before");
    fflush(stdout);
    __asm__ volatile("int3");
    puts("never");
    return 0;
}
