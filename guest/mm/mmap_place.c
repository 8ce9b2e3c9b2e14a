// Where a mapping goes: a hint that is free, the next hole below otherwise, MAP_FIXED over what is there.
#include "guest.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

int main(void)
{
    int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;
    char *area = map_pages(64, PROT_NONE);
    munmap(area, 64 * PAGE);
    char *p = mmap(area + 8 * PAGE, 4 * PAGE, rw, anon, -1, 0);
    CHECK(p == area + 8 * PAGE);
    char *q = mmap(area + 8 * PAGE + 5, PAGE, rw, anon, -1, 0);
    CHECK(q != MAP_FAILED && (q < p || q >= p + 4 * PAGE));
    char *r = mmap(area + 20 * PAGE + 123, PAGE, rw, anon, -1, 0);
    CHECK(r == area + 21 * PAGE || r == area + 20 * PAGE);
    printf("a hint is rounded %s\n", r == area + 20 * PAGE ? "down" : "up");
    memset(p, 'p', 4 * PAGE);
    CHECK(mmap(p + PAGE, PAGE, rw, anon | MAP_FIXED, -1, 0) == p + PAGE);
    printf("%d %d %d\n", p[0], p[PAGE], p[2 * PAGE]);
    CHECK(mmap(p + 2 * PAGE, PAGE, rw, anon | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
    CHECK(mmap(area + 40 * PAGE, PAGE, rw, anon | MAP_FIXED_NOREPLACE, -1, 0) == area + 40 * PAGE);
    /* top-down: two mappings in a row lie one below the other, and a hole of the right size is filled */
    char *a = map_pages(16, PROT_READ), *b = map_pages(16, PROT_NONE);
    CHECK(b + 16 * PAGE == a || b < a);
    char *c = map_pages(300, rw), *d = map_pages(300, PROT_READ), *e = map_pages(300, rw);
    CHECK(d + 300 * PAGE == c && e + 300 * PAGE == d);
    munmap(d, 300 * PAGE);
    CHECK(map_pages(300, PROT_NONE) == d);
    munmap(d, 300 * PAGE);
    CHECK(map_pages(299, PROT_NONE) == d + PAGE);
#ifdef __x86_64__
    char *low = mmap(NULL, PAGE, rw, anon | MAP_32BIT, -1, 0);
    CHECK((unsigned long)low < 1ul << 31);
    CHECK((unsigned long)a > 1ul << 32);
#endif
    return 0;
}
