// The time stamp counter runs, and never backwards.
#include "guest.h"
#include <x86intrin.h>

int main(void)
{
    uint64_t previous = __rdtsc(), start = previous;
    bool monotone = true;
    for (int i = 0; i < 1000; i++) {
        uint64_t now = __rdtsc();
        monotone &= now >= previous;
        previous = now;
    }
    unsigned aux;
    uint64_t p = __rdtscp(&aux);
    CHECK(monotone);
    CHECK(previous > start);
    CHECK(p >= previous);
    return 0;
}
