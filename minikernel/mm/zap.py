"""Taking pages out of page tables.  Linux: mm/memory.c, unmap_page_range, unmap_mapping_range."""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT, PTE_P, Pfn
from minikernel.mm.hugetlb_pool import unmap_hugepage_range
from minikernel.mm.page import PG_anon, PG_swapbacked, PG_swapcache
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.rmap import PFN_MASK

if TYPE_CHECKING:
    from minikernel.mm.filemap import PageCache
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma

_NORMAL: Final = PTE_P | PTE_SPECIAL


def zap_range(mm: "MmStruct", start: int, end: int, *, even_cows: bool = True) -> None:
    """Clear every entry of [*start*, *end*) and drop its reference.  Not *even_cows*: private copies stay.

    A file page needs no look at the entry's dirty bit: the first write through a shared mapping was noticed.
    """
    mm.update_hiwater_rss()
    pgtable = mm.pgtable
    if pgtable.large:
        unmap_hugepage_range(mm, start, end)
    mem_map = mm.mem_map
    mapcount = mem_map.mapcount
    refcount = mem_map.refcount
    flags = mem_map.flags
    put_page = mm.node.put_page
    anon = file = shmem = 0
    for address, pte in pgtable.clear_range(start, end):
        if pte & _NORMAL != PTE_P:
            if pte & PTE_P:
                continue  # the zero page
            if not even_cows:
                pgtable.set(address, pte)  # its table is there: this cannot fail
                continue
            mm.swapents -= 1
            mm.node.swap.free(pte)
            continue
        pfn = Pfn(pte >> PAGE_SHIFT & PFN_MASK)
        kind = flags[pfn]
        if kind & PG_anon:
            if not even_cows:
                pgtable.set(address, pte)  # its table is there: this cannot fail
                continue
            anon += 1
        elif kind & PG_swapbacked:
            shmem += 1
        else:
            file += 1
        mapcount[pfn] -= 1
        users = refcount[pfn]
        if users > 1:  # put_page() without the call: what the end of a forked child is made of
            refcount[pfn] = users - 1
            if kind & PG_swapcache:
                mm.node.swap.free_unused(pfn)
        else:
            put_page(pfn)
    mm.rss_anon -= anon
    mm.rss_file -= file
    mm.rss_shmem -= shmem
    mm.tlb_dirty = True


def unmap_mapping_range(cache: "PageCache", first: int, last: int | None, *, even_cows: bool) -> None:
    """Take pages *first* <= index < *last* (None: all) of *cache* out of every mapping: mm/memory.c, same name."""
    for vma, mm in list(cache.vmas.items()):
        start = _clip(vma, first)
        end = vma.end if last is None else _clip(vma, last)
        if start < end:
            zap_range(mm, start, end, even_cows=even_cows)


def _clip(vma: "Vma", index: int) -> int:
    """The address of page *index* of the backing, held within the mapping."""
    return min(max(vma.start + ((index - vma.pgoff) << PAGE_SHIFT), vma.start), vma.end)
