// Mappings at and below mmap_min_addr, and the far end of the address space.
// guest: libc=glibc
#include "guest.h"

int main(void)
{
    int anon = MAP_PRIVATE | MAP_ANONYMOUS, rw = PROT_READ | PROT_WRITE;
    char *p = mmap((void *)0x10000, PAGE, rw, anon | MAP_FIXED, -1, 0);
    CHECK(p == (char *)0x10000);
    poke(p, 1);
    SHOW(munmap(p, PAGE));
    CHECK(mmap((void *)0x1000, PAGE, rw, anon, -1, 0) >= (void *)0x10000);
#ifdef __x86_64__
    char *top = (char *)0x7fffffffe000;
    CHECK(mmap(top + PAGE, PAGE, rw, anon | MAP_FIXED, -1, 0) == MAP_FAILED && errno == ENOMEM);
    CHECK(mmap((void *)0xffff888000000000, PAGE, rw, anon | MAP_FIXED, -1, 0) == MAP_FAILED && errno == ENOMEM);
    SHOW(munmap((void *)0xffff888000000000, PAGE));
    SHOW(mprotect((void *)0xffff888000000000, PAGE, PROT_READ));
#endif
    return 0;
}
