// What a fork copies: the mappings of parent and child, and which frames they share, before and after writes.
#include "pages.h"
#include <sys/wait.h>

static char texts[2][16384];
static int to_child[2], to_parent[2];

static void slurp(pid_t pid, char *text)
{
    char name[64];
    sprintf(name, "/proc/%d/maps", pid);
    int fd = open(name, O_RDONLY), done, size = 0;
    while ((done = read(fd, text + size, sizeof(texts[0]) - 1 - size)) > 0)
        size += done;
    text[size] = 0;
    close(fd);
}

static int count_lines(const char *text)
{
    int lines = 0;
    while ((text = strchr(text, '\n')))
        lines++, text++;
    return lines;
}

/* Lines of one that the other lacks, without addresses. */
static void only(const char *whose, const char *text, const char *other)
{
    char line[256];
    while (*text) {
        size_t length = strcspn(text, "\n") + 1;
        snprintf(line, sizeof(line), "%.*s", (int)length, text);
        if (!strstr(other, line)) {
            unsigned long from, to;
            char rights[8], *name = strchr(line, '[');
            sscanf(line, "%lx-%lx %7s", &from, &to, rights);
            printf("  %s only: %lu pages %s%s%s", whose, (to - from) / PAGE, rights, name ? " " : "", name ? name : "\n");
        }
        text += length;
    }
}

static void maps(const char *when, pid_t child)
{
    slurp(getpid(), texts[0]);
    slurp(child, texts[1]);
    printf("%s: the same mappings %s, as many %s\n", when, strcmp(texts[0], texts[1]) ? "no" : "yes",
           count_lines(texts[0]) == count_lines(texts[1]) ? "yes" : "no");
    only("parent", texts[0], texts[1]);
    only("child", texts[1], texts[0]);
}

static void frames(const char *what, const volatile char *p, pid_t child)
{
    uint64_t ours = pagemap_of(0, p), theirs = pagemap_of(child, p);
    printf("  %s: ours %s%s, the child's %s%s", what, ours & PM_PRESENT ? "there" : "not there",
           ours & PM_EXCLUSIVE ? " (exclusive)" : "", theirs & PM_PRESENT ? "there" : "not there",
           theirs & PM_EXCLUSIVE ? " (exclusive)" : "");
    if (ours & theirs & PM_PRESENT && ours & PM_PFN)
        printf(", %s frame, mapped %d and %d times", (ours & PM_PFN) == (theirs & PM_PFN) ? "one" : "another",
               (int)entry_at("/proc/kpagecount", ours & PM_PFN), (int)entry_at("/proc/kpagecount", theirs & PM_PFN));
    puts("");
}

static void tell(int fd)
{
    write(fd, "x", 1);
}

static void hear(int fd)
{
    char c;
    read(fd, &c, 1);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 14);
    char *area = map_pages(40, PROT_NONE);
    int rw = PROT_READ | PROT_WRITE, fixed = MAP_FIXED | MAP_ANONYMOUS;
    char *private = mmap(area + PAGE, 8 * PAGE, rw, MAP_PRIVATE | fixed, -1, 0);
    char *shared = mmap(area + 10 * PAGE, 2 * PAGE, rw, MAP_SHARED | fixed, -1, 0);
    char *absent = mmap(area + 13 * PAGE, 2 * PAGE, rw, MAP_PRIVATE | fixed, -1, 0);
    char *wiped = mmap(area + 16 * PAGE, 2 * PAGE, rw, MAP_PRIVATE | fixed, -1, 0);
    char *locked = mmap(area + 19 * PAGE, 2 * PAGE, rw, MAP_PRIVATE | fixed, -1, 0);
    int fd = make_file("forked", 2 * PAGE);
    char *file = mmap(area + 22 * PAGE, 2 * PAGE, rw, MAP_PRIVATE | MAP_FIXED, fd, 0);
    unlink("forked");
    madvise(absent, 2 * PAGE, MADV_DONTFORK);
    madvise(wiped, 2 * PAGE, MADV_WIPEONFORK);
    mlock(locked, 2 * PAGE);
    for (int i = 0; i < 5; i++)
        poke(private + i * PAGE, i);
    peek(private + 5 * PAGE);
    poke(shared, 1);
    poke(wiped, 1);
    poke(absent, 1);
    poke(file, 1);
    pipe(to_child);
    pipe(to_parent);
    pid_t child = fork();
    if (!child) {
        hear(to_child[0]);
        CHECK(peek(private + PAGE) == 1 && peek(wiped) == 0 && peek(shared) == 1);
        poke(private + PAGE, 100);
        peek(private + 2 * PAGE);
        poke(private + 6 * PAGE, 100);
        poke(shared + PAGE, 100);
        poke(file, 100);
        munmap(private + 4 * PAGE, PAGE);
        mprotect(shared, PAGE, PROT_READ);
        fflush(stdout);
        tell(to_parent[1]);
        hear(to_child[0]);
        CHECK(peek(private) == 0 && peek(private + 3 * PAGE) == 3);
        fflush(stdout);
        _exit(0);
    }
    maps("after the fork", child);
    frames("written before", private, child);
    frames("read before", private + 5 * PAGE, child);
    frames("untouched", private + 6 * PAGE, child);
    frames("shared", shared, child);
    frames("wiped", wiped, child);
    frames("locked", locked, child);
    frames("copy of a file's", file, child);
    fflush(stdout);
    tell(to_child[1]);
    hear(to_parent[0]);
    maps("the child has written", child);
    frames("written by the child", private + PAGE, child);
    frames("read by the child", private + 2 * PAGE, child);
    frames("unmapped by the child", private + 4 * PAGE, child);
    frames("first written by the child", private + 6 * PAGE, child);
    frames("shared", shared, child);
    peek(shared + PAGE);
    frames("shared, first written by the child", shared + PAGE, child);
    frames("copy of a file's", file, child);
    poke(private + 3 * PAGE, 50);
    poke(private + PAGE, 50);
    frames("written by us", private + 3 * PAGE, child);
    frames("written by both", private + PAGE, child);
    frames("written by nobody", private, child);
    fflush(stdout);
    tell(to_child[1]);
    wait(NULL);
    puts("the child is gone");
    CHECK(pagemap_of(0, private) & PM_EXCLUSIVE);
    CHECK(peek(private + 3 * PAGE) == 50 && peek(private + PAGE) == 50 && peek(shared + PAGE) == 100);
    return 0;
}
