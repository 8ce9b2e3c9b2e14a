"""Invariants of address spaces and of the machine's frames, as functions that assert them.

Tests call them after each operation, and after every guest run.  They read everything and change nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from emu.x86 import PAGE_MASK, PAGE_SHIFT, PTE_P, PTE_RW, PTE_US, PTE_XD, Pfn
from minikernel.mm.filemap import PageCache
from minikernel.mm.hugetlb import HugetlbCache, validate_hugetlb
from minikernel.mm.icache import validate_pte
from minikernel.mm.mm_struct import SPARE_VMAS, MmStruct, is_data_mapping, is_exec_mapping, is_stack_mapping
from minikernel.mm.page import (
    PG_anon,
    PG_dirty,
    PG_kernel,
    PG_reserved,
    PG_swapbacked,
    PG_swapcache,
    PG_table,
    PG_tail,
    PG_uptodate,
)
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.references import count_references
from minikernel.mm.rmap import PFN_MASK, rmap_walk
from minikernel.mm.slab_validate import validate_slab
from minikernel.mm.swap_entry import make_entry
from minikernel.mm.vma import VM_ACCESS_FLAGS, VM_ACCOUNT, VM_EXEC, VM_HUGETLB, VM_LOCKED, VM_SHARED, VM_WRITE, Vma


def validate_mm(mm: MmStruct) -> None:
    """Assert what MmStruct promises."""
    mm.vmas.validate()
    mm.pgtable.validate()
    spare = len(mm.vma_objects) - mm.map_count
    assert 0 <= spare <= SPARE_VMAS, f"validate_mm: {spare} objects more than mappings"
    for vma in mm.vmas:
        _validate_vma(mm, vma)
        if vma.flags & VM_HUGETLB:
            validate_hugetlb(mm, vma)
    _validate_totals(mm)
    resident: Counter[str] = Counter()
    for address, pte in mm.pgtable.entries(0, mm.layout.task_size):
        within = mm.vmas.find(address)
        assert within is not None, f"validate_mm: {address:#x} has an entry and no mapping"
        if within.flags & VM_HUGETLB:
            continue
        if not pte & PTE_P:
            assert within.anon_vma is not None, f"validate_mm: {address:#x} is in swap, its mapping owns no pages"
            assert mm in mm.node.swap.mms, f"validate_mm: {address:#x} is in swap, swapoff would not find it"
            resident["swapped"] += 1
            continue
        resident[_validate_entry(mm, within, address, pte)] += 1
    _validate_large_leaves(mm)
    for kind, counted in (("anon", mm.rss_anon), ("file", mm.rss_file), ("shmem", mm.rss_shmem)):
        assert counted == resident[kind], f"validate_mm: rss_{kind} is {counted}, there are {resident[kind]}"
    assert mm.swapents == resident["swapped"], (
        f"validate_mm: swapents is {mm.swapents}, there are {resident['swapped']}"
    )


def _validate_large_leaves(mm: MmStruct) -> None:
    """Assert that each large leaf lies in one mapping, and maps a block of its pages or the huge zero page."""
    size = mm.pgtable.large_size
    node = mm.node
    for address, leaf in mm.pgtable.large_leaves(0, mm.layout.task_size):
        where = f"validate_mm: the large leaf {leaf:#x} at {address:#x}"
        vma = mm.vmas.find(address)
        assert vma is not None, f"{where} has no mapping"
        assert address + size <= vma.end, f"{where} lies in two mappings"
        if vma.flags & VM_HUGETLB:
            continue
        assert vma.is_anonymous, f"{where} is not of anonymous memory"
        pfn = leaf >> PAGE_SHIFT & PFN_MASK & -(size >> PAGE_SHIFT)
        if leaf & PTE_SPECIAL:
            assert pfn == node.huge_zero.pfn, f"{where} is special, but not the huge zero page"
            assert mm in node.huge_zero.users, f"{where}: the huge zero page might be freed"
            continue
        assert pfn != node.huge_zero.pfn, f"{where} maps the huge zero page as memory of its own"
        swapcached = any(flags & PG_swapcache for flags in node.mem_map.flags[pfn : pfn + (size >> PAGE_SHIFT)])
        assert not swapcached, f"{where}: a page of it is in the swap cache"


def _validate_vma(mm: MmStruct, vma: Vma) -> None:
    where = f"validate_mm: mapping {vma.start:#x}-{vma.end:#x}"
    assert not (vma.start | vma.end) & PAGE_MASK, f"{where} is not page-aligned"
    assert vma.end <= mm.layout.task_size, f"{where} leaves user space"
    assert vma.flags & ~(vma.flags >> 4) & VM_ACCESS_FLAGS == 0, f"{where} has rights it may not have"
    assert vma.mapping is None or vma.file is not None, f"{where} has pages of no file"
    assert not vma.is_anonymous or not vma.flags & VM_SHARED, f"{where} is shared anonymous memory without a page cache"
    if vma.anon_vma is not None:
        for owner in vma.anon_vma.chain:
            assert owner.vmas.get(vma) is mm, f"{where} is unknown to the owner of its pages"
            assert owner.address, f"{where}: the owner of its pages gave its object back"
    if vma.mapping is not None:
        assert vma.mapping.vmas.get(vma) is mm, f"{where} is unknown to its file"


def _validate_totals(mm: MmStruct) -> None:
    totals: Counter[str] = Counter()
    for vma in mm.vmas:
        totals["total"] += vma.nr_pages
        if vma.flags & VM_LOCKED:
            totals["locked"] += vma.nr_pages
        if is_exec_mapping(vma.flags):
            totals["exec"] += vma.nr_pages
        elif is_stack_mapping(vma.flags):
            totals["stack"] += vma.nr_pages
        elif is_data_mapping(vma.flags):
            totals["data"] += vma.nr_pages
    counted = {
        "total": mm.total_vm,
        "locked": mm.locked_vm,
        "exec": mm.exec_vm,
        "stack": mm.stack_vm,
        "data": mm.data_vm,
    }
    for name, pages in counted.items():
        assert pages == totals[name], f"validate_mm: {name}_vm is {pages}, the mappings have {totals[name]}"


def _validate_entry(mm: MmStruct, vma: Vma, address: int, pte: int) -> str:
    """Assert that *pte* says no more than *vma* does; which rss counter it belongs to."""
    where = f"validate_mm: the entry {pte:#x} at {address:#x}"
    has_nx = mm.node.layout.mode.has_nx
    flags = vma.flags
    assert bool(pte & PTE_US) == bool(flags & VM_ACCESS_FLAGS), f"{where} and its mapping differ about user access"
    assert not pte & PTE_RW or flags & VM_WRITE, f"{where} is writable, its mapping is not"
    assert not has_nx or pte & PTE_XD or flags & VM_EXEC, f"{where} is executable, its mapping is not"
    validate_pte(mm.mem_map, pte, has_nx=has_nx)
    pfn = pte >> PAGE_SHIFT & PFN_MASK
    if pte & PTE_SPECIAL:
        assert pfn == mm.node.zero_pfn, f"{where} is special, but not the zero page"
        assert not pte & PTE_RW, f"{where}: the zero page is writable"
        return "zero"
    mem_map = mm.mem_map
    page_flags = mem_map.flags[pfn]
    if page_flags & PG_anon:
        assert vma.anon_vma is not None, f"{where} maps a private page, the mapping owns none"
        assert mem_map.owner[pfn] in vma.anon_vma.chain, f"{where}: frame {pfn:#x} has a strange owner"
        assert mem_map.index[pfn] == vma.index(address), f"{where}: frame {pfn:#x} has another index"
        return "anon"
    assert not pte & PTE_RW or flags & VM_SHARED, f"{where}: a file's page is writable in a private mapping"
    if vma.special is not None:
        assert pfn == vma.special.pages[vma.index(address)], f"{where} maps another page than the special one"
        return "file"
    assert vma.mapping is not None, f"{where} maps a file's page in anonymous memory"
    assert mem_map.owner[pfn] is vma.mapping, f"{where}: frame {pfn:#x} is of another file"
    assert mem_map.index[pfn] == vma.index(address), f"{where}: frame {pfn:#x} has another index"
    if pte & PTE_RW and vma.mapping.backing is not None:
        assert mem_map.index[pfn] in vma.mapping.dirty, f"{where} is writable, the file does not know"
    return "shmem" if page_flags & PG_swapbacked else "file"


def validate_page_cache(cache: PageCache) -> None:
    """Assert what PageCache promises."""
    mem_map = cache.node.mem_map
    for index, pfn in cache.pages.items():
        where = f"validate_page_cache: frame {pfn:#x} of page {index}"
        assert mem_map.owner[pfn] is cache, f"{where} belongs to {mem_map.owner[pfn]}"
        assert mem_map.index[pfn] == index, f"{where} says it is page {mem_map.index[pfn]}"
        assert mem_map.flags[pfn] & PG_uptodate, f"{where} is not up to date"
        dirty = cache.backing is None or index in cache.dirty
        assert bool(mem_map.flags[pfn] & PG_dirty) == dirty, f"{where}: its flag and the list of dirty pages differ"
    assert cache.dirty <= cache.pages.keys(), "validate_page_cache: a page that is not cached is dirty"
    assert not cache.swapped.keys() & cache.pages.keys(), "validate_page_cache: a page is cached and in swap"
    assert not cache.swapped or (cache.is_shmem and cache in cache.node.swap.shmem), (
        "validate_page_cache: swapoff would not find the pages that are in swap"
    )
    for vma, mm in cache.vmas.items():
        assert vma.mapping is cache, "validate_page_cache: a mapping of another file is listed"
        assert vma in mm.vmas.items, "validate_page_cache: a mapping that is gone is listed"
    if cache.acct_by_page:
        pages = cache.nr_pages + len(cache.swapped)
        assert cache.nr_committed == pages, (
            f"validate_page_cache: {cache.nr_committed} pages are promised, there are {pages}"
        )
    assert cache.backing is None or not cache.nr_committed, "validate_page_cache: pages of a disk are promised"


def validate_node(
    node: Node,
    mms: Iterable[MmStruct],
    page_caches: Iterable[PageCache] = (),
    held: Mapping[Pfn, int] | None = None,
) -> None:
    """Assert that every frame's counts equal the entries, caches and kernel references that there are.

    *mms* are all address spaces of the machine, *page_caches* all caches that no mapping leads to; *held* are the
    kernel's own references, by frame (vDSO pages, buffers); frames with PG_kernel or PG_reserved need none.
    """
    mms = list(mms)
    node.validate()
    validate_slab(node.slab)
    for mm in mms:
        validate_mm(mm)
    known = count_references(node, mms, page_caches)
    committed = sum(vma.nr_pages for mm in mms for vma in mm.vmas if vma.flags & VM_ACCOUNT)
    committed += sum(cache.nr_committed for cache in known.caches)
    assert node.vm_sysctl.vm_committed_as == committed, (
        f"validate_node: vm_committed_as is {node.vm_sysctl.vm_committed_as}, {committed} pages are promised"
    )
    for cache in known.caches:
        validate_page_cache(cache)
    promised = sum(len(cache.promised) for cache in known.caches if isinstance(cache, HugetlbCache))
    node.hugetlb.validate()
    assert promised == node.hugetlb.reserved, f"validate_node: {promised} huge pages promised, not as many reserved"
    validate_swap(node, known.swapped)
    node.lru.validate()
    _validate_frames(node, known.mapped, known.cached, held or {})


def validate_swap(node: Node, swapped: Mapping[int, int]) -> None:
    """Assert that each slot is referred to as often as its area says; *swapped* counts the references by entry."""
    node.swap.validate()
    counted = {
        make_entry(area.index, slot): count
        for area in node.swap.areas
        if area is not None
        for slot, count in enumerate(area.count)
        if count
    }
    assert counted == dict(swapped), "validate_swap: the slots' counts differ from the references that there are"


def _validate_frames(node: Node, mapped: Mapping[int, int], cached: Mapping[int, int], held: Mapping[Pfn, int]) -> None:
    mem_map = node.mem_map
    for pfn, count in enumerate(mem_map.refcount):
        flags = mem_map.flags[pfn]
        where = f"validate_node: frame {pfn:#x} (flags {flags:#x})"
        maps = mapped.get(pfn, 0)
        assert mem_map.mapcount[pfn] == maps, f"{where} has mapcount {mem_map.mapcount[pfn]}, {maps} entries map it"
        if flags & (PG_kernel | PG_reserved | PG_table | PG_tail):
            continue
        known = maps + cached.get(pfn, 0) + held.get(Pfn(pfn), 0)
        assert count == known, f"{where} has {count} references, {known} are known"
        if maps and mem_map.owner[pfn] is not None:
            walked = len(rmap_walk(mem_map, Pfn(pfn)))
            assert walked == maps, f"{where}: the reverse map finds {walked} entries of {maps}"
