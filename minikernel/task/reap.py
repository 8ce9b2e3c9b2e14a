"""Waiting for children.  Linux: kernel/exit.c (do_wait, wait_consider_task, wait_task_zombie)."""

from msgspec import Struct

from minikernel.abi import signal as s
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import Rusage
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.wait import W_ALL, W_CLONE, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WSTOPPED
from minikernel.task.exit import child_siginfo, release_process
from minikernel.task.task import Process, Task


class Reaped(Struct, frozen=True):
    """A child that had something to tell.  *status* is in wait(2)'s form; *usage* includes the child's children."""

    pid: int
    status: int
    info: Siginfo
    usage: Rusage


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


class Selector(Struct, frozen=True):
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
        return (child.exit_signal != s.SIGCHLD) == bool(options & W_CLONE)


def process_usage(process: Process) -> Rusage:
    """What the threads *process* has or had used (getrusage of RUSAGE_SELF)."""
    usage = process.dead_usage.copy()
    for thread in process.threads:
        usage.utime += thread.utime
        usage.stime += thread.stime
        usage.nvcsw += thread.nr_voluntary_switches
        usage.nivcsw += thread.nr_involuntary_switches
    alive = next((thread for thread in process.threads if thread.has_mm), None)
    if alive is not None:
        mm = alive.mm
        usage.add_memory(mm.min_flt, mm.maj_flt, max(mm.hiwater_rss, mm.rss))
    return usage


def _usage_with_children(process: Process) -> Rusage:
    usage = process_usage(process)
    usage.add(process.children_usage)
    return usage


def _consider(task: Task, child: Process, options: int) -> Reaped | None:
    """What *child* has to tell, if *options* ask for it; it is told once, unless WNOWAIT."""
    take = not options & WNOWAIT
    if child.zombie:
        if not options & WEXITED:
            return None
        usage = _usage_with_children(child)
        reaped = Reaped(child.pid, child.exit_code, child_siginfo(child, s.SIGCHLD), usage)
        if take:
            task.process.children_usage.add(usage)
            release_process(task, child)
        return reaped
    if child.stopped and child.stop_signal and options & WSTOPPED:
        sig = child.stop_signal
        if take:
            child.stop_signal = 0
        return _alive(child, s.CLD_STOPPED, sig, sig << 8 | 0x7F)
    if child.continued and options & WCONTINUED:
        if take:
            child.continued = False
        return _alive(child, s.CLD_CONTINUED, s.SIGCONT, 0xFFFF)
    return None


def _alive(child: Process, code: int, sig: int, status: int) -> Reaped:
    leader = child.leader
    assert leader is not None, "_alive: a process without a leader"
    info = Siginfo(s.SIGCHLD, code, pid=child.pid, uid=leader.cred.uid, status=sig)
    return Reaped(child.pid, status, info, _usage_with_children(child))
