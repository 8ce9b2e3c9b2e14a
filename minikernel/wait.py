"""Wait queues: how a system call that cannot go on gives up the CPU.

A blocking call is a coroutine.  It awaits ``WaitQueue.wait()``; the run loop parks the task until somebody
calls ``wake()`` and then resumes the coroutine, which looks again (Linux: ___wait_event, include/linux/wait.h).
A signal ends the wait by raising ``Interrupted`` inside the coroutine.
"""

from collections.abc import Generator
from types import coroutine
from typing import Protocol


class Interrupted(Exception):  # noqa: N818 - it is not an error: a signal is pending and the wait is over
    """A signal is pending for the waiting task; the call decides between EINTR and its ERESTART forms."""


class Watcher(Protocol):
    """Who stays in a queue and is told of every wake: a wait_queue_entry with a function of its own (epoll's)."""

    exclusive: bool  # EPOLLEXCLUSIVE: one of these is enough

    @property
    def events(self) -> int:
        """POLL* events it asks for."""
        ...

    def on_wake(self, key: int) -> bool:
        """Something happened; *key*: POLL* events that may be true now, 0 if nobody knows.  True: it was of use."""
        ...

    def is_awaited(self) -> bool:
        """Whether a task sleeps that this watcher would wake."""
        ...


class WaitQueue:
    """Tasks parked until something happens; woken in the order they came.

    The queue holds opaque waiters (tasks); the scheduler alone looks at them.
    """

    __slots__ = ("waiters", "watchers")

    def __init__(self) -> None:
        self.waiters: list[object] = []
        self.watchers: list[Watcher] | None = None

    def wake(self, count: int = -1, key: int = 0) -> int:
        """Wake up to *count* waiters (all by default); how many were woken.  *key*: POLL* events, for watchers."""
        if self.watchers:
            self._tell_watchers(key)
        woken = self.waiters[:] if count < 0 else self.waiters[:count]
        del self.waiters[: len(woken)]
        for waiter in woken:
            waiter.wake_up()  # type: ignore[attr-defined]  # Waiter protocol of the scheduler
        return len(woken)

    def _tell_watchers(self, key: int) -> None:
        """Exclusive ones after the others, and only until one could use it (__wake_up_common)."""
        assert self.watchers is not None, "_tell_watchers: there are none"
        watchers = self.watchers[:]
        for watcher in watchers:
            if not watcher.exclusive:
                watcher.on_wake(key)
        for watcher in watchers:
            if watcher.exclusive and watcher.on_wake(key):
                return

    def watch(self, watcher: Watcher) -> None:
        """Tell *watcher* of every wake from now on (add_wait_queue)."""
        if self.watchers is None:
            self.watchers = []
        self.watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Leave *watcher* in peace (remove_wait_queue)."""
        assert self.watchers is not None, "unwatch: nobody watches"
        self.watchers.remove(watcher)

    def is_awaited(self) -> bool:
        """Whether a wake would end a task's sleep."""
        return bool(self.waiters) or (self.watchers is not None and any(w.is_awaited() for w in self.watchers))

    @coroutine
    def wait(self, timeout_ns: int | None = None) -> Generator["Wait", bool, bool]:
        """Park the calling task here; True if woken, False if *timeout_ns* of virtual time passed first."""
        return (yield Wait(self, timeout_ns))


class Timer(Protocol):
    """What ends a wait when its time is up."""

    def cancel(self) -> None:
        """It is over already."""
        ...


class Wait:
    """What a coroutine hands to the run loop: where to park, and for how long at most (ns; None: for ever)."""

    __slots__ = ("queue", "timeout_ns", "timer")

    def __init__(self, queue: WaitQueue, timeout_ns: int | None) -> None:
        self.queue = queue
        self.timeout_ns = timeout_ns
        self.timer: Timer | None = None
