"""The pool of huge pages that MAP_HUGETLB hands out.  Linux: mm/hugetlb.c (struct hstate).

A huge page is a block of frames, set aside by vm.nr_hugepages.  It is one thing: the first frame has the counts, the
flag PG_huge, the owner and the index (in small pages); it is never split, swapped or reclaimed, and is on no LRU list.
A page in the pool has one reference, the pool's, which goes with the page to whoever gets it.

A mapping reserves its pages when it is made, so that its faults find them.  Beyond the persistent pages there may be up
to vm.nr_overcommit_hugepages *surplus* ones, which go back to the buddy allocator as soon as they are free.
"""

from typing import TYPE_CHECKING

from emu.x86 import PAGE_SHIFT, Pfn
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.gfp import GFP_HIGHUSER
from minikernel.mm.page import PG_exec, PG_huge

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.page_alloc import Node


class HugetlbPool:
    """``Node.hugetlb``.

    Invariants, checked by validate():
        - reserved <= len(free), and surplus <= total;
        - each free page has PG_huge and one reference, and nobody maps it.
    """

    __slots__ = ("_node", "free", "nr_overcommit", "order", "reserved", "surplus", "total")

    def __init__(self, node: "Node") -> None:
        self._node = node
        self.order = node.layout.mode.levels[-2].shift - PAGE_SHIFT
        self.free: list[Pfn] = []
        self.total = 0  # pages there are, in use or free: HugePages_Total
        self.surplus = 0  # of them, beyond nr_hugepages
        self.reserved = 0  # free ones that are promised to mappings: HugePages_Rsvd
        self.nr_overcommit = 0  # how many surplus pages there may be

    @property
    def size(self) -> int:
        """Bytes of a huge page."""
        return 1 << (self.order + PAGE_SHIFT)

    @property
    def persistent(self) -> int:
        """What vm.nr_hugepages says."""
        return self.total - self.surplus

    @property
    def has_unpromised(self) -> bool:
        """Whether a fault without a promise finds a page, memory for a surplus one permitting."""
        return len(self.free) > self.reserved or self.surplus < self.nr_overcommit

    def set_nr(self, count: int) -> None:
        """Make *count* pages persistent, or as many as can be had or given up: set_max_huge_pages."""
        while self.surplus and count > self.persistent:
            self.surplus -= 1
        while count > self.persistent and self._grow():
            pass
        least = max(count, self.reserved + self.total - len(self.free))
        while least < self.persistent and self.free:
            self._release(self.free.pop())
        while count < self.persistent:
            self.surplus += 1  # it goes when it is free

    def reserve(self, count: int) -> None:
        """Promise *count* more pages: hugetlb_acct_memory, gather_surplus_pages.

        Errors:
            ENOMEM: there are not so many, not even as surplus.
        """
        missing = self.reserved + count - len(self.free)
        for got in range(missing):
            if self.surplus >= self.nr_overcommit or not self._grow():
                self.surplus -= got
                for _ in range(got):
                    self._release(self.free.pop())
                raise LinuxError(Errno.ENOMEM, f"{count} huge pages are not to be had")
            self.surplus += 1
        self.reserved += count

    def unreserve(self, count: int) -> None:
        """*count* promises were not needed; surplus pages that were made for them go: return_unused_surplus_pages."""
        self.reserved -= count
        for _ in range(min(count, self.surplus, len(self.free) - self.reserved)):
            self.surplus -= 1
            self._release(self.free.pop())

    def take(self, *, promised: bool) -> Pfn | None:
        """A page for a fault; *promised*: by a reservation, which it uses up.  None: none is left.

        Its contents are unknown.  Linux: alloc_hugetlb_folio.
        """
        if promised:
            self.reserved -= 1
        elif len(self.free) <= self.reserved:
            if self.surplus >= self.nr_overcommit or not self._grow():
                return None
            self.surplus += 1
        return self.free.pop()

    def drop(self, pfn: Pfn) -> None:
        """One reference to the page less; the last one gives it back to the pool: free_huge_folio."""
        mem_map = self._node.mem_map
        if mem_map.refcount[pfn] > 1:
            mem_map.refcount[pfn] -= 1
            return
        assert not mem_map.mapcount[pfn], f"HugetlbPool.drop: huge page {pfn:#x} is still mapped"
        mem_map.owner[pfn] = None
        if mem_map.flags[pfn] & PG_exec:
            self.mark_data(pfn)
        if self.surplus:
            self.surplus -= 1
            self._release(pfn)
        else:
            self.free.append(pfn)

    # ---- code (icache.py); a huge page is code or data as a whole

    def mark_code(self, pfn: Pfn) -> None:
        """An executable entry will map the page."""
        for frame in range(pfn, pfn + (1 << self.order)):
            self._node.mem_map.flags[frame] |= PG_exec

    def mark_data(self, pfn: Pfn) -> None:
        """Nobody executes the page any more: its translations go."""
        for frame in range(pfn, pfn + (1 << self.order)):
            self._node.mem_map.flags[frame] &= ~PG_exec
            self._node.stale_code.append(Pfn(frame))

    def validate(self) -> None:
        """Assert the invariants."""
        mem_map = self._node.mem_map
        assert 0 <= self.reserved <= len(self.free), f"HugetlbPool: {self.reserved} of {len(self.free)} are reserved"
        assert 0 <= self.surplus <= self.total, f"HugetlbPool: {self.surplus} of {self.total} are surplus"
        marked = sum(1 for flags in mem_map.flags if flags & PG_huge)
        assert marked == self.total, f"HugetlbPool: {marked} huge pages, {self.total} counted"
        for pfn in self.free:
            where = f"HugetlbPool: free huge page {pfn:#x}"
            assert mem_map.flags[pfn] & PG_huge, f"{where} is not marked"
            assert mem_map.refcount[pfn] == 1, f"{where} has {mem_map.refcount[pfn]} references"
            assert not mem_map.mapcount[pfn], f"{where} is mapped"

    def _grow(self) -> bool:
        """One page more, from the buddy allocator: alloc_fresh_hugetlb_folio."""
        pfn = self._node.alloc_pages(self.order, GFP_HIGHUSER)
        if pfn is None:
            self._node.vmstat["htlb_buddy_alloc_fail"] += 1
            return False
        self._node.vmstat["htlb_buddy_alloc_success"] += 1
        self._node.mem_map.flags[pfn] |= PG_huge
        self.total += 1
        self.free.append(pfn)
        return True

    def _release(self, pfn: Pfn) -> None:
        """One page less: back to the buddy allocator."""
        self.total -= 1
        self._node.mem_map.flags[pfn] &= ~PG_huge
        self._node.put_page(pfn)


def unmap_hugepage_range(mm: "MmStruct", start: int, end: int) -> None:
    """Take the pool's pages out of [*start*, *end*), which holds them as a whole.  Linux: same name."""
    mem_map = mm.mem_map
    for address, leaf in mm.pgtable.large_leaves(start, end):
        pfn = huge_pfn(leaf)
        if mem_map.flags[pfn] & PG_huge:
            mm.pgtable.clear_large(address)
            mem_map.mapcount[pfn] -= 1
            mm.node.hugetlb.drop(pfn)
            mm.tlb_dirty = True


def huge_pfn(leaf: int) -> Pfn:
    """The first frame that a large leaf maps, in every mode: what lies above bit 20 is the frame's, the rest rights."""
    return Pfn((leaf & _BLOCK) >> PAGE_SHIFT)


_BLOCK = 0x000F_FFFF_FFE0_0000
