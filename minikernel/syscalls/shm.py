"""System V shared memory, and i386's one call for all of System V IPC.  Linux: ipc/shm.c, ipc/syscall.c."""

from typing import Final

from minikernel.abi.abi import I386
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ipc import (
    IPC_64,
    IPC_INFO,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    MSGCTL,
    MSGGET,
    MSGRCV,
    MSGSND,
    SEMCTL,
    SEMGET,
    SEMOP,
    SEMTIMEDOP,
    SHMAT,
    SHMCTL,
    SHMDT,
    SHMGET,
    unpack_perm,
    unpack_perm_old,
)
from minikernel.abi.resource import RLIMIT_MEMLOCK
from minikernel.abi.shm import SHM_INFO, SHM_LOCK, SHM_STAT, SHM_STAT_ANY, SHM_UNLOCK, shmid_ds_size
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.ipc.attach import do_shmat, do_shmdt
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user, put_user
from minikernel.syscalls.args import Hex, Int, IpcKey, Ptr, ShmatFlags, ShmctlCmd, ShmgetFlags, Size
from minikernel.syscalls.entry_types import Entry, full, partial
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.task import Task

_NR_IPC: Final = NUMBERS[I386.name]["ipc"]
_SEM_AND_MSG: Final = (SEMOP, SEMGET, SEMCTL, SEMTIMEDOP, MSGSND, MSGRCV, MSGGET, MSGCTL)


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
    return _shmctl(kernel, task, shmid, cmd, buf, old=False)


def _shmctl(kernel: Kernel, task: Task, shmid: int, cmd: int, buf: int, *, old: bool) -> int:
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


def sys_ipc(kernel: Kernel, task: Task, call: Hex, first: Int, second: Int, third: Hex, ptr: Ptr, _fifth: Hex) -> int:
    """ipc(2), i386: the shared-memory calls (ksys_ipc, compat_ksys_ipc).

    Errors:
        ENOSYS: semaphores, messages, and what is neither.
    """
    version, call = call >> 16, call & 0xFFFF
    if call == SHMGET:
        return sys_shmget(kernel, task, first, second & 0xFFFF_FFFF, _signed(third))
    if call == SHMDT:
        return sys_shmdt(kernel, task, ptr)
    if call == SHMCTL:
        return _shmctl(kernel, task, first, second & ~IPC_64, ptr, old=not second & IPC_64)
    if call == SHMAT:
        if version == 1:
            raise LinuxError(Errno.EINVAL, "ipc: a SHMAT of iBCS2")
        where = sys_shmat(kernel, task, first, ptr, second)
        put_user(task.mm, third, where, 4)
        return 0
    if call in _SEM_AND_MSG:
        kernel.syscall_missing["i386", _NR_IPC] = "ipc (semaphores or messages)"
    raise LinuxError(Errno.ENOSYS, f"ipc: no call {call}")


def _signed(value: int) -> int:
    return (value ^ 1 << 31) - (1 << 31)


ENTRIES: tuple[Entry, ...] = (
    full("shmget", sys_shmget, "SHM_HUGETLB: ENOMEM, as with an empty pool"),
    full("shmat", sys_shmat),
    full("shmdt", sys_shmdt),
    full("shmctl", sys_shmctl),
    partial("ipc", sys_ipc, "shared memory; semaphores and messages are ENOSYS", abi="i386"),
)
