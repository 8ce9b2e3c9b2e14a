// An access over the edge of a page faults at the first byte that is not there.
#include "guest.h"

static NOINLINE uint64_t load(const volatile void *p) { return *(const volatile uint64_t *)p; }
static NOINLINE void store(volatile void *p, uint64_t v) { *(volatile uint64_t *)p = v; }

int main(void)
{
    char *p = map_pages(3, PROT_READ | PROT_WRITE);
    memset(p, 0x11, 3 * PAGE);
    catch_faults(0);
    store(p + PAGE - 3, 0x0807060504030201ull);
    printf("%#llx\n", (unsigned long long)load(p + PAGE - 3));
    printf("%d %d %d\n", p[PAGE - 3], p[PAGE - 1], p[PAGE]);
    mprotect(p + PAGE, PAGE, PROT_READ);
    SHOW_FAULT(p, load(p + PAGE - 3));
    SHOW_FAULT(p, store(p + PAGE - 1, 0));
    CHECK(p[PAGE - 1] == 3);
    munmap(p + PAGE, PAGE);
    SHOW_FAULT(p, load(p + PAGE - 8));
    SHOW_FAULT(p, load(p + PAGE - 1));
    SHOW_FAULT(p, store(p + PAGE - 1, 0));
    CHECK(p[PAGE - 4] == 0x11);
    SHOW_FAULT(p, load(p + 2 * PAGE - 4));
    return 0;
}
