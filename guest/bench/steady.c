// 20,000 rounds of computing, a system call and a page fault: some 10,000 of each a second.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROUNDS 20000

int main(void)
{
    char *pages = mmap(NULL, (size_t)ROUNDS << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return 1;
    unsigned sum = 1;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < 90000; i++)
            sum = sum * 1664525u + 1013904223u + (sum >> 3);
        pages[(size_t)round << 12] = (char)sum;
        sum += syscall(SYS_getppid) >= 0;
    }
    printf("%u\n", sum);
    return 0;
}
