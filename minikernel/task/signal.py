"""Sending signals, and choosing the next one to deliver.

Linux: kernel/signal.c (send_signal_locked, prepare_signal, complete_signal, dequeue_signal, get_signal,
force_sig_info_to_task).
"""

from emu.x86 import VirtAddr
from minikernel.abi import signal as s
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import RLIMIT_CORE, RLIMIT_SIGPENDING
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import Sigaction, sigmask
from minikernel.events import SignalDeliver, SignalGenerate
from minikernel.task.exit import CORE_DUMPED, do_group_exit
from minikernel.task.jobctl import (
    begin_group_stop,
    continue_group,
    is_orphaned_pgrp,
    join_group_stop,
    notify_parent_cldstop,
)
from minikernel.task.task import Process, Sigpending, Task, TaskState

_STOP_SIGNALS = s.STOPS_BY_DEFAULT


def recalc_sigpending(task: Task) -> None:
    """Note whether *task*, which asks, has something to do before it returns to user mode (recalc_sigpending)."""
    process = task.process
    waiting = task.pending.mask | process.shared_pending.mask
    task.sigpending = bool(waiting & ~task.blocked) or process.group_exiting or task.stop_pending


def set_blocked(task: Task, mask: int) -> None:
    """Replace the blocked set; SIGKILL and SIGSTOP cannot be blocked."""
    mask &= ~s.UNMASKABLE
    newly = mask & ~task.blocked
    task.blocked = mask
    if task.sigpending and newly & task.process.shared_pending.mask:
        retarget_shared_pending(task, newly)
    recalc_sigpending(task)


def retarget_shared_pending(task: Task, signals: int) -> None:
    """*task* cannot take *signals* of its process any more: tell others that can."""
    left = task.process.shared_pending.mask & signals
    for thread in task.process.threads:
        if thread is task or not left & ~thread.blocked:
            continue
        left &= thread.blocked
        if not thread.sigpending:
            _signal_wake_up(thread)


def is_ignored(process: Process, sig: int) -> bool:
    """Sending *sig* would have no effect whatever is blocked (sig_handler_ignored)."""
    handler = process.actions[sig].handler
    return handler == s.SIG_IGN or (handler == s.SIG_DFL and bool(sigmask(sig) & s.IGNORED_BY_DEFAULT))


def send_signal(task: Task, info: Siginfo, *, group: bool) -> None:
    """Queue *info* for *task*, or for its whole process; wakes who can take it (__send_signal_locked).

    Errors:
        EAGAIN: a realtime signal of sigqueue(3) or tgkill(2), and RLIMIT_SIGPENDING is reached.
    """
    tracer = task.kernel.tracer
    if tracer.sink is not None:
        tracer.emit(SignalGenerate(info.signo, info.code, VirtAddr(info.addr)))
    if prepare_signal(task, info.signo):
        sig = info.signo
        is_pending = (task.process.shared_pending if group else task.pending).mask & sigmask(sig)
        if is_pending and sig < s.SIGRTMIN:
            return  # a standard signal is pending once
        if info.code < 0 or sig >= s.SIGRTMIN:
            sent, info = info, _within_limit(task, info)
            if is_pending and info is not sent:
                return  # of a further one nothing could be told
        enqueue_signal(task, info, group=group)


def prepare_signal(task: Task, sig: int) -> bool:
    """What sending *sig* does whether it arrives or not; whether there is anything to queue."""
    process, bit = task.process, sigmask(sig)
    if bit & _STOP_SIGNALS:
        _flush_all(process, sigmask(s.SIGCONT))
    elif sig == s.SIGCONT:
        _flush_all(process, _STOP_SIGNALS)
        continue_group(process)
    return bool((task.blocked | task.real_blocked) & bit) or not is_ignored(process, sig)


def enqueue_signal(task: Task, info: Siginfo, *, group: bool) -> None:
    """Put *info* at the end of the queue, and wake who can take it."""
    process, sig = task.process, info.signo
    pending = process.shared_pending if group else task.pending
    pending.queue.append(info)
    pending.mask |= sigmask(sig)
    if process.signalfd_queue is not None:
        process.signalfd_queue.wake()
    _complete_signal(task, sig, group=group)


def _complete_signal(task: Task, sig: int, *, group: bool) -> None:
    """Choose the thread that takes *sig*, and wake it; nobody now: who unblocks it will."""
    if not _wants_signal(task, sig):
        others = task.process.threads if group else ()
        chosen = next((thread for thread in others if _wants_signal(thread, sig)), None)
        if chosen is None:
            return
        task = chosen
    task.sigpending = True
    if sig == s.SIGKILL:
        for thread in task.process.threads:
            thread.stop_pending = False
    if _is_fatal(task, sig):
        task.kernel.scheduler.kill_wake(task)
    else:
        task.kernel.scheduler.signal_wake(task)


def _is_fatal(task: Task, sig: int) -> bool:
    """It ends the process without a core (sig_fatal): not even an uninterruptible sleep keeps it."""
    if sig == s.SIGKILL:
        return True
    spared = s.IGNORED_BY_DEFAULT | _STOP_SIGNALS | s.DUMPS_CORE | task.real_blocked
    return task.process.actions[sig].handler == s.SIG_DFL and not sigmask(sig) & spared


def _wants_signal(task: Task, sig: int) -> bool:
    if task.blocked & sigmask(sig) or task.state in {TaskState.ZOMBIE, TaskState.DEAD}:
        return False
    if sig == s.SIGKILL:
        return True
    return task.state is not TaskState.STOPPED and (task is task.kernel.current or not task.sigpending)


def _signal_wake_up(task: Task) -> None:
    task.sigpending = True
    task.kernel.scheduler.signal_wake(task)


# ---- queues


def nr_queued(task: Task) -> int:
    """Signals that are queued for all processes of *task*'s user, or set aside for timers: RLIMIT_SIGPENDING's."""
    uid, count = task.cred.uid, 0
    for other in task.kernel.tasks.values():
        if other.cred.uid == uid:
            count += len(other.pending.queue)
            if other.pid == other.tgid:
                count += len(other.process.shared_pending.queue) + len(other.process.posix_timers)
    return count


def _within_limit(task: Task, info: Siginfo) -> Siginfo:
    """*info*; beyond the limit only that the signal came, or EAGAIN (sigqueue_alloc)."""
    override = info.signo < s.SIGRTMIN and info.code >= 0
    if override or info.signo == s.SIGKILL or nr_queued(task) < task.rlimits[RLIMIT_SIGPENDING][0]:
        return info
    if info.signo >= s.SIGRTMIN and info.code not in {s.SI_USER, s.SI_KERNEL}:
        raise LinuxError(Errno.EAGAIN, "RLIMIT_SIGPENDING")
    return Siginfo(info.signo)


def _flush_all(process: Process, mask: int) -> None:
    if process.shared_pending.mask & mask:
        flush(process.shared_pending, mask)
    for thread in process.threads:
        if thread.pending.mask & mask:
            flush(thread.pending, mask)


def flush(pending: Sigpending, mask: int) -> list[Siginfo]:
    """Forget the signals in *mask*: which were there (flush_sigqueue_mask)."""
    if not pending.mask & mask:
        return []
    gone = [info for info in pending.queue if sigmask(info.signo) & mask]
    pending.queue = [info for info in pending.queue if not sigmask(info.signo) & mask]
    pending.mask &= ~mask
    return gone


def force_signal(task: Task, info: Siginfo) -> None:
    """Deliver a signal that *task* itself caused: blocked or ignored, it is fatal (force_sig_info_to_task)."""
    process, sig = task.process, info.signo
    bit = sigmask(sig)
    action = process.actions[sig]
    if task.blocked & bit or action.handler == s.SIG_IGN:
        process.actions[sig] = Sigaction()
        task.blocked &= ~bit
    send_signal(task, info, group=False)
    recalc_sigpending(task)


def dequeue_signal(task: Task, allowed: int) -> Siginfo | None:
    """Take the next signal in *allowed*: the thread's own first, synchronous ones before others, low before high."""
    process = task.process
    while True:
        info = _collect(task.pending, allowed)
        if info is None:
            info = _collect(process.shared_pending, allowed)
            if info is not None and info.signo == s.SIGALRM and process.real_timer is not None:
                process.real_timer.rearm()
        if info is not None and info.code == s.SI_TIMER and info.timer_id in process.posix_timers:
            info = process.posix_timers[info.timer_id].deliver(info)
            if info is None:
                continue  # the timer was set anew after this signal was sent
        if info is not None or task.sigpending:
            recalc_sigpending(task)
        return info


def next_signal(task: Task) -> tuple[Sigpending, Siginfo] | None:
    """The signal that *task* would take now, and the queue that it stays in."""
    for pending in (task.pending, task.process.shared_pending):
        sig = _choose(pending, ~task.blocked)
        if sig:
            return pending, next(info for info in pending.queue if info.signo == sig)
    return None


def _choose(pending: Sigpending, allowed: int) -> int:
    """Whose turn it is among the pending signals in *allowed*; 0: none."""
    ready = pending.mask & allowed
    if ready & s.SYNCHRONOUS:
        ready &= s.SYNCHRONOUS
    return (ready & -ready).bit_length()


def _collect(pending: Sigpending, allowed: int) -> Siginfo | None:
    sig = _choose(pending, allowed)
    if not sig:
        return None
    queue = pending.queue
    for index, info in enumerate(queue):
        if info.signo == sig:
            del queue[index]
            break
    else:
        raise AssertionError(f"dequeue_signal: signal {sig} is in the mask and not in the queue")
    if not any(other.signo == sig for other in queue):
        pending.mask &= ~sigmask(sig)
    return info


# ---- delivery


def _dump_core(task: Task, info: Siginfo) -> bool:
    """Leave a core file, if that is wanted; whether there is one."""
    if not task.rlimits[RLIMIT_CORE][0] or not task.has_mm:
        return False
    from minikernel.task.coredump import do_coredump

    return do_coredump(task, info)


def get_signal(task: Task) -> tuple[Siginfo, Sigaction] | None:
    """The next signal that has a handler, after the default actions of those before it.

    None: go on; or, as the state of *task* says, it has stopped or ended.
    """
    process, tracer = task.process, task.kernel.tracer
    if process.cld_notify:
        why, process.cld_notify = process.cld_notify, 0
        notify_parent_cldstop(process, why)
    while task.state is TaskState.RUNNING:
        if task.stop_pending:
            join_group_stop(task)
            task.kernel.scheduler.stop(task)
            return None
        if task.kernel.signal_gate is not None and task.kernel.signal_gate(task):
            return None  # and it stays pending: a debugger decides first
        info = dequeue_signal(task, ~task.blocked)
        if info is None:
            recalc_sigpending(task)
            return None
        sig = info.signo
        action = process.actions[sig]
        if action.handler == s.SIG_IGN:
            continue
        if tracer.sink is not None:
            tracer.emit(SignalDeliver(sig, info.code, VirtAddr(action.handler)))
        if action.handler != s.SIG_DFL:
            if action.flags & s.SA_RESETHAND:
                process.actions[sig] = action._replace(handler=s.SIG_DFL)
            return info, action
        bit = sigmask(sig)
        if bit & s.IGNORED_BY_DEFAULT:
            continue
        if bit & _STOP_SIGNALS:
            if sig == s.SIGSTOP or not is_orphaned_pgrp(task.kernel, process.pgrp):
                begin_group_stop(task, sig)
            continue
        task.kernel.fatal_signal(task, info)
        do_group_exit(task, sig | CORE_DUMPED if bit & s.DUMPS_CORE and _dump_core(task, info) else sig)
    return None
