"""Clocks and sleeping.  Linux: kernel/time/time.c, posix-timers.c, posix-cpu-timers.c, hrtimer.c.

Every clock is derived from the machine's one clock, so reading a clock twice at one instruction gives one answer.
"""

from collections.abc import Callable, Coroutine
from functools import partial as partial_call
from typing import Any, Final, TypeAlias

from minikernel.abi.abi import Abi
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.time import (
    CLOCK_BOOTTIME,
    CLOCK_BOOTTIME_ALARM,
    CLOCK_MONOTONIC,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_MONOTONIC_RAW,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_REALTIME,
    CLOCK_REALTIME_ALARM,
    CLOCK_REALTIME_COARSE,
    CLOCK_TAI,
    CLOCK_THREAD_CPUTIME_ID,
    KTIME_MAX,
    NSEC_PER_SEC,
    TIMER_ABSTIME,
    pack_timespec,
    pack_timespec64,
    pack_timeval,
    pair_size,
    ticks,
    timespec_ns,
    timeval_ns,
    unpack_timespec,
    unpack_timespec64,
    unpack_timeval,
)
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user, put_user
from minikernel.syscalls.args import (
    Clock,
    Ptr,
    TimePtr,
    TimerFlags,
    Timespec64In,
    Timespec64Out,
    TimespecIn,
    TimespecOut,
    TimevalIn,
    TimevalOut,
)
from minikernel.syscalls.entry_types import Entry, full, partial
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.cpu_timers import CPUCLOCK_SCHED, thread_group_cputime
from minikernel.task.posix_timers import CpuClock
from minikernel.task.task import Process, Task
from minikernel.wait import Interrupted, WaitQueue

_COARSE_RESOLUTION_NS: Final = 4_000_000  # a tick of CONFIG_HZ=250
_TIMESPEC64_SIZE: Final = 16
_TIMEZONE_SIZE: Final = 8
CPUCLOCK_PERTHREAD: Final = 4
_CPUCLOCK_MAX: Final = 3  # PROF, VIRT, SCHED; then file descriptors
_CLOCKFD: Final = 3
_REAL_CLOCKS: Final = (CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI)
_MONOTONIC_CLOCKS: Final = (CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME)
_SLEEPING_CLOCKS: Final = (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID)
_NO_SLEEP_CLOCKS: Final = (
    CLOCK_THREAD_CPUTIME_ID,
    CLOCK_MONOTONIC_RAW,
    CLOCK_REALTIME_COARSE,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_REALTIME_ALARM,  # without a clock chip that wakes the machine
    CLOCK_BOOTTIME_ALARM,
)


def process_times(process: Process) -> tuple[int, int]:
    """User and system time of all threads *process* has or had, in ns (thread_group_cputime)."""
    return thread_group_cputime(process)


def process_cpu_ns(task: Task) -> int:
    """CPU time of all threads the process has or had, in ns."""
    return sum(process_times(task.process))


def cpu_clock_task(kernel: Kernel, task: Task, clock: int) -> Task:
    """The task whose CPU clock *clock* (negative) is: pid_for_clock.  Errors: EINVAL."""
    if clock & 3 >= _CPUCLOCK_MAX:
        raise LinuxError(Errno.EINVAL, "a clock behind a file descriptor")
    pid = ~(clock >> 3)
    other = task if pid == 0 else kernel.tasks.get(pid)
    if other is None:
        raise LinuxError(Errno.EINVAL, "clock of a task that is not there")
    if clock & CPUCLOCK_PERTHREAD:
        if other.tgid != task.tgid:
            raise LinuxError(Errno.EINVAL, "clock of another process's thread")
    elif pid and other.pid != other.tgid and other is not task:
        raise LinuxError(Errno.EINVAL, "process clock of a thread")
    return other


def cpu_clock_of(kernel: Kernel, task: Task, clock: int) -> CpuClock:
    """The CPU clock that *clock* means: one of the caller's own, or a negative number.  Errors: EINVAL."""
    if clock >= 0:
        return CpuClock(kernel, task.process, task if clock == CLOCK_THREAD_CPUTIME_ID else None, CPUCLOCK_SCHED)
    owner = cpu_clock_task(kernel, task, clock)
    return CpuClock(kernel, owner.process, owner if clock & CPUCLOCK_PERTHREAD else None, clock & 3)


def clock_ns(kernel: Kernel, task: Task, clock: int) -> int:
    """What *clock* shows now, in ns.  Errors: EINVAL: there is no such clock."""
    if clock in _MONOTONIC_CLOCKS:
        return kernel.clock.now_ns()
    if clock in _REAL_CLOCKS:
        return kernel.clock.realtime_ns()
    kernel.update_curr()
    if clock == CLOCK_PROCESS_CPUTIME_ID:
        return process_cpu_ns(task)
    if clock == CLOCK_THREAD_CPUTIME_ID:
        return task.utime + task.stime
    if clock >= 0:
        raise LinuxError(Errno.EINVAL, "no such clock")
    other = cpu_clock_task(kernel, task, clock)
    return other.utime + other.stime if clock & CPUCLOCK_PERTHREAD else process_cpu_ns(other)


def clock_resolution_ns(kernel: Kernel, task: Task, clock: int) -> int:
    """Resolution of *clock* in ns.  Errors: EINVAL: there is no such clock."""
    clock_ns(kernel, task, clock)
    if clock in {CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE}:
        return _COARSE_RESOLUTION_NS
    # Of the CPU clocks, PROF and VIRT tick; SCHED counts.
    return _COARSE_RESOLUTION_NS if clock < 0 and clock & 3 < 2 else 1


def sys_clock_gettime(kernel: Kernel, task: Task, which: Clock, tp: TimespecOut) -> int:
    """clock_gettime(2)."""
    copy_to_user(task.mm, tp, pack_timespec(call_abi(task), clock_ns(kernel, task, which)))
    return 0


def sys_clock_gettime64(kernel: Kernel, task: Task, which: Clock, tp: Timespec64Out) -> int:
    """clock_gettime64, i386."""
    copy_to_user(task.mm, tp, pack_timespec64(clock_ns(kernel, task, which)))
    return 0


def sys_clock_getres(kernel: Kernel, task: Task, which: Clock, tp: TimespecOut) -> int:
    """clock_getres(2)."""
    resolution = clock_resolution_ns(kernel, task, which)
    if tp:
        copy_to_user(task.mm, tp, pack_timespec(call_abi(task), resolution))
    return 0


def sys_clock_getres_time64(kernel: Kernel, task: Task, which: Clock, tp: Timespec64Out) -> int:
    """clock_getres_time64, i386."""
    resolution = clock_resolution_ns(kernel, task, which)
    if tp:
        copy_to_user(task.mm, tp, pack_timespec64(resolution))
    return 0


def read_timespec(task: Task, address: int, *, wide: bool) -> int:
    """The struct timespec at *address* in ns; *wide*: a struct __kernel_timespec.  Errors: EFAULT, EINVAL."""
    abi = call_abi(task)
    if wide:
        return timespec_ns(*unpack_timespec64(abi, copy_from_user(task.mm, address, _TIMESPEC64_SIZE)))
    return timespec_ns(*unpack_timespec(abi, copy_from_user(task.mm, address, pair_size(abi))))


def _clock_settime(task: Task, which: int, address: int, *, wide: bool) -> int:
    if which != CLOCK_REALTIME and which >= 0:
        raise LinuxError(Errno.EINVAL, "this clock cannot be set")
    read_timespec(task, address, wide=wide)
    raise LinuxError(Errno.EPERM, f"clock {which} belongs to the machine")


def sys_clock_settime(_kernel: Kernel, task: Task, which: Clock, tp: TimespecIn) -> int:
    """clock_settime(2): nobody may."""
    return _clock_settime(task, which, tp, wide=False)


def sys_clock_settime64(_kernel: Kernel, task: Task, which: Clock, tp: Timespec64In) -> int:
    """clock_settime64, i386."""
    return _clock_settime(task, which, tp, wide=True)


def sys_gettimeofday(kernel: Kernel, task: Task, tv: TimevalOut, tz: Ptr) -> int:
    """gettimeofday(2); the time zone is all zero."""
    if tv:
        copy_to_user(task.mm, tv, pack_timeval(call_abi(task), kernel.clock.realtime_ns()))
    if tz:
        copy_to_user(task.mm, tz, bytes(_TIMEZONE_SIZE))
    return 0


def sys_settimeofday(_kernel: Kernel, task: Task, tv: TimevalIn, tz: Ptr) -> int:
    """settimeofday(2): nobody may."""
    if tv:
        timeval_ns(*unpack_timeval(call_abi(task), copy_from_user(task.mm, tv, pair_size(call_abi(task)))))
    if tz:
        copy_from_user(task.mm, tz, _TIMEZONE_SIZE)
    raise LinuxError(Errno.EPERM, "the clock belongs to the machine")


def sys_time(kernel: Kernel, task: Task, tloc: TimePtr) -> int:
    """time(2): seconds; on i386 the low 32 bits of them."""
    seconds = call_abi(task).signed(kernel.clock.realtime_ns() // NSEC_PER_SEC)
    if tloc:
        put_user(task.mm, tloc, seconds, call_abi(task).word)
    return seconds


def sys_stime(_kernel: Kernel, task: Task, tptr: Ptr) -> int:
    """stime(2), i386: nobody may."""
    copy_from_user(task.mm, tptr, 4)
    raise LinuxError(Errno.EPERM, "the clock belongs to the machine")


def sys_times(kernel: Kernel, task: Task, buf: Ptr) -> int:
    """times(2): clock ticks since boot, and the process's own in a struct tms."""
    if buf:
        kernel.update_curr()
        children = task.process.children_usage
        times = [ticks(spent) for spent in (*process_times(task.process), children.utime, children.stime)]
        copy_to_user(task.mm, buf, call_abi(task).pack_words(*times))
    return ticks(kernel.clock.now_ns())


async def _sleep_until(kernel: Kernel, clock: int, deadline: int) -> int:
    """Sleep until *clock* shows *deadline* (ns); how much was left when a signal came, otherwise 0."""
    queue = WaitQueue()  # nobody knows it: only time and signals end this wait
    while True:
        now = kernel.clock.realtime_ns() if clock in _REAL_CLOCKS else kernel.clock.now_ns()
        if now >= deadline:
            return 0
        try:
            await queue.wait(deadline - now)
        except Interrupted:
            now = kernel.clock.realtime_ns() if clock in _REAL_CLOCKS else kernel.clock.now_ns()
            return max(deadline - now, 0)


class _Remaining:
    """Where the rest of an interrupted sleep is told: an address and a width."""

    __slots__ = ("abi", "address", "wide")

    def __init__(self, abi: Abi, address: int, *, wide: bool) -> None:
        self.abi = abi
        self.address = address
        self.wide = wide

    def tell(self, task: Task, left: int) -> None:
        """Store *left* ns, unless the caller does not want to know."""
        if self.address:
            data = pack_timespec64(left) if self.wide else pack_timespec(self.abi, left)
            copy_to_user(task.mm, self.address, data)


async def _cpu_sleep_until(clock: CpuClock, deadline: int) -> int:
    """The same of a clock that shows CPU time (do_cpu_nanosleep)."""
    queue = WaitQueue()

    def wake() -> None:
        queue.wake()

    clock.start(deadline, wake)
    try:
        while clock.now() < deadline:
            await queue.wait()
    except Interrupted:
        return max(deadline - clock.now(), 0)
    finally:
        clock.cancel()
    return 0


_Sleep: TypeAlias = Callable[[int], Coroutine[Any, Any, int]]
"""Sleeps until a deadline in ns; gives what was left when a signal came."""


async def _sleep_relative(task: Task, sleep: _Sleep, deadline: int, rem: _Remaining) -> int:
    """Sleep until *deadline*; an interrupted sleep can be continued by restart_syscall(2) (hrtimer_nanosleep)."""
    left = await sleep(deadline)
    if not left:
        return 0
    rem.tell(task, left)
    task.restart = lambda: _sleep_relative(task, sleep, deadline, rem)
    raise LinuxError(Errno.ERESTART_RESTARTBLOCK, "interrupted sleep")


async def _sleep_absolute(sleep: _Sleep, deadline: int) -> int:
    """Sleep until *deadline*; an interrupted sleep starts again from its arguments."""
    if await sleep(deadline):
        raise LinuxError(Errno.ERESTARTNOHAND, "interrupted sleep")
    return 0


def _start_sleep(
    kernel: Kernel, task: Task, clock: int, flags: int, duration: int, rem: _Remaining
) -> Coroutine[Any, Any, int]:
    if clock < 0 or clock == CLOCK_PROCESS_CPUTIME_ID:
        cpu_clock = cpu_clock_of(kernel, task, clock)
        start = cpu_clock.now()
        sleep: _Sleep = partial_call(_cpu_sleep_until, cpu_clock)
    else:
        # A relative sleep is not disturbed by a change of the real time: it is measured on the monotonic clock.
        clock = clock if flags & TIMER_ABSTIME else CLOCK_MONOTONIC
        start = kernel.clock.now_ns()
        sleep = partial_call(_sleep_until, kernel, clock)
    if flags & TIMER_ABSTIME:
        return _sleep_absolute(sleep, duration)
    return _sleep_relative(task, sleep, min(start + duration, KTIME_MAX), rem)


def _check_sleeping_clock(task: Task, which: int) -> None:
    """Errors: EOPNOTSUPP: a clock one cannot sleep on.  EINVAL: no such clock, or that of the sleeper itself."""
    if which < 0:
        if which & 7 == _CLOCKFD:
            raise LinuxError(Errno.EOPNOTSUPP, "no sleeping on this clock")
        if which & CPUCLOCK_PERTHREAD and ~(which >> 3) in {0, task.pid}:
            raise LinuxError(Errno.EINVAL, "a sleeping thread uses no CPU time")
        return
    if which in _NO_SLEEP_CLOCKS:
        raise LinuxError(Errno.EOPNOTSUPP, "no sleeping on this clock")
    if which not in _SLEEPING_CLOCKS:
        raise LinuxError(Errno.EINVAL, "no such clock")


def sys_nanosleep(kernel: Kernel, task: Task, rqtp: TimespecIn, rmtp: Ptr) -> Coroutine[Any, Any, int]:
    """nanosleep(2)."""
    duration = read_timespec(task, rqtp, wide=False)
    return _start_sleep(kernel, task, CLOCK_MONOTONIC, 0, duration, _Remaining(call_abi(task), rmtp, wide=False))


def sys_clock_nanosleep(
    kernel: Kernel, task: Task, which: Clock, flags: TimerFlags, rqtp: TimespecIn, rmtp: Ptr
) -> Coroutine[Any, Any, int]:
    """clock_nanosleep(2)."""
    _check_sleeping_clock(task, which)
    duration = read_timespec(task, rqtp, wide=False)
    return _start_sleep(kernel, task, which, flags, duration, _Remaining(call_abi(task), rmtp, wide=False))


def sys_clock_nanosleep_time64(
    kernel: Kernel, task: Task, which: Clock, flags: TimerFlags, rqtp: Timespec64In, rmtp: Ptr
) -> Coroutine[Any, Any, int]:
    """clock_nanosleep_time64, i386."""
    _check_sleeping_clock(task, which)
    duration = read_timespec(task, rqtp, wide=True)
    return _start_sleep(kernel, task, which, flags, duration, _Remaining(call_abi(task), rmtp, wide=True))


def sys_restart_syscall(_kernel: Kernel, task: Task) -> Coroutine[Any, Any, int]:
    """restart_syscall(2): go on with what a signal without a handler interrupted."""
    resume, task.restart = task.restart, None
    if resume is None:
        raise LinuxError(Errno.EINTR, "restart_syscall: nothing was interrupted")
    return resume()


ENTRIES: tuple[Entry, ...] = (
    full("clock_gettime", sys_clock_gettime),
    full("clock_gettime64", sys_clock_gettime64),
    full("clock_getres", sys_clock_getres),
    full("clock_getres_time64", sys_clock_getres_time64),
    partial("clock_settime", sys_clock_settime, "always EPERM: the clock belongs to the machine"),
    partial("clock_settime64", sys_clock_settime64, "always EPERM: the clock belongs to the machine"),
    full("gettimeofday", sys_gettimeofday),
    partial("settimeofday", sys_settimeofday, "always EPERM: the clock belongs to the machine"),
    full("time", sys_time),
    partial("stime", sys_stime, "always EPERM: the clock belongs to the machine"),
    full("times", sys_times),
    full("restart_syscall", sys_restart_syscall),
    full("nanosleep", sys_nanosleep),
    full("clock_nanosleep", sys_clock_nanosleep),
    full("clock_nanosleep_time64", sys_clock_nanosleep_time64),
)
