"""struct zone: a range of frames, its buddy allocator, order-0 list and watermarks (Linux: include/linux/mmzone.h).

The formulas are Linux's (mm/page_alloc.c: __setup_per_zone_wmarks, setup_per_zone_lowmem_reserve,
calculate_min_free_kbytes), so that /proc/zoneinfo shows the figures that Linux would choose for as much RAM.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Final

from emu.x86 import PAGE_SHIFT, Pfn
from minikernel.mm.buddy import MAX_PAGE_ORDER, BuddyAllocator
from minikernel.mm.gfp import GFP_DMA, GFP_DMA32, GFP_HIGHMEM
from minikernel.mm.layout import ZoneSpec
from minikernel.mm.migratetype import MIGRATE_PCPTYPES
from minikernel.mm.page import MemMap, PG_used

WMARK_MIN: Final = 0  # below it, only reclaim itself and dying tasks get a frame
WMARK_LOW: Final = 1  # below it, kswapd is woken
WMARK_HIGH: Final = 2  # above it, kswapd sleeps again

MIN_FREE_KBYTES_MIN: Final = 128
MIN_FREE_KBYTES_MAX: Final = 262144
WATERMARK_SCALE_FACTOR: Final = 10  # vm.watermark_scale_factor: 1/10000 of the zone
_SWAP_CLUSTER_MAX: Final = 32
_MIN_BATCH_ORDER: Final = 3
_MAX_BATCH_ORDER: Final = 6
_KIB_SHIFT: Final = PAGE_SHIFT - 10


class Pcp(list[Pfn]):
    """Single free frames of one migrate type of *zone* (one list of struct per_cpu_pages; we have one CPU).

    *high*: it never stays longer than this.
    """

    __slots__ = ("high", "zone")

    def __init__(self, zone: "Zone") -> None:
        super().__init__()
        self.zone = zone
        self.high = 0


class Zone:
    """The frames [start_pfn, end_pfn) and who of them is free.

    A free frame is either in the buddy allocator or on one of *pcps*, by migrate type, from which single frames come
    and to which they go back.  They are the same list objects for good: the allocator's fast path holds them.
    """

    __slots__ = (
        "batch",
        "buddy",
        "end_pfn",
        "index",
        "is_highmem",
        "lowmem_reserve",
        "managed_pages",
        "name",
        "pcps",
        "start_pfn",
        "watermark",
    )

    def __init__(
        self, mem_map: MemMap, index: int, name: str, start_pfn: Pfn, end_pfn: Pfn, *, is_highmem: bool
    ) -> None:
        self.index = index  # Linux: zone_idx
        self.name = name
        self.start_pfn = start_pfn
        self.end_pfn = end_pfn
        self.is_highmem = is_highmem
        self.managed_pages = 0  # frames that the allocator was given at boot
        self.buddy = BuddyAllocator(mem_map, start_pfn, end_pfn)
        self.pcps = tuple(Pcp(self) for _ in range(MIGRATE_PCPTYPES))
        self.batch = 0  # frames moved between pcps and buddy at a time
        self.watermark = [0, 0, 0]  # pages; WMARK_*
        self.lowmem_reserve: list[int] = []  # pages kept from requests that could use the zone of that index

    @property
    def nr_free(self) -> int:
        """Free frames, those on the order-0 lists included (NR_FREE_PAGES of Linux leaves them out)."""
        return self.buddy.nr_free + sum(map(len, self.pcps))

    @property
    def pcp_high(self) -> int:
        """How long an order-0 list may get."""
        return self.pcps[0].high

    @pcp_high.setter
    def pcp_high(self, high: int) -> None:
        for pcp in self.pcps:
            pcp.high = high

    def watermark_ok(self, order: int, mark: int, highest_zone: int) -> bool:
        """Whether a block of 2**order can be had and *mark* pages and the reserve remain (__zone_watermark_ok).

        *highest_zone* is the index of the highest zone that the request could use.
        """
        free_area = self.buddy.free_area
        if self.buddy.nr_free - (1 << order) + 1 <= mark + self.lowmem_reserve[highest_zone]:
            return False
        return any(free_area[order : MAX_PAGE_ORDER + 1])

    def validate(self, mem_map: MemMap) -> None:
        """Assert that the buddy allocator and the order-0 lists have different frames, all of the zone and free."""
        self.buddy.validate()
        listed = [pfn for pcp in self.pcps for pfn in pcp]
        for pfn in listed:
            where = f"Zone.validate: frame {pfn:#x} on the order-0 list of zone {self.name}"
            assert self.start_pfn <= pfn < self.end_pfn, f"{where} is of another zone"
            assert self.buddy.find_block(pfn) is None, f"{where} is in a free block as well"
            assert mem_map.refcount[pfn] == 0, f"{where} is in use"
            assert mem_map.flags[pfn] & ~PG_used == 0, f"{where} has flags {mem_map.flags[pfn]:#x}"
        assert len(set(listed)) == len(listed), f"Zone.validate: zone {self.name} lists a frame twice"


def make_zones(mem_map: MemMap, specs: Sequence[ZoneSpec]) -> tuple[Zone, ...]:
    """The zones of *specs*, cut to the RAM there is, with all of it free."""
    zones: list[Zone] = []
    start = Pfn(0)
    for index, spec in enumerate(specs):
        end = Pfn(min(spec.end >> PAGE_SHIFT, mem_map.nr_frames))
        zone = Zone(mem_map, index, spec.name, start, end, is_highmem=spec.is_highmem)
        zone.buddy.free_range(start, end)
        zone.managed_pages = end - start
        zones.append(zone)
        start = end
    return tuple(zones)


def zonelist(zones: Sequence[Zone], gfp: int) -> tuple[Zone, ...]:
    """The populated ones of *zones* that will do for *gfp*, from the highest (gfp_zone, build_zonerefs_node)."""
    if gfp & GFP_DMA:
        allowed = [zone for zone in zones if zone.name == "DMA"]
    elif gfp & GFP_DMA32 and any(zone.name == "DMA32" for zone in zones):
        allowed = [zone for zone in zones if zone.name in {"DMA", "DMA32"}]
    elif gfp & GFP_HIGHMEM:
        allowed = list(zones)
    else:
        allowed = [zone for zone in zones if not zone.is_highmem]
    return tuple(zone for zone in reversed(allowed) if zone.managed_pages)


def take_range(zones: Sequence[Zone], start: Pfn, end: Pfn) -> bool:
    """Take the frames [start, end) out of the buddy allocators of *zones*; False, and none, if one is not free."""
    taken: list[tuple[Zone, Pfn, Pfn]] = []
    for zone in zones:
        first, last = Pfn(max(start, zone.start_pfn)), Pfn(min(end, zone.end_pfn))
        if first >= last:
            continue
        if not zone.buddy.take_range(first, last):
            for other, begin, stop in taken:
                other.buddy.free_range(begin, stop)
            return False
        taken.append((zone, first, last))
    return True


def init_per_zone_wmark_min(zones: Sequence[Zone], specs: Sequence[ZoneSpec]) -> None:
    """Compute watermarks and reserves anew, from what *zones*, made of *specs*, manage (Linux: same name)."""
    lowmem_pages = sum(zone.managed_pages for zone in zones if not zone.is_highmem)
    setup_per_zone_wmarks(zones, min_free_kbytes(lowmem_pages))
    setup_per_zone_lowmem_reserve(zones, [spec.lowmem_reserve_ratio for spec in specs])


def min_free_kbytes(lowmem_pages: int) -> int:
    """vm.min_free_kbytes for *lowmem_pages* managed pages outside high memory, in KiB."""
    wanted = isqrt((lowmem_pages << _KIB_SHIFT) * 16)
    return max(MIN_FREE_KBYTES_MIN, min(wanted, MIN_FREE_KBYTES_MAX))


def setup_per_zone_wmarks(zones: Sequence[Zone], min_free: int) -> None:
    """Share out *min_free* KiB as the watermarks of *zones*, in proportion to what they manage."""
    lowmem_pages = sum(zone.managed_pages for zone in zones if not zone.is_highmem)
    pages_min = min_free >> _KIB_SHIFT
    for zone in zones:
        share = pages_min * zone.managed_pages // lowmem_pages
        low = share
        if zone.is_highmem:
            # Nobody needs high memory in an emergency: a token amount keeps kswapd going.
            low = max(_SWAP_CLUSTER_MAX, min(zone.managed_pages // 1024, 128))
        step = max(share >> 2, zone.managed_pages * WATERMARK_SCALE_FACTOR // 10000)
        zone.watermark = [low, low + step, low + 2 * step]
        zone.batch = zone_batchsize(zone.managed_pages)
        zone.pcp_high = 6 * zone.batch


def zone_batchsize(managed_pages: int) -> int:
    """Frames that move between a zone's order-0 list and its buddy allocator at a time (Linux: same name).

    Linux has 2**n - 1 (up to 63) for the sake of cache colours.  Here it is a whole block, as splitting and merging is
    what costs, and never below 8.
    """
    return 1 << max(_MIN_BATCH_ORDER, min((managed_pages >> 8).bit_length() - 1, _MAX_BATCH_ORDER))


def setup_per_zone_lowmem_reserve(zones: Sequence[Zone], ratios: Sequence[int]) -> None:
    """Compute what each zone keeps from requests that could also use higher zones; *ratios* as of ZoneSpec."""
    for zone, ratio in zip(zones, ratios, strict=True):
        zone.lowmem_reserve = [0] * len(zones)
        above = 0
        for upper in zones[zone.index + 1 :]:
            above += upper.managed_pages
            if ratio and zone.managed_pages:
                zone.lowmem_reserve[upper.index] = above // ratio
