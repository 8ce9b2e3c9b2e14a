"""Signals between the kernel and the client: what was told, and whether it is delivered, replaced or forgotten.

Linux: kernel/signal.c, ptrace_signal.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from minikernel.abi import signal as s
from minikernel.abi.siginfo import Siginfo
from minikernel.gdb.signals import to_gdb
from minikernel.task.signal import next_signal, recalc_sigpending, send_signal
from minikernel.task.task import Sigpending

if TYPE_CHECKING:
    from minikernel.task.task import Task


class Delivery:
    """The signals of the threads that a client is attached to."""

    def __init__(self) -> None:
        self.held: dict[Task, tuple[Sigpending, Siginfo]] = {}  # told to the client, which has not answered
        self._approved: dict[Task, Siginfo] = {}  # to be delivered without asking again
        self.changed = False  # something else than the next signal has been delivered

    def tell(self, task: "Task", pass_signals: frozenset[int], report: "Callable[[Task, int], object]") -> bool:
        """Whether *task* must wait with its next signal; *report* hears of it once, with gdb's number."""
        found = next_signal(task)
        if found is None or found[1].signo == s.SIGKILL or self._approved.get(task) is found[1]:
            return False
        number = to_gdb(found[1].signo)
        if number in pass_signals:
            return False
        if task not in self.held or self.held[task][1] is not found[1]:
            self.held[task] = found
            report(task, number)
        return True

    def is_approved(self, task: "Task") -> bool:
        """Whether *task* is about to take a signal."""
        return task in self._approved

    def answer(self, task: "Task", sig: int) -> None:
        """*task* goes on with signal *sig*, Linux's number; 0: with none."""
        held = self.held.pop(task, None)
        if held is not None and sig == held[1].signo:
            self._approved[task] = held[1]
            return
        if held is not None:
            self.changed = True
            _forget(task, *held)
        if sig:
            self.changed = True
            info = Siginfo(sig, s.SI_USER)
            self._approved[task] = info
            send_signal(task, info, group=False)

    def settle(self) -> None:
        """Forget approvals of signals that have been delivered."""
        self._approved = {
            task: info for task, info in self._approved.items() if any(info is one for one in _queued(task))
        }

    def let_pass(self, pid: int) -> None:
        """The client leaves process *pid*: what it was told of is delivered."""
        for task in [task for task in self.held if task.tgid == pid]:
            del self.held[task]

    def replace(self, task: "Task", info: Siginfo) -> None:
        """Another siginfo for the signal that *task* has been stopped by."""
        self.changed = True
        pending, old = self.held[task]
        pending.queue[:] = [info if one is old else one for one in pending.queue]
        self.held[task] = pending, info


def _queued(task: "Task") -> list[Siginfo]:
    return task.pending.queue + task.process.shared_pending.queue


def _forget(task: "Task", pending: Sigpending, info: Siginfo) -> None:
    """*task* never gets *info*; it still has to go the way out of the kernel: a call may have been interrupted."""
    pending.queue[:] = [one for one in pending.queue if one is not info]
    if not any(one.signo == info.signo for one in pending.queue):
        pending.mask &= ~s.sigmask(info.signo)
    recalc_sigpending(task)
    task.sigpending = True
