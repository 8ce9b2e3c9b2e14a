// pagemap, kpagecount, kpageflags, smaps and clear_refs: what they say of pages of every kind.
#include "pages.h"
#include <sys/wait.h>

static void show(const char *what, const volatile void *p)
{
    uint64_t entry = pagemap_of(0, p);
    printf("%s:%s%s%s%s%s", what, entry & PM_PRESENT ? " present" : "", entry & PM_FILE ? " file" : "",
           entry & PM_EXCLUSIVE ? " exclusive" : "", entry & PM_SWAP ? " swap" : "", entry >> 55 & 1 ? " soft-dirty" : "");
    if (entry & PM_PFN) {
        uint64_t flags = entry_at("/proc/kpageflags", entry & PM_PFN);
        printf(", count %d%s%s%s%s%s", (int)entry_at("/proc/kpagecount", entry & PM_PFN),
               flags >> KPF_MMAP & 1 ? " mmap" : "", flags >> KPF_ANON & 1 ? " anon" : "",
               flags >> KPF_SWAPBACKED & 1 ? " swapbacked" : "", flags >> KPF_UPTODATE & 1 ? " uptodate" : "",
               flags >> KPF_ZERO_PAGE & 1 ? " zero" : "");
    }
    puts("");
}

static void smaps(const char *what, const volatile char *p)
{
    static const char *wanted[] = {"Size:", "Rss:", "Pss:", "Pss_Dirty:", "Shared_Clean:", "Shared_Dirty:",
                                   "Private_Clean:", "Private_Dirty:", "Referenced:", "Anonymous:", "LazyFree:",
                                   "Swap:", "SwapPss:", "Locked:"};
    char line[512];
    unsigned long from, to;
    bool inside = false;
    FILE *file = fopen("/proc/self/smaps", "r");
    printf("%s:", what);
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = from <= (unsigned long)p && (unsigned long)p < to;
        for (size_t i = 0; inside && i < COUNT(wanted); i++)
            if (!strncmp(line, wanted[i], strlen(wanted[i])))
                printf(" %s%d", wanted[i], atoi(line + strlen(wanted[i])));
    }
    puts("");
    fclose(file);
}

static void clear(const char *text)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY);
    long done = write(fd, text, strlen(text));
    printf("clear_refs %.1s: %ld %d\n", text, done, done < 0 ? errno : 0);
    close(fd);
}

static long status(const char *field)
{
    char line[256];
    long value = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof(line), file))
        if (!strncmp(line, field, strlen(field)))
            value = atol(line + strlen(field) + 1);
    fclose(file);
    return value;
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    /* A page of its own between mappings, so that none merge. */
    char *area = map_pages(64, PROT_NONE);
    madvise(area, 64 * PAGE, MADV_NOHUGEPAGE);
    char *anon = mmap(area + PAGE, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    char *shared = mmap(area + 8 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    int fd = make_file("monitored", 4 * PAGE);
    char *file = mmap(area + 16 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
    unlink("monitored");
    poke(anon, 1);
    peek(anon + PAGE);
    poke(shared, 1);
    poke(file, 1);
    show("written", anon);
    show("read", anon + PAGE);
    show("untouched", anon + 2 * PAGE);
    show("no rights", area);
    show("shared, written", shared);
    show("shared, untouched", shared + 3 * PAGE);
    show("copy of a file's", file);
    char *alias = mremap(shared, 0, PAGE, MREMAP_MAYMOVE);
    poke(alias, 2);
    show("shared, mapped twice", shared);
    smaps("anonymous", anon);
    smaps("shared memory", shared);
    mlock(anon, PAGE);
    smaps("locked", anon);
    munlock(anon, PAGE);

    clear("1");
    smaps("forgotten", anon);
    mprotect(anon, PAGE, PROT_READ); /* or the CPU would not look at the entry again */
    mprotect(anon, PAGE, PROT_READ | PROT_WRITE);
    poke(anon, 2);
    smaps("used again", anon);
    clear("3");
    smaps("of files only", anon);
    clear("2");
    smaps("of no files", anon);
    clear("4");
    clear("0");
    clear("6");
    clear("x");

    char *peak = map_pages(512, PROT_READ | PROT_WRITE);
    madvise(peak, 512 * PAGE, MADV_NOHUGEPAGE);
    for (int i = 0; i < 512; i++)
        poke(peak + i * PAGE, 1);
    munmap(peak, 512 * PAGE);
    clear("5");
    CHECK(status("VmHWM:") < status("VmRSS:") + 200);

    int self = open("/proc/self/pagemap", O_RDONLY);
    uint64_t many[4];
    SHOW(pread64(self, many, 7, 0));
    SHOW(pread64(self, many, 8, 4));
    SHOW(pread64(self, many, 0, 8));
    SHOW(pread64(self, many, 32, (uintptr_t)anon / PAGE * 8));
    printf("%d%d%d%d\n", (int)(many[0] >> 63), (int)(many[1] >> 63), (int)(many[2] >> 63), (int)(many[3] >> 63));
    SHOW(pread64(self, many, 8, 1ll << 58));
    SHOW(lseek64(self, 16, SEEK_SET));
    SHOW(lseek64(self, 0, SEEK_END));
    SHOW(read(self, many, 16));
    SHOW(lseek64(self, 0, SEEK_CUR));
    int count = open("/proc/kpagecount", O_RDONLY);
    SHOW(pread64(count, many, 7, 0));
    SHOW(pread64(count, many, 16, 8));
    SHOW(pread64(count, many, 8, 1ll << 45));
    struct stat st;
    SHOW(fstat(count, &st));
    printf("mode %o\n", st.st_mode);
    stat("/proc/self/clear_refs", &st);
    printf("mode %o\n", st.st_mode);

    if (!frames_shown())
        return 0;
    char *freed = map_pages(1, PROT_READ | PROT_WRITE);
    poke(freed, 1);
    uint64_t frame = pagemap_of(0, freed) & PM_PFN;
    CHECK(entry_at("/proc/kpagecount", frame) == 1);
    fflush(stdout);
    if (!fork()) {
        CHECK(entry_at("/proc/kpagecount", frame) == 2);
        CHECK((pagemap_of(0, freed) & PM_PFN) == frame);
        CHECK(!(pagemap_of(0, freed) & PM_EXCLUSIVE));
        setgid(77);
        setuid(77);
        int blind = open("/proc/self/pagemap", O_RDONLY);
        printf("another user: %s\n", blind < 0 ? "may not look" : "may look");
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    CHECK(entry_at("/proc/kpagecount", frame) == 1);
    return 0;
}
