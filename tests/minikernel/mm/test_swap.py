"""Swap areas, slots and the swap cache: the format, priorities, swapoff, and every I/O failing in turn."""

import itertools
import random
from collections import Counter

import pytest

from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MADV_WILLNEED, MAP_SHARED
from minikernel.mm.fault import BusError, OutOfMemory
from minikernel.mm.gfp import GFP_HIGHMEM, GFP_MEMALLOC
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.swap_area import MAGIC, SwapArea, make_header, parse_header
from minikernel.mm.swap_entry import MAX_OFFSET, MAX_SWAPFILES, entry_area, entry_offset, make_entry
from minikernel.mm.swapoff import swapoff
from minikernel.mm.validate import validate_swap
from tests.minikernel.mm.touch import BASE, READ, RW, WRITE, Machine, RamSwap, map_fixed, peek, pfn_of, poke, touch


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def page_out(machine: Machine, mm: MmStruct, *pages: int) -> int:
    assert machine.node.reclaim_pages is not None
    return machine.node.reclaim_pages([pfn_of(mm, at(page)) for page in pages])


# ---- entries and headers


def test_an_entry_is_neither_empty_nor_present_and_fits_every_paging_mode() -> None:
    for area, offset in ((0, 1), (27, MAX_OFFSET), (5, 0x1234)):
        entry = make_entry(area, offset)
        assert entry
        assert not entry & 1
        assert entry < 1 << 32
        assert (entry_area(entry), entry_offset(entry)) == (area, offset)


def test_a_header_comes_back() -> None:
    header = make_header(100, label=b"there", uuid=bytes(range(16)))
    assert len(header) == PAGE_SIZE
    assert header.endswith(MAGIC)
    assert header[1024:1036] == bytes([1, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0])
    assert parse_header(header, 100) == (100, [])


def damaged(**places: tuple[int, bytes]) -> bytes:
    page = bytearray(make_header(100))
    for start, data in places.values():
        page[start : start + len(data)] = data
    return bytes(page)


@pytest.mark.parametrize(
    ("page", "pages", "why"),
    [
        (b"short", 100, "no swap header"),
        (damaged(magic=(PAGE_SIZE - 10, b"SWAP-SPACE")), 100, "no swap header"),
        (damaged(version=(1024, b"\2")), 100, "version 2"),
        (damaged(last=(1028, bytes(4))), 100, "empty"),
        (make_header(100), 99, "the swap area has 100 pages, its file 99"),
        (damaged(bad=(1032, b"\xff\xff")), 100, "65535 bad pages"),
        (damaged(count=(1032, b"\1"), page=(1536, b"\x64")), 100, "a bad page that the area does not have"),
    ],
)
def test_a_header_that_is_wrong(page: bytes, pages: int, why: str) -> None:
    with pytest.raises(LinuxError, match=why) as caught:
        parse_header(page, pages)
    assert caught.value.errno == Errno.EINVAL


@pytest.mark.parametrize("pages", [0, 9, MAX_OFFSET + 2])
def test_a_size_that_no_header_can_say(pages: int) -> None:
    with pytest.raises(LinuxError, match="EINVAL"):
        make_header(pages)


def test_bad_pages_are_never_used() -> None:
    header = damaged(count=(1032, b"\2"), pages=(1536, b"\3\0\0\0\5\0\0\0"))
    nr_pages, bad = parse_header(header, 100)
    area = SwapArea(0, b"x", RamSwap(100), nr_pages, bad, -2)
    assert area.nr_slots == 97
    taken = [area.take() for _ in range(97)]
    assert set(taken) == set(range(1, 100)) - {3, 5}
    assert area.take() == 0
    assert not area.is_taken(3)
    area.validate()


def test_slots_against_a_set() -> None:
    """Any order of taking and releasing: a slot is given out once, and all that are free can be had."""
    area = SwapArea(0, b"x", RamSwap(64), 64, [], -2)
    rng = random.Random(1)
    model: set[int] = set()
    for _ in range(3000):
        if rng.random() < 0.52 or not model:
            slot = area.take()
            if len(model) == 63:
                assert slot == 0
                continue
            assert 1 <= slot < 64
            assert slot not in model
            model.add(slot)
        else:
            slot = rng.choice(sorted(model))
            model.remove(slot)
            area.release(slot)
        assert area.nr_used == len(model)
        assert {slot for slot in range(64) if area.is_taken(slot)} == model
    area.validate()


def test_misuse_of_a_slot_is_caught() -> None:
    area = SwapArea(0, b"x", RamSwap(16), 16, [], -2)
    slot = area.take()
    area.count[slot] = 1
    with pytest.raises(AssertionError, match="referred to"):
        area.release(slot)
    area.count[slot] = 0
    area.release(slot)
    with pytest.raises(AssertionError, match="free"):
        area.release(slot)


# ---- areas


def test_areas_are_used_by_priority_and_equals_take_turns() -> None:
    machine = Machine()
    swap = machine.node.swap
    for priority in (3, 7, 7, None):
        machine.swapon(20, priority)
    given = [entry_area(swap.get_swap_page()) for _ in range(80)]
    assert Counter(given) == {0: 20, 1: 20, 2: 20, 3: 20}
    assert set(given[:40]) == {1, 2}
    assert all(first != second for first, second in itertools.pairwise(given[:40]))
    assert set(given[40:60]) == {0}
    assert swap.get_swap_page() == 0
    assert not swap.has_room


def test_areas_without_a_priority_go_down_from_minus_two() -> None:
    machine = Machine()
    for _ in range(3):
        machine.swapon(20)
    assert [area.priority for area in machine.node.swap.order] == [-2, -3, -4]


def test_too_many_areas() -> None:
    machine = Machine()
    for _ in range(MAX_SWAPFILES):
        machine.swapon(20)
    with pytest.raises(LinuxError, match="EPERM"):
        machine.swapon(20)


def test_swapoff_brings_everything_back_and_gives_the_file_back() -> None:
    machine = Machine()
    store = machine.swapon(200)
    parent = machine.mm()
    shared = machine.file(8 * PAGE_SIZE)
    map_fixed(parent, at(0), 8)
    map_fixed(parent, at(8), 8, RW, MAP_SHARED, shared)
    for page in range(16):
        poke(parent, at(page), page + 1)
    child = machine.fork(parent)
    assert page_out(machine, parent, *range(16)) == 16
    peek(child, at(3))  # one page is in the swap cache
    machine.validate()
    swapoff(machine.node, machine.node.swap.order[0])

    assert store.closed
    assert not machine.node.swap.order
    assert parent.swapents == child.swapents == 0
    assert not machine.node.swap.mms
    for mm in (parent, child):
        assert [peek(mm, at(page)) for page in range(16)] == list(range(1, 17))
    machine.validate()
    machine.swapon(50)
    assert machine.node.swap.order[0].index == 0, "its number is free again"


def test_swapoff_moves_pages_to_another_area_if_ram_is_short() -> None:
    machine = Machine(ram=4 << 20)
    machine.swapon(600, 5)
    mm = machine.mm()
    map_fixed(mm, BASE, 1200)
    for page in range(1200):
        poke(mm, at(page), page & 0xFF)
    used = machine.node.swap.order[0].nr_used
    assert used > 200
    machine.swapon(2000, 1)
    swapoff(machine.node, machine.node.swap.order[0])
    assert machine.node.swap.order[0].nr_used >= 200
    assert all(peek(mm, at(page)) == page & 0xFF for page in range(1200))
    machine.validate()


def test_swapoff_without_room_changes_nothing() -> None:
    machine = Machine(ram=4 << 20)
    machine.swapon(2000)
    mm = machine.mm()
    map_fixed(mm, BASE, 2000)
    for page in range(2000):
        poke(mm, at(page), page & 0xFF)
    area = machine.node.swap.order[0]
    with pytest.raises(LinuxError, match="ENOMEM"):
        swapoff(machine.node, area)
    assert machine.node.swap.order == [area]
    machine.validate()
    assert all(peek(mm, at(page)) == page & 0xFF for page in range(2000))


@pytest.mark.parametrize("what", ["private", "shared"])
def test_swapoff_of_a_broken_area(what: str) -> None:
    machine = Machine()
    store = machine.swapon(100)
    mm = machine.mm()
    file = machine.file(PAGE_SIZE)
    if what == "private":
        map_fixed(mm, BASE, 1)
    else:
        map_fixed(mm, BASE, 1, RW, MAP_SHARED, file)
    poke(mm, BASE, 9)
    page_out(machine, mm, 0)
    store.fail = True
    with pytest.raises(LinuxError, match="EIO"):
        swapoff(machine.node, machine.node.swap.order[0])
    store.fail = False
    assert peek(mm, BASE) == 9
    machine.validate()


# ---- reading ahead


def test_neighbours_in_swap_come_along_and_are_minor_faults_then() -> None:
    machine = Machine()
    machine.swapon(200)
    mm = machine.mm()
    map_fixed(mm, BASE, 64)
    for page in range(64):
        poke(mm, at(page), page)
    page_out(machine, mm, *range(64))
    for page in range(64):
        assert peek(mm, at(page)) == page
    stat = machine.node.vmstat
    assert mm.maj_flt < 16
    assert stat["swap_ra_hit"] >= 48
    assert stat["pswpin"] == 64
    machine.validate()


def test_page_cluster_0_reads_one_page_at_a_time() -> None:
    machine = Machine()
    machine.swapon(200)
    machine.node.swap.page_cluster = 0
    mm = machine.mm()
    map_fixed(mm, BASE, 16)
    for page in range(16):
        poke(mm, at(page), page)
    page_out(machine, mm, *range(16))
    for page in range(16):
        assert peek(mm, at(page)) == page
    assert mm.maj_flt == 16


def test_random_reads_stop_reading_ahead() -> None:
    machine = Machine()
    machine.swapon(1000)
    mm = machine.mm()
    map_fixed(mm, BASE, 800)
    for page in range(800):
        poke(mm, at(page), page & 0xFF)
    page_out(machine, mm, *range(800))
    for page in range(0, 800, 37):
        assert peek(mm, at(page)) == page & 0xFF
    before = machine.node.vmstat["swap_ra"]
    for page in range(17, 800, 101):
        peek(mm, at(page))
    assert machine.node.vmstat["swap_ra"] - before <= 16
    machine.validate()


def test_willneed_reads_what_is_in_swap() -> None:
    machine = Machine()
    machine.swapon(100)
    mm = machine.mm()
    shared = machine.file(4 * PAGE_SIZE)
    map_fixed(mm, at(0), 4)
    map_fixed(mm, at(4), 4, RW, MAP_SHARED, shared)
    for page in range(8):
        poke(mm, at(page), page)
    page_out(machine, mm, *range(8))
    do_madvise(mm, at(0), 4 * PAGE_SIZE, MADV_WILLNEED)
    do_madvise(mm, at(4), 4 * PAGE_SIZE, MADV_WILLNEED)
    before = mm.maj_flt
    assert [peek(mm, at(page)) for page in range(8)] == list(range(8))
    assert mm.maj_flt == before
    machine.validate()


# ---- failures


class Flaky(RamSwap):
    """Lets I/O number *fails* go wrong, once."""

    def __init__(self, nr_pages: int) -> None:
        super().__init__(nr_pages)
        self.countdown = -1
        self.failed = 0

    def _tick(self) -> None:
        if self.countdown == 0:
            self.failed += 1
            self.countdown = -1
            raise LinuxError(Errno.EIO, "this one fails")
        self.countdown -= 1

    def read_page(self, index: int) -> bytes:
        self._tick()
        return super().read_page(index)

    def write_page(self, index: int, data: bytes) -> None:
        self._tick()
        super().write_page(index, data)


def story(machine: Machine) -> list[tuple[MmStruct, int, int]]:
    """Pages go out and come back in a family and in shared memory; who has which byte where."""
    parent = machine.mm()
    shared = machine.file(6 * PAGE_SIZE)
    map_fixed(parent, at(0), 6)
    map_fixed(parent, at(6), 6, RW, MAP_SHARED, shared)
    model: dict[tuple[int, int], int] = {}
    spaces = [parent]

    def write(which: int, page: int, value: int) -> None:
        for _ in range(2):  # a failure costs a SIGBUS, once
            outcome = touch(spaces[which], at(page), WRITE)
            if not isinstance(outcome, BusError):
                break
        poke(spaces[which], at(page), value)
        for other in range(len(spaces)):
            if other == which or page >= 6:
                model[other, page] = value

    for page in range(12):
        write(0, page, page + 1)
    machine.node.lru.drain()
    frames = list(machine.node.lru.policy.pages())
    assert machine.node.reclaim_pages is not None
    machine.node.reclaim_pages(frames)
    spaces.append(machine.fork(parent))
    model.update({(1, page): model[0, page] for page in range(12)})
    for page in range(0, 12, 2):
        write(page // 2 % 2, page, 100 + page)
    machine.node.lru.drain()
    machine.node.reclaim_pages(list(machine.node.lru.policy.pages()))
    return [(spaces[which], page, value) for (which, page), value in model.items()]


def test_every_io_failing_in_turn_costs_no_byte() -> None:
    for number in range(200):
        machine = Machine()
        machine.swapon(20)  # the hooks; its own area is not used
        swapoff(machine.node, machine.node.swap.order[0])
        store = Flaky(101)
        machine.node.swap.swapon(b"flaky", store, 101)
        store.countdown = number
        contents = story(machine)
        machine.validate()
        for mm, page, value in contents:
            if isinstance(touch(mm, at(page), READ), BusError):
                assert store.failed == 1
            assert peek(mm, at(page)) == value, f"I/O {number} failed: page {page}"
        machine.validate()
        if not store.failed:
            assert number > 20, "the story has more I/O than this"
            return
    pytest.fail("the story does not end")


def test_every_allocation_failing_in_turn_costs_no_byte() -> None:
    machine = Machine()
    machine.swapon(100)
    mm = machine.mm()
    map_fixed(mm, BASE, 8)
    for page in range(8):
        poke(mm, at(page), page + 1)
    for number in range(30):
        machine.node.reclaim_pages([pfn_of(mm, at(page)) for page in range(8)])  # type: ignore[misc]
        machine.node.fail_allocation(number)
        outcomes = [touch(mm, at(page), WRITE) for page in range(8)]
        machine.node.fail_allocation(None)
        machine.validate()
        assert [peek(mm, at(page)) for page in range(8)] == list(range(1, 9))
        if not any(isinstance(outcome, OutOfMemory) for outcome in outcomes):
            assert number > 0
            return
    pytest.fail("reading eight pages back takes more allocations than this")


def test_no_frame_to_read_into() -> None:
    machine = Machine(ram=4 << 20)
    machine.swapon(10)
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 5)
    page_out(machine, mm, 0)
    while (pfn := machine.node.alloc_page(GFP_MEMALLOC | GFP_HIGHMEM)) is not None:
        machine.held[pfn] = 1
    assert isinstance(touch(mm, BASE, READ), OutOfMemory)
    machine.validate()


# ---- the validators find damage


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda swap: swap.order[0].count.__setitem__(1, 2), "counts differ"),
        (lambda swap: swap.order[0].take(), "slots are taken"),
        (lambda swap: swap.entry_of.clear(), "two ways"),
    ],
)
def test_damage_is_found(harm, message: str) -> None:  # type: ignore[no-untyped-def]
    machine = Machine()
    machine.swapon(20)
    mm = machine.mm()
    map_fixed(mm, BASE, 2)
    for page in range(2):
        poke(mm, at(page), 1)
    page_out(machine, mm, 0, 1)
    peek(mm, BASE)
    entry = mm.pgtable.get(at(1)) or 0
    validate_swap(machine.node, {mm.pgtable.get(at(1)): 1} if not entry & 1 else {})
    harm(machine.node.swap)
    with pytest.raises(AssertionError, match=message):
        machine.validate()


def test_swapoff_leaves_what_is_in_other_areas() -> None:
    machine = Machine()
    machine.swapon(100, 1)
    machine.swapon(100, 1)
    mm = machine.mm()
    shared = machine.file(4 * PAGE_SIZE)
    map_fixed(mm, at(0), 4)
    map_fixed(mm, at(4), 4, RW, MAP_SHARED, shared)
    for page in range(8):
        poke(mm, at(page), page)
    child = machine.fork(mm)
    page_out(machine, mm, *range(8))
    assert [peek(child, at(page)) for page in range(4)] == [0, 1, 2, 3]  # in the swap cache
    swapoff(machine.node, machine.node.swap.order[0])
    assert mm.swapents == 2
    assert len(shared.cache.swapped) == 2
    machine.validate()
    assert [peek(mm, at(page)) for page in range(8)] == list(range(8))
