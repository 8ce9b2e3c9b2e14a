// exit(3) runs its handlers in reverse order, flushes, and only eight bits of the status arrive.
// guest: variants=static,dynamic
#include "guest.h"

static void first(void) { puts("registered first, runs last"); }
static void second(void) { puts("registered last, runs first"); }

__attribute__((constructor)) static void before(void) { puts("constructor"); }
__attribute__((destructor)) static void after(void) { printf("destructor"); }

int main(void)
{
    atexit(first);
    atexit(second);
    printf("unfinished line, ");
    exit(256 + 42);
}
