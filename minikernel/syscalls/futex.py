"""futex(2) and futex_waitv(2).  Linux: kernel/futex/syscalls.c, waitwake.c, requeue.c."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.futex import (
    FUTEX_BITSET_MATCH_ANY,
    FUTEX_CLOCK_REALTIME,
    FUTEX_CMP_REQUEUE,
    FUTEX_CMP_REQUEUE_PI,
    FUTEX_LOCK_PI,
    FUTEX_LOCK_PI2,
    FUTEX_PRIVATE_FLAG,
    FUTEX_REQUEUE,
    FUTEX_WAIT,
    FUTEX_WAIT_BITSET,
    FUTEX_WAIT_REQUEUE_PI,
    FUTEX_WAKE,
    FUTEX_WAKE_BITSET,
    FUTEX_WAKE_OP,
)
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import get_user, put_user
from minikernel.syscalls.args import FutexOp, Ptr, UInt, ULong
from minikernel.syscalls.entry_types import Entry, Result, full
from minikernel.syscalls.futex_pi import PI_OPERATIONS, cmp_requeue_pi, do_pi, wait_requeue_pi
from minikernel.syscalls.time import read_timespec
from minikernel.task.futex import FutexKey, FutexWaiter, enqueue, futex_key, requeue, wait_for, wake
from minikernel.task.task import Task
from minikernel.wait import Interrupted, WaitQueue

_TIMED: Final = (FUTEX_WAIT, FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI)
_REALTIME_OK: Final = (FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_LOCK_PI2)


def _int32(value: int) -> int:
    return ((value & 0xFFFF_FFFF) ^ 0x8000_0000) - 0x8000_0000


# ---- waiting


def _check_value(task: Task, address: int, value: int) -> None:
    """Errors: EAGAIN: the word at *address* is not *value*.  EFAULT."""
    if get_user(task.mm, address, 4) != value & 0xFFFF_FFFF:
        raise LinuxError(Errno.EAGAIN, "futex: the word has changed")


async def _wait(
    kernel: Kernel, task: Task, waiter: FutexWaiter, value: int, address: int, deadline: int | None, *, realtime: bool
) -> int:
    """The blocking part of FUTEX_WAIT (futex_wait, futex_wait_restart)."""
    try:
        await wait_for(kernel, [waiter], deadline, realtime=realtime)
    except Interrupted:
        if deadline is None:
            raise LinuxError(Errno.ERESTARTSYS, "futex: interrupted") from None
        task.restart = lambda: _wait_again(kernel, task, waiter, value, address, deadline, realtime=realtime)
        raise LinuxError(Errno.ERESTART_RESTARTBLOCK, "futex: interrupted") from None
    return 0


async def _wait_again(
    kernel: Kernel, task: Task, waiter: FutexWaiter, value: int, address: int, deadline: int, *, realtime: bool
) -> int:
    """What restart_syscall(2) continues: look at the word again, then wait until the same *deadline*."""
    _check_value(task, address, value)
    again = FutexWaiter(waiter.key, waiter.bitset, WaitQueue())
    enqueue(kernel, again)
    return await _wait(kernel, task, again, value, address, deadline, realtime=realtime)


def _futex_wait(
    kernel: Kernel, task: Task, key: FutexKey, address: int, value: int, deadline: int | None, bitset: int,
    *, realtime: bool,
) -> Coroutine[Any, Any, int]:  # fmt: skip
    if not bitset:
        raise LinuxError(Errno.EINVAL, "futex: an empty set of bits")
    _check_value(task, address, value)
    waiter = FutexWaiter(key, bitset, WaitQueue())
    enqueue(kernel, waiter)
    return _wait(kernel, task, waiter, value, address, deadline, realtime=realtime)


# ---- FUTEX_WAKE_OP

_OPERATIONS: Final[dict[int, Callable[[int, int], int]]] = {
    0: lambda _old, arg: arg,
    1: lambda old, arg: old + arg,
    2: lambda old, arg: old | arg,
    3: lambda old, arg: old & ~arg,
    4: lambda old, arg: old ^ arg,
}
_COMPARISONS: Final[dict[int, Callable[[int, int], bool]]] = {
    0: lambda old, arg: old == arg,
    1: lambda old, arg: old != arg,
    2: lambda old, arg: old < arg,
    3: lambda old, arg: old <= arg,
    4: lambda old, arg: old > arg,
    5: lambda old, arg: old >= arg,
}


def _sign12(value: int) -> int:
    return ((value & 0xFFF) ^ 0x800) - 0x800


def _atomic_op(task: Task, address: int, encoded: int) -> bool:
    """Change the word at *address* as *encoded* says; whether its old value compares (futex_atomic_op_inuser)."""
    operation, comparison = encoded >> 28 & 7, encoded >> 24 & 15
    argument, compared = _sign12(encoded >> 12), _sign12(encoded)
    if encoded >> 31 & 1:  # FUTEX_OP_OPARG_SHIFT
        argument = 1 << (argument & 31)
    if operation not in _OPERATIONS:
        raise LinuxError(Errno.ENOSYS, "futex: no such operation")
    old = _int32(get_user(task.mm, address, 4))
    put_user(task.mm, address, _OPERATIONS[operation](old, argument), 4)
    if comparison not in _COMPARISONS:
        raise LinuxError(Errno.ENOSYS, "futex: no such comparison")
    return _COMPARISONS[comparison](old, compared)


def _wake_op(kernel: Kernel, task: Task, keys: tuple[FutexKey, FutexKey], uaddr2: int, nrs: tuple[int, int],
             encoded: int) -> int:  # fmt: skip
    compares = _atomic_op(task, uaddr2, encoded)
    woken = wake(kernel, keys[0], max(nrs[0], 1))
    return woken + (wake(kernel, keys[1], max(nrs[1], 1)) if compares else 0)


# ---- the multiplexer


def _deadline(kernel: Kernel, task: Task, command: int, utime: int, *, wide: bool) -> int | None:
    """The end of the wait in ns of its clock; None: never.  Errors: EFAULT, EINVAL (futex_init_timeout)."""
    if command not in _TIMED or not utime:
        return None
    duration = read_timespec(task, utime, wide=wide)
    return kernel.clock.now_ns() + duration if command == FUTEX_WAIT else duration


def _do_futex(
    kernel: Kernel, task: Task, uaddr: int, op: int, val: int, deadline: int | None, val2: int, uaddr2: int, val3: int
) -> Result:
    """do_futex, kernel/futex/syscalls.c."""
    command = op & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
    shared, realtime = not op & FUTEX_PRIVATE_FLAG, bool(op & FUTEX_CLOCK_REALTIME)
    if realtime and command not in _REALTIME_OK:
        raise LinuxError(Errno.ENOSYS, "futex: this operation has no clock")
    mm = task.mm
    if command in {FUTEX_WAIT, FUTEX_WAIT_BITSET}:
        bitset = val3 if command == FUTEX_WAIT_BITSET else FUTEX_BITSET_MATCH_ANY
        key = futex_key(mm, uaddr, shared=shared)
        return _futex_wait(kernel, task, key, uaddr, val, deadline, bitset, realtime=realtime)
    if command in {FUTEX_WAKE, FUTEX_WAKE_BITSET}:
        bitset = val3 if command == FUTEX_WAKE_BITSET else FUTEX_BITSET_MATCH_ANY
        if not bitset:
            raise LinuxError(Errno.EINVAL, "futex: an empty set of bits")
        return wake(kernel, futex_key(mm, uaddr, shared=shared), max(_int32(val), 1), bitset)
    if command in {FUTEX_REQUEUE, FUTEX_CMP_REQUEUE}:
        if _int32(val) < 0 or _int32(val2) < 0:
            raise LinuxError(Errno.EINVAL, "futex: negative count")
        source, target = futex_key(mm, uaddr, shared=shared), futex_key(mm, uaddr2, shared=shared)
        if command == FUTEX_CMP_REQUEUE:
            _check_value(task, uaddr, val3)
        return requeue(kernel, source, target, val, val2)
    if command == FUTEX_WAKE_OP:
        keys = futex_key(mm, uaddr, shared=shared), futex_key(mm, uaddr2, shared=shared)
        return _wake_op(kernel, task, keys, uaddr2, (_int32(val), _int32(val2)), val3)
    if command == FUTEX_WAIT_REQUEUE_PI:
        return wait_requeue_pi(kernel, task, uaddr, val, deadline, uaddr2, shared=shared, realtime=realtime)
    if command == FUTEX_CMP_REQUEUE_PI:
        return cmp_requeue_pi(kernel, task, uaddr, _int32(val), _int32(val2), uaddr2, val3, shared=shared)
    if command in PI_OPERATIONS:
        return do_pi(kernel, task, command, uaddr, deadline, shared=shared, realtime=realtime)
    raise LinuxError(Errno.ENOSYS, "futex: no such operation")


def sys_futex(
    kernel: Kernel, task: Task, uaddr: Ptr, op: FutexOp, val: UInt, utime: ULong, uaddr2: Ptr, val3: UInt
) -> Result:
    """futex(2)."""
    command = op & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
    deadline = _deadline(kernel, task, command, utime, wide=False)
    return _do_futex(kernel, task, uaddr, op, val, deadline, utime & 0xFFFF_FFFF, uaddr2, val3)


def sys_futex_time64(
    kernel: Kernel, task: Task, uaddr: Ptr, op: FutexOp, val: UInt, utime: ULong, uaddr2: Ptr, val3: UInt
) -> Result:
    """futex_time64, i386."""
    command = op & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
    deadline = _deadline(kernel, task, command, utime, wide=True)
    return _do_futex(kernel, task, uaddr, op, val, deadline, utime, uaddr2, val3)


ENTRIES: tuple[Entry, ...] = (
    full("futex", sys_futex),
    full("futex_time64", sys_futex_time64),
)
