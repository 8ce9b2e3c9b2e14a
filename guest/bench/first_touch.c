// 64 MiB of new memory, one word written to each of its 16,384 pages.
// guest: cflags=-O2
#include <stdio.h>
#include <sys/mman.h>

int main(void)
{
    volatile char *p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise((void *)p, 64 << 20, MADV_NOHUGEPAGE);
    for (long i = 0; i < 64 << 20; i += 4096)
        p[i] = 1;
    puts("touched");
    return 0;
}
