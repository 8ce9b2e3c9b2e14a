"""File locks: flock, POSIX (by process) and open file description locks.

Linux: fs/locks.c.
"""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import F_RDLCK, F_UNLCK, F_WRLCK
from minikernel.fs.fdtable import FdTable
from minikernel.wait import WaitQueue

OFFSET_MAX: Final = (1 << 63) - 1
_MAX_DEADLK_ITERATIONS: Final = 10


class FileLock:
    """One lock on bytes [*start*, *end*]: struct file_lock.  *owner* is compared by identity."""

    __slots__ = ("blocker", "end", "kind", "owner", "pid", "start")

    def __init__(self, kind: int, start: int, end: int, owner: object, pid: int) -> None:
        self.kind = kind
        self.start = start
        self.end = end
        self.owner = owner
        self.pid = pid
        self.blocker: FileLock | None = None  # the lock that this one, which somebody wants, waits for

    def overlaps(self, other: "FileLock") -> bool:
        """Whether the two have a byte in common."""
        return self.start <= other.end and other.start <= self.end

    def conflicts(self, other: "FileLock") -> bool:
        """Whether the two cannot be held at once (posix_locks_conflict)."""
        return self.owner is not other.owner and F_WRLCK in {self.kind, other.kind} and self.overlaps(other)


class FileLocks:
    """The locks of one inode: struct file_lock_context.

    *posix* holds POSIX and OFD locks (owner: a FdTable, or an OpenFile), *flocks* one per OpenFile.
    """

    __slots__ = ("flocks", "posix", "queue")

    def __init__(self) -> None:
        self.posix: list[FileLock] = []
        self.flocks: list[FileLock] = []
        self.queue = WaitQueue()

    def conflict(self, lock: FileLock) -> FileLock | None:
        """The first lock that stands against *lock* (posix_test_lock)."""
        return next((held for held in self.posix if held.conflicts(lock)), None)

    async def wait_posix(self, lock: FileLock, waiting: list[FileLock]) -> int:
        """Wait until nothing stands against *lock*, and take it.

        *waiting* are the locks that others wait for, of all files: who waits for us shall not be waited for.

        Errors:
            EDEADLK: a circle of POSIX locks; for OFD locks Linux does not look.
        """
        while (blocker := self.conflict(lock)) is not None:
            if isinstance(lock.owner, FdTable) and is_deadlock(lock, blocker, waiting):
                raise LinuxError(Errno.EDEADLK, "each waits for the other's lock")
            lock.blocker = blocker
            waiting.append(lock)
            try:
                await self.queue.wait()
            finally:
                waiting.remove(lock)
        self.set_posix(lock)
        return 0

    def set_posix(self, lock: FileLock) -> None:
        """Put *lock*, against which nothing stands, in place of what its owner held there (posix_lock_inode)."""
        kept: list[FileLock] = []
        for held in self.posix:
            if held.owner is not lock.owner or not held.overlaps(lock):
                kept.append(held)
                continue
            if held.start < lock.start:
                kept.append(FileLock(held.kind, held.start, lock.start - 1, held.owner, held.pid))
            if held.end > lock.end:
                kept.append(FileLock(held.kind, lock.end + 1, held.end, held.owner, held.pid))
        if lock.kind != F_UNLCK:
            kept.append(lock)
        self.posix = _merged(kept)
        self.queue.wake()

    def try_flock(self, kind: int, owner: object, pid: int) -> bool:
        """Take, change or give back (F_UNLCK) the flock of *owner*; False if others stand against it.

        As on Linux a change gives the old lock back first, and is not atomic (flock_lock_inode).
        """
        old = next((held for held in self.flocks if held.owner is owner), None)
        if old is not None:
            if old.kind == kind:
                return True
            self.flocks.remove(old)
            self.queue.wake()
        if kind == F_UNLCK:
            return True
        lock = FileLock(kind, 0, OFFSET_MAX, owner, pid)
        if any(held.conflicts(lock) for held in self.flocks):
            return False
        self.flocks.append(lock)
        return True

    def drop_owner(self, owner: object) -> None:
        """A descriptor of this inode was closed by *owner*: all its POSIX locks go (locks_remove_posix)."""
        left = [held for held in self.posix if held.owner is not owner]
        if len(left) != len(self.posix):
            self.posix = left
            self.queue.wake()

    def drop_file(self, file: object) -> None:
        """*file* was released: its flock and OFD locks go (locks_remove_file)."""
        before = len(self.flocks)
        self.flocks = [held for held in self.flocks if held.owner is not file]
        if len(self.flocks) != before:
            self.queue.wake()
        self.drop_owner(file)


def is_deadlock(lock: FileLock, blocker: FileLock, waiting: list[FileLock]) -> bool:
    """Whether the owner of *blocker* waits, over some steps, for the owner of *lock* (posix_locks_deadlock)."""
    for _ in range(_MAX_DEADLK_ITERATIONS):
        next_one = next((wanted.blocker for wanted in waiting if wanted.owner is blocker.owner), None)
        if next_one is None:
            return False
        if next_one.owner is lock.owner:
            return True
        blocker = next_one
    return False


def _merged(locks: list[FileLock]) -> list[FileLock]:
    """*locks* by start, neighbours of one owner and kind joined."""
    locks.sort(key=lambda lock: (lock.start, lock.end))
    result: list[FileLock] = []
    for lock in locks:
        for held in result:
            if held.owner is lock.owner and held.kind == lock.kind and held.end + 1 >= lock.start:
                held.end = max(held.end, lock.end)
                break
        else:
            result.append(lock)
    return result


def new_lock(kind: int, start: int, end: int, owner: object, pid: int) -> FileLock:
    """A lock, as fcntl asks for it; *kind* is F_RDLCK, F_WRLCK or F_UNLCK."""
    assert kind in {F_RDLCK, F_WRLCK, F_UNLCK}, "new_lock: kind"
    return FileLock(kind, start, end, owner, pid)
