"""``--explain``: every page fault of a run, as it happens.

``Explainer`` listens to the events and turns each fault into an Explanation; ``ExplainSink`` prints them, one line
each and the whole story of those that fail.  The walk is taken when the fault arrives, before it is served.
"""

import sys
from types import FrameType
from typing import TYPE_CHECKING, Final, TextIO

from emu.paging import walk_steps
from emu.x86 import PTE_P, VirtAddr
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.events import (
    Event,
    FaultKind,
    MmapRegion,
    MmFaultFailed,
    MmFaultResolved,
    PageFaultUser,
    SchedProcessExec,
    SignalDeliver,
    SysEnter,
    SysExit,
)
from minikernel.mm.pgtable import pte_pfn
from minikernel.report.cost import Cost, Meter
from minikernel.report.decisions import failed, served
from minikernel.report.explanation import Explanation, Fault
from minikernel.report.paint import PLAIN, Paint
from minikernel.report.peek import peek
from minikernel.report.place import locate
from minikernel.report.symbols import Symbols

if TYPE_CHECKING:
    from emu.disasm import Instruction
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma

_MAX_INSN: Final = 15  # bytes
_FAULT_PATH: Final = "minikernel/mm/"
_TELLER: Final = "/outcome.py"
# They only finish what the function that calls them has decided.
_HELPERS: Final = frozenset({"_finish", "_set_huge_zero", "_none_left", "_copy", "_map"})


def deciding_function() -> str:
    """Who tells of the end of a fault, seen from within the telling: the function of the fault path, with its file.

    "" where nobody of it does.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        at = code.co_filename.rfind(_FAULT_PATH)
        if at >= 0 and not code.co_filename.endswith(_TELLER) and code.co_name not in _HELPERS:
            return f"{code.co_name} ({code.co_filename[at:]})"
        frame = frame.f_back
    return ""


class Explainer:
    """Makes an Explanation of every fault, from the events of one machine."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self.symbols = Symbols(kernel.vdso)
        self._calls: dict[int, str] = {}  # by pid: the system call it is in
        self._signalled: set[int] = set()  # who was just sent to a handler: its frame goes onto the stack
        self._names = {abi: {nr: name for name, nr in numbers.items()} for abi, numbers in NUMBERS.items()}
        self._arrived: Fault | None = None  # a user fault on its way
        self._grown = 0  # bytes that the stack grew by for it
        self.count = 0

    def feed(self, icount: int, pid: int, event: Event) -> Explanation | None:
        """Hear *event*; the explanation of the fault that ends with it, if one does."""
        match event:
            case PageFaultUser(address, ip, error_code):
                self._grown = 0
                self._signalled.discard(pid)
                self._arrived = self._arrive(icount, pid, address, ip, error_code)
            case MmFaultResolved(address, FaultKind.STACK_GROWTH, _, _):
                pass  # another kind follows at the same address
            case MmapRegion("stack", start, end, _, _):
                self._grown = end - start
            case MmFaultResolved():
                return self._resolved(icount, pid, event)
            case MmFaultFailed():
                return self._failed(icount, pid, event)
            case SysEnter(abi, nr, _):
                self._calls[pid] = self._names[abi].get(nr, f"syscall {nr}")
                self._signalled.discard(pid)
            case SysExit() | SchedProcessExec():
                self._calls.pop(pid, None)
            case SignalDeliver():
                self._calls.pop(pid, None)
                self._signalled.add(pid)
        return None

    # ---- the fault arrives

    def _arrive(self, icount: int, pid: int, address: VirtAddr, ip: VirtAddr, error_code: int) -> Fault:
        return self._fault(self._kernel.tasks[pid].mm, icount, pid, address, ip, error_code)

    def _fault(
        self, mm: "MmStruct", icount: int, pid: int, address: VirtAddr, ip: VirtAddr | None, error_code: int | None
    ) -> Fault:
        mode = mm.pgtable.mode
        return Fault(
            icount=icount,
            pid=pid,
            address=address,
            ip=ip,
            error_code=error_code,
            call="" if ip is not None else self._purpose(mm, pid),
            mode=mode,
            root=mm.pgtable.root,
            walk=tuple(walk_steps(mm.node.physmem, mode, mm.pgtable.root, address)),
            place=locate(mm, self.symbols, address),
            code=locate(mm, self.symbols, ip) if ip is not None else None,
            insn=self._instruction(mm, ip) if ip is not None else None,
            rss_file=mm.rss_file + mm.rss_shmem,
            before=Meter.read(self._kernel, mm) if error_code is not None else None,
        )

    def _purpose(self, mm: "MmStruct", pid: int) -> str:
        """What the kernel is doing for *pid* in *mm*."""
        task = self._kernel.tasks.get(pid)
        if pid in self._calls:
            return self._calls[pid]
        building = task is None or not task.has_mm or task.mm is not mm
        return "execve" if building else "a signal" if pid in self._signalled else "its own use"

    def _instruction(self, mm: "MmStruct", ip: VirtAddr) -> "Instruction | None":
        from emu.disasm import disassemble

        code = peek(mm, ip, _MAX_INSN)
        return disassemble(code, ip, bits=self._kernel.cpu.code_bits, count=1)[0] if code else None

    def _take(self, mm: "MmStruct | None", icount: int, pid: int, address: VirtAddr) -> Fault | None:
        """The fault at *address* that ends now: the user's, or the kernel's own, of which nothing was told before."""
        fault, self._arrived = self._arrived, None
        if fault is not None and fault.address == address and fault.pid == pid:
            return fault
        return self._fault(mm, icount, pid, address, None, None) if mm is not None else None

    # ---- and ends

    def _resolved(self, icount: int, pid: int, event: MmFaultResolved) -> Explanation | None:
        mm = self._mm_of(pid, event)
        fault = self._take(mm, icount, pid, event.address)
        if fault is None or mm is None:
            return None
        vma = mm.vmas.find(event.address)
        assert vma is not None, "Explainer: a fault was served where nothing is mapped"
        grown, self._grown = self._grown, 0
        decided_by = deciding_function()
        decision = served(mm, vma, fault, event.kind, major=event.major, grown=grown, function=decided_by)
        self.count += 1
        return Explanation(
            number=self.count,
            fault=fault,
            kind=event.kind,
            major=event.major,
            signal=0,
            code=0,
            grown=grown,
            pfn=event.pfn,
            zone=mm.node.zone_of(event.pfn).name,
            entry=mm.pgtable.get(event.address),
            short=decision.short,
            why=decision.why,
            decided_by=decided_by,
            cost=self._cost(fault, mm),
        )

    def _cost(self, fault: Fault, mm: "MmStruct") -> Cost | None:
        """What has been spent since the fault arrived."""
        return Cost.between(fault.before, Meter.read(self._kernel, mm)) if fault.before is not None else None

    def _failed(self, icount: int, pid: int, event: MmFaultFailed) -> Explanation | None:
        task = self._kernel.tasks.get(pid)
        mm = task.mm if task is not None and task.has_mm else None
        fault = self._take(mm, icount, pid, event.address)
        if fault is None or mm is None:
            return None
        decision = failed(mm, fault, event.signal, event.code, event.reason)
        grown, self._grown = self._grown, 0
        self.count += 1
        return Explanation(
            number=self.count,
            fault=fault,
            kind=None,
            major=False,
            signal=event.signal,
            code=event.code,
            grown=grown,
            pfn=0,
            zone="",
            entry=mm.pgtable.get(event.address),
            short=decision.short,
            why=decision.why,
            decided_by=deciding_function(),
            cost=self._cost(fault, mm),
        )

    def _mm_of(self, pid: int, event: MmFaultResolved) -> "MmStruct | None":
        """The address space of a served fault: execve builds one that no task has yet, and the frame knows it."""
        task = self._kernel.tasks.get(pid)
        if task is not None and task.has_mm:
            pte = task.mm.pgtable.get(event.address)
            if pte & PTE_P and pte_pfn(pte) == event.pfn:
                return task.mm
        owner = self._kernel.node.mem_map.owner[event.pfn]
        vmas: dict[Vma, MmStruct] = getattr(owner, "vmas", {})  # AnonVma and PageCache have it
        return next((mm for vma, mm in vmas.items() if vma.start <= event.address < vma.end), None)


# ---- on the screen

_COLUMNS: Final = (  # name and width; negative: to the right
    ("#", -4),
    ("icount", -10),
    ("access", 6),
    ("address", 14),
    ("where", 24),
    ("who", 22),
    ("frame", 7),
)
_COLOURS: Final = {
    FaultKind.ZERO_PAGE: ("dim",),
    FaultKind.ANON: ("green",),
    FaultKind.FILE_READ: ("cyan",),
    FaultKind.FILE_COW: ("magenta",),
    FaultKind.FILE_SHARED: ("blue",),
    FaultKind.COW_COPY: ("magenta",),
    FaultKind.COW_REUSE: ("green",),
    FaultKind.SWAP_IN: ("yellow",),
    FaultKind.SPURIOUS: ("dim",),
    FaultKind.CODE: ("blue",),
    FaultKind.HUGE_ANON: ("green",),
    FaultKind.HUGE_ZERO_PAGE: ("dim",),
}


class ExplainSink:
    """A sink that prints a line for every fault, and the whole story of each that failed."""

    def __init__(self, kernel: "Kernel", stream: TextIO) -> None:
        self._explainer = Explainer(kernel)
        self._stream = stream
        self._paint = Paint(stream)
        self._pid = 0  # whose faults are being printed

    def __call__(self, icount: int, pid: int, event: Event) -> None:
        """Print what *event* completes."""
        explanation = self._explainer.feed(icount, pid, event)
        if explanation is None:
            return
        pid = explanation.fault.pid
        if explanation.number == 1:
            self._stream.write(self._paint(header(), "bold") + "\n")
        elif pid != self._pid:
            self._stream.write(self._paint(f"-- process {pid} --", "bold") + "\n")
        self._pid = pid
        self._stream.write(line(explanation, self._paint) + "\n")
        if explanation.failed and explanation.fault.error_code is not None:
            self._stream.write(explanation.text(self._paint).partition("\n")[2])
        self._stream.flush()


def header() -> str:
    """The titles of the columns."""
    return "  ".join([*(_cell(name, width) for name, width in _COLUMNS), "decision"])


def line(explanation: Explanation, paint: Paint = PLAIN) -> str:
    """One fault in a line."""
    fault = explanation.fault
    digits = 12 if fault.mode.va_bits > 32 else 8
    cells = (
        str(explanation.number),
        f"{fault.icount:,}",
        explanation.access,
        f"{fault.address:#0{digits + 2}x}",
        fault.place.short,
        fault.who,
        f"{explanation.pfn:#x}" if explanation.pfn else "-",
    )
    if explanation.kind is None:
        colours: tuple[str, ...] = ("red", "bold")
    else:
        colours = ("yellow",) if explanation.major else _COLOURS.get(explanation.kind, ())
    shown = [_cell(cell, width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True)]
    return "  ".join([*shown, paint(explanation.short, *colours)])


def _cell(text: str, width: int) -> str:
    """*text* in as many columns as *width* says; cut if it is longer."""
    if width < 0:
        return text.rjust(-width)
    whole = len(text) <= width or text.startswith("0x")
    return text.ljust(width) if whole else text[: width - 2] + ".."
