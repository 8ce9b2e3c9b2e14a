// A block that grows and grows, as realloc(3) of a big one: nothing is lost on the way.
#include "guest.h"

int main(void)
{
    size_t size = 1 << 20;
    uint32_t *block = malloc(size), state = 1;
    for (size_t i = 0; i < size / 4; i++)
        block[i] = next_random(&state);
    uint32_t first = checksum(block, 1 << 20);
    char *fence[20];
    for (int round = 0; round < 20; round++) {
        size += 700000;
        block = realloc(block, size);
        fence[round] = malloc(200000);
        fence[round][round] = round;
        ((char *)block)[size - 1] = round;
    }
    CHECK(checksum(block, 1 << 20) == first);
    block = realloc(block, 1 << 20);
    CHECK(checksum(block, 1 << 20) == first);
    printf("%#x\n", first);
    return 0;
}
