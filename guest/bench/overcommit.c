// 64 MiB walked three times, in order or at random; the machine of the benchmark has 16.
// guest: cflags=-O2
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGES = 64 << 8, STEPS = 2 * PAGES };

int main(int argc, char **argv)
{
    int random = argc > 1 && argv[1][0] == 'r';
    unsigned char *p = mmap(NULL, (size_t)PAGES << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned state = 1;
    unsigned long sum = 0;
    for (size_t page = 0; page < PAGES; page++)
        p[page << 12] = page;
    for (int step = 0; step < STEPS; step++) {
        state = state * 1103515245 + 12345;
        size_t page = random ? (state >> 12) % PAGES : step % PAGES;
        sum += p[page << 12];
    }
    printf("%lu\n", sum);
    return 0;
}
