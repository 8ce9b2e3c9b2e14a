"""Taking one page: unmap it, write it if need be, free it.

Linux: mm/vmscan.c, shrink_folio_list; mm/rmap.c, try_to_unmap.

Everything that can fail comes before the first entry is changed, and nothing runs in between, so a page that cannot be
written is simply still there.  (Linux unmaps first and writes later, as others run meanwhile.)
"""

from enum import Enum

from emu.x86 import PTE_D, Pfn, VirtAddr
from minikernel.abi.errno import LinuxError
from minikernel.mm.filemap import PageCache
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import (
    MemMap,
    PG_active,
    PG_dirty,
    PG_mlocked,
    PG_swapbacked,
    PG_swapcache,
    PG_workingset,
)
from minikernel.mm.page_alloc import Node
from minikernel.mm.policy.base import Scan
from minikernel.mm.rmap import rmap_entries
from minikernel.mm.swap_entry import entry_offset
from minikernel.mm.vma import VM_LOCKED, Vma


class Verdict(Enum):
    """What became of a victim."""

    FREED = "freed"
    KEPT = "kept"  # somebody holds it, or it may not be written now
    ACTIVATED = "activated"  # it cannot go: look at others first
    LOCKED = "locked"  # a VM_LOCKED mapping has it


_Entries = list[tuple[Vma, MmStruct, VirtAddr, int]]


def evict(scan: Scan, pfn: Pfn) -> Verdict:
    """Reclaim frame *pfn*, which is on no list (shrink_folio_list)."""
    node = scan.node
    mem_map = node.mem_map
    flags = mem_map.flags[pfn]
    owner = mem_map.owner[pfn]
    cached = bool(flags & PG_swapcache) or isinstance(owner, PageCache)
    if mem_map.refcount[pfn] != mem_map.mapcount[pfn] + cached:
        return Verdict.KEPT
    entries: _Entries = rmap_entries(mem_map, pfn) if mem_map.mapcount[pfn] else []
    assert len(entries) == mem_map.mapcount[pfn], f"evict: frame {pfn:#x}: the reverse map misses an entry"
    if any(vma.flags & VM_LOCKED for vma, _, _, _ in entries):
        mem_map.flags[pfn] |= PG_mlocked
        return Verdict.LOCKED
    if isinstance(owner, PageCache) and owner.unevictable:
        mem_map.flags[pfn] |= PG_mlocked
        return Verdict.LOCKED
    mem_map.refcount[pfn] += 1  # ours, until the end
    if isinstance(owner, PageCache):
        verdict = _evict_shmem(scan, pfn, owner, entries) if owner.is_shmem else _evict_file(scan, pfn, owner, entries)
    elif not flags & PG_swapbacked:
        verdict = _evict_lazyfree(node, pfn, entries)
    else:
        verdict = _evict_anon(scan, pfn, entries)
    if verdict is Verdict.ACTIVATED:
        mem_map.flags[pfn] |= PG_active
    assert verdict is not Verdict.FREED or mem_map.refcount[pfn] == 1, f"evict: frame {pfn:#x} has another user"
    node.put_page(pfn)
    return verdict


def _unmap(mem_map: MemMap, pfn: Pfn, entries: _Entries, replacement: int) -> None:
    """Put *replacement* in the place of every entry; the callers keep the counters of resident pages."""
    for _, mm, address, _ in entries:
        mm.update_hiwater_rss()
        mm.pgtable.set(address, replacement)
        mm.tlb_dirty = True
    mem_map.mapcount[pfn] -= len(entries)
    mem_map.refcount[pfn] -= len(entries)


def _evict_file(scan: Scan, pfn: Pfn, cache: PageCache, entries: _Entries) -> Verdict:
    """A page of a file: written back if it is dirty, then forgotten."""
    node = scan.node
    mem_map = node.mem_map
    index = mem_map.index[pfn]
    if index in cache.dirty:
        if not scan.may_write:
            return Verdict.KEPT
        try:
            cache.sync(index, index + 1)
        except LinuxError:
            return Verdict.ACTIVATED
        node.vmstat["nr_vmscan_write"] += 1
        node.spend_io()
    _unmap(mem_map, pfn, entries, 0)
    for _, mm, _, _ in entries:
        mm.rss_file -= 1
    shadow = node.lru.policy.evicted(pfn)
    cache.evict(index)
    if shadow is not None:
        cache.remember(index, shadow)
    return Verdict.FREED


def _evict_shmem(scan: Scan, pfn: Pfn, cache: PageCache, entries: _Entries) -> Verdict:
    """A page of shared memory: to swap; the page cache remembers the slot, not the entries (shmem_writepage)."""
    node = scan.node
    swap = node.swap
    mem_map = node.mem_map
    index = mem_map.index[pfn]
    entry = swap.get_swap_page()
    if not entry:
        return Verdict.ACTIVATED
    try:
        swap.write_page(pfn, entry)
    except LinuxError:
        swap.release(entry)
        return Verdict.ACTIVATED
    _unmap(mem_map, pfn, entries, 0)
    for _, mm, _, _ in entries:
        mm.rss_shmem -= 1
    shadow = node.lru.policy.evicted(pfn)
    swap.duplicate(entry)
    cache.swap_out(index, entry)
    if shadow is not None:
        swap.shadows[entry] = shadow
    return Verdict.FREED


def _evict_anon(scan: Scan, pfn: Pfn, entries: _Entries) -> Verdict:
    """A private page: to swap, unless the slot it came from still has the same contents."""
    node = scan.node
    swap = node.swap
    mem_map = node.mem_map
    flags = mem_map.flags[pfn]
    if not entries and not flags & PG_swapcache:
        return Verdict.KEPT
    known = swap.entry_of.get(pfn, 0)
    entry = known or swap.get_swap_page()
    if not entry:
        return Verdict.ACTIVATED
    if not known or flags & PG_dirty or any(pte & PTE_D for _, _, _, pte in entries):
        try:
            swap.write_page(pfn, entry)
        except LinuxError:
            if not known:
                swap.release(entry)
            return Verdict.ACTIVATED
    for _, mm, _, _ in entries:
        swap.duplicate(entry)
        mm.rss_anon -= 1
        mm.swapents += 1
        swap.mms[mm] = None
    _unmap(mem_map, pfn, entries, entry)
    shadow = node.lru.policy.evicted(pfn)
    if known:
        swap.delete_from_cache(pfn)  # and the slot too, if nobody refers to it any more
    if shadow is not None and swap.area_of(entry).is_taken(entry_offset(entry)):
        swap.shadows[entry] = shadow
    mem_map.flags[pfn] &= ~(PG_workingset | PG_dirty)
    return Verdict.FREED


def _evict_lazyfree(node: Node, pfn: Pfn, entries: _Entries) -> Verdict:
    """A page that MADV_FREE gave away: dropped, unless somebody wrote to it since."""
    mem_map = node.mem_map
    if mem_map.flags[pfn] & PG_dirty or any(pte & PTE_D for _, _, _, pte in entries):
        mem_map.flags[pfn] |= PG_swapbacked
        return Verdict.ACTIVATED
    _unmap(mem_map, pfn, entries, 0)
    for _, mm, _, _ in entries:
        mm.rss_anon -= 1
    node.vmstat["pglazyfreed"] += 1
    return Verdict.FREED
