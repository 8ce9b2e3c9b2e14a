"""Time: by default a function of the instructions retired, so that a run reads the same clock every time.

One instruction is one nanosecond.  When every task sleeps the clock jumps to the next timer.  ``--clock host``
follows the host's clocks instead, and the run is no longer reproducible.

Linux: kernel/time/timekeeping.c (ktime_get, ktime_get_real), kernel/time/hrtimer.c for the timers.
"""

import heapq
import time
from collections.abc import Callable
from typing import ClassVar, Final, Protocol

VIRTUAL_EPOCH_NS: Final = 1_893_456_000 * 10**9
"""CLOCK_REALTIME at boot of a machine with a virtual clock: 2030-01-01 00:00:00 UTC, always.

Later than any file of the host, so that make(1) and its kind see no modification times in the future."""

_CROWDED: Final = 1024


class Timer:
    """One pending expiry.  *deadline* is in CLOCK_MONOTONIC ns; *callback* None: cancelled or done."""

    __slots__ = ("callback", "deadline")

    def __init__(self, deadline: int, callback: Callable[[], None]) -> None:
        self.deadline = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Let the timer pass unnoticed."""
        self.callback = None


class HostTime(Protocol):
    """The host's clocks: what the module ``time`` has.  *is_record*: they show again what they showed once."""

    is_record: ClassVar[bool]

    def time_ns(self) -> int:
        """Nanoseconds since the epoch."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since some moment."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Let time pass."""
        ...


class RealTime:
    """The real one."""

    is_record: ClassVar[bool] = False

    time_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.monotonic_ns)
    sleep = staticmethod(time.sleep)


class Clock:
    """CLOCK_MONOTONIC and CLOCK_REALTIME of the machine, and its timers."""

    def __init__(self, icount: Callable[[], int], *, host: HostTime | None = None, uptime_ns: int = 0) -> None:
        """*host*: the clocks to follow; *uptime_ns*: what CLOCK_MONOTONIC shows at first."""
        self._icount = icount
        self._host = host
        self._skipped = uptime_ns
        self._epoch = host.time_ns() - host.monotonic_ns() if host else VIRTUAL_EPOCH_NS
        self._boot = host.monotonic_ns() - uptime_ns if host else 0
        self._heap: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._crowded = _CROWDED  # at so many timers the cancelled ones are looked for

    @property
    def is_host(self) -> bool:
        """The host's clock is followed."""
        return self._host is not None

    @property
    def is_real(self) -> bool:
        """And no record of it."""
        return self._host is not None and not self._host.is_record

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC: ns since boot."""
        if self._host is not None:
            return self._host.monotonic_ns() - self._boot
        return self._icount() + self._skipped

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME: ns since the epoch."""
        return self._epoch + self._boot + self.now_ns()

    def add_timer(self, deadline: int, callback: Callable[[], None]) -> Timer:
        """Call *callback* once, when CLOCK_MONOTONIC has reached *deadline* ns."""
        timer = Timer(deadline, callback)
        if len(self._heap) >= self._crowded:
            self._drop_cancelled()
        self._sequence += 1  # timers of one instant expire in the order they were set
        heapq.heappush(self._heap, (deadline, self._sequence, timer))
        return timer

    def _drop_cancelled(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].callback is not None]
        heapq.heapify(self._heap)
        self._crowded = max(2 * len(self._heap), _CROWDED)

    def next_deadline(self) -> int | None:
        """When the next timer expires, in CLOCK_MONOTONIC ns."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run_expired(self) -> None:
        """Call what is due."""
        while (deadline := self.next_deadline()) is not None and deadline <= self.now_ns():
            timer = heapq.heappop(self._heap)[2]
            callback, timer.callback = timer.callback, None
            assert callback is not None, "run_expired: next_deadline drops cancelled timers"
            callback()

    def skip_to(self, deadline: int) -> None:
        """Nothing can run before *deadline* (ns): jump there, or sleep on the host."""
        wait = deadline - self.now_ns()
        if wait <= 0:
            return
        if self._host is not None:
            self._host.sleep(wait / 1e9)
        else:
            self._skipped += wait
