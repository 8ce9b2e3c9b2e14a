// Death by a real-time signal, whose default is death.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    puts("before");
    fflush(stdout);
    raise(SIGRTMIN + 3);
    puts("never");
    return 0;
}
