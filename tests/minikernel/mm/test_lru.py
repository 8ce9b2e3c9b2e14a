"""The lists of reclaim: who is on which, what moves a page, and who is looked at first."""

from collections.abc import Callable

import pytest

from emu.x86 import PAGE_SIZE, PTE_A, PTE_P, Pfn
from minikernel.abi.errno import LinuxError
from minikernel.abi.mman import (
    MADV_COLD,
    MADV_FREE,
    MADV_PAGEOUT,
    MADV_WILLNEED,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
)
from minikernel.events import MmSwapOut, MmVmscan
from minikernel.mm.evict import Verdict, evict
from minikernel.mm.gfp import GFP_HIGHUSER, GFP_KERNEL, GFP_NORETRY
from minikernel.mm.lru import PageLru
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mlock import do_mlock
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.page import PG_active, PG_lru, PG_referenced, PG_swapcache, PG_unevictable, PG_workingset
from minikernel.mm.policy import POLICIES, make_policy
from minikernel.mm.policy.base import ACTIVE_FILE, INACTIVE_ANON, INACTIVE_FILE, Scan
from minikernel.mm.policy.two_list import TwoListPolicy
from minikernel.mm.vmscan import Vmscan
from tests.minikernel.mm.touch import BASE, FETCH, READ, RW, WRITE, Machine, Store, map_fixed, peek, pfn_of, poke, touch


@pytest.fixture
def machine() -> Machine:
    made = Machine(ram=4 << 20)
    made.swapon(2000)
    return made


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def lists(machine: Machine) -> tuple[int, ...]:
    return machine.node.lru.lists()


def flags(machine: Machine, pfn: Pfn) -> int:
    return machine.node.mem_map.flags[pfn]


def anon(machine: Machine, pages: int) -> MmStruct:
    mm = machine.mm()
    map_fixed(mm, BASE, pages)
    for page in range(pages):
        poke(mm, at(page), page & 0xFF)
    return mm


def scan_of(machine: Machine, nr: int = 32, **options: bool) -> Scan:
    return Scan(machine.node, nr, pfn_limit=machine.node.mem_map.nr_frames, **options)


# ---- coming and going


def test_pages_come_to_the_inactive_lists_and_go_when_they_are_freed(machine: Machine) -> None:
    mm = anon(machine, 3)
    cache = machine.file(store=Store(bytes(2 * PAGE_SIZE))).cache
    cache.read(0, 2 * PAGE_SIZE)
    assert lists(machine) == (3, 0, 2, 0, 0)
    machine.destroy(mm)
    assert lists(machine) == (0, 0, 2, 0, 0)
    cache.truncate(PAGE_SIZE)
    assert lists(machine) == (0, 0, 1, 0, 0)
    machine.validate()


def test_a_frame_that_is_freed_and_used_again_before_anybody_asks_is_listed_once(machine: Machine) -> None:
    for _ in range(3):
        machine.destroy(anon(machine, 2))
    mm = anon(machine, 2)
    assert lists(machine) == (2, 0, 0, 0, 0)
    assert list(machine.node.lru.policy.pages()) == [pfn_of(mm, at(0)), pfn_of(mm, at(1))]


def test_shared_memory_is_on_the_lists_of_what_goes_to_swap(machine: Machine) -> None:
    machine.file(PAGE_SIZE).cache.write(0, b"x")
    assert lists(machine) == (1, 0, 0, 0, 0)


def test_system_calls_that_use_a_page_twice_make_it_active(machine: Machine) -> None:
    cache = machine.file(store=Store(bytes(2 * PAGE_SIZE))).cache
    lru = machine.node.lru
    cache.read(0, 1)
    lru.drain()
    pfn = cache.pages[0]
    assert flags(machine, pfn) & PG_referenced
    cache.read(0, 1)
    assert flags(machine, pfn) & (PG_active | PG_referenced) == PG_active
    cache.read(0, 1)
    lru.mark_accessed(pfn)
    assert lists(machine) == (0, 0, 0, 1, 0)
    cache.read(PAGE_SIZE, 1)
    cache.read(PAGE_SIZE, 1)  # still pending
    assert lists(machine) == (0, 0, 0, 2, 0)
    lru.deactivate(pfn)
    assert lists(machine) == (0, 0, 1, 1, 0)
    lru.policy.accessed(pfn)
    lru.policy.accessed(pfn)  # it is active by now: nothing more to do
    assert lists(machine) == (0, 0, 0, 2, 0)
    machine.validate()


def test_an_unevictable_page_is_not_moved_by_use(machine: Machine) -> None:
    mm = anon(machine, 1)
    do_mlock(mm, BASE, PAGE_SIZE)
    pfn = pfn_of(mm, BASE)
    machine.node.lru.drain()
    for _ in range(2):
        machine.node.lru.mark_accessed(pfn)
    machine.node.lru.deactivate(pfn)
    assert flags(machine, pfn) & (PG_lru | PG_unevictable | PG_active) == PG_lru | PG_unevictable
    do_mlock(mm, BASE, PAGE_SIZE)  # a second time: nothing changes
    assert lists(machine) == (0, 0, 0, 0, 1)
    machine.destroy(mm)
    assert lists(machine) == (0, 0, 0, 0, 0)
    machine.validate()


def test_a_migrated_page_keeps_its_place_on_the_lists(machine: Machine) -> None:
    mm = anon(machine, 2)
    lru = machine.node.lru
    old = pfn_of(mm, BASE)
    new = machine.node.alloc_page(GFP_HIGHUSER)
    assert new is not None
    machine.node.mem_map.flags[new] = flags(machine, old)
    lru.replace(old, new)  # still pending
    assert new in lru.pending
    lru.drain()
    machine.node.mem_map.flags[new] &= ~PG_lru
    lru.policy.remove(new)
    lru.replace(old, new)
    assert flags(machine, new) & PG_lru
    assert not flags(machine, old) & PG_lru


def test_another_policy_takes_the_pages_over(machine: Machine) -> None:
    mm = anon(machine, 4)
    machine.node.lru.drain()
    machine.node.lru.policy.accessed(pfn_of(mm, at(2)))
    machine.node.lru.use(make_policy("two-list", machine.node))
    assert lists(machine) == (4, 0, 0, 0, 0)
    machine.validate()


def test_a_policy_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="no policy 'best'; there are "):
        make_policy("best", Machine().node)
    assert "two-list" in POLICIES


def test_pending_pages_are_given_to_the_policy_when_there_are_many() -> None:
    machine = Machine(ram=4 << 20)
    lru = machine.node.lru
    lru.limit = 20
    mm = anon(machine, 60)
    assert any(flags(machine, pfn_of(mm, at(page))) & PG_lru for page in range(60))
    machine.validate()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda lru, pfn: lru.policy.remove(pfn), "1 frames have PG_lru|frames have PG_lru, 0 are listed"),
        (lambda lru, pfn: lru._flags.__setitem__(pfn, lru._flags[pfn] & ~PG_lru), "is on a list"),
        (lambda lru, pfn: lru.unevictable.__setitem__(pfn, None), "listed as unevictable"),
        (lambda lru, pfn: (lru.remove(pfn), lru.pending.clear()), "is on no list"),
    ],
)
def test_damage_is_found(machine: Machine, harm: Callable[[PageLru, Pfn], object], message: str) -> None:
    mm = anon(machine, 1)
    machine.node.lru.drain()
    harm(machine.node.lru, pfn_of(mm, BASE))
    with pytest.raises(AssertionError, match=message):
        machine.node.lru.validate()


# ---- who goes first


def test_what_was_used_through_a_mapping_stays_for_a_round(machine: Machine) -> None:
    mm = anon(machine, 4)
    machine.node.lru.drain()
    for page in (0, 2, 3):
        mm.pgtable.update(at(page), clear=PTE_A)
    scan = scan_of(machine)
    scan.priority = 0
    victims = list(machine.node.lru.policy.victims(scan))
    assert pfn_of(mm, at(0)) in victims
    assert victims.index(pfn_of(mm, at(0))) < victims.index(pfn_of(mm, at(2)))


def test_code_in_use_outlives_other_file_pages(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(store=Store(bytes(4 * PAGE_SIZE)))
    map_fixed(mm, BASE, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, file)
    map_fixed(mm, at(1), 1, PROT_READ, MAP_PRIVATE, file, 1)
    touch(mm, BASE, FETCH)
    touch(mm, at(1), READ)
    policy = machine.node.lru.policy
    machine.node.lru.drain()
    scan = scan_of(machine)
    assert isinstance(policy, TwoListPolicy)
    assert list(policy._shrink_inactive(scan, INACTIVE_FILE, 2)) == []
    assert lists(machine)[ACTIVE_FILE] == 1, "code is active after one use"
    mm.pgtable.update(BASE, set=PTE_A)
    policy._shrink_active(scan, ACTIVE_FILE, 1)
    assert lists(machine)[ACTIVE_FILE] == 1, "and stays so while it is used"
    policy._shrink_active(scan, ACTIVE_FILE, 1)
    assert lists(machine)[ACTIVE_FILE] == 0
    assert flags(machine, file.cache.pages[0]) & PG_workingset
    machine.validate()


def test_a_page_used_by_two_mappings_becomes_active(machine: Machine) -> None:
    mm = anon(machine, 1)
    child = machine.fork(mm)
    for space in (mm, child):
        space.pgtable.update(BASE, set=PTE_A)
    machine.node.lru.drain()
    scan = scan_of(machine)
    policy = machine.node.lru.policy
    assert isinstance(policy, TwoListPolicy)
    assert list(policy._shrink_inactive(scan, INACTIVE_ANON, 1)) == []
    assert lists(machine)[:2] == (0, 1)


def test_pages_of_zones_that_do_not_help_are_passed_over(machine: Machine) -> None:
    anon(machine, 4)
    machine.node.lru.drain()
    scan = Scan(machine.node, 4, pfn_limit=1)
    scan.priority = 0
    assert list(machine.node.lru.policy.victims(scan)) == []
    machine.validate()


def test_a_page_was_used_if_a_mapping_or_a_system_call_says_so(machine: Machine) -> None:
    mm = anon(machine, 1)
    pfn = pfn_of(mm, BASE)
    scan = scan_of(machine)
    assert scan.used(pfn)
    assert not scan.used(pfn)
    machine.node.mem_map.flags[pfn] |= PG_referenced
    assert scan.used(pfn)
    assert not scan.used(pfn)


def test_swappiness_decides_between_anonymous_and_file_pages(machine: Machine) -> None:
    anon(machine, 200)
    cache = machine.file(store=Store(bytes(200 * PAGE_SIZE))).cache
    for index in range(200):
        cache.read(index * PAGE_SIZE, 1)
    for index in range(150):
        cache.read(index * PAGE_SIZE, 1)  # most are active: not plenty of cache that nobody uses twice
    machine.node.lru.drain()
    policy = machine.node.lru.policy
    assert isinstance(policy, TwoListPolicy)
    scan = scan_of(machine)
    scan.priority = 2
    counts = {}
    for swappiness in (0, 10, 100, 190):
        machine.node.vm_sysctl.swappiness = swappiness
        counts[swappiness] = policy._scan_counts(scan)[INACTIVE_ANON]
    assert counts[0] == 0
    assert counts[10] < counts[100] < counts[190]
    machine.node.vm_sysctl.swappiness = 100
    policy._note_cost(0, 3)
    dearer = policy._scan_counts(scan)[INACTIVE_ANON]
    assert dearer < counts[100], "what came back lately is spared"
    policy._note_cost(0, 1000)
    assert policy.cost[0] < 1000, "old costs fade"


def test_contents_that_come_back_soon_and_were_in_use_before_cost_their_kind(machine: Machine) -> None:
    mm = anon(machine, 40)
    pfn = pfn_of(mm, BASE)
    machine.node.lru.drain()
    machine.node.mem_map.flags[pfn] |= PG_workingset
    assert machine.node.reclaim_pages is not None
    machine.node.reclaim_pages([pfn])
    for page in range(1, 20):
        machine.node.lru.policy.accessed(pfn_of(mm, at(page)))
    peek(mm, BASE)
    stat = machine.node.vmstat
    assert stat["workingset_refault_anon"] == 1
    assert stat["workingset_activate_anon"] == 1
    assert stat["workingset_restore_anon"] == 1


def test_contents_that_come_back_late_start_anew(machine: Machine) -> None:
    mm = anon(machine, 4)
    machine.node.lru.drain()
    assert machine.node.reclaim_pages is not None
    machine.node.reclaim_pages([pfn_of(mm, BASE)])
    policy = machine.node.lru.policy
    assert isinstance(policy, TwoListPolicy)
    policy.nonresident_age += 1000
    peek(mm, BASE)
    assert machine.node.vmstat["workingset_refault_anon"] == 1
    assert machine.node.vmstat["workingset_activate_anon"] == 0


# ---- what cannot go


def test_a_page_that_somebody_holds_stays(machine: Machine) -> None:
    mm = anon(machine, 1)
    pfn = pfn_of(mm, BASE)
    machine.node.get_page(pfn)
    machine.node.lru.drain()
    assert machine.node.reclaim_pages is not None
    assert machine.node.reclaim_pages([pfn]) == 0
    assert lists(machine)[INACTIVE_ANON] == 1
    machine.node.put_page(pfn)


def test_a_page_of_nobody_stays(machine: Machine) -> None:
    """Read ahead by one who then took it over: neither mapped nor in the swap cache."""
    pfn = machine.node.alloc_page(GFP_HIGHUSER)
    assert pfn is not None
    machine.node.mem_map.refcount[pfn] = 0
    machine.node.mem_map.flags[pfn] |= 1 << 14
    assert evict(scan_of(machine), pfn) is Verdict.KEPT


def test_dirty_file_pages_stay_while_nothing_may_be_written(machine: Machine) -> None:
    cache = machine.file(store=Store(bytes(PAGE_SIZE))).cache
    cache.write(0, b"x")
    scan = scan_of(machine, may_write=False)
    machine.node.lru.drain()
    machine.node.lru.remove(cache.pages[0])
    assert evict(scan, cache.pages[0]) is Verdict.KEPT


def test_pages_become_active_when_swap_is_full_or_broken(machine: Machine) -> None:
    mm = anon(machine, 2)
    shared = machine.file(PAGE_SIZE)
    map_fixed(mm, at(2), 1, RW, MAP_SHARED, shared)
    poke(mm, at(2), 3)
    frames = [pfn_of(mm, at(page)) for page in range(3)]
    area = machine.node.swap.order[0]
    store = area.store
    store.fail = True  # type: ignore[attr-defined]  # a RamSwap
    assert machine.node.reclaim_pages is not None
    assert machine.node.reclaim_pages(frames) == 0
    assert lists(machine) == (0, 3, 0, 0, 0)
    store.fail = False  # type: ignore[attr-defined]
    taken = [area.take() for _ in range(area.nr_free)]
    assert machine.node.reclaim_pages(frames) == 0
    for slot in taken:
        area.release(slot)
    assert machine.node.reclaim_pages(frames) == 3
    machine.validate()


def test_a_cached_page_that_cannot_be_written_again_stays(machine: Machine) -> None:
    mm = anon(machine, 1)
    assert machine.node.reclaim_pages is not None
    machine.node.reclaim_pages([pfn_of(mm, BASE)])
    peek(mm, BASE)
    pfn = pfn_of(mm, BASE)
    touch(mm, BASE, WRITE)
    mm.pgtable.update(BASE, set=1 << 6)
    store = machine.node.swap.order[0].store
    store.fail = True  # type: ignore[attr-defined]  # a RamSwap
    assert machine.node.reclaim_pages([pfn]) == 0
    assert flags(machine, pfn) & PG_swapcache
    machine.validate()


class Forgetful(TwoListPolicy):
    """A policy that does not care what comes back."""

    def evicted(self, pfn: Pfn) -> object | None:
        return None


def test_a_policy_without_memory(machine: Machine) -> None:
    machine.node.lru.use(Forgetful(machine.node))
    mm = anon(machine, 1)
    shared = machine.file(PAGE_SIZE)
    map_fixed(mm, at(1), 1, RW, MAP_SHARED, shared)
    poke(mm, at(1), 2)
    disk = machine.file(store=Store(bytes(PAGE_SIZE)))
    disk.cache.read(0, 1)
    frames = [pfn_of(mm, at(0)), pfn_of(mm, at(1)), disk.cache.pages[0]]
    assert machine.node.reclaim_pages is not None
    assert machine.node.reclaim_pages(frames) == 3
    assert not machine.node.swap.shadows
    assert not disk.cache.shadows
    assert [peek(mm, at(0)), peek(mm, at(1))] == [0, 2]
    disk.cache.read(0, 1)
    assert not any(name.startswith("workingset_refault") for name in machine.node.vmstat)
    machine.validate()


# ---- advice


def test_advice_about_memory_in_swap(machine: Machine) -> None:
    mm = anon(machine, 8)
    child = machine.fork(mm)
    assert machine.node.reclaim_pages is not None
    machine.node.reclaim_pages([pfn_of(mm, at(page)) for page in range(8)])
    # One page is cached and shared, one is cached and ours alone, one only in swap.
    peek(mm, at(0))
    machine.node.swap.page_cluster = 0
    machine.destroy(child)
    machine.validate()
    do_madvise(mm, at(0), 4 * PAGE_SIZE, MADV_FREE)
    do_madvise(mm, at(4), 4 * PAGE_SIZE, MADV_COLD)
    do_madvise(mm, at(4), 4 * PAGE_SIZE, MADV_PAGEOUT)
    assert [peek(mm, at(page)) for page in range(4, 8)] == [4, 5, 6, 7]
    machine.validate()


def test_lazy_freeing_of_pages_that_others_have_in_swap(machine: Machine) -> None:
    mm = anon(machine, 2)
    child = machine.fork(mm)
    machine.node.swap.page_cluster = 0
    assert machine.node.reclaim_pages is not None
    machine.node.reclaim_pages([pfn_of(mm, at(page)) for page in range(2)])
    assert [peek(mm, at(page)) for page in range(2)] == [0, 1]
    held = pfn_of(mm, at(1))
    machine.node.get_page(held)
    do_madvise(mm, BASE, 2 * PAGE_SIZE, MADV_FREE)  # the child's copies are in the slots: the pages stay
    assert [peek(mm, at(page)) for page in range(2)] == [0, 1]
    machine.destroy(child)
    do_madvise(mm, BASE, 2 * PAGE_SIZE, MADV_FREE)
    machine.node.put_page(held)
    machine.node.reclaim_pages([pfn_of(mm, at(0))])
    assert peek(mm, at(0)) == 0
    machine.validate()


def test_paging_out_locked_memory_is_refused_and_nothing_happens_without_reclaim() -> None:
    machine = Machine()
    mm = anon(machine, 1)
    do_madvise(mm, BASE, PAGE_SIZE, MADV_PAGEOUT)
    assert mm.pgtable.get(BASE) & PTE_P
    do_mlock(mm, BASE, PAGE_SIZE)
    for advice in (MADV_COLD, MADV_PAGEOUT):
        with pytest.raises(LinuxError, match="EINVAL"):
            do_madvise(mm, BASE, PAGE_SIZE, advice)


def test_willneed_of_what_cannot_be_read_is_only_advice(machine: Machine) -> None:
    mm = anon(machine, 1)
    assert machine.node.reclaim_pages is not None
    machine.node.reclaim_pages([pfn_of(mm, BASE)])
    store = machine.node.swap.order[0].store
    store.fail = True  # type: ignore[attr-defined]  # a RamSwap
    do_madvise(mm, BASE, PAGE_SIZE, MADV_WILLNEED)
    store.fail = False  # type: ignore[attr-defined]
    assert peek(mm, BASE) == 0


def test_protection_changes_while_a_page_is_in_swap(machine: Machine) -> None:
    mm = anon(machine, 2)
    assert machine.node.reclaim_pages is not None
    machine.node.reclaim_pages([pfn_of(mm, at(1))])
    do_mprotect(mm, BASE, 2 * PAGE_SIZE, PROT_READ)
    assert peek(mm, at(1)) == 1
    machine.validate()


def test_a_write_to_a_cached_page_whose_slot_nobody_else_has_needs_no_copy(machine: Machine) -> None:
    mm = anon(machine, 1)
    child = machine.fork(mm)
    assert machine.node.reclaim_pages is not None
    machine.node.reclaim_pages([pfn_of(mm, BASE)])
    peek(mm, BASE)
    pfn = pfn_of(mm, BASE)
    machine.destroy(child)
    poke(mm, BASE, 7)
    assert pfn_of(mm, BASE) == pfn
    assert not flags(machine, pfn) & PG_swapcache
    machine.validate()


def test_truncation_of_a_private_mapping_takes_pages_in_swap_along(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(store=Store(bytes(4 * PAGE_SIZE)))
    map_fixed(mm, BASE, 4, RW, MAP_PRIVATE, file)
    for page in range(4):
        poke(mm, at(page), page + 1)
    assert machine.node.reclaim_pages is not None
    assert machine.node.reclaim_pages([pfn_of(mm, at(page)) for page in range(4)]) == 4
    memory = machine.file(4 * PAGE_SIZE)
    map_fixed(mm, at(8), 4, RW, MAP_PRIVATE, memory)
    poke(mm, at(8), 9)
    assert machine.node.reclaim_pages([pfn_of(mm, at(8))]) == 1
    memory.cache.punch_hole(0, PAGE_SIZE)  # private copies stay
    assert peek(mm, at(8)) == 9
    file.cache.truncate(2 * PAGE_SIZE)
    assert mm.swapents == 2
    machine.validate()


def test_shared_memory_that_is_overwritten_as_a_whole_needs_no_reading_back(machine: Machine) -> None:
    cache = machine.file(2 * PAGE_SIZE).cache
    cache.write(0, bytes([1]) * 2 * PAGE_SIZE)
    assert machine.node.reclaim_pages is not None
    machine.node.lru.drain()
    machine.node.reclaim_pages([cache.pages[0], cache.pages[1]])
    cache.write(0, bytes([2]) * PAGE_SIZE)
    assert machine.node.vmstat["pswpin"] == 0
    assert cache.read(0, 1) + cache.read(PAGE_SIZE, 1) == b"\2\1"
    assert cache.allocated == [0, 1]
    machine.validate()


# ---- the machinery around


class Hoard:
    """A shrinker that holds a frame for each of its objects, and gives them all at once."""

    name = "hoard"

    def __init__(self, machine: Machine, count: int) -> None:
        self.machine = machine
        self.frames = [machine.node.alloc_page(GFP_KERNEL) for _ in range(count)]
        self.also: Callable[[], int] = lambda: 0
        self.answers: list[int] = []

    def count_objects(self) -> int:
        return len(self.frames)

    def scan_objects(self, nr_to_scan: int) -> int:
        assert nr_to_scan > 0
        self.answers.append(self.also())
        count = len(self.frames)
        while self.frames:
            pfn = self.frames.pop()
            assert pfn is not None
            self.machine.node.put_page(pfn)
        return count


def test_events_tell_of_reclaim_and_of_every_page_that_goes_to_swap(machine: Machine) -> None:
    mm = anon(machine, 100)
    for page in range(100):
        mm.pgtable.update(at(page), clear=PTE_A)
    with machine.events() as told:
        assert machine.node.reclaim is not None
        freed = machine.node.reclaim(0, GFP_HIGHUSER)
    assert sum(isinstance(event, MmSwapOut) for event in told) == freed
    (summary,) = [event for event in told if isinstance(event, MmVmscan)]
    assert (summary.by, summary.nr_reclaimed) == ("direct", freed)


def test_caches_are_dropped_but_for_what_is_dirty_or_in_use(machine: Machine) -> None:
    mm = machine.mm()
    disk = machine.file(store=Store(bytes(40 * PAGE_SIZE)))
    memory = machine.file(PAGE_SIZE)
    memory.cache.write(0, b"m")
    disk.cache.write(0, b"d")
    map_fixed(mm, BASE, 2, PROT_READ, MAP_SHARED, disk, 16)
    touch(mm, BASE)
    disk.cache.read(0, 40 * PAGE_SIZE)
    assert Vmscan(machine.node).drop_pagecache() == 37
    assert sorted(disk.cache.pages) == [0, 16, 17]
    assert memory.cache.read(0, 1) == b"m"
    machine.validate()


def test_reclaim_within_reclaim_does_nothing_and_shrinkers_are_asked(machine: Machine) -> None:
    vmscan = Vmscan(machine.node)
    machine.node.reclaim = vmscan.try_to_free_pages
    hoard = Hoard(machine, 4)
    hoard.also = lambda: vmscan.try_to_free_pages(0, GFP_KERNEL)
    machine.node.shrinkers.append(hoard)
    assert vmscan.try_to_free_pages(0, GFP_KERNEL) >= 4
    assert set(hoard.answers) == {0}


def test_kswapd_gives_up_when_there_is_nothing_to_take() -> None:
    machine = Machine(ram=4 << 20)
    vmscan = Vmscan(machine.node)
    while machine.node.alloc_page(GFP_HIGHUSER) is not None:
        pass
    assert vmscan.balance() == 0


def test_locked_pages_are_looked_at_again_when_it_gets_serious(machine: Machine) -> None:
    """The mapping that locked it is gone, and nobody told the page."""
    mm = machine.mm()
    file = machine.file(store=Store(bytes(200 * PAGE_SIZE)))
    map_fixed(mm, BASE, 200, PROT_READ, MAP_SHARED, file)
    do_mlock(mm, BASE, 200 * PAGE_SIZE)
    machine.node.lru.drain()
    assert lists(machine)[4] == 200
    machine.destroy(mm)
    assert lists(machine)[4] == 200
    vmscan = Vmscan(machine.node)
    assert vmscan.try_to_free_pages(0, GFP_KERNEL) == 32
    assert machine.node.vmstat["unevictable_pgs_rescued"] == 1
    machine.validate()


def test_the_last_file_pages_are_left_alone_where_nothing_else_can_go() -> None:
    machine = Machine(ram=4 << 20)
    cache = machine.file(store=Store(bytes(20 * PAGE_SIZE))).cache
    cache.read(0, 20 * PAGE_SIZE)
    assert Vmscan(machine.node).try_to_free_pages(0, GFP_KERNEL) == 0
    assert cache.nr_pages == 20


def test_the_allocator_asks_again_as_long_as_reclaim_helps_and_then_the_killer() -> None:
    machine = Machine(ram=4 << 20)
    node = machine.node
    held = []
    while (pfn := node.alloc_page(GFP_HIGHUSER)) is not None:
        held.append(pfn)
    asked: list[str] = []

    def reclaim(_order: int, _gfp: int) -> int:
        asked.append("reclaim")
        return 1 if len(asked) < 5 else 0

    def killer(_order: int, _gfp: int) -> bool:
        asked.append("kill")
        return len(asked) > 6

    node.reclaim, node.out_of_memory = reclaim, killer
    assert node.alloc_page(GFP_HIGHUSER) is None
    assert asked == ["reclaim"] * 5 + ["kill"]
    assert node.alloc_page(GFP_HIGHUSER) is not None, "the reserves are open to who was asked to die"
    asked.clear()
    assert node.alloc_page(GFP_HIGHUSER | GFP_NORETRY) is None
    assert node.alloc_pages(4, GFP_KERNEL) is None
    assert node.alloc_pages(2, GFP_KERNEL | GFP_NORETRY) is None
    assert "kill" not in asked
    asked.clear()
    node.reclaim = lambda _order, _gfp: 1
    assert node.alloc_page(GFP_HIGHUSER | GFP_NORETRY) is None, "it does not ask for ever"

    def generous(_order: int, _gfp: int) -> bool:
        for _ in range(40):
            node.put_page(held.pop())
        node.drain_all_pages()
        return True

    node.out_of_memory = generous
    assert node.alloc_page(GFP_HIGHUSER) is not None


def test_the_machine_gives_its_swap_files_back() -> None:
    machine = Machine()
    stores = [machine.swapon(20), machine.swapon(20)]
    gone = machine.node.swap.order[0]
    machine.node.swap.retire(gone)
    machine.node.swap.remove(gone)
    machine.node.swap.close()
    assert all(store.closed for store in stores)


def test_a_page_that_is_locked_before_anybody_asks_is_unevictable_at_once(machine: Machine) -> None:
    mm = anon(machine, 1)
    pfn = pfn_of(mm, BASE)
    assert pfn in machine.node.lru.pending
    machine.node.lru.mlock(pfn)
    assert lists(machine) == (0, 0, 0, 0, 1)
    machine.validate()


def test_the_active_list_feeds_the_inactive_one(machine: Machine) -> None:
    mm = anon(machine, 300)
    machine.node.lru.drain()
    for page in range(200):
        machine.node.lru.policy.accessed(pfn_of(mm, at(page)))
        mm.pgtable.update(at(page), clear=PTE_A)
    assert lists(machine)[:2] == (100, 200)
    scan = scan_of(machine, 64)
    scan.priority = 0
    for pfn in machine.node.lru.policy.victims(scan):
        machine.node.mem_map.flags[pfn] &= ~PG_lru
        machine.node.lru.put_back(pfn)
    assert lists(machine)[1] < 200
    machine.validate()


def test_fork_of_a_mapping_in_ram_beside_one_in_swap(machine: Machine) -> None:
    mm = anon(machine, 1)
    map_fixed(mm, at(4), 1)
    poke(mm, at(4), 4)
    assert machine.node.reclaim_pages is not None
    machine.node.reclaim_pages([pfn_of(mm, at(4))])
    child = machine.fork(mm)
    assert [peek(child, at(0)), peek(child, at(4))] == [0, 4]
    machine.validate()


def test_paging_out_takes_unused_pages_and_skips_what_is_on_no_list(machine: Machine) -> None:
    mm = anon(machine, 2)
    mm.pgtable.update(at(1), clear=PTE_A)
    assert machine.node.reclaim_pages is not None
    assert machine.node.reclaim_pages([machine.node.zero_pfn]) == 0
    do_madvise(mm, BASE, 2 * PAGE_SIZE, MADV_PAGEOUT)
    assert mm.swapents == 2


def test_a_shrinker_can_be_enough(machine: Machine) -> None:
    """Nothing is on the lists; the kernel's own caches give what is needed."""
    machine.node.shrinkers.append(Hoard(machine, 64))
    assert Vmscan(machine.node).try_to_free_pages(0, GFP_KERNEL) == 64


def test_evictions_that_leave_the_inactive_list_short_make_it_refill(machine: Machine) -> None:
    mm = anon(machine, 60)
    machine.node.lru.drain()
    for page in range(28):
        machine.node.lru.policy.accessed(pfn_of(mm, at(page)))
    for page in range(60):
        mm.pgtable.update(at(page), clear=PTE_A)
    scan = scan_of(machine, 8)
    scan.priority = 0
    taken = 0
    for pfn in machine.node.lru.policy.victims(scan):
        machine.node.mem_map.flags[pfn] &= ~PG_lru
        taken += evict(scan, pfn) is Verdict.FREED
        scan.nr_reclaimed = taken
    assert taken == 8
    assert lists(machine)[:2] == (52, 0), "all that was active came along"
    machine.validate()


def test_the_place_of_every_allocation_is_noted_when_somebody_looks_for_leaks(machine: Machine) -> None:
    node = machine.node
    node.track_allocations()
    single, block = node.alloc_page(GFP_KERNEL), node.alloc_pages(3, GFP_KERNEL)
    again = node.objects.filp.alloc()
    assert single is not None
    assert block is not None
    assert node.page_owner is not None
    here = "test_lru.py:"
    where = " test_the_place_of_every_allocation_is_noted_when_somebody_looks_for_leaks"
    for pfn in (single, block):
        assert node.page_owner.sites[pfn].startswith(here)
        assert node.page_owner.sites[pfn].endswith(where)
    slab = Pfn((again - node.slab.page_offset) >> 12)
    assert node.page_owner.sites[slab].endswith(where), "the slab allocator is not who asked"


def test_a_block_may_come_of_compaction_after_reclaim(machine: Machine) -> None:
    node = machine.node
    held = []
    while (pfn := node.alloc_page(GFP_KERNEL)) is not None:
        held.append(pfn)
    node.reclaim = lambda _order, _gfp: 1
    tries: list[int] = []

    def compact(order: int, _gfp: int) -> bool:
        tries.append(order)
        if len(tries) < 2:
            return False
        for pfn in held[:600]:
            node.put_page(pfn)
        node.drain_all_pages()
        return True

    node.compact = compact
    assert node.alloc_pages(2, GFP_KERNEL) is not None
    assert tries == [2, 2], "before reclaim in vain, and after it"
