"""The story of one page fault as a value, and as text.

A ``Fault`` is what the kernel knew when the fault arrived; an ``Explanation`` adds what became of it.  Building them
is the business of explain.py; everything here only reads.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.x86 import PF_I, PF_W, PhysAddr, VirtAddr
from minikernel.report.place import base_name, neighbour_words
from minikernel.report.words import access_word, entry_flags, entry_words, error_code_bits, rights

if TYPE_CHECKING:
    from emu.disasm import Instruction
    from emu.paging import PagingMode, WalkStep
    from minikernel.events import FaultKind
    from minikernel.report.place import Place

_LABEL: Final = 10  # width of the left column


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

    @property
    def pte(self) -> int:
        """The entry that ended the walk, if that was a page's; otherwise 0."""
        return self.walk[-1].raw if self.walk and self.walk[-1].level is self.mode.levels[-1] else 0

    @property
    def access(self) -> str:
        """``read``, ``write``, ``fetch``; without NX in the mode a fetch is known by its address alone."""
        if self.error_code is None:
            return "kernel"
        if not self.mode.has_nx and not self.error_code & PF_W and self.address == self.ip:
            return "fetch"
        return access_word(self.error_code)

    @property
    def blamed_access(self) -> int:
        """PF_W and PF_I as ``access`` has them."""
        return {"write": PF_W, "fetch": PF_I}.get(self.access, 0)

    @property
    def who(self) -> str:
        """Who did it, in a few words: a function and a source line, or the kernel's call."""
        if self.code is None:
            return f"the kernel, in {self.call}" if self.call else "the kernel"
        name = self.code.symbol.name if self.code.symbol is not None else ""
        if self.code.line is not None:
            return f"{name} {self.code.line}" if name else str(self.code.line)
        return str(self.code.symbol) if name else self.code.short


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A fault and its end: *kind* says who served it; None: it failed, with *signal* (0: out of memory)."""

    number: int  # from 1, in the order of the run
    fault: Fault
    kind: "FaultKind | None"
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

    @property
    def failed(self) -> bool:
        """The fault was not served."""
        return self.kind is None

    def text(self) -> str:
        """The whole story, some fifteen lines."""
        fault = self.fault
        rows: list[tuple[str, str]] = [("who", _who_words(fault))]
        if fault.insn is not None:
            rows.append(("doing", f"{fault.insn.address:#x}: {fault.insn.text}"))
        rows.append(("CR2", f"{fault.address:#x}  {_place_words(fault.place)}"))
        if fault.error_code is not None:
            rows.append(("error", f"{fault.error_code:#x}"))
            rows += [
                ("", f"{bit:<7}{word}") for bit, word in error_code_bits(fault.error_code, has_nx=fault.mode.has_nx)
            ]
        rows += self._walk_rows()
        rows += _mapping_rows(fault.place)
        rows += [("decision", self.short), ("because", self.why), ("decided by", self.decided_by)]
        if self.pfn:
            rows.append(("frame", f"{self.pfn:#x} in zone {self.zone}"))
            rows.append(("entry now", f"{self.entry:#x}  {entry_flags(self.entry, fault.mode)}"))
        title = f"fault {self.number}: {fault.access} at {fault.address:#x}, after {fault.icount:,} instructions"
        return "\n".join([title, *(f"  {label:<{_LABEL}} {words}".rstrip() for label, words in rows)]) + "\n"

    def _walk_rows(self) -> list[tuple[str, str]]:
        """One row an entry that the hardware looked at."""
        fault = self.fault
        when = "" if fault.error_code is not None else ", afterwards"
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
        return f"{fault.who}, on behalf of process {fault.pid}"
    symbol = f"{fault.code.symbol} in " if fault.code.symbol is not None else ""
    line = f", {fault.code.line}" if fault.code.line is not None else ""
    return f"process {fault.pid} at {fault.ip:#x}: {symbol}{base_name(fault.code.name) or fault.code.short}{line}"


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
