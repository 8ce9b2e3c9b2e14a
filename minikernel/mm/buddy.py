"""The binary buddy allocator of one zone (Linux: mm/page_alloc.c, __free_one_page and __rmqueue_smallest).

A free list is a dict used as an ordered set: the last block freed is the first one handed out, a buddy is found and
taken out in constant time, and the order never depends on a hash.  There is one for each order and migrate type; what
happens when those of a type are empty is in fallback.py.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from emu.x86 import Pfn
from minikernel.mm.fallback import rmqueue_fallback
from minikernel.mm.migratetype import MIGRATE_MOVABLE, MIGRATE_PCPTYPES
from minikernel.mm.page import MemMap, PG_buddy, PG_used

MAX_PAGE_ORDER: Final = 10


class FreeArea:
    """The free blocks of one order, of all migrate types: struct free_area."""

    __slots__ = ("lists",)

    def __init__(self, lists: tuple[dict[int, None], ...]) -> None:
        self.lists = lists  # by type

    def __len__(self) -> int:
        return sum(map(len, self.lists))

    def __bool__(self) -> bool:
        return any(self.lists)

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.lists)

    def __contains__(self, pfn: object) -> bool:
        return any(pfn in blocks for blocks in self.lists)


class BuddyAllocator:
    """Free blocks of 2**order frames in [start_pfn, end_pfn), order 0..MAX_PAGE_ORDER.

    Invariants, checked by validate():
        - a free block is aligned to its own size;
        - free blocks are disjoint;
        - no free block of order < MAX_PAGE_ORDER has a free buddy;
        - PG_buddy and the order column mark the first frame of each free block and no other frame;
        - a free block is on the list of its pageblock's type, and of one larger than that all have its type.

    Deterministic: of the blocks of the smallest order that will do, the one freed last.
    ``lists`` are the free lists by type and order, ``free_area`` the same by order.
    """

    __slots__ = (
        "_block_order",
        "_block_type",
        "_flags",
        "_order",
        "end_pfn",
        "free_area",
        "lists",
        "mem_map",
        "nr_free",
        "nr_mixed",
        "nr_stolen",
        "on_block_type",
        "start_pfn",
    )

    def __init__(self, mem_map: MemMap, start_pfn: Pfn, end_pfn: Pfn) -> None:
        self.mem_map = mem_map
        self.start_pfn = start_pfn
        self.end_pfn = end_pfn
        self.nr_free = 0  # frames
        self.lists: tuple[list[dict[int, None]], ...] = tuple(
            [{} for _ in range(MAX_PAGE_ORDER + 1)] for _ in range(MIGRATE_PCPTYPES)
        )
        self.free_area = [FreeArea(tuple(lists[order] for lists in self.lists)) for order in range(MAX_PAGE_ORDER + 1)]
        self.on_block_type: Callable[[int, int], None] | None = None  # told of a pageblock and its new type
        self.nr_stolen = 0  # pageblocks that changed their type
        self.nr_mixed = 0  # blocks that were taken out of another type's pageblock
        self._block_order = mem_map.block_order
        self._block_type = mem_map.block_type
        self._flags = mem_map.flags
        self._order = mem_map.order

    def alloc(self, order: int, migratetype: int = MIGRATE_MOVABLE) -> Pfn | None:
        """First frame of a block of 2**order frames for *migratetype*; None if there is none at all (__rmqueue)."""
        pfn = self.rmqueue_smallest(order, migratetype)
        if pfn is None:
            pfn = rmqueue_fallback(self, order, migratetype)
        return pfn

    def rmqueue_smallest(self, order: int, migratetype: int) -> Pfn | None:
        """The same, from the lists of that type alone (__rmqueue_smallest)."""
        lists = self.lists[migratetype]
        for current in range(order, MAX_PAGE_ORDER + 1):
            if lists[current]:
                return self.take(lists[current].popitem()[0], current, order, migratetype)
        return None

    def take(self, pfn: int, current: int, order: int, migratetype: int) -> Pfn:
        """A block of order *current* just left its list: keep the first 2**order frames (page_del_and_expand)."""
        self._flags[pfn] &= ~PG_buddy
        self._order[pfn] = 0
        self.nr_free -= 1 << current
        self._expand(pfn, current, order, migratetype)
        return Pfn(pfn)

    def alloc_bulk(self, count: int, migratetype: int = MIGRATE_MOVABLE) -> list[Pfn]:
        """Up to *count* frames, the same ones as *count* times alloc(0) gives, in the order it gives them."""
        taken: list[Pfn] = []
        lists = self.lists[migratetype]
        order = 0
        while count:
            if order > MAX_PAGE_ORDER:
                pfn = rmqueue_fallback(self, 0, migratetype)
                if pfn is None:
                    break
                taken.append(pfn)
                count -= 1
                order = 0
                continue
            if not lists[order]:
                order += 1
                continue
            start = lists[order].popitem()[0]
            self._flags[start] &= ~PG_buddy
            self._order[start] = 0
            size = 1 << order
            self.nr_free -= size
            if size > count:
                size = count
                self.free_range(start + count, start + (1 << order))
            taken.extend(range(start, start + size))  # type: ignore[arg-type]  # ints of a range of Pfn
            count -= size
            order = 0
        return taken

    def free(self, pfn: int, order: int) -> None:
        """Give a block back; it merges with its buddy as long as that one is free."""
        self.nr_free += 1 << order
        migratetype = self._block_type[pfn >> self._block_order]
        lists = self.lists[migratetype]
        while order < MAX_PAGE_ORDER:
            buddy = pfn ^ (1 << order)
            if buddy in lists[order]:
                del lists[order][buddy]
            elif order < self._block_order or not self._adopt(buddy, order, migratetype):
                break
            self._flags[buddy] &= ~PG_buddy
            self._order[buddy] = 0
            pfn &= buddy
            order += 1
        lists[order][pfn] = None
        self._flags[pfn] |= PG_buddy
        self._order[pfn] = order

    def _adopt(self, buddy: int, order: int, migratetype: int) -> bool:
        """Take a free block of whole pageblocks of another type off its list; they become *migratetype*."""
        if buddy not in self.free_area[order]:
            return False
        self._unlist(buddy, order)
        self.set_block_type(buddy, order, migratetype)
        return True

    def free_range(self, start: int, end: int) -> None:
        """Give [start, end) back, which was handed out or never was here."""
        pfn = end
        # From the top: the lowest block is put in last and so handed out first.
        while pfn > start:
            order = min((pfn & -pfn).bit_length() - 1, (pfn - start).bit_length() - 1, MAX_PAGE_ORDER)
            pfn -= 1 << order
            self.free(pfn, order)

    def free_bulk(self, pfns: list[Pfn]) -> None:
        """Give single frames back, in runs where they are neighbours: much cheaper than one by one."""
        start = end = 0
        for pfn in sorted(pfns):
            if pfn != end:
                if end - start == 1:
                    self.free(start, 0)
                else:
                    self.free_range(start, end)
                start = pfn
            end = pfn + 1
        self.free_range(start, end)

    def find_block(self, pfn: int) -> tuple[int, int] | None:
        """First frame and order of the free block that holds *pfn*; None if the frame is not free."""
        lists = self.lists[self._block_type[pfn >> self._block_order]]
        for order, blocks in enumerate(lists):
            head = pfn & -(1 << order)
            if head in blocks:
                return head, order
        return None

    def take_range(self, start: int, end: int) -> bool:
        """Take exactly the frames [start, end) out; False, and nothing is taken, if one of them is not free."""
        blocks: list[tuple[int, int]] = []
        pfn = start
        while pfn < end:
            block = self.find_block(pfn)
            if block is None:
                return False
            blocks.append(block)
            pfn = block[0] + (1 << block[1])
        for head, order in blocks:
            self._delete(head, order)
            self.nr_free -= 1 << order
        if blocks:
            self.free_range(blocks[0][0], start)
            self.free_range(end, pfn)
        return True

    def find_range(self, nr_pages: int, align: int) -> Pfn | None:
        """Lowest multiple of *align* where *nr_pages* free frames begin; None if there is none."""
        run_start = run_end = -1
        for head, size in sorted((head, 1 << order) for order, blocks in enumerate(self.free_area) for head in blocks):
            if head != run_end:
                run_start = head
            run_end = head + size
            aligned = -(-run_start // align) * align
            if aligned + nr_pages <= run_end:
                return Pfn(aligned)
        return None

    def _listed(self) -> Iterator[tuple[int, int, int]]:
        """Order, type and first frame of every free block."""
        for migratetype, lists in enumerate(self.lists):
            for order, blocks in enumerate(lists):
                for pfn in blocks:
                    yield order, migratetype, pfn

    def validate(self) -> None:
        """Assert the class's invariants."""
        free = bytearray(self.end_pfn - self.start_pfn)
        for order, migratetype, pfn in self._listed():
            size = 1 << order
            where = f"BuddyAllocator.validate: block {pfn:#x} of order {order}"
            assert pfn % size == 0, f"{where} is not aligned"
            assert self.start_pfn <= pfn <= pfn + size <= self.end_pfn, f"{where} is outside its zone"
            assert self._flags[pfn] & ~PG_used == PG_buddy, f"{where} has flags {self._flags[pfn]:#x}"
            assert self._order[pfn] == order, f"{where} is marked as of order {self._order[pfn]}"
            buddy_free = order < MAX_PAGE_ORDER and pfn ^ size in self.free_area[order]
            assert not buddy_free, f"{where} has a free buddy"
            types = set(self._block_type[pfn >> self._block_order : (pfn + size - 1 >> self._block_order) + 1])
            assert types == {migratetype}, f"{where} is on list {migratetype}, its pageblocks are of {types}"
            offset = pfn - self.start_pfn
            assert not any(free[offset : offset + size]), f"{where} overlaps another"
            assert not any(self.mem_map.refcount[pfn : pfn + size]), f"{where} holds a frame in use"
            free[offset : offset + size] = b"\1" * size
        assert sum(free) == self.nr_free, f"BuddyAllocator.validate: {sum(free)} frames free, {self.nr_free} counted"
        marked = sum(1 for pfn in range(self.start_pfn, self.end_pfn) if self._flags[pfn] & PG_buddy)
        blocks_free = sum(map(len, self.free_area))
        assert marked == blocks_free, f"BuddyAllocator.validate: {marked} blocks marked, {blocks_free} listed"

    def _delete(self, pfn: int, order: int) -> None:
        """Take a block off its list, as it is."""
        self._unlist(pfn, order)
        self._flags[pfn] &= ~PG_buddy
        self._order[pfn] = 0

    def _unlist(self, pfn: int, order: int) -> None:
        del self.lists[self._block_type[pfn >> self._block_order]][order][pfn]

    def _expand(self, pfn: int, high: int, low: int, migratetype: int) -> None:
        """Put back what is left of a block of order *high* when its first 2**low frames are taken (expand)."""
        lists = self.lists[migratetype]
        while high > low:
            high -= 1
            rest = pfn + (1 << high)
            lists[high][rest] = None
            self._flags[rest] |= PG_buddy
            self._order[rest] = high
            self.nr_free += 1 << high

    # ---- pageblocks

    def set_block_type(self, pfn: int, order: int, migratetype: int) -> None:
        """The pageblocks of a block of at least their order are *migratetype* (change_pageblock_range)."""
        for block in range(pfn >> self._block_order, (pfn + (1 << order)) >> self._block_order):
            self._block_type[block] = migratetype
            if self.on_block_type is not None:
                self.on_block_type(block, migratetype)

    def move_freepages_block(self, pfn: int, migratetype: int) -> int:
        """The pageblock of *pfn* becomes *migratetype*, and its free blocks change lists; how many frames they have.

        None of them is larger than the pageblock: the caller has a smaller one, which is a part of it.
        """
        head = pfn >> self._block_order << self._block_order
        end = head + (1 << self._block_order)
        old = self._block_type[head >> self._block_order]
        moved = 0
        at = head
        while at < min(end, self.end_pfn):
            if not self._flags[at] & PG_buddy:
                at += 1
                continue
            order = self._order[at]
            del self.lists[old][order][at]
            self.lists[migratetype][order][at] = None
            moved += 1 << order
            at += 1 << order
        self.set_block_type(head, self._block_order, migratetype)
        return moved
