"""Faults on pages of files: read, private copy, shared write.  Linux: mm/memory.c, do_fault and what it calls."""

from typing import Final

from emu.x86 import PAGE_MASK, PAGE_SHIFT, PF_W, PTE_A, PTE_RW
from minikernel.abi.errno import LinuxError
from minikernel.events import FaultKind
from minikernel.mm.filemap import PageCache
from minikernel.mm.gfp import GFP_HIGHUSER_MOVABLE
from minikernel.mm.hugetlb_fault import hugetlb_no_page
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.outcome import FaultOutcome, bus_error, failed, oom, served_file
from minikernel.mm.rmap import anon_vma_prepare
from minikernel.mm.set_pte import YOUNG_DIRTY, copy_page, map_anon, map_file_page, map_file_pages, note_pte
from minikernel.mm.vma import VM_ACCESS_FLAGS, VM_HUGETLB, VM_SHARED, Vma

FAULT_AROUND_PAGES: Final = 16  # fault_around_bytes, 64 KiB
READ_AROUND_MIN_FREE: Final = 256  # free frames, below which only the page itself is read


# ---- file pages


def do_fault(mm: MmStruct, vma: Vma, address: int, error_code: int) -> FaultOutcome:
    """First touch of a file page: mm/memory.c, same name."""
    if vma.flags & VM_HUGETLB:
        return hugetlb_no_page(mm, vma, address, error_code)
    cache = vma.mapping
    assert cache is not None, "do_fault: anonymous"
    index = vma.pgoff + ((address - vma.start) >> PAGE_SHIFT)
    if index << PAGE_SHIFT >= cache.size:
        # Linux finds out late: it has looked around, or prepared for the copy, by then.
        if not error_code & PF_W:
            map_file_pages(mm, vma, cache, *_around(vma, address, cache))
        elif not vma.flags & VM_SHARED and vma.anon_vma is None and anon_vma_prepare(mm, vma) is None:
            return oom(mm, address)
        return bus_error(mm, address, "the page lies beyond the end of the mapped file")
    major = index not in cache.pages and (cache.backing is not None or index in cache.swapped)
    try:
        if not error_code & PF_W:
            return do_read_fault(mm, vma, address, cache, index, major=major)
        if vma.flags & VM_SHARED:
            return do_shared_fault(mm, vma, address, cache, index, major=major)
        return do_cow_fault(mm, vma, address, cache, index, major=major)
    except LinuxError as error:
        return failed(mm, address, error)


def do_read_fault(mm: MmStruct, vma: Vma, address: int, cache: PageCache, index: int, *, major: bool) -> FaultOutcome:
    """Map the page of the cache, and the cached ones around it: same name, do_fault_around, filemap_map_pages.

    A page that must be read brings its neighbours along (do_sync_mmap_readahead).
    """
    pfn = cache.read_page(index)
    if not map_file_page(mm, vma, address & ~PAGE_MASK, cache, pfn):
        return oom(mm, address)
    first, last = _around(vma, address, cache)
    if major:
        _read_around(mm, cache, first, last)
    map_file_pages(mm, vma, cache, first, last)
    return served_file(mm, FaultKind.FILE_READ, address, pfn, major=major)


def _around(vma: Vma, address: int, cache: PageCache) -> tuple[int, int]:
    """Indices [first, last) of the pages around *address*: 64 KiB of addresses, within the mapping and the file."""
    window = address & -(FAULT_AROUND_PAGES << PAGE_SHIFT)
    start = max(window, vma.start)
    end = min(window + (FAULT_AROUND_PAGES << PAGE_SHIFT), vma.end)
    return vma.index(start), min(vma.index(end), (cache.size + PAGE_MASK) >> PAGE_SHIFT)


def _read_around(mm: MmStruct, cache: PageCache, first: int, last: int) -> None:
    """Fill the cache with pages [*first*, *last*), as long as there is plenty of memory and no error."""
    if mm.node.nr_free < READ_AROUND_MIN_FREE:
        return
    for index in range(first, last):
        try:
            cache.read_page(index)
        except LinuxError:
            return  # whoever touches that page will be told


def do_cow_fault(mm: MmStruct, vma: Vma, address: int, cache: PageCache, index: int, *, major: bool) -> FaultOutcome:
    """A write to a private file page: our own copy of it at once.  mm/memory.c, same name."""
    if vma.anon_vma is None:
        prepared = anon_vma_prepare(mm, vma)
        if prepared is None:
            return oom(mm, address)
        vma = prepared
    node = mm.node
    source = cache.read_page(index)
    node.get_page(source)  # or reclaim might take it for the copy
    new = node.alloc_page(GFP_HIGHUSER_MOVABLE)
    node.put_page(source)
    if new is None:
        return oom(mm, address)
    copy_page(mm, new, source)
    if not map_anon(mm, vma, address, new):
        node.put_page(new)
        return oom(mm, address)
    return served_file(mm, FaultKind.FILE_COW, address, new, major=major)


def do_shared_fault(mm: MmStruct, vma: Vma, address: int, cache: PageCache, index: int, *, major: bool) -> FaultOutcome:
    """A write to a shared file page: the cache's own page, dirty from now on.  mm/memory.c, same name."""
    pfn = cache.read_page(index)
    if cache.on_mkwrite is not None:
        cache.on_mkwrite()
    mem_map = mm.mem_map
    pte = pfn << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_RW | YOUNG_DIRTY
    mem_map.refcount[pfn] += 1  # from here on, as reclaim may look for pages while a table is made
    if not mm.pgtable.set(address, pte & ~PTE_RW):
        mem_map.refcount[pfn] -= 1
        return oom(mm, address)
    cache.mark_dirty(index)
    note_pte(mm, pfn, pte)
    mm.pgtable.set(address, pte)
    mem_map.mapcount[pfn] += 1
    if cache.backing is None:
        mm.rss_shmem += 1
    else:
        mm.rss_file += 1
    return served_file(mm, FaultKind.FILE_SHARED, address, pfn, major=major)


def do_special_fault(mm: MmStruct, vma: Vma, address: int, error_code: int) -> FaultOutcome:
    """A page the kernel owns (vDSO): special_mapping_fault; a write gets a private copy."""
    special = vma.special
    assert special is not None, "do_special_fault: no special mapping"
    pfn = special.pages[vma.index(address)]
    mem_map = mm.mem_map
    if error_code & PF_W:
        if vma.anon_vma is None:
            prepared = anon_vma_prepare(mm, vma)
            if prepared is None:
                return oom(mm, address)
            vma = prepared
        new = mm.node.alloc_page(GFP_HIGHUSER_MOVABLE)
        if new is None:
            return oom(mm, address)
        copy_page(mm, new, pfn)
        if not map_anon(mm, vma, address, new):
            mm.node.put_page(new)
            return oom(mm, address)
        return served_file(mm, FaultKind.FILE_COW, address, new, major=False)
    pte = pfn << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_A
    note_pte(mm, pfn, pte)
    if not mm.pgtable.set(address, pte):
        return oom(mm, address)
    mem_map.refcount[pfn] += 1
    mem_map.mapcount[pfn] += 1
    mm.rss_file += 1
    return served_file(mm, FaultKind.FILE_READ, address, pfn, major=False)
