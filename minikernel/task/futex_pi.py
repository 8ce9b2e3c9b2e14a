"""Futexes with priority inheritance: the word holds the owner's thread id, and the kernel hands the lock over.

Linux: kernel/futex/pi.c, requeue.c (CMP_REQUEUE_PI), kernel/locking/rtmutex.c; Documentation/locking/pi-futex.rst.

``Kernel.pi_states`` knows the locks that somebody waits for, ``Kernel.pi_blocked`` who waits for which.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from emu.x86 import VirtAddr
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.futex import FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS
from minikernel.abi.sched import SCHED_FIFO, SCHED_RR
from minikernel.mm.uaccess import get_user, put_user
from minikernel.task.futex import time_left
from minikernel.task.task import Task, TaskState
from minikernel.wait import Interrupted, WaitQueue

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.task.futex import FutexKey


class PiWaiter:
    """A task that waits for a lock: struct rt_mutex_waiter.  *acquired*: the lock is its own now."""

    __slots__ = ("acquired", "address", "queue", "state", "task")

    def __init__(self, task: Task, address: int, queue: WaitQueue) -> None:
        self.task = task
        self.address = address  # of the word, as the task sees it
        self.queue = queue
        self.state: PiState | None = None
        self.acquired = False


class PiState:
    """A lock that somebody waits for: struct futex_pi_state.

    Invariant: there is a waiter.  Waiters stand by priority, equals in the order they came.
    """

    __slots__ = ("key", "owner", "waiters")

    def __init__(self, key: FutexKey, owner: Task) -> None:
        self.key = key
        self.owner = owner
        self.waiters: list[PiWaiter] = []


def priority(task: Task) -> int:
    """Real-time priority, inherited or its own; 0: none, and all those are equal (__waiter_prio)."""
    attributes = task.attributes
    own = attributes.rt_priority if attributes.policy in {SCHED_FIFO, SCHED_RR} else 0
    return max(own, task.pi_priority)


# ---- taking a lock


def lock_atomic(kernel: Kernel, task: Task, key: FutexKey, address: int, *, set_waiters: bool = False) -> bool:
    """Take the lock for *task* if it is free; otherwise note in the word that somebody waits (futex_lock_pi_atomic).

    Errors:
        EDEADLK: *task* has it.  EINVAL: somebody waits there without PI, or the word and the kernel disagree.
        ESRCH: the word names no living thread.  EFAULT.
    """
    word = get_user(task.mm, VirtAddr(address), 4)
    owner = word & FUTEX_TID_MASK
    if owner == task.pid:
        raise LinuxError(Errno.EDEADLK, "futex: the lock is the caller's own")
    if key in kernel.futexes:
        raise LinuxError(Errno.EINVAL, "futex: others wait here without priority inheritance")
    state = kernel.pi_states.get(key)
    if state is not None:
        if owner != state.owner.pid:
            raise LinuxError(Errno.EINVAL, "futex: the word does not name the owner")
        return False
    if not owner:
        waiters = FUTEX_WAITERS if set_waiters else 0
        put_user(task.mm, VirtAddr(address), word & FUTEX_OWNER_DIED | task.pid | waiters, 4)
        return True
    put_user(task.mm, VirtAddr(address), word | FUTEX_WAITERS, 4)
    _living(kernel, owner)
    return False


def _living(kernel: Kernel, pid: int) -> Task:
    task = kernel.tasks.get(pid)
    if task is None or task.state in {TaskState.ZOMBIE, TaskState.DEAD}:
        raise LinuxError(Errno.ESRCH, "futex: the owner is gone")
    return task


def block(kernel: Kernel, waiter: PiWaiter, key: FutexKey) -> None:
    """Put *waiter* in line for the lock, whose owner runs with its priority from now on (rt_mutex_start_proxy_lock).

    Errors:
        EDEADLK: the owner waits, perhaps through others, for the waiter's task.
    """
    task = waiter.task
    state = kernel.pi_states.get(key)
    if state is None:
        word = get_user(task.mm, VirtAddr(waiter.address), 4)
        state = PiState(key, _living(kernel, word & FUTEX_TID_MASK))
    owner = state.owner
    while owner in kernel.pi_blocked:
        following = kernel.pi_blocked[owner].state
        assert following is not None, "block: a waiter without a lock"
        owner = following.owner
        if owner is task:
            raise LinuxError(Errno.EDEADLK, "futex: a circle of owners")
    kernel.pi_states[key] = state
    kernel.pi_blocked[task] = waiter
    waiter.state = state
    _insert(state, waiter)
    _inherit(kernel, state.owner)


def _insert(state: PiState, waiter: PiWaiter) -> None:
    mine = priority(waiter.task)
    at = next((i for i, other in enumerate(state.waiters) if priority(other.task) < mine), len(state.waiters))
    state.waiters.insert(at, waiter)


def _inherit(kernel: Kernel, task: Task) -> None:
    """Give *task* the priority of those who wait for its locks, and pass that on (rt_mutex_adjust_prio_chain)."""
    while True:
        before = priority(task)
        waiting = [
            state.waiters[0].task for state in kernel.pi_states.values() if state.owner is task and state.waiters
        ]
        task.pi_priority = max(map(priority, waiting), default=0)
        if priority(task) == before:
            return
        kernel.need_resched = True
        waiter = kernel.pi_blocked.get(task)
        if waiter is None or waiter.state is None:
            return
        waiter.state.waiters.remove(waiter)
        _insert(waiter.state, waiter)
        task = waiter.state.owner


def adjust_priority(kernel: Kernel, task: Task) -> None:
    """*task* has a new priority of its own: its place in line, and what owners inherit (rt_mutex_adjust_pi)."""
    waiter = kernel.pi_blocked.get(task)
    if waiter is not None and waiter.state is not None:
        waiter.state.waiters.remove(waiter)
        _insert(waiter.state, waiter)
        _inherit(kernel, waiter.state.owner)


async def wait_for_lock(kernel: Kernel, waiter: PiWaiter, deadline: int | None, *, realtime: bool) -> int:
    """Wait until the lock is handed over (rt_mutex_wait_proxy_lock).

    Errors:
        ETIMEDOUT.

    Raises:
        Interrupted: a signal came first.
    """
    try:
        while not waiter.acquired:
            left = time_left(kernel, deadline, realtime=realtime)
            try:
                await waiter.queue.wait(left)
            except Interrupted:
                if not waiter.acquired:
                    raise
    finally:
        leave(kernel, waiter)
    return 0


def leave(kernel: Kernel, waiter: PiWaiter) -> None:
    """Take *waiter* out of the line, if it still stands there."""
    state, waiter.state = waiter.state, None
    if state is None:
        return
    state.waiters.remove(waiter)
    del kernel.pi_blocked[waiter.task]
    if not state.waiters:
        del kernel.pi_states[state.key]
    _inherit(kernel, state.owner)


# ---- giving it back


def unlock(kernel: Kernel, task: Task, key: FutexKey, address: int) -> int:
    """Give the lock to the first in line, or free it (futex_unlock_pi).

    Errors:
        EPERM: it is not the caller's.  EINVAL: the word and the kernel disagree.
    """
    state = kernel.pi_states.get(key)
    if state is None:
        if key in kernel.futexes:
            raise LinuxError(Errno.EINVAL, "futex: others wait here without priority inheritance")
        put_user(task.mm, VirtAddr(address), 0, 4)
        return 0
    if state.owner is not task:
        raise LinuxError(Errno.EINVAL, "futex: the kernel knows another owner")
    heir = state.waiters[0]
    put_user(task.mm, VirtAddr(address), FUTEX_WAITERS | heir.task.pid, 4)
    _hand_over(kernel, state, heir)
    return 0


def _hand_over(kernel: Kernel, state: PiState, heir: PiWaiter) -> None:
    """*heir* owns the lock now; those behind it wait for it."""
    previous = state.owner
    state.waiters.remove(heir)
    del kernel.pi_blocked[heir.task]
    heir.state = None
    heir.acquired = True
    state.owner = heir.task
    if not state.waiters:
        del kernel.pi_states[state.key]
    _inherit(kernel, previous)
    _inherit(kernel, heir.task)
    heir.queue.wake()


def exit_pi_state_list(task: Task) -> None:
    """*task* ends: its locks go to those that wait for them, who see that their owner died."""
    kernel = task.kernel
    for state in [state for state in kernel.pi_states.values() if state.owner is task]:
        heir = state.waiters[0]
        word = FUTEX_OWNER_DIED | FUTEX_WAITERS | heir.task.pid
        # Where the heir unmapped the word it has the lock all the same, and will find out by itself.
        with suppress(LinuxError):
            put_user(heir.task.mm, VirtAddr(heir.address), word, 4)
        _hand_over(kernel, state, heir)
    task.pi_priority = 0
