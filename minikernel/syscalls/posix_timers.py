"""Handlers: POSIX timers.  Linux: kernel/time/posix-timers.c."""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import RLIMIT_SIGPENDING
from minikernel.abi.signal import NSIG, SIGALRM
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
    TIMER_ABSTIME,
)
from minikernel.abi.timer import (
    SIGEV_NONE,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
    SIGEV_THREAD_ID,
    SIGEVENT_SIZE,
    Sigevent,
    itimerspec_size,
    pack_itimerspec,
    unpack_itimerspec,
    unpack_sigevent,
)
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user, put_user
from minikernel.syscalls.args import Clock, Int, IntOut, Ptr, TimerFlags
from minikernel.syscalls.entry_types import Entry, full
from minikernel.syscalls.sigaction import call_abi
from minikernel.syscalls.time import cpu_clock_of
from minikernel.task.posix_timers import CpuClock, PosixTimer, WallClock, find_timer
from minikernel.task.signal import nr_queued
from minikernel.task.task import Task

_WALL_CLOCKS: Final = {CLOCK_REALTIME: True, CLOCK_TAI: True, CLOCK_MONOTONIC: False, CLOCK_BOOTTIME: False}
_NO_TIMER_CLOCKS: Final = (CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE)
_ALARM_CLOCKS: Final = (CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM)
_CLOCKFD: Final = 3


def _timer_clock(kernel: Kernel, task: Task, which: int) -> CpuClock | WallClock:
    """The clock of a new timer.  Errors: EINVAL, EOPNOTSUPP (clockid_to_kclock, timer_create)."""
    if which < 0 or which in {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID}:
        return cpu_clock_of(kernel, task, which)
    if which in _ALARM_CLOCKS:
        raise LinuxError(Errno.EOPNOTSUPP, "there is no clock chip that could wake the machine")
    return WallClock(kernel, realtime=_WALL_CLOCKS[which])


def _check_clock(which: int) -> None:
    """Errors: EINVAL: no such clock.  EOPNOTSUPP: it has no timers."""
    if which in _NO_TIMER_CLOCKS or (which < 0 and which & 7 == _CLOCKFD):
        raise LinuxError(Errno.EOPNOTSUPP, "a clock without timers")
    known = which in _WALL_CLOCKS or which in _ALARM_CLOCKS
    if not known and which not in {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID} and which >= 0:
        raise LinuxError(Errno.EINVAL, f"there is no clock {which}")


def _target(kernel: Kernel, task: Task, event: Sigevent) -> Task | None:
    """The thread that *event* names; None: the process.  Errors: EINVAL (good_sigevent)."""
    thread = None
    if event.notify == SIGEV_SIGNAL | SIGEV_THREAD_ID:
        thread = kernel.tasks.get(event.thread_id)
        if thread is None or thread.tgid != task.tgid:
            raise LinuxError(Errno.EINVAL, f"thread {event.thread_id} is not one of this process")
    elif event.notify == SIGEV_NONE:
        return None
    elif event.notify not in {SIGEV_SIGNAL, SIGEV_THREAD}:
        raise LinuxError(Errno.EINVAL, f"sigev_notify {event.notify}")
    if not 0 < event.signo <= NSIG:
        raise LinuxError(Errno.EINVAL, f"there is no signal {event.signo}")
    return thread


def sys_timer_create(kernel: Kernel, task: Task, which_clock: Clock, timer_event: Ptr, created: IntOut) -> int:
    """timer_create(2): SIGALRM with the timer's id, unless a struct sigevent says otherwise.

    Errors:
        EINVAL, EFAULT.  EOPNOTSUPP: a clock without timers.  EAGAIN: RLIMIT_SIGPENDING.
    """
    abi = call_abi(task)
    event = None
    if timer_event:
        event = unpack_sigevent(abi, copy_from_user(task.mm, timer_event, SIGEVENT_SIZE))
    _check_clock(which_clock)
    if nr_queued(task) >= task.rlimits[RLIMIT_SIGPENDING][0]:
        raise LinuxError(Errno.EAGAIN, "RLIMIT_SIGPENDING")
    thread = _target(kernel, task, event) if event is not None else None
    clock = _timer_clock(kernel, task, which_clock)
    if event is None:
        timer = PosixTimer(task.process, clock, SIGALRM, None, None)
    else:
        signo = None if event.notify == SIGEV_NONE else event.signo
        timer = PosixTimer(task.process, clock, signo, event.value, thread)
    try:
        put_user(task.mm, created, timer.id, 4)
    except LinuxError:
        timer.delete()
        raise
    return 0


def _settime(task: Task, timer_id: int, flags: int, new: int, old: int, *, wide: bool) -> int:
    if not new:
        raise LinuxError(Errno.EINVAL, "no new setting")
    abi = call_abi(task)
    data = copy_from_user(task.mm, new, itimerspec_size(abi, wide=wide))
    value, interval = unpack_itimerspec(abi, data, wide=wide)
    timer = find_timer(task.process, timer_id)
    before = timer.get() if old else (0, 0)
    timer.set(value, interval, absolute=bool(flags & TIMER_ABSTIME))
    if old:
        copy_to_user(task.mm, old, pack_itimerspec(abi, *before, wide=wide))
    return 0


def sys_timer_settime(_kernel: Kernel, task: Task, timer_id: Int, flags: TimerFlags, new: Ptr, old: Ptr) -> int:
    """timer_settime(2)."""
    return _settime(task, timer_id, flags, new, old, wide=False)


def sys_timer_settime64(_kernel: Kernel, task: Task, timer_id: Int, flags: TimerFlags, new: Ptr, old: Ptr) -> int:
    """timer_settime64, i386."""
    return _settime(task, timer_id, flags, new, old, wide=True)


def _gettime(task: Task, timer_id: int, setting: int, *, wide: bool) -> int:
    timer = find_timer(task.process, timer_id)
    copy_to_user(task.mm, setting, pack_itimerspec(call_abi(task), *timer.get(), wide=wide))
    return 0


def sys_timer_gettime(_kernel: Kernel, task: Task, timer_id: Int, setting: Ptr) -> int:
    """timer_gettime(2)."""
    return _gettime(task, timer_id, setting, wide=False)


def sys_timer_gettime64(_kernel: Kernel, task: Task, timer_id: Int, setting: Ptr) -> int:
    """timer_gettime64, i386."""
    return _gettime(task, timer_id, setting, wide=True)


def sys_timer_getoverrun(_kernel: Kernel, task: Task, timer_id: Int) -> int:
    """timer_getoverrun(2): of the signal that was taken last."""
    return find_timer(task.process, timer_id).overrun_last


def sys_timer_delete(_kernel: Kernel, task: Task, timer_id: Int) -> int:
    """timer_delete(2)."""
    find_timer(task.process, timer_id).delete()
    return 0


ENTRIES: Final[tuple[Entry, ...]] = (
    full("timer_create", sys_timer_create),
    full("timer_settime", sys_timer_settime),
    full("timer_settime64", sys_timer_settime64, abi="i386"),
    full("timer_gettime", sys_timer_gettime),
    full("timer_gettime64", sys_timer_gettime64, abi="i386"),
    full("timer_getoverrun", sys_timer_getoverrun),
    full("timer_delete", sys_timer_delete),
)
