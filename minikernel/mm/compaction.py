"""Large free blocks out of small ones: movable pages go to the end of their zone.  Linux: mm/compaction.c.

Two scanners walk a zone's pageblocks towards each other.  The migrate scanner comes from the bottom and collects
movable pages, the free scanner from the top and collects free frames; pages move from one to the other until the two
meet, or a block of the wanted order is there.
"""

from dataclasses import dataclass, field
from typing import Final

from emu.x86 import Pfn
from minikernel.mm.buddy import MAX_PAGE_ORDER
from minikernel.mm.fragmentation import fragmentation_index
from minikernel.mm.gfp import GFP_ZONEMASK
from minikernel.mm.migrate import is_movable, migrate_page
from minikernel.mm.migratetype import MIGRATE_MOVABLE
from minikernel.mm.page import PG_buddy
from minikernel.mm.page_alloc import Node
from minikernel.mm.zone import WMARK_LOW, WMARK_MIN, Zone

PAGE_ALLOC_COSTLY_ORDER: Final = 3
EXTFRAG_THRESHOLD: Final = 500  # sysctl_extfrag_threshold
_MAX_DEFER_SHIFT: Final = 6  # COMPACT_MAX_DEFER_SHIFT
ALL_OF_IT: Final = -1  # the order of a compaction that goes on until the scanners meet


@dataclass(slots=True)
class CompactStats:
    """Counts of /proc/vmstat, by its names without "compact_"."""

    migrate_scanned: int = 0
    free_scanned: int = 0
    isolated: int = 0
    stall: int = 0
    fail: int = 0
    success: int = 0
    pgmigrate_success: int = 0
    pgmigrate_fail: int = 0


@dataclass(slots=True)
class _Control:
    """One run over a zone: struct compact_control."""

    zone: Zone
    order: int
    migrate_pfn: int  # first frame of the pageblock that is next
    free_pfn: int  # first frame of the pageblock that free frames came from last
    freepages: list[Pfn] = field(default_factory=list)


@dataclass(slots=True)
class _Deferral:
    """Requests that compaction could not help, lately: how many more of them it lets pass (defer_compaction)."""

    considered: int = 0
    shift: int = 0
    order: int = MAX_PAGE_ORDER + 1


class Compaction:
    """``Node.compact``: asked when a request of more than one frame finds no block."""

    __slots__ = ("_deferrals", "extfrag_threshold", "node", "stats")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.extfrag_threshold = EXTFRAG_THRESHOLD
        self.stats = CompactStats()
        self._deferrals = [_Deferral() for _ in node.zones]

    def __call__(self, order: int, gfp: int) -> bool:
        """Compact the zones that will do for *gfp*; whether one has a block of *order* now (try_to_compact_pages)."""
        self.stats.stall += 1
        for zone in self.node.zonelist(gfp & GFP_ZONEMASK):
            if self._is_deferred(zone, order) or not self.is_suitable(zone, order):
                continue
            if self.compact_zone(zone, order):
                self._deferrals[zone.index] = _Deferral()
                self.stats.success += 1
                return True
            self._defer(zone, order)
        self.stats.fail += 1
        return False

    def compact_node(self) -> None:
        """Compact every zone as far as it goes: /proc/sys/vm/compact_memory."""
        for zone in self.node.zones:
            if zone.managed_pages:
                self.compact_zone(zone, ALL_OF_IT)

    def is_suitable(self, zone: Zone, order: int) -> bool:
        """Whether there is enough free memory, and fragmentation is what is wrong (compaction_suitable)."""
        mark = zone.watermark[WMARK_LOW if order > PAGE_ALLOC_COSTLY_ORDER else WMARK_MIN]
        if zone.nr_free <= mark + (2 << order):  # compact_gap: pages and their copies, for a while
            return False
        index = fragmentation_index(zone, order)
        return order <= PAGE_ALLOC_COSTLY_ORDER or not 0 <= index <= self.extfrag_threshold

    def compact_zone(self, zone: Zone, order: int) -> bool:
        """Move pages until a block of *order* is free, or with ALL_OF_IT as far as it goes; whether one is free."""
        self.node.drain_all_pages()
        size = 1 << self.node.mem_map.block_order
        last = (zone.end_pfn - 1) // size * size
        control = _Control(zone, order, int(zone.start_pfn), last + size)
        while control.migrate_pfn < control.free_pfn and not _is_finished(control):
            pages = self._isolate_migratepages(control)
            moved = sum(self._migrate(control, pfn) for pfn in pages)
            if moved:
                self.node.drain_all_pages()
            control.migrate_pfn += size
        zone.buddy.free_bulk(control.freepages)
        return order != ALL_OF_IT and _is_finished(control)

    def _migrate(self, control: _Control, pfn: Pfn) -> bool:
        """Move one page to a frame of the free scanner's."""
        if not control.freepages:
            self._isolate_freepages(control)
        if not control.freepages:
            return False
        new = control.freepages[-1]
        if not migrate_page(self.node, pfn, new):
            self.stats.pgmigrate_fail += 1
            return False
        control.freepages.pop()
        self.stats.pgmigrate_success += 1
        return True

    def _isolate_migratepages(self, control: _Control) -> list[Pfn]:
        """The movable pages of the next pageblock (Linux: same name)."""
        end = min(control.migrate_pfn + (1 << self.node.mem_map.block_order), control.zone.end_pfn)
        pages = [Pfn(pfn) for pfn in range(control.migrate_pfn, end) if is_movable(self.node, pfn)]
        self.stats.migrate_scanned += end - control.migrate_pfn
        self.stats.isolated += len(pages)
        return pages

    def _isolate_freepages(self, control: _Control) -> None:
        """Take the free frames of the next pageblock from the top that has some (Linux: same name)."""
        mem_map = self.node.mem_map
        size = 1 << mem_map.block_order
        while not control.freepages and control.free_pfn - size > control.migrate_pfn:
            control.free_pfn -= size
            if not self._is_target(control.free_pfn):
                continue
            at, end = control.free_pfn, min(control.free_pfn + size, control.zone.end_pfn)
            self.stats.free_scanned += end - at
            while at < end:
                count = 1
                if mem_map.flags[at] & PG_buddy:
                    count = 1 << mem_map.order[at]
                    control.zone.buddy.take_range(at, at + count)
                    control.freepages.extend(Pfn(pfn) for pfn in range(at, at + count))
                at += count
        self.stats.isolated += len(control.freepages)

    def _is_target(self, block: int) -> bool:
        """Whether pages may go to the pageblock at frame *block*: movable, and not a large free one itself."""
        mem_map = self.node.mem_map
        if mem_map.flags[block] & PG_buddy and mem_map.order[block] >= mem_map.block_order:
            return False
        return not self.node.groups_by_mobility or mem_map.block_type[block >> mem_map.block_order] == MIGRATE_MOVABLE

    # ---- when it does not help

    def _defer(self, zone: Zone, order: int) -> None:
        """It failed: the next ones of this order and larger have to wait longer each time."""
        deferral = self._deferrals[zone.index]
        deferral.considered = 0
        deferral.shift = min(deferral.shift + 1, _MAX_DEFER_SHIFT)
        deferral.order = min(deferral.order, order)

    def _is_deferred(self, zone: Zone, order: int) -> bool:
        deferral = self._deferrals[zone.index]
        if order < deferral.order:
            return False
        deferral.considered += 1
        return deferral.considered < 1 << deferral.shift


def _is_finished(control: _Control) -> bool:
    """Whether a block of the wanted order is free (compact_finished)."""
    return control.order >= 0 and any(control.zone.buddy.free_area[control.order :])
