"""Faults on mappings of huge pages from the pool.  Linux: mm/hugetlb.c (hugetlb_fault, hugetlb_no_page, hugetlb_wp)."""

from emu.x86 import PAGE_SHIFT, PF_W, PTE_D, PTE_RW, PTE_XD, Pfn
from minikernel.events import FaultKind
from minikernel.mm.hugetlb import HugetlbCache, cache_of, set_huge_pte
from minikernel.mm.hugetlb_pool import huge_pfn, unmap_hugepage_range
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.outcome import FaultOutcome, bus_error, oom, served
from minikernel.mm.page import PG_exec
from minikernel.mm.pgtable import pte_pfn
from minikernel.mm.rmap import anon_vma_prepare, rmap_walk
from minikernel.mm.vma import VM_ACCESS_FLAGS, VM_SHARED, VM_WRITE, Vma


def hugetlb_no_page(mm: MmStruct, vma: Vma, address: int, error_code: int) -> FaultOutcome:
    """First touch: the file's page, or a cleared one.  Linux: same name."""
    cache = cache_of(vma)
    index = cache.huge_index(vma, address)
    # The file is as long as its one mmap, and mremap does not grow it.
    assert index << (cache.pool.order + PAGE_SHIFT) < cache.size, "hugetlb_no_page: beyond the end of the file"
    write = bool(error_code & PF_W)
    shared = vma.flags & VM_SHARED
    pfn = cache.huge.get(index) if shared else None
    new = pfn is None
    if pfn is None:
        if not shared and vma.anon_vma is None:
            prepared = anon_vma_prepare(mm, vma)
            if prepared is None:
                return oom(mm, address)
            vma = prepared
        pfn = cache.take(mm, index)
        if pfn is None:
            return _none_left(mm, address)
        mm.node.physmem.ram[pfn << PAGE_SHIFT : (pfn << PAGE_SHIFT) + cache.pool.size] = bytes(cache.pool.size)
    mem_map = mm.mem_map
    if new and shared:
        cache.huge[index] = pfn
        mem_map.owner[pfn], mem_map.index[pfn] = cache, vma.index(address & -cache.pool.size)
    elif new:
        mem_map.owner[pfn], mem_map.index[pfn] = vma.anon_vma, vma.index(address & -cache.pool.size)
    if not _map(mm, vma, address, pfn, write=write):
        if not shared:
            _give_back(mm, cache, index, pfn)
        return oom(mm, address)
    mem_map.mapcount[pfn] += 1
    if shared:
        mem_map.refcount[pfn] += 1
    mm.min_flt += 1
    kind = FaultKind.HUGE_ANON if new else FaultKind.FILE_SHARED if write else FaultKind.FILE_READ
    return served(mm, kind, address, pte_pfn(mm.pgtable.get(address)))


def _map(mm: MmStruct, vma: Vma, address: int, pfn: Pfn, *, write: bool) -> bool:
    """The entry of a first touch.  A shared one is writable at once, unless that would turn code into data."""
    may_write = write
    if vma.flags & (VM_SHARED | VM_WRITE) == VM_SHARED | VM_WRITE:
        is_data = mm.prot[vma.flags & VM_ACCESS_FLAGS] & PTE_XD
        may_write = write or not is_data or not mm.mem_map.flags[pfn] & PG_exec
    start = address & -mm.pgtable.large_size
    return set_huge_pte(mm, vma, start, pfn, write=may_write, dirty=PTE_D if write else 0)


def _give_back(mm: MmStruct, cache: HugetlbCache, index: int, pfn: Pfn) -> None:
    """A page that could not be mapped returns to the pool, and so does its promise."""
    mm.node.hugetlb.drop(pfn)
    if cache.owner is mm and len(cache.pool.free) > cache.pool.reserved:
        cache.pool.reserve(1)
        cache.promised.add(index)


def _none_left(mm: MmStruct, address: int) -> FaultOutcome:
    return bus_error(mm, address, "no huge page is left in the pool")


def hugetlb_wp(mm: MmStruct, vma: Vma, address: int) -> FaultOutcome:
    """A write to a read-only entry: shared, ours alone, or to be copied.  Linux: same name.

    The maker of a private mapping must not fail for its children's sake: if there is no page for the copy, the
    children lose theirs, and get SIGBUS if they ask for it (unmap_ref_private).
    """
    cache, mem_map = cache_of(vma), mm.mem_map
    start = address & -cache.pool.size
    old = huge_pfn(mm.pgtable.get_large(address))
    kind = FaultKind.FILE_SHARED if vma.flags & VM_SHARED else FaultKind.COW_REUSE
    if not vma.flags & VM_SHARED and mem_map.refcount[old] > 1:
        new = cache.take(mm, cache.huge_index(vma, address))
        if new is not None:
            return _copy(mm, vma, address, old, new)
        if cache.owner is not mm:
            return _none_left(mm, address)
        for other, at in rmap_walk(mem_map, old):
            if other is not mm:
                unmap_hugepage_range(other, at, at + cache.pool.size)
    if kind is FaultKind.COW_REUSE:
        mem_map.owner[old] = vma.anon_vma
    set_huge_pte(mm, vma, start, old, write=True, dirty=PTE_D)
    mm.min_flt += 1
    return served(mm, kind, address, pte_pfn(mm.pgtable.get(address)))


def _copy(mm: MmStruct, vma: Vma, address: int, old: Pfn, new: Pfn) -> FaultOutcome:
    """A huge page of our own in place of one that others have too."""
    pool, mem_map = mm.node.hugetlb, mm.mem_map
    start = address & -pool.size
    source, target = old << PAGE_SHIFT, new << PAGE_SHIFT
    mm.ram[target : target + pool.size] = mm.ram[source : source + pool.size]
    mem_map.owner[new], mem_map.index[new] = vma.anon_vma, vma.index(start)
    set_huge_pte(mm, vma, start, new, write=True, dirty=PTE_D)
    mem_map.mapcount[new] = 1
    mem_map.mapcount[old] -= 1
    pool.drop(old)
    mm.tlb_dirty = True
    mm.min_flt += 1
    return served(mm, FaultKind.COW_COPY, address, pte_pfn(mm.pgtable.get(address)))


def hugetlb_code_fault(mm: MmStruct, vma: Vma, address: int) -> FaultOutcome:
    """A fetch through an entry that lost its execute right to a writable alias: it gets it back."""
    leaf = mm.pgtable.get_large(address)
    assert leaf & PTE_XD, "hugetlb_code_fault: it is executable"
    set_huge_pte(
        mm, vma, address & -mm.pgtable.large_size, huge_pfn(leaf), write=bool(leaf & PTE_RW), dirty=leaf & PTE_D
    )
    mm.min_flt += 1
    return served(mm, FaultKind.CODE, address, pte_pfn(mm.pgtable.get(address)))
