"""What stops a program: breakpoints, catchpoints, watchpoints, as values, and when each applies.

They are the user's, not the machine's: they travel to other copies of the machine, back and forth in time.  So they
hold no object of a machine, but names for it: a process by its number, a page by its file's device and inode.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

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
from minikernel.syscalls.table import TABLES

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
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


def memory_of(kernel: "Kernel", tgid: int) -> "MmStruct | None":
    """The memory of process *tgid*; None: it has ended, or has not begun."""
    return next((task.mm for task in kernel.tasks.values() if task.tgid == tgid and task.has_mm), None)


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
    """Stops behind the instruction that changed *size* bytes at *address* of process *tgid*."""

    tgid: int
    address: int
    size: int
    old: bytes


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
