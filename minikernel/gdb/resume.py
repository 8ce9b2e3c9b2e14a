"""Letting the machine run as ``vCont`` says, until something stops it that the client wants to hear of.

Which thread runs is our scheduler's business, as on Linux it is Linux's: a thread that is not to go on is held back
(``Scheduler.held``), and of the others the scheduler picks as always.  The whole machine stands still at a stop, also
processes that the client is not attached to.
"""

from collections import deque
from typing import TYPE_CHECKING

from emu.cpu import RAX, RIP
from minikernel.abi import signal as s
from minikernel.abi.errno import Errno, LinuxError
from minikernel.events import Event, SchedProcessExec, SchedProcessExit, SchedProcessFork, SysExit
from minikernel.gdb.delivery import Delivery
from minikernel.gdb.points import clear_points, code_point, point_stop, set_points, touched_points
from minikernel.gdb.signals import GDB_SIGINT, from_gdb
from minikernel.gdb.stops import TRAP_TRACE, End, NoneLeft, Outcome, Stop, exec_reason
from minikernel.kdb.lookout import Touch
from minikernel.kdb.machine import Pause, Why
from minikernel.task.task import TaskState

if TYPE_CHECKING:
    from minikernel.gdb.client import Action, Client, Inferior
    from minikernel.kdb.machine import Machine
    from minikernel.kernel import Kernel
    from minikernel.task.task import Process, Task


class Control:
    """Runs *machine* for *client*; it is the machine's gate, and hears the kernel's events."""

    def __init__(self, machine: "Machine", client: "Client") -> None:
        self.machine = machine
        self.client = client
        self.delivery = Delivery()
        self._told: list[tuple[int, Event]] = []  # by the kernel since the machine last paused
        self._stops: deque[Outcome] = deque()  # known, and not reported yet
        self._processes: dict[int, Process] = {}
        self._vforks: dict[int, int] = {}  # child -> parent, until the child has a memory of its own
        self._actions: tuple[Action, ...] = ()
        self._leaving: Task | None = None  # to be stopped where its system call has just been interrupted
        self.changed = False  # the run is no longer the one that the machine would make by itself
        machine.set_gate(self)

    @property
    def kernel(self) -> "Kernel":
        """The machine's."""
        return self.machine.kernel

    # ---- whom there is

    def threads(self, inferior: "Inferior") -> "list[Task]":
        """The threads of a process that live."""
        process = self._process(inferior.pid)
        return list(process.threads) if process is not None else []

    def _process(self, pid: int) -> "Process | None":
        """A process the client is attached to; also when its parent has forgotten it already."""
        leader = self.kernel.tasks.get(pid)
        if leader is not None:
            self._processes[pid] = leader.process
        return self._processes.get(pid)

    def all_threads(self) -> "list[Task]":
        """Those of every process the client is attached to."""
        return [task for inferior in self.client.inferiors.values() for task in self.threads(inferior)]

    def someone(self) -> "Task | None":
        """The thread that a stop of no thread in particular is about: whom the CPU runs, if the client knows it."""
        current, known = self.kernel.current, self.all_threads()
        return current if current in known else next(iter(known), None)

    # ---- the machine's gate, and the kernel's events

    def holds_call(self, task: "Task") -> bool:
        """Stop at the entry of a system call that is caught."""
        nr = self.kernel.cpu.regs[RAX] & 0xFFFF_FFFF
        if not self._catches(task, nr):
            return False
        self._stops.append(Stop(task.tgid, task.pid, reason=f"syscall_entry:{nr:x};", code=s.SIGTRAP))
        return True

    def _catches(self, task: "Task", nr: int) -> bool:
        inferior = self.client.inferiors.get(task.tgid)
        return (
            inferior is not None and inferior.catches is not None and (not inferior.catches or nr in inferior.catches)
        )

    def holds_signal(self, task: "Task") -> bool:
        """Stop before a signal is taken, unless the client has said that this one, or its kind, may pass."""
        if task is self._leaving:
            return True
        if task.tgid not in self.client.inferiors:
            return False
        return self.delivery.tell(task, self.client.pass_signals, self._signalled)

    def _signalled(self, task: "Task", number: int) -> None:
        self._stops.append(Stop(task.tgid, task.pid, number))

    def hear(self, _icount: int, pid: int, event: Event) -> None:
        """A sink of the tracer: note what may be a stop."""
        if not self.client.inferiors:
            return
        match event:
            case SchedProcessFork() | SchedProcessExec() | SchedProcessExit():
                pass
            case SysExit() if self._leaving is not None and self._leaving.pid == pid:
                self.machine.ask_stop()
                return
            case SysExit(nr=nr) if (task := self.kernel.tasks.get(pid)) is not None and self._catches(task, nr):
                pass
            case _:
                return
        self._told.append((pid, event))
        self.machine.ask_stop()

    # ---- going on

    def resume(self, actions: "tuple[Action, ...]") -> Outcome:
        """Let the threads go on as *actions* say (the first that fits a thread is its), until there is a stop."""
        self._actions = actions
        self.kernel.scheduler.was_held = False
        for task in self.all_threads():
            if (action := self._action(task)) is not None:
                named = action.threads.tid > 0 or task is self.someone()
                self.delivery.answer(task, from_gdb(action.signal) if named else 0)
        self.delivery.settle()
        stepped = False  # the one that is to step has retired its instruction
        outcome = self._ready() or self._standing_at_point()
        while outcome is None:
            self._hold()
            stepper = self._stepper()
            if stepper is None:
                if not self._anyone():
                    return NoneLeft("No thread that was to run is left.\n")
                pause = self.machine.run()
            else:
                pause = self.machine.run_to_task(stepper)
                if pause.why is Why.SWITCHED and not stepped and stepper.state is TaskState.RUNNING:
                    pause = self.machine.step()
                    stepped = pause.why is Why.STEPPED and self.kernel.current is stepper
                if pause.why is Why.STEPPED and stepper.blocked_call is not None:
                    continue  # the call it made sleeps: the step ends when it returns
            outcome = self._judge(pause, stepper if stepped else None)
            if outcome is None and stepped and pause.why in {Why.STEPPED, Why.SWITCHED}:
                stepped = False  # within the range: once more
        self.machine.forget_interrupt()
        self.changed = self.changed or self.kernel.scheduler.was_held or self.delivery.changed
        self.delivery.changed = False
        return outcome

    def run_free(self) -> Pause:
        """Nobody is attached: go on until interrupted, or to the end."""
        self.kernel.scheduler.held = frozenset()
        clear_points(self.machine)
        while (pause := self.machine.run()).why in {Why.ASKED, Why.BREAK}:
            self._told.clear()
            self._stops.clear()
        return pause

    def _action(self, task: "Task") -> "Action | None":
        return next((action for action in self._actions if action.is_for(task.tgid, task.pid)), None)

    def _anyone(self) -> bool:
        """Whether some thread that may go on is left."""
        return not self.client.inferiors or any(self._action(task) for task in self.all_threads())

    def _hold(self) -> None:
        """Keep back who is not to go on, and stop in front of every breakpoint."""
        scheduler = self.kernel.scheduler
        scheduler.held = frozenset(task for task in self.all_threads() if self._action(task) is None)
        set_points(self.machine, self.client)

    def _stepper(self) -> "Task | None":
        """The thread that is to step: the one in the CPU if there are several."""
        steppers = [task for task in self.all_threads() if (a := self._action(task)) is not None and a.kind != "c"]
        return self.kernel.current if self.kernel.current in steppers else next(iter(steppers), None)

    # ---- what a pause means

    def _judge(self, pause: Pause, stepped: "Task | None") -> Outcome | None:
        """What is to be reported; None: go on."""
        ready = self._ready()
        if ready is not None:
            return ready
        match pause.why:
            case Why.INTERRUPTED:
                return self._stop_of_someone(GDB_SIGINT)
            case Why.STUCK:
                return self._stop_of_someone(0, f"The machine cannot go on: {pause.text}.\n")
            case Why.BREAK:
                return self._at_point()
            case Why.STEPPED | Why.SWITCHED if stepped is not None:
                return self._after_step(stepped)
        return None

    def _stop_of_someone(self, number: int, words: str = "") -> Outcome:
        task = self.someone()
        return Stop(task.tgid, task.pid, number, words=words) if task is not None else NoneLeft(words)

    def _standing_at_point(self) -> Outcome | None:
        """A breakpoint where the current thread stands stops it at once: clients step over those they have reported.

        A thread that is on its way into a signal handler is not there yet.
        """
        task = self.kernel.current
        if task is None or self._action(task) is None or self.delivery.is_approved(task):
            return None
        return self._at_point()

    def _at_point(self) -> Outcome | None:
        """The breakpoint in front of which the thread in the CPU stands."""
        task = self.kernel.current
        inferior = self.client.inferiors.get(task.tgid) if task is not None else None
        if task is None or inferior is None or not task.has_mm or self.machine.held_call(task):
            return None
        here = self.kernel.cpu.regs[RIP] & task.abi.mask
        found = code_point(inferior, here)
        return point_stop(task, found) if found is not None else None

    def _after_step(self, task: "Task") -> Outcome | None:
        """The end of a step; None if it is one of a range that goes on."""
        if task.state in {TaskState.ZOMBIE, TaskState.DEAD}:
            return None
        action = self._action(task)
        if action is not None and action.kind == "r":
            if (found := self._at_point()) is not None:
                return found
            if action.start <= self.kernel.cpu.regs[RIP] & task.abi.mask < action.end:
                return None
        return Stop(task.tgid, task.pid, code=TRAP_TRACE)

    # ---- events

    def _ready(self) -> Outcome | None:
        """The first stop that is known and may be reported now."""
        self._collect()
        for outcome in self._stops:
            match outcome:
                case Stop(pid, tid):
                    task = self.kernel.tasks.get(tid)
                    if pid not in self.client.inferiors or task is None:
                        self._stops.remove(outcome)
                        return self._ready()
                    if self._action(task) is None:
                        continue
                case End(pid):
                    if pid not in self.client.inferiors:
                        self._stops.remove(outcome)
                        return self._ready()
                    del self.client.inferiors[pid]
            self._stops.remove(outcome)
            return outcome
        return None

    def _collect(self) -> None:
        """Turn what the kernel told into stops."""
        if self.machine.lookout is not None:
            self._touched(self.machine.lookout.touches)
        told, self._told = self._told, []
        for pid, event in told:
            match event:
                case SchedProcessFork(parent, child):
                    self._forked(parent, child)
                case SchedProcessExec():
                    self._exec(pid)
                case SysExit(nr=nr):
                    self._stop(pid, f"syscall_return:{nr:x};")
        self._vforks_done()
        for inferior in list(self.client.inferiors.values()):
            self._ended(inferior)

    def _stop(self, tid: int, reason: str) -> None:
        task = self.kernel.tasks.get(tid)
        if task is not None and task.tgid in self.client.inferiors:
            self._stops.append(Stop(task.tgid, tid, reason=reason, code=s.SIGTRAP))

    def _touched(self, touches: list[Touch]) -> None:
        """Watched memory was touched."""
        self._stops += touched_points(self.machine, self.client, touches)
        touches.clear()

    def _forked(self, parent_tid: int, child_tid: int) -> None:
        parent, child = self.kernel.tasks.get(parent_tid), self.kernel.tasks.get(child_tid)
        inferior = self.client.inferiors.get(parent.tgid) if parent is not None else None
        if parent is None or child is None or inferior is None:
            return
        if child.tgid == parent.tgid:
            if self.client.thread_events:
                self._stop(child_tid, "create:;")
            return
        kind = "vfork" if child.vfork_done is not None else "fork"
        if f"{kind}-events" not in self.client.features:
            return
        self.client.inferiors[child_tid] = inferior.fork(child_tid)
        if kind == "vfork":
            self._vforks[child_tid] = parent_tid
        self._stop(parent_tid, f"{kind}:p{child.tgid:x}.{child_tid:x};")

    def _exec(self, tid: int) -> None:
        task = self.kernel.tasks.get(tid)
        inferior = self.client.inferiors.get(task.tgid) if task is not None else None
        if task is None or inferior is None or not task.has_mm:
            return
        inferior.points.clear()  # they were in a memory that is gone
        if "exec-events" in self.client.features:
            exe = task.mm.exe_file
            self._stop(tid, exec_reason(exe.path if exe is not None else b""))

    def _vforks_done(self) -> None:
        for child, parent in list(self._vforks.items()):
            task = self.kernel.tasks.get(child)
            if task is None or task.vfork_done is None:
                del self._vforks[child]
                self._stop(parent, "vforkdone:;")

    def _ended(self, inferior: "Inferior") -> None:
        """Note the end of a process, once; the machine ends with its first."""
        kernel = self.kernel
        process = self._process(inferior.pid)
        if kernel.exit_code is not None:
            is_init = kernel.init is not None and kernel.init.tgid == inferior.pid
            end = End(inferior.pid, kernel.exit_code if is_init else s.SIGKILL)
        elif process is not None and process.threads:
            return
        else:
            end = End(inferior.pid, process.exit_code if process is not None else 0)
        if not any(isinstance(known, End) and known.pid == inferior.pid for known in self._stops):
            self._stops.append(end)

    def leave_call(self, task: "Task") -> None:
        """Interrupt the system call that *task* sleeps in, as ptrace's stops do: it is made again afterwards.

        Errors:
            EBUSY: nothing interrupts it.
        """
        if task.state is not TaskState.SLEEPING or task.uninterruptible:
            raise LinuxError(Errno.EBUSY, "the thread is in a system call that nothing interrupts")
        scheduler = self.kernel.scheduler
        scheduler.held = frozenset(other for other in self.kernel.tasks.values() if other is not task)
        self._leaving, self.changed = task, True
        scheduler.signal_wake(task)
        self.machine.run()
        self._leaving = None
        if task.blocked_call is not None:
            raise LinuxError(Errno.EBUSY, "the thread's system call goes on")
