"""Small pages put together into a huge one.  Linux: mm/khugepaged.c, of which MADV_COLLAPSE is the part on demand."""

from typing import Final

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_P, Pfn
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.outcome import Served
from minikernel.mm.page import PG_swapcache
from minikernel.mm.pgtable import PTE_SPECIAL, pte_pfn
from minikernel.mm.set_pte import copy_page
from minikernel.mm.swap_fault import do_swap_page
from minikernel.mm.thp import (
    adopt_block,
    alloc_huge,
    free_huge,
    gfp_mask,
    has_huge_range,
    hpage_order,
    huge_leaf,
    thp_vma_allowable,
)
from minikernel.mm.vma import Vma
from minikernel.mm.zap import zap_range

_ERRNOS: Final = {"alloc": Errno.ENOMEM, "count": Errno.EAGAIN}  # madvise_collapse_errno; all others are EINVAL


def madvise_collapse(mm: MmStruct, vma: Vma, start: int, end: int) -> None:
    """MADV_COLLAPSE: a huge page for each aligned part of [*start*, *end*) of *vma* that has pages: same name.

    Errors:
        EINVAL: the mapping may have none, or no page is there to start from.
        ENOMEM: no block of frames.  EAGAIN: a page is in use by the kernel.
    """
    size = mm.pgtable.large_size
    if not thp_vma_allowable(mm, vma, forced=True) or not has_huge_range(mm, vma):
        raise LinuxError(Errno.EINVAL, "madvise: no huge pages in this mapping")
    failure = "" if (start + size - 1) & -size <= end & -size else "range"
    for address in range((start + size - 1) & -size, end & -size, size):
        failure = _collapse(mm, vma, address) or failure
    if failure:
        raise LinuxError(_ERRNOS.get(failure, Errno.EINVAL), f"madvise: not collapsed: {failure}")


def _collapse(mm: MmStruct, vma: Vma, start: int) -> str:
    """One huge page at *start*: hpage_collapse_scan_pmd, collapse_huge_page.  Why not, or an empty string."""
    pgtable, node = mm.pgtable, mm.node
    end = start + pgtable.large_size
    if pgtable.get_large(start):
        return ""
    if not pgtable.has_table(start):
        return "nothing there"
    if vma.anon_vma is None:
        return "no page of its own"
    new = alloc_huge(node, gfp_mask(node, vma))
    if new is None:
        node.vmstat["thp_collapse_alloc_failed"] += 1
        return "alloc"
    node.vmstat["thp_collapse_alloc"] += 1
    failure = _swapin(mm, vma, start, end) or _isolate(mm, start, end)
    if failure:
        free_huge(node, new)
        return failure
    _copy(mm, start, end, new)
    zap_range(mm, start, end)
    leaf = huge_leaf(mm, vma, new)
    made = pgtable.set_large(start, leaf)
    assert made, "collapse: the table is gone"
    adopt_block(mm, vma, start, leaf)
    return ""


def _swapin(mm: MmStruct, vma: Vma, start: int, end: int) -> str:
    """Bring what is in swap back: __collapse_huge_page_swapin."""
    for address, _ in mm.pgtable.entries(start, end):
        pte = mm.pgtable.get(address)  # reading one page may have moved another out
        if pte and not pte & PTE_P and not isinstance(do_swap_page(mm, vma, address, pte, 0), Served):
            return "swap"
    return ""


def _isolate(mm: MmStruct, start: int, end: int) -> str:
    """Whether every page can be given up: nobody but page tables and the swap cache refers to it."""
    mem_map = mm.mem_map
    for _, pte in mm.pgtable.entries(start, end):
        if not pte & PTE_P:
            return "count"  # moved out again
        if pte & PTE_SPECIAL:
            continue
        pfn = pte_pfn(pte)
        if mem_map.refcount[pfn] != mem_map.mapcount[pfn] + bool(mem_map.flags[pfn] & PG_swapcache):
            return "count"
    return ""


def _copy(mm: MmStruct, start: int, end: int, new: Pfn) -> None:
    """Fill the block: a page where there is one, zeroes elsewhere (__collapse_huge_page_copy)."""
    target = new << PAGE_SHIFT
    mm.ram[target : target + (PAGE_SIZE << hpage_order(mm.node))] = bytes(PAGE_SIZE << hpage_order(mm.node))
    for address, pte in mm.pgtable.entries(start, end):
        if not pte & PTE_SPECIAL:
            copy_page(mm, Pfn(new + ((address - start) >> PAGE_SHIFT)), pte_pfn(pte))
