// Death by SIGUSR1, whose default is death.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    puts("before");
    fflush(stdout);
    raise(SIGUSR1);
    puts("never");
    return 0;
}
