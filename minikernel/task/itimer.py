"""Interval timers of a process.  Linux: kernel/time/itimer.c.

ITIMER_REAL with an interval is set again when its SIGALRM is taken, not when it is sent: a process that blocks
SIGALRM is not flooded, and one that ignores it has no timer any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikernel.abi import signal as s
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.time import ITIMER_PROF, ITIMER_REAL, NSEC_PER_USEC
from minikernel.task.cpu_timers import TICK_NSEC, CpuItimer, cpu_sample, cpu_timers_of
from minikernel.task.jobctl import first_thread
from minikernel.task.signal import send_signal

if TYPE_CHECKING:
    from minikernel.clock import Timer
    from minikernel.kernel import Kernel
    from minikernel.task.task import Process, Task


def hrtimer_forward(expires: int, interval: int, now: int) -> tuple[int, int]:
    """Move *expires* on by intervals until it is after *now*: where it is then, and how many intervals that were."""
    if now < expires:
        return expires, 0
    count = (now - expires) // interval + 1
    return expires + count * interval, count


class RealTimer:
    """ITIMER_REAL of one process: SIGALRM at *expires* (CLOCK_MONOTONIC ns), and every *interval* ns after that."""

    __slots__ = ("_kernel", "_process", "_timer", "expires", "interval")

    def __init__(self, kernel: Kernel, process: Process, value: int, interval: int) -> None:
        self._kernel = kernel
        self._process = process
        self.interval = interval
        self.expires = kernel.clock.now_ns() + value
        self._timer: Timer | None = None
        self._start()

    def _start(self) -> None:
        self._timer = self._kernel.clock.add_timer(self.expires, self._expire)
        self._kernel.need_resched = True  # the slice may be longer than the timer

    def _expire(self) -> None:
        """it_real_fn."""
        self._timer = None
        if self._process.threads:
            send_signal(first_thread(self._process), Siginfo(s.SIGALRM, s.SI_KERNEL), group=True)

    def rearm(self) -> None:
        """A SIGALRM was taken (posixtimer_rearm_itimer)."""
        if self._timer is None and self.interval:
            self.expires, _ = hrtimer_forward(self.expires, self.interval, self._kernel.clock.now_ns())
            self._start()

    def cancel(self) -> None:
        """No signal comes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def remaining(self) -> int:
        """Ns to the next signal, at least a microsecond; 0: none is to come (itimer_get_remtime)."""
        if self._timer is None:
            return 0
        left = self.expires - self._kernel.clock.now_ns()
        return left if left > 0 else NSEC_PER_USEC


def _cpu_itimer(process: Process, which: int) -> CpuItimer:
    timers = cpu_timers_of(process)
    return timers.prof if which == ITIMER_PROF else timers.virtual


def get_itimer(task: Task, which: int) -> tuple[int, int]:
    """(what is left, interval) of ITIMER_* *which* in ns (do_getitimer)."""
    process = task.process
    if which == ITIMER_REAL:
        timer = process.real_timer
        return (timer.remaining(), timer.interval) if timer is not None else (0, 0)
    if process.cpu_timers is None:
        return 0, 0
    itimer = _cpu_itimer(process, which)
    if not itimer.expires:
        return 0, itimer.interval
    task.kernel.update_curr()
    left = itimer.expires - cpu_sample(process, None, itimer.which)
    return left if left > 0 else TICK_NSEC, itimer.interval


def set_itimer(task: Task, which: int, value: int, interval: int) -> tuple[int, int]:
    """Set ITIMER_* *which* to *value* ns (0: off); what it was (do_setitimer)."""
    process, kernel = task.process, task.kernel
    before = get_itimer(task, which)
    if which == ITIMER_REAL:
        if process.real_timer is not None:
            process.real_timer.cancel()
        process.real_timer = RealTimer(kernel, process, value, interval) if value else None
        return before
    itimer = _cpu_itimer(process, which)
    kernel.update_curr()
    # A tick more, so that it never comes too early by Linux's clock of ticks (set_cpu_itimer).
    itimer.expires = cpu_sample(process, None, itimer.which) + value + TICK_NSEC if value else 0
    itimer.interval = interval
    kernel.need_resched = True
    return before
