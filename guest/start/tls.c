// Thread-local variables, initialised and zero, in the program and with alignment.
// guest: variants=static,static-pie,dynamic
#include "guest.h"

static __thread int counter = 41;
static __thread char buffer[100];
static __thread double aligned __attribute__((aligned(64))) = 2.5;

static NOINLINE int *address(void) { return &counter; }

int main(void)
{
    counter++;
    CHECK(address() == &counter);
    printf("%d %d %.1f\n", *address(), buffer[99], aligned);
    CHECK(((unsigned long)&aligned & 63) == 0);
    errno = 5;
    CHECK(close(-1) == -1 && errno == EBADF);
    return 0;
}
