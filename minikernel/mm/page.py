"""struct page as columns: one row per frame of RAM, kept in flat arrays (Linux: include/linux/mm_types.h).

The fault path reads and writes a few scalars, and an ``array`` serves one in 30 ns; reports look at whole columns
through ``numpy.frombuffer`` without a copy.  The arrays are never resized, so every room may keep its own reference
to a column.  A row costs 33 bytes: 25 MiB for the largest machine of 3 GiB.
"""

from array import array
from typing import Final

from emu.x86 import Pfn

# Flags.  Bits 0-26 and 32-33 have the numbers of /proc/kpageflags (include/uapi/linux/kernel-page-flags.h), so that
# file is this column; bits 27-30 are ours, in a gap of that list, most below 2**30 where Python's ints are fastest.
PG_locked: Final = 1 << 0  # under I/O: nobody else may touch the contents
PG_referenced: Final = 1 << 2  # used since reclaim last looked
PG_uptodate: Final = 1 << 3  # the contents are those of the backing store, or newer
PG_dirty: Final = 1 << 4  # newer than the backing store
PG_lru: Final = 1 << 5  # on an LRU list
PG_active: Final = 1 << 6  # on an active one
PG_slab: Final = 1 << 7  # holds the kernel's own objects
PG_writeback: Final = 1 << 8  # being written to the backing store
PG_reclaim: Final = 1 << 9  # to be reclaimed as soon as it is written
PG_buddy: Final = 1 << 10  # first frame of a free block of 2**order frames
PG_anon: Final = 1 << 12  # maps anonymous memory; owner is an AnonVma
PG_swapcache: Final = 1 << 13  # has a slot in swap as well
PG_swapbacked: Final = 1 << 14  # goes to swap when reclaimed: anonymous or shared memory
PG_head: Final = 1 << 15  # first frame of an allocated block of 2**order > 1 frames
PG_tail: Final = 1 << 16  # any other frame of such a block
PG_huge: Final = 1 << 17  # first frame of a huge page of the pool: hugetlb_pool.py
PG_unevictable: Final = 1 << 18  # reclaim leaves it alone
PG_table: Final = 1 << 26  # a paging structure; owner is its PageTable
PG_used: Final = 1 << 27  # was freed at least once since boot: not known to be zero when it is allocated again
PG_exec: Final = 1 << 28  # code of it may be translated, see icache.py
PG_kernel: Final = 1 << 29  # the kernel's own
PG_workingset: Final = 1 << 30  # was in use when it was evicted last, or is because it came back soon
PG_reserved: Final = 1 << 32  # never in the allocator's hands
PG_mlocked: Final = 1 << 33  # some VMA with VM_LOCKED maps it

PG_CHECK_AT_FREE: Final = (
    PG_locked | PG_slab | PG_writeback | PG_buddy | PG_swapcache | PG_tail | PG_huge | PG_table | PG_reserved
)
"""Flags that a frame must have lost before its last reference goes (Linux: PAGE_FLAGS_CHECK_AT_FREE).

PG_lru goes with it."""


class MemMap:
    """The columns (Linux: mem_map).  A frame's number is the index in each of them.

    Invariants:
        - a free frame has refcount 0, mapcount 0, owner None, and no flag but PG_used and PG_buddy;
        - mapcount <= refcount for every frame that is not reserved.

    *block_type* has a row for each pageblock of 2**block_order frames: its migrate type (migratetype.py).
    """

    __slots__ = (
        "block_order",
        "block_type",
        "flags",
        "index",
        "mapcount",
        "nr_frames",
        "order",
        "owner",
        "refcount",
    )

    def __init__(self, nr_frames: int, block_order: int = 9) -> None:
        self.nr_frames = nr_frames
        self.block_order = block_order
        self.block_type = bytearray(b"\1") * ((nr_frames >> block_order) + 1)  # all movable
        self.refcount = array("i", bytes(4 * nr_frames))  # users: page-table entries, caches, the kernel; 0 is free
        self.mapcount = array("i", bytes(4 * nr_frames))  # page-table entries that map the frame; 0 is unmapped
        self.flags = array("Q", bytes(8 * nr_frames))  # PG_*
        self.order = array("b", bytes(nr_frames))  # of the block, if PG_buddy or PG_head
        self.owner: list[object | None] = [None] * nr_frames  # AnonVma, PageCache, PageTable
        self.index = array("Q", bytes(8 * nr_frames))  # offset in the owner, in pages

    def dup_mappings(self, pfns: list[Pfn]) -> None:
        """One more page-table entry maps each of *pfns*; a frame may be listed several times."""
        refcount = self.refcount
        mapcount = self.mapcount
        for pfn in pfns:
            refcount[pfn] += 1
            mapcount[pfn] += 1
