// guest: args="16"
/* Touches so many MiB and verifies every byte, twice: in the order they were written, and in a scattered one.  With
 * less RAM than that, all of it goes to swap and comes back.  With a second argument, it then waits for ever. */
#include "guest.h"

static uint32_t pattern(size_t page, size_t word, uint32_t round)
{
    return (uint32_t)(page * 2654435761u) ^ (uint32_t)(word * 40503u) ^ round;
}

static void fill(uint32_t *base, size_t page, uint32_t round)
{
    uint32_t *at = base + page * (PAGE / 4);
    for (size_t word = 0; word < PAGE / 4; word++)
        at[word] = pattern(page, word, round);
}

static bool holds(const uint32_t *base, size_t page, uint32_t round)
{
    const uint32_t *at = base + page * (PAGE / 4);
    for (size_t word = 0; word < PAGE / 4; word++)
        if (at[word] != pattern(page, word, round))
            return false;
    return true;
}

int main(int argc, char **argv)
{
    size_t pages = (size_t)atoi(argv[1]) << 8;
    size_t wrong = 0;
    uint32_t *base = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                          -1, 0);
    if (base == MAP_FAILED) {
        perror("mmap");
        return 99;
    }
    for (size_t page = 0; page < pages; page++)
        fill(base, page, 1);
    for (size_t page = 0; page < pages; page++)
        wrong += !holds(base, page, 1);
    printf("%zu pages, in order: %zu wrong\n", pages, wrong);
    for (size_t i = 0; i < pages / 4; i++) {
        size_t page = i * 7919 % pages;
        wrong += !holds(base, page, 1);
        fill(base, page, 2);
    }
    for (size_t i = 0; i < pages / 4; i++)
        wrong += !holds(base, i * 7919 % pages, 2);
    printf("scattered: %zu wrong\n", wrong);
    fflush(stdout);
    if (argc > 2)
        pause();
    return wrong != 0;
}
