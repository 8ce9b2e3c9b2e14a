// Thousands of blocks of all sizes come, grow and go; every byte is checked.
#include "guest.h"

int main(void)
{
    enum { SLOTS = 500, ROUNDS = 20000 };
    static unsigned char *block[SLOTS];
    static size_t size[SLOTS];
    uint32_t state = 42, hash = 0;
    size_t wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int slot = next_random(&state) % SLOTS;
        size_t wanted = next_random(&state) % (round % 100 ? 2000 : 300000) + 1;
        if (block[slot]) {
            for (size_t i = 0; i < size[slot]; i += 97)
                wrong += block[slot][i] != (unsigned char)(slot + i);
            hash += size[slot];
        }
        if (next_random(&state) & 1) {
            free(block[slot]);
            block[slot] = NULL;
            continue;
        }
        size_t old = block[slot] ? size[slot] : 0;
        block[slot] = realloc(block[slot], wanted);
        for (size_t i = old < wanted ? old / 97 * 97 : 0; i < wanted; i += 97)
            block[slot][i] = slot + i;
        for (size_t i = 0; i < wanted; i += 97)
            block[slot][i] = slot + i;
        size[slot] = wanted;
    }
    printf("%zu wrong, %u\n", wrong, hash);
    return wrong != 0;
}
