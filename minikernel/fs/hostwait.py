"""Waiting for the host: what the emulator does when a task sleeps until standard input or output is ready.

While others run the host is asked now and then (``check``); when nobody can run the emulator itself sleeps
(``sleep``), and a signal to it ends that sleep at once.
"""

import os
import select
import signal
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from minikernel.abi.poll import POLLERR, POLLHUP, READABLE, WRITABLE
from minikernel.fs.hostjournal import Journal
from minikernel.wait import WaitQueue

if TYPE_CHECKING:
    from minikernel.fs.hostio import HostInode

_NS_PER_MS: Final = 1_000_000
_WAKEUP_BYTES: Final = 4096


class BellTap(Protocol):
    """Who stands between the host's readiness and the machine: a recorder, or the record itself."""

    def poll(self, host: Callable[[], list[tuple[int, int]]], *, idle: bool) -> list[tuple[int, int]]:
        """Which streams (by their place) are ready for what; *host* asks the host, and may sleep.

        *idle*: nothing goes on in the machine until the host has something for it.
        """
        ...


class HostDoorbell:
    """The host's events: its streams, and through a pipe of our own the signals that were sent to us."""

    __slots__ = ("_old_wakeup", "_streams", "_wakeup", "journal", "lifeline", "tap")

    def __init__(self, streams: Iterable["HostInode"], tap: BellTap | None = None) -> None:
        self.tap = tap
        self._streams = tuple({id(inode): inode for inode in streams}.values())
        self._wakeup: tuple[int, int] | None = None
        self._old_wakeup = -1
        self.journal: Journal | None = None  # what was ready is kept there
        self.lifeline = -1  # a descriptor that ends a sleep when its other end is closed

    def connect_signals(self) -> None:
        """From now on a signal to the emulator ends ``sleep``.  Only in the main thread, as Python wants it."""
        self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_wakeup = signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)

    def close(self) -> None:
        """Signals are Python's own business again."""
        if self._wakeup is None:
            return
        signal.set_wakeup_fd(self._old_wakeup)
        for fd in self._wakeup:
            os.close(fd)
        self._wakeup = None

    def is_awaited(self) -> bool:
        """Whether some task sleeps until the host is ready."""
        return any(inode.queue.is_awaited() or inode.room.is_awaited() for inode in self._streams)

    def check(self) -> bool:
        """Wake who waits for a stream that is ready now, and tell the watchers; whether that was of use."""
        streams = {}
        for inode in self._streams:
            events = _wanted(inode.queue, READABLE) | _wanted(inode.room, WRITABLE)
            if events:
                streams[inode] = events
        return bool(streams) and self._poll(streams, 0)

    def sleep(self, timeout_ns: int | None) -> bool:
        """Sleep until a stream that somebody waits for is ready, a signal comes, or *timeout_ns* has passed.

        Whether a stream was ready, and that of use.
        """
        streams = {}
        for inode in self._streams:
            # A watcher that knows of input already is not waiting for it.
            events = _wanted(inode.queue, READABLE, sleeping=True, watchers=not inode.announced)
            events |= _wanted(inode.room, WRITABLE, sleeping=True)
            if events:
                streams[inode] = events
        return self._poll(streams, None if timeout_ns is None else -(-timeout_ns // _NS_PER_MS))

    def _poll(self, streams: dict["HostInode", int], timeout_ms: int | None) -> bool:
        tap, journal = self.tap, self.journal
        if tap is not None:
            ready = tap.poll(lambda: self._ask_host(streams, timeout_ms), idle=timeout_ms is None)
        elif journal is not None:
            ready = journal.ask("ready", lambda: self._ask_host(streams, timeout_ms))
        else:
            ready = self._ask_host(streams, timeout_ms)
        found = False
        for place, events in ready:
            found = _wake(self._streams[place], events) or found
        return found

    def _ask_host(self, streams: dict["HostInode", int], timeout_ms: int | None) -> list[tuple[int, int]]:
        """Which of *streams* are ready: place among ours, events."""
        poller = select.poll()
        by_fd = {inode.host_fd: self._streams.index(inode) for inode in streams}
        for inode, events in streams.items():
            poller.register(inode.host_fd, events)
        if self._wakeup is not None:
            poller.register(self._wakeup[0], READABLE)
        if self.lifeline >= 0:
            poller.register(self.lifeline, 0)
        ready = []
        for fd, events in poller.poll(timeout_ms):
            if fd in by_fd:
                ready.append((by_fd[fd], events))
            elif fd != self.lifeline:
                os.read(fd, _WAKEUP_BYTES)
        return ready


def _wanted(queue: WaitQueue, events: int, *, sleeping: bool = False, watchers: bool = True) -> int:
    """*events*, if somebody in *queue* wants to hear of them; *sleeping*: and a task sleeps until then."""
    # A task that reads or writes wants what its queue is for; poll's legs and epoll's items say what they want.
    if any(getattr(waiter, "events", events) & events for waiter in queue.waiters):
        return events
    for watcher in queue.watchers or () if watchers else ():
        if watcher.events & events and (not sleeping or watcher.is_awaited()):
            return events
    return 0


def _wake(inode: "HostInode", events: int) -> bool:
    """Wake the sleepers of *inode*; its watchers hear of what is ready once, until a call had to wait again."""
    found = False
    broken = events & (POLLHUP | POLLERR)
    if events & READABLE or broken:
        found = bool(inode.queue.waiters) or not inode.announced
        inode.announced = True
        if found:
            inode.queue.wake(key=events)
    if events & WRITABLE or broken:
        found = bool(inode.room.waiters) or found
        inode.room.wake(key=events)
    return found
