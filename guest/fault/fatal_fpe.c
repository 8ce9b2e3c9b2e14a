// Death by SIGFPE: a division by zero.
// guest: stderr=ignore
#include "guest.h"

static volatile int zero;

int main(void)
{
    puts("before");
    fflush(stdout);
    printf("never %d\n", 100 / zero);
    return 0;
}
