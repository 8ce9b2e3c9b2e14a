// A working set a little larger than memory, walked in order, backwards and at random: every access is checked.
// guest: ram=8M swap=32M
#include "guest.h"

enum { PAGES = 2600, STEPS = 12000 };

int main(void)
{
    unsigned char *memory = map_pages(PAGES, PROT_READ | PROT_WRITE);
    static unsigned char expected[PAGES];
    size_t bad = 0;
    for (size_t page = 0; page < PAGES; page++)
        memory[page * PAGE + page % PAGE] = expected[page] = page * 7;
    for (size_t page = 0; page < PAGES; page++)
        bad += memory[page * PAGE + page % PAGE] != expected[page];
    printf("in order: %zu wrong\n", bad);
    for (size_t page = PAGES; page-- > 0;)
        bad += memory[page * PAGE + page % PAGE] != expected[page];
    printf("backwards: %zu wrong\n", bad);
    uint32_t state = 12345;
    for (int step = 0; step < STEPS; step++) {
        size_t page = next_random(&state) % PAGES;
        unsigned char *byte = &memory[page * PAGE + page % PAGE];
        bad += *byte != expected[page];
        if (step % 3 == 0)
            *byte = expected[page] += 1;
    }
    printf("at random: %zu wrong\n", bad);
    /* A tenth of the memory in use again and again stays resident, whatever streams by. */
    for (int round = 0; round < 20; round++) {
        for (size_t page = 0; page < PAGES / 10; page++)
            bad += memory[page * PAGE + page % PAGE] != expected[page];
        for (size_t page = PAGES / 10; page < PAGES; page += 20)
            bad += memory[(page + round) % PAGES * PAGE + (page + round) % PAGES % PAGE] != expected[(page + round) % PAGES];
    }
    printf("a small set among a stream: %zu wrong\n", bad);
    return bad != 0;
}
