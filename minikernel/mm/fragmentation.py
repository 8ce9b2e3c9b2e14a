"""How fragmented free memory is.  Linux: mm/vmstat.c (fill_contig_page_info, fragmentation_index, unusable_index)."""

from dataclasses import dataclass

from minikernel.mm.buddy import MAX_PAGE_ORDER
from minikernel.mm.zone import Zone

INDEX_SUITABLE = -1000
"""Of an order for which there is a free block: fragmentation is no question."""


@dataclass(frozen=True, slots=True)
class ContigPageInfo:
    """Free blocks, the frames in them, and how many blocks of the order in question they hold."""

    free_pages: int
    free_blocks_total: int
    free_blocks_suitable: int


def contig_page_info(zone: Zone, order: int) -> ContigPageInfo:
    """What is free in *zone*, seen by a request of *order*."""
    counts = [len(area) for area in zone.buddy.free_area]
    return ContigPageInfo(
        free_pages=sum(count << at for at, count in enumerate(counts)),
        free_blocks_total=sum(counts),
        free_blocks_suitable=sum(count << (at - order) for at, count in enumerate(counts) if at >= order),
    )


def fragmentation_index(zone: Zone, order: int) -> int:
    """Why a request of *order* fails, in thousandths: towards 0 for want of memory, towards 1000 for fragmentation.

    INDEX_SUITABLE if it would not fail; 0 if nothing at all is free.
    """
    info = contig_page_info(zone, order)
    if order > MAX_PAGE_ORDER or not info.free_blocks_total:
        return 0
    if info.free_blocks_suitable:
        return INDEX_SUITABLE
    return 1000 - (1000 + info.free_pages * 1000 // (1 << order)) // info.free_blocks_total


def unusable_free_index(zone: Zone, order: int) -> int:
    """How much of the free memory is of no use to a request of *order*, in thousandths (extfrag/unusable_index)."""
    info = contig_page_info(zone, order)
    if not info.free_pages:
        return 1000
    return (info.free_pages - (info.free_blocks_suitable << order)) * 1000 // info.free_pages


def block_counts(zone: Zone) -> list[int]:
    """How many pageblocks of *zone* there are of each migrate type (pagetypeinfo_showblockcount_print)."""
    shift = zone.buddy.mem_map.block_order
    types = zone.buddy.mem_map.block_type[zone.start_pfn >> shift : -(-zone.end_pfn >> shift)]
    return [types.count(migratetype) for migratetype in range(len(zone.buddy.lists))]
