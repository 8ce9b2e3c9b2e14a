"""Corners of the reclaim policies, and what those that keep little leave to their base."""

import sys
from pathlib import Path

import pytest

from emu.x86 import PAGE_SIZE, Pfn
from minikernel.mm.page import PG_active, PG_lru, PG_referenced
from minikernel.mm.policy import find_policy, make_policy
from minikernel.mm.policy.arc import ArcPolicy
from minikernel.mm.policy.base import Scan
from minikernel.mm.policy.fifo import FifoPolicy
from minikernel.mm.swapin import swapin
from tests.minikernel.mm.touch import BASE, Machine, Store, map_fixed, poke


def machine_with(name: str) -> Machine:
    machine = Machine(ram=4 << 20)
    machine.swapon(500)
    machine.node.lru.use(make_policy(name, machine.node))
    return machine


def scan_of(machine: Machine, *, pfn_limit: int | None = None) -> Scan:
    scan = Scan(machine.node, 32, pfn_limit=machine.node.mem_map.nr_frames if pfn_limit is None else pfn_limit)
    scan.priority = 0
    return scan


def test_generations_end_the_scan_when_everything_is_always_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_with("mglru")
    mm = machine.mm()
    map_fixed(mm, BASE, 20)
    for page in range(20):
        poke(mm, BASE + page * PAGE_SIZE, 1)
    machine.node.lru.drain()
    monkeypatch.setattr(Scan, "referenced", lambda _self, _pfn: 1)
    assert list(machine.node.lru.policy.victims(scan_of(machine))) == []
    assert sum(machine.node.lru.lists()) == 20
    machine.validate()


def test_linux_2_0_passes_over_cached_pages_that_would_not_help() -> None:
    machine = machine_with("linux-2.0")
    cache = machine.file(store=Store(bytes(8 * PAGE_SIZE))).cache
    cache.read(0, 8 * PAGE_SIZE)
    machine.node.lru.drain()
    for pfn in cache.pages.values():
        machine.node.mem_map.flags[pfn] &= ~PG_referenced
    assert list(machine.node.lru.policy.victims(scan_of(machine, pfn_limit=1))) == []
    assert cache.nr_pages == 8
    victims = []
    for pfn in machine.node.lru.policy.victims(scan_of(machine)):
        victims.append(pfn)
        machine.node.mem_map.flags[pfn] &= ~PG_lru
        machine.node.lru.put_back(pfn)
        if len(victims) == 8:
            break
    assert set(victims) == set(cache.pages.values())
    machine.validate()


def test_arc_moves_a_page_that_is_read_again_to_the_frequent_ones() -> None:
    machine = machine_with("arc")
    cache = machine.file(store=Store(bytes(2 * PAGE_SIZE))).cache
    cache.read(0, 1)
    cache.read(PAGE_SIZE, 1)
    machine.node.lru.drain()
    policy = machine.node.lru.policy
    assert isinstance(policy, ArcPolicy)
    assert cache.pages[0] in policy.recent
    for _ in range(2):  # the read that brought it does not count
        cache.read(0, 1)
    assert cache.pages[0] in policy.frequent
    assert cache.pages[1] in policy.recent
    machine.validate()


def test_a_policy_may_ignore_use_and_return() -> None:
    machine = machine_with("fifo")
    cache = machine.file(store=Store(bytes(3 * PAGE_SIZE))).cache
    cache.read(0, 3 * PAGE_SIZE)
    machine.node.lru.drain()
    order = list(machine.node.lru.policy.pages())
    for _ in range(3):
        cache.read(0, 1)
    assert list(machine.node.lru.policy.pages()) == order
    assert machine.node.reclaim_pages is not None
    assert machine.node.reclaim_pages([cache.pages[0]]) == 1
    cache.read(0, 1)
    assert machine.node.vmstat["workingset_refault_file"] == 1
    assert not machine.node.mem_map.flags[cache.pages[0]] & PG_active
    assert list(machine.node.lru.policy.pages()) == order[1:]
    machine.node.lru.drain()
    assert list(machine.node.lru.policy.pages()) == [*order[1:], cache.pages[0]]


def test_a_policy_of_ones_own_is_looked_for_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_policy_of_mine.py").write_text(
        "from minikernel.mm.policy.fifo import FifoPolicy\nclass Mine(FifoPolicy):\n    name = 'mine'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    found = find_policy("a_policy_of_mine:Mine")
    assert found.name == "mine"
    assert issubclass(found, FifoPolicy)
    assert sys.path[-1] == str(tmp_path)
    assert find_policy("a_policy_of_mine:Mine") is found


def test_a_mistake_in_one_of_ours_is_no_message_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: FifoPolicy, _node: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(FifoPolicy, "__init__", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        make_policy("fifo", Machine().node)


def test_a_page_in_the_swap_cache_takes_its_slot_along_when_it_moves() -> None:
    machine = machine_with("two-list")
    mm = machine.mm()
    map_fixed(mm, BASE, 4)
    for page in range(4):
        poke(mm, BASE + page * PAGE_SIZE, page)
    machine.node.lru.drain()
    swap = machine.node.swap
    assert machine.node.reclaim_pages is not None
    machine.node.reclaim_pages(list(machine.node.lru.policy.pages()))
    first = swapin(machine.node, mm.pgtable.get(BASE))
    ahead = next(iter(swap.ra_pages))
    for old, is_ahead in ((first, False), (ahead, True)):
        new = Pfn(machine.node.mem_map.nr_frames - 1 - is_ahead)
        entry = swap.entry_of[old]
        swap.replace(old, new)
        assert (swap.cache[entry], swap.entry_of[new]) == (new, entry)
        assert old not in swap.entry_of
        assert (new in swap.ra_pages) == is_ahead
        swap.replace(new, old)
    machine.validate()


def test_what_a_policy_leaves_out_changes_nothing() -> None:
    machine = machine_with("random")
    cache = machine.file(store=Store(bytes(2 * PAGE_SIZE))).cache
    cache.read(0, 2 * PAGE_SIZE)
    machine.node.lru.drain()
    policy = machine.node.lru.policy
    order = list(policy.pages())
    machine.node.lru.deactivate(cache.pages[1])
    assert list(policy.pages()) == order
    assert policy.kswapd_pages() is None
    assert policy.kswapd_interval() is None, "kswapd sleeps until somebody wakes it"
