"""Futexes: waiting for a word of memory to change.  Linux: kernel/futex/core.c, waitwake.c, requeue.c.

A futex exists while somebody waits on it: ``Kernel.futexes`` maps its key to the waiters, first come first.
A private futex is an address of an address space; one in a shared mapping is an offset in what is mapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from emu.x86 import PAGE_SHIFT
from minikernel.abi.abi import X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.uaccess import get_user
from minikernel.mm.vma import VM_SHARED
from minikernel.wait import Interrupted, WaitQueue

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.task.futex_pi import PiWaiter

FutexKey: TypeAlias = tuple[object, int]
FUTEX_SIZE = 4
_FUT_OFF_MMSHARED = 2  # in the place of the address's low bits: who waits privately is not woken by who does not


class FutexWaiter:
    """One thread waiting on one futex: struct futex_q.  *woken* is set by whoever takes it off the list."""

    __slots__ = ("bitset", "key", "pi", "pi_key", "queue", "woken")

    def __init__(self, key: FutexKey, bitset: int, queue: WaitQueue) -> None:
        self.key = key
        self.bitset = bitset
        self.queue = queue
        self.woken = False
        self.pi: PiWaiter | None = None  # FUTEX_WAIT_REQUEUE_PI: how it will wait for the lock at *pi_key*
        self.pi_key: FutexKey | None = None


def futex_key(mm: MmStruct, address: int, *, shared: bool) -> FutexKey:
    """What the futex at *address* is known by (get_futex_key).

    Errors:
        EINVAL: not aligned.  EFAULT: outside user space, or not mapped although *shared*.
    """
    if address % FUTEX_SIZE:
        raise LinuxError(Errno.EINVAL, "futex: unaligned")
    # access_ok() asks for the machine's limit: a 64-bit kernel has no lower one for a 32-bit program.
    limit = X86_64.task_size if mm.node.layout.mode.va_bits > 32 else mm.layout.task_size
    if address > limit - FUTEX_SIZE:
        raise LinuxError(Errno.EFAULT, "futex: outside user space")
    if not shared:
        return (mm, address)
    get_user(mm, address, FUTEX_SIZE)  # the page must exist: its identity is the key
    vma = mm.vmas.find(address)
    assert vma is not None, "futex_key: get_user found memory where no mapping is"
    if not vma.flags & VM_SHARED or vma.mapping is None:
        return (mm, address | _FUT_OFF_MMSHARED)
    return (vma.mapping, address - vma.start + (vma.pgoff << PAGE_SHIFT))


def enqueue(kernel: Kernel, waiter: FutexWaiter) -> None:
    """Put *waiter* at the end of its futex's line."""
    kernel.futexes.setdefault(waiter.key, []).append(waiter)


def dequeue(kernel: Kernel, waiter: FutexWaiter) -> None:
    """Take *waiter* out of the line, if it still stands there."""
    if waiter.woken:
        return
    line = kernel.futexes[waiter.key]
    line.remove(waiter)
    if not line:
        del kernel.futexes[waiter.key]


def _take(kernel: Kernel, key: FutexKey, count: int, bitset: int) -> list[FutexWaiter]:
    """Take up to *count* waiters that *bitset* means out of the line."""
    line = kernel.futexes.get(key)
    if not line:
        return []
    taken = [waiter for waiter in line if waiter.bitset & bitset][:count]
    if any(waiter.pi is not None for waiter in taken):
        raise LinuxError(Errno.EINVAL, "futex: FUTEX_WAIT_REQUEUE_PI goes with FUTEX_CMP_REQUEUE_PI")
    line[:] = [waiter for waiter in line if waiter not in taken]
    if not line:
        del kernel.futexes[key]
    return taken


def wake(kernel: Kernel, key: FutexKey, count: int, bitset: int = 0xFFFF_FFFF) -> int:
    """Wake up to *count* waiters; how many were woken."""
    if key in kernel.pi_states:
        raise LinuxError(Errno.EINVAL, "futex: the waiters wait with priority inheritance")
    taken = _take(kernel, key, count, bitset)
    for waiter in taken:
        waiter.woken = True
        waiter.queue.wake()
    return len(taken)


def futex_wake(kernel: Kernel, mm: MmStruct, address: int, count: int, *, shared: bool) -> int:
    """Wake up to *count* waiters of the futex at *address*; also for the end of a thread.  Errors: EINVAL, EFAULT."""
    return wake(kernel, futex_key(mm, address, shared=shared), count)


def requeue(kernel: Kernel, key: FutexKey, target: FutexKey, nr_wake: int, nr_requeue: int) -> int:
    """Wake some waiters of *key* and let others wait for *target*; how many of both (futex_requeue)."""
    done = wake(kernel, key, nr_wake)
    moved = _take(kernel, key, nr_requeue, 0xFFFF_FFFF)
    for waiter in moved:
        waiter.key = target
        enqueue(kernel, waiter)
    return done + len(moved)


def time_left(kernel: Kernel, deadline: int | None, *, realtime: bool) -> int | None:
    """Nanoseconds until CLOCK_REALTIME or CLOCK_MONOTONIC shows *deadline*; None: there is none.

    Errors:
        ETIMEDOUT: it shows that already.
    """
    if deadline is None:
        return None
    left = deadline - (kernel.clock.realtime_ns() if realtime else kernel.clock.now_ns())
    if left <= 0:
        raise LinuxError(Errno.ETIMEDOUT, "futex: the time is up")
    return left


async def wait_for(kernel: Kernel, waiters: list[FutexWaiter], deadline: int | None, *, realtime: bool) -> int:
    """Wait until one of *waiters*, which share a queue, is woken: which one.  Nobody is left in a line.

    Errors:
        ETIMEDOUT: the clock shows *deadline* (ns).

    Raises:
        Interrupted: a signal came, and nobody was woken.
    """
    queue = waiters[0].queue
    try:
        while True:
            for index, waiter in enumerate(waiters):
                if waiter.woken:
                    return index
            left = time_left(kernel, deadline, realtime=realtime)
            try:
                await queue.wait(left)
            except Interrupted:
                if not any(waiter.woken for waiter in waiters):
                    raise
    finally:
        for waiter in waiters:
            dequeue(kernel, waiter)
