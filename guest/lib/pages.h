/* What /proc tells of pages: pagemap, kpagecount, kpageflags. */
#ifndef PAGES_H
#define PAGES_H
#include "guest.h"

#define PM_PFN ((1ull << 55) - 1)
#define PM_EXCLUSIVE (1ull << 56)
#define PM_FILE (1ull << 61)
#define PM_SWAP (1ull << 62)
#define PM_PRESENT (1ull << 63)

#define KPF_UPTODATE 3
#define KPF_BUDDY 10
#define KPF_MMAP 11
#define KPF_ANON 12
#define KPF_SWAPBACKED 14
#define KPF_ZERO_PAGE 24

static UNUSED uint64_t entry_at(const char *file, uint64_t index)
{
    uint64_t entry = 0;
    int fd = open(file, O_RDONLY);
    if (fd < 0 || pread64(fd, &entry, 8, index * 8) != 8)
        entry = 0;
    close(fd);
    return entry;
}

/* The entry of a page in /proc/PID/pagemap; pid 0 is us. */
static UNUSED uint64_t pagemap_of(pid_t pid, const volatile void *p)
{
    char name[64] = "/proc/self/pagemap";
    if (pid)
        sprintf(name, "/proc/%d/pagemap", pid);
    return entry_at(name, (uintptr_t)p / PAGE);
}

/* Whether frames are shown: not to everybody. */
static UNUSED bool frames_shown(void)
{
    static char page;
    page = 1;
    return pagemap_of(0, &page) & PM_PFN;
}

#endif
