"""epoll: a set of files, and the list of those that may be ready.

Each watched file tells its item when something happens (``on_wake``), and the item puts itself on the ready list; a
wait looks at that list alone, so it costs as much as there is to report.

Linux: fs/eventpoll.c (struct eventpoll, struct epitem, ep_insert, ep_poll_callback, ep_send_events).
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from minikernel.abi.epoll import (
    EP_MAX_NESTS,
    EP_PRIVATE_BITS,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLEXCLUSIVE_OK_BITS,
    EPOLLINOUT_BITS,
    EPOLLONESHOT,
)
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_RDWR
from minikernel.abi.poll import POLLERR, POLLHUP, READABLE
from minikernel.fs.dentry import Path
from minikernel.fs.file import OpenFile
from minikernel.wait import WaitQueue

_ALWAYS: Final = POLLERR | POLLHUP  # reported whether asked for or not
# How many epolls may lead to one file, by the length of the way: path_limits.
_PATH_LIMITS: Final = (1000, 500, 100, 50, 10)


class EpollItem:
    """One watched file: struct epitem.  It stands in the file's wait queues until ``remove``."""

    __slots__ = ("data", "ep", "events", "exclusive", "fd", "file", "is_ready", "queues")

    def __init__(self, ep: "EpollFile", file: OpenFile, fd: int, events: int, data: int) -> None:
        self.ep = ep
        self.file = file
        self.fd = fd
        self.events = events  # asked for; EP_PRIVATE_BITS alone: switched off by EPOLLONESHOT
        self.data = data
        self.exclusive = bool(events & EPOLLEXCLUSIVE)
        self.is_ready = False  # it is in ep.ready
        self.queues: tuple[WaitQueue, ...] = ()

    def poll(self) -> int:
        """Events to report now (ep_item_poll)."""
        return self.file.poll() & self.events

    def on_wake(self, key: int) -> bool:
        """The file says that something happened (ep_poll_callback)."""
        if not self.events & ~EP_PRIVATE_BITS or (key and not key & self.events):
            return False
        ep = self.ep
        useful = not self.exclusive or self._is_use_for(key)
        ep.make_ready(self)
        return useful

    def _is_use_for(self, key: int) -> bool:
        if not self.ep.queue.waiters:
            return False
        direction = key & EPOLLINOUT_BITS
        return direction in {0, EPOLLINOUT_BITS} or bool(direction & self.events)

    def is_awaited(self) -> bool:
        """Whether a task waits for our epoll, or for one that watches it."""
        return self.ep.is_awaited()

    def remove(self) -> None:
        """Watch the file no longer (ep_remove)."""
        for queue in self.queues:
            queue.unwatch(self)
        self.queues = ()
        assert self.file.epitems is not None, "EpollItem.remove: the file does not know us"
        self.file.epitems.remove(self)
        del self.ep.items[self.file, self.fd]
        if self.is_ready:
            self.ep.ready.remove(self)
            self.is_ready = False


class EpollFile(OpenFile):
    """A set of watched files: struct eventpoll.

    Invariant: an item is in ``ready``, once, if and only if its ``is_ready`` is set; every item with events to report
    is there, unless it was reported already and is edge-triggered, or switched off.
    """

    __slots__ = ("items", "poll_wait", "queue", "ready")

    def __init__(self, path: Path) -> None:
        super().__init__(path, O_RDWR)
        self.items: dict[tuple[OpenFile, int], EpollItem] = {}
        self.ready: deque[EpollItem] = deque()
        self.queue = WaitQueue()  # tasks in epoll_wait
        self.poll_wait = WaitQueue()  # those who poll this file, other epolls among them

    def release(self) -> None:
        """The set is gone (ep_clear_and_put)."""
        for item in list(self.items.values()):
            item.remove()

    def poll(self) -> int:
        """Readable when a watched file has something to report (ep_eventpoll_poll)."""
        while self.ready:
            if self.ready[0].poll():
                return READABLE
            self.ready.popleft().is_ready = False
        return 0

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        """Woken when an item becomes ready."""
        return (self.poll_wait,)

    def seek(self, offset: int, whence: int) -> int:
        """Nowhere to go (noop_llseek)."""
        del offset, whence
        return self.pos

    def fdinfo(self) -> bytes:
        """What /proc/PID/fdinfo shows of each file (ep_show_fdinfo)."""
        return b"".join(
            b"tfd: %8d events: %8x data: %16x  pos:%d ino:%x sdev:%x\n"
            % (item.fd, item.events, item.data, item.file.pos, item.file.inode.ino, item.file.inode.dev)
            for item in self.items.values()
        )

    def is_awaited(self) -> bool:
        """Whether somebody sleeps until an item is ready."""
        return self.queue.is_awaited() or self.poll_wait.is_awaited()

    def make_ready(self, item: EpollItem) -> None:
        """*item* may have something to report: whoever waits learns it."""
        if not item.is_ready:
            item.is_ready = True
            self.ready.append(item)
        self.queue.wake(1)
        self.poll_wait.wake(key=READABLE)

    # epoll_ctl

    def add(self, file: OpenFile, fd: int, events: int, data: int) -> None:
        """EPOLL_CTL_ADD, of a file that can be polled.

        Errors:
            EEXIST; EINVAL: EPOLLEXCLUSIVE with what it excludes, or too many ways to the file; ELOOP: see check_loop.
        """
        nested = isinstance(file, EpollFile)
        if events & EPOLLEXCLUSIVE and (nested or events & ~EPOLLEXCLUSIVE_OK_BITS):
            raise LinuxError(Errno.EINVAL, "EPOLLEXCLUSIVE with other flags, or of an epoll")
        if isinstance(file, EpollFile):
            check_loop(self, file)
        if (file, fd) in self.items:
            raise LinuxError(Errno.EEXIST, f"descriptor {fd} is watched")
        item = EpollItem(self, file, fd, events | _ALWAYS, data)
        if file.epitems is None:
            file.epitems = []
        file.epitems.append(item)
        self.items[file, fd] = item
        if (len(file.epitems) > 1 or nested or self.epitems) and not _check_paths(file):
            item.remove()
            raise LinuxError(Errno.EINVAL, "too many epolls lead to the file")
        item.queues = file.poll_queues()
        for queue in item.queues:
            queue.watch(item)
        if item.poll():
            self.make_ready(item)

    def modify(self, file: OpenFile, fd: int, events: int, data: int) -> None:
        """EPOLL_CTL_MOD.  Errors: ENOENT; EINVAL: EPOLLEXCLUSIVE, now or before."""
        if events & EPOLLEXCLUSIVE:
            raise LinuxError(Errno.EINVAL, "EPOLLEXCLUSIVE is for EPOLL_CTL_ADD")
        item = self._find(file, fd)
        if item.exclusive:
            raise LinuxError(Errno.EINVAL, "the item is EPOLLEXCLUSIVE")
        item.events = events | _ALWAYS
        item.data = data
        if item.poll() and not item.is_ready:
            self.make_ready(item)

    def delete(self, file: OpenFile, fd: int) -> None:
        """EPOLL_CTL_DEL.  Errors: ENOENT."""
        self._find(file, fd).remove()

    def _find(self, file: OpenFile, fd: int) -> EpollItem:
        item = self.items.get((file, fd))
        if item is None:
            raise LinuxError(Errno.ENOENT, f"descriptor {fd} is not watched")
        return item

    # epoll_wait

    def send_events(self, limit: int, send: Callable[[int, int], None]) -> int:
        """Hand up to *limit* events to *send* (events, data); how many (ep_send_events).

        Errors:
            EFAULT: of the first *send*; a later one ends the list.
        """
        again: list[EpollItem] = []
        sent = 0
        ready = self.ready
        while ready and sent < limit:
            item = ready.popleft()
            item.is_ready = False
            events = item.poll()
            if not events:
                continue
            try:
                send(events, item.data)
            except LinuxError:
                ready.appendleft(item)
                item.is_ready = True
                if not sent:
                    raise
                break
            sent += 1
            if item.events & EPOLLONESHOT:
                item.events &= EP_PRIVATE_BITS
            elif not item.events & EPOLLET:
                again.append(item)
        for item in again:  # level-triggered: it is looked at again, after those that wait their turn
            if not item.is_ready:
                item.is_ready = True
                ready.append(item)
        if ready:
            self.queue.wake(1)
        return sent


def check_loop(ep: EpollFile, added: EpollFile) -> None:
    """Whether *added* may be watched by *ep* (ep_loop_check).  Errors: ELOOP: a circle, or more than 5 levels."""
    if _depth_below(ep, added) + 1 + _depth_above(ep) > EP_MAX_NESTS:
        raise LinuxError(Errno.ELOOP, "epolls nested too deep, or in a circle")


def _depth_below(inserting: EpollFile, ep: EpollFile, depth: int = 0) -> int:
    """Levels of epolls below *ep*; more than EP_MAX_NESTS if *inserting* is among them (ep_loop_check_proc)."""
    deepest = 0
    for file, _ in ep.items:
        if isinstance(file, EpollFile):
            if file is inserting or depth > EP_MAX_NESTS:
                return EP_MAX_NESTS + 1
            deepest = max(deepest, _depth_below(inserting, file, depth + 1) + 1)
    return deepest


def _depth_above(ep: EpollFile) -> int:
    """Levels of epolls that watch *ep* (ep_get_upwards_depth_proc)."""
    return max((_depth_above(item.ep) + 1 for item in ep.epitems or ()), default=0)


def _check_paths(file: OpenFile) -> bool:
    """Whether not too many chains of epolls lead to *file*, or to a file below it (reverse_path_check)."""
    if isinstance(file, EpollFile):
        return all(_check_paths(below) for below, _ in file.items)
    counts = [0] * len(_PATH_LIMITS)
    return _count_paths(file, 0, counts)


def _count_paths(file: OpenFile, depth: int, counts: list[int]) -> bool:
    for item in file.epitems or ():
        if depth >= len(_PATH_LIMITS):
            return False
        if item.ep.epitems:
            if not _count_paths(item.ep, depth + 1, counts):
                return False
            continue
        counts[depth] += 1
        if counts[depth] > _PATH_LIMITS[depth]:
            return False
    return True
