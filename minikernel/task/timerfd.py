"""Timers that are files.  Linux: fs/timerfd.c.

A periodic timer rests after it has expired: the next read counts the intervals that passed, and starts it again.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_RDWR
from minikernel.abi.poll import POLLIN
from minikernel.abi.time import KTIME_MAX, NSEC_PER_SEC
from minikernel.abi.timer import TFD_IOC_SET_TICKS
from minikernel.fs.file import OpenFile, WouldBlock
from minikernel.mm.uaccess import copy_from_user
from minikernel.task.itimer import hrtimer_forward
from minikernel.wait import WaitQueue

if TYPE_CHECKING:
    from minikernel.fs.dentry import Path
    from minikernel.task.posix_timers import TimerClock
    from minikernel.task.task import Task

_U64: Final = Struct("<Q")


class TimerFile(OpenFile):
    """One timerfd: struct timerfd_ctx.  Times in ns of its clock."""

    __slots__ = ("_clock", "_clock_id", "_expired", "_expires", "_flags", "_interval", "_queue", "_ticks")

    def __init__(self, path: Path, flags: int, clock_id: int, clock: TimerClock) -> None:
        super().__init__(path, flags | O_RDWR)
        self._clock_id = clock_id
        self._clock = clock
        self._queue = WaitQueue()
        self._ticks = 0  # expiries that nobody has read
        self._expired = False
        self._expires = 0  # when it expires, or did so last; 0: it was never set
        self._interval = 0
        self._flags = 0  # of the last setting, for /proc

    # ---- the calls

    def get(self) -> tuple[int, int]:
        """(what is left, interval) (do_timerfd_gettime)."""
        if self._expired and self._interval:
            self._catch_up()
            self._expired = False
            self._start()
        return self._left(), self._interval

    def set(self, value: int, interval: int, flags: int, *, absolute: bool) -> tuple[int, int]:
        """Expire in *value* ns, or at that time, and every *interval* after it; what it was (do_timerfd_settime)."""
        self._clock.cancel()
        if self._expired and self._interval:
            self._expires, _ = hrtimer_forward(self._expires, self._interval, self._clock.now())
        before = self._left(), self._interval
        self._expired = False
        self._ticks = 0
        self._flags = flags
        self._interval = interval
        self._expires = 0
        if value:
            self._expires = value if absolute else min(value + self._clock.now(), KTIME_MAX)
            self._start()
        return before

    def _left(self) -> int:
        return max(self._expires - self._clock.now(), 0)

    def _start(self) -> None:
        self._clock.start(self._expires, self._expire)

    def _expire(self) -> None:
        """timerfd_triggered."""
        self._expired = True
        self._ticks += 1
        self._queue.wake(key=POLLIN)

    def _catch_up(self) -> None:
        """Count what passed since it expired; the expiry itself is counted already."""
        self._expires, passed = hrtimer_forward(self._expires, self._interval, self._clock.now())
        self._ticks += passed - 1

    # ---- the file

    def read(self, count: int) -> bytes:
        """How often it expired since the last read (timerfd_read_iter)."""
        if count < _U64.size:
            raise LinuxError(Errno.EINVAL, "a timerfd is read in 8 bytes")
        if not self._ticks:
            raise WouldBlock(self._queue, "it has not expired")
        if self._expired and self._interval:
            self._catch_up()
            self._start()
        self._expired = False
        ticks, self._ticks = self._ticks, 0
        return _U64.pack(ticks)

    def unread(self, data: bytes) -> None:
        """The count is lost, as on Linux."""

    def seek(self, offset: int, whence: int) -> int:
        """Nowhere to go (noop_llseek)."""
        del offset, whence
        return self.pos

    def poll(self) -> int:
        """timerfd_poll."""
        return POLLIN if self._ticks else 0

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        """Woken by every expiry."""
        return (self._queue,)

    def ioctl(self, task: Task, request: int, arg: int) -> int:
        """TFD_IOC_SET_TICKS: put back what a checkpoint found.  Errors: EINVAL: none."""
        if request != TFD_IOC_SET_TICKS:
            raise LinuxError(Errno.ENOTTY, f"ioctl {request:#x} of a timerfd")
        (ticks,) = _U64.unpack(copy_from_user(task.mm, arg, _U64.size))
        if not ticks:
            raise LinuxError(Errno.EINVAL, "no expiries")
        self._ticks = ticks
        self._queue.wake(key=POLLIN)
        return 0

    def fdinfo(self) -> bytes:
        """timerfd_show."""
        value, interval = self._left(), self._interval
        return (
            b"clockid: %d\nticks: %d\nsettime flags: 0%o\nit_value: (%d, %d)\nit_interval: (%d, %d)\n"
            % (self._clock_id, self._ticks, self._flags, *divmod(value, NSEC_PER_SEC), *divmod(interval, NSEC_PER_SEC))
        )  # fmt: skip

    def release(self) -> None:
        """The last descriptor was closed."""
        self._clock.cancel()
