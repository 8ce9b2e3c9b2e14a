// Integer arithmetic in registers.
// guest: cflags=-O2
#include <stdint.h>
#include <stdio.h>

int main(void)
{
    uint32_t a = 12345, b = 0;
    for (uint32_t i = 0; i < 30000000; i++) {
        a ^= a << 13;
        a ^= a >> 17;
        a ^= a << 5;
        b += a + (i >> 3);
    }
    printf("%u\n", b);
    return 0;
}
