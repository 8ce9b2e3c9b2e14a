// Code that is written to huge pages and run there: what runs is always what was written last.
#include "guest.h"
#include <sys/wait.h>

static char *map_huge(size_t huge, size_t count)
{
    char *p = map_pages((count + 1) * huge / PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    char *aligned = (char *)(((uintptr_t)p + huge - 1) & -huge);
    madvise(aligned, count * huge, MADV_HUGEPAGE);
    return aligned;
}

/* mov eax, value; ret */
static void write_code(char *at, int value)
{
    at[0] = (char)0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = (char)0xc3;
}

static NOINLINE int run(char *at)
{
    return ((int (*)(void))(uintptr_t)at)();
}

int main(void)
{
    size_t huge = 4 << 20;
    char *p = map_huge(huge, 1);
    int status;
    catch_faults(0);
    for (int round = 0; round < 3; round++)
        for (size_t at = 64; at < huge; at += huge / 8) {
            write_code(p + at, round * 100 + at / PAGE);
            printf("%d ", run(p + at));
        }
    putchar('\n');
    SHOW(mprotect(p, huge, PROT_READ | PROT_WRITE));
    write_code(p + 64, 4711);
    SHOW(mprotect(p, huge, PROT_READ | PROT_EXEC));
    printf("%d %d\n", run(p + 64), run(p + 64 + huge / 8));
    SHOW_FAULT(p, write_code(p + 64, 1));
    SHOW(mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
    write_code(p + 64, 4712);
    printf("%d %d\n", run(p + 64), run(p + 64 + huge / 8));
    SHOW(mprotect(p, huge, PROT_READ | PROT_WRITE | PROT_EXEC));
    fflush(stdout);
    if (!fork()) {
        write_code(p + 64, 1000);
        printf("child %d %d\n", run(p + 64), run(p + 64 + huge / 8));
        fflush(stdout);
        _exit(0);
    }
    wait(&status);
    printf("parent %d\n", run(p + 64));
    write_code(p + 64 + huge / 8, 2000);
    printf("parent %d\n", run(p + 64 + huge / 8));
    SHOW(madvise(p, huge, MADV_DONTNEED));
    p[64] = (char)0xc3;
    run(p + 64);
    return 0;
}
