"""Sending signals, and choosing the next one to deliver.

Linux: kernel/signal.c (send_signal_locked, prepare_signal, dequeue_signal, get_signal, force_sig_info_to_task).
"""

from emu.x86 import VirtAddr
from minikernel.abi import signal as s
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import Sigaction, sigmask
from minikernel.events import SignalDeliver, SignalGenerate
from minikernel.task.exit import do_group_exit
from minikernel.task.task import Process, Sigpending, Task, TaskState

_STOP_SIGNALS = s.STOPS_BY_DEFAULT


def recalc_sigpending(task: Task) -> None:
    """Note whether *task* has something to do before it returns to user mode (recalc_sigpending_tsk)."""
    waiting = task.pending.mask | task.process.shared_pending.mask
    task.sigpending = bool(waiting & ~task.blocked) or task.process.group_exiting


def set_blocked(task: Task, mask: int) -> None:
    """Replace the blocked set; SIGKILL and SIGSTOP cannot be blocked."""
    task.blocked = mask & ~s.UNMASKABLE
    recalc_sigpending(task)


def is_ignored(process: Process, sig: int) -> bool:
    """Sending *sig* would have no effect whatever is blocked (sig_handler_ignored)."""
    handler = process.actions[sig].handler
    return handler == s.SIG_IGN or (handler == s.SIG_DFL and bool(sigmask(sig) & s.IGNORED_BY_DEFAULT))


def send_signal(task: Task, info: Siginfo, *, group: bool) -> None:
    """Queue *info* for *task*, or for its whole process; wakes who can take it (__send_signal_locked)."""
    process, sig = task.process, info.signo
    tracer = task.kernel.tracer
    if tracer.sink is not None:
        tracer.emit(SignalGenerate(sig, info.code, VirtAddr(info.addr)))
    _prepare(process, sig)
    bit = sigmask(sig)
    if is_ignored(process, sig) and not task.blocked & bit:
        return
    queue = process.shared_pending if group else task.pending
    if sig < s.SIGRTMIN and queue.mask & bit:
        return  # a standard signal is pending once
    queue.queue.append(info)
    queue.mask |= bit
    for thread in process.threads if group else [task]:
        recalc_sigpending(thread)
        if thread.sigpending and not thread.blocked & bit:
            thread.kernel.scheduler.signal_wake(thread)
            break


def _prepare(process: Process, sig: int) -> None:
    """Stop signals and SIGCONT cancel each other when sent (prepare_signal)."""
    if sig == s.SIGCONT:
        cancelled = _STOP_SIGNALS
    elif sigmask(sig) & _STOP_SIGNALS:
        cancelled = sigmask(s.SIGCONT)
    else:
        return
    for queue in (process.shared_pending, *(thread.pending for thread in process.threads)):
        flush(queue, cancelled)
    if sig == s.SIGCONT:
        for thread in process.threads:
            thread.kernel.scheduler.resume(thread)


def flush(pending: Sigpending, mask: int) -> None:
    """Forget the signals in *mask* (flush_sigqueue_mask)."""
    if pending.mask & mask:
        pending.queue = [info for info in pending.queue if not sigmask(info.signo) & mask]
        pending.mask &= ~mask


def force_signal(task: Task, info: Siginfo) -> None:
    """Deliver a signal that *task* itself caused: blocked or ignored, it is fatal (force_sig_info_to_task)."""
    process, sig = task.process, info.signo
    bit = sigmask(sig)
    action = process.actions[sig]
    if task.blocked & bit or action.handler == s.SIG_IGN:
        process.actions[sig] = Sigaction()
        task.blocked &= ~bit
    send_signal(task, info, group=False)


def dequeue_signal(task: Task, allowed: int) -> Siginfo | None:
    """Take the next signal in *allowed*: the thread's own first, synchronous ones before others, low before high."""
    for pending in (task.pending, task.process.shared_pending):
        ready = pending.mask & allowed
        if not ready:
            continue
        if ready & s.SYNCHRONOUS:
            ready &= s.SYNCHRONOUS
        sig = (ready & -ready).bit_length()
        for index, info in enumerate(pending.queue):
            if info.signo == sig:
                del pending.queue[index]
                break
        else:
            raise AssertionError(f"dequeue_signal: signal {sig} is in the mask and not in the queue")
        if not any(other.signo == sig for other in pending.queue):
            pending.mask &= ~sigmask(sig)
        recalc_sigpending(task)
        return info
    return None


def get_signal(task: Task) -> tuple[Siginfo, Sigaction] | None:
    """The next signal that has a handler, after the default actions of those before it; None: go on, or exiting."""
    process, tracer = task.process, task.kernel.tracer
    while task.state is TaskState.RUNNING:
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
        if sigmask(sig) & s.IGNORED_BY_DEFAULT:
            continue
        if sigmask(sig) & _STOP_SIGNALS:
            task.kernel.scheduler.stop(task)
            continue
        task.kernel.fatal_signal(task, info)
        do_group_exit(task, sig)
    return None
