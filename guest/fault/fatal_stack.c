// Death by endless recursion: no stack is left, not even for a handler.
// guest: stderr=ignore
#include "guest.h"

static NOINLINE int forever(int n)
{
    volatile char frame[512];
    frame[n & 511] = n;
    return forever(n + 1) + frame[0];
}

int main(void)
{
    struct rlimit limit = {1 << 20, 8 << 20};
    setrlimit(RLIMIT_STACK, &limit);
    catch_faults(0); /* no SA_ONSTACK: its frame cannot be written */
    puts("before");
    fflush(stdout);
    return forever(0);
}
