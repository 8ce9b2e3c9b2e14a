"""Where an address is: its mapping, or the nearest ones; the names a person would use for it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT
from minikernel.mm.mm_struct import vma_name
from minikernel.mm.vma import VM_GROWSDOWN
from minikernel.report.words import rights, size_words

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma
    from minikernel.report.dwarf.lines import SourceLine
    from minikernel.report.image import Symbol
    from minikernel.report.symbols import Symbols

NEAR_STACK: Final = 64 << 20  # bytes: an address further below a stack than that is not the stack's affair
_NULL_LIMIT: Final = 1 << 16  # an address below is a NULL pointer and an offset


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A mapping that does not contain the address, and how far away it is in bytes."""

    vma: "Vma"
    name: str
    distance: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where *address* is."""

    address: int
    vma: "Vma | None"
    name: str  # of the mapping, as /proc/PID/maps has it; "anonymous" for none
    symbol: "Symbol | None"
    line: "SourceLine | None"
    short: str  # a few words
    exact: str  # the same with an offset that tools understand: ``ls+0x4b10``
    below: Neighbour | None  # the nearest mappings, where there is none
    above: Neighbour | None


def display_name(mm: "MmStruct", vma: "Vma") -> str:
    """The mapping's name; ``anonymous`` where /proc/PID/maps leaves the column empty."""
    name = vma_name(mm, vma).decode(errors="backslashreplace")
    if not name and vma.flags & VM_GROWSDOWN:
        return "[stack]"  # of a program that execve still builds, or of a thread
    return name or "anonymous"


def base_name(name: str) -> str:
    """*name* without its directories, and a library's without its version."""
    base = name.rsplit("/", 1)[-1] if name.startswith("/") else name
    stem, library, _ = base.partition(".so.")
    return f"{stem}.so" if library else base


def locate(mm: "MmStruct", symbols: "Symbols", address: int) -> Place:
    """Where *address* is in *mm*."""
    vma = mm.vmas.find(address)
    if vma is None:
        below, above = neighbours(mm, address)
        short = _nowhere(mm, address, above)
        return Place(address, None, "", None, None, short, short, below, above)
    name = display_name(mm, vma)
    found = symbols.find(mm, address)
    if found is None:
        short = _short(mm, vma, base_name(name), address)
        return Place(address, vma, name, None, None, short, short, None, None)
    base = base_name(display_name(mm, found.vma))
    exact = f"{base}+{found.vaddr:#x}"
    short = f"{base} {found.section}" if found.section else exact
    return Place(address, vma, name, found.symbol, found.line, short, exact, None, None)


def neighbours(mm: "MmStruct", address: int) -> tuple[Neighbour | None, Neighbour | None]:
    """The mappings next to *address*, which none contains: below and above."""
    at = mm.vmas.first_above(address)
    below = above = None
    if at:
        vma = mm.vmas.items[at - 1]
        below = Neighbour(vma, display_name(mm, vma), address - vma.end)
    if at < len(mm.vmas):
        vma = mm.vmas.items[at]
        above = Neighbour(vma, display_name(mm, vma), vma.start - address)
    return below, above


def null_pointer(address: int, word_mask: int) -> str:
    """How *address* comes from a NULL pointer, if it plausibly does; otherwise ""."""
    if not address:
        return "a NULL pointer"
    if address < _NULL_LIMIT:
        return f"a NULL pointer plus {address:,}"
    if address > word_mask - _NULL_LIMIT:
        return f"a NULL pointer minus {word_mask + 1 - address:,}"
    return ""


def _nowhere(mm: "MmStruct", address: int, above: Neighbour | None) -> str:
    """A few words for an address without a mapping."""
    word_mask = (1 << 64) - 1 if mm.layout.is_64bit else 0xFFFF_FFFF
    if null_pointer(address, word_mask):
        return f"NULL+{address:#x}" if address < _NULL_LIMIT else f"NULL-{word_mask + 1 - address:#x}"
    if address >= mm.layout.task_size:
        return "the kernel's half"
    if above is not None and above.vma.flags & VM_GROWSDOWN and above.distance <= NEAR_STACK:
        return f"below {above.name} by {above.distance:#x}"
    return "no mapping"


def _short(mm: "MmStruct", vma: "Vma", name: str, address: int) -> str:
    """A few words for an address in *vma*, which is called *name*."""
    if vma.mapping is not None:
        return f"{name}+{(vma.pgoff << PAGE_SHIFT) + address - vma.start:#x}"
    if vma.flags & VM_GROWSDOWN:
        return f"[stack] top-{vma.end - address:#x}"
    start = mm.start_brk if name == "[heap]" and address >= mm.start_brk else vma.start
    return f"{name}+{address - start:#x}"


def neighbour_words(neighbour: Neighbour | None, side: str) -> str:
    """How far the nearest mapping on *side* (``below`` or ``above``) is, and which."""
    if neighbour is None:
        return f"nothing is mapped {side} it"
    vma = neighbour.vma
    distance = size_words(neighbour.distance)
    if neighbour.distance >= 1 << 10:
        distance += f" ({neighbour.distance:#x})"
    edge = "behind the end" if side == "below" else "before the start"
    return f"{distance} {edge} of {neighbour.name} ({vma.start:#x}-{vma.end:#x} {rights(vma.flags)})"
