"""What stops a program: breakpoints, catchpoints, watchpoints, as values, and when each applies.

They are the user's, not the machine's: they travel to other copies of the machine, back and forth in time.  So they
hold no object of a machine, but names for it: a process by its number, a page by its file's device and inode.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.watch import READ, WRITE, WatchKind
from minikernel.kdb.lookout import Memory

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma


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
    temporary: bool = False  # it is deleted when it has stopped the program
    once: bool = False  # it is disabled then
    enabled: bool = True
    enabled_for: int = 0  # hits after which it is disabled, where it is not the first
    condition: str = ""
    ignore: int = 0  # times to go by
    hits: int = 0
    thread: int = 0  # the only task that it is for; 0: all
    commands: list[str] = field(default_factory=list)  # to execute when it has stopped the program

    @property
    def type(self) -> str:
        """As gdb's ``info breakpoints`` names it."""
        return "breakpoint"

    @property
    def disposition(self) -> str:
        """What becomes of it when it has stopped the program, in gdb's words."""
        return "del" if self.temporary else "dis" if self.once else "keep"


@dataclass(slots=True, kw_only=True)
class Countpoint(Point):
    """Stops behind instruction number *count* of the run."""

    count: int


@dataclass(slots=True, kw_only=True)
class Breakpoint(Point):
    """Stops in front of an address, wherever the same page of the same file is mapped there.

    With a *format* (dprintf) it prints that, and goes on.
    """

    address: int | None  # None: pending, nothing is called that yet
    tgid: int = 0  # the process where it was set
    page: FilePage | None = None  # None: memory of that process alone
    format: str = ""
    hardware: bool = False  # as the user said; all are the CPU's

    @property
    def type(self) -> str:
        """As gdb's ``info breakpoints`` names it."""
        return "dprintf" if self.format else "hw breakpoint" if self.hardware else "breakpoint"

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
    old: "Seen | None" = None  # the value when it was last looked at; None: there is none
    frame: "FrameEnd | None" = None  # of the function that it is about, with which it goes
    stays: bool = False  # it does not: the past is searched

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


class Seen(NamedTuple):
    """A value that was looked at: what it is compared by, and how it is shown."""

    key: bytes | int
    words: str


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
