"""POSIX timers.  Linux: kernel/time/posix-timers.c, posix-cpu-timers.c; kernel/signal.c (posixtimer_*).

A timer with an interval is set again when its signal is taken, and counts then what it missed: the overrun.
While the signal is ignored the timer rests; it goes on when the signal gets a handler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import SI_TIMER, sigmask
from minikernel.abi.time import KTIME_MAX
from minikernel.task.cpu_timers import cpu_sample, cpu_timers_of
from minikernel.task.itimer import hrtimer_forward
from minikernel.task.jobctl import first_thread
from minikernel.task.signal import enqueue_signal, prepare_signal

if TYPE_CHECKING:
    from typing import Protocol

    from minikernel.clock import Timer
    from minikernel.kernel import Kernel
    from minikernel.task.task import Process, Task

    class TimerClock(Protocol):
        """What a timer runs by: struct k_clock and its base."""

        def now(self) -> int:
            """What it shows, in ns."""
            ...

        def start(self, expires: int, callback: Callable[[], None]) -> None:
            """Call *callback* once when the clock shows *expires* ns; nothing else may be started."""
            ...

        def cancel(self) -> None:
            """Forget what was started."""
            ...


_INT_MAX: Final = 0x7FFF_FFFF


class WallClock:
    """CLOCK_MONOTONIC, or one that is *offset* ns ahead of it: CLOCK_REALTIME."""

    __slots__ = ("_kernel", "_offset", "_timer")

    def __init__(self, kernel: Kernel, *, realtime: bool) -> None:
        self._kernel = kernel
        self._offset = kernel.clock.realtime_ns() - kernel.clock.now_ns() if realtime else 0
        self._timer: Timer | None = None

    def now(self) -> int:
        """The time."""
        return self._kernel.clock.now_ns() + self._offset

    def start(self, expires: int, callback: Callable[[], None]) -> None:
        """hrtimer_start."""
        self._timer = self._kernel.clock.add_timer(expires - self._offset, callback)
        self._kernel.need_resched = True  # the slice may be longer than the timer

    def cancel(self) -> None:
        """hrtimer_cancel."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class CpuClock:
    """The CPU time of a thread, or of a process (*thread* None).  A CpuTimer while it is started."""

    __slots__ = ("_callback", "_kernel", "_process", "expires", "thread", "which")

    def __init__(self, kernel: Kernel, process: Process, thread: Task | None, which: int) -> None:
        self._kernel = kernel
        self._process = process
        self.thread = thread
        self.which = which
        self.expires = 0
        self._callback: Callable[[], None] | None = None

    def now(self) -> int:
        """The CPU time."""
        self._kernel.update_curr()
        return cpu_sample(self._process, self.thread, self.which)

    def start(self, expires: int, callback: Callable[[], None]) -> None:
        """arm_timer; what is due already is called at once, as the CPU may never run the clock's task again."""
        self.expires = expires
        if self.now() >= expires:
            callback()
            return
        self._callback = callback
        cpu_timers_of(self._process).armed.append(self)
        self._kernel.need_resched = True

    def cancel(self) -> None:
        """Take it off the list."""
        if self._callback is not None:
            self._callback = None
            timers = self._process.cpu_timers
            if timers is not None and self in timers.armed:
                timers.armed.remove(self)

    def fire(self) -> None:
        """It is due."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


# enum posix_timer_state; plain ints, as making an Enum is felt at every start.
_DISARMED: Final = 0
_ARMED: Final = 1
_REQUEUE_PENDING: Final = 2  # expired; set again when the signal is taken


class PosixTimer:
    """One timer of timer_create(2): struct k_itimer.  Times in ns of its clock."""

    __slots__ = (
        "_clock",
        "_expires",
        "_interval",
        "_overrun",
        "_process",
        "_queued",
        "_silent",
        "_status",
        "_thread",
        "_valid",
        "_value",
        "id",
        "overrun_last",
        "signo",
    )

    def __init__(
        self, process: Process, clock: TimerClock, signo: int | None, value: int | None, thread: Task | None
    ) -> None:
        """*signo* None: no signal (SIGEV_NONE).  *value* None: the timer's id.  *thread*: who alone gets the signal."""
        self.id = process.next_timer_id
        process.next_timer_id = (self.id + 1) & _INT_MAX
        process.posix_timers[self.id] = self
        self._process = process
        self._clock = clock
        self._thread = thread
        self._silent = signo is None
        self.signo = signo or 0
        self._value = self.id if value is None else value
        self._status = _DISARMED
        self._expires = 0
        self._interval = 0
        self._overrun = -1
        self.overrun_last = 0
        self._queued: Siginfo | None = None  # in a queue of signals
        self._valid = False  # what is queued tells of the present setting

    # ---- the calls

    def get(self) -> tuple[int, int]:
        """(what is left, interval); (0, 0) if it does not run (common_timer_get)."""
        if not self._interval and self._status == _DISARMED and not self._silent:
            return 0, 0
        now = self._clock.now()
        if self._interval and self._status != _ARMED:
            self._forward(now)
        left = self._expires - now
        if left <= 0:
            left = 0 if self._silent else 1
        return left, self._interval

    def set(self, value: int, interval: int, *, absolute: bool) -> None:
        """Let it expire in *value* ns, or at that time, and every *interval* after it; 0: never (common_timer_set)."""
        self._stop()
        self._valid = False
        self._interval = interval if value else 0
        self._overrun = -1
        self.overrun_last = 0
        self._expires = 0
        if not value:
            return
        self._expires = value if absolute else min(value + self._clock.now(), KTIME_MAX)
        if not self._silent:
            self._arm()

    def delete(self) -> None:
        """Forget it, and the signal that has not been taken (posix_timer_delete)."""
        self._stop()
        del self._process.posix_timers[self.id]
        if self._queued is not None:
            self._unqueue()

    def _stop(self) -> None:
        self._clock.cancel()
        self._status = _DISARMED
        if self in self._process.ignored_timers:
            self._process.ignored_timers.remove(self)

    def _arm(self) -> None:
        self._status = _ARMED
        self._clock.start(self._expires, self._expire)

    def _forward(self, now: int) -> None:
        self._expires, missed = hrtimer_forward(self._expires, self._interval, now)
        self._overrun += missed

    # ---- the signal

    def _target(self) -> Task | None:
        """Who is sent the signal; None: that thread has ended (posixtimer_get_target)."""
        threads = self._process.threads
        if self._thread is not None:
            return self._thread if self._thread in threads else None
        current = self._thread_in_cpu()
        return current if current in threads else first_thread(self._process) if threads else None

    def _thread_in_cpu(self) -> Task | None:
        return self._process.threads[0].kernel.current if self._process.threads else None

    def _expire(self) -> None:
        """The clock shows the time (posix_timer_fn, posixtimer_send_sigqueue)."""
        self._status = _REQUEUE_PENDING if self._interval else _DISARMED
        target = self._target()
        if target is None:
            return
        self._valid = True
        if not prepare_signal(target, self.signo):
            if self._queued is not None:
                self._unqueue()
            self.rest()
        elif self._queued is None:
            self._enqueue(target)

    def _enqueue(self, target: Task) -> None:
        self._queued = Siginfo(self.signo, SI_TIMER, value=self._value, timer_id=self.id)
        enqueue_signal(target, self._queued, group=self._thread is None)

    def _unqueue(self) -> None:
        queued, self._queued = self._queued, None
        process = self._process
        for pending in (process.shared_pending, *(thread.pending for thread in process.threads)):
            if any(info is queued for info in pending.queue):
                pending.queue = [info for info in pending.queue if info is not queued]
                if not any(info.signo == self.signo for info in pending.queue):
                    pending.mask &= ~sigmask(self.signo)

    def deliver(self, info: Siginfo) -> Siginfo | None:
        """A signal of ours is taken from the queue: what to tell; None: nothing (posixtimer_deliver_signal)."""
        if info is not self._queued:
            return info  # somebody made it up
        self._queued = None
        if not self._valid:
            return None
        if self._status != _REQUEUE_PENDING:
            return info
        self._forward(self._clock.now())
        self.overrun_last, self._overrun = min(self._overrun, _INT_MAX), -1
        self._arm()
        return info._replace(overrun=self.overrun_last)

    def rest(self) -> None:
        """The signal is ignored: go on when it no longer is (posixtimer_sig_ignore)."""
        if self._status == _REQUEUE_PENDING and self not in self._process.ignored_timers:
            self._process.ignored_timers.append(self)

    def resume(self) -> None:
        """The signal is ignored no longer (posixtimer_sig_unignore)."""
        target = self._target()
        if target is not None and self._queued is None:
            self._enqueue(target)

    def flushed(self, info: Siginfo) -> None:
        """*info*, which may be of this timer, was thrown out of the queue because its signal is now ignored."""
        if info is self._queued:
            self._queued = None
            if self._valid:
                self.rest()


def find_timer(process: Process, timer_id: int) -> PosixTimer:
    """The timer *timer_id* of *process* (lock_timer).  Errors: EINVAL."""
    timer = process.posix_timers.get(timer_id)
    if timer is None:
        raise LinuxError(Errno.EINVAL, f"there is no timer {timer_id}")
    return timer


def timers_of_ignored_signal(process: Process, flushed: list[Siginfo]) -> None:
    """Signals were thrown away because they are ignored now: their timers rest."""
    for info in flushed:
        if info.code == SI_TIMER and info.timer_id in process.posix_timers:
            process.posix_timers[info.timer_id].flushed(info)


def timers_of_heard_signal(process: Process, sig: int) -> None:
    """*sig* is not ignored any more: timers that rest because of it go on."""
    for timer in process.ignored_timers[:]:
        if timer.signo == sig:
            process.ignored_timers.remove(timer)
            timer.resume()
