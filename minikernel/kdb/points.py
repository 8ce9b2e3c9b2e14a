"""What stops a program: breakpoints, catchpoints, watchpoints, as values, and when each applies.

They are the user's, not the machine's: they travel to other copies of the machine, back and forth in time.  So they
hold no object of a machine, but names for it: a process by its number, a page by its file's device and inode.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.watch import READ, WRITE, WatchKind
from minikernel.abi.signal import signal_name
from minikernel.events import (
    Event,
    FaultKind,
    SchedProcessExec,
    SchedProcessExit,
    SchedProcessFork,
    SignalDeliver,
    SignalGenerate,
    SysEnter,
    SysExit,
)
from minikernel.kdb.lookout import Memory
from minikernel.syscalls.table import TABLES

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma
    from minikernel.report.explanation import Explanation

CATCHES: Final = ("syscall", "signal", "fault", "exec", "fork", "exit", "event")
FAULT_WORDS: Final = ("minor", "major", "segv", "bus", "oom", *(kind.value for kind in FaultKind))
NO_STOP: Final = frozenset(
    {"SIGALRM", "SIGCHLD", "SIGURG", "SIGIO", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGCONT", "SIGKILL"}
)
"""Signals that do not stop a program by themselves: gdb's list, as far as Linux has them (SIGKILL cannot wait)."""


class FilePage(NamedTuple):
    """A page of a file, whoever maps it."""

    dev: int
    ino: int
    pgoff: int  # in pages


def file_page(vma: "Vma | None", address: int) -> FilePage | None:
    """The page of a file that *vma* shows at *address*; None: it is memory of a process."""
    if vma is None or vma.file is None or vma.mapping is None:
        return None
    return FilePage(vma.file.dev, vma.file.ino, vma.index(address))


@dataclass(slots=True, kw_only=True)
class Point:
    """Anything with a number that stops the program."""

    number: int
    what: str  # the location, expression or words it was made of
    temporary: bool = False
    enabled: bool = True
    condition: str = ""
    ignore: int = 0  # times to go by
    hits: int = 0


@dataclass(slots=True, kw_only=True)
class Breakpoint(Point):
    """Stops in front of an address, wherever the same page of the same file is mapped there."""

    address: int | None  # None: pending, nothing is called that yet
    tgid: int = 0  # the process where it was set
    page: FilePage | None = None  # None: memory of that process alone

    def place_in(self, tgid: int, mm: "MmStruct", address: int) -> None:
        """It is at *address* of *mm*, which is process *tgid*'s."""
        self.address, self.tgid = address, tgid
        self.page = file_page(mm.vmas.find(address), address)

    def applies_to(self, tgid: int, mm: "MmStruct") -> bool:
        """Whether the code at our address in *mm*, of process *tgid*, is the code that was meant."""
        if self.address is None:
            return False
        if self.page is None:
            return tgid == self.tgid
        return file_page(mm.vmas.find(self.address), self.address) == self.page


@dataclass(slots=True, kw_only=True)
class Watchpoint(Point):
    """Stops behind the access to the memory that an expression reads; *what* is the user's text for it.

    *parts* are addresses and sizes.  Without an *expression* the value is the bytes themselves.
    """

    kind: WatchKind
    access: int  # READ, WRITE or both
    tgid: int  # whose memory; 0: PHYSICAL
    parts: tuple[tuple[int, int], ...]
    expression: str = ""
    old: int | None = None  # the value when it was last looked at; None: there is none
    frame: "FrameEnd | None" = None  # it is deleted when this function has returned

    @property
    def type(self) -> str:
        """As gdb's ``info breakpoints`` names it."""
        return _TYPES[self.access]

    @property
    def title(self) -> str:
        """As gdb announces it."""
        return f"{_TITLES[self.access]} {self.number}: {self.what}"

    @property
    def memories(self) -> tuple[Memory, ...]:
        """What is to be watched."""
        return tuple(Memory(self.kind, address, size, self.access, self.tgid) for address, size in self.parts)


class FrameEnd(NamedTuple):
    """Where and how a function returns: thread *pid* is at *pc* with its stack pointer at *cfa* or above."""

    pid: int
    pc: int
    cfa: int


_TYPES: Final = {WRITE: "hw watchpoint", READ: "read watchpoint", READ | WRITE: "acc watchpoint"}
_TITLES: Final = {
    WRITE: "Hardware watchpoint",
    READ: "Hardware read watchpoint",
    READ | WRITE: "Hardware access (read/write) watchpoint",
}


@dataclass(slots=True, kw_only=True)
class Catchpoint(Point):
    """Stops where the kernel tells of an event: *kind* of CATCHES, *only* the names it is about (empty: all)."""

    kind: str
    only: frozenset[str] = field(default_factory=frozenset)

    def catches(self, event: Event, explanation: "Explanation | None") -> str | None:
        """What to say about *event*, with the *explanation* of the fault that it ends; None: it is not ours."""
        match self.kind, event:
            case "syscall", SysEnter() | SysExit():
                name = TABLES[event.abi].name(event.nr)
                verb = "call to" if isinstance(event, SysEnter) else "returned from"
                return f"{verb} syscall {name}" if self._wants(name, str(event.nr)) else None
            case "signal", SignalGenerate() | SignalDeliver():
                name = signal_name(event.sig)
                verb = "sent" if isinstance(event, SignalGenerate) else "delivered"
                return f"signal {name} {verb}" if self._wants(name, name.removeprefix("SIG")) else None
            case "fault", _ if explanation is not None:
                words = fault_words(explanation)
                return f"fault {explanation.number}: {explanation.short}" if self._wants(*words) else None
            case "exec", SchedProcessExec():
                return f"exec'd {event.filename}"
            case "fork", SchedProcessFork():
                return f"forked process {event.child_pid}"
            case "exit", SchedProcessExit():
                return f"exits with code {event.code:#x}"
            case "event", _ if self._wants(event.name):
                return event.text()
        return None

    def _wants(self, *names: str) -> bool:
        return not self.only or not self.only.isdisjoint(names)


def fault_words(explanation: "Explanation") -> tuple[str, ...]:
    """The words of FAULT_WORDS that a fault answers to."""
    if explanation.kind is not None:
        return explanation.kind.value, "major" if explanation.major else "minor"
    return ({11: "segv", 7: "bus"}.get(explanation.signal, "oom"),)
