// Death by SIGTERM, sent to itself.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    puts("before");
    fflush(stdout);
    kill(getpid(), SIGTERM);
    puts("never");
    return 0;
}
