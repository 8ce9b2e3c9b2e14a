// getrusage(2) counts a minor fault for each page touched, no more than once.
#include "guest.h"

static long faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

int main(void)
{
    enum { PAGES = 100 };
    faults();
    char *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(p, PAGES * PAGE, MADV_NOHUGEPAGE);
    long start = faults();
    for (int i = 0; i < PAGES; i++)
        peek(p + i * PAGE);
    long after_reads = faults();
    for (int i = 0; i < PAGES; i++)
        poke(p + i * PAGE, 1);
    long after_writes = faults();
    for (int i = 0; i < PAGES; i++)
        poke(p + i * PAGE, 2);
    long again = faults();
    madvise(p, PAGES * PAGE, MADV_DONTNEED);
    for (int i = 0; i < PAGES; i++)
        poke(p + i * PAGE, 3);
    long directly = faults();
    printf("reads %ld, writes to the zero page %ld, again %ld, writes at once %ld\n", after_reads - start,
           after_writes - after_reads, again - after_writes, directly - again);
    return 0;
}
