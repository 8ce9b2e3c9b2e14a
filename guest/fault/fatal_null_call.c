// Death by SIGSEGV of a call through a null pointer.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    puts("before");
    fflush(stdout);
    ((void (*)(void))0)();
    puts("never");
    return 0;
}
