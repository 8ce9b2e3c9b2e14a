// swapon and swapoff on a file of the current directory: the errors, then a life with it.
//
// Natively it would change the machine's swap, so there is no oracle; run it with --ram 16M and --bind DIR:DIR:rw.
// guest: oracle=none
#include "guest.h"
#include <sys/swap.h>
#include <sys/wait.h>

enum { SWAP_PAGES = 4096, MEMORY_PAGES = 5000 };

static void make_swap(const char *name, size_t pages, bool good)
{
    static char header[PAGE];
    memset(header, 0, sizeof(header));
    uint32_t info[3] = {1, pages - 1, 0};
    memcpy(header + 1024, info, sizeof(info));
    memcpy(header + PAGE - 10, good ? "SWAPSPACE2" : "SWAPSPACE9", 10);
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ftruncate(fd, pages * PAGE);
    pwrite(fd, header, PAGE, 0);
    close(fd);
}

static void swaps(const char *when)
{
    char line[300];
    FILE *file = fopen("/proc/swaps", "r");
    printf("%s:\n", when);
    while (fgets(line, sizeof(line), file)) {
        char name[200], kind[20];
        long size, used, priority;
        if (sscanf(line, "%199s %19s %ld %ld %ld", name, kind, &size, &used, &priority) == 5)
            printf("  %s %s %ld %s %ld\n", strrchr(name, '/') + 1, kind, size, used ? "in use" : "empty", priority);
    }
    fclose(file);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    make_swap("good", SWAP_PAGES, true);
    make_swap("bad", SWAP_PAGES, false);
    SHOW(swapon("absent", 0));
    SHOW(swapon(".", 0));
    SHOW(swapon("/dev/null", 0));
    SHOW(swapon("bad", 0));
    SHOW(swapon("good", 0x800000));
    SHOW(swapoff("good"));
    SHOW(swapon((char *)-1l, 0));
    truncate("bad", 3 * PAGE);
    SHOW(swapon("bad", 0));
    SHOW(swapon("good", SWAP_FLAG_PREFER | 7));
    SHOW(swapon("good", 0));
    SHOW(open("good", O_RDWR));
    swaps("before");

    unsigned char *memory = map_pages(MEMORY_PAGES, PROT_READ | PROT_WRITE);
    for (size_t page = 0; page < MEMORY_PAGES; page++)
        memory[page * PAGE] = memory[page * PAGE + PAGE - 1] = page * 13;
    swaps("memory is full");
    int status;
    pid_t pid = fork();
    if (!pid)
        _exit(swapoff("good") ? errno : 0); /* there is no room for what is in it: whoever insists is killed */
    waitpid(pid, &status, 0);
    printf("swapoff without room: %s\n", WIFSIGNALED(status) ? "killed" : WEXITSTATUS(status) ? "refused" : "done");
    swaps("still");
    munmap(memory + 2000 * PAGE, (MEMORY_PAGES - 2000) * PAGE);
    SHOW(swapoff("good"));
    swaps("after");
    size_t bad = 0;
    for (size_t page = 0; page < 2000; page++)
        bad += memory[page * PAGE] != (page * 13 & 255) || memory[page * PAGE + PAGE - 1] != (page * 13 & 255);
    printf("%zu pages are wrong\n", bad);
    unlink("good");
    unlink("bad");
    setuid(1000);
    SHOW(swapon("good", 0));
    SHOW(swapoff("good"));
    return 0;
}
