// 64 MiB, every page touched, then a sum of all of it.
#include "guest.h"

int main(void)
{
    size_t pages = 64 << 20 >> 12;
    char *p = map_pages(pages, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i < pages; i++)
        *(uint32_t *)(p + i * PAGE + i % 1000 * 4) = i;
    uint64_t sum = 0;
    for (size_t i = 0; i < pages; i++)
        sum += *(uint32_t *)(p + i * PAGE + i % 1000 * 4);
    printf("%llu\n", (unsigned long long)sum);
    SHOW(munmap(p, pages * PAGE));
    return 0;
}
