"""Wait queues: how a system call that cannot go on gives up the CPU.

A blocking call is a coroutine.  It awaits ``WaitQueue.wait()``; the run loop parks the task until somebody
calls ``wake()`` and then resumes the coroutine, which looks again (Linux: ___wait_event, include/linux/wait.h).
A signal ends the wait by raising ``Interrupted`` inside the coroutine.
"""

from collections.abc import Generator
from types import coroutine


class Interrupted(Exception):  # noqa: N818 - it is not an error: a signal is pending and the wait is over
    """A signal is pending for the waiting task; the call decides between EINTR and its ERESTART forms."""


class WaitQueue:
    """Tasks parked until something happens; woken in the order they came.

    The queue holds opaque waiters (tasks); the scheduler alone looks at them.
    """

    __slots__ = ("on_wake", "waiters")

    def __init__(self) -> None:
        self.waiters: list[object] = []

    def wake(self, count: int = -1) -> int:
        """Wake up to *count* waiters (all by default); how many were woken."""
        woken = self.waiters[:] if count < 0 else self.waiters[:count]
        del self.waiters[: len(woken)]
        for waiter in woken:
            waiter.wake_up()  # type: ignore[attr-defined]  # Waiter protocol of the scheduler
        return len(woken)

    @coroutine
    def wait(self, timeout_ns: int | None = None) -> Generator["Wait", bool, bool]:
        """Park the calling task here; True if woken, False if *timeout_ns* of virtual time passed first."""
        return (yield Wait(self, timeout_ns))


class Wait:
    """What a coroutine hands to the run loop: where to park, and for how long at most (ns; None: for ever)."""

    __slots__ = ("queue", "timeout_ns")

    def __init__(self, queue: WaitQueue, timeout_ns: int | None) -> None:
        self.queue = queue
        self.timeout_ns = timeout_ns
