// Death by SIGILL.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    puts("before");
    fflush(stdout);
    __asm__ volatile("ud2");
    puts("never");
    return 0;
}
