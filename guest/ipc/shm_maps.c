// A segment in /proc: its name and inode number in maps, its line in sysvipc/shm, its pages beyond its size.
#include "guest.h"
#include <sys/ipc.h>
#include <sys/shm.h>

static int id;
static char *bigger; /* static: faults jump back */

static void maps_of(const char *at, size_t size)
{
    char line[512], rights[8], device[16], name[64] = "";
    unsigned long from, to, offset, inode;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof(line), maps)) {
        *name = 0;
        sscanf(line, "%lx-%lx %7s %lx %15s %lu %63[^\n]", &from, &to, rights, &offset, device, &inode, name);
        if (from < (unsigned long)at + size && to > (unsigned long)at)
            printf("%lu pages at +%lu %s offset %lu inode %s name %s\n", (to - from) / PAGE,
                   (from - (unsigned long)at) / PAGE, rights, offset, inode == id ? "is the id" : "is another", name);
    }
    fclose(maps);
}

static void sysvipc(void)
{
    char line[512];
    FILE *shm = fopen("/proc/sysvipc/shm", "r");
    fgets(line, sizeof(line), shm);
    char *words = line;
    for (char *word; (word = strsep(&words, " \n"));)
        if (*word)
            printf("%s ", word);
    puts("");
    while (fgets(line, sizeof(line), shm)) {
        long key, number, mode, size, cpid, lpid, nattch, uid, gid, cuid, cgid, atime, dtime, ctime, rss, swap;
        sscanf(line, "%ld %ld %lo %ld %ld %ld %ld %ld %ld %ld %ld %ld %ld %ld %ld %ld", &key, &number, &mode, &size,
               &cpid, &lpid, &nattch, &uid, &gid, &cuid, &cgid, &atime, &dtime, &ctime, &rss, &swap);
        if (number != id)
            continue;
        CHECK(cpid == getpid() && lpid == getpid() && uid == geteuid() && cgid == getegid());
        CHECK(atime && !dtime && ctime);
        printf("key %lx mode %lo size %ld nattch %ld rss %ld swap %ld\n", key, mode, size, nattch, rss, swap);
    }
    fclose(shm);
}

int main(void)
{
    catch_faults(0);
    id = shmget(IPC_PRIVATE, 2 * PAGE + 100, 0640);
    char *at = shmat(id, NULL, 0);
    maps_of(at, 3 * PAGE);
    poke(at, 1);
    poke(at + 2 * PAGE + 4000, 2);
    CHECK(peek(at + 2 * PAGE + 4000) == 2);
    sysvipc();
    bigger = mremap(at, 3 * PAGE, 5 * PAGE, MREMAP_MAYMOVE);
    maps_of(bigger, 5 * PAGE);
    SHOW_FAULT(bigger, peek(bigger + 3 * PAGE));
    SHOW(madvise(bigger, PAGE, MADV_REMOVE));
    CHECK(peek(bigger) == 0);
    SHOW(munmap(bigger, 5 * PAGE));
    char *read_only = shmat(id, NULL, SHM_RDONLY);
    maps_of(read_only, 3 * PAGE);
    CHECK(peek(read_only + 2 * PAGE + 4000) == 2);
    SHOW(madvise(read_only, PAGE, MADV_REMOVE));
    SHOW(shmctl(id, IPC_RMID, NULL));
    maps_of(read_only, 3 * PAGE);
    SHOW(remap_file_pages(read_only, PAGE, 0, 1, 0));
    char *writable = shmat(id, NULL, 0);
    SHOW(remap_file_pages(writable, PAGE, 0, 2, 0));
    CHECK(peek(writable + 4000) == 2);
    maps_of(writable, 3 * PAGE);
    SHOW(shmdt(writable));
    SHOW(shmdt(read_only));
    SHOW_OK(shmat(id, NULL, 0));
    return 0;
}
