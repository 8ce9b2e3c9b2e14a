"""Where a block comes from when the free lists of its migrate type are empty.  Linux: mm/page_alloc.c.

The largest block of another type is taken, and where that makes sense the whole pageblock changes sides: then the next
ones come from there as well, and the kinds stay apart.  Nothing is random: of the blocks of a list the one freed last.
"""

from typing import TYPE_CHECKING, Final

from emu.x86 import Pfn
from minikernel.mm.migratetype import FALLBACKS, MIGRATE_MOVABLE
from minikernel.mm.page import PG_anon, PG_buddy, PG_kernel, PG_lru, PG_swapbacked, PG_uptodate

if TYPE_CHECKING:
    from minikernel.mm.buddy import BuddyAllocator

_MAX_PAGE_ORDER: Final = 10  # buddy.py's, which imports us
_MOVABLE_FLAGS: Final = PG_anon | PG_swapbacked | PG_lru | PG_uptodate
"""A frame in use with one of them, and without PG_kernel, can be migrated: user memory, or of a page cache."""


def rmqueue_fallback(buddy: "BuddyAllocator", order: int, migratetype: int) -> Pfn | None:
    """A block of 2**order frames from another type's lists; None if they are all empty (__rmqueue_fallback)."""
    for current in range(_MAX_PAGE_ORDER, order - 1, -1):
        found = find_suitable_fallback(buddy, current, migratetype)
        if found is None:
            continue
        # A movable frame may lie anywhere: rather the smallest block than one that others could need whole.
        if migratetype == MIGRATE_MOVABLE and current > order and not can_steal_fallback(buddy, current, migratetype):
            return _take_smallest(buddy, order, migratetype)
        return _steal(buddy, current, order, migratetype, found)
    return None


def find_suitable_fallback(buddy: "BuddyAllocator", order: int, migratetype: int) -> int | None:
    """The first other type that has a free block of exactly *order* (Linux: same name)."""
    for other in FALLBACKS[migratetype]:
        if buddy.lists[other][order]:
            return other
    return None


def can_steal_fallback(buddy: "BuddyAllocator", order: int, migratetype: int) -> bool:
    """Whether *migratetype* may want the rest of the pageblock too (Linux: same name)."""
    return order >= buddy.mem_map.block_order // 2 or migratetype != MIGRATE_MOVABLE


def _take_smallest(buddy: "BuddyAllocator", order: int, migratetype: int) -> Pfn:
    """The smallest block of another type that will do; the caller has seen one."""
    current = order
    while (found := find_suitable_fallback(buddy, current, migratetype)) is None:
        current += 1
    return _steal(buddy, current, order, migratetype, found)


def _steal(buddy: "BuddyAllocator", current: int, order: int, migratetype: int, victim: int) -> Pfn:
    """Take a block of order *current* from *victim*'s list (steal_suitable_fallback)."""
    blocks = buddy.lists[victim][current]
    pfn = next(reversed(blocks))
    if current >= buddy.mem_map.block_order:
        del blocks[pfn]
        buddy.set_block_type(pfn, current, migratetype)
        buddy.nr_stolen += 1
        return buddy.take(pfn, current, order, migratetype)
    if can_steal_fallback(buddy, current, migratetype) and _is_worth_it(buddy, pfn, migratetype, victim):
        buddy.move_freepages_block(pfn, migratetype)
        buddy.nr_stolen += 1
        taken = buddy.rmqueue_smallest(order, migratetype)
        assert taken is not None, "steal_suitable_fallback: the pageblock had a block of that order"
        return taken
    del blocks[pfn]
    buddy.nr_mixed += 1
    return buddy.take(pfn, current, order, victim)


def _is_worth_it(buddy: "BuddyAllocator", pfn: int, migratetype: int, victim: int) -> bool:
    """Whether half of the pageblock of *pfn* is free or of a compatible kind."""
    free, movable = count_block(buddy, pfn)
    size = 1 << buddy.mem_map.block_order
    alike = 0
    if migratetype == MIGRATE_MOVABLE:
        alike = movable
    elif victim == MIGRATE_MOVABLE:
        # What is neither free nor movable in a movable pageblock is of our kind, as far as anybody can tell.
        alike = size - free - movable
    return free + alike >= size // 2


def count_block(buddy: "BuddyAllocator", pfn: int) -> tuple[int, int]:
    """Free and movable frames in the pageblock of *pfn* (prep_move_freepages_block)."""
    flags = buddy.mem_map.flags
    block_order = buddy.mem_map.block_order
    at = pfn >> block_order << block_order
    end = min(at + (1 << block_order), buddy.end_pfn)
    free = movable = 0
    while at < end:
        if flags[at] & PG_buddy:
            size = 1 << buddy.mem_map.order[at]
            free += size
            at += size
            continue
        if flags[at] & _MOVABLE_FLAGS and not flags[at] & PG_kernel:
            movable += 1
        at += 1
    return free, movable
