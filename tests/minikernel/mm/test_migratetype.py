"""Kinds of frames stay apart, steal from each other as Linux's do, and fragmentation has a figure."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emu.x86 import Pfn
from minikernel.mm.buddy import BuddyAllocator
from minikernel.mm.fragmentation import INDEX_SUITABLE, block_counts, fragmentation_index, unusable_free_index
from minikernel.mm.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_MOVABLE, GFP_RECLAIMABLE
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.migratetype import MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE
from minikernel.mm.page import MemMap, PG_anon
from tests.minikernel.mm.touch import Machine

BLOCK = 512


def make(blocks: int = 8) -> BuddyAllocator:
    """All of it free and movable."""
    mem_map = MemMap(blocks * BLOCK)
    buddy = BuddyAllocator(mem_map, Pfn(0), Pfn(blocks * BLOCK))
    buddy.free_range(0, blocks * BLOCK)
    return buddy


def take(buddy: BuddyAllocator, order: int, migratetype: int, *, movable: bool = False) -> int:
    pfn = buddy.alloc(order, migratetype)
    assert pfn is not None
    for frame in range(pfn, pfn + (1 << order)):
        buddy.mem_map.refcount[frame] = 1
        if movable:
            buddy.mem_map.flags[frame] |= PG_anon
    return pfn


def give(buddy: BuddyAllocator, pfn: int, order: int = 0) -> None:
    for frame in range(pfn, pfn + (1 << order)):
        buddy.mem_map.refcount[frame] = 0
        buddy.mem_map.flags[frame] = 0
    buddy.free(pfn, order)


def type_of(buddy: BuddyAllocator, pfn: int) -> int:
    return buddy.mem_map.block_type[pfn >> 9]


def test_kinds_take_blocks_of_their_own() -> None:
    buddy = make()
    kinds = (MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE)
    frames = [take(buddy, 0, kind) for _ in range(50) for kind in kinds]

    for index, kind in enumerate(kinds):
        assert {type_of(buddy, pfn) for pfn in frames[index::3]} == {kind}
    assert len({pfn >> 10 for pfn in frames}) == 3
    assert buddy.nr_stolen == 2
    buddy.validate()


def test_merging_makes_neighbours_of_one_kind() -> None:
    """A free pageblock takes the type of the one that merges with it."""
    buddy = make(2)
    one = take(buddy, 9, MIGRATE_UNMOVABLE)
    two = take(buddy, 9, MIGRATE_UNMOVABLE)
    buddy.set_block_type(two, 9, MIGRATE_MOVABLE)
    give(buddy, one, 9)
    give(buddy, two, 9)

    assert buddy.free_area[10].lists[MIGRATE_MOVABLE] == {0: None}
    assert bytes(buddy.mem_map.block_type[:2]) == b"\1\1"
    buddy.validate()


def full_of_movable(free: int) -> BuddyAllocator:
    """One pageblock, all of it movable and in use but for its first *free* frames."""
    buddy = make(1)
    frames = [take(buddy, 0, MIGRATE_MOVABLE, movable=True) for _ in range(BLOCK)]
    for pfn in frames[:free]:
        give(buddy, pfn)
    return buddy


def test_unmovable_frames_take_over_a_block_that_is_half_free() -> None:
    buddy = full_of_movable(256)
    take(buddy, 0, MIGRATE_UNMOVABLE)

    assert type_of(buddy, 0) == MIGRATE_UNMOVABLE
    assert (buddy.nr_stolen, buddy.nr_mixed) == (1, 0)
    assert not any(buddy.lists[MIGRATE_MOVABLE])
    buddy.validate()


def test_a_block_full_of_movable_frames_stays_movable() -> None:
    buddy = full_of_movable(100)
    take(buddy, 0, MIGRATE_UNMOVABLE)

    assert type_of(buddy, 0) == MIGRATE_MOVABLE
    assert (buddy.nr_stolen, buddy.nr_mixed) == (0, 1)
    buddy.validate()


def test_movable_frames_take_the_smallest_hole_of_an_unmovable_block() -> None:
    """And leave the largest one to those who need it."""
    buddy = make(1)
    frames = [take(buddy, 0, MIGRATE_UNMOVABLE) for _ in range(BLOCK)]
    for pfn in (
        *frames[8:16],
        frames[100],
    ):  # a block of 8, too small to be worth a whole pageblock, and a single frame
        give(buddy, pfn)

    assert take(buddy, 0, MIGRATE_MOVABLE) == 100
    assert type_of(buddy, 0) == MIGRATE_UNMOVABLE
    buddy.validate()


@pytest.mark.parametrize(("order", "taken"), [(0, 32), (1, 32), (2, 32), (3, 8)])
def test_the_smallest_hole_may_be_larger_than_what_is_asked_for(order: int, taken: int) -> None:
    """The holes of an unmovable pageblock are 8 frames and 4."""
    buddy = make(1)
    frames = [take(buddy, 0, MIGRATE_UNMOVABLE) for _ in range(BLOCK)]
    for pfn in (*frames[8:16], *frames[32:36]):
        give(buddy, pfn)

    assert take(buddy, order, MIGRATE_MOVABLE) == taken
    whole = [(8, 3), (32, 2)]
    assert [hole for hole in whole if buddy.find_block(hole[0]) == hole] == [hole for hole in whole if hole[0] != taken]
    assert (buddy.nr_mixed, type_of(buddy, taken)) == (1, MIGRATE_UNMOVABLE)
    buddy.validate()


@pytest.mark.parametrize("layout", [X86_64_LAYOUT, I386_PAE_LAYOUT, I386_2LEVEL_LAYOUT], ids=lambda layout: layout.name)
def test_a_machine_keeps_user_memory_apart_from_its_own(layout: KernelLayout) -> None:
    machine = Machine(layout, ram=64 << 20)
    node = machine.node
    shift = layout.mode.levels[-2].shift - 12
    assert (node.mem_map.block_order, node.groups_by_mobility) == (shift, True)
    wanted = ((GFP_KERNEL, 0), (GFP_HIGHUSER_MOVABLE, 1), (GFP_KERNEL | GFP_RECLAIMABLE, 2))
    for gfp, kind in wanted * 100:
        pfn = node.alloc_page(gfp)
        assert pfn is not None
        assert node.mem_map.block_type[pfn >> shift] == kind
        node.put_page(pfn)
    assert sum(sum(block_counts(zone)) for zone in node.zones) == 64 << 20 >> 12 + shift
    node.validate()


@pytest.mark.parametrize(("layout", "ram"), [(X86_64_LAYOUT, 8 << 20), (I386_2LEVEL_LAYOUT, 16 << 20)])
def test_a_small_machine_knows_one_kind(layout: KernelLayout, ram: int) -> None:
    node = Machine(layout, ram=ram).node
    assert not node.groups_by_mobility
    assert node._pcp_of[GFP_MOVABLE] is node._pcp_of[0] is node._pcp_of[GFP_RECLAIMABLE]
    assert [sum(block_counts(zone)[1:]) for zone in node.zones] == [0] * len(node.zones)


# ---- figures


def test_the_fragmentation_index_tells_the_two_reasons_apart() -> None:
    zone = Machine(ram=4 << 20).node.zones[0]
    zone.buddy = make(1)
    assert fragmentation_index(zone, 9) == INDEX_SUITABLE
    assert unusable_free_index(zone, 9) == 0
    frames = [take(zone.buddy, 0, MIGRATE_MOVABLE) for _ in range(BLOCK)]
    assert fragmentation_index(zone, 1) == 0
    assert unusable_free_index(zone, 1) == 1000

    for pfn in frames[::2]:
        give(zone.buddy, pfn)
    # 256 single frames: half of a block of order 9, and all in pieces.
    assert fragmentation_index(zone, 9) == 1000 - (1000 + 256 * 1000 // 512) // 256
    assert fragmentation_index(zone, 0) == INDEX_SUITABLE
    assert fragmentation_index(zone, 11) == 0
    assert (unusable_free_index(zone, 0), unusable_free_index(zone, 1)) == (0, 1000)


# ---- a model


class Kinds(RuleBasedStateMachine):
    """Whatever is taken and given back, lists and pageblocks agree."""

    def __init__(self) -> None:
        super().__init__()
        self.buddy = make(6)
        self.held: list[tuple[int, int]] = []

    @rule(order=st.integers(0, 10), kind=st.integers(0, 2))
    def alloc(self, order: int, kind: int) -> None:
        suitable = any(self.buddy.free_area[order:])
        pfn = self.buddy.alloc(order, kind)
        assert (pfn is not None) == suitable
        if pfn is not None:
            assert pfn % (1 << order) == 0
            self.hold(pfn, order, kind)

    @rule(count=st.integers(1, 600), kind=st.integers(0, 2))
    def bulk(self, count: int, kind: int) -> None:
        free = self.buddy.nr_free
        taken = self.buddy.alloc_bulk(count, kind)
        assert len(taken) == min(count, free)
        for pfn in taken:
            self.hold(pfn, 0, kind)

    def hold(self, pfn: int, order: int, kind: int) -> None:
        for frame in range(pfn, pfn + (1 << order)):
            assert not self.buddy.mem_map.refcount[frame], "a frame is handed out twice"
            self.buddy.mem_map.refcount[frame] = 1
            self.buddy.mem_map.flags[frame] = PG_anon if kind == MIGRATE_MOVABLE else 0
        self.held.append((pfn, order))

    @rule(start=st.integers(0, 1000), step=st.integers(1, 7), count=st.integers(1, 400))
    def free(self, start: int, step: int, count: int) -> None:
        chosen = self.held[start % (len(self.held) + 1) :: step][:count]
        for one in chosen:
            self.held.remove(one)
            give(self.buddy, *one)

    @invariant()
    def the_books_balance(self) -> None:
        self.buddy.validate()
        assert self.buddy.nr_free + sum(1 << order for _, order in self.held) == 6 * BLOCK


TestKinds = Kinds.TestCase
TestKinds.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
