// What copy-on-write costs, in minor faults: a fork, and then writes to some of the pages, here and there.
#include "guest.h"
#include <sys/wait.h>

#define PAGES 64

static char *pages;
static int counts[2]; /* a pipe */

static NOINLINE long faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static NOINLINE long write_pages(int n)
{
    long before = faults();
    for (int i = 0; i < n; i++)
        poke(pages + i * PAGE, i);
    return faults() - before;
}

/* Everything the measurement itself touches is ours before it begins. */
static NOINLINE long measure(int n)
{
    volatile char stack[64];
    for (size_t i = 0; i < sizeof(stack); i++)
        stack[i] = 0;
    write_pages(0);
    write_pages(0);
    return write_pages(n);
}

static void round_of(int n)
{
    long again, ours;
    if (!fork()) {
        long told[2];
        told[0] = measure(n);
        told[1] = measure(n);
        write(counts[1], told, sizeof(told));
        _exit(0);
    }
    long told[2];
    read(counts[0], told, sizeof(told));
    wait(NULL);
    ours = measure(n);
    again = measure(n);
    printf("%2d pages: the child %ld faults, again %ld; we, alone again, %ld, again %ld\n", n, told[0], told[1], ours,
           again);
}

int main(void)
{
    static const int rounds[] = {0, 1, 2, 5, 17, PAGES};
    setvbuf(stdout, NULL, _IOFBF, 1 << 12);
    pages = map_pages(PAGES, PROT_READ | PROT_WRITE);
    madvise(pages, PAGES * PAGE, MADV_NOHUGEPAGE);
    pipe(counts);
    measure(0);
    printf("first writes: %ld\n", measure(PAGES));
    printf("and again: %ld\n", measure(PAGES));
    for (size_t i = 0; i < COUNT(rounds); i++)
        round_of(rounds[i]);
    /* All that was shared has been written since: the last fork's pages are ours again. */
    pid_t child = fork();
    if (!child)
        pause();
    long first = measure(10), second = measure(10);
    printf("we, with a child that sleeps: %ld, again %ld\n", first, second);
    kill(child, SIGKILL);
    wait(NULL);
    first = measure(10), second = measure(PAGES);
    printf("the copies were ours: %ld; of the others nobody else has one: %ld\n", first, second);
    munmap(pages, PAGES * PAGE);
    pages = map_pages(PAGES, PROT_READ | PROT_WRITE);
    madvise(pages, PAGES * PAGE, MADV_NOHUGEPAGE);
    volatile long sum = 0;
    long before = faults();
    for (int i = 0; i < PAGES; i++)
        sum += peek(pages + i * PAGE);
    printf("first reads: %ld\n", faults() - before);
    printf("writes after reads: %ld\n", measure(PAGES));
    return 0;
}
