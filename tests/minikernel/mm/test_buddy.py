"""The buddy allocator: examples, and any sequence of operations against a set of free frames."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emu.x86 import Pfn
from minikernel.mm.buddy import MAX_PAGE_ORDER, BuddyAllocator
from minikernel.mm.page import MemMap, PG_buddy

NPAGES = 200  # not a power of two: the zone ends in the middle of a block


def make(nr_frames: int = NPAGES) -> BuddyAllocator:
    buddy = BuddyAllocator(MemMap(nr_frames), Pfn(0), Pfn(nr_frames))
    buddy.free_range(0, nr_frames)
    return buddy


def test_a_fresh_zone_hands_out_the_lowest_block_that_will_do() -> None:
    buddy = make(4096)

    assert buddy.alloc(MAX_PAGE_ORDER) == 0
    assert buddy.alloc(MAX_PAGE_ORDER) == 1024
    assert buddy.alloc(3) == 2048
    assert buddy.alloc(0) == 2056


def test_alloc_returns_none_when_fragmented() -> None:
    """Four frames are free, but no two of them are buddies."""
    buddy = make(8)
    for _ in range(8):
        buddy.alloc(0)
    for pfn in (0, 3, 5, 6):
        buddy.free(pfn, 0)

    assert buddy.nr_free == 4
    assert buddy.alloc(1) is None
    buddy.validate()


def test_freed_blocks_coalesce_up_to_the_largest_order_only() -> None:
    buddy = make(4096)
    for pfn in [buddy.alloc(0) for _ in range(4096)]:
        assert pfn is not None
        buddy.free(pfn, 0)

    assert [len(blocks) for blocks in buddy.free_area] == [0] * MAX_PAGE_ORDER + [4]
    buddy.validate()


def test_the_block_freed_last_is_handed_out_first() -> None:
    buddy = make(16)
    for _ in range(16):
        buddy.alloc(0)
    for pfn in (4, 10, 8):
        buddy.free(pfn, 0)

    assert [buddy.alloc(0) for _ in range(4)] == [8, 10, 4, None]


def add(buddy: BuddyAllocator, pfn: int, order: int) -> bool:
    """List a block that is none."""
    buddy.lists[1][order][pfn] = None
    buddy._flags[pfn] |= PG_buddy
    buddy._order[pfn] = order
    return False


@pytest.mark.parametrize("count", [1, 3, 8, 64, 199, 200, 300])
def test_alloc_bulk_takes_what_single_allocations_would(count: int) -> None:
    bulk, single = make(), make()
    for buddy in (bulk, single):
        assert buddy.alloc(2) == 192
        assert buddy.alloc(0) == 196

    taken = bulk.alloc_bulk(count)

    expected = [single.alloc(0) for _ in range(count)]
    assert taken == [pfn for pfn in expected if pfn is not None]
    assert bulk.lists == single.lists
    bulk.validate()


@pytest.mark.parametrize("pfns", [[], [9], [3, 2, 1, 0], [7, 60, 5, 6, 4, 199, 61, 0, 198]])
def test_free_bulk_leaves_the_same_frames_free_as_freeing_one_by_one(pfns: list[int]) -> None:
    bulk, single = make(), make()
    for buddy in (bulk, single):
        assert buddy.take_range(0, NPAGES)
    bulk.free_bulk([Pfn(pfn) for pfn in pfns])
    for pfn in pfns:
        single.free(pfn, 0)

    assert [sorted(blocks) for blocks in bulk.free_area] == [sorted(blocks) for blocks in single.free_area]
    bulk.validate()


def test_take_range_splits_the_blocks_at_both_ends() -> None:
    buddy = make()

    assert buddy.take_range(37, 75)
    assert buddy.nr_free == NPAGES - 38
    assert buddy.find_block(36) == (36, 0)
    assert buddy.find_block(37) is None
    assert buddy.find_block(75) == (75, 0)
    buddy.validate()


def test_take_range_takes_nothing_if_a_frame_is_in_use() -> None:
    buddy = make()
    assert buddy.take_range(50, 51)

    assert not buddy.take_range(40, 60)
    assert buddy.nr_free == NPAGES - 1
    assert buddy.take_range(60, 60), "an empty range is always free"
    buddy.validate()


def test_find_range_sees_a_run_that_spans_blocks_of_many_sizes() -> None:
    buddy = make()
    assert buddy.take_range(0, 3)
    assert buddy.take_range(100, 101)

    assert buddy.find_range(97, 1) == 3
    assert buddy.find_range(98, 1) == 101
    assert buddy.find_range(90, 64) is None
    assert buddy.find_range(72, 64) == 128


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda buddy: buddy.lists[1][3].update({Pfn(12): None}), "not aligned"),
        (lambda buddy: buddy.lists[1][4].update({Pfn(208): None}), "outside"),
        (lambda buddy: buddy.lists[1][3].update({Pfn(8): None}), "has flags"),
        (lambda buddy: buddy._order.__setitem__(192, 5), "marked as of order 5"),
        (lambda buddy: add(buddy, 8, 3) or add(buddy, 0, 3), "free buddy"),
        (lambda buddy: add(buddy, 8, 2), "overlaps"),
        (lambda buddy: buddy.mem_map.refcount.__setitem__(130, 1), "in use"),
        (lambda buddy: setattr(buddy, "nr_free", 5), "5 counted"),
        (lambda buddy: buddy._flags.__setitem__(1, PG_buddy), "blocks marked"),
    ],
)
def test_validate_finds_damage(harm, message: str) -> None:  # type: ignore[no-untyped-def]
    buddy = make()
    harm(buddy)

    with pytest.raises(AssertionError, match=message):
        buddy.validate()


class BuddyMachine(RuleBasedStateMachine):
    """Any sequence of operations keeps the books straight."""

    def __init__(self) -> None:
        super().__init__()
        self.buddy = make()
        self.held: dict[int, int] = {}  # first frame: count
        self.free = set(range(NPAGES))

    def take(self, pfn: int, count: int) -> None:
        frames = set(range(pfn, pfn + count))
        assert frames <= self.free
        self.free -= frames
        self.held[pfn] = count

    @rule(order=st.integers(0, 7))
    def alloc(self, order: int) -> None:
        pfn = self.buddy.alloc(order)
        if pfn is not None:
            assert pfn % (1 << order) == 0
            self.take(pfn, 1 << order)
            return
        starts = range(0, NPAGES - (1 << order) + 1, 1 << order)
        assert not any(self.free.issuperset(range(start, start + (1 << order))) for start in starts)

    @rule(count=st.integers(1, 40))
    def alloc_bulk(self, count: int) -> None:
        available = len(self.free)
        taken = self.buddy.alloc_bulk(count)
        assert len(taken) == min(count, available)
        for pfn in taken:
            self.take(pfn, 1)

    @rule(start=st.integers(0, NPAGES - 1), count=st.integers(1, 50))
    def take_range(self, start: int, count: int) -> None:
        end = min(start + count, NPAGES)
        if self.buddy.take_range(start, end):
            self.take(start, end - start)
            return
        assert not self.free.issuperset(range(start, end))

    @rule(count=st.integers(1, 50), align=st.sampled_from([1, 3, 8, 32]))
    def find_range(self, count: int, align: int) -> None:
        fits = [s for s in range(0, NPAGES - count + 1, align) if self.free.issuperset(range(s, s + count))]
        assert self.buddy.find_range(count, align) == (fits[0] if fits else None)

    @rule(data=st.data())
    def free_one(self, data: st.DataObject) -> None:
        if not self.held:
            return
        pfn = data.draw(st.sampled_from(sorted(self.held)))
        count = self.held.pop(pfn)
        self.buddy.free_range(pfn, pfn + count)
        self.free |= set(range(pfn, pfn + count))

    @invariant()
    def no_frame_is_lost(self) -> None:
        assert self.buddy.nr_free == len(self.free)
        assert all((self.buddy.find_block(pfn) is not None) == (pfn in self.free) for pfn in range(NPAGES))

    @invariant()
    def structure_is_valid(self) -> None:
        self.buddy.validate()


TestBuddyMachine = BuddyMachine.TestCase
TestBuddyMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
