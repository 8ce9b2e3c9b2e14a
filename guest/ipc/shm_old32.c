// guest: arch=i386
// i386's ipc(2), with the wide structures and those of the first Linux, and the direct calls of Linux 5.1.
#include "guest.h"
#include <sys/ipc.h>
#include <sys/shm.h>

struct old_ds {
    int key;
    unsigned short uid, gid, cuid, cgid, mode, seq;
    int segsz;
    long atime, dtime, ctime;
    unsigned short cpid, lpid, nattch, unused;
    void *unused2, *unused3;
};

#define IPC(call, first, second, third, ptr) syscall(SYS_ipc, call, first, second, third, ptr, 0)

int main(void)
{
    unsigned long where = 0;
    int id = IPC(23, IPC_PRIVATE, 5000, 0640 | IPC_CREAT, NULL);
    CHECK(id >= 0);
    SHOW(IPC(21, id, 0, &where, NULL));
    poke((void *)where, 7);
    SHOW(IPC(1 << 16 | 21, id, 0, &where, NULL));
    SHOW(IPC(21, id, 0, 8, NULL));

    struct old_ds old;
    memset(&old, 0xff, sizeof(old));
    SHOW(IPC(24, id, IPC_STAT, 0, &old));
    printf("mode %o size %d nattch %d\n", old.mode, old.segsz, old.nattch);
    CHECK(old.uid == geteuid() && old.cgid == getegid() && old.cpid == (unsigned short)getpid());
    CHECK(old.atime && !old.dtime && old.ctime && old.key == 0 && old.seq == id >> 15);
    old.mode = 0600;
    old.gid = 77;
    SHOW(IPC(24, id, IPC_SET, 0, &old));
    old.uid = -1;
    SHOW(IPC(24, id, IPC_SET, 0, &old));
    struct shmid_ds ds;
    SHOW(IPC(24, id, IPC_STAT | 0x100, 0, &ds));
    printf("mode %o gid %d size %lu nattch %lu\n", ds.shm_perm.mode, ds.shm_perm.gid, (long)ds.shm_segsz,
           (long)ds.shm_nattch);
    SHOW(IPC(24, id & 0x7fff, SHM_STAT | 0x100, 0, &ds) == id);
    int info[16];
    memset(info, 0x55, sizeof(info));
    CHECK(IPC(24, 0, IPC_INFO, 0, info) >= 0);
    printf("old shminfo: max %d min %d, behind it %x\n", info[0], info[1], info[5]);
    memset(info, 0x55, sizeof(info));
    CHECK(IPC(24, 0, IPC_INFO | 0x100, 0, info) >= 0);
    printf("shminfo64: min %d, behind it %x %x\n", info[1], info[8], info[9]);
    CHECK(IPC(24, 0, SHM_INFO | 0x100, 0, info) >= 0);
    SHOW(IPC(24, id, 55, 0, info));

    SHOW(IPC(22, 0, 0, 0, where));
    SHOW(IPC(22, 0, 0, 0, where));
    SHOW(IPC(77, 0, 0, 0, 0));

    SHOW(syscall(396, id, IPC_STAT, &ds));
    SHOW(syscall(396, id, IPC_STAT | 0x100, &ds));
    CHECK(syscall(395, IPC_PRIVATE, 0, 0600) == -1 && errno == EINVAL);
    char *at = (char *)syscall(397, id, NULL, SHM_RDONLY);
    CHECK(peek(at) == 7);
    SHOW(syscall(398, at));
    SHOW(IPC(24, id, IPC_RMID, 0, NULL));
    SHOW(IPC(24, id, IPC_RMID | 0x100, 0, NULL));
    return 0;
}
