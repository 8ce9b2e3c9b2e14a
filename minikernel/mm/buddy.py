"""The binary buddy allocator of one zone (Linux: mm/page_alloc.c, __free_one_page and __rmqueue_smallest).

A free list is a dict used as an ordered set: the last block freed is the first one handed out, a buddy is found and
taken out in constant time, and the order never depends on a hash.
"""

from typing import Final

from emu.x86 import Pfn
from minikernel.mm.page import MemMap, PG_buddy, PG_used

MAX_PAGE_ORDER: Final = 10


class BuddyAllocator:
    """Free blocks of 2**order frames in [start_pfn, end_pfn), order 0..MAX_PAGE_ORDER.

    Invariants, checked by validate():
        - a free block is aligned to its own size;
        - free blocks are disjoint;
        - no free block of order < MAX_PAGE_ORDER has a free buddy;
        - PG_buddy and the order column mark the first frame of each free block and no other frame.

    Deterministic: of the blocks of the smallest order that will do, the one freed last.
    """

    __slots__ = ("_flags", "_order", "end_pfn", "free_area", "mem_map", "nr_free", "start_pfn")

    def __init__(self, mem_map: MemMap, start_pfn: Pfn, end_pfn: Pfn) -> None:
        self.mem_map = mem_map
        self.start_pfn = start_pfn
        self.end_pfn = end_pfn
        self.nr_free = 0  # frames
        self.free_area: list[dict[int, None]] = [{} for _ in range(MAX_PAGE_ORDER + 1)]
        self._flags = mem_map.flags
        self._order = mem_map.order

    def alloc(self, order: int) -> Pfn | None:
        """First frame of a block of 2**order frames; None if there is none."""
        for current in range(order, MAX_PAGE_ORDER + 1):
            if self.free_area[current]:
                pfn = self._take_last(current)
                self._expand(pfn, current, order)
                return Pfn(pfn)
        return None

    def alloc_bulk(self, count: int) -> list[Pfn]:
        """Up to *count* frames, the same ones as *count* times alloc(0) gives, in the order it gives them."""
        taken: list[Pfn] = []
        order = 0
        while count and order <= MAX_PAGE_ORDER:
            if not self.free_area[order]:
                order += 1
                continue
            pfn = self._take_last(order)
            size = 1 << order
            if size > count:
                size = count
                self.free_range(pfn + count, pfn + (1 << order))
            taken.extend(range(pfn, pfn + size))  # type: ignore[arg-type]  # ints of a range of Pfn
            count -= size
            order = 0
        return taken

    def free(self, pfn: int, order: int) -> None:
        """Give a block back; it merges with its buddy as long as that one is free."""
        self.nr_free += 1 << order
        while order < MAX_PAGE_ORDER:
            buddy = pfn ^ (1 << order)
            if buddy not in self.free_area[order]:
                break
            self._delete(buddy, order)
            pfn &= buddy
            order += 1
        self._add(pfn, order)

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
        for order, blocks in enumerate(self.free_area):
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

    def validate(self) -> None:
        """Assert the class's invariants."""
        free = bytearray(self.end_pfn - self.start_pfn)
        for order, blocks in enumerate(self.free_area):
            size = 1 << order
            for pfn in blocks:
                where = f"BuddyAllocator.validate: block {pfn:#x} of order {order}"
                assert pfn % size == 0, f"{where} is not aligned"
                assert self.start_pfn <= pfn <= pfn + size <= self.end_pfn, f"{where} is outside its zone"
                assert self._flags[pfn] & ~PG_used == PG_buddy, f"{where} has flags {self._flags[pfn]:#x}"
                assert self._order[pfn] == order, f"{where} is marked as of order {self._order[pfn]}"
                assert order == MAX_PAGE_ORDER or pfn ^ size not in blocks, f"{where} has a free buddy"
                offset = pfn - self.start_pfn
                assert not any(free[offset : offset + size]), f"{where} overlaps another"
                assert not any(self.mem_map.refcount[pfn : pfn + size]), f"{where} holds a frame in use"
                free[offset : offset + size] = b"\1" * size
        assert sum(free) == self.nr_free, f"BuddyAllocator.validate: {sum(free)} frames free, {self.nr_free} counted"
        marked = sum(1 for pfn in range(self.start_pfn, self.end_pfn) if self._flags[pfn] & PG_buddy)
        blocks_free = sum(map(len, self.free_area))
        assert marked == blocks_free, f"BuddyAllocator.validate: {marked} blocks marked, {blocks_free} listed"

    def _add(self, pfn: int, order: int) -> None:
        self.free_area[order][pfn] = None
        self._flags[pfn] |= PG_buddy
        self._order[pfn] = order

    def _delete(self, pfn: int, order: int) -> None:
        del self.free_area[order][pfn]
        self._flags[pfn] &= ~PG_buddy
        self._order[pfn] = 0

    def _take_last(self, order: int) -> int:
        pfn = self.free_area[order].popitem()[0]
        self._flags[pfn] &= ~PG_buddy
        self._order[pfn] = 0
        self.nr_free -= 1 << order
        return pfn

    def _expand(self, pfn: int, high: int, low: int) -> None:
        """Put back what is left of a block of order *high* when its first 2**low frames are taken."""
        while high > low:
            high -= 1
            self._add(pfn + (1 << high), high)
            self.nr_free += 1 << high
