// Anonymous pages: zero on read, of their own on write, and only those that were touched.
#include "guest.h"

int main(void)
{
    enum { PAGES = 64 };
    unsigned char *p = map_pages(PAGES, PROT_READ | PROT_WRITE);
    unsigned char resident[PAGES];
    int sum = 0;
    for (int i = 0; i < PAGES; i += 2)
        sum += peek(p + i * PAGE + 17);
    printf("read %d\n", sum);
    for (int i = 0; i < PAGES; i += 4)
        poke(p + i * PAGE + PAGE - 1, i + 1);
    for (int i = 0; i < PAGES; i++)
        sum += peek(p + i * PAGE + PAGE - 1);
    printf("written %d\n", sum);
    SHOW(mincore(p, PAGES * PAGE, resident));
    SHOW(munmap(p, PAGES * PAGE));
    /* A new mapping at the same place is new: nothing of the old one shows. */
    unsigned char *q = mmap(p, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(q == p);
    sum = 0;
    for (size_t i = 0; i < PAGES * PAGE; i++)
        sum |= q[i];
    printf("new %d\n", sum);
    return 0;
}
