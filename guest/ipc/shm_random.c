// Random sequences of shmat, shmdt, mprotect, munmap, mremap, mlock and IPC_RMID in a small arena: results, the
// mappings with their rights and offsets, and nattch after each.
#include "guest.h"
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/wait.h>

#define ARENA 24 /* pages */
#define SEGMENTS 3
#define STEPS 900

static char *arena;
static int ids[SEGMENTS];
static uint32_t noise = 1;

static int below(int n)
{
    return next_random(&noise) % n;
}

static void mappings(void)
{
    char line[256], rights[8];
    unsigned long from, to, offset, inode;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof(line), maps)) {
        sscanf(line, "%lx-%lx %7s %lx %*s %lu", &from, &to, rights, &offset, &inode);
        if (from < (unsigned long)arena || from >= (unsigned long)arena + ARENA * PAGE)
            continue;
        int which = 0;
        while (which < SEGMENTS && ids[which] != (int)inode)
            which++;
        printf(" %ld-%ld%s/%d+%lu", (long)(from - (unsigned long)arena) / (long)PAGE,
               (long)(to - (unsigned long)arena) / (long)PAGE, rights, which, offset / PAGE);
    }
    fclose(maps);
}

static long place(void *p)
{
    if (p == (void *)-1)
        return -errno;
    long page = ((char *)p - arena) / (long)PAGE;
    if (page >= 0 && page < ARENA)
        return page;
    munmap(p, 4 * PAGE);
    return 1000;
}

static void step(void)
{
    int at = below(ARENA), n = 1 + below(5), which = below(SEGMENTS);
    char *p = arena + at * PAGE;
    long result = 0;
    switch (below(9)) {
    case 0:
    case 1:
    case 2:
        printf("shmat %d at %d", which, at);
        result = place(shmat(ids[which], p, (below(2) ? SHM_REMAP : 0) | (below(4) ? 0 : SHM_RDONLY)));
        break;
    case 3:
        printf("shmdt %d", at);
        result = shmdt(p) ? -errno : 0;
        break;
    case 4:
    case 5: {
        static const int rights[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
        printf("mprotect %d %d", at, n);
        result = mprotect(p, n * PAGE, rights[below(3)]) ? -errno : 0;
        break;
    }
    case 6:
        printf("munmap %d %d", at, n);
        result = munmap(p, n * PAGE) ? -errno : 0;
        break;
    case 7: {
        int to = below(ARENA), flags = below(2) ? MREMAP_MAYMOVE | MREMAP_FIXED : 0, more = 1 + below(5);
        printf("mremap %d %d to %d %d", at, n, to, more);
        if (flags) /* one size: what both old and new kernels do with one mapping */
            more = n = 1;
        result = place(mremap(p, n * PAGE, more * PAGE, flags, arena + to * PAGE));
        break;
    }
    case 8:
        printf("mlock %d %d", at, n);
        result = (below(2) ? mlock(p, n * PAGE) : munlock(p, n * PAGE)) ? -errno : 0;
        break;
    }
    printf(" = %ld:", result);
    mappings();
    for (int i = 0; i < SEGMENTS; i++) {
        struct shmid_ds ds;
        printf(" %ld", shmctl(ids[i], IPC_STAT, &ds) ? -errno : (long)ds.shm_nattch);
    }
    puts("");
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    arena = (char *)map_pages(ARENA + 64, PROT_NONE) + 32 * PAGE;
    munmap(arena - 32 * PAGE, (ARENA + 64) * PAGE);
    for (int i = 0; i < SEGMENTS; i++)
        ids[i] = shmget(IPC_PRIVATE, (2 + 2 * i) * PAGE - 5, 0600);
    for (int i = 0; i < STEPS; i++) {
        step();
        if (i % 100 != 99)
            continue;
        fflush(stdout);
        if (!fork()) {
            for (int j = 0; j < 10; j++)
                step();
            fflush(stdout);
            _exit(0);
        }
        wait(NULL);
    }
    for (int i = 0; i < SEGMENTS; i++)
        SHOW(shmctl(ids[i], IPC_RMID, NULL));
    munmap(arena, ARENA * PAGE);
    for (int i = 0; i < SEGMENTS; i++) {
        struct shmid_ds ds;
        SHOW(shmctl(ids[i], IPC_STAT, &ds));
    }
    return 0;
}
