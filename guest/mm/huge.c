// Transparent huge pages: mapped, split, shared and put together again, and the contents are always right.
#include "guest.h"
#include <sys/prctl.h>
#include <sys/wait.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum { REGIONS = 4 };
static size_t huge;

/* The bytes of one word of a file: 0 if there is none. */
static bool file_says(const char *name, const char *word)
{
    char text[256] = "";
    FILE *file = fopen(name, "r");
    bool found = file && fgets(text, sizeof(text), file) && strstr(text, word);
    if (file)
        fclose(file);
    return found;
}

/* A figure of /proc/self/smaps, summed over the mappings in [start, end), in bytes. */
static size_t smaps(const char *start, const char *end, const char *name)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long from, to, kilobytes;
    bool inside = false;
    size_t sum = 0;
    while (file && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = from >= (unsigned long)start && to <= (unsigned long)end;
        else if (inside && !strncmp(line, name, strlen(name)) && sscanf(line + strlen(name), ": %lu kB", &kilobytes) == 1)
            sum += kilobytes * 1024;
    }
    fclose(file);
    return sum;
}

/* Whether the line *name* of the mapping at start contains a word. */
static bool smaps_flag(const char *start, const char *name, const char *word)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long from, to;
    bool inside = false, found = false;
    while (file && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = from == (unsigned long)start;
        else if (inside && !strncmp(line, name, strlen(name)))
            found |= strstr(line, word) != NULL;
    }
    fclose(file);
    return found;
}

static size_t in_huge_pages(const char *start, size_t regions)
{
    return smaps(start, start + regions * huge, "AnonHugePages");
}

/* Aligned memory, advised to have huge pages. */
static char *advised(size_t regions)
{
    char *p = map_pages((regions + 1) * huge / PAGE, PROT_READ | PROT_WRITE);
    char *aligned = (char *)(((uintptr_t)p + huge - 1) & -huge);
    if (aligned > p)
        munmap(p, aligned - p);
    munmap(aligned + regions * huge, p + huge - aligned);
    if (madvise(aligned, regions * huge, MADV_HUGEPAGE))
        perror("MADV_HUGEPAGE");
    return aligned;
}

/* A different byte in every page. */
static unsigned char byte_of(size_t page, unsigned char salt)
{
    return (page * 37 + page / 251 + salt) % 255 + 1;
}

static void fill(char *start, size_t size, unsigned char salt)
{
    for (size_t at = 0; at < size; at += PAGE)
        start[at + at / PAGE % PAGE] = byte_of(at / PAGE, salt);
}

static size_t wrong(const char *start, size_t size, unsigned char salt)
{
    size_t count = 0;
    for (size_t at = 0; at < size; at += PAGE)
        count += (unsigned char)start[at + at / PAGE % PAGE] != byte_of(at / PAGE, salt);
    return count;
}

static long faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static void first_touch(void)
{
    char *p = advised(REGIONS);
    long before = faults();
    fill(p, REGIONS * huge, 1);
    CHECK(faults() - before < 64);
    CHECK(wrong(p, REGIONS * huge, 1) == 0);
    CHECK(in_huge_pages(p, REGIONS) == REGIONS * huge);
    CHECK(smaps(p, p + REGIONS * huge, "Rss") == REGIONS * huge);
    CHECK(smaps(p, p + REGIONS * huge, "KernelPageSize") == PAGE);
    CHECK(smaps_flag(p, "THPeligible", "1") && smaps_flag(p, "VmFlags", " hg"));
    SHOW(munmap(p + huge, huge));
    CHECK(wrong(p, huge, 1) == 0);
    CHECK(in_huge_pages(p, REGIONS) == (REGIONS - 1) * huge);
    SHOW(munmap(p, REGIONS * huge));
}

static void reading_first(void)
{
    char *p = advised(1);
    long before = faults();
    size_t sum = 0;
    for (size_t at = 0; at < huge; at += PAGE)
        sum += p[at];
    CHECK(faults() - before < 16);
    printf("zeroes sum up to %zu\n", sum);
    CHECK(in_huge_pages(p, 1) == 0);
    p[5 * PAGE] = 'w';
    CHECK(p[5 * PAGE] == 'w' && p[4 * PAGE] == 0 && p[6 * PAGE] == 0);
    CHECK(in_huge_pages(p, 1) == huge);
    fill(p, huge, 2);
    CHECK(wrong(p, huge, 2) == 0);
    munmap(p, huge);
}

static void splitting(void)
{
    char *p = advised(REGIONS);
    fill(p, REGIONS * huge, 3);
    SHOW(munmap(p + 7 * PAGE, PAGE));
    CHECK(in_huge_pages(p, REGIONS) == (REGIONS - 1) * huge);
    CHECK(wrong(p, 7 * PAGE, 3) == 0);
    SHOW_FAULT(p, poke(p + 7 * PAGE, 1));
    SHOW_FAULT(p, poke(p + 8 * PAGE + 8, byte_of(8, 3)));
    SHOW(mprotect(p + huge + 3 * PAGE, 2 * PAGE, PROT_READ));
    CHECK(in_huge_pages(p, REGIONS) == (REGIONS - 2) * huge);
    SHOW_FAULT(p + huge, poke(p + huge + 3 * PAGE, 1));
    SHOW_FAULT(p + huge, poke(p + huge + 5 * PAGE, 1));
    SHOW(madvise(p + 2 * huge + PAGE, huge - PAGE, MADV_DONTNEED));
    CHECK(in_huge_pages(p, REGIONS) == (REGIONS - 3) * huge);
    printf("%d %d\n", (unsigned char)p[2 * huge + 512 % PAGE] != 0, p[2 * huge + PAGE + 1]);
    SHOW(mprotect(p + 3 * huge, huge, PROT_READ));
    CHECK(in_huge_pages(p, REGIONS) == (REGIONS - 3) * huge);
    SHOW_FAULT(p + 3 * huge, poke(p + 3 * huge, 1));
    SHOW(mprotect(p + 3 * huge, huge, PROT_READ | PROT_WRITE));
    SHOW_FAULT(p + 3 * huge, poke(p + 3 * huge + 9, 1));
    CHECK(in_huge_pages(p, REGIONS) == (REGIONS - 3) * huge);
    munmap(p, REGIONS * huge);
}

static void moving(void)
{
    char *p = advised(2), *q = advised(2);
    munmap(q, 2 * huge);
    fill(p, 2 * huge, 4);
    CHECK(mremap(p, 2 * huge, 2 * huge, MREMAP_MAYMOVE | MREMAP_FIXED, q) == q);
    CHECK(in_huge_pages(q, 2) == 2 * huge);
    CHECK(wrong(q, 2 * huge, 4) == 0);
    p = advised(3);
    munmap(p, 3 * huge);
    CHECK(mremap(q, 2 * huge, 2 * huge, MREMAP_MAYMOVE | MREMAP_FIXED, p + PAGE) == p + PAGE);
    CHECK(smaps(p, p + 3 * huge, "AnonHugePages") == 0);
    CHECK(wrong(p + PAGE, 2 * huge, 4) == 0);
    munmap(p, 3 * huge);
}

static void forking(void)
{
    char *p = advised(2);
    int status;
    fill(p, 2 * huge, 5);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        bool good = wrong(p, 2 * huge, 5) == 0 && in_huge_pages(p, 2) == 2 * huge;
        fill(p, huge, 6);
        good = good && wrong(p, huge, 6) == 0;
        p[huge + 3 * PAGE] = 'c';
        _exit(good && p[huge + 3 * PAGE] == 'c' ? 42 : 1);
    }
    waitpid(child, &status, 0);
    printf("the child says %d\n", WEXITSTATUS(status));
    CHECK(wrong(p, 2 * huge, 5) == 0);
    fill(p, 2 * huge, 7);
    CHECK(wrong(p, 2 * huge, 7) == 0);
    fflush(stdout);
    child = fork();
    if (!child) {
        pause();
        _exit(0);
    }
    fill(p + PAGE, huge - PAGE, 8);
    CHECK(wrong(p + PAGE, huge - PAGE, 8) == 0);
    CHECK((unsigned char)p[0] == byte_of(0, 7));
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    munmap(p, 2 * huge);
}

static void collapsing(void)
{
    char *p = advised(2);
    SHOW(madvise(p, huge, MADV_NOHUGEPAGE));
    fill(p, huge, 9);
    CHECK(smaps_flag(p, "THPeligible", "0") && smaps_flag(p, "VmFlags", " nh"));
    CHECK(in_huge_pages(p, 2) == 0);
    SHOW(madvise(p, huge, MADV_COLLAPSE));
    SHOW(madvise(p, huge, MADV_HUGEPAGE));
    SHOW(madvise(p + huge, huge, MADV_COLLAPSE));
    SHOW(madvise(p + PAGE, PAGE, MADV_COLLAPSE));
    SHOW(madvise(p + 1, huge, MADV_COLLAPSE));
    SHOW(madvise(p + PAGE, huge, MADV_COLLAPSE));
    SHOW(madvise(p, huge, MADV_COLLAPSE));
    CHECK(in_huge_pages(p, 2) == huge);
    CHECK(wrong(p, huge, 9) == 0);
    SHOW(madvise(p, huge, MADV_COLLAPSE));
    SHOW(madvise(p + 9 * PAGE, PAGE, MADV_DONTNEED));
    CHECK(in_huge_pages(p, 2) == 0);
    SHOW(madvise(p, huge, MADV_COLLAPSE));
    CHECK(in_huge_pages(p, 2) == huge);
    CHECK(p[9 * PAGE + 9] == 0);
    char *small = map_pages(4, PROT_READ | PROT_WRITE);
    small[0] = 1;
    SHOW(madvise(small, 4 * PAGE, MADV_COLLAPSE));
    munmap(small, 4 * PAGE);
    SHOW(madvise(small, 4 * PAGE, MADV_COLLAPSE));
    munmap(p, 2 * huge);
}

static void switched_off(void)
{
    SHOW(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    char *p = advised(1);
    fill(p, huge, 10);
    CHECK(in_huge_pages(p, 1) == 0);
    SHOW(madvise(p, huge, MADV_COLLAPSE));
    SHOW(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_THP_DISABLE, 0, 1, 0, 0));
    SHOW(prctl(PR_SET_THP_DISABLE, 1, 0, 1, 0));
    SHOW(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0));
    SHOW(madvise(p, huge, MADV_COLLAPSE));
    CHECK(in_huge_pages(p, 1) == huge);
    CHECK(wrong(p, huge, 10) == 0);
    munmap(p, huge);
}

int main(void)
{
    FILE *size = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "r");
    if (!size || fscanf(size, "%zu", &huge) != 1)
        return 99;
    fclose(size);
    CHECK(huge == 2 << 20 || huge == 4 << 20);
    CHECK(file_says("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"));
    catch_faults(0);
    first_touch();
    reading_first();
    splitting();
    moving();
    forking();
    collapsing();
    switched_off();
    return 0;
}
