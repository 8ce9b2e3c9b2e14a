"""Searching memory for bytes: in an address space, mapping by mapping, or in all of RAM.

Of a mapping, the pages that exist are searched: those in frames, and those of files that a read would bring.  Memory
that nobody has touched, which would read as zeroes, is not.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SIZE, PTE_P
from minikernel.report.peek import peek

if TYPE_CHECKING:
    from emu.physmem import PhysMem
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma

_CHUNK: Final = 1 << 20


def find_in(mm: "MmStruct", needle: bytes, start: int, end: int) -> Iterator[int]:
    """The addresses in [start, end) of *mm* where *needle* begins."""
    for vma in mm.vmas.items:
        low, high = max(vma.start, start), min(vma.end, end)
        if low >= high:
            continue
        for first, last in _runs(mm, vma, low, high):
            yield from _find_run(mm, needle, first, last)


def _runs(mm: "MmStruct", vma: "Vma", low: int, high: int) -> Iterator[tuple[int, int]]:
    """The parts of *vma* between *low* and *high* that have contents, neighbours joined."""
    if vma.mapping is not None or vma.special is not None:
        yield low, high
        return
    start = end = low
    for address, pte in mm.pgtable.entries(vma.start, vma.end):
        if not pte & PTE_P or address + PAGE_SIZE <= low or address >= high:
            continue
        if address != end:
            if start < end:
                yield start, end
            start = max(address, low)
        end = min(address + PAGE_SIZE, high)
    if start < end:
        yield start, end


def _find_run(mm: "MmStruct", needle: bytes, start: int, end: int) -> Iterator[int]:
    overlap = len(needle) - 1
    for at in range(start, end, _CHUNK):
        data = peek(mm, at, min(_CHUNK + overlap, end - at))
        found = data.find(needle)
        while 0 <= found < _CHUNK:
            yield at + found
            found = data.find(needle, found + 1)


def find_physical(physmem: "PhysMem", needle: bytes) -> Iterator[int]:
    """The physical addresses where *needle* begins."""
    at = physmem.ram.find(needle)
    while at >= 0:
        yield at
        at = physmem.ram.find(needle, at + 1)
