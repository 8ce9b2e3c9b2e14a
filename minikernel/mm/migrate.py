"""Moving a page to another frame while programs use it.  Linux: mm/migrate.c.

The reverse map finds every entry; the new frame takes over contents, owner, index, counts and flags, the old one is
freed.  A page that somebody else refers to stays: whoever holds the number of a movable frame over an allocation of
more than one frame takes a reference first.
"""

from typing import Final

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_P, Pfn
from minikernel.mm.filemap import PageCache
from minikernel.mm.page import (
    PG_anon,
    PG_exec,
    PG_head,
    PG_kernel,
    PG_locked,
    PG_lru,
    PG_reserved,
    PG_swapcache,
    PG_table,
    PG_tail,
    PG_unevictable,
    PG_used,
    PG_writeback,
)
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import pte_pfn
from minikernel.mm.rmap import AnonVma, rmap_walk

_PINNED: Final = PG_locked | PG_writeback | PG_head | PG_tail | PG_table | PG_kernel | PG_reserved


def is_movable(node: Node, pfn: int) -> bool:
    """Whether frame *pfn* holds user memory or a page of a cache that may be migrated, as far as its row says."""
    mem_map = node.mem_map
    flags = mem_map.flags[pfn]
    if not mem_map.refcount[pfn] or flags & _PINNED:
        return False
    return isinstance(mem_map.owner[pfn], AnonVma | PageCache)


def migrate_page(node: Node, old: Pfn, new: Pfn) -> bool:
    """Move the page in frame *old* to *new*, a free frame that the caller took; whether that could be done.

    On success *old* is free; otherwise nothing has changed, and *new* is still the caller's.
    """
    mem_map = node.mem_map
    if not is_movable(node, old):
        return False
    owner, index, flags = mem_map.owner[old], mem_map.index[old], mem_map.flags[old]
    cache = owner if isinstance(owner, PageCache) and owner.pages.get(index) == old else None
    if cache is None and not flags & PG_anon:
        return False
    known = mem_map.mapcount[old] + (cache is not None) + bool(flags & PG_swapcache)
    if mem_map.refcount[old] != known:
        return False  # somebody else holds it: folio_expected_ref_count
    mapped = rmap_walk(mem_map, old)
    if len(mapped) != mem_map.mapcount[old]:
        return False
    ram = node.physmem.ram
    source, target = old << PAGE_SHIFT, new << PAGE_SHIFT
    ram[target : target + PAGE_SIZE] = ram[source : source + PAGE_SIZE]
    for mm, address in mapped:
        pte = mm.pgtable.get(address)
        assert pte & PTE_P, f"migrate_page: the reverse map leads to {address:#x}, where nothing is present"
        assert pte_pfn(pte) == old, f"migrate_page: the reverse map leads to {address:#x}, where another frame is"
        mm.pgtable.set(address, pte ^ source ^ target)
        mm.tlb_dirty = True
    if cache is not None:
        cache.pages[index] = new
    _move_row(node, old, new)
    return True


def _move_row(node: Node, old: Pfn, new: Pfn) -> None:
    """The new frame's row becomes the old one's, and the old frame is freed (folio_migrate_flags)."""
    mem_map = node.mem_map
    flags = mem_map.flags[old]
    mem_map.owner[new], mem_map.index[new] = mem_map.owner[old], mem_map.index[old]
    mem_map.refcount[new], mem_map.mapcount[new] = mem_map.refcount[old], mem_map.mapcount[old]
    mem_map.flags[new] = flags | mem_map.flags[new] & PG_used
    mem_map.flags[new] &= ~(PG_lru | PG_unevictable)
    node.lru.replace(old, new)
    if flags & PG_swapcache:
        node.swap.replace(old, new)
    # PG_exec stays: freeing the frame drops its translations.
    mem_map.flags[old] = PG_used | flags & PG_exec
    mem_map.owner[old] = None
    mem_map.mapcount[old] = 0
    mem_map.refcount[old] = 1
    node.put_page(old)
