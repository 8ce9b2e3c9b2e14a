"""Waiting for one of many files: the kernel side of poll and select.

Linux: fs/select.c (do_poll, poll_wait, struct poll_wqueues).
"""

from collections.abc import Callable, Iterable

from minikernel.fs.file import OpenFile
from minikernel.wait import WaitQueue


class Relay:
    """A waiter in several queues that wakes one other queue, whichever is woken: struct poll_wqueues."""

    __slots__ = ("_queues", "target")

    def __init__(self, files: Iterable[OpenFile]) -> None:
        self.target = WaitQueue()
        self._queues = [queue for file in files for queue in file.poll_queues()]
        self.join()

    def join(self) -> None:
        """Stand in every queue (again: a wake took us out of one)."""
        for queue in self._queues:
            if self not in queue.waiters:
                queue.waiters.append(self)

    def leave(self) -> None:
        """Leave every queue (poll_freewait)."""
        for queue in self._queues:
            if self in queue.waiters:
                queue.waiters.remove(self)

    def wake_up(self) -> None:
        """One of the files may be ready."""
        self.target.wake()


async def wait_for_files(
    files: list[OpenFile], ready: Callable[[], int], deadline: int | None, now: Callable[[], int]
) -> int:
    """Wait until *ready* (which asks the files) counts some, or until *deadline* (ns on *now*'s clock); the count.

    Raises:
        Interrupted: a signal came first.
    """
    for file in files:
        file.get_file()
    relay = Relay(files)
    try:
        while True:
            count = ready()
            if count:
                return count
            left = None if deadline is None else deadline - now()
            if left is not None and left <= 0:
                return 0
            relay.join()
            await relay.target.wait(left)
    finally:
        relay.leave()
        for file in files:
            file.put_file()
