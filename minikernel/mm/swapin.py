"""Reading pages back from swap, with their neighbours.  Linux: mm/swap_state.c (swap_cluster_readahead)."""

from typing import TYPE_CHECKING, Final

from emu.x86 import Pfn
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.gfp import GFP_DIRECT_RECLAIM, GFP_HIGHUSER, GFP_KSWAPD_RECLAIM
from minikernel.mm.page import PG_anon, PG_swapbacked, PG_uptodate
from minikernel.mm.swap_entry import entry_area, entry_offset, make_entry

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node
    from minikernel.mm.swap import SwapSpace

_FLAGS: Final = PG_anon | PG_swapbacked | PG_uptodate
_GFP_READAHEAD: Final = GFP_HIGHUSER & ~(GFP_DIRECT_RECLAIM | GFP_KSWAPD_RECLAIM)  # only from what is there anyway


def swapin(node: "Node", entry: int) -> Pfn:
    """The frame with the page of *entry*, which is in the swap cache then; read with its neighbours if need be.

    Errors:
        ENOMEM: no frame.  EIO: swap cannot be read.
    """
    swap = node.swap
    pfn = swap.cache.get(entry)
    if pfn is not None:
        if pfn in swap.ra_pages:
            del swap.ra_pages[pfn]
            swap.ra_hits += 1
            node.vmstat["swap_ra_hit"] += 1
        return pfn
    pfn = _read(node, entry, GFP_HIGHUSER)
    node.get_page(pfn)  # not to be taken for its neighbours
    _read_ahead(node, entry)
    node.put_page(pfn)
    return pfn


def _read(node: "Node", entry: int, gfp: int) -> Pfn:
    """One page into the swap cache (__read_swap_cache_async)."""
    pfn = node.alloc_page(gfp)
    if pfn is None:
        raise LinuxError(Errno.ENOMEM, "no frame to read swap into")
    swap = node.swap
    try:
        swap.read_page(pfn, entry)
    except LinuxError:
        node.put_page(pfn)
        raise
    mem_map = node.mem_map
    mem_map.flags[pfn] = _FLAGS
    mem_map.owner[pfn] = None
    swap.add_to_cache(pfn, entry)
    shadow = swap.shadows.pop(entry, None)
    if shadow is not None:
        node.vmstat["workingset_refault_anon"] += 1
        node.lru.policy.refault(pfn, shadow)
    node.lru.note(pfn)
    node.put_page(pfn)  # the cache has its own reference
    return pfn


def _read_ahead(node: "Node", entry: int) -> None:
    """The rest of the aligned window around *entry*, as far as slots are in use, memory is there and no error comes."""
    swap = node.swap
    area = swap.area_of(entry)
    offset = entry_offset(entry)
    window = _window(swap, offset)
    if window <= 1:
        return
    first = max(offset & -window, 1)
    for slot in range(first, min((offset | (window - 1)) + 1, area.nr_pages)):
        neighbour = make_entry(entry_area(entry), slot)
        if not area.count[slot] or neighbour in swap.cache:
            continue
        try:
            pfn = _read(node, neighbour, _GFP_READAHEAD)
        except LinuxError:
            return  # whoever needs that page will be told
        swap.ra_pages[pfn] = None
        node.vmstat["swap_ra"] += 1


def _window(swap: "SwapSpace", offset: int) -> int:
    """How many pages to read: more, the better the last window was used (swapin_nr_pages, __swapin_nr_pages)."""
    most = 1 << swap.page_cluster
    if most <= 1:
        return 1
    hits, swap.ra_hits = swap.ra_hits, 0
    pages = hits + 2
    if pages == 2:
        if offset not in {swap.ra_last_offset - 1, swap.ra_last_offset + 1}:
            pages = 1
    else:
        pages = 1 << max((pages - 1).bit_length(), 2)
    pages = min(max(min(pages, most), swap.ra_previous // 2), most)
    swap.ra_last_offset, swap.ra_previous = offset, pages
    return pages
