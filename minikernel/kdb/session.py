"""A debugging session: one machine, what stops it, what it has told so far, and where its output goes.

Commands are in control.py, stops.py, look.py and inside.py; they print through ``Session.print`` and nothing else does.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from emu.cpu import GPR_NAMES, RIP
from emu.paging import walk_steps
from emu.x86 import VirtAddr
from minikernel.abi.signal import signal_name
from minikernel.boot import System
from minikernel.events import Event, MmapRegion, SchedProcessExec, SignalGenerate
from minikernel.kdb import blocks
from minikernel.kdb import points as p
from minikernel.kdb.catches import Catchpoint
from minikernel.kdb.command import CommandError, find
from minikernel.kdb.expr import ExprError, evaluate
from minikernel.kdb.frames import View, location_words
from minikernel.kdb.locals import lookup, type_named
from minikernel.kdb.machine import Machine
from minikernel.kdb.settings import Settings
from minikernel.kdb.signals import NO_STOP, is_told
from minikernel.kdb.source import Sources, body_at, show_frame_line
from minikernel.kdb.unwind import MAX_FRAMES, Frame
from minikernel.kdb.values import Value
from minikernel.kdb.watching import value_of, watchpoints
from minikernel.kdb.workbench import Workbench
from minikernel.report.crash import saved_registers
from minikernel.report.explain import Explainer
from minikernel.report.frame_log import FrameLog
from minikernel.report.paint import PLAIN, Paint
from minikernel.report.peek import peek, peek_anywhere
from minikernel.report.place import locate
from minikernel.report.strace import CurrentMemory
from minikernel.report.table import Column, table_lines
from minikernel.syscalls.strace import Strace

if TYPE_CHECKING:
    from emu.disasm import Instruction
    from minikernel.events import Sink
    from minikernel.kdb.checkpoints import Timeline
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.report.dwarf.ctypes import CType
    from minikernel.report.explanation import Explanation
    from minikernel.task.task import Task

_KEPT_EVENTS: Final = 100_000
_KEPT_CALLS: Final = 10_000
KEPT_FAULTS: Final = 10_000
"""Explained faults that are kept at least, some 3 KB each."""
_FULL: Final = {name: index for index, name in enumerate(GPR_NAMES)}
_HALF: Final = {("e" + name[1:] if index < 8 else name + "d"): index for name, index in _FULL.items()}
_SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs")
_MAX_INSN: Final = 15
_CALLER: Final = re.compile(r"\[pid +(\d+)\]")

Launch = Callable[[Callable[["Kernel"], "Sink"]], System]
"""Boots a machine, attaches the listener that is made for its kernel, and loads the program."""


_USERS: Final = (
    *("points", "last_number", "values", "stopping", "done", "x_format", "settings", "workbench", "line"),
    *("shown_registers", "shown_counters", "displays"),
)


def _nothing() -> None:
    pass


def _run(line: str, session: "Session") -> None:
    """Find the command *line* begins with, and run it.  Raises CommandError."""
    if blocks.run_defined(session, line):
        return
    found, arguments = find(line)
    found.run(session, arguments)


class Keeper(Protocol):
    """Saves positions of a run in files (minikernel/saving.py)."""

    def save(self, session: "Session", path: str) -> int:
        """Write where the run is to *path*; the size in bytes.  Raises CommandError."""
        ...

    def load(self, session: "Session", path: str) -> None:
        """Go on from what was saved in *path*.  Raises CommandError."""
        ...


class Session:
    """Everything that a command may ask about or change."""

    def __init__(self, launch: Launch, write: Callable[[str], object], paint: Paint = PLAIN) -> None:
        """Boot the machine and stand in front of the program's first instruction.

        Raises:
            What *launch* raises.
        """
        self._launch = launch
        self._write = write
        self.flush: Callable[[], None] = _nothing  # show what was printed: the program is about to write, too
        self.timeline: Timeline | None = None  # who can bring the past back, in the debugger's own process
        self.keeper: Keeper | None = None  # who can save the machine and load another
        self.at_prompt = False  # a command line is being served, and nothing but that
        self.executing = 0  # commands that execute each other
        self.line = ""  # the command that is being executed
        self.paint = paint
        self.points: dict[int, p.Point] = {}
        self.last_number = 0
        self.values: list[int] = []  # of print: $1 is the first
        self.displays: dict[int, str] = {}  # what ``display`` shows at every stop
        self.shown_values: dict[int, Value] = {}  # those of them that have a type
        self.stopping = dict.fromkeys(NO_STOP, False)  # signal -> whether it stops the program
        self.done = False  # the user has had enough
        self.x_format = "x", 0  # of the last x: letter, bytes
        self.settings = Settings()
        self.workbench = Workbench()
        self.data: dict[str, Any] = {}  # what the command says, as values
        self.depth = 0  # scripts that execute scripts
        self.shown_registers: dict[str, int] = {}  # by the last ``context``
        self.shown_counters: dict[str, int] = {}  # by the last ``vmstat``
        self._answering = False  # a command's output is collected
        self.view = View(self)  # the frames, and which of them is looked at
        self.sources = Sources()
        self.machine: Machine
        self.start()

    def start(self) -> None:
        """Boot, from the beginning; the points stay."""
        self.nr_events = 0  # told since boot
        self.stop_at_event = 0  # stop when so many are told; 0: do not
        self.events: deque[tuple[int, int, Event]] = deque(maxlen=_KEPT_EVENTS)
        self.calls: deque[tuple[int, str]] = deque(maxlen=_KEPT_CALLS)
        self.explanations: list[Explanation] = []
        self.caught: list[tuple[Catchpoint | None, str]] = []
        self.maps_changed = False
        self.selected: Task | None = None
        self.next_address: int | None = None  # where x goes on
        self.explainer: Explainer
        self._loaded = False
        system = self._launch(self._listen)
        self.machine = Machine(system, self._turn)
        self._loaded = True
        self.resolve()
        if self.timeline is not None:
            self.timeline.begin()

    def users(self) -> dict[str, Any]:
        """What is the user's, not the machine's: it stays as it is when another copy of the machine takes over."""
        return {name: getattr(self, name) for name in _USERS}

    def adopt(self, users: dict[str, Any]) -> None:
        """Take what another session gave as ``users``; this machine's are forgotten, with all that stopped it."""
        for name, value in users.items():
            setattr(self, name, value)
        self.at_prompt, self.executing = False, 0
        self.machine.forget_stops()
        self.workbench.settle()
        for point in watchpoints(self):
            point.old = value_of(self, point)
        self.caught.clear()
        self.selected = None
        self.next_address = None
        self.resolve()

    # ---- what the kernel tells

    def _listen(self, kernel: "Kernel") -> "Sink":
        explainer = self.explainer = Explainer(kernel)
        self.frame_log = FrameLog(kernel)
        speaker = 0  # whose event is being heard

        def keep_call(text: str) -> None:
            match = _CALLER.match(text)  # there when several tasks make calls
            self.calls.append((int(match[1]) if match is not None else speaker, text))

        calls = Strace(keep_call, CurrentMemory(kernel))

        def hear(icount: int, pid: int, event: Event) -> None:
            nonlocal speaker
            speaker = pid
            self.events.append((icount, pid, event))
            self.nr_events += 1
            calls(icount, pid, event)
            explanation = explainer.feed(icount, pid, event)
            if explanation is not None:
                if len(self.explanations) >= 2 * KEPT_FAULTS:
                    del self.explanations[:KEPT_FAULTS]
                self.explanations.append(explanation)
            if self._loaded:
                self._consider(event, explanation)

        return hear

    def _consider(self, event: Event, explanation: "Explanation | None") -> None:
        """Stop for *event*, if somebody wants that."""
        if self.nr_events == self.stop_at_event:
            self.machine.ask_stop(always=True)
        if self.machine.undisturbed:
            return
        before = len(self.caught)
        if isinstance(event, SignalGenerate) and is_told(self, signal_name(event.sig)):
            self.caught.append((None, signal_name(event.sig)))
        for point in self.points.values():
            if isinstance(point, Catchpoint) and point.enabled:
                words = point.catches(event, explanation, self.kernel)
                if words is not None:
                    self.caught.append((point, words))
        if isinstance(event, SchedProcessExec | MmapRegion) and self.points:
            self.maps_changed = True
        if len(self.caught) > before or self.maps_changed:
            self.machine.ask_stop()

    def _turn(self) -> None:
        if self.timeline is not None:
            self.timeline.on_turn()

    # ---- the machine

    @property
    def kernel(self) -> "Kernel":
        """The machine's kernel."""
        return self.machine.kernel

    @property
    def task(self) -> "Task":
        """The task that commands are about.

        Raises:
            CommandError: the program has ended.
        """
        task = self.selected or self.kernel.current
        if task is None or not self.is_running:
            raise CommandError("The program is not being run.")
        return task

    @property
    def is_running(self) -> bool:
        """Whether there is a program to ask about."""
        task = self.selected or self.kernel.current
        return task is not None and task.has_mm and self.kernel.exit_code is None

    @property
    def mm(self) -> "MmStruct":
        """Its memory."""
        return self.task.mm

    def registers(self) -> tuple[int, ...]:
        """The general registers and RIP of the task, cut to its word."""
        task = self.task
        raw = tuple(self.kernel.cpu.regs) if self.kernel.current is task else saved_registers(task)
        return tuple(value & task.abi.mask for value in raw)

    def frames(self) -> list[Frame]:
        """The frames of the task up to main, the innermost first."""
        return self.view.first(MAX_FRAMES)

    def disassemble(self, address: int, count: int) -> "list[Instruction]":
        """Instructions from *address* on, as the task would run them."""
        from emu.disasm import disassemble

        bits = self.kernel.cpu.code_bits if self.kernel.current is self.task else self.word * 8
        return disassemble(peek(self.mm, address, count * _MAX_INSN), VirtAddr(address), bits=bits, count=count)

    # ---- expressions: what names mean (expr.Scope)

    @property
    def word(self) -> int:
        """Bytes of an address of the task."""
        return self.task.abi.word

    def register(self, name: str) -> int | None:
        """A register by its full or 32-bit name, pc sp fp, or a value of ``print``."""
        if name in self.workbench.variables:
            return self.workbench.variables[name]
        if name == "icount":
            return self.machine.icount
        if name.isdecimal() or not name:
            index = int(name or len(self.values)) if len(name) < 8 else 0
            return self.values[index - 1] if 0 < index <= len(self.values) else None
        regs, cpu = self.view.registers(), self.kernel.cpu
        name = {"pc": "rip", "sp": "rsp", "fp": "rbp"}.get(name, name)
        if name in {"rip", "eip"}:
            return regs[RIP]
        if name in _FULL:
            return regs[_FULL[name]]
        if name in _HALF:
            half = regs[_HALF[name]]
            return half & 0xFFFF_FFFF if half is not None else None
        if self.kernel.current is not self.task:
            return None
        if name in {"rflags", "eflags"}:
            return cpu.rflags
        if name in _SEGMENTS:
            return cpu.segment(name)
        if name in {"fs_base", "gs_base"} and cpu.long_mode:
            return cpu.fs_base if name == "fs_base" else cpu.gs_base
        from minikernel.kdb.registers import wide_register

        found = wide_register(self, name)
        return found[0] if found is not None else None

    def symbol(self, name: str) -> int | None:
        """The address of a symbol."""
        return next(iter(self.explainer.symbols.addresses(self.mm, name)), None)

    def variable(self, name: str) -> Value | None:
        """A variable, function or constant that the program describes, seen from the chosen frame."""
        return lookup(self, name)

    def type_named(self, name: str) -> "CType | None":
        """A type of the program."""
        return type_named(self, name)

    def history(self, name: str) -> Value | None:
        """A value of ``print`` that has a type."""
        return (
            self.shown_values.get(int(name or len(self.values)))
            if len(name) < 8 and (name or "0").isdecimal()
            else None
        )

    def read(self, address: int, size: int) -> bytes:
        """Memory of the task, and of the kernel's half above it, read without touching it."""
        return peek_anywhere(self.mm, address, size)

    def physical(self, address: int) -> int | None:
        """The physical address behind a virtual one."""
        mm = self.mm
        mode = mm.pgtable.mode
        steps = walk_steps(self.kernel.physmem, mode, mm.pgtable.root, VirtAddr(address))
        if not steps or not steps[-1].leaf:
            return None
        return steps[-1].page_address(mode) + (address & ((1 << steps[-1].level.shift) - 1))

    def evaluate(self, text: str) -> int:
        """The value of an expression.

        Raises:
            CommandError.
        """
        try:
            return evaluate(text, self)
        except ExprError as error:
            raise CommandError(str(error)) from None

    # ---- points

    @property
    def breakpoints(self) -> list[p.Breakpoint]:
        """Those that are at an address, or want one."""
        return [point for point in self.points.values() if isinstance(point, p.Breakpoint)]

    def add(self, point: p.Point) -> None:
        """Keep *point*, which has ``next_number``."""
        self.points[point.number] = point
        self.last_number = self.workbench.variables["bpnum"] = point.number

    @property
    def next_number(self) -> int:
        """The number of the next point."""
        return self.last_number + 1

    def locate(self, location: str) -> int | None:
        """The address of ``*EXPR``, ``FILE:LINE`` or a function; None: nothing is called that now.

        Raises:
            CommandError: an expression that cannot be evaluated.
        """
        if location.startswith("*"):
            return self.evaluate(location[1:]) & self.task.abi.mask
        file, colon, line = location.rpartition(":")
        if colon and line.isdecimal() and len(line) < 8:
            return next(iter(self.explainer.symbols.line_addresses(self.mm, file, int(line))), None)
        return next(iter(self._addresses(self.mm, location)), None)

    def resolve(self) -> None:
        """Give addresses to the breakpoints that wait for a program or library to be mapped."""
        self.maps_changed = False
        task = self.kernel.current
        if task is None or not task.has_mm:
            return
        for point in self.breakpoints:
            if point.what.startswith("*") or (point.address is not None and point.applies_to(task.tgid, task.mm)):
                continue
            address = next(iter(self._addresses(task.mm, point.what)), None)
            if address is not None:
                point.place_in(task.tgid, task.mm, address)

    def _addresses(self, mm: "MmStruct", location: str) -> list[int]:
        file, colon, line = location.rpartition(":")
        symbols = self.explainer.symbols
        if colon and line.isdecimal():
            return symbols.line_addresses(mm, file, int(line))
        return [body_at(symbols, mm, address) for address in symbols.addresses(mm, location)]

    # ---- words

    def print(self, text: str = "") -> None:
        """Show a line, or several."""
        self._write(text + "\n")

    @contextmanager
    def silence(self) -> Iterator[list[str]]:
        """Show nothing; gives what would have been shown."""
        lines: list[str] = []
        write, self._write = self._write, lines.append
        try:
            yield lines
        finally:
            self._write = write

    def write(self, text: str) -> None:
        """Show *text* as it is."""
        self._write(text)

    def tell(self, **values: object) -> None:
        """Say the same as values, for ``--json``."""
        self.data.update(values)

    def tell_more(self, key: str, values: Iterable[object]) -> None:
        """Add to a list of values."""
        self.data.setdefault(key, []).extend(values)

    def pairs(self, rows: Mapping[str, object]) -> None:
        """Show labels and words, and tell them."""
        width = max(map(len, rows), default=0) + 2
        for label, words in rows.items():
            self.print(f"{label:<{width}}{words}".rstrip())
        self.tell(**{label.replace(" ", "_"): words for label, words in rows.items()})

    def table(self, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], key: str = "rows") -> None:
        """Show a table, and tell its rows."""
        for line in table_lines(columns, rows, self.paint):
            self.print(line)
        self.tell(**{key: list(rows)})

    def name_of(self, address: int) -> str:
        """``<main+4>``, or whatever else is known about the place; may be empty."""
        place = locate(self.mm, self.explainer.symbols, address)
        if place.symbol is not None:
            return f"<{place.symbol}>"
        return f"<{place.short}>" if place.vma is not None else ""

    def place_words(self, pc: int) -> str:
        """``0x401136 in main (argc=1) at story.c:12``, as gdb says it."""
        frame = self.view.first(1)[0]
        if frame.pc == pc:
            return location_words(self, frame)
        place = locate(self.mm, self.explainer.symbols, pc)
        digits = self.word * 2
        words = f"{pc:#0{digits + 2}x} in "
        words += f"{place.symbol.name} ()" if place.symbol is not None else "?? ()"
        if place.line is not None:
            return f"{words} at {place.line}"
        return words if place.vma is None or place.symbol is not None else f"{words} from {place.name}"

    def show_position(self, *, located: bool = True) -> None:
        """The source line or the next instruction of the task, and what else the user wants to see at every stop."""
        if self.workbench.hushed:
            return
        if self.settings.stop_context:
            from minikernel.kdb.context import context

            context(self, "")
            return
        if not show_frame_line(self, self.view.first(1)[0], located=located):
            pc = self.registers()[RIP]
            insns = self.disassemble(pc, 1)
            text = insns[0].text if insns else "cannot be read"
            self.print(f"=> {pc:#x} {self.name_of(pc)}:\t{text}")
        if self.displays:
            from minikernel.kdb.variables import show_displays

            show_displays(self)

    # ---- commands

    def execute(self, line: str) -> bool:
        """Run the command *line*; False if it could not be done, which one line has said."""
        stripped = line.strip()
        if self.workbench.block is not None:
            return blocks.feed(self, stripped)
        if not stripped or stripped.startswith("#"):
            return True
        self.line = stripped
        done = self.perform(partial(_run, stripped))
        return blocks.follow_up(self) and done

    def perform(self, action: "Callable[[Session], None]") -> bool:
        """Do what the command ``line`` is about; False if it could not be done, which one line has said."""
        self.executing += 1
        try:
            return self._perform(action)
        finally:
            self.executing -= 1

    def _perform(self, action: "Callable[[Session], None]") -> bool:
        if self.settings.json and not self._answering:
            return self._perform_quietly(action)
        if not self.depth and not self._answering:
            self.data = {}
        error = self._attempt(action)
        if error is not None:
            self.print(error)
        return error is None

    def _attempt(self, action: "Callable[[Session], None]") -> str | None:
        """Do it; what is wrong with it."""
        try:
            action(self)
        except CommandError as error:
            return str(error)
        return None

    def _perform_quietly(self, action: "Callable[[Session], None]") -> bool:
        """As ``perform``, with one JSON object for all that is said."""
        from minikernel.kdb.machine_readable import answer

        lines: list[str] = []
        line = self.line  # a script executes others
        write, self._write = self._write, lines.append
        paint, self.paint = self.paint, PLAIN
        self._answering, self.data = True, {}
        try:
            error = self._attempt(action)
        finally:
            self._write, self.paint, self._answering = write, paint, False
        self._write(answer(self, line, error is None, error, lines))
        return error is None

    def complete(self, text: str) -> tuple[int, list[str]]:
        """What may follow *text*: how many of its last characters are replaced, and by which words."""
        from minikernel.kdb.completing import complete

        return complete(self, text)

    def close(self) -> None:
        """Switch the machine off."""
        if not self._loaded:
            return
        self._loaded = False
        self.machine.system.__exit__(None, None, None)
        self.kernel.cpu.close()
