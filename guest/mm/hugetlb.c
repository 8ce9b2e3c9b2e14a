// MAP_HUGETLB without a pool: what is refused, what can be mapped anyway, and what a touch then costs.
// Where somebody has filled the pool (vm.nr_hugepages), what it is good for.
#include "guest.h"
#include <sys/wait.h>

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

static size_t huge;

/* A figure of /proc/meminfo. */
static long meminfo(const char *name)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    long value = -1;
    while (file && fgets(line, sizeof(line), file))
        if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
            value = atol(line + strlen(name) + 1);
    fclose(file);
    return value;
}

/* A line of /proc/self/smaps about the mapping at start, from its name on. */
static void smaps_line(const char *start, const char *name)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long from, to;
    bool inside = false;
    while (file && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            inside = from == (unsigned long)start;
            if (inside && !strcmp(name, "path"))
                printf("path %s", strchr(line, '/') ? strchr(line, '/') : "none\n");
        } else if (inside && !strncmp(line, name, strlen(name))) {
            unsigned long kilobytes;
            if (sscanf(line + strlen(name), ": %lu kB", &kilobytes) == 1)
                printf("%s is that of %s\n", name, kilobytes * 1024 == huge ? "a huge page" : kilobytes ? "another" : "0");
        }
    }
    fclose(file);
}

/* What /proc/self/numa_maps says behind the address of the mapping at start. */
static void numa_line(const char *start)
{
    FILE *file = fopen("/proc/self/numa_maps", "r");
    char line[512];
    int at;
    while (file && fgets(line, sizeof(line), file))
        if (strtoul(line, NULL, 16) == (unsigned long)start && sscanf(line, "%*x%n", &at) == 0)
            printf("numa_maps%s", line + at);
    if (file)
        fclose(file);
}

static void *map(size_t length, int flags)
{
    return mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_HUGETLB | flags, -1, 0);
}

#define MAP(length, flags)                                                        \
    do {                                                                          \
        void *p_ = (errno = 0, map(length, flags));                               \
        if (p_ == MAP_FAILED)                                                     \
            printf("%s, %s: errno %d\n", #length, #flags, errno);                 \
        else                                                                      \
            printf("%s, %s: mapped\n", #length, #flags), munmap(p_, huge);        \
    } while (0)

static bool pool_is(long free, long reserved)
{
    bool right = meminfo("HugePages_Free") == free && meminfo("HugePages_Rsvd") == reserved;
    if (!right)
        printf("free %ld, reserved %ld\n", meminfo("HugePages_Free"), meminfo("HugePages_Rsvd"));
    return right;
}

static int wait_for(pid_t child)
{
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static void with_pool(void)
{
    long total = meminfo("HugePages_Total");
    CHECK(pool_is(total, 0));
    CHECK(map((total + 1) * huge, MAP_PRIVATE) == MAP_FAILED && errno == ENOMEM);
    char *p = map(2 * huge - PAGE, MAP_PRIVATE);
    CHECK(p != MAP_FAILED && pool_is(total, 2));
    poke(p + 5 * PAGE, 7);
    CHECK(pool_is(total - 1, 1) && p[5 * PAGE] == 7 && p[4 * PAGE] == 0 && p[huge - 1] == 0);
    smaps_line(p, "Private_Hugetlb");
    smaps_line(p, "KernelPageSize");
    unsigned char vec[2];
    SHOW(mincore(p + huge - PAGE, 2 * PAGE, vec));
    printf("%d %d\n", vec[0] & 1, vec[1] & 1);

    memset(p, 'p', huge);
    numa_line(p);
    fflush(stdout);
    if (!fork()) {
        bool same = p[0] == 'p' && p[huge - 1] == 'p';
        p[3] = 'c';
        _exit(same && p[3] == 'c' && p[4] == 'p' && pool_is(total - 2, 1) ? 11 : 1);
    }
    CHECK(wait_for(-1) == 11);
    CHECK(p[3] == 'p' && pool_is(total - 1, 1));

    char *rest = map((total - 2) * huge, MAP_SHARED);
    CHECK(rest != MAP_FAILED && pool_is(total - 1, total - 1));
    int told[2], ready[2];
    char byte;
    SHOW(pipe(told));
    SHOW(pipe(ready));
    pid_t child = fork();
    if (!child) {
        int seen = p[3] == 'p' ? 0 : 100;
        seen += FAULT(poke(p + huge, 1)); // nothing was promised to the child
        rest[9] = 's';
        if (write(ready[1], "x", 1) != 1 || read(told[0], &byte, 1) != 1)
            _exit(1);
        seen += 10 * FAULT(peek(p)); // its maker took the page
        _exit(seen);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    p[3] = 'w';
    CHECK(p[3] == 'w' && p[4] == 'p');
    CHECK(write(told[1], "x", 1) == 1);
    CHECK(wait_for(child) == SIGBUS + 10 * SIGBUS);
    CHECK(rest[9] == 's' && pool_is(total - 2, total - 2));
    char *to = map(huge, MAP_PRIVATE | MAP_NORESERVE);
    munmap(to, huge);
    CHECK(mremap(p, huge, huge, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to && to[3] == 'w');
    SHOW(munmap(to, huge));
    CHECK(pool_is(total - 1, total - 2));
    SHOW(munmap(p + huge, huge));
    SHOW(munmap(rest, (total - 2) * huge));
    CHECK(pool_is(total, 0));

    char *code = mmap(NULL, huge, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    for (int round = 1; round < 4; round++) {
        memcpy(code + huge / 2, (char[]){(char)0xb8, round, 0, 0, 0, (char)0xc3}, 6);
        printf("code says %d\n", ((int (*)(void))(uintptr_t)(code + huge / 2))());
    }
    SHOW(mprotect(code, huge, PROT_READ));
    SHOW_FAULT(code, poke(code, 1));
    SHOW(madvise(code, huge, MADV_DONTNEED));
    CHECK(code[huge / 2] == 0);
    CHECK(read(open("/proc/self/status", O_RDONLY), code, 16) == -1 && errno == EFAULT);
}

int main(void)
{
    huge = meminfo("Hugepagesize") * 1024;
    catch_faults(0);
    if (meminfo("HugePages_Total") != 0) {
        with_pool();
        return 0;
    }
    MAP(huge, MAP_PRIVATE);
    MAP(huge, MAP_SHARED);
    MAP(PAGE, MAP_PRIVATE);
    MAP(0, MAP_PRIVATE);
    MAP(huge, 0);
    MAP(huge, MAP_PRIVATE | MAP_GROWSDOWN);
    MAP(huge, MAP_PRIVATE | MAP_NORESERVE | 23 << MAP_HUGE_SHIFT);
    MAP(huge, MAP_PRIVATE | MAP_NORESERVE | 5 << MAP_HUGE_SHIFT);
    int fd = make_file("plain", PAGE);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_HUGETLB, fd, 0) == MAP_FAILED && errno == EINVAL);
    unlink("plain");

    for (int shared = 0; shared < 2; shared++) {
        char *p = map(2 * huge, (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE);
        if (p == MAP_FAILED) {
            perror("MAP_NORESERVE");
            return 2;
        }
        unsigned char vec[2] = {1, 1};
        CHECK(((uintptr_t)p & (huge - 1)) == 0);
        SHOW_FAULT(p, poke(p + 5 * PAGE, 1));
        SHOW_FAULT(p + huge, peek(p + huge));
        SHOW(mincore(p, 2 * PAGE, vec));
        printf("%d %d\n", vec[0] & 1, vec[1] & 1);
        smaps_line(p, "path");
        smaps_line(p, "KernelPageSize");
        smaps_line(p, "MMUPageSize");
        smaps_line(p, "Rss");
        smaps_line(p, "Private_Hugetlb");
        SHOW(munmap(p + PAGE, PAGE));
        SHOW(munmap(p, huge + PAGE));
        SHOW(mprotect(p + PAGE, PAGE, PROT_READ));
        SHOW(mprotect(p, huge + PAGE, PROT_READ));
        SHOW(mprotect(p + huge, huge, PROT_READ));
        SHOW_FAULT(p + huge, poke(p + huge, 1));
        SHOW(madvise(p, huge, MADV_DONTNEED));
        SHOW(madvise(p + PAGE, huge - PAGE, MADV_DONTNEED));
        SHOW(madvise(p, PAGE, MADV_DONTNEED));
        SHOW(madvise(p, huge, MADV_FREE));
        SHOW(madvise(p, PAGE, MADV_DONTDUMP));
        SHOW(madvise(p, huge, MADV_DONTDUMP));
        SHOW(madvise(p, huge, MADV_DODUMP));
        SHOW(madvise(p, huge, MADV_COLD));
        SHOW(madvise(p, huge, MADV_WILLNEED));
        CHECK(mremap(p, huge, 2 * huge, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
        CHECK(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == p);
        CHECK(mremap(p + PAGE, PAGE, PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
        SHOW(mlock(p, PAGE));
        CHECK(mmap(p + PAGE, huge, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED, -1, 0) == MAP_FAILED);
        printf("errno %d\n", errno);
        CHECK(mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
        printf("errno %d\n", errno);
        SHOW(munmap(p, 2 * huge));
    }
    CHECK(meminfo("HugePages_Free") == 0 && meminfo("HugePages_Rsvd") == 0 && meminfo("HugePages_Surp") == 0);
    return 0;
}
