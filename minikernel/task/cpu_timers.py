"""Timers that count CPU time: ITIMER_VIRTUAL and ITIMER_PROF, RLIMIT_CPU, POSIX timers of CPU clocks.

CPU time is the instructions retired.  The run loop ends a slice where the first of these timers is due, so they
expire at the instruction; Linux looks at every tick.

Linux: kernel/time/posix-cpu-timers.c (run_posix_cpu_timers, check_process_timers), kernel/time/itimer.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minikernel.abi import signal as s
from minikernel.abi.resource import RLIM_INFINITY, RLIMIT_CPU
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.time import NSEC_PER_SEC
from minikernel.task.jobctl import first_thread
from minikernel.task.signal import send_signal

if TYPE_CHECKING:
    from typing import Protocol

    from minikernel.task.task import Process, Task

    class CpuTimer(Protocol):
        """Something that is due at a point of CPU time: struct cpu_timer."""

        expires: int  # ns of the clock
        thread: Task | None  # None: the clock of the process
        which: int  # CPUCLOCK_*

        def fire(self) -> None:
            """The time has come; it has been taken off the list."""
            ...


TICK_NSEC: Final = 4_000_000  # CONFIG_HZ=250
CPUCLOCK_PROF: Final = 0
CPUCLOCK_VIRT: Final = 1
CPUCLOCK_SCHED: Final = 2
_MAX_BUDGET: Final = 1 << 62


def thread_group_cputime(process: Process) -> tuple[int, int]:
    """User and system time of all threads *process* has or had, in ns."""
    dead, threads = process.dead_usage, process.threads
    return dead.utime + sum(thread.utime for thread in threads), dead.stime + sum(thread.stime for thread in threads)


def cpu_sample(process: Process, thread: Task | None, which: int) -> int:
    """CPU time (CPUCLOCK_*) of *thread*, or of the whole process, in ns."""
    utime, stime = (thread.utime, thread.stime) if thread is not None else thread_group_cputime(process)
    return utime if which == CPUCLOCK_VIRT else utime + stime


class CpuItimer:
    """ITIMER_VIRTUAL or ITIMER_PROF: struct cpu_itimer.  Both in ns; *expires* in CPU time, 0: not set."""

    __slots__ = ("expires", "interval", "sig", "which")

    def __init__(self, which: int, sig: int) -> None:
        self.which = which
        self.sig = sig
        self.expires = 0
        self.interval = 0


class CpuTimers:
    """What waits for CPU time of one process: struct posix_cputimers, and its two itimers."""

    __slots__ = ("armed", "prof", "process", "virtual")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.prof = CpuItimer(CPUCLOCK_PROF, s.SIGPROF)
        self.virtual = CpuItimer(CPUCLOCK_VIRT, s.SIGVTALRM)
        self.armed: list[CpuTimer] = []

    def check(self) -> None:
        """CPU time has passed: send what is due (run_posix_cpu_timers)."""
        process = self.process
        if not process.threads:
            return
        for itimer in (self.prof, self.virtual):
            if itimer.expires and cpu_sample(process, None, itimer.which) >= itimer.expires:
                itimer.expires = itimer.expires + itimer.interval if itimer.interval else 0
                send_signal(first_thread(process), Siginfo(itimer.sig, s.SI_KERNEL), group=True)
        self._check_limit()
        if self.armed:
            due = [timer for timer in self.armed if self._left(timer) <= 0]
            for timer in due:
                self.armed.remove(timer)
            for timer in due:
                timer.fire()

    def _check_limit(self) -> None:
        """RLIMIT_CPU: SIGKILL at the hard limit, SIGXCPU at the soft one and every second after it."""
        limit, process = self.process.rlimits[RLIMIT_CPU], self.process
        soft, hard = limit
        if soft == RLIM_INFINITY:
            return
        used = cpu_sample(process, None, CPUCLOCK_PROF)
        if hard != RLIM_INFINITY and used >= hard * NSEC_PER_SEC:
            # Linux keeps no siginfo for SIGKILL; SI_KERNEL would look like the OOM killer in reports.
            send_signal(first_thread(process), Siginfo(s.SIGKILL), group=True)
        elif used >= soft * NSEC_PER_SEC:
            limit[0] = soft + 1
            send_signal(first_thread(process), Siginfo(s.SIGXCPU, s.SI_KERNEL), group=True)

    def _left(self, timer: CpuTimer) -> int:
        return timer.expires - cpu_sample(self.process, timer.thread, timer.which)

    def budget(self, task: Task) -> int:
        """How many instructions *task* may run before something is due; at least 1."""
        process = self.process
        left = _MAX_BUDGET
        for itimer in (self.prof, self.virtual):
            if itimer.expires:
                left = min(left, itimer.expires - cpu_sample(process, None, itimer.which))
        soft, hard = process.rlimits[RLIMIT_CPU]
        if soft != RLIM_INFINITY:
            left = min(left, min(soft, hard) * NSEC_PER_SEC - cpu_sample(process, None, CPUCLOCK_PROF))
        for timer in self.armed:
            if timer.thread is None or timer.thread is task:
                left = min(left, self._left(timer))
        return max(left, 1)


def cpu_timers_of(process: Process) -> CpuTimers:
    """The CPU timers of *process*, made at the first use."""
    if process.cpu_timers is None:
        process.cpu_timers = CpuTimers(process)
    return process.cpu_timers


def watch_cpu_limit(process: Process) -> None:
    """RLIMIT_CPU of *process* was set or inherited (update_rlimit_cpu)."""
    if process.rlimits[RLIMIT_CPU][0] != RLIM_INFINITY:
        cpu_timers_of(process)
