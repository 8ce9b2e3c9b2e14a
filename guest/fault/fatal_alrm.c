// Death by SIGALRM, the default of alarm(2).
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    puts("before");
    fflush(stdout);
    alarm(1); pause();
    puts("never");
    return 0;
}
