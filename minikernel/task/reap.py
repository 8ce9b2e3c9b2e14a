"""Waiting for children.  Linux: kernel/exit.c (do_wait, wait_consider_task, wait_task_zombie)."""

from dataclasses import dataclass

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import SIGCHLD
from minikernel.abi.wait import W_ALL, W_CLONE, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WSTOPPED
from minikernel.task.exit import child_siginfo, release_process
from minikernel.task.task import Process, Task


@dataclass(frozen=True, slots=True)
class Reaped:
    """A child that had something to tell.  *status* is in wait(2)'s form."""

    pid: int
    status: int
    info: Siginfo
    usage: tuple[int, int]  # utime, stime in ns


async def do_wait(task: Task, selected: "Selector", options: int) -> Reaped | None:
    """The first child among *selected* that fits *options*; None with WNOHANG if there is none yet.

    Errors:
        ECHILD: no such child at all.

    Raises:
        Interrupted.
    """
    process = task.process
    while True:
        children = [child for child in process.children if selected.fits(child, options)]
        if not children:
            raise LinuxError(Errno.ECHILD, "no such child")
        for child in children:
            reaped = _consider(task, child, options)
            if reaped is not None:
                return reaped
        if options & WNOHANG:
            return None
        await process.wait_chldexit.wait()


@dataclass(frozen=True, slots=True)
class Selector:
    """Which children: *pid* or *pgrp* (None: any)."""

    pid: int | None = None
    pgrp: int | None = None

    def fits(self, child: Process, options: int) -> bool:
        """eligible_pid and eligible_child."""
        if self.pid is not None and child.pid != self.pid:
            return False
        if self.pgrp is not None and child.pgrp != self.pgrp:
            return False
        if options & W_ALL:
            return True
        return (child.exit_signal != SIGCHLD) == bool(options & W_CLONE)


def _consider(task: Task, child: Process, options: int) -> Reaped | None:
    info = child_siginfo(child, SIGCHLD)
    usage = (child.dead_utime, child.dead_stime)
    keep = bool(options & WNOWAIT)
    if child.zombie:
        if not options & WEXITED:
            return None
        reaped = Reaped(child.pid, child.exit_code, info, usage)
        if not keep:
            total = task.process.children_usage
            total.utime += child.dead_utime + child.children_usage.utime
            total.stime += child.dead_stime + child.children_usage.stime
            release_process(task, child)
        return reaped
    if child.stop_signal and not child.stop_reported and options & WSTOPPED:
        if not keep:
            child.stop_reported = True
        return Reaped(child.pid, child.stop_signal << 8 | 0x7F, info, usage)
    if child.continued and options & WCONTINUED:
        if not keep:
            child.continued = False
        return Reaped(child.pid, 0xFFFF, info, usage)
    return None
