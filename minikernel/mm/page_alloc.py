"""The page allocator: frames for everybody (Linux: mm/page_alloc.c).

One frame comes from the order-0 list of the first zone that will do: a few list operations.  Everything else is the
slow path, which is where watermarks are looked at, zones are changed and, later, memory is reclaimed.
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from emu.physmem import PhysMem
from emu.x86 import PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr
from minikernel.events import Tracer
from minikernel.mm.buddy import MAX_PAGE_ORDER
from minikernel.mm.gfp import (
    GFP_DIRECT_RECLAIM,
    GFP_HIGH,
    GFP_KERNEL,
    GFP_KSWAPD_RECLAIM,
    GFP_MEMALLOC,
    GFP_MOBILITY_MASK,
    GFP_NORETRY,
    GFP_ZERO,
    GFP_ZONEMASK,
)
from minikernel.mm.huge_zero import HugeZeroPage
from minikernel.mm.hugetlb_pool import HugetlbPool
from minikernel.mm.layout import KernelLayout
from minikernel.mm.lru import PageLru
from minikernel.mm.migratetype import MIGRATE_PCPTYPES, MIGRATE_TYPES, MIGRATE_UNMOVABLE, gfp_migratetype
from minikernel.mm.overcommit import VmSysctl
from minikernel.mm.page import PG_CHECK_AT_FREE, MemMap, PG_exec, PG_head, PG_lru, PG_reserved, PG_tail, PG_used
from minikernel.mm.shrinker import Shrinker
from minikernel.mm.slab import SlabAllocator
from minikernel.mm.slab_objects import ObjectCaches
from minikernel.mm.swap import SwapSpace
from minikernel.mm.vma import VM_HUGEPAGE
from minikernel.mm.zone import (
    WMARK_LOW,
    WMARK_MIN,
    Pcp,
    Zone,
    init_per_zone_wmark_min,
    make_zones,
    take_range,
    zonelist,
)

_GFP_PLACE: Final = GFP_ZONEMASK | GFP_MOBILITY_MASK
if TYPE_CHECKING:
    from minikernel.mm.page_owner import PageOwner

_SECTION_SHIFT: Final = 12  # frames: 16 MiB, which every zone boundary is a multiple of
_ZEROES: Final = bytes(PAGE_SIZE)
_RARE_AT_FREE: Final = PG_CHECK_AT_FREE | PG_head | PG_exec | PG_lru
_MAX_RECLAIM_RETRIES: Final = 16  # direct reclaim that made progress but not enough
_COSTLY_ORDER: Final = 3  # PAGE_ALLOC_COSTLY_ORDER: nobody is killed for larger blocks


class Node:
    """All RAM of the machine (Linux: pg_data_t).

    Frames 0 and *zero_pfn* are reserved: the first so that no valid frame is false, the second is the shared zero page.
    *stale_code* lists frames whose translated code must be dropped before the guest runs again; see icache.py.
    *slab* makes objects of frames (slab.py), *objects* are its caches for the kernel's own (slab_objects.py).
    What memory pressure does is handed down, as it is above this room: *reclaim* is called with (order, gfp) and
    returns how many pages it freed, *reclaim_pages* with the very frames to take, *drop_pagecache* for
    drop_caches, *wake_kswapd* when a zone falls below its low watermark, *out_of_memory* when
    nothing else helped (it returns whether the request may use the reserves), *spend_io* after every page of I/O.
    *shrinkers* give objects of other rooms back when memory is short (shrinker.py).
    *compact*, if set, is called with (order, gfp) when there is no block, and returns whether there is one now.
    """

    __slots__ = (
        "_block_order",
        "_fail_after",
        "_flags",
        "_mapcount",
        "_owner",
        "_pcp_of",
        "_pcp_of_block",
        "_ram",
        "_refcount",
        "_type_of",
        "_zone_of_section",
        "_zonelists",
        "compact",
        "groups_by_mobility",
        "huge_zero",
        "hugetlb",
        "layout",
        "lru",
        "mem_map",
        "objects",
        "out_of_memory",
        "page_owner",
        "physmem",
        "reclaim",
        "reclaim_pages",
        "drop_pagecache",
        "reserved",
        "shrinkers",
        "slab",
        "spend_io",
        "stale_code",
        "swap",
        "thp_mask",
        "tracer",
        "vmstat",
        "wake_kswapd",
        "vm_sysctl",
        "zero_pfn",
        "zones",
    )

    def __init__(self, physmem: PhysMem, layout: KernelLayout, tracer: Tracer, *, slab_debug: bool = False) -> None:
        """*slab_debug*: every object of the kernel's is watched (slab_debug.py)."""
        self.physmem = physmem
        self.layout = layout
        self.tracer = tracer
        block_order = layout.mode.levels[-2].shift - PAGE_SHIFT  # as large as a large page
        self.mem_map = MemMap(physmem.nr_frames, block_order)
        # Linux: page_group_by_mobility_disabled.  With few pageblocks there is nothing to keep apart.
        self.groups_by_mobility = physmem.nr_frames >= MIGRATE_TYPES << block_order
        if not self.groups_by_mobility:
            self.mem_map.block_type[:] = bytes(len(self.mem_map.block_type))
        self.stale_code: list[Pfn] = []
        self.page_owner: PageOwner | None = None
        self.reclaim: Callable[[int, int], int] | None = None
        self.drop_pagecache: Callable[[], int] | None = None
        self.reclaim_pages: Callable[[list[Pfn]], int] | None = None
        self.wake_kswapd: Callable[[], None] | None = None
        self.out_of_memory: Callable[[int, int], bool] | None = None
        self.spend_io: Callable[[], None] = lambda: None
        self.vmstat: Counter[str] = Counter()  # events, by their name in /proc/vmstat
        self.shrinkers: list[Shrinker] = []
        self.thp_mask = VM_HUGEPAGE  # VM_* that make a mapping a candidate for transparent huge pages (thp.py)
        self.huge_zero = HugeZeroPage(self)
        self.hugetlb = HugetlbPool(self)
        self.lru = PageLru(self)
        self.swap = SwapSpace(self)
        self.compact: Callable[[int, int], bool] | None = None
        self._ram = physmem.ram
        self._refcount = self.mem_map.refcount
        self._mapcount = self.mem_map.mapcount
        self._flags = self.mem_map.flags
        self._owner = self.mem_map.owner
        self._block_order = block_order
        self._fail_after: int | None = None
        self.reserved: list[tuple[int, int, str]] = []  # first frame, how many, what for (Linux: memblock.reserved)
        self.zones = make_zones(self.mem_map, layout.zones)
        self._zone_of_section = [
            next(zone for zone in self.zones if pfn < zone.end_pfn)
            for pfn in range(0, physmem.nr_frames, 1 << _SECTION_SHIFT)
        ]
        self._pcp_of_block = [
            self.zone_of(Pfn(pfn)).pcps[self.mem_map.block_type[pfn >> block_order]]
            for pfn in range(0, physmem.nr_frames, 1 << block_order)
        ]
        for zone in self.zones:
            zone.buddy.on_block_type = self._set_block_pcp
        self._zonelists = tuple(zonelist(self.zones, gfp) for gfp in range(GFP_ZONEMASK + 1))
        # By the zone modifiers and the mobility of a request: which type, which order-0 list.
        self._type_of = tuple(self._migratetype(gfp) for gfp in range(_GFP_PLACE + 1))
        self._pcp_of = tuple(
            self._zonelists[gfp & GFP_ZONEMASK][0].pcps[self._type_of[gfp]] for gfp in range(_GFP_PLACE + 1)
        )
        self.reserve_frames(Pfn(0), 1)
        zero_pfn = self.alloc_page(GFP_KERNEL)
        assert zero_pfn is not None, "Node: no frame for the zero page"
        self.zero_pfn = zero_pfn
        self._flags[zero_pfn] |= PG_reserved
        self.vm_sysctl = VmSysctl()
        self.vm_sysctl.init_reserves(self.nr_free)
        self.slab = SlabAllocator(self, debug=slab_debug)
        self.objects = ObjectCaches(self.slab)

    def _set_block_pcp(self, block: int, migratetype: int) -> None:
        """Frames of pageblock *block* are freed to another order-0 list from now on."""
        self._pcp_of_block[block] = self.zone_of(Pfn(block << self._block_order)).pcps[migratetype]

    def _migratetype(self, gfp: int) -> int:
        """gfp_migratetype(); both hints at once mean nothing, and a small machine knows one type only."""
        migratetype = gfp_migratetype(gfp)
        if not self.groups_by_mobility or migratetype >= MIGRATE_PCPTYPES:
            return MIGRATE_UNMOVABLE
        return migratetype

    # ---- one frame

    def alloc_page(self, gfp: int = GFP_KERNEL) -> Pfn | None:
        """A frame with one reference; None if there is none to be had."""
        pcp = self._pcp_of[gfp & _GFP_PLACE]
        if pcp:
            pfn = pcp.pop()
        else:
            found = self._alloc_slow(0, gfp)
            if found is None:
                return None
            pfn = found
        self._refcount[pfn] = 1
        # A frame that was never freed still has the zeroes of boot.
        if gfp & GFP_ZERO and self._flags[pfn]:
            phys = pfn << PAGE_SHIFT
            self._ram[phys : phys + PAGE_SIZE] = _ZEROES
        return pfn

    def get_page(self, pfn: Pfn) -> None:
        """One more reference."""
        assert self._refcount[pfn] > 0, f"get_page: frame {pfn:#x} is free"
        self._refcount[pfn] += 1

    def put_page(self, pfn: Pfn) -> None:
        """One reference less; the last one frees the frame, or the block it is the head of."""
        count = self._refcount[pfn] - 1
        self._refcount[pfn] = count
        if count:
            assert count > 0, f"put_page: frame {pfn:#x} was free"
            return
        flags = self._flags[pfn]
        if flags & _RARE_AT_FREE:
            if flags & PG_lru:
                self.lru.remove(pfn)
                flags = self._flags[pfn]
            if flags & _RARE_AT_FREE:
                self._free_rare(pfn, flags)
                return
        assert not self._mapcount[pfn], f"put_page: frame {pfn:#x} is still mapped"
        self._owner[pfn] = None
        self._flags[pfn] = PG_used
        pcp = self._pcp_of_block[pfn >> self._block_order]
        pcp.append(pfn)
        if len(pcp) > pcp.high:
            self._drain(pcp, pcp.zone.batch)

    def put_zeroed_page(self, pfn: Pfn) -> None:
        """put_page for the last reference to a frame that holds zeroes only: it needs no clearing next time."""
        assert self._refcount[pfn] == 1, f"put_zeroed_page: frame {pfn:#x} has {self._refcount[pfn]} references"
        self.put_page(pfn)
        self._flags[pfn] &= ~PG_used

    # ---- blocks

    def alloc_pages(self, order: int, gfp: int = GFP_KERNEL) -> Pfn | None:
        """First frame of 2**order contiguous ones, aligned to their size; None if there are none.

        The block has one reference, in its first frame (Linux: a compound page).
        """
        if order == 0:
            return self.alloc_page(gfp)
        assert order <= MAX_PAGE_ORDER, f"alloc_pages: order {order}"
        pfn = self._alloc_slow(order, gfp)
        if pfn is None:
            return None
        self._prepare(pfn, 1 << order, gfp)
        self._refcount[pfn] = 1
        self._flags[pfn] |= PG_head
        self.mem_map.order[pfn] = order
        for tail in range(pfn + 1, pfn + (1 << order)):
            self._flags[tail] |= PG_tail
        return pfn

    def free_pages(self, pfn: Pfn, order: int) -> None:
        """Drop the reference that alloc_pages gave."""
        assert self.mem_map.order[pfn] == order, f"free_pages: frame {pfn:#x} is not a block of order {order}"
        self.put_page(pfn)

    def split_page(self, pfn: Pfn) -> None:
        """Make a block that has one reference into single frames of one reference each (Linux: same name)."""
        order = self.mem_map.order[pfn]
        assert self._flags[pfn] & PG_head, f"split_page: frame {pfn:#x} is no block"
        assert self._refcount[pfn] == 1, f"split_page: frame {pfn:#x} has {self._refcount[pfn]} references"
        self.mem_map.order[pfn] = 0
        for frame in range(pfn, pfn + (1 << order)):
            self._flags[frame] &= ~(PG_head | PG_tail)
            self._refcount[frame] = 1

    def alloc_contig_range(self, start: Pfn, end: Pfn, gfp: int = GFP_KERNEL) -> bool:
        """Take exactly the frames [start, end), one reference each; False if one is not free (Linux: same name)."""
        if self._injected_failure():
            return False
        self.drain_all_pages()
        if not take_range(self.zones, start, end):
            return False
        self._prepare(start, end - start, gfp)
        for pfn in range(start, end):
            self._refcount[pfn] = 1
        return True

    def alloc_contig_pages(self, nr_pages: int, *, align: int = 1, gfp: int = GFP_KERNEL) -> Pfn | None:
        """First of *nr_pages* contiguous frames, a multiple of *align*, one reference each; None if there are none.

        Any number, also beyond the largest block.  The range lies in one zone that will do for *gfp*.
        """
        self.drain_all_pages()
        for zone in self._zonelists[gfp & GFP_ZONEMASK]:
            pfn = zone.buddy.find_range(nr_pages, align)
            if pfn is not None and self.alloc_contig_range(pfn, Pfn(pfn + nr_pages), gfp):
                return pfn
        return None

    # ---- the whole

    @property
    def nr_free(self) -> int:
        """Free frames."""
        return sum(zone.nr_free for zone in self.zones)

    @property
    def totalram_pages(self) -> int:
        """Frames that the allocator manages: MemTotal (Linux: same name)."""
        return sum(zone.managed_pages for zone in self.zones)

    def zonelist(self, gfp: int) -> tuple[Zone, ...]:
        """The zones that will do for *gfp*, the preferred one first."""
        return self._zonelists[gfp & GFP_ZONEMASK]

    def zone_of(self, pfn: Pfn) -> Zone:
        """The zone that *pfn* lies in (Linux: page_zone)."""
        return self._zone_of_section[pfn >> _SECTION_SHIFT]

    def reserve_frames(self, start: Pfn, count: int, name: str = "Reserved") -> None:
        """Take [start, start + count), which is free, out of the allocator for good (Linux: memblock_reserve)."""
        taken = self.alloc_contig_range(start, Pfn(start + count))
        assert taken, f"reserve_frames: [{start:#x}, {start + count:#x}) is not free"
        self.reserved.append((start, count, name))
        for pfn in range(start, start + count):
            self._flags[pfn] |= PG_reserved
            self.zone_of(Pfn(pfn)).managed_pages -= 1
        init_per_zone_wmark_min(self.zones, self.layout.zones)

    def drain_all_pages(self) -> None:
        """Give the order-0 lists back to the buddy allocators, where the frames merge (Linux: same name)."""
        for zone in self.zones:
            for pcp in zone.pcps:
                self._drain(pcp, len(pcp))

    def fail_allocation(self, n: int | None) -> None:
        """Let one allocation fail: the next one for *n* = 0, the one after it for 1, and so on; None: none.

        Free when not armed: while it is, the order-0 lists are kept empty and every allocation takes the slow path,
        which counts.
        """
        self._fail_after = n
        self.drain_all_pages()
        for zone in self.zones:
            zone.pcp_high = 6 * zone.batch if n is None else 0

    def validate(self) -> None:
        """Assert that free frames are where they should be, look free, and are counted right."""
        mem_map = self.mem_map
        for block, pcp in enumerate(self._pcp_of_block):
            wanted = self.zone_of(Pfn(block << self._block_order)).pcps[mem_map.block_type[block]]
            assert pcp is wanted, f"Node.validate: pageblock {block} frees to another type's list"
        for zone in self.zones:
            zone.validate(mem_map)
        in_use = sum(1 for pfn, count in enumerate(mem_map.refcount) if count or mem_map.flags[pfn] & PG_tail)
        lost = mem_map.nr_frames - self.nr_free - in_use
        assert lost == 0, f"Node.validate: {lost} frames are neither free nor in use"

    # ---- the slow path

    def track_allocations(self) -> None:
        """Note from now on where each block was allocated (page_owner.py); no allocation is fast then."""
        from minikernel.mm.page_owner import PageOwner

        self.page_owner = PageOwner()
        self.drain_all_pages()
        for zone in self.zones:
            zone.pcp_high = 0

    def _alloc_slow(self, order: int, gfp: int) -> Pfn | None:
        pfn = self._alloc_block(order, gfp)
        if self.page_owner is not None and pfn is not None:
            self.page_owner.note(pfn)
        return pfn

    def _alloc_block(self, order: int, gfp: int) -> Pfn | None:
        """A block for whom the fast path had none (Linux: __alloc_pages_slowpath).

        Down to the low watermark for everybody; then kswapd is woken, and down to min; then the request reclaims
        itself, again as long as that helps; at last somebody is killed for it.  What lies below min is for GFP_HIGH
        (half of it), GFP_MEMALLOC (all of it) and for tasks that are dying.
        """
        if self._injected_failure():
            return None
        if len(self.lru.pending) > self.lru.limit:
            self.lru.drain()
        pfn = self._get_page_from_freelist(order, gfp, WMARK_LOW)
        if pfn is not None:
            return pfn
        if gfp & GFP_KSWAPD_RECLAIM and self.wake_kswapd is not None:
            self.wake_kswapd()
        pfn = self._get_page_from_freelist(order, gfp, WMARK_MIN)
        if pfn is None and (gfp & GFP_MEMALLOC or order):
            self.drain_all_pages()  # a neighbour, or a frame of another type, may sit on an order-0 list
            pfn = self._get_page_from_freelist(order, gfp, WMARK_MIN)
        if pfn is None and order and gfp & GFP_DIRECT_RECLAIM and self.compact is not None and self.compact(order, gfp):
            pfn = self._get_page_from_freelist(order, gfp, WMARK_MIN)
        if pfn is None and gfp & GFP_DIRECT_RECLAIM and not gfp & GFP_MEMALLOC:
            pfn = self._alloc_after_reclaim(order, gfp)
        return pfn

    def _alloc_after_reclaim(self, order: int, gfp: int) -> Pfn | None:
        """__alloc_pages_direct_reclaim, again and again, and __alloc_pages_may_oom."""
        for _ in range(_MAX_RECLAIM_RETRIES):
            progress = self.reclaim(order, gfp) if self.reclaim is not None else 0
            self.drain_all_pages()
            pfn = self._get_page_from_freelist(order, gfp, WMARK_MIN)
            if pfn is None and order and progress and self.compact is not None and self.compact(order, gfp):
                pfn = self._get_page_from_freelist(order, gfp, WMARK_MIN)
            if pfn is not None or (order and gfp & GFP_NORETRY):
                return pfn
            if not progress:
                break
        if order > _COSTLY_ORDER or gfp & GFP_NORETRY or self.out_of_memory is None:
            return None
        if not self.out_of_memory(order, gfp):
            return None
        pfn = self._get_page_from_freelist(order, gfp, WMARK_MIN)
        return pfn if pfn is not None else self._get_page_from_freelist(order, gfp | GFP_MEMALLOC, WMARK_MIN)

    def _get_page_from_freelist(self, order: int, gfp: int, watermark: int) -> Pfn | None:
        """A block from the first zone that stays above its *watermark* (Linux: get_page_from_freelist)."""
        zonelist = self._zonelists[gfp & GFP_ZONEMASK]
        highest_zone = zonelist[0].index
        migratetype = self._type_of[gfp & _GFP_PLACE]
        for zone in zonelist:
            pcp = zone.pcps[migratetype]
            if order == 0 and pcp:
                return pcp.pop()
            mark = zone.watermark[watermark]
            if watermark == WMARK_MIN and gfp & GFP_HIGH:
                mark -= mark // 2
            if not (gfp & GFP_MEMALLOC or zone.watermark_ok(order, mark, highest_zone)):
                continue
            # A batch would leave reserves on the order-0 list, for everybody to take.
            alone = gfp & GFP_MEMALLOC
            pfn = zone.buddy.alloc(order, migratetype) if alone else self._rmqueue(zone, order, migratetype)
            if pfn is not None:
                return pfn
        return None

    def _rmqueue(self, zone: Zone, order: int, migratetype: int) -> Pfn | None:
        """A block of *zone*; for a single frame, a batch is moved to its order-0 list first."""
        if order or self._fail_after is not None or self.page_owner is not None:
            return zone.buddy.alloc(order, migratetype)
        pcp = zone.pcps[migratetype]
        pcp.extend(reversed(zone.buddy.alloc_bulk(zone.batch, migratetype)))
        return pcp.pop() if pcp else None

    def _injected_failure(self) -> bool:
        """Whether this allocation is the one that fail_allocation chose."""
        if self._fail_after is None:
            return False
        self._fail_after -= 1
        if self._fail_after >= 0:
            return False
        self.fail_allocation(None)
        return True

    def _prepare(self, start: Pfn, count: int, gfp: int) -> None:
        """Clear the frames of a block if *gfp* asks for it and they are not known to be zero."""
        if not gfp & GFP_ZERO:
            return
        for pfn in range(start, start + count):
            if self._flags[pfn] & PG_used:
                self.physmem.zero(PhysAddr(pfn << PAGE_SHIFT))

    def _drain(self, pcp: Pcp, count: int) -> None:
        """Give the *count* frames that were freed first back to the buddy allocator."""
        pcp.zone.buddy.free_bulk(pcp[:count])
        del pcp[:count]

    def _free_rare(self, pfn: Pfn, flags: int) -> None:
        """Free a frame whose flags need a look: code, a block, or our mistake."""
        assert not flags & PG_CHECK_AT_FREE, f"put_page: frame {pfn:#x} is freed with flags {flags:#x}"
        if not flags & PG_head:
            self.stale_code.append(pfn)
            self._refcount[pfn] = 1
            self._flags[pfn] = flags & ~PG_exec
            self.put_page(pfn)
            return
        order = self.mem_map.order[pfn]
        self.mem_map.order[pfn] = 0
        for frame in range(pfn, pfn + (1 << order)):
            assert not self._mapcount[frame], f"put_page: frame {frame:#x} is still mapped"
            if self._flags[frame] & PG_exec:
                self.stale_code.append(Pfn(frame))
            self._owner[frame] = None
            self._flags[frame] = PG_used
        self.zone_of(pfn).buddy.free(pfn, order)
