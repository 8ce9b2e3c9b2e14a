"""Caches of equal objects in frames of low memory.  Linux: mm/slub.c.

A cache takes blocks of frames (*slabs*) and cuts them into objects.  An object is its address in the direct map; its
bytes lie in guest RAM.  Taking and giving back is a list operation: a cache holds the free objects of whole slabs on
``freelist``, Linux's per-CPU slab.  Everything else is the slow path, which every object takes while a cache is in
debug mode (slab_debug.py) or an allocation is to fail.

    freelist   objects in hand, the one freed last on top          alloc() pops, free() pushes
    partial    slabs that have free objects of their own           the freelist is filled from them, and flushed to them
    slabs      all of them, by their first frame
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT, Pfn
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.gfp import GFP_DIRECT_RECLAIM, GFP_KERNEL, GFP_NORETRY, GFP_RECLAIMABLE
from minikernel.mm.page import PG_kernel, PG_slab
from minikernel.mm.slab_debug import DebugObjects, call_site
from minikernel.mm.slab_layout import (
    SLAB_DEBUG_FLAGS,
    SLAB_RECLAIM_ACCOUNT,
    SlabLayout,
    min_partial,
    slab_layout,
)

if TYPE_CHECKING:
    from minikernel.mm.slab import SlabAllocator

_BULK: Final = 32  # objects that free() may pile up beyond one slab before it gives some back


class Slab:
    """A block of frames cut into objects: struct slab.  It is the owner of each of its frames.

    Invariant: ``free`` lists objects of this slab, each once; those of it that are neither here nor on the cache's
    freelist are in use.
    """

    __slots__ = ("cache", "free", "objects", "order", "pfn")

    def __init__(self, cache: "KmemCache", pfn: Pfn, order: int, first: int) -> None:
        self.cache = cache
        self.pfn = pfn
        self.order = order
        size = cache.layout.size
        self.objects = cache.layout.objects_of(order)
        # The last one is taken first: a fresh slab hands out ascending addresses.
        self.free = [first + index * size for index in range(self.objects - 1, -1, -1)]


class KmemCache:
    """A cache of objects of one kind: struct kmem_cache.

    *ctor*, if given, is called with the address of each object of a new slab; objects come back in that state.
    """

    __slots__ = (
        "_armed",
        "_gfp",
        "_owner",
        "allocator",
        "ctor",
        "debug",
        "flags",
        "freelist",
        "high",
        "layout",
        "min_partial",
        "name",
        "nr_failed",
        "nr_slabs_freed",
        "nr_slabs_made",
        "partial",
        "slabs",
        "total_objects",
    )

    def __init__(
        self,
        allocator: "SlabAllocator",
        name: str,
        object_size: int,
        *,
        align: int = 0,
        flags: int = 0,
        ctor: Callable[[int], None] | None = None,
    ) -> None:
        node = allocator.node
        if allocator.debug:
            flags |= SLAB_DEBUG_FLAGS
        self.allocator = allocator
        self.name = name
        self.flags = flags
        self.ctor = ctor
        word = 8 if node.layout.mode.va_bits > 32 else 4
        self.layout: SlabLayout = slab_layout(object_size, word, align=align, flags=flags, has_ctor=ctor is not None)
        self.min_partial = min_partial(self.layout.size)
        self.freelist: list[int] = []
        self.partial: dict[Slab, None] = {}
        self.slabs: dict[int, Slab] = {}
        self.total_objects = 0
        self.nr_slabs_made = self.nr_slabs_freed = self.nr_failed = 0
        self.debug = DebugObjects(self) if flags & SLAB_DEBUG_FLAGS else None
        self._owner = node.mem_map.owner
        self._gfp = GFP_RECLAIMABLE if flags & SLAB_RECLAIM_ACCOUNT else 0
        self._armed = False
        self.high = 0  # freelist is flushed beyond it; below 0: objects come and go one by one
        self._set_high()

    # ---- objects

    def alloc(self, gfp: int = GFP_KERNEL) -> int:
        """The address of an object, with whatever its last user left in it (kmem_cache_alloc).

        Errors:
            ENOMEM: there is no memory for a slab.
        """
        free = self.freelist
        return free.pop() if free else self._alloc_slow(gfp)

    def zalloc(self, gfp: int = GFP_KERNEL) -> int:
        """As alloc(), the object filled with zeroes (kmem_cache_zalloc)."""
        address = self.alloc(gfp)
        self.allocator.write(address, bytes(self.layout.object_size))
        return address

    def free(self, address: int) -> None:
        """Give an object back (kmem_cache_free)."""
        free = self.freelist
        free.append(address)
        if len(free) > self.high:
            self._free_slow()

    def alloc_bulk(self, count: int, gfp: int = GFP_KERNEL) -> list[int]:
        """*count* objects, or none of them (kmem_cache_alloc_bulk).

        Errors:
            ENOMEM: as alloc().
        """
        free = self.freelist
        at = len(free) - count
        if at >= 0:
            taken = free[at:]
            del free[at:]
            return taken
        taken = []
        try:
            for _ in range(count):
                taken.append(self.alloc(gfp))
        except LinuxError:
            self.free_bulk(taken)
            raise
        return taken

    def free_bulk(self, addresses: list[int]) -> None:
        """Give several objects back (kmem_cache_free_bulk)."""
        if self.high < 0:
            for address in addresses:
                self.free(address)
            return
        self.freelist += addresses
        if len(self.freelist) > self.high:
            self._free_slow()

    def _alloc_slow(self, gfp: int) -> int:
        """Take over the free objects of a partial slab, or of a new one (Linux: ___slab_alloc)."""
        if self._armed and self.allocator.injected_failure():
            self.nr_failed += 1
            raise LinuxError(Errno.ENOMEM, f"{self.name}: the allocation that was to fail")
        if not self.partial:
            self._new_slab(gfp)
            if self.freelist:  # the memory for the slab came from a shrinker that gave our objects back
                return self.freelist.pop()
        slab = self.partial.popitem()[0]
        if self.high >= 0:
            self.freelist.extend(slab.free)
            slab.free.clear()
            return self.freelist.pop()
        address = slab.free.pop()
        if slab.free:
            self.partial[slab] = None
        if self.debug is not None:
            self.debug.take(address, call_site())
        return address

    def _free_slow(self) -> None:
        """Give objects back to their slabs: those that were freed first (Linux: __slab_free)."""
        free = self.freelist
        if self.high >= 0:
            count = len(free) - self.high // 2
            addresses = free[:count]
            del free[:count]
            for address in addresses:
                self._return(address)
            return
        address = free.pop()
        if self.debug is not None:
            self.debug.give_back(address, call_site())
        self._return(address)

    def slab_of(self, address: int) -> Slab:
        """The slab that holds the object at *address*."""
        slab = self._owner[(address - self.allocator.page_offset) >> PAGE_SHIFT]
        assert isinstance(slab, Slab), f"kmem_cache_free: {address:#x} is no object of a cache"
        assert slab.cache is self, f"kmem_cache_free: {address:#x} of {slab.cache.name} is given back to {self.name}"
        return slab

    def _return(self, address: int) -> None:
        slab = self.slab_of(address)
        slab.free.append(address)
        if len(slab.free) < slab.objects or len(self.partial) < self.min_partial:
            self.partial[slab] = None
            return
        self.partial.pop(slab, None)
        self._discard(slab)

    # ---- slabs

    def _new_slab(self, gfp: int) -> None:
        """One more slab; a smaller one if there is no block of the wanted order (allocate_slab).

        Errors:
            ENOMEM: not even that.
        """
        node = self.allocator.node
        layout = self.layout
        gfp |= self._gfp
        order = layout.order
        # The wanted order is worth no effort where a smaller one will do (allocate_slab).
        optimistic = (gfp | GFP_NORETRY) & ~GFP_DIRECT_RECLAIM
        pfn = node.alloc_pages(order, optimistic if order > layout.min_order else gfp)
        if pfn is None and order > layout.min_order:
            order = layout.min_order
            pfn = node.alloc_pages(order, gfp)
        if pfn is None:
            self.nr_failed += 1
            raise LinuxError(Errno.ENOMEM, f"{self.name}: no frames for a slab")
        first = self.allocator.page_offset + (pfn << PAGE_SHIFT) + layout.red_left
        slab = Slab(self, pfn, order, first)
        for frame in range(pfn, pfn + (1 << order)):
            self._owner[frame] = slab
        node.mem_map.flags[pfn] |= PG_slab | PG_kernel
        self.allocator.account(self, 1 << order)
        self.slabs[pfn] = slab
        self.partial[slab] = None
        self.total_objects += slab.objects
        self.nr_slabs_made += 1
        if self.debug is not None:
            self.debug.setup(slab)
        if self.ctor is not None:
            for address in reversed(slab.free):
                self.ctor(address)

    def _discard(self, slab: Slab) -> None:
        """Give the frames of an empty slab back."""
        if self.debug is not None:
            for address in slab.free:
                self.debug.check_free(address)
        node = self.allocator.node
        del self.slabs[slab.pfn]
        self.total_objects -= slab.objects
        self.nr_slabs_freed += 1
        self.allocator.account(self, -1 << slab.order)
        node.mem_map.flags[slab.pfn] &= ~(PG_slab | PG_kernel)
        node.put_page(slab.pfn)

    def flush(self) -> None:
        """Give the objects in hand back to their slabs."""
        addresses = self.freelist[:]
        self.freelist.clear()
        for address in addresses:
            self._return(address)

    def shrink(self) -> int:
        """Give every frame back that holds no object in use; how many frames (kmem_cache_shrink)."""
        self.flush()
        empty = [slab for slab in self.partial if len(slab.free) == slab.objects]
        for slab in empty:
            del self.partial[slab]
            self._discard(slab)
        return sum(1 << slab.order for slab in empty)

    def arm(self, *, armed: bool) -> None:
        """Whether every allocation is to be counted (SlabAllocator.fail_allocation)."""
        self.flush()
        self._armed = armed
        self._set_high()

    def _set_high(self) -> None:
        self.high = -1 if self._armed or self.debug is not None else self.layout.objects + _BULK

    # ---- figures

    @property
    def nr_in_use(self) -> int:
        """Objects that somebody holds."""
        return self.total_objects - self.nr_free - len(self.freelist)

    @property
    def nr_free(self) -> int:
        """Objects that lie free in their slabs; those in hand count as active, as on Linux (count_free)."""
        return sum(len(slab.free) for slab in self.partial)

    @property
    def nr_pages(self) -> int:
        """Frames of all slabs."""
        return sum(1 << slab.order for slab in self.slabs.values())

    @property
    def is_reclaimable(self) -> bool:
        """A shrinker can give the objects back."""
        return bool(self.flags & SLAB_RECLAIM_ACCOUNT)
