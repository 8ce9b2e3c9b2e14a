"""What the kernel tells about itself: typed events, told to a sink that is handed in.

One event is one line of ``key=value``; names are Linux's tracepoints where Linux has one.  A room asks
``if tracer.sink is not None`` before it builds an event, so an untraced run pays one attribute test.
``--stats``, ``--strace``, the crash report and every later tool read these same events.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, Final, TypeAlias

from msgspec import Struct

from emu.x86 import Pfn, VirtAddr


class FaultKind(Enum):
    """Which branch of the fault path decided (mm/memory.c, the do_* functions)."""

    __hash__ = object.__hash__  # Enum's own is a call of Python, and every fault looks its outcome up

    ZERO_PAGE = "zero_page"  # read of anonymous memory: the shared zero page
    ANON = "anon"  # write to anonymous memory: a new page
    FILE_READ = "file_read"  # read or fetch of a file page (page cache)
    FILE_COW = "file_cow"  # write to a private file mapping: a private copy
    FILE_SHARED = "file_shared"  # write to a shared file mapping
    COW_COPY = "cow_copy"  # write to a shared anonymous page: copied
    COW_REUSE = "cow_reuse"  # write to an anonymous page of our own: made writable
    SWAP_IN = "swap_in"  # the page came back from a swap slot
    STACK_GROWTH = "stack_growth"  # the VMA grew first; another kind follows at the same address
    SPURIOUS = "spurious"  # the entry already allowed the access
    CODE = "code"  # execute or write permission moved between two aliases of a frame of code
    HUGE_ANON = "huge_anon"  # write to anonymous memory: a new transparent huge page
    HUGE_ZERO_PAGE = "huge_zero_page"  # read of anonymous memory: the huge zero page


class Event(Struct):
    """Something the kernel did.  Instruction count and task are added by the tracer."""

    name: ClassVar[str] = "event"

    def text(self) -> str:
        """The event as ``name key=value ...``, fields in their declared order."""
        parts = [self.name]
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, Enum):
                shown = str(value.value)
            elif isinstance(value, bool):
                shown = str(int(value))
            elif isinstance(value, int) and self.__annotations__[name] in {VirtAddr, Pfn}:
                shown = hex(value)
            else:
                shown = str(value)
            parts.append(f"{name}={shown}")
        return " ".join(parts)


def field_types(cls: type[Event]) -> dict[str, Any]:
    """The fields of an event and their types, in order."""
    return {name: cls.__annotations__[name] for name in cls.__struct_fields__}


def call_name(abi: str, nr: int) -> str:
    """The name of system call *nr*."""
    from minikernel.abi.syscall_numbers import NUMBERS

    names = _CALL_NAMES.get(abi)
    if names is None:
        names = _CALL_NAMES[abi] = {number: name for name, number in NUMBERS.get(abi, {}).items()}
    return names.get(nr, f"syscall_{nr:#x}")


_CALL_NAMES: dict[str, dict[int, str]] = {}  # filled when the first is asked for
_SMALL_RESULT: Final = 1 << 16


class PageFaultUser(Event):
    """A fault reached the kernel: exceptions:page_fault_user.  *ip* is the faulting instruction."""

    name: ClassVar[str] = "page_fault_user"
    address: VirtAddr
    ip: VirtAddr
    error_code: int


class MmFaultResolved(Event):
    """A fault was served: *pfn* is the frame now mapped at *address*; *major*: it needed I/O."""

    name: ClassVar[str] = "mm_fault_resolved"
    address: VirtAddr
    kind: FaultKind
    pfn: Pfn
    major: bool = False


class MmFaultFailed(Event):
    """A fault could not be served: *signal* (SIGSEGV, SIGBUS) with *code* follows, or the OOM path (signal 0)."""

    name: ClassVar[str] = "mm_fault_failed"
    address: VirtAddr
    signal: int
    code: int
    reason: str


class SysEnter(Event):
    """raw_syscalls:sys_enter.  *args* are the raw register values; *abi* is the calling task's Abi name."""

    name: ClassVar[str] = "sys_enter"
    abi: str
    nr: int
    args: tuple[int, ...]

    def text(self) -> str:
        """The call's name in front: ``sys_enter write(0x1, ...) abi=x86-64 nr=1``."""
        args = ", ".join(hex(arg) for arg in self.args)
        return f"sys_enter {call_name(self.abi, self.nr)}({args}) abi={self.abi} nr={self.nr}"


class SysExit(Event):
    """raw_syscalls:sys_exit.  *ret* is signed: -errno on error."""

    name: ClassVar[str] = "sys_exit"
    abi: str
    nr: int
    ret: int

    def text(self) -> str:
        """The call's name in front, and a result that is no small number in hexadecimal."""
        ret = str(self.ret) if self.ret < _SMALL_RESULT else hex(self.ret)
        return f"sys_exit {call_name(self.abi, self.nr)} ret={ret} abi={self.abi} nr={self.nr}"


class SignalGenerate(Event):
    """signal:signal_generate: a signal was sent.  *address* is si_addr for faults, otherwise 0."""

    name: ClassVar[str] = "signal_generate"
    sig: int
    code: int
    address: VirtAddr


class HostSignal(Event):
    """Signals to the emulator reach the guest now: Ctrl-C, or whatever somebody sent."""

    name: ClassVar[str] = "host_signal"
    sigs: tuple[int, ...]


class SignalDeliver(Event):
    """signal:signal_deliver: a handler frame was built, or the default action taken (*handler* 0)."""

    name: ClassVar[str] = "signal_deliver"
    sig: int
    code: int
    handler: VirtAddr


class SchedSwitch(Event):
    """sched:sched_switch."""

    name: ClassVar[str] = "sched_switch"
    prev_pid: int
    next_pid: int


class SchedProcessFork(Event):
    """sched:sched_process_fork: a new task, process or thread."""

    name: ClassVar[str] = "sched_process_fork"
    parent_pid: int
    child_pid: int


class SchedProcessExec(Event):
    """sched:sched_process_exec."""

    name: ClassVar[str] = "sched_process_exec"
    filename: str
    entry: VirtAddr


class SchedProcessExit(Event):
    """sched:sched_process_exit.  *code* is in wait(2)'s form: status << 8, or the signal."""

    name: ClassVar[str] = "sched_process_exit"
    code: int


class MmapRegion(Event):
    """A mapping was made, changed or removed: *op* is mmap, munmap, mprotect, mremap, brk or stack."""

    name: ClassVar[str] = "mmap_region"
    op: str
    start: VirtAddr
    end: VirtAddr
    prot: int
    flags: int


class MmVmscan(Event):
    """vmscan:mm_vmscan_*_end: reclaim is over.  *by* is kswapd or direct; *nr_reclaimed* pages of *nr_scanned*."""

    name: ClassVar[str] = "mm_vmscan_reclaim"
    by: str
    priority: int
    nr_scanned: int
    nr_reclaimed: int


class MmSwapOut(Event):
    """vmscan:mm_vmscan_write_folio: a page goes to swap."""

    name: ClassVar[str] = "mm_swap_out"
    pfn: Pfn
    entry: int


class OomKill(Event):
    """oom:mark_victim: *victim* is killed for its *rss* pages and *swapents* pages in swap."""

    name: ClassVar[str] = "oom_kill"
    victim: int
    comm: str
    rss: int
    swapents: int


Sink: TypeAlias = Callable[[int, int, Event], None]
"""Called with (instruction count, pid, event)."""


class Tracer:
    """The one place rooms tell events to.  ``sink`` is None in an untraced run."""

    __slots__ = ("icount", "pid", "sink")

    def __init__(self) -> None:
        self.sink: Sink | None = None
        self.icount: Callable[[], int] = lambda: 0
        self.pid = 0

    def emit(self, event: Event) -> None:
        """Tell *event*.  Callers ask ``tracer.sink is not None`` first and build nothing otherwise."""
        assert self.sink is not None, "Tracer.emit: no sink"
        self.sink(self.icount(), self.pid, event)
