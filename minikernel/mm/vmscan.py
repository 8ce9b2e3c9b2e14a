"""Taking pages back when memory is short.  Linux: mm/vmscan.c.

    alloc_page, below low     wakes kswapd, which reclaims until every zone is above high (``balance``)
    alloc_page, below min     reclaims itself before it goes on (``try_to_free_pages``)
    neither helps             the OOM killer (``page_alloc.Node._alloc_slow``)

Both ask the policy for victims, with rising urgency: *priority* 12 looks at a 4096th of each list, 0 at all of it.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from emu.x86 import Pfn
from minikernel.events import MmVmscan
from minikernel.mm.evict import Verdict, evict
from minikernel.mm.filemap import PageCache
from minikernel.mm.gfp import GFP_FS, GFP_IO, GFP_ZONEMASK
from minikernel.mm.page import PG_lru, PG_swapbacked
from minikernel.mm.page_alloc import Node
from minikernel.mm.policy.base import DEF_PRIORITY, SWAP_CLUSTER_MAX, Scan
from minikernel.mm.shrinker import shrink_slab
from minikernel.mm.zone import WMARK_HIGH, Zone

_RESCUE_PRIORITY: Final = 4  # locked pages are looked at again when it gets serious


class Vmscan:
    """``Node.reclaim`` and what kswapd runs."""

    __slots__ = ("_busy", "has_progressed", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self._busy = False  # reclaim does not start within reclaim
        self.has_progressed = True  # direct reclaim found something since kswapd ran last

    def try_to_free_pages(self, order: int, gfp: int) -> int:
        """Direct reclaim on behalf of an allocation: at least SWAP_CLUSTER_MAX pages if it goes well; how many.

        Linux: same name.
        """
        if self._busy:
            return 0
        node = self.node
        node.vmstat["allocstall_movable"] += 1
        scan = Scan(
            node,
            max(SWAP_CLUSTER_MAX, 1 << order),
            pfn_limit=_pfn_limit(node, gfp),
            may_write=gfp & (GFP_IO | GFP_FS) == GFP_IO | GFP_FS,
        )
        self._reclaim(scan, lambda: scan.is_done, last_priority=0)
        self.has_progressed = self.has_progressed or bool(scan.nr_reclaimed)
        return scan.nr_reclaimed

    def balance(self) -> int:
        """Kswapd's work: reclaim until every zone is above its high watermark, or it is hopeless; how many pages.

        A policy may want it in smaller steps.  Linux: balance_pgdat.
        """
        node = self.node
        total = 0
        node.vmstat["pageoutrun"] += 1
        step = node.lru.policy.kswapd_pages()
        if step is not None:
            scan = Scan(node, step, pfn_limit=node.mem_map.nr_frames, by_kswapd=True)
            if step:
                self._reclaim(scan, lambda: scan.is_done, last_priority=0)
            return scan.nr_reclaimed
        for zone in reversed(node.zones):
            while not is_balanced(zone):
                scan = Scan(node, max(_shortage(zone), SWAP_CLUSTER_MAX), pfn_limit=zone.end_pfn, by_kswapd=True)
                self._reclaim(scan, partial(is_balanced, zone), last_priority=1)
                total += scan.nr_reclaimed
                if not scan.nr_reclaimed:
                    break
        return total

    def drop_pagecache(self) -> int:
        """Forget every clean cached page that nobody uses (drop_caches); how many."""
        node = self.node
        mem_map = node.mem_map
        dropped = 0
        for pfn in range(mem_map.nr_frames):
            cache = mem_map.owner[pfn]
            if mem_map.refcount[pfn] != 1 or not isinstance(cache, PageCache) or cache.is_shmem:
                continue
            index = mem_map.index[pfn]
            if index not in cache.dirty:
                cache.evict(index)
                dropped += 1
        node.vmstat["drop_pagecache"] += 1
        return dropped

    def reclaim_pages(self, pfns: list[Pfn]) -> int:
        """Take just these pages, used or not (MADV_PAGEOUT); how many went (reclaim_pages)."""
        node = self.node
        node.lru.drain()
        scan = Scan(node, len(pfns), pfn_limit=node.mem_map.nr_frames)
        for pfn in pfns:
            if node.mem_map.flags[pfn] & PG_lru:
                node.lru.remove(pfn)
                self._take(scan, pfn)
        return scan.nr_reclaimed

    def _reclaim(self, scan: Scan, is_enough: Callable[[], bool], last_priority: int) -> None:
        """Rising urgency until *is_enough* (do_try_to_free_pages, balance_pgdat)."""
        node = self.node
        self._busy = True
        try:
            node.lru.drain()
            if not scan.may_swap and self._is_file_tiny():
                scan.nr_reclaimed += shrink_slab(node, 0)
                return
            for priority in range(DEF_PRIORITY, last_priority - 1, -1):
                scan.priority = priority
                node.lru.drain()
                if priority == _RESCUE_PRIORITY and node.lru.unevictable:
                    node.lru.rescue()
                for pfn in node.lru.policy.victims(scan):
                    node.mem_map.flags[pfn] &= ~PG_lru
                    self._take(scan, pfn)
                if is_enough():
                    return
                scan.nr_reclaimed += shrink_slab(node, priority)
                if is_enough():
                    return
        finally:
            self._busy = False
            suffix = "kswapd" if scan.by_kswapd else "direct"
            node.vmstat[f"pgscan_{suffix}"] += scan.nr_scanned
            node.vmstat[f"pgsteal_{suffix}"] += scan.nr_reclaimed
            if node.vm_sysctl.debug_vm:
                node.lru.validate()
                node.swap.validate()
                node.validate()
            if node.tracer.sink is not None:
                node.tracer.emit(MmVmscan(suffix, scan.priority, scan.nr_scanned, scan.nr_reclaimed))

    def _is_file_tiny(self) -> bool:
        """Files have so few pages left that taking more only means reading them again, for ever.

        It is when Linux turns to anonymous pages (file_is_tiny in prepare_scan_control).  Where those cannot go either,
        Linux goes on with files and makes no headway for minutes; here the OOM killer is asked at once, as
        lru_gen_min_ttl does it.
        """
        _, _, inactive, active, _ = self.node.lru.lists()
        return inactive + active <= sum(zone.watermark[WMARK_HIGH] for zone in self.node.zones)

    def _take(self, scan: Scan, pfn: Pfn) -> None:
        """Evict an isolated page, or put it back."""
        node = self.node
        swapbacked = node.mem_map.flags[pfn] & PG_swapbacked
        if evict(scan, pfn) is Verdict.FREED:
            scan.nr_reclaimed += 1
            node.vmstat["pgsteal_anon" if swapbacked else "pgsteal_file"] += 1
        else:
            node.lru.put_back(pfn)


def is_balanced(zone: Zone) -> bool:
    """Whether *zone* has more than its high watermark free, frames on its order-0 list included."""
    return zone.nr_free > zone.watermark[WMARK_HIGH] or not zone.managed_pages


def _shortage(zone: Zone) -> int:
    return zone.watermark[WMARK_HIGH] - zone.nr_free + 1


def _pfn_limit(node: Node, gfp: int) -> int:
    """Frames from here on lie in zones that *gfp* cannot use."""
    return node.zonelist(gfp & GFP_ZONEMASK)[0].end_pfn
