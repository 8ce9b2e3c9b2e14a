// Memory full of holes: parent and child keep every eighth page of a large mapping, a file and shared memory, and
// check every byte.  With the argument "compact" they ask the kernel to move them together in between: for the
// emulator's tests, as that is nothing to do to somebody's own machine.
#include "guest.h"
#include <sys/wait.h>

#define PAGES 2048ul
#define KEEP 8ul

static unsigned char *memory, *shared;
static bool compacts;

static void fill(unsigned char *area, size_t page, uint32_t salt)
{
    uint32_t state = salt * 7919 + page + 1;
    for (size_t i = 0; i < PAGE; i += 64)
        area[page * PAGE + i] = next_random(&state);
}

static bool holds(const unsigned char *area, size_t page, uint32_t salt)
{
    uint32_t state = salt * 7919 + page + 1;
    for (size_t i = 0; i < PAGE; i += 64)
        if (area[page * PAGE + i] != (unsigned char)next_random(&state))
            return false;
    return true;
}

static void compact(void)
{
    if (!compacts)
        return;
    int fd = open("/proc/sys/vm/compact_memory", O_WRONLY);
    if (fd < 0 || write(fd, "1", 1) != 1)
        printf("no compaction: errno %d\n", errno);
    close(fd);
}

/* How many of the kept pages have their bytes, and how many of the others read as zeroes. */
static void count(const char *who, uint32_t salt)
{
    size_t right = 0, empty = 0, common = 0;
    for (size_t page = 0; page < PAGES; page++) {
        if (page % KEEP == 0)
            right += holds(memory, page, salt);
        else if (page % 97 == 1)
            empty += memory[page * PAGE] == 0;
        if (page % 64 == 0)
            common += holds(shared, page / 8, 3);
    }
    printf("%s: %zu kept, %zu empty, %zu shared\n", who, right, empty, common);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    compacts = argc > 1 && !strcmp(argv[1], "compact");
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    shared = mmap(NULL, PAGES / 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED && shared != MAP_FAILED);
    for (size_t page = 0; page < PAGES; page++) {
        fill(memory, page, 1);
        if (page % 8 == 0)
            fill(shared, page / 8, 3);
    }
    for (size_t page = 0; page < PAGES; page++)
        if (page % KEEP)
            madvise(memory + page * PAGE, PAGE, MADV_DONTNEED);
    compact();
    count("after the holes", 1);
    pid_t child = fork();
    if (child == 0) {
        compact();
        count("child", 1);
        for (size_t page = 0; page < PAGES; page += KEEP)
            fill(memory, page, 2);
        compact();
        count("child, pages of its own", 2);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    compact();
    count("parent", 1);
    return 0;
}
