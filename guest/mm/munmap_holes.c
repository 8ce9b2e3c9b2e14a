// Unmapping the head, the tail, the middle and across several mappings.
#include "guest.h"

static void show(char *p, int pages)
{
    for (int i = 0; i < pages; i++)
        putchar(FAULT(peek(p + i * PAGE)) ? '.' : '#');
    printf(" %d\n", map_lines(p, p + pages * PAGE));
}

int main(void)
{
    catch_faults(0);
    /* guarded on both sides, so that no neighbour of ours merges with it */
    char *p = map_pages(26, PROT_NONE) + PAGE;
    CHECK(mmap(p, 24 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
    show(p, 24);
    munmap(p, 2 * PAGE);
    show(p, 24);
    munmap(p + 22 * PAGE, 2 * PAGE);
    show(p, 24);
    munmap(p + 8 * PAGE, 3 * PAGE);
    show(p, 24);
    munmap(p + 14 * PAGE, PAGE);
    show(p, 24);
    munmap(p + 5 * PAGE, 12 * PAGE);
    show(p, 24);
    SHOW(munmap(p, 24 * PAGE));
    show(p, 24);
    SHOW(munmap(p, 24 * PAGE));
    return 0;
}
