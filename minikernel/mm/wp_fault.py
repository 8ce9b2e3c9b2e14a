"""Writes that the mapping allows and the entry does not.  Linux: mm/memory.c, do_wp_page and what it calls."""

from emu.x86 import PAGE_SHIFT, PTE_RW, Pfn
from minikernel.abi.errno import LinuxError
from minikernel.events import FaultKind
from minikernel.mm.gfp import GFP_HIGHUSER_MOVABLE, GFP_ZERO
from minikernel.mm.hugetlb_fault import hugetlb_wp
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.outcome import FaultOutcome, failed, oom, served
from minikernel.mm.page import PG_anon, PG_swapbacked, PG_swapcache
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.rmap import PFN_MASK, anon_vma_prepare
from minikernel.mm.set_pte import YOUNG_DIRTY, copy_page, map_anon, note_pte
from minikernel.mm.thp import do_huge_pmd_wp_page
from minikernel.mm.vma import VM_HUGETLB, VM_SHARED, Vma

# ---- writes to read-only entries


def do_wp_page(mm: MmStruct, vma: Vma, address: int, pte: int) -> FaultOutcome:
    """A write that the mapping allows and the entry does not: shared, ours alone, or to be copied.

    mm/memory.c, same name: wp_page_shared, wp_page_reuse, wp_page_copy.
    """
    if mm.pgtable.large:
        if vma.flags & VM_HUGETLB:
            return hugetlb_wp(mm, vma, address)
        huge = do_huge_pmd_wp_page(mm, vma, address)
        if huge is not None:
            return huge
        vma = mm.vmas.find(address) or vma  # it may have an owner for its pages by now
    pfn = Pfn(pte >> PAGE_SHIFT & PFN_MASK)
    if pte & PTE_SPECIAL:
        return _wp_page_copy(mm, vma, address, pte, pfn)
    if vma.flags & VM_SHARED:
        return _wp_page_shared(mm, vma, address, pte, pfn)
    mem_map = mm.mem_map
    flags = mem_map.flags[pfn]
    if flags & PG_swapcache and mem_map.refcount[pfn] == 2 and not mm.node.swap.swap_count(mm.node.swap.entry_of[pfn]):
        mm.node.swap.delete_from_cache(pfn)  # its slot has no other user: the page is ours (folio_free_swap)
    if flags & PG_anon and mem_map.refcount[pfn] == 1:
        # Nobody else has it: not another address space, not the swap cache (which holds a reference).
        if vma.anon_vma is not mem_map.owner[pfn] and vma.anon_vma is not None:
            mem_map.owner[pfn] = vma.anon_vma  # page_move_anon_rmap: our family need not look for it any more
        pte |= PTE_RW | YOUNG_DIRTY
        moved = note_pte(mm, pfn, pte)
        mm.pgtable.set(address, pte)
        mm.min_flt += 1
        return served(mm, FaultKind.CODE if moved else FaultKind.COW_REUSE, address, pfn)
    return _wp_page_copy(mm, vma, address, pte, pfn)


def _wp_page_shared(mm: MmStruct, vma: Vma, address: int, pte: int, pfn: Pfn) -> FaultOutcome:
    """The page stays; the file learns that it is written to."""
    cache = vma.mapping
    assert cache is not None, "wp_page_shared: no file"
    if cache.on_mkwrite is not None:
        try:
            cache.on_mkwrite()
        except LinuxError as error:
            return failed(mm, address, error)
    cache.mark_dirty(vma.index(address))
    pte |= PTE_RW | YOUNG_DIRTY
    moved = note_pte(mm, pfn, pte)
    mm.pgtable.set(address, pte)
    mm.min_flt += 1
    return served(mm, FaultKind.CODE if moved else FaultKind.FILE_SHARED, address, pfn)


def _wp_page_copy(mm: MmStruct, vma: Vma, address: int, pte: int, old: Pfn) -> FaultOutcome:
    """A page of our own in place of one that others see too: a copy, or zeroes in place of the zero page."""
    node = mm.node
    mem_map = mm.mem_map
    special = pte & PTE_SPECIAL
    refcount = mem_map.refcount
    if not special:
        refcount[old] += 1  # or reclaim might take it for the copy
    prepared = vma if vma.anon_vma is not None else anon_vma_prepare(mm, vma)
    new = None
    if prepared is not None:
        vma = prepared
        new = node.alloc_page(GFP_HIGHUSER_MOVABLE | GFP_ZERO if special else GFP_HIGHUSER_MOVABLE)
    if new is None:
        if not special:
            refcount[old] -= 1  # it is mapped still: this is never the last
        return oom(mm, address)
    kind = FaultKind.COW_COPY
    if not special:
        copy_page(mm, new, old)
    mapped = map_anon(mm, vma, address, new)
    assert mapped, "wp_page_copy: the entry's table is gone"
    mm.tlb_dirty = True  # the old frame stays readable through a stale translation
    if not special:
        flags = mem_map.flags[old]
        if flags & PG_anon:
            mm.rss_anon -= 1
        else:
            kind = FaultKind.FILE_COW
            if flags & PG_swapbacked:
                mm.rss_shmem -= 1
            else:
                mm.rss_file -= 1
        mem_map.mapcount[old] -= 1
        # Ours and the entry's; as a rule others have it, too, and a call is saved.
        if refcount[old] > 2:
            refcount[old] -= 2
        else:
            refcount[old] = 1
            node.put_page(old)
        if flags & PG_swapcache and old in node.swap.entry_of:
            node.swap.free_unused(old)
    mm.min_flt += 1
    return served(mm, kind, address, new)
