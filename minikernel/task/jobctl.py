"""Stopping and continuing whole processes, and what parents and orphaned groups are told of it.

Linux: kernel/signal.c (do_signal_stop, task_participate_group_stop, prepare_signal, do_notify_parent_cldstop),
kernel/exit.c (will_become_orphaned_pgrp, kill_orphaned_pgrp).

A group stop begins with the thread that takes the signal.  Every other thread is woken and joins on its way to
user mode, so a system call that it slept in ends first, and runs again after SIGCONT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikernel.abi import signal as s
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.time import ticks
from minikernel.task.task import Process, Task, TaskState

if TYPE_CHECKING:
    from minikernel.kernel import Kernel


# ---- stopping


def begin_group_stop(task: Task, sig: int) -> None:
    """Let every thread of the process stop because of *sig*, which *task* took (do_signal_stop)."""
    process = task.process
    if process.group_exiting:
        return
    if not process.stopped:
        process.stop_signal = sig
    process.stop_count = 0
    for thread in process.threads:
        if thread.state is TaskState.STOPPED:
            continue
        thread.stop_pending = thread.sigpending = True
        process.stop_count += 1
        if thread is not task:
            task.kernel.scheduler.signal_wake(thread)


def join_group_stop(task: Task) -> None:
    """*task* stops, or ends, while a stop has begun; the last one tells the parent (task_participate_group_stop)."""
    process = task.process
    task.stop_pending = False
    if process.stop_count:
        process.stop_count -= 1
    if process.stop_count or process.stopped:
        return
    process.stopped = True
    process.continued = False
    process.cld_notify = 0
    notify_parent_cldstop(process, s.CLD_STOPPED)


def continue_group(process: Process) -> None:
    """SIGCONT was sent: whatever its fate, the process goes on (prepare_signal)."""
    for thread in process.threads:
        thread.stop_pending = False
        if thread.state is TaskState.STOPPED:
            thread.kernel.scheduler.resume(thread)
            thread.sigpending = True  # a call that the stop interrupted is to be started again
    if not process.stopped and not process.stop_count:
        return
    # In the middle of a stop Linux pretends that it was over, and then continued.
    process.cld_notify = s.CLD_CONTINUED if process.stopped else s.CLD_STOPPED
    process.stopped = False
    process.continued = True
    process.stop_count = process.stop_signal = 0


def notify_parent_cldstop(process: Process, why: int) -> None:
    """SIGCHLD for a child that stopped or continued (CLD_*), unless SA_NOCLDSTOP; and wake who waits for it."""
    parent, leader = process.parent, process.leader
    assert parent is not None, "notify_parent_cldstop: a process without a parent"
    assert leader is not None, "notify_parent_cldstop: a process without a leader"
    action = parent.actions[s.SIGCHLD]
    if action.handler != s.SIG_IGN and not action.flags & s.SA_NOCLDSTOP and parent.threads:
        from minikernel.task.signal import send_signal

        info = Siginfo(
            s.SIGCHLD,
            why,
            pid=process.pid,
            uid=leader.cred.uid,
            status=s.SIGCONT if why == s.CLD_CONTINUED else process.stop_signal,
            utime=ticks(leader.utime),
            stime=ticks(leader.stime),
        )
        send_signal(first_thread(parent), info, group=True)
    parent.wait_chldexit.wake()


def first_thread(process: Process) -> Task:
    """The leader if it lives, otherwise another thread: whom signals for the process are offered first."""
    leader = process.leader
    if leader is not None and leader.state is not TaskState.ZOMBIE:
        return leader
    return process.threads[0]


# ---- orphaned process groups


def _members(kernel: Kernel, pgrp: int) -> list[Process]:
    return [task.process for task in kernel.tasks.values() if task.pgrp == pgrp and task is task.process.leader]


def is_orphaned_pgrp(kernel: Kernel, pgrp: int, ignored: Process | None = None) -> bool:
    """No member but *ignored* has a parent in another group of its session (will_become_orphaned_pgrp)."""
    for member in _members(kernel, pgrp):
        parent = member.parent
        if member is ignored or member.zombie or parent is None or parent is kernel.reaper:
            continue
        if parent.pgrp != pgrp and parent.session == member.session:
            return False
    return True


def kill_orphaned_pgrp(kernel: Kernel, process: Process, parent: Process | None) -> None:
    """SIGHUP and SIGCONT for the group of *process* if that becomes orphaned with stopped members.

    *parent*: it ends, and *process* is its child; None: *process* itself ends.
    """
    ignored = process if parent is None else None
    parent = parent or process.parent
    pgrp = process.pgrp
    if parent is None or parent.pgrp == pgrp or parent.session != process.session:
        return
    if not is_orphaned_pgrp(kernel, pgrp, ignored):
        return
    members = _members(kernel, pgrp)
    if not any(member.stopped for member in members):
        return
    from minikernel.task.signal import send_signal

    for sig in (s.SIGHUP, s.SIGCONT):
        for member in members:
            if member.threads:
                send_signal(first_thread(member), Siginfo(sig, s.SI_KERNEL), group=True)
