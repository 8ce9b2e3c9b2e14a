// 50 processes of 600 KiB on a machine of 16 MiB with swap: each writes, computes and reads back, over 100 million instructions.
// guest: cflags=-O1
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 50, PAGES = 150, ROUNDS = 4 };

static unsigned work(unsigned who)
{
    unsigned char *p = mmap(NULL, (size_t)PAGES << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned sum = who, bad = 0;
    for (unsigned round = 1; round <= ROUNDS; round++) {
        for (size_t page = 0; page < PAGES; page++) {
            bad += p[page << 12] != (unsigned char)((round - 1) * (who + page));
            p[page << 12] = round * (who + page);
        }
        for (volatile unsigned i = 0; i < 60000; i++)
            sum = sum * 1103515245 + i;
    }
    return bad + (sum == 0);
}

int main(void)
{
    unsigned good = 0;
    for (unsigned who = 0; who < PROCESSES; who++)
        if (!fork())
            _exit(work(who) != 0);
    for (unsigned who = 0; who < PROCESSES; who++) {
        int status;
        good += wait(&status) > 0 && !status;
    }
    printf("%u\n", good);
    return 0;
}
