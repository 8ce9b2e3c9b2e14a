"""The page allocator: one frame, blocks, ranges, zones, watermarks, injected failures, and the books."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emu.physmem import PhysMem
from emu.x86 import PAGE_SIZE, Pfn, PhysAddr, pfn_to_phys
from minikernel.events import Tracer
from minikernel.mm.gfp import (
    GFP_ATOMIC,
    GFP_DMA,
    GFP_DMA32,
    GFP_HIGHUSER,
    GFP_KERNEL,
    GFP_MEMALLOC,
    GFP_ZERO,
)
from minikernel.mm.layout import I386_PAE_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.page import PG_buddy, PG_exec, PG_head, PG_reserved, PG_slab, PG_tail, PG_used
from minikernel.mm.page_alloc import Node
from minikernel.mm.zone import WMARK_MIN

MIB = 1 << 20


def make(ram: int = 4 * MIB, layout: KernelLayout = X86_64_LAYOUT) -> Node:
    return Node(PhysMem(ram), layout, Tracer())


def page(node: Node, gfp: int = GFP_KERNEL) -> Pfn:
    pfn = node.alloc_page(gfp)
    assert pfn is not None
    return pfn


def block(node: Node, order: int, gfp: int = GFP_KERNEL) -> Pfn:
    pfn = node.alloc_pages(order, gfp)
    assert pfn is not None
    return pfn


def exhaust(node: Node, gfp: int = GFP_KERNEL) -> list[Pfn]:
    taken: list[Pfn] = []
    while (pfn := node.alloc_page(gfp)) is not None:
        taken.append(pfn)
    return taken


# ---- boot


def test_the_first_frame_and_the_zero_page_are_reserved() -> None:
    node = make()

    assert node.mem_map.flags[0] & PG_reserved
    assert node.mem_map.flags[node.zero_pfn] & PG_reserved
    assert node.nr_free == 1024 - 2
    assert node.totalram_pages == 1024 - 1
    assert node.physmem.read(pfn_to_phys(node.zero_pfn), PAGE_SIZE) == bytes(PAGE_SIZE)
    node.validate()


@pytest.mark.parametrize(
    ("layout", "ram", "sizes"),
    [
        (X86_64_LAYOUT, 4 * MIB, {"DMA": 1024, "DMA32": 0, "Normal": 0}),
        (X86_64_LAYOUT, 64 * MIB, {"DMA": 4096, "DMA32": 12288, "Normal": 0}),
        (I386_PAE_LAYOUT, 64 * MIB, {"DMA": 4096, "Normal": 12288, "HighMem": 0}),
        (I386_PAE_LAYOUT, 1024 * MIB, {"DMA": 4096, "Normal": 225280, "HighMem": 32768}),
    ],
)
def test_ram_is_cut_into_the_machine_s_zones(layout: KernelLayout, ram: int, sizes: dict[str, int]) -> None:
    node = make(ram, layout)

    assert {zone.name: zone.end_pfn - zone.start_pfn for zone in node.zones} == sizes
    for zone in node.zones:
        if zone.managed_pages:
            assert node.zone_of(zone.start_pfn) is zone
            assert node.zone_of(Pfn(zone.end_pfn - 1)) is zone


def test_reserved_frames_leave_the_zone() -> None:
    node = make()
    managed = node.zones[0].managed_pages

    node.reserve_frames(Pfn(256), 128)

    assert node.zones[0].managed_pages == managed - 128
    assert not node.alloc_contig_range(Pfn(300), Pfn(301))
    with pytest.raises(AssertionError, match=r"0x17f, 0x181\) is not free"):
        node.reserve_frames(Pfn(0x17F), 2)
    node.validate()


# ---- one frame


def test_frames_come_in_ascending_order_after_boot() -> None:
    node = make()
    first = page(node)

    assert [page(node) for _ in range(20)] == list(range(first + 1, first + 21))


def test_the_frame_freed_last_is_the_next_one() -> None:
    node = make()
    pages = [page(node) for _ in range(3)]
    node.put_page(pages[1])

    assert page(node) == pages[1]


def test_the_last_reference_frees() -> None:
    node = make()
    pfn = page(node)
    before = node.nr_free
    node.mem_map.owner[pfn] = "somebody"
    node.get_page(pfn)

    node.put_page(pfn)
    assert node.nr_free == before
    assert node.mem_map.owner[pfn] == "somebody"
    node.put_page(pfn)
    assert node.nr_free == before + 1
    assert node.mem_map.owner[pfn] is None
    assert node.mem_map.refcount[pfn] == 0


def test_gfp_zero_clears_a_frame_that_was_used_before() -> None:
    node = make()
    pfn = page(node)
    node.physmem.write(pfn_to_phys(pfn), b"secret")
    node.put_page(pfn)

    assert page(node, GFP_KERNEL | GFP_ZERO) == pfn
    assert node.physmem.read(pfn_to_phys(pfn), 6) == bytes(6)


def test_a_frame_never_used_is_not_cleared_as_boot_left_it_zero() -> None:
    """Seen by a byte that boot did not write."""
    node = make()
    pfn = page(node)
    node.physmem.write(PhysAddr(pfn_to_phys(pfn) + PAGE_SIZE), b"x")

    assert page(node, GFP_KERNEL | GFP_ZERO) == pfn + 1
    assert node.physmem.read(pfn_to_phys(Pfn(pfn + 1)), 1) == b"x"


def test_put_zeroed_page_frees_a_frame_as_good_as_new() -> None:
    node = make()
    pfn = page(node)
    node.put_page(pfn)
    assert page(node) == pfn
    assert node.mem_map.flags[pfn] & PG_used

    node.put_zeroed_page(pfn)

    assert page(node) == pfn
    assert not node.mem_map.flags[pfn] & PG_used
    node.get_page(pfn)
    with pytest.raises(AssertionError, match="2 references"):
        node.put_zeroed_page(pfn)


def test_the_order_0_list_gives_its_oldest_frames_back_when_it_is_long() -> None:
    node = make()
    zone = node.zones[0]
    pages = [page(node) for _ in range(100)]
    for pfn in pages:
        node.put_page(pfn)

    assert len(zone.pcps[0]) <= zone.pcp_high
    assert zone.pcps[0][-1] == pages[-1]
    assert zone.buddy.find_block(pages[0]) is not None
    node.validate()


def test_a_frame_of_code_is_reported_when_it_is_freed() -> None:
    node = make()
    pfn = page(node)
    node.mem_map.flags[pfn] |= PG_exec
    node.put_page(pfn)

    assert node.stale_code == [pfn]
    assert node.mem_map.flags[pfn] == PG_used
    node.validate()


def test_mistakes_with_references_are_caught() -> None:
    node = make()
    pfn = page(node)
    node.put_page(pfn)

    with pytest.raises(AssertionError, match=r"get_page: frame .* is free"):
        node.get_page(pfn)
    with pytest.raises(AssertionError, match=r"put_page: frame .* was free"):
        node.put_page(pfn)


@pytest.mark.parametrize(("column", "value", "message"), [("mapcount", 1, "still mapped"), ("flags", PG_slab, "flags")])
def test_a_frame_in_use_cannot_be_freed(column: str, value: int, message: str) -> None:
    node = make()
    pfn = page(node)
    getattr(node.mem_map, column)[pfn] = value

    with pytest.raises(AssertionError, match=message):
        node.put_page(pfn)


# ---- blocks


@pytest.mark.parametrize("order", range(9))
def test_a_block_is_aligned_and_has_one_reference(order: int) -> None:
    node = make()
    before = node.nr_free
    pfn = block(node, order)

    assert pfn % (1 << order) == 0
    assert node.nr_free == before - (1 << order)
    assert list(node.mem_map.refcount[pfn : pfn + (1 << order)]) == [1] + [0] * ((1 << order) - 1)
    assert bool(node.mem_map.flags[pfn] & PG_head) == (order > 0)
    node.validate()
    node.free_pages(pfn, order)
    assert node.nr_free == before
    node.validate()


def test_free_pages_wants_the_order_of_the_allocation() -> None:
    node = make()
    pfn = block(node, 3)

    with pytest.raises(AssertionError, match="not a block of order 2"):
        node.free_pages(pfn, 2)
    with pytest.raises(AssertionError, match="order 11"):
        node.alloc_pages(11)


def test_a_block_is_cleared_where_it_was_used_before() -> None:
    node = make()
    pfn = block(node, 9)
    node.physmem.write(PhysAddr(pfn_to_phys(pfn) + 3 * PAGE_SIZE), b"secret")
    node.free_pages(pfn, 9)

    assert block(node, 9, GFP_KERNEL | GFP_ZERO) == pfn
    assert node.physmem.read(pfn_to_phys(pfn), 16 * PAGE_SIZE) == bytes(16 * PAGE_SIZE)


def test_code_in_a_block_is_reported_frame_by_frame() -> None:
    node = make()
    pfn = block(node, 2)
    for frame in (pfn, pfn + 2):
        node.mem_map.flags[frame] |= PG_exec
    node.free_pages(pfn, 2)

    assert node.stale_code == [pfn, pfn + 2]


def test_a_mapped_frame_keeps_its_block_from_being_freed() -> None:
    node = make()
    pfn = block(node, 2)
    node.mem_map.mapcount[pfn + 1] = 1

    with pytest.raises(AssertionError, match="still mapped"):
        node.free_pages(pfn, 2)


def test_split_page_makes_single_frames() -> None:
    node = make()
    before = node.nr_free
    pfn = block(node, 3)
    node.split_page(pfn)

    for frame in range(pfn, pfn + 8):
        assert not node.mem_map.flags[frame] & (PG_head | PG_tail)
        node.put_page(Pfn(frame))
    assert node.nr_free == before
    with pytest.raises(AssertionError, match="no block"):
        node.split_page(pfn)
    node.validate()


def test_split_page_wants_to_be_alone() -> None:
    node = make()
    pfn = block(node, 1)
    node.get_page(pfn)

    with pytest.raises(AssertionError, match="2 references"):
        node.split_page(pfn)


def test_a_block_is_found_when_its_last_buddy_was_on_the_order_0_list() -> None:
    node = make()
    held = exhaust(node, GFP_KERNEL | GFP_MEMALLOC)
    for pfn in held[-16:]:
        node.put_page(pfn)

    assert node.zones[0].buddy.nr_free == 0
    assert node.alloc_pages(2, GFP_KERNEL | GFP_MEMALLOC) is not None
    node.validate()


# ---- ranges


def test_alloc_contig_pages_takes_any_number_at_any_alignment() -> None:
    node = make(64 * MIB)
    before = node.nr_free
    pfn = node.alloc_contig_pages(3000, align=7)

    assert pfn is not None
    assert pfn % 7 == 0
    assert set(node.mem_map.refcount[pfn : pfn + 3000]) == {1}
    assert node.nr_free == before - 3000
    node.validate()
    for frame in range(pfn, pfn + 3000):
        node.put_page(Pfn(frame))
    assert node.nr_free == before
    node.validate()


def test_alloc_contig_pages_is_none_if_no_zone_has_as_many() -> None:
    node = make(64 * MIB)

    assert node.alloc_contig_pages(16 * MIB // PAGE_SIZE, gfp=GFP_DMA) is None
    assert node.alloc_contig_pages(1024) is not None


def test_alloc_contig_range_may_cross_zones_and_is_all_or_nothing() -> None:
    node = make(912 * MIB, I386_PAE_LAYOUT)
    border = node.zones[2].start_pfn
    before = node.nr_free

    assert node.alloc_contig_range(Pfn(border - 100), Pfn(border + 100))
    assert not node.alloc_contig_range(Pfn(border - 200), Pfn(border - 99))
    assert not node.alloc_contig_range(Pfn(border + 99), Pfn(border + 200))
    assert node.nr_free == before - 200


def test_a_failed_range_gives_the_first_zone_its_part_back() -> None:
    node = make(64 * MIB)
    before = node.nr_free
    assert node.zero_pfn == 4096

    assert not node.alloc_contig_range(Pfn(4000), Pfn(4200))
    assert node.nr_free == before
    node.validate()


# ---- zones and watermarks


@pytest.mark.parametrize(
    ("layout", "gfp", "names"),
    [
        (X86_64_LAYOUT, GFP_KERNEL, ["DMA32", "DMA"]),
        (X86_64_LAYOUT, GFP_HIGHUSER, ["DMA32", "DMA"]),
        (X86_64_LAYOUT, GFP_DMA32, ["DMA32", "DMA"]),
        (X86_64_LAYOUT, GFP_KERNEL | GFP_DMA, ["DMA"]),
        (I386_PAE_LAYOUT, GFP_KERNEL, ["Normal", "DMA"]),
        (I386_PAE_LAYOUT, GFP_HIGHUSER, ["HighMem", "Normal", "DMA"]),
        (I386_PAE_LAYOUT, GFP_DMA32, ["Normal", "DMA"]),
    ],
)
def test_a_request_falls_back_to_lower_zones(layout: KernelLayout, gfp: int, names: list[str]) -> None:
    node = make(912 * MIB, layout)
    assert [zone.name for zone in node._zonelists[gfp & 0xF]] == names
    assert node.zone_of(page(node, gfp)).name == names[0]


def test_a_full_zone_sends_its_requests_to_the_next() -> None:
    node = make(20 * MIB)
    used = {node.zone_of(pfn).name for pfn in exhaust(node)}

    assert used == {"DMA32", "DMA"}
    node.validate()


def test_the_lowest_zone_keeps_its_reserve_from_those_who_could_go_elsewhere() -> None:
    node = make(512 * MIB)
    reserve = node.zones[0].lowmem_reserve[1]
    assert reserve == node.zones[1].managed_pages // 256
    taken = exhaust(node)

    left = node.zones[0].nr_free
    assert node.zones[0].watermark[WMARK_MIN] + reserve - node.zones[0].batch <= left
    assert page(node, GFP_KERNEL | GFP_DMA) not in taken


def test_without_reclaim_an_ordinary_request_stops_at_the_min_watermark() -> None:
    """GFP_ATOMIC may use half of what is below, and GFP_MEMALLOC all of it, as on Linux."""
    node = make()
    zone = node.zones[0]
    low = zone.watermark[WMARK_MIN]

    exhaust(node)
    assert low - zone.batch < zone.nr_free <= low
    exhaust(node, GFP_ATOMIC)
    assert low // 2 - zone.batch < zone.nr_free <= low // 2
    exhaust(node, GFP_KERNEL | GFP_MEMALLOC)
    assert zone.nr_free == 0
    assert node.alloc_pages(1, GFP_KERNEL | GFP_MEMALLOC) is None
    node.validate()


def test_a_block_needs_a_free_block_and_not_just_free_frames() -> None:
    node = make()
    held = exhaust(node, GFP_KERNEL | GFP_MEMALLOC)
    for pfn in held[::2]:
        node.put_page(pfn)

    assert node.nr_free > 400
    assert node.alloc_pages(1) is None
    assert node.alloc_page() is not None


def test_reclaim_is_called_when_memory_is_low_and_may_help() -> None:
    node = make()
    held = exhaust(node)
    calls: list[tuple[int, int]] = []

    def reclaim(order: int, gfp: int) -> int:
        calls.append((order, gfp))
        for _ in range(20):
            node.put_page(held.pop())
        return 20

    node.reclaim = reclaim

    assert node.alloc_page() is not None
    assert calls == [(0, GFP_KERNEL)]


# ---- injected failures


@pytest.mark.parametrize("n", range(4))
@pytest.mark.parametrize(
    "allocate",
    [
        lambda node: node.alloc_page(),
        lambda node: node.alloc_page(GFP_HIGHUSER),
        lambda node: node.alloc_pages(2),
        lambda node: node.alloc_contig_pages(3),
    ],
)
def test_exactly_the_chosen_allocation_fails(allocate: Callable[[Node], Pfn | None], n: int) -> None:
    node = make()
    page(node)
    node.fail_allocation(n)
    results = [allocate(node) is None for _ in range(6)]

    assert results == [index == n for index in range(6)]
    node.validate()


def test_frames_freed_meanwhile_do_not_hide_an_allocation_from_the_count() -> None:
    node = make()
    pages = [page(node) for _ in range(10)]
    node.fail_allocation(1)
    for pfn in pages:
        node.put_page(pfn)

    assert page(node)
    assert node.alloc_page() is None
    assert page(node)


def test_the_injection_can_be_taken_back() -> None:
    node = make()
    node.fail_allocation(0)
    node.fail_allocation(None)

    assert page(node)
    assert node.zones[0].pcps[0], "the order-0 lists are in use again"


# ---- the books


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda node, zone: zone.pcps[0].append(Pfn(5000)), "of another zone"),
        (lambda node, zone: zone.pcps[0].append(Pfn(900)), "free block as well"),
        (lambda node, zone: node.mem_map.refcount.__setitem__(zone.pcps[0][0], 1), "in use"),
        (lambda node, zone: node.mem_map.flags.__setitem__(zone.pcps[0][0], PG_slab), "has flags"),
        (lambda node, zone: zone.pcps[0].append(zone.pcps[0][0]), "twice"),
        (lambda node, zone: zone.pcps[0].pop(), "1 frames are neither"),
        (lambda node, zone: node.mem_map.flags.__setitem__(zone.pcps[0][0], PG_buddy), "blocks marked"),
    ],
)
def test_validate_finds_damage(harm, message: str) -> None:  # type: ignore[no-untyped-def]
    node = make()
    harm(node, node.zones[0])

    with pytest.raises(AssertionError, match=message):
        node.validate()


class NodeMachine(RuleBasedStateMachine):
    """Any sequence of allocations, references and frees loses no frame and hands none out twice."""

    def __init__(self) -> None:
        super().__init__()
        self.node = make(20 * MIB)
        self.total = self.node.nr_free
        self.held: dict[int, tuple[int, int]] = {}  # first frame: (frames, references)
        self.busy: set[int] = set()

    def hold(self, pfn: int, count: int, gfp: int) -> None:
        frames = set(range(pfn, pfn + count))
        assert not frames & self.busy
        self.busy |= frames
        self.held[pfn] = (count, 1)
        ram = self.node.physmem
        if gfp & GFP_ZERO:
            assert ram.read(pfn_to_phys(Pfn(pfn)), count * PAGE_SIZE) == bytes(count * PAGE_SIZE)
        for frame in frames:
            ram.view64[frame << 9] = 0xBAD

    def drop(self, pfn: int, count: int) -> None:
        del self.held[pfn]
        self.busy -= set(range(pfn, pfn + count))

    @rule(
        order=st.sampled_from([0, 0, 0, 0, 1, 3, 6, 10]),
        gfp=st.sampled_from([GFP_KERNEL, GFP_HIGHUSER | GFP_ZERO, GFP_DMA, GFP_ATOMIC]),
        times=st.integers(1, 30),
    )
    def alloc(self, order: int, gfp: int, times: int) -> None:
        for _ in range(times):
            pfn = self.node.alloc_pages(order, gfp)
            if pfn is not None:
                self.hold(pfn, 1 << order, gfp)

    @rule(count=st.integers(1, 1500), align=st.sampled_from([1, 5, 64]))
    def alloc_contig(self, count: int, align: int) -> None:
        pfn = self.node.alloc_contig_pages(count, align=align)
        if pfn is None:
            return
        assert pfn % align == 0
        self.hold(pfn, count, 0)
        self.drop(pfn, count)
        for frame in range(pfn, pfn + count):
            self.node.put_page(Pfn(frame))

    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        if self.held:
            pfn = data.draw(st.sampled_from(sorted(self.held)))
            self.node.get_page(Pfn(pfn))
            self.held[pfn] = (self.held[pfn][0], self.held[pfn][1] + 1)

    @rule(data=st.data(), times=st.integers(1, 30))
    def put(self, data: st.DataObject, times: int) -> None:
        for _ in range(min(times, len(self.held))):
            pfn = data.draw(st.sampled_from(sorted(self.held)))
            count, references = self.held[pfn]
            self.node.put_page(Pfn(pfn))
            if references == 1:
                self.drop(pfn, count)
            else:
                self.held[pfn] = (count, references - 1)

    @rule()
    def drain(self) -> None:
        self.node.drain_all_pages()

    @invariant()
    def no_frame_is_lost(self) -> None:
        assert self.node.nr_free + len(self.busy) == self.total

    def teardown(self) -> None:
        self.node.validate()


TestNodeMachine = NodeMachine.TestCase
TestNodeMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
