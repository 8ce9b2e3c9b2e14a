"""Handlers: alarm and the interval timers.  Linux: kernel/time/itimer.c."""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.time import (
    ITIMER_PROF,
    ITIMER_REAL,
    NSEC_PER_SEC,
    pack_timeval,
    pair_size,
    timeval_ns,
    unpack_timeval,
)
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.syscalls.args import ItimervalIn, ItimervalOut, ItimerWhich, UInt
from minikernel.syscalls.entry_types import Entry, full
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.itimer import get_itimer, set_itimer
from minikernel.task.task import Task


def sys_alarm(_kernel: Kernel, task: Task, seconds: UInt) -> int:
    """alarm(2): seconds that were left of the last one, rounded; at least 1 if something was."""
    left, _ = set_itimer(task, ITIMER_REAL, seconds * NSEC_PER_SEC, 0)
    if not left:
        return 0
    return max((left + NSEC_PER_SEC // 2) // NSEC_PER_SEC, 1)


def _check_which(which: int) -> None:
    if not ITIMER_REAL <= which <= ITIMER_PROF:
        raise LinuxError(Errno.EINVAL, f"there is no timer {which}")


def _put(task: Task, where: int, setting: tuple[int, int]) -> None:
    abi = call_abi(task)
    left, interval = setting
    copy_to_user(task.mm, where, pack_timeval(abi, interval) + pack_timeval(abi, left))


def sys_getitimer(_kernel: Kernel, task: Task, which: ItimerWhich, value: ItimervalOut) -> int:
    """getitimer(2)."""
    _check_which(which)
    _put(task, value, get_itimer(task, which))
    return 0


def sys_setitimer(_kernel: Kernel, task: Task, which: ItimerWhich, value: ItimervalIn, ovalue: ItimervalOut) -> int:
    """setitimer(2): without a new value the timer is switched off."""
    interval = left = 0
    if value:
        abi = call_abi(task)
        size = pair_size(abi)
        data = copy_from_user(task.mm, value, 2 * size)
        left = timeval_ns(*unpack_timeval(abi, data[size:]))
        interval = timeval_ns(*unpack_timeval(abi, data[:size]))
    _check_which(which)
    before = set_itimer(task, which, left, interval)
    if ovalue:
        _put(task, ovalue, before)
    return 0


ENTRIES: Final[tuple[Entry, ...]] = (
    full("alarm", sys_alarm),
    full("getitimer", sys_getitimer),
    full("setitimer", sys_setitimer),
)
