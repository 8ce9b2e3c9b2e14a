"""madvise(2).  Linux: mm/madvise.c, configured with swap, KSM, transparent huge pages, without memory failure."""

from collections.abc import Callable
from typing import Final, TypeAlias

from emu.x86 import PAGE_MASK, PAGE_SHIFT, PTE_A, PTE_D, PTE_P, Pfn, page_align
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
)
from minikernel.mm.collapse import madvise_collapse
from minikernel.mm.gup import faultin_page_range
from minikernel.mm.hugetlb import may_split
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_active, PG_dirty, PG_referenced, PG_swapbacked, PG_swapcache
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.rmap import PFN_MASK
from minikernel.mm.swapin import swapin
from minikernel.mm.vma import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_IO,
    VM_LOCKED,
    VM_MAYWRITE,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_RAND_READ,
    VM_READ,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SPECIAL,
    VM_WIPEONFORK,
    VM_WRITE,
    Vma,
)
from minikernel.mm.vma_modify import vma_modify_flags
from minikernel.mm.zap import zap_range

_Visit: TypeAlias = Callable[[MmStruct, Vma, int, int], None]

# Advice that only sets flags of the mapping: (cleared, set).
_FLAG_CHANGES: Final = {
    MADV_NORMAL: (VM_RAND_READ | VM_SEQ_READ, 0),
    MADV_SEQUENTIAL: (VM_RAND_READ, VM_SEQ_READ),
    MADV_RANDOM: (VM_SEQ_READ, VM_RAND_READ),
    MADV_DONTFORK: (0, VM_DONTCOPY),
    MADV_DOFORK: (VM_DONTCOPY, 0),
    MADV_WIPEONFORK: (0, VM_WIPEONFORK),
    MADV_KEEPONFORK: (VM_WIPEONFORK, 0),
    MADV_DONTDUMP: (0, VM_DONTDUMP),
    MADV_DODUMP: (VM_DONTDUMP, 0),
    MADV_MERGEABLE: (0, VM_MERGEABLE),
    MADV_UNMERGEABLE: (VM_MERGEABLE, 0),
    MADV_HUGEPAGE: (VM_NOHUGEPAGE, VM_HUGEPAGE),
    MADV_NOHUGEPAGE: (VM_HUGEPAGE, VM_NOHUGEPAGE),
}

_POPULATES: Final = (MADV_POPULATE_READ, MADV_POPULATE_WRITE)


def do_madvise(mm: MmStruct, start: int, length: int, advice: int) -> None:
    """Take *advice* about [*start*, *start* + *length*); mapping by mapping, holes are reported at the end.

    Errors:
        EINVAL: unknown advice, unaligned, or advice that the mapping cannot take.
        ENOMEM: a hole.  EAGAIN: too many mappings to split one.
        EACCES, EBADF, EIO, EFAULT: of the advice itself.
    """
    visit = _VISITS.get(advice)
    if visit is None and advice not in _FLAG_CHANGES and advice not in _POPULATES:
        raise LinuxError(Errno.EINVAL, "madvise: unknown advice")
    if start & PAGE_MASK:
        raise LinuxError(Errno.EINVAL, "madvise: unaligned")
    size = page_align(length) & mm.layout.word_mask
    if length and not size:
        raise LinuxError(Errno.EINVAL, "madvise: the length wraps")
    end = start + size
    if end > mm.layout.word_mask:
        raise LinuxError(Errno.EINVAL, "madvise: the range wraps")
    if not size:
        return
    if advice in _POPULATES:
        _populate(mm, start, end, write=advice == MADV_POPULATE_WRITE)
        return
    if visit is not None:
        _walk_vmas(mm, start, end, visit)
        return
    _walk_vmas(mm, start, end, lambda mm, vma, low, high: _change_flags(mm, vma, low, high, advice))


def _walk_vmas(mm: MmStruct, start: int, end: int, visit: _Visit) -> None:
    """*visit* each mapping in the range: madvise_walk_vmas."""
    hole = False
    while start < end:
        vma = mm.vmas.find_vma(start)
        if vma is None:
            hole = True
            break
        if start < vma.start:
            hole = True
            start = vma.start
            if start >= end:
                break
        upto = min(vma.end, end)
        visit(mm, vma, start, upto)
        start = upto
    if hole:
        raise LinuxError(Errno.ENOMEM, "madvise: a hole")


def _change_flags(mm: MmStruct, vma: Vma, start: int, end: int, advice: int) -> None:
    """Advice that sets flags: madvise_vma_behavior."""
    cleared, added = _FLAG_CHANGES[advice]
    flags = vma.flags & ~cleared | added
    if advice == MADV_DOFORK and vma.flags & VM_IO:
        raise LinuxError(Errno.EINVAL, "madvise: device memory")
    if advice == MADV_WIPEONFORK and (vma.file is not None or vma.flags & VM_SHARED):
        raise LinuxError(Errno.EINVAL, "madvise: only private anonymous memory can be wiped")
    if advice == MADV_DODUMP and vma.flags & VM_SPECIAL and not vma.flags & VM_HUGETLB:
        raise LinuxError(Errno.EINVAL, "madvise: a special mapping is never dumped")
    if flags == vma.flags:
        return
    try:
        vma_modify_flags(mm, vma, start, end, flags)
    except LinuxError as error:
        errno = Errno.EAGAIN if error.errno == Errno.ENOMEM else error.errno
        raise LinuxError(errno, f"madvise: {error.why}") from error


def _dontneed(mm: MmStruct, vma: Vma, start: int, end: int) -> None:
    """Give the pages back; anonymous ones read as zeroes afterwards: madvise_dontneed_single_vma."""
    if vma.flags & VM_LOCKED:
        raise LinuxError(Errno.EINVAL, "madvise: locked")
    _dontneed_locked(mm, vma, start, end)


def _dontneed_locked(mm: MmStruct, vma: Vma, start: int, end: int) -> None:
    if vma.flags & VM_PFNMAP:
        raise LinuxError(Errno.EINVAL, "madvise: device memory")
    if not may_split(mm, vma, start):
        raise LinuxError(Errno.EINVAL, "madvise: half a huge page")
    if vma.flags & VM_HUGETLB:
        end &= -mm.node.hugetlb.size  # madvise_dontneed_free_valid_vma: the end is rounded down
    zap_range(mm, start, end)


def _free(mm: MmStruct, vma: Vma, start: int, end: int) -> None:
    """The pages may be taken until they are written again: madvise_free_pte_range.

    A page without PG_swapbacked and without D in its entry is what reclaim may drop.
    """
    if vma.flags & (VM_LOCKED | VM_PFNMAP | VM_HUGETLB):
        raise LinuxError(Errno.EINVAL, "madvise: locked")
    if not vma.is_anonymous:
        raise LinuxError(Errno.EINVAL, "madvise: only anonymous memory can be freed lazily")
    mem_map = mm.mem_map
    swap = mm.node.swap
    mm.pgtable.split_at(start)
    mm.pgtable.split_at(end)
    for address, leaf in mm.pgtable.large_leaves(start, end):
        mm.pgtable.set_large(address, leaf & ~(PTE_A | PTE_D))
    for address, pte in mm.pgtable.entries(start, end):
        if not pte & PTE_P:
            mm.pgtable.clear(address)
            mm.swapents -= 1
            swap.free(pte)
            continue
        pfn = Pfn(pte >> PAGE_SHIFT & PFN_MASK)
        if pte & PTE_SPECIAL or mem_map.mapcount[pfn] != 1:
            continue
        if mem_map.flags[pfn] & PG_swapcache:
            if swap.swap_count(swap.entry_of[pfn]):
                continue
            swap.delete_from_cache(pfn)
        if mem_map.refcount[pfn] != 1:
            continue
        mm.node.lru.move(pfn, clear=PG_swapbacked | PG_dirty | PG_referenced | PG_active)
        mm.pgtable.set(address, pte & ~(PTE_A | PTE_D))
    mm.tlb_dirty = True


def _cold(mm: MmStruct, vma: Vma, start: int, end: int) -> None:
    """The pages were not used lately: their accessed bits go (madvise_cold_or_pageout_pte_range)."""
    if vma.flags & (VM_LOCKED | VM_PFNMAP | VM_HUGETLB):
        raise LinuxError(Errno.EINVAL, "madvise: locked")
    lru = mm.node.lru
    lru.drain()
    for pfn in _own_pages(mm, start, end):
        lru.deactivate(pfn)


def _pageout(mm: MmStruct, vma: Vma, start: int, end: int) -> None:
    """The pages go now: to swap, or, of a file, wherever they came from (madvise_pageout)."""
    if vma.flags & (VM_LOCKED | VM_PFNMAP | VM_HUGETLB):
        raise LinuxError(Errno.EINVAL, "madvise: locked")
    if mm.node.reclaim_pages is not None:
        mm.node.reclaim_pages(_own_pages(mm, start, end))


def _own_pages(mm: MmStruct, start: int, end: int) -> list[Pfn]:
    """Frames of the range that nobody else maps; they count as not used lately (madvise_cold_or_pageout_pte_range)."""
    mem_map = mm.mem_map
    found = []
    for address, pte in mm.pgtable.entries(start, end):
        pfn = Pfn(pte >> PAGE_SHIFT & PFN_MASK)
        if not pte & PTE_P or pte & PTE_SPECIAL or mem_map.mapcount[pfn] != 1:
            continue
        if pte & PTE_A:
            mm.pgtable.set(address, pte & ~PTE_A)
        mem_map.flags[pfn] &= ~PG_referenced
        found.append(pfn)
    mm.tlb_dirty = True
    return found


def _willneed(mm: MmStruct, vma: Vma, start: int, end: int) -> None:
    """Read the file's pages now: madvise_willneed.  Errors of the reads are not reported."""
    cache = vma.mapping
    if cache is None or cache.is_shmem or vma.anon_vma is not None:
        _swapin_range(mm, start, end)
    if cache is None:
        return
    last = min(vma.index(end), (cache.size + PAGE_MASK) >> PAGE_SHIFT)
    try:
        for index in range(vma.index(start), last):
            if cache.backing is not None or index in cache.swapped:
                cache.read_page(index)
    except LinuxError:
        return  # advice: whoever touches the page will be told


def _swapin_range(mm: MmStruct, start: int, end: int) -> None:
    """Read what is in swap into the swap cache (swapin_walk_pmd_entry)."""
    try:
        for _, pte in mm.pgtable.entries(start, end):
            if not pte & PTE_P:
                swapin(mm.node, pte)
    except LinuxError:
        return


def _remove(mm: MmStruct, vma: Vma, start: int, end: int) -> None:
    """Punch a hole into the file: madvise_remove."""
    del mm
    if vma.flags & VM_LOCKED:
        raise LinuxError(Errno.EINVAL, "madvise: locked")
    if vma.mapping is None:
        raise LinuxError(Errno.EINVAL, "madvise: no file")
    if vma.flags & (VM_SHARED | VM_MAYWRITE) != VM_SHARED | VM_MAYWRITE:
        raise LinuxError(Errno.EACCES, "madvise: not shared, or its file not opened for writing")
    vma.mapping.punch_hole(vma.index(start) << PAGE_SHIFT, end - start)


def _populate(mm: MmStruct, start: int, end: int, *, write: bool) -> None:
    """MADV_POPULATE_READ, MADV_POPULATE_WRITE: madvise_populate."""
    needed = VM_WRITE if write else VM_READ
    address = start
    while address < end:
        vma = mm.vmas.find(address)
        if vma is None:
            raise LinuxError(Errno.ENOMEM, "madvise: a hole")
        if vma.flags & (VM_IO | VM_PFNMAP) or not vma.flags & needed:
            raise LinuxError(Errno.EINVAL, "madvise: the mapping does not allow the access")
        upto = min(vma.end, end)
        faultin_page_range(mm, address, upto, write=write)
        address = upto


_VISITS: Final[dict[int, _Visit]] = {
    MADV_DONTNEED: _dontneed,
    MADV_DONTNEED_LOCKED: _dontneed_locked,
    MADV_FREE: _free,
    MADV_COLD: _cold,
    MADV_COLLAPSE: madvise_collapse,
    MADV_PAGEOUT: _pageout,
    MADV_WILLNEED: _willneed,
    MADV_REMOVE: _remove,
}
