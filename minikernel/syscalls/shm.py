"""System V shared memory.  Linux: ipc/shm.c."""

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ipc import (
    IPC_INFO,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    unpack_perm,
    unpack_perm_old,
)
from minikernel.abi.resource import RLIMIT_MEMLOCK
from minikernel.abi.shm import SHM_INFO, SHM_LOCK, SHM_STAT, SHM_STAT_ANY, SHM_UNLOCK, shmid_ds_size
from minikernel.ipc.attach import do_shmat, do_shmdt
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.syscalls.args import Int, IpcKey, Ptr, ShmatFlags, ShmctlCmd, ShmgetFlags, Size
from minikernel.syscalls.entry_types import Entry, full
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.task import Task


def sys_shmget(kernel: Kernel, task: Task, key: IpcKey, size: Size, shmflg: ShmgetFlags) -> int:
    """shmget(2)."""
    return kernel.shm.get(key, size, shmflg, task.cred, task)


def sys_shmat(kernel: Kernel, task: Task, shmid: Int, shmaddr: Ptr, shmflg: ShmatFlags) -> int:
    """shmat(2)."""
    return do_shmat(kernel.shm, task.mm, task.cred, shmid, shmaddr, shmflg)


def sys_shmdt(_kernel: Kernel, task: Task, shmaddr: Ptr) -> int:
    """shmdt(2)."""
    do_shmdt(task.mm, shmaddr)
    return 0


def sys_shmctl(kernel: Kernel, task: Task, shmid: Int, cmd: ShmctlCmd, buf: Ptr) -> int:
    """shmctl(2)."""
    return shmctl(kernel, task, shmid, cmd, buf, old=False)


def shmctl(kernel: Kernel, task: Task, shmid: int, cmd: int, buf: int, *, old: bool) -> int:
    """ksys_shmctl, ksys_old_shmctl; *old*: the structures are those of i386's first shmctl."""
    shm, abi, cred = kernel.shm, call_abi(task), task.cred
    if cmd < 0 or shmid < 0:
        raise LinuxError(Errno.EINVAL, "shmctl: negative")
    if cmd == IPC_INFO:
        compat = kernel.cpu.long_mode and abi.word == 4
        copy_to_user(task.mm, buf, shm.limits().pack(abi, compat=compat, old=old))
        return max(shm.ids.max_index, 0)
    if cmd == SHM_INFO:
        copy_to_user(task.mm, buf, shm.use().pack(abi))
        return max(shm.ids.max_index, 0)
    if cmd in {IPC_STAT, SHM_STAT, SHM_STAT_ANY}:
        found = shm.stat(shmid, cred, by_index=cmd != IPC_STAT, anybody=cmd == SHM_STAT_ANY)
        status = found.status()
        copy_to_user(task.mm, buf, status.pack_old() if old else status.pack(abi))
        return 0 if cmd == IPC_STAT else found.perm.id
    if cmd == IPC_SET:
        data = copy_from_user(task.mm, buf, shmid_ds_size(abi, old=old))
        shm.set_perm(shmid, unpack_perm_old(data) if old else unpack_perm(abi, data), cred)
    elif cmd == IPC_RMID:
        shm.remove(shmid, cred)
    elif cmd == SHM_LOCK:
        shm.lock(shmid, cred, task.rlimits[RLIMIT_MEMLOCK][0])
    elif cmd == SHM_UNLOCK:
        shm.unlock(shmid, cred)
    else:
        raise LinuxError(Errno.EINVAL, f"shmctl: command {cmd}")
    return 0


ENTRIES: tuple[Entry, ...] = (
    full("shmget", sys_shmget, "SHM_HUGETLB: ENOMEM, as with an empty pool"),
    full("shmat", sys_shmat),
    full("shmdt", sys_shmdt),
    full("shmctl", sys_shmctl),
)
