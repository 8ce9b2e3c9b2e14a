"""Processes without a CPU whose time is moved by hand: for timers, signals, stopping and waiting."""

from types import SimpleNamespace
from typing import cast

from minikernel.abi import signal as s
from minikernel.abi.abi import X86_64, Abi
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import Sigaction, sigmask
from minikernel.mm.pgtable import PageTable
from minikernel.task.signal import dequeue_signal, get_signal, send_signal
from minikernel.task.task import Process, Task
from tests.minikernel.syscalls.calls import Caller

MS = 1_000_000
HANDLER = 0x1000


class Timed(Caller):
    """A caller with a parent process; every task is on the scheduler's line."""

    def __init__(self, abi: Abi = X86_64, *, uid: int = 0) -> None:
        super().__init__(abi, uid=uid)
        self.kernel.cpu.set_root = lambda root: None  # type: ignore[method-assign]  # a stand-in without memory
        self.kernel.init_pgtable = cast("PageTable", SimpleNamespace(root=0))
        self.parent = self.child_of(self.kernel.reaper, 50, abi)
        self._adopt(self.task, self.parent.process)

    def _adopt(self, task: Task, parent: Process) -> None:
        task.process.parent = parent
        parent.children.append(task.process)
        self.kernel.scheduler.add(task)

    def child_of(self, parent: Process, pid: int, abi: Abi = X86_64, uid: int = 0) -> Task:
        """A new process, in its parent's group and session if the parent has one."""
        task = self.add_task(pid, abi, uid)
        if parent.pgrp:
            task.process.pgrp, task.process.session = parent.pgrp, parent.session
        self._adopt(task, parent)
        return task

    def thread(self, pid: int, of: Task | None = None) -> Task:
        """Another thread of *of*, or of the caller."""
        task = self.add_task(pid, self.abi, thread_of=of or self.task)
        task.mm.users += 1
        self.kernel.scheduler.add(task)
        return task

    def sleep(self, ns: int) -> None:
        """Time passes, and nobody runs."""
        end = self.icount + ns
        while (deadline := self.kernel.clock.next_deadline()) is not None and deadline <= end:
            self.icount = max(self.icount, deadline)
            self.kernel.clock.run_expired()
        self.icount = end

    def run(self, ns: int, task: Task | None = None) -> None:
        """*task*, or the caller, runs for *ns*, in slices that end where a CPU timer is due."""
        task = task or self.task
        self.kernel.current = task
        while ns:
            timers = task.process.cpu_timers
            step = min(ns, timers.budget(task)) if timers is not None else ns
            self.kernel.cpu.icount += step
            self.kernel.update_curr()
            self.sleep(step)
            ns -= step
        self.kernel.current = self.task

    def handle(self, *signals: int, task: Task | None = None) -> None:
        """Give *signals* a handler."""
        for sig in signals:
            (task or self.task).process.actions[sig] = Sigaction(HANDLER)

    def block_signals(self, *signals: int, task: Task | None = None) -> None:
        """Block *signals*."""
        (task or self.task).blocked |= sigmask(*signals)

    def take(self, *signals: int, task: Task | None = None) -> Siginfo | None:
        """Take the next of *signals* (all if none are given) from the queues."""
        return dequeue_signal(task or self.task, sigmask(*signals) if signals else (1 << 64) - 1)

    def kill(self, task: Task, sig: int) -> None:
        """As kill(2) sends it."""
        send_signal(task, Siginfo(sig, s.SI_USER, pid=self.task.tgid), group=True)

    def to_user_mode(self, *tasks: Task) -> list[int]:
        """Let *tasks* take their signals on the way to user mode: which had handlers."""
        taken = []
        for task in tasks:
            while (chosen := get_signal(task)) is not None:
                taken.append(chosen[0].signo)
        return taken
