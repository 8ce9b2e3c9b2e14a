// Death by SIGKILL, sent to itself.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    puts("before");
    fflush(stdout);
    kill(getpid(), SIGKILL);
    puts("never");
    return 0;
}
