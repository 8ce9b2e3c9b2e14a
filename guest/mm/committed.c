// What counts as promised memory: how Committed_AS of /proc/meminfo changes at each step, to the nearest GiB, as others
// run on the machine too.
#include "guest.h"
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/wait.h>

#define SIZE (128ul << 20) /* below the memory of the smallest machine: more at once is refused in mode 0 */
#define TIMES 16

static long before;

static long committed(void)
{
    char line[128];
    long found = -1;
    FILE *info = fopen("/proc/meminfo", "r");
    while (fgets(line, sizeof(line), info))
        sscanf(line, "Committed_AS: %ld", &found);
    fclose(info);
    return found;
}

static void start(void)
{
    before = committed();
}

static void grown(const char *what)
{
    long by = committed() - before, half = 1 << 19;
    printf("%s: %+ld GiB\n", what, (by + (by < 0 ? -half : half)) / (2 * half));
}

static char *at[TIMES];

/* Never two in one mapping: fork asks for each mapping by itself. */
static void map(int prot, int flags)
{
    for (int i = 0; i < TIMES; i++) {
        if ((at[i] = mmap(NULL, SIZE + PAGE, prot, flags | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED)
            printf("errno %d\n", errno);
        munmap(at[i] + SIZE, PAGE);
    }
}

static void unmap(void)
{
    for (int i = 0; i < TIMES; i++)
        munmap(at[i], SIZE);
}

static void each(const char *what, int prot, int flags)
{
    start();
    map(prot, flags);
    grown(what);
    unmap();
}

static void protect(int prot)
{
    for (int i = 0; i < TIMES; i++)
        if (mprotect(at[i], SIZE, prot))
            printf("errno %d\n", errno);
}

int main(void)
{
    char mode = '?';
    int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY);
    read(fd, &mode, 1);
    printf("mode %c\n", mode);
    each("private, writable", PROT_READ | PROT_WRITE, MAP_PRIVATE);
    each("private, read-only", PROT_READ, MAP_PRIVATE);
    each("private, no rights", PROT_NONE, MAP_PRIVATE);
    each("private, not reserved", PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
    each("shared", PROT_READ | PROT_WRITE, MAP_SHARED);
    each("shared, read-only", PROT_READ, MAP_SHARED);
    each("shared, not reserved", PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE);

    map(PROT_READ, MAP_PRIVATE);
    start();
    protect(PROT_READ | PROT_WRITE);
    grown("made writable");
    start();
    protect(PROT_READ);
    grown("made read-only again, untouched");
    protect(PROT_READ | PROT_WRITE);
    for (int i = 0; i < TIMES; i++)
        at[i][0] = 1;
    start();
    protect(PROT_READ);
    grown("made read-only again, touched");
    fflush(stdout);
    start();
    if (!fork()) {
        grown("a child");
        start();
        unmap();
        grown("the child without them");
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    grown("the child gone");
    start();
    for (int i = 0; i < TIMES; i++)
        mmap(at[i], SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    grown("replaced by what does not count");
    start();
    for (int i = 0; i < TIMES; i++)
        mmap(at[i], SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    grown("replaced by what counts");
    start();
    for (int i = 0; i < TIMES; i++)
        munmap(at[i] + SIZE / 2, SIZE / 2);
    grown("halved");
    start();
    for (int i = 0; i < TIMES; i++)
        if (mremap(at[i], SIZE / 2, SIZE, 0) != at[i])
            at[i] = mremap(at[i], SIZE / 2, SIZE, MREMAP_MAYMOVE);
    grown("grown again");
    start();
    unmap();
    grown("unmapped");

    int ids[TIMES];
    start();
    for (int i = 0; i < TIMES; i++)
        ids[i] = shmget(IPC_PRIVATE, SIZE, 0600);
    grown("System V segments");
    start();
    at[0] = shmat(ids[0], NULL, 0);
    grown("attached");
    shmdt(at[0]);
    start();
    for (int i = 0; i < TIMES; i++)
        shmctl(ids[i], IPC_RMID, NULL);
    grown("removed");
    start();
    for (int i = 0; i < TIMES; i++)
        ids[i] = shmget(IPC_PRIVATE, SIZE, 0600 | SHM_NORESERVE);
    grown("System V segments, not reserved");
    for (int i = 0; i < TIMES; i++)
        shmctl(ids[i], IPC_RMID, NULL);
    fflush(stdout);
    start();
    if (!fork()) {
        map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
        kill(getpid(), SIGKILL);
    }
    wait(NULL);
    grown("of a killed child");
    return 0;
}
