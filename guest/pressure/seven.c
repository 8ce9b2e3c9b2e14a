// Seven processes of 0.7 to 15 MiB on a machine of 16 MiB: all finish, and every byte is what it was.
//
// With the argument "table" it shows over time, for each: resident, in swap, dropped (of its program's file) and read
// back.  Without, only what is the same on every machine.
// guest: ram=16M swap=64M
#include "guest.h"
#include <sys/wait.h>
#include <time.h>

enum { COUNT_OF = 7, ROUNDS = 3, SAMPLES = 400 };
static const unsigned kib[COUNT_OF] = {1024, 2560, 1536, 716, 5120, 10240, 15360};

static unsigned char byte_of(unsigned who, size_t at, unsigned round)
{
    return who * 31 + at * 7 + (at >> 12) + round;
}

static int work(unsigned who)
{
    size_t size = (size_t)kib[who] * 1024;
    unsigned char *memory = map_pages((size + PAGE - 1) / PAGE, PROT_READ | PROT_WRITE);
    int fd = open("/proc/self/exe", O_RDONLY);
    size_t file_size = lseek(fd, 0, SEEK_END);
    const unsigned char *file = mmap(NULL, file_size, PROT_READ, MAP_PRIVATE, fd, 0);
    unsigned sum = 0, bad = 0;
    for (size_t at = 0; at < file_size; at += 512)
        sum += file[at];
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (size_t at = 0; at < size; at += 64)
            memory[at] = byte_of(who, at, round);
        sched_yield();
        for (size_t at = 0; at < size; at += 64)
            bad += memory[at] != byte_of(who, at, round);
        unsigned again = 0;
        for (size_t at = 0; at < file_size; at += 512)
            again += file[at];
        bad += again != sum;
    }
    return bad ? 1 : 0;
}

static long field(pid_t pid, const char *name)
{
    char path[40], line[256];
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    long value = -1;
    while (file && fgets(line, sizeof(line), file))
        if (!strncmp(line, name, strlen(name)))
            value = atol(line + strlen(name) + 1);
    if (file)
        fclose(file);
    return value;
}

static long major_faults(pid_t pid)
{
    char path[40], text[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    close(fd);
    text[size > 0 ? size : 0] = 0;
    char *at = strrchr(text, ')');
    long faults = -1;
    if (at)
        sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %ld", &faults);
    return faults;
}

static void table(pid_t *pids, const bool *done, int sample)
{
    if (!sample) {
        printf("resident + swapped KiB, file pages dropped, pages read back\n      ms");
        for (int i = 0; i < COUNT_OF; i++)
            printf(" | %4.1f MiB           ", kib[i] / 1024.0);
        printf("\n");
    }
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    printf("%8d", sample * 50);
    for (int i = 0; i < COUNT_OF; i++) {
        long rss = done[i] ? -1 : field(pids[i], "VmRSS");
        if (rss < 0)
            printf(" |                    -");
        else
            printf(" | %5ld+%-5ld %4ld %5ld", rss, field(pids[i], "VmSwap"),
                   (field(pids[i], "VmSize") - field(pids[i], "VmData") - field(pids[i], "VmStk") - field(pids[i], "RssFile")) / 4,
                   major_faults(pids[i]));
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    bool show = argc > 1 && !strcmp(argv[1], "table");
    pid_t pids[COUNT_OF];
    bool done[COUNT_OF] = {false}, good[COUNT_OF];
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < COUNT_OF; i++) {
        pids[i] = fork();
        if (!pids[i])
            _exit(work(i));
    }
    int left = COUNT_OF;
    for (int sample = 0; left; sample++) {
        if (show)
            table(pids, done, sample);
        int status;
        pid_t pid;
        while ((pid = waitpid(-1, &status, show ? WNOHANG : 0)) > 0) {
            for (int i = 0; i < COUNT_OF; i++)
                if (pids[i] == pid)
                    done[i] = true, good[i] = status == 0, left--;
        }
        if (show && left)
            nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    int verified = 0;
    for (int i = 0; i < COUNT_OF; i++) {
        verified += good[i];
        printf("%4.1f MiB: %s\n", kib[i] / 1024.0, good[i] ? "verified" : "WRONG");
    }
    printf("%d of %d\n", verified, COUNT_OF);
    return verified != COUNT_OF;
}
