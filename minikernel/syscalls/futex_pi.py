"""The operations of futex(2) with priority inheritance.  Linux: kernel/futex/pi.c, kernel/futex/requeue.c."""

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.futex import (
    FUTEX_BITSET_MATCH_ANY,
    FUTEX_CMP_REQUEUE_PI,
    FUTEX_LOCK_PI,
    FUTEX_LOCK_PI2,
    FUTEX_TID_MASK,
    FUTEX_TRYLOCK_PI,
    FUTEX_UNLOCK_PI,
)
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import get_user
from minikernel.syscalls.entry_types import Result
from minikernel.task import futex_pi
from minikernel.task.futex import FutexKey, FutexWaiter, dequeue, enqueue, futex_key, time_left
from minikernel.task.futex_pi import PiWaiter
from minikernel.task.task import Task
from minikernel.wait import Interrupted, WaitQueue

PI_OPERATIONS = frozenset((FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_TRYLOCK_PI, FUTEX_UNLOCK_PI, FUTEX_CMP_REQUEUE_PI))


def do_pi(
    kernel: Kernel, task: Task, command: int, uaddr: int, deadline: int | None, *, shared: bool, realtime: bool
) -> Result:
    """FUTEX_LOCK_PI, LOCK_PI2, TRYLOCK_PI and UNLOCK_PI."""
    if command == FUTEX_UNLOCK_PI:
        if get_user(task.mm, uaddr, 4) & FUTEX_TID_MASK != task.pid:
            raise LinuxError(Errno.EPERM, "futex: the lock is another's")
        return futex_pi.unlock(kernel, task, futex_key(task.mm, uaddr, shared=shared), uaddr)
    key = futex_key(task.mm, uaddr, shared=shared)
    if futex_pi.lock_atomic(kernel, task, key, uaddr):
        return 0
    if command == FUTEX_TRYLOCK_PI:
        raise LinuxError(Errno.EAGAIN, "futex: the lock is taken")
    waiter = PiWaiter(task, uaddr, WaitQueue())
    futex_pi.block(kernel, waiter, key)
    return _lock(kernel, waiter, deadline, realtime=realtime or command == FUTEX_LOCK_PI)


async def _lock(kernel: Kernel, waiter: PiWaiter, deadline: int | None, *, realtime: bool) -> int:
    try:
        return await futex_pi.wait_for_lock(kernel, waiter, deadline, realtime=realtime)
    except Interrupted:
        raise LinuxError(Errno.ERESTARTNOINTR, "futex: interrupted") from None


def wait_requeue_pi(
    kernel: Kernel, task: Task, uaddr: int, value: int, deadline: int | None, uaddr2: int, *, shared: bool,
    realtime: bool,
) -> Result:  # fmt: skip
    """FUTEX_WAIT_REQUEUE_PI: wait at *uaddr* to be moved to the line for the lock at *uaddr2*, and get that."""
    if uaddr == uaddr2:
        raise LinuxError(Errno.EINVAL, "futex: one word for both")
    key2 = futex_key(task.mm, uaddr2, shared=shared)
    key = futex_key(task.mm, uaddr, shared=shared)
    if get_user(task.mm, uaddr, 4) != value & 0xFFFF_FFFF:
        raise LinuxError(Errno.EAGAIN, "futex: the word has changed")
    if key == key2:
        raise LinuxError(Errno.EINVAL, "futex: one word for both")
    waiter = FutexWaiter(key, FUTEX_BITSET_MATCH_ANY, WaitQueue())
    waiter.pi = PiWaiter(task, uaddr2, waiter.queue)
    waiter.pi_key = key2
    enqueue(kernel, waiter)
    return _wait_requeue(kernel, waiter, deadline, realtime=realtime)


async def _wait_requeue(kernel: Kernel, waiter: FutexWaiter, deadline: int | None, *, realtime: bool) -> int:
    pi = waiter.pi
    assert pi is not None, "_wait_requeue: an ordinary waiter"
    try:
        while not waiter.woken:
            left = time_left(kernel, deadline, realtime=realtime)
            try:
                await waiter.queue.wait(left)
            except Interrupted:
                if not waiter.woken:
                    raise LinuxError(Errno.ERESTARTNOINTR, "futex: interrupted") from None
                if not pi.acquired:
                    raise LinuxError(Errno.EAGAIN, "futex: interrupted in the line for the lock") from None
        try:
            return await futex_pi.wait_for_lock(kernel, pi, deadline, realtime=realtime)
        except Interrupted:
            # Starting again would find that the first word has changed: say so at once.
            raise LinuxError(Errno.EAGAIN, "futex: interrupted in the line for the lock") from None
    finally:
        dequeue(kernel, waiter)
        futex_pi.leave(kernel, pi)


def cmp_requeue_pi(
    kernel: Kernel, task: Task, uaddr: int, nr_wake: int, nr_requeue: int, uaddr2: int, value: int, *, shared: bool
) -> int:
    """FUTEX_CMP_REQUEUE_PI: the first waiter gets the lock if it is free, others wait for it; how many of both.

    Errors:
        EINVAL: not paired with FUTEX_WAIT_REQUEUE_PI, or *nr_wake* is not 1.  EAGAIN, EDEADLK, ESRCH, EFAULT.
    """
    if nr_wake < 0 or nr_requeue < 0 or uaddr == uaddr2 or nr_wake != 1:
        raise LinuxError(Errno.EINVAL, "futex: requeue to a lock")
    key, key2 = futex_key(task.mm, uaddr, shared=shared), futex_key(task.mm, uaddr2, shared=shared)
    if key == key2:
        raise LinuxError(Errno.EINVAL, "futex: one word for both")
    if get_user(task.mm, uaddr, 4) != value & 0xFFFF_FFFF:
        raise LinuxError(Errno.EAGAIN, "futex: the word has changed")
    line = list(kernel.futexes.get(key, ()))
    if not line:
        return 0
    done = 0
    first = _checked(line[0], key2)
    if futex_pi.lock_atomic(kernel, first.task, key2, uaddr2, set_waiters=nr_requeue > 0):
        _take(kernel, line.pop(0))
        first.acquired = True
        first.queue.wake()
        done = 1
    for waiter in line[: max(nr_requeue - done + nr_wake, 0)]:
        pi = _checked(waiter, key2)
        futex_pi.block(kernel, pi, key2)
        _take(kernel, waiter)
        done += 1
    return done


def _checked(waiter: FutexWaiter, key2: FutexKey) -> PiWaiter:
    if waiter.pi is None or waiter.pi_key != key2:
        raise LinuxError(Errno.EINVAL, "futex: a waiter that waits for something else")
    return waiter.pi


def _take(kernel: Kernel, waiter: FutexWaiter) -> None:
    """Out of the first word's line for good."""
    dequeue(kernel, waiter)
    waiter.woken = True
