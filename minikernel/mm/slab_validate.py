"""Invariants of the caches of objects, as a function that asserts them."""

from emu.x86 import PAGE_SHIFT
from minikernel.mm.kmem_cache import KmemCache, Slab
from minikernel.mm.page import PG_slab
from minikernel.mm.slab import SlabAllocator


def validate_slab(allocator: SlabAllocator) -> None:
    """Assert that every slab's frames, lists and counts agree, and in debug mode that every object's bytes do."""
    mem_map = allocator.node.mem_map
    pages = {True: 0, False: 0}
    owned = 0
    for cache in allocator.caches.values():
        where = f"validate_slab: {cache.name}"
        in_hand = set(cache.freelist)
        assert len(in_hand) == len(cache.freelist), f"{where}: an object is free twice"
        for slab in cache.slabs.values():
            owned += _validate_one(cache, slab, in_hand)
            pages[cache.is_reclaimable] += 1 << slab.order
        for address in in_hand:
            assert cache.slab_of(address).pfn in cache.slabs, f"{where}: {address:#x} is of a slab that is gone"
        counted = sum(slab.objects for slab in cache.slabs.values())
        assert cache.total_objects == counted, f"{where}: {cache.total_objects} objects counted, there are {counted}"
        assert set(cache.partial) <= set(cache.slabs.values()), f"{where}: a slab that is gone is listed as partial"
    large = sum(1 << order for order in allocator.large.values())
    assert allocator.nr_reclaimable == pages[True], "validate_slab: SReclaimable is wrong"
    assert allocator.nr_unreclaimable == pages[False] + large, "validate_slab: SUnreclaim is wrong"
    marked = sum(1 for owner in mem_map.owner if type(owner) is Slab)
    assert marked == owned, f"validate_slab: {marked} frames belong to slabs, {owned} are known"


def _validate_one(cache: KmemCache, slab: Slab, in_hand: set[int]) -> int:
    """Assert that *slab* is whole; how many frames it has."""
    mem_map = cache.allocator.node.mem_map
    where = f"validate_slab: {cache.name}, slab {slab.pfn:#x}"
    nr_frames = 1 << slab.order
    assert mem_map.flags[slab.pfn] & PG_slab, f"{where}: flags {mem_map.flags[slab.pfn]:#x}"
    assert mem_map.refcount[slab.pfn] == 1, f"{where}: {mem_map.refcount[slab.pfn]} references"
    for pfn in range(slab.pfn, slab.pfn + nr_frames):
        assert mem_map.owner[pfn] is slab, f"{where}: frame {pfn:#x} belongs to {mem_map.owner[pfn]}"
    first = cache.allocator.page_offset + (slab.pfn << PAGE_SHIFT) + cache.layout.red_left
    places = {first + index * cache.layout.size for index in range(slab.objects)}
    free = set(slab.free)
    assert len(free) == len(slab.free), f"{where}: an object is free twice"
    assert free <= places, f"{where}: a free object is not one of its"
    assert not free & in_hand, f"{where}: an object is free, and in hand too"
    assert bool(free) == (slab in cache.partial), f"{where}: the list of partial slabs is wrong"
    if cache.debug is not None:
        for address in places:
            (cache.debug.check_free if address in free else cache.debug.check_used)(address)
    return nr_frames
