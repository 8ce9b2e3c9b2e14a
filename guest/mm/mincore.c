// mincore(2) on anonymous memory, and its errors.
#include "guest.h"

int main(void)
{
    unsigned char vec[16];
    char *p = map_pages(16, PROT_READ | PROT_WRITE);
    madvise(p, 16 * PAGE, MADV_NOHUGEPAGE);
    for (int i = 0; i < 16; i += 3)
        poke(p + i * PAGE, 1);
    SHOW(mincore(p, 16 * PAGE, vec));
    for (int i = 0; i < 16; i++)
        putchar('0' + (vec[i] & 1));
    putchar('\n');
    SHOW(mincore(p + 1, PAGE, vec));
    SHOW(mincore(p, 1, vec));
    SHOW(mincore(p, 0, vec));
    munmap(p + 4 * PAGE, PAGE);
    SHOW(mincore(p, 16 * PAGE, vec));
    SHOW(mincore(p + 4 * PAGE, PAGE, vec));
    return 0;
}
