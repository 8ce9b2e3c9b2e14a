"""How a cache of objects is laid out in frames: sizes, alignment, order.  Linux: mm/slub.c, mm/slab_common.c.

Numbers only, so that objperslab and pagesperslab of /proc/slabinfo are those of a Linux machine with one CPU.
"""

from typing import Final

from msgspec import Struct

from emu.x86 import PAGE_SHIFT, PAGE_SIZE
from minikernel.mm.buddy import MAX_PAGE_ORDER

# Flags of a cache: include/linux/slab.h.
SLAB_CONSISTENCY_CHECKS: Final = 0x0000_0100  # look at every object when it comes and goes
SLAB_RED_ZONE: Final = 0x0000_0400  # bytes around an object tell when somebody wrote beside it
SLAB_POISON: Final = 0x0000_0800  # a free object is filled with a pattern
SLAB_HWCACHE_ALIGN: Final = 0x0000_2000  # objects start at cache lines
SLAB_STORE_USER: Final = 0x0001_0000  # who took and who gave back an object
SLAB_RECLAIM_ACCOUNT: Final = 0x0002_0000  # a shrinker can give the objects back: SReclaimable
SLAB_PANIC: Final = 0x0004_0000

SLAB_DEBUG_FLAGS: Final = SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER

CACHE_LINE: Final = 64
TRACK_SIZE: Final = 24  # bytes of one struct track in a debug object: site, pid, time
MAX_ORDER_WANTED: Final = 3  # slub_max_order: PAGE_ALLOC_COSTLY_ORDER
KMALLOC_MAX_CACHE_SIZE: Final = 2 * PAGE_SIZE

KMALLOC_SIZES: Final = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)


class SlabLayout(Struct, frozen=True):
    """One cache's figures, in bytes but for the last three.

    An object at *address* has its left red zone in the *red_left* bytes before it, *object_size* bytes of its own, a
    right red zone and padding up to *inuse*, and in debug caches the free pointer's place and two tracks behind.
    """

    object_size: int
    size: int  # from one object to the next: objsize of /proc/slabinfo
    align: int
    inuse: int  # where the object's metadata begins
    track: int  # offset of the first track from the object, 0: none
    red_left: int
    order: int  # of a slab
    min_order: int  # of a slab when memory is fragmented
    objects: int  # in a slab of *order*

    def objects_of(self, order: int) -> int:
        """How many objects a slab of *order* has room for."""
        return (PAGE_SIZE << order) // self.size


def slab_layout(object_size: int, word: int, *, align: int = 0, flags: int = 0, has_ctor: bool = False) -> SlabLayout:
    """The layout of a cache (calculate_sizes).  *word*: bytes of a kernel pointer.

    Raises:
        ValueError: an object that does not fit the largest block.
    """
    align = calculate_alignment(flags, align, object_size, word)
    size = _round_up(object_size, word)
    if flags & SLAB_RED_ZONE and size == object_size:
        size += word
    inuse = size
    track = red_left = 0
    if flags & SLAB_POISON or has_ctor:
        size += word  # a free object's bytes mean something: the link of the free list needs a place of its own
    if flags & SLAB_STORE_USER:
        track = size
        size += 2 * TRACK_SIZE
    if flags & SLAB_RED_ZONE:
        red_left = _round_up(word, align)
        size += red_left + word
    size = _round_up(size, align)
    order = calculate_order(size)
    return SlabLayout(
        object_size=object_size,
        size=size,
        align=align,
        inuse=inuse,
        track=track,
        red_left=red_left,
        order=order,
        min_order=get_order(size),
        objects=(PAGE_SIZE << order) // size,
    )


def calculate_alignment(flags: int, align: int, size: int, word: int) -> int:
    """The alignment of objects: of a cache line, or the part of one that small objects fill (same name)."""
    if flags & SLAB_HWCACHE_ALIGN:
        line = CACHE_LINE
        while size <= line // 2:
            line //= 2
        align = max(align, line)
    return _round_up(max(align, word), word)


def calculate_order(size: int, nr_cpus: int = 1) -> int:
    """The order of a slab: few wasted bytes, and enough objects for the CPUs (same name).

    Raises:
        ValueError: nothing is large enough.
    """
    min_objects = 4 * (nr_cpus.bit_length() + 1)
    min_objects = min(min_objects, max((PAGE_SIZE << MAX_ORDER_WANTED) // size, 1))
    min_order = get_order(min_objects * size)
    for fraction in (16, 8, 4, 2):  # how much of a slab may be wasted: the larger the waste, the later
        for order in range(min_order, MAX_ORDER_WANTED + 1):
            slab_size = PAGE_SIZE << order
            if slab_size % size <= slab_size // fraction:
                return order
    order = get_order(size)
    if order > MAX_PAGE_ORDER:
        raise ValueError(f"objects of {size} bytes")
    return order


def min_partial(size: int) -> int:
    """How many slabs with free objects a cache keeps before it gives empty ones back (set_min_partial)."""
    return max(5, min((size.bit_length() - 1) // 2, 10))


def get_order(size: int) -> int:
    """The order of the smallest block of at least *size* bytes (Linux: same name)."""
    return (max(size - 1, 0) >> PAGE_SHIFT).bit_length()


def _round_up(value: int, align: int) -> int:
    return -(-value // align) * align
