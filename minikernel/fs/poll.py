"""Waiting for one of many files: the kernel side of poll and select.

Linux: fs/select.c (do_poll, poll_wait, struct poll_wqueues).
"""

from collections.abc import Callable, Iterable

from minikernel.fs.file import OpenFile
from minikernel.wait import WaitQueue


class Leg:
    """A waiter in the queues of one file that wakes another queue: struct poll_table_entry."""

    __slots__ = ("_queues", "_target", "events")

    def __init__(self, file: OpenFile, events: int, target: WaitQueue) -> None:
        self.events = events  # what the caller wants to hear of; others are no reason to wake the emulator
        self._queues = file.poll_queues()
        self._target = target

    def join(self) -> None:
        """Stand in every queue (again: a wake took us out of one)."""
        for queue in self._queues:
            if self not in queue.waiters:
                queue.waiters.append(self)

    def leave(self) -> None:
        """Leave every queue."""
        for queue in self._queues:
            if self in queue.waiters:
                queue.waiters.remove(self)

    def wake_up(self) -> None:
        """The file may be ready."""
        self._target.wake()


class Relay:
    """Who waits for many files, in the queues of each: struct poll_wqueues."""

    __slots__ = ("_legs", "target")

    def __init__(self, files: Iterable[tuple[OpenFile, int]]) -> None:
        self.target = WaitQueue()
        self._legs = [Leg(file, events, self.target) for file, events in files]
        self.join()

    def join(self) -> None:
        """Stand in every queue."""
        for leg in self._legs:
            leg.join()

    def leave(self) -> None:
        """Leave every queue (poll_freewait)."""
        for leg in self._legs:
            leg.leave()


async def wait_for_files(
    files: list[tuple[OpenFile, int]], ready: Callable[[], int], deadline: int | None, now: Callable[[], int]
) -> int:
    """Wait for *files* (with the POLL* events to wait for) until *ready*, which asks them, counts some; the count.

    It is 0 if *deadline* (ns on *now*'s clock) comes first.

    Raises:
        Interrupted: a signal came first.
    """
    for file, _ in files:
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
        for file, _ in files:
            file.put_file()
