"""Taking clean file pages back when memory is short.  Linux: mm/vmscan.c, for which this stands in.

What it can take costs nothing but a read from the backing store later: cached pages that nobody maps and that are not
newer than their store.  A file larger than RAM can so be read on a small machine.  Anonymous memory stays: there is
no swap.
"""

from typing import Final

from emu.x86 import Pfn
from minikernel.mm.filemap import PageCache
from minikernel.mm.page_alloc import Node

SWAP_CLUSTER_MAX: Final = 32  # pages to take at a time: include/linux/swap.h


class CacheClock:
    """``Node.reclaim``: a hand goes round the frames and takes what can be spared."""

    __slots__ = ("hand", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.hand = 0

    def __call__(self, _order: int, _gfp: int) -> int:
        """Free up to SWAP_CLUSTER_MAX pages, in one round at most; how many."""
        mem_map = self.node.mem_map
        refcount = mem_map.refcount
        owner = mem_map.owner
        nr_frames = mem_map.nr_frames
        freed = 0
        hand = self.hand
        for _ in range(nr_frames):
            hand = hand + 1 if hand + 1 < nr_frames else 0
            # One reference is the cache's own: nobody maps the page, and no fault is about to.
            if refcount[hand] != 1:
                continue
            cache = owner[hand]
            if isinstance(cache, PageCache) and cache.release_page(Pfn(hand)):
                freed += 1
                if freed == SWAP_CLUSTER_MAX:
                    break
        self.hand = hand
        return freed
