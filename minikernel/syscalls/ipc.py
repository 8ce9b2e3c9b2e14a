"""i386's one call for all of System V IPC.  Linux: ipc/syscall.c."""

from minikernel.abi import ipc as i
from minikernel.abi.errno import Errno, LinuxError
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import get_user, put_user
from minikernel.syscalls import msg, sem, shm
from minikernel.syscalls.args import Hex, Int, Ptr
from minikernel.syscalls.entry_types import Entry, Result, full
from minikernel.syscalls.time import read_timespec
from minikernel.task.task import Task


def sys_ipc(
    kernel: Kernel, task: Task, call: Hex, first: Int, second: Int, third: Hex, ptr: Ptr, fifth: Hex
) -> Result:  # fmt: skip
    """ipc(2) (ksys_ipc, compat_ksys_ipc).

    Errors:
        ENOSYS: no such call.
    """
    version, call = call >> 16, call & 0xFFFF
    if call in {i.SEMOP, i.SEMTIMEDOP}:
        limit = read_timespec(task, fifth, wide=False) if call == i.SEMTIMEDOP and fifth else None
        return sem.semtimedop(kernel, task, first, ptr, second & 0xFFFF_FFFF, limit)
    if call == i.SEMGET:
        return sem.sys_semget(kernel, task, first, second, third)
    if call == i.SEMCTL:
        if not ptr:
            raise LinuxError(Errno.EINVAL, "ipc: a SEMCTL without its argument")
        argument = get_user(task.mm, ptr, 4)
        return sem.semctl(kernel, task, first, second, third & ~i.IPC_64, argument, old=not third & i.IPC_64)
    if call == i.MSGSND:
        return msg.sys_msgsnd(kernel, task, first, ptr, second & 0xFFFF_FFFF, third)
    if call == i.MSGRCV:
        return _msgrcv(kernel, task, version, (first, second, third, ptr, fifth))
    if call == i.MSGGET:
        return msg.sys_msgget(kernel, task, first, second)
    if call == i.MSGCTL:
        return msg.msgctl(kernel, task, first, second & ~i.IPC_64, ptr, old=not second & i.IPC_64)
    return _shm_call(kernel, task, call, version, (first, second, third, ptr))


def _msgrcv(kernel: Kernel, task: Task, version: int, arguments: tuple[int, int, int, int, int]) -> Result:
    """MSGRCV; version 0 has the buffer and the type in a struct ipc_kludge."""
    queue, size, flags, ptr, kind = arguments
    if version:
        return msg.sys_msgrcv(kernel, task, queue, ptr, size & 0xFFFF_FFFF, _signed(kind), flags)
    if not ptr:
        raise LinuxError(Errno.EINVAL, "ipc: a MSGRCV without its argument")
    buffer, wanted = get_user(task.mm, ptr, 4), get_user(task.mm, ptr + 4, 4)
    return msg.sys_msgrcv(kernel, task, queue, buffer, size & 0xFFFF_FFFF, _signed(wanted), flags)


def _shm_call(kernel: Kernel, task: Task, call: int, version: int, arguments: tuple[int, int, int, int]) -> int:
    first, second, third, ptr = arguments
    if call == i.SHMGET:
        return shm.sys_shmget(kernel, task, first, second & 0xFFFF_FFFF, _signed(third))
    if call == i.SHMDT:
        return shm.sys_shmdt(kernel, task, ptr)
    if call == i.SHMCTL:
        return shm.shmctl(kernel, task, first, second & ~i.IPC_64, ptr, old=not second & i.IPC_64)
    if call == i.SHMAT:
        if version == 1:
            raise LinuxError(Errno.EINVAL, "ipc: a SHMAT of iBCS2")
        where = shm.sys_shmat(kernel, task, first, ptr, second)
        put_user(task.mm, third, where, 4)
        return 0
    raise LinuxError(Errno.ENOSYS, f"ipc: no call {call}")


def _signed(value: int) -> int:
    return (value ^ 1 << 31) - (1 << 31)


ENTRIES: tuple[Entry, ...] = (full("ipc", sys_ipc, abi="i386"),)
