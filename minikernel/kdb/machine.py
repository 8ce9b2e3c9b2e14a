"""A machine that stops where it is told to, and otherwise goes exactly as a free run does.

``Machine`` takes the same turns as ``entry.run`` and serves the same exits; between two instructions it may pause.
Slices and timers end where they would without it: a pause inside a slice does not begin a new one.

A *position* is a place in the run where it may pause: instructions retired, and services done since boot.  A service is
one step of the kernel's that no instruction counts: an exit is served, a task leaves the kernel, gets or gives up the
CPU.  Each pause has one, positions are ordered as the run takes them, and the same run has the same state at the same
position, however often it paused before.

Where we must count, the CPU runs freely up to a little before the point and is stepped from there.  Breakpoints are
the CPU's (``Cpu.set_break``), kernel events come from the tracer: ``ask_stop`` pauses at the next safe point.
Nothing above this class drives the CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, Protocol, TypeAlias, assert_never

from emu.cpu import RIP, RSP
from emu.exits import BudgetSpent, CpuException, CpuExit, PageFault, Syscall
from emu.x86 import VirtAddr
from minikernel.boot import System
from minikernel.entry import (
    Deadlock,
    InstructionLimit,
    TimeLimit,
    Turns,
    do_syscall,
    drop_stale_code,
    exc_other,
    exc_page_fault,
    exit_to_user_mode,
    slice_end,
    slice_over,
)
from minikernel.kdb.lookout import Lookout
from minikernel.report.peek import peek
from minikernel.task.oom import KernelPanic
from minikernel.task.task import Task, TaskState

_MAX_BLOCK: Final = 1024  # instructions: a block that has begun is run to its end, and has at most 512
_MAX_INSN: Final = 15
_ENDS_BLOCK: Final = ("j", "call", "ret", "loop", "rep", "int", "iret", "sys", "popf", "pause", "sti", "in ", "out ")
_ENDED: Final = (TaskState.ZOMBIE, TaskState.DEAD)


Place: TypeAlias = tuple[int, int, int]
"""Instruction count, address, task."""


class Why(Enum):
    """Why the machine paused."""

    STEPPED = "stepped"  # one instruction is done
    COUNTED = "counted"  # the instruction count that was asked for is reached
    BREAK = "break"  # in front of an address of ``arm``
    ASKED = "asked"  # ask_stop was called
    SWITCHED = "switched"  # the task that was waited for is back in the CPU, or has ended
    WATCHED = "watched"  # watched memory was touched: see ``lookout``
    INTERRUPTED = "interrupted"  # Ctrl-C
    EXITED = "exited"  # the first task has ended
    STUCK = "stuck"  # every task sleeps for ever, or a limit of the run is reached


class Position(NamedTuple):
    """A place in a run: see above."""

    icount: int
    services: int


class Mark(NamedTuple):
    """Where a single step began: the position at which its task, *pid*, was in the CPU, and its registers."""

    position: Position
    pid: int
    pc: int
    sp: int


@dataclass(frozen=True, slots=True)
class Pause:
    """The machine stands still, between two instructions."""

    why: Why
    text: str = ""  # of STUCK


class Gate(Protocol):
    """Who may keep a task from what it is about to do: the machine pauses then."""

    def holds_call(self, task: Task) -> bool:
        """Before *task*, behind its system call instruction, enters the kernel.  Asked once for each call."""
        ...

    def holds_signal(self, task: Task) -> bool:
        """Before *task* takes the next pending signal (``next_signal``).

        Asked more than once: about the same signal the answer stays the same until the machine has paused.
        """
        ...


class Machine:
    """Drives one booted *system*, whose first program is loaded."""

    def __init__(self, system: System, on_turn: Callable[[], None] | None = None) -> None:
        """*on_turn* is called between two services, often enough: it may look at the position, but not go on."""
        self.system = system
        self._on_turn = on_turn
        self._services = 0
        self.mark: Mark | None = None  # of the last single step
        self.undisturbed = False  # no listener may stop it, and no gate: it goes where it has been
        self._slice_began = 0  # instruction count
        self._ran_to: dict[int, int] = {}  # by pid: the count at which a task was in the CPU last
        self.kernel = system.kernel
        self._turns = Turns(self.kernel)
        self._task: Task | None = None  # whose slice goes on
        self._end = 0  # of the slice, as an instruction count
        self._way_out = False  # an exit was served; what follows it is still to be done
        self._inside = False  # in the middle of a block, where a free run would not end a slice
        self._armed: set[int] = set()
        self._asked = False
        self._interrupted = False
        self._dead: Pause | None = None
        self.lookout: Lookout | None = None  # who watches memory, for as long as any is watched
        self._touched = False  # and has seen something
        self._kernel_worked = True  # since the lookout was told last
        self._gate: Gate | None = None
        self._calls: dict[Task, Syscall] = {}  # made, and held by the gate
        self._unbegun = False  # the slice of ``_task`` begins when the gate has let it into user mode

    # ---- what may be asked for

    @property
    def icount(self) -> int:
        """Instructions retired since boot."""
        return self.kernel.cpu.icount

    def set_gate(self, gate: Gate) -> None:
        """Ask *gate* from now on."""
        self._gate = gate
        self.kernel.signal_gate = self._holds

    @property
    def has_gate(self) -> bool:
        """Whether somebody is asked."""
        return self._gate is not None

    def held_call(self, task: Task) -> bool:
        """Whether *task* stands at the entry of a system call."""
        return task in self._calls

    @property
    def position(self) -> Position:
        """Where the run is."""
        return Position(self.kernel.cpu.icount, self._services)

    def last_ran(self, pid: int) -> int:
        """The instruction count at which task *pid* ran last: now, if it has done so in this slice."""
        task = self._task
        if task is not None and task.pid == pid and self.icount > self._slice_began:
            return self.icount
        return self._ran_to.get(pid, 0)

    def arm(self, addresses: set[int]) -> None:
        """Pause in front of each of *addresses*, in any address space, and of no other."""
        for address in sorted(self._armed - addresses):
            self.kernel.cpu.set_break(VirtAddr(address), on=False)
        for address in sorted(addresses - self._armed):
            self.kernel.cpu.set_break(VirtAddr(address), on=True)
        self._armed = set(addresses)

    def leave_kernel_again(self, task: Task) -> None:
        """Before *task* runs on, do what follows a system call: its registers have been made to ask for a restart."""
        task.sigpending = True
        if task is self._task:
            self._way_out = True

    def ask_stop(self, *, always: bool = False) -> None:
        """Pause at the next safe point.  For listeners: an event's work may be half done when it is told.

        *always*: even if the run is to be undisturbed.
        """
        self._asked = self._asked or always or not self.undisturbed

    def interrupt(self) -> None:
        """Pause soon, at the latest when the slice is over.  For signal handlers of the host."""
        self._interrupted = True

    @property
    def was_interrupted(self) -> bool:
        """Whether an interrupt has come that nothing has heeded yet."""
        return self._interrupted

    def forget_interrupt(self) -> None:
        """An interrupt that came while nothing ran is not meant for the next run."""
        self._interrupted = False

    # ---- going on

    def forget_stops(self) -> None:
        """No stop is wanted any more, no breakpoint, and nobody is held: whoever wanted that is gone."""
        self._asked = self._interrupted = self._touched = False
        self.arm(set())
        self.kernel.scheduler.held = frozenset()
        if self.lookout is not None:
            self.lookout.watch(())
            self.lookout = None

    def step(self) -> Pause:
        """Let the task in the CPU retire one instruction, with all that the kernel does for it.

        An instruction that only brings a signal ends where its handler begins.  A call that blocks ends the step, too:
        its task sleeps, and the next step is another task's.
        """
        return self._go(single=True, until=None, back_to=None)

    def run(self, *, until: int | None = None, to: Position | None = None, here_counts: bool = False) -> Pause:
        """Go on until something pauses the machine, at the latest behind instruction number *until*, or at *to*.

        *to* is a position, best one that this run has had; where it is past nothing happens.  A breakpoint that it
        stands in front of already does not count, unless *here_counts*.
        """
        return self._go(single=False, until=until, back_to=None, to=to, here_counts=here_counts)

    def run_to_task(self, task: Task) -> Pause:
        """Go on until *task* is in the CPU again, or has ended."""
        return self._go(single=False, until=None, back_to=task)

    # ---- private

    def _go(
        self, *, single: bool, until: int | None, back_to: Task | None, to: Position | None = None,
        here_counts: bool = False,
    ) -> Pause:  # fmt: skip
        if self._dead is None or (to is not None and self.position >= to):
            if self.lookout is not None:
                self.lookout.touches.clear()
                self.lookout.hear(on=True)
            try:
                return self._loop(single=single, until=until, back_to=back_to, to=to, here_counts=here_counts)
            except (Deadlock, InstructionLimit, KernelPanic, TimeLimit) as error:
                if self.kernel.scheduler.held and isinstance(error, Deadlock):
                    return Pause(Why.STUCK, "every task that may run waits for one that is held")
                self._dead = Pause(Why.STUCK, str(error))
            finally:
                if self.lookout is not None:
                    self.lookout.hear(on=False)
        return self._dead

    def _loop(
        self, *, single: bool, until: int | None, back_to: Task | None, to: Position | None, here_counts: bool
    ) -> Pause:
        cpu = self.kernel.cpu
        start, begun = cpu.icount, None if here_counts else self.place
        mark: Place | None = None  # of a single step: where it began
        if single:
            self.mark = None
        if to is not None:
            until = to.icount
        while True:
            if self._kernel_worked:
                self._kernel_worked = False
                if self.lookout is not None and self.lookout.kernel_ran():
                    self._touched = True
            if to is not None and (cpu.icount, self._services) >= to:
                return Pause(Why.COUNTED)
            if (pause := self._pause()) is not None:
                return pause
            if self._task is not None and self._task in self.kernel.scheduler.held:
                self._way_out = False
                self._end_slice(self._task)
                continue
            if self._way_out:
                self._leave_kernel()
                continue
            if single and cpu.icount != start:
                return Pause(Why.STEPPED)
            if back_to is not None and (back_to is self._task or back_to.state in _ENDED):
                return Pause(Why.SWITCHED)
            if until is not None and cpu.icount >= until and to is None:
                return Pause(Why.COUNTED)
            if self._task is None:
                self._begin_slice()
                continue
            if self._task in self._calls:
                do_syscall(self.kernel, self._task, self._calls.pop(self._task).insn)
                self._services += 1
                self._way_out = True
                start = -1  # that was the step
                continue
            here = self.place
            if single:
                if mark is None:
                    mark = here
                    mask = self._task.abi.mask
                    self.mark = Mark(self.position, here[2], here[1] & mask, cpu.regs[RSP] & mask)
                if here != mark:
                    return Pause(Why.STEPPED)
            elif here[1] in self._armed and here != begun:
                return Pause(Why.BREAK)
            self._execute(self._task, single=single or here[1] in self._armed, until=until)

    @property
    def stepped(self) -> Mark | None:
        """Where the last single step began, if it moved its task: by an instruction, or into a handler."""
        mark = self.mark
        if mark is None or self.icount != mark.position.icount:
            return mark
        _, pc, pid = self.place
        return mark if pid == mark.pid and pc & 0xFFFF_FFFF != mark.pc & 0xFFFF_FFFF else None

    @property
    def place(self) -> Place:
        """Instruction count, address, task."""
        current = self.kernel.current
        return self.icount, self.kernel.cpu.regs[RIP], current.pid if current is not None else 0

    def _pause(self) -> Pause | None:
        """What keeps the machine from going on."""
        if self._asked:
            self._asked = False
            return Pause(Why.ASKED)
        if self.kernel.exit_code is not None:
            return Pause(Why.EXITED)
        if self._touched:
            self._touched = False
            return Pause(Why.WATCHED)
        if self._interrupted:
            self._interrupted = False
            return Pause(Why.INTERRUPTED)
        return None

    def _begin_slice(self) -> None:
        """One turn of the outer loop."""
        self._kernel_worked = True
        if self._on_turn is not None:
            self._on_turn()
        self._services += 1
        self._task = self._turns.next_task()
        if self._task is not None:
            self._slice_began = self.icount
            self._inside = False
            self._unbegun = self._way_out = self._task not in self._calls and self._kept(self._task)
            if not self._unbegun:
                self._end = slice_end(self.kernel, self._task)

    def _holds(self, task: Task) -> bool:
        """Whether *task* may not take a signal now: a stop comes first, it stands at a call, or the gate says so."""
        if self._gate is None or self.undisturbed:
            return False
        return self._asked or task in self._calls or self._gate.holds_signal(task)

    def _kept(self, task: Task) -> bool:
        """Whether *task* was not let into user mode because of a signal; the machine pauses for that."""
        ready = task.sigpending and task.state is TaskState.RUNNING and task.blocked_call is None
        kept = ready and self._holds(task)
        self._asked = self._asked or kept
        return kept

    def _end_slice(self, task: Task) -> None:
        self._kernel_worked = True
        self._services += 1
        self._leave_cpu(task)
        slice_over(self.kernel, task)

    def _leave_cpu(self, task: Task) -> None:
        """Its slice is over."""
        self._task = None
        if self.icount > self._slice_began:
            self._ran_to[task.pid] = self.icount

    def _execute(self, task: Task, *, single: bool, until: int | None) -> None:
        """Run user code, and serve what it runs into; a free run's slices end at the beginnings of blocks only."""
        kernel, cpu = self.kernel, self.kernel.cpu
        if cpu.icount >= self._end and not self._inside:
            self._end_slice(task)
            return
        if task.mm.tlb_dirty:
            cpu.flush_tlb()
            task.mm.tlb_dirty = False
        if kernel.node.stale_code:
            drop_stale_code(kernel)
        goal = self._end if until is None else min(self._end, until - _MAX_BLOCK)
        if single or cpu.icount >= goal:
            at = cpu.regs[RIP]
            cpu_exit = cpu.step()
            self._look_out()
            if isinstance(cpu_exit, BudgetSpent):
                self._inside = cpu.icount < self._end or not self._ended_block(task, at)
                return
        else:
            cpu.at_break = False
            cpu_exit = cpu.run(goal - cpu.icount)
            if self._look_out() and isinstance(cpu_exit, BudgetSpent):
                behind = cpu.hit_pc
                self._inside = behind is not None and (cpu.icount < self._end or not self._ended_block(task, behind))
                return
            if isinstance(cpu_exit, BudgetSpent):
                self._inside = cpu.at_break
                if not cpu.at_break and goal == self._end:
                    self._end_slice(task)
                return
        self._inside = False
        if not single and isinstance(cpu_exit, PageFault) and cpu_exit.is_fetch and cpu.regs[RIP] in self._armed:
            return  # a breakpoint stands in front of what cannot be fetched yet, or never: as where gdb's calls return
        self._serve(task, cpu_exit)

    def _look_out(self) -> bool:
        """Whether the CPU has stopped for watched memory; the machine pauses if that was touched indeed."""
        if self.lookout is None or not self.lookout.cpu_ran():
            return False
        self._touched = self._touched or bool(self.lookout.touches)
        return True

    def _serve(self, task: Task, cpu_exit: CpuExit) -> None:
        self._kernel_worked = True
        match cpu_exit:
            case Syscall(insn):
                if self._gate is not None and not self.undisturbed and self._gate.holds_call(task):
                    self._calls[task] = cpu_exit
                    self._asked = True
                    return
                do_syscall(self.kernel, task, insn)
            case PageFault():
                exc_page_fault(self.kernel, task, cpu_exit)
            case CpuException():
                exc_other(self.kernel, task, cpu_exit)
            case BudgetSpent():
                raise AssertionError("Machine._serve: nothing happened")
            case _ as never:
                assert_never(never)
        self._services += 1
        self._way_out = True

    def _leave_kernel(self) -> None:
        """What follows a served exit, as in entry: signals, and whether the slice goes on."""
        self._kernel_worked = True
        kernel, task = self.kernel, self._task
        assert task is not None, "Machine._leave_kernel: nobody was in the kernel"
        if self._on_turn is not None:
            self._on_turn()
        self._way_out = False
        if task.sigpending:
            exit_to_user_mode(kernel, task)
            self._way_out = self._kept(task)
            if self._way_out:
                return
        unbegun, self._unbegun = self._unbegun, False
        self._services += not unbegun  # otherwise it is the rest of a turn
        if task.state is not TaskState.RUNNING or task.blocked_call is not None or kernel.exit_code is not None:
            kernel.update_curr()
            self._leave_cpu(task)
        elif unbegun:
            self._end = slice_end(kernel, task)
        elif self.icount >= self._end or kernel.need_resched:
            self._end_slice(task)

    def _ended_block(self, task: Task, at: int) -> bool:
        """Whether the instruction at *at*, which has just been stepped, is the last of its block in a free run."""
        from emu.disasm import disassemble

        code = peek(task.mm, at, _MAX_INSN)
        insn = disassemble(code, VirtAddr(at), bits=self.kernel.cpu.code_bits, count=1)[0]
        return self.kernel.cpu.regs[RIP] != at + insn.size or f"{insn.text} ".startswith(_ENDS_BLOCK)
