// Death by SIGBUS, sent.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    puts("before");
    fflush(stdout);
    raise(SIGBUS);
    puts("never");
    return 0;
}
