// The stack grows by faults, down to its limit, also by far jumps within it.
#include "guest.h"

static NOINLINE unsigned deep(unsigned n)
{
    volatile unsigned char frame[4000];
    frame[0] = n;
    frame[3999] = n >> 8;
    return n ? deep(n - 1) + frame[0] + frame[3999] : 0;
}

int main(void)
{
    volatile char here;
    printf("%u\n", deep(1500)); /* about 6 MB */
    char *top = (char *)((unsigned long)&here & ~(PAGE - 1));
    poke(top - (5 << 20), 1);
    printf("a far write below: %d\n", peek(top - (5 << 20)));
    return 0;
}
