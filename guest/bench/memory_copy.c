// memcpy and memset of blocks of a megabyte.
// guest: cflags=-O2
#include <stdio.h>
#include <string.h>

static char a[1 << 20], b[1 << 20];

int main(void)
{
    for (int i = 0; i < 200; i++) {
        memset(a + i, i, sizeof(a) - 200);
        memcpy(b, a, sizeof(b));
        __asm__ volatile("" ::: "memory");
    }
    printf("%d %d\n", b[12345], b[1 << 19]);
    return 0;
}
