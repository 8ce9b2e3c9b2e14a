"""System V semaphores.  Linux: ipc/sem.c."""

from struct import Struct
from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ipc import IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, perm_size, unpack_perm, unpack_perm_old
from minikernel.abi.sem import (
    GETALL,
    GETNCNT,
    GETPID,
    GETVAL,
    GETZCNT,
    SEM_INFO,
    SEM_STAT,
    SEM_STAT_ANY,
    SEM_UNDO,
    SEMBUF,
    SEMVMX,
    SETALL,
    SETVAL,
    Sembuf,
    pack_seminfo,
    semid_ds_size,
)
from minikernel.ipc.sem import Sem, SemArray, SemWaiter, UndoList
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.syscalls.args import Hex, Int, IpcKey, Ptr, SemctlCmd, Timespec64In, TimespecIn, UInt, ULong
from minikernel.syscalls.entry_types import Entry, Result, full
from minikernel.syscalls.sigaction import call_abi
from minikernel.syscalls.time import read_timespec
from minikernel.task.task import SysvSem, Task
from minikernel.wait import Interrupted

_SHORT: Final = Struct("<H")


def sys_semget(kernel: Kernel, task: Task, key: IpcKey, nsems: Int, semflg: Hex) -> int:
    """semget(2)."""
    return kernel.sem.get(key, nsems, semflg, task.cred)


def sys_semop(kernel: Kernel, task: Task, semid: Int, sops: Ptr, nsops: UInt) -> Result:
    """semop(2)."""
    return semtimedop(kernel, task, semid, sops, nsops, None)


def sys_semtimedop(
    kernel: Kernel, task: Task, semid: Int, sops: Ptr, nsops: UInt, timeout: TimespecIn
) -> Result:  # fmt: skip
    """semtimedop(2)."""
    limit = read_timespec(task, timeout, wide=False) if timeout else None
    return semtimedop(kernel, task, semid, sops, nsops, limit)


def sys_semtimedop_time64(
    kernel: Kernel, task: Task, semid: Int, sops: Ptr, nsops: UInt, timeout: Timespec64In
) -> Result:  # fmt: skip
    """semtimedop(2), i386, with times of 64 bits."""
    limit = read_timespec(task, timeout, wide=True) if timeout else None
    return semtimedop(kernel, task, semid, sops, nsops, limit)


def semtimedop(kernel: Kernel, task: Task, semid: int, sops: int, nsops: int, timeout_ns: int | None) -> Result:
    """do_semtimedop; *timeout_ns* None: for ever.

    Errors:
        EINVAL, E2BIG, EFAULT, EFBIG, EACCES, EAGAIN, ERANGE, ENOMEM; EIDRM, EINTR.
    """
    sem = kernel.sem
    if nsops < 1 or semid < 0:
        raise LinuxError(Errno.EINVAL, "semop: nothing, or no set")
    if nsops > sem.limits[2]:
        raise LinuxError(Errno.E2BIG, "semop: kernel.sem")
    data = copy_from_user(task.mm, sops, nsops * SEMBUF.size)
    operations = [Sembuf(*fields) for fields in SEMBUF.iter_unpack(data)]
    undos = _undo_list(sem, task) if any(each.flags & SEM_UNDO for each in operations) else None
    waiter = sem.operate(semid, operations, undos, task.cred)
    if waiter is None:
        return 0
    return _wait(sem, semid, waiter, timeout_ns)


def _undo_list(sem: Sem, task: Task) -> UndoList:
    """Where *task* and those who share it keep what is to be taken back (get_undo_list)."""
    task.sysvsem = task.sysvsem or SysvSem()
    if not isinstance(task.sysvsem.undo, UndoList):
        task.sysvsem.undo = UndoList(sem)
    return task.sysvsem.undo


async def _wait(sem: Sem, semid: int, waiter: SemWaiter, timeout_ns: int | None) -> int:
    """Wait until somebody has done it for us."""
    clock = sem.services.clock
    deadline = None if timeout_ns is None else clock.now_ns() + timeout_ns
    try:
        while waiter.outcome is None:
            left = None if deadline is None else deadline - clock.now_ns()
            if (left is None or left > 0) and await waiter.queue.wait(left):
                continue
            if waiter.outcome is None:
                sem.give_up(semid, waiter)
                raise LinuxError(Errno.EAGAIN, "semtimedop: the time is over")
    except Interrupted:
        if waiter.outcome is None:
            sem.give_up(semid, waiter)
            raise LinuxError(Errno.EINTR, "semop: a signal came") from None
    except GeneratorExit:  # the task ends here
        if waiter.outcome is None:
            sem.give_up(semid, waiter)
        raise
    if isinstance(waiter.outcome, LinuxError):
        raise waiter.outcome
    return 0


def sys_semctl(kernel: Kernel, task: Task, semid: Int, semnum: Int, cmd: SemctlCmd, arg: ULong) -> int:
    """semctl(2)."""
    return semctl(kernel, task, semid, semnum, cmd, arg, old=False)


def semctl(kernel: Kernel, task: Task, semid: int, semnum: int, cmd: int, arg: int, *, old: bool) -> int:
    """ksys_semctl, ksys_old_semctl; *old*: the structures are those of i386's first semctl."""
    sem, abi, cred = kernel.sem, call_abi(task), task.cred
    if semid < 0:
        raise LinuxError(Errno.EINVAL, "semctl: negative")
    if cmd in {IPC_INFO, SEM_INFO}:
        copy_to_user(task.mm, arg, pack_seminfo(len(sem.ids) if cmd == SEM_INFO else None, sem.used, sem.limits))
        return max(sem.ids.max_index, 0)
    if cmd in {IPC_STAT, SEM_STAT, SEM_STAT_ANY}:
        array = sem.stat(semid, cred, by_index=cmd != IPC_STAT, anybody=cmd == SEM_STAT_ANY)
        status = array.status()
        copy_to_user(task.mm, arg, status.pack_old() if old else status.pack(abi))
        return 0 if cmd == IPC_STAT else array.perm.id
    if cmd == SETVAL:
        value = (arg & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)
        if not 0 <= value <= SEMVMX:
            raise LinuxError(Errno.ERANGE, "semctl: a value")
        array = sem.ids.obtain_check(semid)
        _number(array, semnum)
        sem.set_values(sem.obtain(semid, cred, write=True), {semnum: value})
        return 0
    if cmd in {GETALL, SETALL, GETVAL, GETPID, GETNCNT, GETZCNT}:
        return _values(sem, task, semid, semnum, cmd, arg)
    if cmd == IPC_SET:
        data = copy_from_user(task.mm, arg, semid_ds_size(abi, perm_size(abi), old=old))
        sem.set_perm(semid, unpack_perm_old(data) if old else unpack_perm(abi, data), cred)
    elif cmd == IPC_RMID:
        sem.remove(semid, cred)
    else:
        raise LinuxError(Errno.EINVAL, f"semctl: command {cmd}")
    return 0


def _values(sem: Sem, task: Task, semid: int, semnum: int, cmd: int, arg: int) -> int:
    """semctl_main."""
    array = sem.obtain(semid, task.cred, write=cmd == SETALL)
    count = len(array.semaphores)
    if cmd == GETALL:
        copy_to_user(task.mm, arg, b"".join(_SHORT.pack(each.value) for each in array.semaphores))
        return 0
    if cmd == SETALL:
        data = copy_from_user(task.mm, arg, count * _SHORT.size)
        sem.set_values(array, {number: value for number, (value,) in enumerate(_SHORT.iter_unpack(data))})
        return 0
    semaphore = array.semaphores[_number(array, semnum)]
    if cmd == GETVAL:
        return semaphore.value
    if cmd == GETPID:
        return semaphore.pid
    return array.count(semnum, for_zero=cmd == GETZCNT)


def _number(array: SemArray, semnum: int) -> int:
    """*semnum*, if the set has it.  Errors: EINVAL."""
    if not 0 <= semnum < len(array.semaphores):
        raise LinuxError(Errno.EINVAL, f"semctl: no semaphore {semnum}")
    return semnum


ENTRIES: tuple[Entry, ...] = (
    full("semget", sys_semget),
    full("semop", sys_semop),
    full("semtimedop", sys_semtimedop),
    full("semtimedop_time64", sys_semtimedop_time64, abi="i386"),
    full("semctl", sys_semctl),
)
