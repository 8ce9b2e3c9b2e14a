"""Handlers: timers that are files.  Linux: fs/timerfd.c."""

from typing import Final

from minikernel.abi.capability import CAP_WAKE_ALARM
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_CLOEXEC, O_NONBLOCK
from minikernel.abi.time import (
    CLOCK_BOOTTIME,
    CLOCK_BOOTTIME_ALARM,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    CLOCK_REALTIME_ALARM,
)
from minikernel.abi.timer import (
    TFD_TIMER_ABSTIME,
    TFD_TIMER_CANCEL_ON_SET,
    itimerspec_size,
    pack_itimerspec,
    unpack_itimerspec,
)
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.syscalls.args import Clock, Fd, Int, Ptr
from minikernel.syscalls.entry_types import Entry, full
from minikernel.syscalls.file_common import nofile_limit
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.posix_timers import WallClock
from minikernel.task.task import Task
from minikernel.task.timerfd import TimerFile

_CLOCKS: Final = {
    CLOCK_REALTIME: True,
    CLOCK_MONOTONIC: False,
    CLOCK_BOOTTIME: False,
    CLOCK_REALTIME_ALARM: True,
    CLOCK_BOOTTIME_ALARM: False,
}
_ALARMS: Final = (CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM)


def sys_timerfd_create(kernel: Kernel, task: Task, clockid: Clock, flags: Int) -> int:
    """timerfd_create(2).

    Errors:
        EINVAL: flags, clock.  EPERM: a clock that wakes the machine.  EMFILE.
    """
    if flags & ~(O_CLOEXEC | O_NONBLOCK) or clockid not in _CLOCKS:
        raise LinuxError(Errno.EINVAL, f"timerfd_create: clock {clockid}, flags {flags:#x}")
    if clockid in _ALARMS and not task.cred.capable(CAP_WAKE_ALARM):
        raise LinuxError(Errno.EPERM, "timerfd_create: a timer that wakes the machine")
    anon = kernel.vfs.anon
    path = anon.path(b"anon_inode:[timerfd]", anon.inode)
    file = TimerFile(path, flags & O_NONBLOCK, clockid, WallClock(kernel, realtime=_CLOCKS[clockid]))
    return task.files.add(file, nofile_limit(task), cloexec=bool(flags & O_CLOEXEC))


def _find(task: Task, fd: int) -> TimerFile:
    file = task.files.get(fd)
    if not isinstance(file, TimerFile):
        raise LinuxError(Errno.EINVAL, f"descriptor {fd} is no timer")
    return file


def _settime(task: Task, fd: int, flags: int, new: int, old: int, *, wide: bool) -> int:
    abi = call_abi(task)
    data = copy_from_user(task.mm, new, itimerspec_size(abi, wide=wide))
    if flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET):
        raise LinuxError(Errno.EINVAL, f"timerfd_settime: flags {flags:#x}")
    value, interval = unpack_itimerspec(abi, data, wide=wide)
    # TFD_TIMER_CANCEL_ON_SET has nothing to do: the real time is never set on this machine.
    before = _find(task, fd).set(value, interval, flags, absolute=bool(flags & TFD_TIMER_ABSTIME))
    if old:
        copy_to_user(task.mm, old, pack_itimerspec(abi, *before, wide=wide))
    return 0


def sys_timerfd_settime(_kernel: Kernel, task: Task, ufd: Fd, flags: Int, new: Ptr, old: Ptr) -> int:
    """timerfd_settime(2)."""
    return _settime(task, ufd, flags, new, old, wide=False)


def sys_timerfd_settime64(_kernel: Kernel, task: Task, ufd: Fd, flags: Int, new: Ptr, old: Ptr) -> int:
    """timerfd_settime64, i386."""
    return _settime(task, ufd, flags, new, old, wide=True)


def _gettime(task: Task, fd: int, setting: int, *, wide: bool) -> int:
    now = _find(task, fd).get()
    copy_to_user(task.mm, setting, pack_itimerspec(call_abi(task), *now, wide=wide))
    return 0


def sys_timerfd_gettime(_kernel: Kernel, task: Task, ufd: Fd, setting: Ptr) -> int:
    """timerfd_gettime(2)."""
    return _gettime(task, ufd, setting, wide=False)


def sys_timerfd_gettime64(_kernel: Kernel, task: Task, ufd: Fd, setting: Ptr) -> int:
    """timerfd_gettime64, i386."""
    return _gettime(task, ufd, setting, wide=True)


ENTRIES: Final[tuple[Entry, ...]] = (
    full("timerfd_create", sys_timerfd_create),
    full("timerfd_settime", sys_timerfd_settime),
    full("timerfd_settime64", sys_timerfd_settime64, abi="i386"),
    full("timerfd_gettime", sys_timerfd_gettime),
    full("timerfd_gettime64", sys_timerfd_gettime64, abi="i386"),
)
