// System V shared memory, call by call: what each takes, and the errno of what it does not.
#include "guest.h"
#include <sys/ipc.h>
#include <sys/shm.h>

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif
#ifndef SHM_EXEC
#define SHM_EXEC 0100000
#endif

static key_t key;
static char *room, *at, *again; /* static: faults jump back */

static void getting(void)
{
    puts("-- shmget");
    SHOW(shmget(key, 4096, 0600));
    int id = shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0640);
    CHECK(id >= 0);
    SHOW(shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0640));
    CHECK(shmget(key, 0, 0) == id);
    CHECK(shmget(key, 5000, IPC_CREAT | 0600) == id);
    CHECK(shmget(key, 4999, IPC_EXCL) == id);
    SHOW(shmget(key, 5001, 0));
    SHOW(shmget(key, 8192, IPC_CREAT));
    SHOW(shmget(IPC_PRIVATE, 0, 0600));
    SHOW(shmget(key + 1, 0, IPC_CREAT | 0600));
    if (sizeof(long) == 8) /* of an i386 program's sizes, a 64-bit kernel takes every one */
        printf("a huge one: %d\n", shmget(IPC_PRIVATE, (size_t)-1, 0600));
    SHOW(shmget(IPC_PRIVATE, 4096, 0600 | SHM_HUGETLB | 13 << 26));
    SHOW(shmget(IPC_PRIVATE, 4096, 0600 | SHM_HUGETLB)); /* the pool is empty */
    SHOW(shmget(IPC_PRIVATE, 4096, 0600 | SHM_HUGETLB | 21 << 26));
    int other = shmget(IPC_PRIVATE, 1, 0600);
    CHECK(other >= 0 && other != id);
    SHOW(shmctl(other, IPC_RMID, NULL));
    SHOW(shmctl(other, IPC_RMID, NULL));
    SHOW(shmctl(id, IPC_RMID, NULL));
    SHOW(shmget(key, 0, 0));
}

static void attaching(void)
{
    puts("-- shmat, shmdt");
    int id = shmget(IPC_PRIVATE, 3 * PAGE, 0600);
    room = map_pages(16, PROT_READ | PROT_WRITE);
    munmap(room + 4 * PAGE, 12 * PAGE);
    SHOW_OK(shmat(-1, NULL, 0));
    SHOW_OK(shmat(0x7fffffff, NULL, 0));
    SHOW_OK(shmat(id, NULL, SHM_REMAP));
    SHOW_OK(shmat(id, room + 4 * PAGE + 8, 0));
    SHOW_OK(shmat(id, (void *)8, SHM_RND | SHM_REMAP));
    SHOW_OK(shmat(id, room, 0));
    SHOW_OK(shmat(id, room + 3 * PAGE, 0));
    at = shmat(id, room + 4 * PAGE + 8, SHM_RND);
    CHECK(at == room + 4 * PAGE);
    strcpy(at + PAGE, "hello");
    again = shmat(id, NULL, SHM_RDONLY);
    CHECK(again != at && !strcmp(again + PAGE, "hello"));
    SHOW_FAULT(again, poke(again, 1));
    SHOW(mprotect(again, PAGE, PROT_READ | PROT_WRITE));
    CHECK(shmat(id, room, SHM_REMAP) == room);
    CHECK(!strcmp(room + PAGE, "hello"));
    CHECK(peek(room + 3 * PAGE) == 0);
    SHOW(shmdt(room + 8));
    SHOW(shmdt(room + PAGE));
    SHOW(shmdt(room + 3 * PAGE));
    SHOW(shmdt(room));
    SHOW(shmdt(room));
    SHOW(shmdt(again));
    char *code = shmat(id, NULL, SHM_EXEC);
    code[0] = (char)0xc3;
    ((void (*)(void))code)();
    SHOW(shmdt(code));
    CHECK(!strcmp(at + PAGE, "hello"));
    SHOW(shmdt(at));
    SHOW(shmctl(id, IPC_RMID, NULL));
}

static void controlling(void)
{
    puts("-- shmctl");
    struct shmid_ds ds, zero = {0};
    int id = shmget(key, 5000, IPC_CREAT | 0640);
    memset(&ds, 0xff, sizeof(ds));
    SHOW(shmctl(id, IPC_STAT, &ds));
    CHECK(ds.shm_perm.__key == key);
    CHECK(ds.shm_perm.uid == geteuid() && ds.shm_perm.cuid == geteuid());
    CHECK(ds.shm_perm.gid == getegid() && ds.shm_perm.cgid == getegid());
    printf("mode %o size %lu nattch %lu\n", ds.shm_perm.mode, (long)ds.shm_segsz, (long)ds.shm_nattch);
    CHECK(ds.shm_cpid == getpid() && ds.shm_lpid == 0);
    CHECK(ds.shm_atime == 0 && ds.shm_dtime == 0 && ds.shm_ctime != 0);
    CHECK(ds.shm_perm.__seq == id >> 15);
    SHOW(syscall(SYS_shmctl, id, IPC_STAT, 8));
    SHOW(syscall(SYS_shmctl, id, IPC_SET, 8));
    SHOW(shmctl(-1, IPC_STAT, &ds));
    SHOW(shmctl(id + 0x8000, IPC_STAT, &ds));
    SHOW(shmctl(id, 99, &ds));
    SHOW(shmctl(id, -1, &ds));
    SHOW(shmctl(0x7fffffff, IPC_RMID, NULL));
    CHECK(shmctl(id & 0x7fff, SHM_STAT, &ds) == id);
    CHECK(shmctl(id & 0x7fff, SHM_STAT_ANY, &ds) == id);
    SHOW(shmctl(0x7ffe, SHM_STAT, &ds));
    ds.shm_perm.mode = 07777;
    ds.shm_perm.gid = 1234;
    ds.shm_segsz = 1;
    SHOW(shmctl(id, IPC_SET, &ds));
    ds = zero;
    shmctl(id, IPC_STAT, &ds);
    printf("mode %o gid %d size %lu\n", ds.shm_perm.mode, ds.shm_perm.gid, (long)ds.shm_segsz);
    ds.shm_perm.uid = -1;
    SHOW(shmctl(id, IPC_SET, &ds));
    struct rlimit limit;
    getrlimit(RLIMIT_MEMLOCK, &limit);
    SHOW(shmctl(id, SHM_LOCK, NULL));
    SHOW(shmctl(id, SHM_LOCK, NULL));
    shmctl(id, IPC_STAT, &ds);
    printf("mode %o\n", ds.shm_perm.mode);
    SHOW(shmctl(id, SHM_UNLOCK, NULL));
    SHOW(shmctl(id, SHM_UNLOCK, NULL));
    shmctl(id, IPC_STAT, &ds);
    printf("mode %o\n", ds.shm_perm.mode);

    struct shminfo info;
    CHECK(shmctl(0, IPC_INFO, (void *)&info) >= (id & 0x7fff));
    printf("shmmin %ld", (long)info.shmmin);
    CHECK(info.shmmni == info.shmseg);
    struct shm_info use;
    CHECK(shmctl(0, SHM_INFO, (void *)&use) >= (id & 0x7fff));
    CHECK(use.used_ids >= 1 && use.shm_tot >= 2);
    SHOW(syscall(SYS_shmctl, 0, IPC_INFO, 8));
    SHOW(shmctl(id, IPC_RMID, NULL));
}

int main(void)
{
    catch_faults(0);
    key = 0x47000000 + getpid() * 4;
    getting();
    attaching();
    controlling();
    return 0;
}
