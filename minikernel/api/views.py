"""What a machine shows of itself: plain values, which stay as they are when the machine goes on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from emu.cpu import GPR_NAMES, RIP
from emu.paging import walk_steps
from emu.x86 import PTE_P, PTE_RW, PTE_US, VirtAddr
from minikernel.api.errors import BadRegisterError
from minikernel.events import Event, FaultKind, MmFaultFailed, MmFaultResolved, SysEnter, SysExit, call_name
from minikernel.mm.mm_struct import vma_name
from minikernel.report.words import rights
from minikernel.task.task import Task

if TYPE_CHECKING:
    from minikernel.kernel import Kernel

_XD = 1 << 63


class Occurrence(NamedTuple):
    """Something the kernel told: when, as a count of instructions, in which task, and what."""

    icount: int
    pid: int
    event: Event


@dataclass(frozen=True, slots=True)
class Syscall:
    """A system call; *ret* None: it has not returned, or never does."""

    pid: int
    name: str
    args: tuple[int, ...]
    ret: int | None


@dataclass(frozen=True, slots=True)
class Fault:
    """How a page fault ended.  *kind*: who served it (events.FaultKind); None: nobody could."""

    icount: int
    pid: int
    address: int
    kind: FaultKind | None
    major: bool
    signal: int  # of one that could not be served; 0: out of memory
    explanation: str  # "" unless the machine was asked to explain


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task: a process, or a thread of one."""

    pid: int
    tgid: int
    parent: int
    name: str
    state: str  # R, S, T, Z, X: as in /proc/PID/stat


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of /proc/PID/maps."""

    start: int
    end: int
    rights: str  # rwxp
    offset: int  # bytes into the file
    name: str


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One level of a page walk."""

    level: str  # PML4E, PDPTE, PDE, PTE
    index: int
    phys: int  # where the entry lies
    value: int
    present: bool
    writable: bool
    user: bool
    executable: bool
    leaf: bool  # it maps a page


def calls_of(told: Iterable[tuple[int, int, Event]]) -> list[Syscall]:
    """The system calls among events, in the order of their starts."""
    found: list[Syscall] = []
    begun: dict[int, int] = {}
    for _, pid, event in told:
        if isinstance(event, SysEnter):
            begun[pid] = len(found)
            found.append(Syscall(pid, call_name(event.abi, event.nr), event.args, None))
        elif isinstance(event, SysExit) and pid in begun:
            at = begun.pop(pid)
            found[at] = Syscall(pid, found[at].name, found[at].args, event.ret)
    return found


def fault_of(told: Occurrence, explanation: str) -> Fault:
    """The fault that ends with the event of *told*."""
    event = told.event
    if isinstance(event, MmFaultResolved):
        return Fault(told.icount, told.pid, event.address, event.kind, event.major, 0, explanation)
    assert isinstance(event, MmFaultFailed), "fault_of: no fault ends with this event"
    return Fault(told.icount, told.pid, event.address, None, False, event.signal, explanation)


def task_view(task: Task) -> TaskView:
    """What *task* is."""
    parent = task.process.parent
    name = task.comm.decode(errors="backslashreplace")
    return TaskView(task.pid, task.tgid, parent.pid if parent is not None else 0, name, task.state.value)


def mappings(task: Task) -> list[Mapping]:
    """The mappings of *task*, from the lowest."""
    return [
        Mapping(vma.start, vma.end, rights(vma.flags), vma.pgoff << 12 if vma.file is not None else 0,
                vma_name(task.mm, vma).decode(errors="backslashreplace"))
        for vma in task.mm.vmas.items
    ]  # fmt: skip


def walk(task: Task, address: int) -> list[TableEntry]:
    """The entries that translate *address*, from the root."""
    pgtable = task.mm.pgtable
    return [
        TableEntry(
            level=step.level.name,
            index=step.index,
            phys=step.entry_phys,
            value=step.raw,
            present=step.present,
            writable=bool(step.raw & PTE_P and step.raw & PTE_RW),
            user=bool(step.raw & PTE_P and step.raw & PTE_US),
            executable=bool(step.raw & PTE_P and not step.raw & _XD),
            leaf=step.leaf,
        )
        for step in walk_steps(task.mm.node.physmem, pgtable.mode, pgtable.root, VirtAddr(address))
    ]


class Registers:
    """The registers of the task in the CPU, by name: ``registers["rax"]``; for i386 programs ``registers["eax"]``."""

    def __init__(self, kernel: "Kernel", task: Task) -> None:
        self._cpu = kernel.cpu
        self._mask = task.abi.mask
        wide = self._mask >> 32
        names = [name if wide else "e" + name[1:] for name in (GPR_NAMES if wide else GPR_NAMES[:8])]
        self._index = {name: index for index, name in enumerate(names)}
        self._index["rip" if wide else "eip"] = RIP
        self._special = ("rflags", "fs_base", "gs_base") if wide else ("eflags",)

    def __iter__(self) -> Iterator[str]:
        return iter((*self._index, *self._special))

    def __getitem__(self, name: str) -> int:
        if name in self._index:
            return self._cpu.regs[self._index[name]] & self._mask
        if name in self._special:
            return {
                "rflags": self._cpu.rflags, "eflags": self._cpu.rflags,
                "fs_base": self._cpu.fs_base, "gs_base": self._cpu.gs_base,
            }[name]  # fmt: skip
        raise BadRegisterError(f"no register {name!r} here: {', '.join(self)}")

    def __setitem__(self, name: str, value: int) -> None:
        self[name]  # is there one?
        if name in self._index:
            self._cpu.regs[self._index[name]] = value & self._mask
        elif name == "fs_base":
            self._cpu.fs_base = value
        elif name == "gs_base":
            self._cpu.gs_base = value
        else:
            self._cpu.rflags = value

    def __repr__(self) -> str:
        return " ".join(f"{name}={self[name]:#x}" for name in self)
