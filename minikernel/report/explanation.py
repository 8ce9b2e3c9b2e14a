"""The story of one page fault as a value, and as text.

A ``Fault`` is what the kernel knew when the fault arrived; an ``Explanation`` adds what became of it.  Building them
is the business of explain.py; everything here only reads.
"""

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from emu.x86 import PF_I, PF_W, PhysAddr, VirtAddr
from minikernel.events import FaultKind
from minikernel.report.paint import PLAIN, Paint
from minikernel.report.place import neighbour_words
from minikernel.report.words import access_word, entry_flags, entry_words, error_code_bits, rights

if TYPE_CHECKING:
    from emu.disasm import Instruction
    from emu.paging import PagingMode, WalkStep
    from minikernel.report.cost import Cost, Meter
    from minikernel.report.place import Place

_LABEL: Final = 10  # width of the left column
_WIDTH: Final = 100  # of running text


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault as it arrived.  The kernel's own accesses, for a system call, have neither *ip* nor *error_code*."""

    icount: int
    pid: int
    address: VirtAddr  # CR2
    ip: VirtAddr | None
    error_code: int | None
    call: str  # the system call that the kernel was serving, or ""
    mode: "PagingMode"
    root: PhysAddr  # CR3
    walk: "tuple[WalkStep, ...]"  # before the fault was served; the kernel's own accesses: after
    place: "Place"  # of the address
    code: "Place | None"  # of the instruction
    insn: "Instruction | None"
    rss_file: int  # pages, before
    before: "Meter | None"  # None: the kernel's own access, of which nothing is told before it is served

    @property
    def pte(self) -> int:
        """The entry that ended the walk, if that was a page's; otherwise 0.  Of the kernel's own access: not known."""
        if self.error_code is None:
            return 0
        return self.walk[-1].raw if self.walk and self.walk[-1].level is self.mode.levels[-1] else 0

    @property
    def access(self) -> int:
        """PF_W, PF_I or neither; 0 for the kernel's own.  Without NX in the mode a fetch is known by its address."""
        if self.error_code is None:
            return 0
        if not self.mode.has_nx and not self.error_code & PF_W and self.address == self.ip:
            return PF_I
        return self.error_code & (PF_W | PF_I)

    @property
    def who(self) -> str:
        """Who did it, in a few words: a function and a source line, or the kernel's call."""
        if self.code is None:
            return f"kernel, for {self.call}"
        if self.code.line is not None and self.code.symbol is not None:
            return f"{self.code.symbol.name} {self.code.line}"
        return str(self.code.line or self.code.symbol or self.code.exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A fault and its end: *kind* says who served it; None: it failed, with *signal* (0: out of memory)."""

    number: int  # from 1, in the order of the run
    fault: Fault
    kind: FaultKind | None
    major: bool
    signal: int
    code: int  # si_code
    grown: int  # bytes that the stack grew by first
    pfn: int  # the frame now mapped; 0: none
    zone: str  # the frame's
    entry: int  # the page-table entry now
    short: str  # the decision in a few words
    why: str  # and its reason, in sentences
    decided_by: str  # the function of minikernel/mm that decided
    cost: "Cost | None"  # None: not known

    @property
    def access(self) -> str:
        """``read``, ``write`` or ``fetch``; the kernel's own accesses are known by what they led to."""
        if self.fault.error_code is None and self.kind is not None:
            return (
                "read" if self.kind in {FaultKind.ZERO_PAGE, FaultKind.FILE_READ, FaultKind.HUGE_ZERO_PAGE} else "write"
            )
        return access_word(self.fault.access) if self.fault.error_code is not None else "access"

    @property
    def failed(self) -> bool:
        """The fault was not served."""
        return self.kind is None

    def values(self) -> dict[str, object]:
        """The story as plain values, for programs."""
        fault = self.fault
        return {
            "number": self.number,
            "icount": fault.icount,
            "pid": fault.pid,
            "address": int(fault.address),
            "ip": fault.ip,
            "error_code": fault.error_code,
            "call": fault.call,
            "access": self.access,
            "walk": [{"level": step.level.name, "at": int(step.entry_phys), "entry": step.raw} for step in fault.walk],
            "mapping": fault.place.name,
            "kind": self.kind.value if self.kind is not None else None,
            "major": self.major,
            "signal": self.signal,
            "code": self.code,
            "frame": int(self.pfn) or None,
            "zone": self.zone,
            "decision": self.short,
            "because": self.why,
            "decided_by": self.decided_by,
            "cost": self.cost.values() if self.cost is not None else None,
        }

    def text(self, paint: Paint = PLAIN) -> str:
        """The whole story, some fifteen lines."""
        fault = self.fault
        rows: list[tuple[str, str]] = [("who", _who_words(fault))]
        if fault.insn is not None:
            rows.append(("doing", f"{fault.insn.address:#x}: {fault.insn.text}"))
        rows.append(("CR2", f"{fault.address:#x}  {_place_words(fault.place)}"))
        if fault.error_code is not None:
            bits = [f"{bit:<7}{words}" for bit, words in error_code_bits(fault.error_code, has_nx=fault.mode.has_nx)]
            rows += [("error", f"{fault.error_code:<#6x}{bits[0]}"), *(("", f"{'':6}{words}") for words in bits[1:])]
        rows += self._walk_rows()
        rows += _mapping_rows(fault.place)
        rows += [("decision", paint(self.short, "red" if self.failed else "green", "bold"))]
        because, *more = wrap(self.why, _WIDTH)
        rows += [("because", because), *(("", words) for words in more), ("decided by", self.decided_by)]
        if self.pfn:
            rows.append(("frame", f"{self.pfn:#x} in zone {self.zone}"))
            rows.append(("entry now", f"{self.entry:#x}  {entry_flags(self.entry, fault.mode)}"))
        if self.cost is not None:
            rows.append(
                ("cost", f"{'major' if self.major else 'minor'}: {self.cost.words}" if self.kind else self.cost.words)
            )
        title = f"fault {self.number}: {self.access} at {fault.address:#x}, after {fault.icount:,} instructions"
        lines = [f"  {paint(label.ljust(_LABEL), 'dim')} {words}" for label, words in rows]
        return "\n".join([paint(title, "bold"), *lines]) + "\n"

    def _walk_rows(self) -> list[tuple[str, str]]:
        """One row an entry that the hardware looked at."""
        fault = self.fault
        when = "" if fault.error_code is not None else "; as it is afterwards"
        rows = [("walk", f"CR3 {fault.root:#x}, {fault.mode.name} paging{when}")]
        digits = fault.mode.entry_size * 2
        for step in fault.walk:
            name = f"{step.level.name}[{step.index}]"
            words = entry_words(step, fault.mode)
            rows.append(("", f"{name:<11}at {step.entry_phys:#x}: {step.raw:0{digits}x}  {words}"))
        if not fault.walk:
            rows.append(("", "the address is not canonical: there is no walk"))
        return rows


def _who_words(fault: Fault) -> str:
    if fault.ip is None or fault.code is None:
        return f"the kernel, serving {fault.call} for process {fault.pid}"
    words = f"process {fault.pid} at {fault.ip:#x}: {fault.code.exact}"
    if fault.code.symbol is not None:
        words += f", {fault.code.symbol}"
    return f"{words}, {fault.code.line}" if fault.code.line is not None else words


def _place_words(place: "Place") -> str:
    return f"{place.short}: {place.symbol}" if place.symbol is not None else place.short


def _mapping_rows(place: "Place") -> list[tuple[str, str]]:
    """The mapping that contains the address, or the nearest two."""
    vma = place.vma
    if vma is None:
        return [
            ("mapping", "none contains the address"),
            ("", neighbour_words(place.below, "below")),
            ("", neighbour_words(place.above, "above")),
        ]
    into = place.address - vma.start
    words = f"{vma.start:#x}-{vma.end:#x} {rights(vma.flags)} {place.name}"
    if vma.mapping is not None:
        words += f", page {vma.index(place.address):,} of the file"
    return [("mapping", f"{words}; the address is {into:#x} into it")]
