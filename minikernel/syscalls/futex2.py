"""futex_waitv(2), futex_wake, futex_wait, futex_requeue: one call each.  Linux: kernel/futex/syscalls.c."""

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.futex import (
    FUTEX2_NUMA,
    FUTEX2_PRIVATE,
    FUTEX2_SIZE_MASK,
    FUTEX2_SIZE_U32,
    FUTEX_BITSET_MATCH_ANY,
    FUTEX_WAITV_MAX,
    WAITV,
)
from minikernel.abi.time import CLOCK_MONOTONIC, CLOCK_REALTIME
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, get_user
from minikernel.syscalls.args import Clock, Int, Ptr, Timespec64In, UInt, ULong
from minikernel.syscalls.entry_types import Entry, Result, partial
from minikernel.syscalls.time import read_timespec
from minikernel.task.futex import FutexWaiter, enqueue, futex_key, requeue, wait_for, wake
from minikernel.task.task import Task
from minikernel.wait import Interrupted, WaitQueue

_KNOWN = FUTEX2_SIZE_MASK | FUTEX2_NUMA | FUTEX2_PRIVATE


def _check_flags(flags: int) -> None:
    """Errors: EINVAL: not 32 bits wide, a NUMA futex, or unknown flags."""
    if flags & ~_KNOWN or flags & FUTEX2_SIZE_MASK != FUTEX2_SIZE_U32 or flags & FUTEX2_NUMA:
        raise LinuxError(Errno.EINVAL, f"futex: flags {flags:#x}")


def _check_value(task: Task, address: int, value: int) -> None:
    if get_user(task.mm, address, 4) != value & 0xFFFF_FFFF:
        raise LinuxError(Errno.EAGAIN, "futex: the word has changed")


def _read_waitv(task: Task, address: int, count: int) -> list[tuple[int, int, int]]:
    """(value, address, flags) of each futex (futex_parse_waitv).  Errors: EFAULT, EINVAL."""
    parsed = []
    for at in range(count):
        val, uaddr, flags, reserved = WAITV.unpack(copy_from_user(task.mm, address + at * WAITV.size, WAITV.size))
        if reserved:
            raise LinuxError(Errno.EINVAL, "futex_waitv: a reserved field")
        _check_flags(flags)
        parsed.append((val, uaddr, flags))
    return parsed


def _deadline(task: Task, timeout: int, clockid: int) -> int | None:
    """The absolute end in ns of its clock.  Errors: EINVAL, EFAULT."""
    if not timeout:
        return None
    if clockid not in {CLOCK_REALTIME, CLOCK_MONOTONIC}:
        raise LinuxError(Errno.EINVAL, "futex: clock")
    return read_timespec(task, timeout, wide=True)


async def _wait(kernel: Kernel, waiters: list[FutexWaiter], deadline: int | None, *, realtime: bool) -> int:
    try:
        return await wait_for(kernel, waiters, deadline, realtime=realtime)
    except Interrupted:
        raise LinuxError(Errno.ERESTARTSYS, "futex: interrupted") from None


def sys_futex_waitv(
    kernel: Kernel, task: Task, waiters: Ptr, nr_futexes: UInt, flags: UInt, timeout: Timespec64In, clockid: Clock
) -> Result:
    """futex_waitv(2): the index of one that was woken; the timeout is absolute."""
    if flags or not 0 < nr_futexes <= FUTEX_WAITV_MAX or not waiters:
        raise LinuxError(Errno.EINVAL, "futex_waitv")
    deadline = _deadline(task, timeout, clockid)
    parsed = _read_waitv(task, waiters, nr_futexes)
    keys = [futex_key(task.mm, uaddr, shared=not flag & FUTEX2_PRIVATE) for _, uaddr, flag in parsed]
    for value, uaddr, _ in parsed:
        _check_value(task, uaddr, value)
    queue = WaitQueue()
    lined_up = [FutexWaiter(key, FUTEX_BITSET_MATCH_ANY, queue) for key in keys]
    for waiter in lined_up:
        enqueue(kernel, waiter)
    return _wait(kernel, lined_up, deadline, realtime=bool(timeout) and clockid == CLOCK_REALTIME)


def sys_futex_wake(kernel: Kernel, task: Task, uaddr: Ptr, mask: ULong, nr: Int, flags: UInt) -> int:
    """futex_wake(2): up to *nr*, and none for 0."""
    _check_flags(flags)
    if mask >> 32 or not mask:
        raise LinuxError(Errno.EINVAL, "futex_wake: the mask has 32 bits, and one of them is set")
    key = futex_key(task.mm, uaddr, shared=not flags & FUTEX2_PRIVATE)
    return wake(kernel, key, nr, mask) if nr > 0 else 0


def sys_futex_wait(
    kernel: Kernel, task: Task, uaddr: Ptr, val: ULong, mask: ULong, flags: UInt, timeout: Timespec64In, clockid: Clock
) -> Result:
    """futex_wait(2): the timeout is absolute."""
    _check_flags(flags)
    if mask >> 32 or val >> 32 or not mask:
        raise LinuxError(Errno.EINVAL, "futex_wait: value and mask have 32 bits")
    deadline = _deadline(task, timeout, clockid)
    key = futex_key(task.mm, uaddr, shared=not flags & FUTEX2_PRIVATE)
    _check_value(task, uaddr, val)
    waiter = FutexWaiter(key, mask, WaitQueue())
    enqueue(kernel, waiter)
    return _wait(kernel, [waiter], deadline, realtime=bool(timeout) and clockid == CLOCK_REALTIME)


def sys_futex_requeue(kernel: Kernel, task: Task, waiters: Ptr, flags: UInt, nr_wake: Int, nr_requeue: Int) -> int:
    """futex_requeue(2): two futexes, the first with the value it must have."""
    if flags or not waiters:
        raise LinuxError(Errno.EINVAL, "futex_requeue")
    parsed = _read_waitv(task, waiters, 2)
    if nr_wake < 0 or nr_requeue < 0:
        raise LinuxError(Errno.EINVAL, "futex_requeue: negative count")
    source, target = (futex_key(task.mm, uaddr, shared=not flag & FUTEX2_PRIVATE) for _, uaddr, flag in parsed)
    _check_value(task, parsed[0][1], parsed[0][0])
    return requeue(kernel, source, target, nr_wake, nr_requeue)


_NOTE = "32-bit futexes, no NUMA"
ENTRIES: tuple[Entry, ...] = (
    partial("futex_waitv", sys_futex_waitv, _NOTE),
    partial("futex_wake", sys_futex_wake, _NOTE),
    partial("futex_wait", sys_futex_wait, _NOTE),
    partial("futex_requeue", sys_futex_requeue, _NOTE),
)
