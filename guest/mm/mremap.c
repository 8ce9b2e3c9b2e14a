// mremap(2): shrink, grow in place, move, move to a chosen place, and every refusal.
#include "guest.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static int failed(void *p) { return p == MAP_FAILED ? errno : 0; }

int main(void)
{
    catch_faults(0);
    int rw = PROT_READ | PROT_WRITE;
    char *area = map_pages(128, PROT_NONE);
    munmap(area, 128 * PAGE);
    char *p = mmap(area + 8 * PAGE, 8 * PAGE, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (int i = 0; i < 8; i++)
        poke(p + i * PAGE, 'a' + i);
    CHECK(mremap(p, 8 * PAGE, 4 * PAGE, 0) == p);
    SHOW_FAULT(p, peek(p + 4 * PAGE));
    CHECK(mremap(p, 4 * PAGE, 6 * PAGE, 0) == p);
    printf("%c %d\n", p[3 * PAGE], p[5 * PAGE]);
    CHECK(mremap(p, 6 * PAGE, 6 * PAGE, 0) == p);
    char *wall = mmap(p + 7 * PAGE, PAGE, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    poke(wall, 'w');
    printf("in the way: %d\n", failed(mremap(p, 6 * PAGE, 8 * PAGE, 0)));
    char *q = mremap(p, 6 * PAGE, 20 * PAGE, MREMAP_MAYMOVE);
    CHECK(q != MAP_FAILED && q != p);
    printf("%c%c%c %d\n", q[0], q[PAGE], q[3 * PAGE], q[19 * PAGE]);
    SHOW_FAULT(p, peek(p));
    char *to = area + 64 * PAGE;
    CHECK(mremap(q, 20 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    printf("%c%c%c\n", to[0], to[PAGE], to[2 * PAGE]);
    SHOW_FAULT(q, peek(q + 10 * PAGE));
    SHOW_FAULT(to, peek(to + 3 * PAGE));
    /* over something else: that is gone */
    CHECK(mremap(to, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, wall) == wall);
    printf("%c\n", wall[0]);
    printf("overlap %d\n", failed(mremap(to + PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 2 * PAGE)));
    printf("fixed without maymove %d\n", failed(mremap(wall, PAGE, PAGE, MREMAP_FIXED, to)));
    printf("unaligned %d\n", failed(mremap(wall + 1, PAGE, PAGE, 0)));
    printf("unaligned target %d\n", failed(mremap(wall, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 1)));
    printf("no new size %d\n", failed(mremap(wall, PAGE, 0, 0)));
    printf("unknown flag %d\n", failed(mremap(wall, PAGE, PAGE, 64)));
    printf("nothing there %d\n", failed(mremap(area, PAGE, 2 * PAGE, MREMAP_MAYMOVE)));
    printf("private of no size %d\n", failed(mremap(wall, 0, PAGE, MREMAP_MAYMOVE)));
    /* a second view of a shared mapping: the old size 0 */
    char *shared = mmap(NULL, 2 * PAGE, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *view = mremap(shared, 0, 2 * PAGE, MREMAP_MAYMOVE);
    CHECK(view != MAP_FAILED && view != shared);
    poke(shared + PAGE, 'S');
    printf("%c\n", view[PAGE]);
    /* DONTUNMAP leaves an empty mapping behind */
    char *kept = map_pages(2, rw);
    poke(kept, 'K');
    char *moved = mremap(kept, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    CHECK(moved != MAP_FAILED && moved != kept);
    printf("%c %d\n", moved[0], kept[0]);
    /* across two mappings */
    char *two = map_pages(4, rw);
    mprotect(two + 2 * PAGE, 2 * PAGE, PROT_READ);
    printf("across two %d\n", failed(mremap(two, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE)));
    return 0;
}
