// RLIMIT_AS bounds what can be mapped, RLIMIT_MEMLOCK what can be locked.
#include "guest.h"

int main(void)
{
    char *p = map_pages(4, PROT_READ | PROT_WRITE);
    struct rlimit limit = {0, RLIM_INFINITY};
    SHOW(getrlimit(RLIMIT_AS, &limit));
    CHECK(limit.rlim_cur == RLIM_INFINITY);
    limit.rlim_cur = 64 << 20;
    SHOW(setrlimit(RLIMIT_AS, &limit));
    CHECK(mmap(NULL, 100 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
    CHECK(mremap(p, 4 * PAGE, 100 << 20, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM);
    void *volatile block = malloc(90 << 20);
    CHECK(block == NULL);
    CHECK(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    limit.rlim_cur = RLIM_INFINITY;
    SHOW(setrlimit(RLIMIT_AS, &limit));
    CHECK(mmap(NULL, 100 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    return 0;
}
