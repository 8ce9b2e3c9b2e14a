"""Robust futexes: locks whose owner died are marked, and a waiter is told.

Linux: kernel/futex/core.c (exit_robust_list, handle_futex_death); Documentation/locking/robust-futex-ABI.rst.
"""

from typing import Final

from emu.x86 import VirtAddr
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.uaccess import get_user, put_user
from minikernel.task.futex import futex_wake
from minikernel.task.task import Task

_LIST_LIMIT: Final = 2048  # ROBUST_LIST_LIMIT: a circular list ends here
_WAITERS: Final = 0x8000_0000
_OWNER_DIED: Final = 0x4000_0000
_TID_MASK: Final = 0x3FFF_FFFF


def exit_robust_list(task: Task) -> None:
    """Walk the list that *task* registered; a bad pointer ends the walk, as on Linux."""
    head, _ = task.robust_list
    task.robust_list = (0, 0)
    if not head:
        return
    try:
        _walk(task, head)
    except LinuxError:
        return


def _walk(task: Task, head: int) -> None:
    word = task.abi.word
    offset = task.abi.signed(get_user(task.mm, VirtAddr(head + word), word))
    pending = get_user(task.mm, VirtAddr(head + 2 * word), word)
    entry = get_user(task.mm, VirtAddr(head), word)
    for _ in range(_LIST_LIMIT):
        if entry & ~1 == head:
            break
        # Where the list goes on is read first, and the lock is released even if it goes nowhere.
        following = _next_entry(task, entry & ~1)
        if entry & ~1 != pending & ~1:
            _handle_death(task, (entry & ~1) + offset, pi=bool(entry & 1), pending=False)
        if following is None:
            return
        entry = following
    if pending:
        _handle_death(task, (pending & ~1) + offset, pi=bool(pending & 1), pending=True)


def _next_entry(task: Task, entry: int) -> int | None:
    try:
        return get_user(task.mm, VirtAddr(entry), task.abi.word)
    except LinuxError:
        return None


def _handle_death(task: Task, address: int, *, pi: bool, pending: bool) -> None:
    """Mark the lock at *address* if the task owns it, and wake one waiter (handle_futex_death)."""
    if address % 4:
        raise LinuxError(Errno.EINVAL, "a robust list with an unaligned lock")
    value = get_user(task.mm, VirtAddr(address), 4)
    if pending and not pi and not value & _TID_MASK:
        futex_wake(task.kernel, task.mm, address, 1, shared=True)
        return
    if value & _TID_MASK != task.pid:
        return
    put_user(task.mm, VirtAddr(address), value & _WAITERS | _OWNER_DIED, 4)
    if not pi and value & _WAITERS:
        futex_wake(task.kernel, task.mm, address, 1, shared=True)
