"""Catchpoints: which of the kernel's events stop the program."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from minikernel import events
from minikernel.abi.signal import signal_name
from minikernel.events import (
    Event,
    FaultKind,
    MmapRegion,
    SchedProcessExec,
    SchedProcessExit,
    SchedProcessFork,
    SignalDeliver,
    SignalGenerate,
    SysEnter,
    SysExit,
    field_types,
)
from minikernel.kdb.points import Point
from minikernel.mm.vma import VM_EXEC
from minikernel.syscalls.table import TABLES

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.report.explanation import Explanation
    from minikernel.task.task import Task

BIRTHS: Final = ("fork", "vfork", "clone", "thread")
SHORT_NAMES: Final = {
    "reclaim": "mm_vmscan_reclaim",
    "oom": "oom_kill",
    "swap-out": "mm_swap_out",
    "mmap": "mmap_region",
    "switch": "sched_switch",
}
"""Kernel events that have a word of their own in ``catch``."""
CATCHES: Final = ("syscall", "signal", "fault", *BIRTHS, "exec", "exit", "load", *SHORT_NAMES, "event")
FAULT_WORDS: Final = (
    *("minor", "major", "segv", "bus", "oom", "zero", "file", "cow", "read", "write", "fetch"),
    *(kind.value for kind in FaultKind),
)
EVENTS: Final[dict[str, type[Event]]] = {
    kind.name: kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
}
"""Every event by its name."""
_FAMILIES: Final = {
    FaultKind.ZERO_PAGE: ("zero",),
    FaultKind.HUGE_ZERO_PAGE: ("zero",),
    FaultKind.FILE_READ: ("file",),
    FaultKind.FILE_SHARED: ("file",),
    FaultKind.FILE_COW: ("file", "cow"),
    FaultKind.COW_COPY: ("cow",),
    FaultKind.COW_REUSE: ("cow",),
}
_OPERATORS: Final = ("!=", "<=", ">=", "=", "<", ">")


class Filter(NamedTuple):
    """A comparison of an event's *field*: *value* is a number, or text to compare words with."""

    field: str
    operator: str
    value: int | str

    def admits(self, event: Event) -> bool:
        """Whether it holds for *event*."""
        own = getattr(event, self.field)
        shown = str(own.value) if isinstance(own, Enum) else own
        value = self.value
        if isinstance(value, str) or not isinstance(shown, int):
            return (str(shown) == str(value)) == (self.operator == "=")
        match self.operator:
            case "=":
                return shown == value
            case "!=":
                return shown != value
            case "<":
                return shown < value
            case ">":
                return shown > value
            case "<=":
                return shown <= value
            case _:
                return shown >= value


def filter_of(kind: type[Event], text: str) -> Filter:
    """``FIELD=VALUE``, or another comparison, about events of *kind*.

    Raises:
        ValueError: it is none; one line says why.
    """
    names = list(field_types(kind))
    match = re.fullmatch(rf"(\w+)({'|'.join(_OPERATORS)})(\S+)", text)
    if match is None or match[1] not in names:
        raise ValueError(f"'{text}' is no FIELD=VALUE of {kind.name}: it has {', '.join(names) or 'no fields'}.")
    try:
        value: int | str = int(match[3], 0)
    except ValueError:
        value = match[3]
        if match[2] not in {"=", "!="}:
            raise ValueError(f"'{match[3]}' is no number.") from None
    return Filter(match[1], match[2], value)


@dataclass(slots=True, kw_only=True)
class Catchpoint(Point):
    """Stops where the kernel tells of an event: *kind* of CATCHES, *only* the names it is about (empty: all)."""

    kind: str
    only: frozenset[str] = frozenset()
    phase: str = ""  # of a syscall: "entry" or "return"; empty: both
    errnos: frozenset[int] = frozenset()  # of a syscall's return; empty: whatever it gives
    span: tuple[int, int] | None = None  # of a fault: the addresses it is at, one past the last
    filters: tuple[Filter, ...] = ()  # of an event
    pattern: str = ""  # of load: a regular expression for the file's name

    @property
    def type(self) -> str:
        """As gdb's ``info breakpoints`` names it."""
        return "catchpoint"

    def catches(self, event: Event, explanation: "Explanation | None", kernel: "Kernel") -> str | None:
        """What to say about *event*, with the *explanation* of the fault that it ends; None: it is not ours."""
        match self.kind, event:
            case "syscall", SysEnter() | SysExit():
                return self._call(event)
            case "signal", SignalGenerate() | SignalDeliver():
                name = signal_name(event.sig)
                verb = "sent" if isinstance(event, SignalGenerate) else "delivered"
                return f"signal {name} {verb}" if self._wants(name, name.removeprefix("SIG")) else None
            case "fault", _:
                return self._fault(explanation) if explanation is not None else None
            case "exec", SchedProcessExec():
                return f"exec'd {event.filename}"
            case "exit", SchedProcessExit():
                return f"exits with code {event.code:#x}"
            case "load", MmapRegion():
                return self._load(event, kernel)
            case (("fork" | "vfork" | "clone" | "thread"), SchedProcessFork()):
                return self._birth(event, kernel)
            case _:
                return self._event(event)

    def _wants(self, *names: str) -> bool:
        return not self.only or not self.only.isdisjoint(names)

    def _call(self, event: SysEnter | SysExit) -> str | None:
        name = TABLES[event.abi].name(event.nr)
        if not self._wants(name, str(event.nr)):
            return None
        if isinstance(event, SysEnter):
            return f"call to syscall {name}" if self.phase != "return" and not self.errnos else None
        if self.phase == "entry" or (self.errnos and -event.ret not in self.errnos):
            return None
        return f"returned from syscall {name}"

    def _fault(self, explanation: "Explanation") -> str | None:
        address = explanation.fault.address
        if self.span is not None and not self.span[0] <= address < self.span[1]:
            return None
        if not self._wants(*fault_words(explanation)):
            return None
        return f"fault {explanation.number}: {explanation.short}"

    def _birth(self, event: SchedProcessFork, kernel: "Kernel") -> str | None:
        kind = birth_kind(kernel.tasks.get(event.parent_pid), kernel.tasks.get(event.child_pid))
        if kind != self.kind and not (self.kind == "clone" and kind == "thread"):
            return None
        return {"fork": "forked process", "vfork": "vforked process"}.get(kind, "new thread") + f" {event.child_pid}"

    def _load(self, event: MmapRegion, kernel: "Kernel") -> str | None:
        task = kernel.current
        if event.op not in {"mmap", "mprotect"} or task is None or not task.has_mm:
            return None
        vma = task.mm.vmas.find(event.start)
        if vma is None or vma.file is None or not vma.flags & VM_EXEC:
            return None
        name = vma.file.path.decode(errors="backslashreplace")
        return f"loaded {name}" if re.search(self.pattern, name) else None

    def _event(self, event: Event) -> str | None:
        wanted = event.name == SHORT_NAMES.get(self.kind) or (self.kind == "event" and event.name in self.only)
        return event.text() if wanted and all(each.admits(event) for each in self.filters) else None


def birth_kind(parent: "Task | None", child: "Task | None") -> str:
    """How *child* was made: a thread, a process that borrows its parent's memory, or one with its own."""
    if parent is None or child is None or child.tgid != parent.tgid:
        borrows = parent is not None and child is not None and child.has_mm and child.mm is parent.mm
        return "vfork" if borrows else "fork"
    return "thread"


def fault_words(explanation: "Explanation") -> tuple[str, ...]:
    """The words of FAULT_WORDS that a fault answers to."""
    access = {0: "read", 2: "write", 16: "fetch"}.get(explanation.fault.access, "read")
    if explanation.kind is None:
        return {11: "segv", 7: "bus"}.get(explanation.signal, "oom"), access
    grown = ("stack_growth",) if explanation.grown else ()
    words = explanation.kind.value, "major" if explanation.major else "minor"
    return (*words, *grown, access, *_FAMILIES.get(explanation.kind, ()))
