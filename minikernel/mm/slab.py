"""The caches of a node, and memory by the byte.  Linux: mm/slab_common.c, mm/slub.c (kmalloc)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from emu.x86 import PAGE_MASK, PAGE_SHIFT, Pfn, PhysAddr
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.buddy import MAX_PAGE_ORDER
from minikernel.mm.gfp import GFP_KERNEL
from minikernel.mm.kmem_cache import KmemCache, Slab
from minikernel.mm.page import PG_kernel
from minikernel.mm.slab_layout import KMALLOC_MAX_CACHE_SIZE, KMALLOC_SIZES, get_order

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node


class SlabAllocator:
    """The caches of a node, and memory by the byte (kmalloc).  ``caches`` are listed as they were created.

    *debug*: every cache that is created from now on checks its objects (Linux: the boot option slab_debug=FZPU).
    """

    __slots__ = (
        "_fail_after",
        "_kmalloc",
        "caches",
        "debug",
        "large",
        "node",
        "nr_reclaimable",
        "nr_unreclaimable",
        "page_offset",
        "word",
    )

    def __init__(self, node: "Node", *, debug: bool = False) -> None:
        self.node = node
        self.page_offset = int(node.layout.page_offset)
        self.word = 8 if node.layout.mode.va_bits > 32 else 4  # bytes of a kernel pointer
        self.debug = debug
        self.caches: dict[str, KmemCache] = {}
        self.nr_reclaimable = 0  # frames: SReclaimable
        self.nr_unreclaimable = 0  # frames: SUnreclaim, blocks of kmalloc's own included
        self.large: dict[int, int] = {}  # blocks of frames that kmalloc gave out: first frame, order
        self._fail_after: int | None = None
        classes = [
            self.create(f"kmalloc-{_size_name(size)}", size, align=_kmalloc_align(size)) for size in KMALLOC_SIZES
        ]
        self._kmalloc: list[KmemCache] = []  # by (size + 7) / 8: the smallest that fits
        for cache in classes:
            self._kmalloc += [cache] * (cache.layout.object_size // 8 + 1 - len(self._kmalloc))

    # ---- caches

    def create(
        self, name: str, size: int, *, align: int = 0, flags: int = 0, ctor: Callable[[int], None] | None = None
    ) -> KmemCache:
        """A new cache of objects of *size* bytes (kmem_cache_create).  It has no frames yet."""
        assert name not in self.caches, f"kmem_cache_create: there is a cache {name}"
        cache = self.caches[name] = KmemCache(self, name, size, align=align, flags=flags, ctor=ctor)
        return cache

    def destroy(self, cache: KmemCache) -> None:
        """End a cache, of which no object is in use (kmem_cache_destroy)."""
        cache.shrink()
        left = cache.nr_in_use
        assert not left, f"kmem_cache_destroy: {cache.name}: {left} objects remain"
        del self.caches[cache.name]

    def shrink(self) -> int:
        """Shrink every cache; how many frames came back."""
        return sum(cache.shrink() for cache in self.caches.values())

    def account(self, cache: KmemCache, pages: int) -> None:
        """*cache* took *pages* frames, or gave them back."""
        if cache.is_reclaimable:
            self.nr_reclaimable += pages
        else:
            self.nr_unreclaimable += pages

    def in_use(self) -> dict[str, int]:
        """How many objects of each cache somebody holds; caches without any are left out."""
        return {name: held for name, cache in self.caches.items() if (held := cache.nr_in_use)}

    # ---- bytes

    def kmalloc(self, size: int, gfp: int = GFP_KERNEL) -> int:
        """The address of *size* contiguous bytes: from a cache up to 8 KiB, a block of frames beyond that.

        Errors:
            ENOMEM: no memory, or more than the largest block.
        """
        if size <= KMALLOC_MAX_CACHE_SIZE:
            return self.kmalloc_cache(size).alloc(gfp)
        order = get_order(size)
        pfn = self.node.alloc_pages(order, gfp) if order <= MAX_PAGE_ORDER else None
        if pfn is None:
            raise LinuxError(Errno.ENOMEM, f"kmalloc: no {size} contiguous bytes")
        self.node.mem_map.flags[pfn] |= PG_kernel
        self.large[pfn] = order
        self.nr_unreclaimable += 1 << order
        return self.page_offset + (pfn << PAGE_SHIFT)

    def kfree(self, address: int) -> None:
        """Give back what kmalloc, or a cache, gave."""
        pfn = Pfn((address - self.page_offset) >> PAGE_SHIFT)
        slab = self.node.mem_map.owner[pfn]
        if isinstance(slab, Slab):
            slab.cache.free(address)
            return
        assert pfn in self.large, f"kfree: {address:#x} was not allocated"
        assert not address & PAGE_MASK, f"kfree: {address:#x} lies inside an allocation"
        self.nr_unreclaimable -= 1 << self.large.pop(pfn)
        self.node.put_page(pfn)

    def kmalloc_cache(self, size: int) -> KmemCache:
        """The cache for *size* bytes, at most 8 KiB (kmalloc_slab)."""
        return self._kmalloc[(size + 7) >> 3]

    def write(self, address: int, data: bytes) -> None:
        """Store *data* at a direct-map address."""
        self.node.physmem.write(PhysAddr(address - self.page_offset), data)

    def read(self, address: int, count: int) -> bytes:
        """*count* bytes at a direct-map address."""
        return self.node.physmem.read(PhysAddr(address - self.page_offset), count)

    # ---- failure injection

    def fail_allocation(self, n: int | None) -> None:
        """Let one object's allocation fail: the next one for *n* = 0, and so on; None: none (Linux: failslab).

        Free when not armed; while it is, no cache has objects in hand and every allocation is counted.
        """
        self._fail_after = n
        for cache in self.caches.values():
            cache.arm(armed=n is not None)

    def injected_failure(self) -> bool:
        """Whether this allocation is the one that fail_allocation chose."""
        assert self._fail_after is not None, "injected_failure: nothing is armed"
        self._fail_after -= 1
        if self._fail_after >= 0:
            return False
        self.fail_allocation(None)
        return True

    @property
    def fails_soon(self) -> bool:
        """fail_allocation was called, and its allocation has not come yet."""
        return self._fail_after is not None


def _size_name(size: int) -> str:
    return f"{size >> 10}k" if size >= 1024 else str(size)


def _kmalloc_align(size: int) -> int:
    """Powers of two are aligned to themselves: kmalloc's promise since Linux 5.4."""
    return size if size & (size - 1) == 0 else 0
