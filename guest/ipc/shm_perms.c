// Who may do what with whose segment: modes, owner, creator, group, capabilities.
#include "guest.h"
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <grp.h>

static key_t key;
static int id;

static void attempts(const char *who)
{
    struct shmid_ds ds = {0};
    printf("-- %s\n", who);
    SHOW_OK(shmget(key, 0, 0));
    SHOW_OK(shmget(key, 0, 0444));
    SHOW_OK(shmget(key, 0, 0600));
    SHOW_OK(shmget(key, 0, 0004));
    SHOW_OK(shmat(id, NULL, SHM_RDONLY));
    SHOW_OK(shmat(id, NULL, 0));
    SHOW_OK(shmat(id, NULL, SHM_RDONLY | 0100000));
    int stat = SHOW(shmctl(id, IPC_STAT, &ds));
    SHOW_OK(shmctl(id & 0x7fff, 13, &ds));
    SHOW_OK(shmctl(id & 0x7fff, 15, &ds));
    if (!stat)
        SHOW(shmctl(id, IPC_SET, &ds));
    SHOW(shmctl(id, SHM_LOCK, NULL));
    SHOW(shmctl(id, SHM_UNLOCK, NULL));
}

static void as(const char *who, int uid, int gid, int group)
{
    fflush(stdout);
    if (!fork()) {
        gid_t groups[] = {group};
        if (setgroups(group ? 1 : 0, groups) || setgid(gid) || setuid(uid))
            printf("not root: errno %d\n", errno);
        attempts(who);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
}

static void everybody(int mode)
{
    printf("== mode %o\n", mode);
    struct shmid_ds ds = {0};
    ds.shm_perm.uid = 1001;
    ds.shm_perm.gid = 2001;
    ds.shm_perm.mode = mode;
    SHOW(shmctl(id, IPC_SET, &ds));
    attempts("root");
    as("the owner", 1001, 5, 0);
    as("the group", 1002, 2001, 0);
    as("a supplementary group", 1002, 5, 2001);
    as("the creator's group", 1002, 0, 0);
    as("another", 1003, 5, 0);
}

int main(void)
{
    key = 0x49000000 + getpid();
    id = shmget(key, PAGE, IPC_CREAT | 0600);
    everybody(0600);
    everybody(0640);
    everybody(0444);
    everybody(0751);
    everybody(0000);
    fflush(stdout);
    if (!fork()) {
        setgid(5);
        setuid(1003);
        SHOW(shmctl(id, IPC_RMID, NULL));
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    SHOW(shmctl(id, IPC_RMID, NULL));

    puts("== RLIMIT_MEMLOCK of somebody who is not root");
    fflush(stdout);
    if (!fork()) {
        struct rlimit limit = {2 * PAGE, 2 * PAGE};
        setrlimit(RLIMIT_MEMLOCK, &limit);
        setgid(5);
        setuid(1003);
        int one = shmget(IPC_PRIVATE, PAGE + 1, 0600), two = shmget(IPC_PRIVATE, 1, 0600);
        SHOW(shmctl(one, SHM_LOCK, NULL));
        SHOW(shmctl(two, SHM_LOCK, NULL));
        SHOW(shmctl(one, SHM_UNLOCK, NULL));
        SHOW(shmctl(two, SHM_LOCK, NULL));
        SHOW(shmctl(one, SHM_LOCK, NULL));
        SHOW(shmctl(two, IPC_RMID, NULL));
        SHOW(shmctl(one, SHM_LOCK, NULL));
        limit.rlim_cur = 0;
        setrlimit(RLIMIT_MEMLOCK, &limit);
        SHOW(shmctl(one, SHM_LOCK, NULL));
        SHOW(shmctl(one, IPC_RMID, NULL));
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    return 0;
}
