"""Pages move to other frames under running programs, and large blocks come of it."""

import random
from collections.abc import Callable

import pytest

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, Pfn
from minikernel.abi.mman import MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ
from minikernel.mm.compaction import ALL_OF_IT, Compaction
from minikernel.mm.fault import Served
from minikernel.mm.fragmentation import INDEX_SUITABLE, fragmentation_index
from minikernel.mm.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT
from minikernel.mm.layout import KernelLayout
from minikernel.mm.migrate import is_movable, migrate_page
from minikernel.mm.migratetype import MIGRATE_UNMOVABLE
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.page import PG_exec, PG_kernel, PG_locked, PG_lru, PG_swapcache
from minikernel.mm.uaccess import copy_from_user
from minikernel.mm.zap import zap_range
from tests.minikernel.mm.touch import (
    BASE,
    FETCH,
    LAYOUTS,
    READ,
    RW,
    WRITE,
    File,
    Machine,
    Store,
    map_fixed,
    peek,
    pfn_of,
    phys_of,
    poke,
    touch,
)

HUGE = 9


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    layout: KernelLayout = request.param
    return Machine(layout, ram=64 << 20)


def a_frame(machine: Machine) -> Pfn:
    """A free frame that the test has taken, as the free scanner does."""
    pfn = machine.node.alloc_page(GFP_HIGHUSER_MOVABLE)
    assert pfn is not None
    return pfn


def stays(machine: Machine, old: Pfn) -> None:
    """The page in *old* cannot be moved, and trying changes nothing."""
    new = a_frame(machine)
    row = [(column[old], column[new]) for column in (machine.node.mem_map.flags, machine.node.mem_map.refcount)]
    assert not migrate_page(machine.node, old, new)
    assert row == [(column[old], column[new]) for column in (machine.node.mem_map.flags, machine.node.mem_map.refcount)]
    machine.node.put_page(new)
    machine.validate()


# ---- one page


def test_an_anonymous_page_that_two_share_moves_for_both(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 77)
    child = machine.fork(mm)
    old, new = pfn_of(mm, BASE), a_frame(machine)
    ptes = [each.pgtable.get(BASE) for each in (mm, child)]
    mm.tlb_dirty = child.tlb_dirty = False

    assert migrate_page(machine.node, old, new)
    assert pfn_of(mm, BASE) == pfn_of(child, BASE) == new
    assert [each.pgtable.get(BASE) ^ (old ^ new) << PAGE_SHIFT for each in (mm, child)] == ptes, "the same rights"
    assert (peek(mm, BASE), peek(child, BASE)) == (77, 77)
    assert mm.tlb_dirty
    assert child.tlb_dirty
    assert machine.node.mem_map.refcount[old] == 0
    machine.validate()


def test_a_page_of_a_file_moves_with_its_place_in_the_cache(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(store=Store(b"f" * (4 * PAGE_SIZE)))
    map_fixed(mm, BASE, 4, RW, MAP_SHARED, file)
    poke(mm, BASE + PAGE_SIZE, 5)
    old, new = pfn_of(mm, BASE + PAGE_SIZE), a_frame(machine)

    assert migrate_page(machine.node, old, new)
    assert file.cache.pages[1] == new
    assert 1 in file.cache.dirty
    assert file.cache.read(PAGE_SIZE, 2) == b"\5f"
    poke(mm, BASE + PAGE_SIZE, 6)
    file.cache.sync()
    machine.validate()


def test_a_cached_page_that_nobody_maps_moves(machine: Machine) -> None:
    file = machine.file(store=Store(b"g" * PAGE_SIZE))
    file.cache.read(0, 1)
    new = a_frame(machine)
    assert migrate_page(machine.node, Pfn(file.cache.pages[0]), new)
    assert file.cache.read(0, 9) == b"g" * 9
    machine.validate()


def test_translated_code_is_dropped_with_its_frame(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(store=Store(b"\xc3" * PAGE_SIZE))
    map_fixed(mm, BASE, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, file)
    touch(mm, BASE, FETCH)
    old, new = pfn_of(mm, BASE), a_frame(machine)
    machine.node.stale_code.clear()

    assert migrate_page(machine.node, old, new)
    assert machine.node.stale_code == [old]
    assert machine.node.mem_map.flags[new] & PG_exec
    assert touch(mm, BASE, FETCH) is None
    machine.validate()


def test_a_page_that_somebody_holds_stays(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 1)
    old = pfn_of(mm, BASE)
    machine.node.get_page(old)
    machine.held[old] = 1
    stays(machine, old)
    machine.node.put_page(old)
    machine.held.clear()
    machine.node.mem_map.flags[old] |= PG_locked
    stays(machine, old)
    machine.node.mem_map.flags[old] &= ~PG_locked


def test_a_page_cut_off_its_file_stays(machine: Machine) -> None:
    """It has no owner any more: nobody could find its entries."""
    mm = machine.mm()
    file = machine.file(PAGE_SIZE)
    map_fixed(mm, BASE, 1, RW, MAP_SHARED, file)
    poke(mm, BASE, 1)
    old = pfn_of(mm, BASE)
    kept = file.cache.pages.pop(0)
    machine.node.mem_map.refcount[old] -= 1
    assert not migrate_page(machine.node, old, a_frame(machine))
    file.cache.pages[0] = kept


def test_a_page_with_an_entry_that_nobody_finds_stays(machine: Machine) -> None:
    """The entry would go on showing the frame to its program when somebody else has it."""
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 3)
    old, new = pfn_of(mm, BASE), a_frame(machine)
    mem_map = machine.node.mem_map
    for column in (mem_map.mapcount, mem_map.refcount):
        column[old] += 1
    before = mm.pgtable.get(BASE), mem_map.flags[old], mem_map.flags[new]

    assert not migrate_page(machine.node, old, new)
    assert (mm.pgtable.get(BASE), mem_map.flags[old], mem_map.flags[new]) == before
    for column in (mem_map.mapcount, mem_map.refcount):
        column[old] -= 1
    machine.node.put_page(new)
    machine.validate()


def test_a_page_in_the_swap_cache_takes_its_slot_along(machine: Machine) -> None:
    """It came back for reading: its copy in swap is still good, and it need not be written to leave again."""
    swap = machine.swapon(100)
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 8)
    assert machine.node.reclaim_pages is not None
    assert machine.node.reclaim_pages([pfn_of(mm, BASE)]) == 1
    assert peek(mm, BASE) == 8
    old, new = pfn_of(mm, BASE), a_frame(machine)
    assert machine.node.mem_map.flags[old] & PG_swapcache

    assert migrate_page(machine.node, old, new)
    assert list(machine.node.swap.cache.values()) == [new]
    assert machine.node.mem_map.flags[new] & PG_swapcache
    assert not machine.node.mem_map.flags[old] & PG_swapcache
    machine.validate()
    swap.fail = True  # a write would be refused, and the page would stay
    assert machine.node.reclaim_pages([new]) == 1
    swap.fail = False
    assert peek(mm, BASE) == 8
    machine.validate()


@pytest.mark.parametrize("make", [lambda node: node.zero_pfn, lambda node: node.alloc_page(GFP_KERNEL)])
def test_the_kernel_s_frames_stay(machine: Machine, make: Callable[..., Pfn]) -> None:
    assert not is_movable(machine.node, make(machine.node))
    assert not is_movable(machine.node, machine.kernel_half.entry_pfn)
    assert not is_movable(machine.node, 60 << 8)


def test_a_page_on_a_list_moves_if_the_list_is_told(machine: Machine) -> None:
    node = machine.node
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 9)
    old = pfn_of(mm, BASE)
    node.lru.drain()
    assert node.mem_map.flags[old] & PG_lru
    new = a_frame(machine)
    assert migrate_page(node, old, new)
    assert list(node.lru.policy.pages()) == [new]
    assert node.mem_map.flags[new] & PG_lru
    assert not node.mem_map.flags[old] & PG_lru
    machine.validate()


# ---- zones


def fragment(machine: Machine, mm: MmStruct, keep: int = 8) -> dict[int, int]:
    """Touch all of memory, give back all but every *keep*th page: address -> byte of those that stay."""
    where = BASE + (16 << 24)
    map_fixed(mm, where, machine.node.nr_free)
    pages = 0
    while isinstance(touch(mm, where + pages * PAGE_SIZE, WRITE), Served):
        poke(mm, where + pages * PAGE_SIZE, pages % 251)
        pages += 1
    kept = {}
    for page in range(pages):
        address = where + page * PAGE_SIZE
        if page % keep == 0:
            kept[address] = page % 251
        else:
            zap_range(mm, address, address + PAGE_SIZE)
    machine.node.drain_all_pages()
    return kept


def test_a_large_block_is_had_after_compaction_only(machine: Machine) -> None:
    node = machine.node
    mm = machine.mm()
    kept = fragment(machine, mm)
    zone = max(node.zones, key=lambda zone: zone.managed_pages)
    assert 500 < fragmentation_index(zone, HUGE) < 1000
    assert node.alloc_pages(HUGE) is None

    node.compact = compaction = Compaction(node)
    assert node.alloc_pages(HUGE, GFP_NOWAIT) is None, "who may not wait may not compact"
    assert compaction.stats.stall == 0
    block = node.alloc_pages(HUGE)
    assert block is not None
    node.mem_map.flags[block] |= PG_kernel
    assert compaction.stats.success == 1
    assert compaction.stats.pgmigrate_success > 50
    assert {address: peek(mm, address) for address in kept} == kept
    machine.validate()


def test_whole_compaction_leaves_few_holes(machine: Machine) -> None:
    node = machine.node
    mm = machine.mm()
    kept = fragment(machine, mm)
    free = node.nr_free
    compaction = Compaction(node)
    compaction.compact_node()

    assert node.nr_free == free
    areas = [(order, area) for zone in node.zones for order, area in enumerate(zone.buddy.free_area)]
    large = sum(len(area) << order for order, area in areas if order >= HUGE)
    assert large > free * 6 // 10
    assert {address: peek(mm, address) for address in kept} == kept
    machine.validate()
    before = compaction.stats.pgmigrate_success
    compaction.compact_node()
    assert compaction.stats.pgmigrate_success - before < before // 2, "there is little left to do"


def holes(machine: Machine) -> MmStruct:
    """A few pages in use with holes between them, in one of the lower pageblocks; what is above is free."""
    mm = machine.mm()
    map_fixed(mm, BASE, 64)
    for page in range(64):
        poke(mm, BASE + page * PAGE_SIZE, page)
    for page in range(0, 64, 2):
        zap_range(mm, BASE + page * PAGE_SIZE, BASE + (page + 1) * PAGE_SIZE)
    machine.node.drain_all_pages()
    return mm


def test_pages_do_not_go_to_large_free_blocks(machine: Machine) -> None:
    """Those are what compaction is for."""
    node = machine.node
    mm = holes(machine)
    large = [
        (zone.index, order, pfn)
        for zone in node.zones
        for order, area in enumerate(zone.buddy.free_area)
        if order >= node.mem_map.block_order
        for pfn in area
    ]
    assert len(large) > 3
    frames = {pfn_of(mm, BASE + page * PAGE_SIZE) for page in range(1, 64, 2)}
    Compaction(node).compact_node()

    assert all(pfn in node.zones[index].buddy.free_area[order] for index, order, pfn in large)
    moved = {pfn_of(mm, BASE + page * PAGE_SIZE) for page in range(1, 64, 2)} - frames
    assert not any(pfn <= frame < pfn + (1 << order) for _, order, pfn in large for frame in moved)
    assert [peek(mm, BASE + page * PAGE_SIZE) for page in range(1, 64, 2)] == list(range(1, 64, 2))
    machine.validate()


def test_pages_do_not_go_to_the_kernel_s_pageblocks(machine: Machine) -> None:
    """One movable page there, and the pageblock would be of both kinds."""
    node = machine.node
    mm = machine.mm()
    kept = fragment(machine, mm)
    zone = max(node.zones, key=lambda zone: zone.managed_pages)
    size = 1 << node.mem_map.block_order
    block = (zone.end_pfn - 1) // size * size
    zone.buddy.move_freepages_block(block, MIGRATE_UNMOVABLE)
    free = [pfn for pfn in range(block, zone.end_pfn) if not node.mem_map.refcount[pfn]]
    assert len(free) > size // 2
    compaction = Compaction(node)
    compaction.compact_node()

    assert compaction.stats.pgmigrate_success > 50
    assert not any(node.mem_map.refcount[pfn] for pfn in free)
    assert {address: peek(mm, address) for address in kept} == kept
    machine.validate()


def test_without_free_memory_there_is_nothing_to_win(machine: Machine) -> None:
    node = machine.node
    node.compact = compaction = Compaction(node)
    mm = machine.mm()
    map_fixed(mm, BASE, node.nr_free)
    address = BASE
    while node.nr_free > 400:
        poke(mm, address, 1)
        address += PAGE_SIZE

    assert node.alloc_pages(HUGE) is None
    assert (compaction.stats.fail, compaction.stats.migrate_scanned) == (1, 0)


def test_want_of_memory_is_not_fragmentation(machine: Machine) -> None:
    """Above the threshold of the index compaction is worth a try, and only there."""
    node = machine.node
    compaction = Compaction(node)
    zone = max(node.zones, key=lambda zone: zone.managed_pages)
    assert fragmentation_index(zone, HUGE) == INDEX_SUITABLE
    fragment(machine, machine.mm())
    assert compaction.is_suitable(zone, HUGE)
    compaction.extfrag_threshold = 1000
    assert not compaction.is_suitable(zone, HUGE)
    assert compaction.is_suitable(zone, 3), "orders that must not fail are always worth it"


def test_what_did_not_help_is_not_tried_at_once_again(machine: Machine) -> None:
    node = machine.node
    node.compact = compaction = Compaction(node)
    mm = machine.mm()
    fragment(machine, mm)
    for pfn in range(node.mem_map.nr_frames):
        if is_movable(node, pfn):
            node.get_page(Pfn(pfn))
            machine.held[Pfn(pfn)] = 1
    scanned = []
    for _ in range(12):
        assert node.alloc_pages(HUGE) is None
        scanned.append(compaction.stats.migrate_scanned)
    assert len(set(scanned)) < 6
    machine.validate()


# ---- a story of chance


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happened_before_everything_is_as_it_was(machine: Machine, seed: int) -> None:
    rng = random.Random(seed)
    node = machine.node
    compaction = Compaction(node)
    fragment(machine, machine.mm(), keep=rng.choice([2, 3, 7]))
    spaces = [machine.mm()]
    store = Store(bytes(range(256)) * (16 * 64))
    files: list[File] = [machine.file(store=store), machine.file(64 * PAGE_SIZE)]
    for mm in spaces:
        map_fixed(mm, BASE, 1024)
        for number, file in enumerate(files):
            map_fixed(mm, BASE + ((number + 2) << 24), 64, RW, MAP_SHARED if number else MAP_PRIVATE, file)
    for _ in range(6):
        for _ in range(300):
            mm = rng.choice(spaces)
            area, pages = rng.choice([(0, 1024), (2, 64), (3, 64)])
            address = BASE + (area << 24) + rng.randrange(pages) * PAGE_SIZE + rng.randrange(PAGE_SIZE)
            if rng.random() < 0.5:
                poke(mm, address, rng.randrange(256))
            else:
                touch(mm, address, READ)
        hole = BASE + rng.randrange(1000) * PAGE_SIZE
        vm_munmap(rng.choice(spaces), hole, 24 * PAGE_SIZE)
        for mm in spaces:
            map_fixed(mm, hole, 24)
        if len(spaces) < 3:
            spaces.append(machine.fork(rng.choice(spaces)))
        before = picture(spaces)
        books = [(mm.rss_anon, mm.rss_file, mm.rss_shmem) for mm in spaces]
        if rng.random() < 0.5:
            compaction.compact_node()
        else:
            for zone in node.zones:
                compaction.compact_zone(zone, rng.choice([5, 9, ALL_OF_IT]))
        assert picture(spaces) == before
        assert [(mm.rss_anon, mm.rss_file, mm.rss_shmem) for mm in spaces] == books
        machine.validate()
    assert compaction.stats.pgmigrate_success > 100
    assert copy_from_user(spaces[0], BASE, 8)


def picture(spaces: list[MmStruct]) -> list[tuple[int, int, bytes]]:
    """Every entry's address, rights and contents; not its frame."""
    seen: list[tuple[int, int, bytes]] = []
    for mm in spaces:
        ram = mm.node.physmem.ram
        for address, pte in mm.pgtable.entries(0, mm.layout.task_size):
            phys = phys_of(mm, address) & ~(PAGE_SIZE - 1)
            seen.append((address, pte ^ phys, bytes(ram[phys : phys + PAGE_SIZE])))
    return seen
