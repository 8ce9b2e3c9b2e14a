"""Storing the entry that a fault ends with, and the books that go with it.  Linux: mm/memory.c, set_pte_range."""

from typing import Final

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_A, PTE_D, PTE_RW, PTE_XD, Pfn
from minikernel.mm.filemap import PageCache
from minikernel.mm.icache import note_exec, note_write
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_anon, PG_exec, PG_swapbacked, PG_uptodate
from minikernel.mm.vma import VM_ACCESS_FLAGS, VM_SHARED, VM_WRITE, Vma

ANON_FLAGS: Final = PG_anon | PG_swapbacked | PG_uptodate
YOUNG_DIRTY: Final = PTE_A | PTE_D


# ---- code


def note_pte(mm: MmStruct, pfn: Pfn, pte: int) -> bool:
    """Tell the code-coherence books that *pte* is about to map *pfn*; whether an alias lost a right (icache.py)."""
    if not pte & PTE_XD:
        return note_exec(mm.node, pfn)
    if pte & PTE_RW and mm.mem_map.flags[pfn] & PG_exec:
        return note_write(mm.node, pfn)
    return False


def copy_page(mm: MmStruct, new: Pfn, old: Pfn) -> None:
    """Give frame *new* the contents of *old*."""
    target = new << PAGE_SHIFT
    source = old << PAGE_SHIFT
    mm.ram[target : target + PAGE_SIZE] = mm.ram[source : source + PAGE_SIZE]


def map_anon(mm: MmStruct, vma: Vma, address: int, new: Pfn) -> bool:
    """Map frame *new*, filled and with one reference, as *vma*'s private page; False: no memory for a table."""
    pte = new << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_RW | YOUNG_DIRTY
    if not mm.pgtable.set(address, pte):
        return False
    mem_map = mm.mem_map
    mem_map.owner[new] = vma.anon_vma
    mem_map.index[new] = vma.index(address)
    mem_map.flags[new] = ANON_FLAGS
    mm.node.lru.note(new)
    if not pte & PTE_XD:
        note_exec(mm.node, new)
    mem_map.mapcount[new] = 1
    mm.rss_anon += 1
    return True


def map_file_pages(mm: MmStruct, vma: Vma, cache: PageCache, first: int, last: int) -> None:
    """Map the cached pages [*first*, *last*) that are not mapped yet: filemap_map_pages.

    Stops quietly when there is no memory for a table.  It does what map_file_page does for each page: a shell maps
    170 pages so after each fork, and the calls would be what that costs.
    """
    pages = cache.pages
    base = vma.start - (vma.pgoff << PAGE_SHIFT)
    prot = mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_A
    executable = not prot & PTE_XD
    get, set_entry = mm.pgtable.get, mm.pgtable.set
    refcount, mapcount = mm.mem_map.refcount, mm.mem_map.mapcount
    for index in range(first, last):
        pfn = pages.get(index)
        address = base + (index << PAGE_SHIFT)
        if pfn is None or get(address):
            continue
        if cache.backing is None:
            if not map_file_page(mm, vma, address, cache, pfn):
                return
            continue
        if executable:
            note_exec(mm.node, pfn)
        refcount[pfn] += 1  # from here on, as reclaim may look for pages while a table is made
        if not set_entry(address, pfn << PAGE_SHIFT | prot):
            refcount[pfn] -= 1
            return
        mapcount[pfn] += 1
        mm.rss_file += 1


def map_file_page(mm: MmStruct, vma: Vma, address: int, cache: PageCache, pfn: Pfn) -> bool:
    """Map a cached page for reading: set_pte_range.  False: no memory for a table.

    A shared mapping of pages that need no write notice (shmem) is writable at once: vma_wants_writenotify.
    """
    pte = pfn << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_A
    mem_map = mm.mem_map
    if not pte & PTE_XD:
        note_exec(mm.node, pfn)
    mem_map.refcount[pfn] += 1  # from here on, as reclaim may look for pages while a table is made
    if not mm.pgtable.set(address, pte):
        mem_map.refcount[pfn] -= 1
        return False
    unnoticed = vma.flags & (VM_SHARED | VM_WRITE) == VM_SHARED | VM_WRITE and cache.backing is None
    # A frame of code stays read-only here: making it data again costs its other users a fault.
    if unnoticed and (not pte & PTE_XD or not mem_map.flags[pfn] & PG_exec):
        mm.pgtable.set(address, pte | PTE_RW)
    mem_map.mapcount[pfn] += 1
    if cache.backing is None:
        mm.rss_shmem += 1
    else:
        mm.rss_file += 1
    return True
