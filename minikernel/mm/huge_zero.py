"""The huge zero page: one block of zeroes for all huge pages that were only read.  Linux: mm/huge_memory.c.

It is made when the first address space needs it, and may go when the last one that used it has ended.
"""

from typing import TYPE_CHECKING

from emu.x86 import PAGE_SHIFT, Pfn
from minikernel.mm.gfp import GFP_DIRECT_RECLAIM, GFP_HIGHUSER, GFP_KSWAPD_RECLAIM, GFP_ZERO
from minikernel.mm.page import PG_exec, PG_kernel

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.page_alloc import Node


class HugeZeroPage:
    """``Node.huge_zero``.

    Invariant: an address space whose page table shows the block is one of *users*.
    """

    __slots__ = ("_node", "pfn", "users")

    name = "thp-zero"

    def __init__(self, node: "Node") -> None:
        self._node = node
        self.pfn = Pfn(0)  # 0: there is none
        self.users: dict[MmStruct, None] = {}
        node.shrinkers.append(self)

    def get(self, mm: "MmStruct", *, executable: bool) -> Pfn | None:
        """The block's first frame, for *mm* until it ends; None if there is no memory (mm_get_huge_zero_folio)."""
        node = self._node
        if not self.pfn:
            gfp = (GFP_HIGHUSER | GFP_ZERO) & ~(GFP_DIRECT_RECLAIM | GFP_KSWAPD_RECLAIM)
            pfn = node.alloc_pages(node.layout.mode.levels[-2].shift - PAGE_SHIFT, gfp)
            if pfn is None:
                node.vmstat["thp_zero_page_alloc_failed"] += 1
                return None
            node.vmstat["thp_zero_page_alloc"] += 1
            node.mem_map.flags[pfn] |= PG_kernel
            self.pfn = pfn
        if executable:
            for frame in range(self.pfn, self.pfn + (1 << node.mem_map.order[self.pfn])):
                node.mem_map.flags[frame] |= PG_exec  # its translations are dropped when the block is freed
        self.users[mm] = None
        return self.pfn

    def share(self, mm: "MmStruct", child: "MmStruct") -> None:
        """*child* gets a copy of *mm*'s page table."""
        if mm in self.users:
            self.users[child] = None

    def put(self, mm: "MmStruct") -> None:
        """*mm* has ended."""
        self.users.pop(mm, None)

    def count_objects(self) -> int:
        """Frames that scan_objects would free (shrink_huge_zero_folio_count)."""
        return 1 << self._node.mem_map.order[self.pfn] if self.pfn and not self.users else 0

    def scan_objects(self, nr_to_scan: int) -> int:
        """Free the block if nobody uses it (shrink_huge_zero_folio_scan); how many frames that was."""
        if not nr_to_scan or not self.pfn or self.users:
            return 0
        order = self._node.mem_map.order[self.pfn]
        self._node.put_page(self.pfn)
        self.pfn = Pfn(0)
        return 1 << order
