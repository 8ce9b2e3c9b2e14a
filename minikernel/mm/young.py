"""Harvesting the accessed bits of a whole address space.  Linux: fs/proc/task_mmu.c, clear_refs_pte_range."""

from typing import Final

from emu.x86 import PAGE_SHIFT, PTE_A, PTE_P, Pfn
from minikernel.mm.pgtable import PageTable
from minikernel.mm.rmap import PFN_MASK

_YOUNG: Final = PTE_P | PTE_A


def harvest_young(pgtable: PageTable) -> list[Pfn]:
    """Frames whose entries have the accessed bit, which is cleared, in the order of their addresses.

    The CPU sets a bit again only after its TLB was flushed; the caller sees to that.
    """
    view = pgtable._view
    found: list[Pfn] = []
    for region in sorted(pgtable._leaf):
        base = pgtable._leaf[region]
        for at, pte in enumerate(view[base : base + pgtable._index_mask + 1].tolist(), base):
            if pte & _YOUNG == _YOUNG:
                view[at] = pte & ~PTE_A
                found.append(Pfn(pte >> PAGE_SHIFT & PFN_MASK))
    return found
