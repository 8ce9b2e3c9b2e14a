// Death by a fault inside the handler of that fault: the signal is blocked, so it kills.
// guest: stderr=ignore
#include "guest.h"

static void handler(int signo)
{
    if (write(1, "handler\n", 8) == 8)
        *(volatile int *)8 = signo;
}

int main(void)
{
    signal(SIGSEGV, handler);
    *(volatile int *)4 = 1;
    puts("never");
    return 0;
}
