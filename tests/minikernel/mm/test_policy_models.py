"""Each policy against the textbook: the same reference string, the same victims, on real page tables.

A small machine of *FRAMES* pages is played: before a page comes that is not there, one must go.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.x86 import PTE_P
from minikernel.mm.page import PG_active, PG_referenced
from minikernel.mm.policy import make_policy
from minikernel.mm.policy.arc import ArcPolicy
from minikernel.mm.policy.base import Scan
from minikernel.mm.policy.linux20 import PAGE_INITIAL_AGE, Linux20Policy
from minikernel.mm.policy.mglru import MAX_NR_GENS, MIN_NR_GENS, MglruPolicy
from minikernel.mm.rmap import page_referenced
from minikernel.mm.vmscan import Vmscan
from tests.minikernel.mm.touch import BASE, READ, RW, SHARED_ANON, Machine, Store, map_fixed, pfn_of, poke, touch

FRAMES: Final = 8
PAGES: Final = 20
STRINGS = st.lists(st.integers(0, PAGES - 1), min_size=1, max_size=150)

Model = Callable[[list[int]], list[int]]


class Lab:
    """An address space of which *frames* pages at most are resident."""

    def __init__(self, policy: str, *, seed: int = 0, frames: int = FRAMES, pages: int = PAGES) -> None:
        self.machine = Machine(ram=4 << 20)
        self.node = self.machine.node
        self.node.lru.use(make_policy(policy, self.node, seed))
        self.machine.swapon(256)
        self.node.swap.page_cluster = 0
        self.vmscan = Vmscan(self.node)
        self.mm = self.machine.mm()
        self.frames, self.pages = frames, pages
        map_fixed(self.mm, BASE, pages)

    def resident(self) -> set[int]:
        return {page for page in range(self.pages) if self.mm.pgtable.get(BASE + page * 4096) & PTE_P}

    def reclaim(self, count: int = 1) -> set[int]:
        """What *count* pages' worth of reclaim took."""
        before = self.resident()
        scan = Scan(self.node, count, pfn_limit=self.node.mem_map.nr_frames)
        self.vmscan._reclaim(scan, lambda: scan.is_done, last_priority=0)
        return before - self.resident()

    def victims(self, string: list[int]) -> list[int]:
        gone = []
        for page in string:
            there = self.resident()
            if page not in there and len(there) == self.frames:
                (victim,) = self.reclaim()
                gone.append(victim)
            poke(self.mm, BASE + page * 4096, 1)
            self.node.lru.drain()
        self.machine.validate()
        return gone


# ---- the textbook


def fifo(string: list[int]) -> list[int]:
    queue: list[int] = []
    gone = []
    for page in string:
        if page in queue:
            continue
        if len(queue) == FRAMES:
            gone.append(queue.pop(0))
        queue.append(page)
    return gone


def clock(string: list[int]) -> list[int]:
    """An array of frames with a hand, as it is drawn."""
    frames: list[int] = []
    used: dict[int, bool] = {}
    hand = 0
    gone = []
    for page in string:
        used[page] = True
        if page in frames:
            continue
        if len(frames) < FRAMES:
            frames.append(page)
            continue
        while used[frames[hand]]:
            used[frames[hand]] = False
            hand = (hand + 1) % FRAMES
        gone.append(frames[hand])
        frames[hand] = page
        hand = (hand + 1) % FRAMES
    return gone


def aging(string: list[int]) -> list[int]:
    """Counters of eight bits, sampled at every replacement; the longer unused goes first of equals."""
    counters: dict[int, int] = {}
    used: set[int] = set()
    gone = []
    for page in string:
        if page not in counters and len(counters) == FRAMES:
            shifted = {each: count >> 1 | (128 if each in used else 0) for each, count in counters.items()}
            counters = dict(sorted(shifted.items(), key=lambda item: item[1]))
            used.clear()
            victim = next(iter(counters))
            del counters[victim]
            gone.append(victim)
        counters.setdefault(page, 0)
        used.add(page)
    return gone


def arc(string: list[int]) -> list[int]:
    """CAR, line by line as in the paper's figure 2; a page that comes is not used yet."""
    t1: OrderedDict[int, None] = OrderedDict()
    t2: OrderedDict[int, None] = OrderedDict()
    b1: OrderedDict[int, None] = OrderedDict()
    b2: OrderedDict[int, None] = OrderedDict()
    used: dict[int, bool] = {}
    target = 0
    gone = []
    for page in string:
        if page in t1 or page in t2:
            used[page] = True
            continue
        known = page in b1 or page in b2
        if len(t1) + len(t2) == FRAMES:
            while True:
                ring, ghosts = (t1, b1) if len(t1) >= max(1, target) else (t2, b2)
                head = ring.popitem(last=False)[0]
                if not used[head]:
                    ghosts[head] = None
                    gone.append(head)
                    break
                used[head] = False
                t2[head] = None
            if not known and len(t1) + len(b1) == FRAMES:
                b1.popitem(last=False)
            elif not known and len(t1) + len(t2) + len(b1) + len(b2) == 2 * FRAMES:
                b2.popitem(last=False)
        used[page] = False
        if page in b1:
            target = min(target + max(1, len(b2) // len(b1)), FRAMES)
            del b1[page]
            t2[page] = None
        elif page in b2:
            target = max(target - max(1, len(b1) // len(b2)), 0)
            del b2[page]
            t2[page] = None
        else:
            t1[page] = None
    return gone


@pytest.mark.parametrize(("name", "model"), [("fifo", fifo), ("clock", clock), ("aging", aging), ("arc", arc)])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(string=STRINGS)
def test_the_victims_are_the_textbooks(name: str, model: Model, string: list[int]) -> None:
    assert Lab(name).victims(string) == model(string)


def test_beladys_anomaly() -> None:
    """His string: FIFO faults more often with four frames than with three."""
    string = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5]
    assert [len(Lab("fifo", frames=frames).victims(string)) + frames for frames in (3, 4)] == [9, 10]


# ---- chance


def test_random_is_repeatable_and_fair() -> None:
    string = [page % PAGES for page in range(0, 3000, 7)]
    first = Lab("random", seed=1).victims(string)
    assert first == Lab("random", seed=1).victims(string)
    assert first != Lab("random", seed=2).victims(string)
    drawn = Counter(first)
    assert set(drawn) == set(range(PAGES))
    assert max(drawn.values()) < 3 * min(drawn.values())


# ---- adapting


def test_arc_gives_way_to_what_comes_back() -> None:
    """Ghosts of pages used once let T1 grow, ghosts of pages used again let it shrink."""
    lab = Lab("arc")
    policy = lab.node.lru.policy
    assert isinstance(policy, ArcPolicy)
    lab.victims([0, 0, 1, 1, *range(2, 12)])
    once, again = policy.ghosts
    assert (len(once), len(again), policy.target) == (3, 0, 0)
    lab.victims([5])
    assert policy.target == 1
    assert lab.node.mem_map.flags[pfn_of(lab.mm, BASE + 5 * 4096)] & PG_active
    for page in (10, 11, 10, 11, 12, 13, 12, 13, 14, 15):
        lab.victims([page])
    while not again:
        lab.victims([*range(10, 16)])
        lab.reclaim(1)
    policy.target = FRAMES
    gone = next(page for page in (0, 1) if page not in lab.resident())
    lab.victims([gone])
    assert policy.target < FRAMES


# ---- generations


def test_mglru_takes_the_generation_that_nobody_used() -> None:
    lab = Lab("mglru", frames=PAGES)
    policy = lab.node.lru.policy
    assert isinstance(policy, MglruPolicy)
    lab.victims(list(range(PAGES)))
    lab.reclaim(1)
    hot = [page for page in range(5, 10) if page in lab.resident()]
    gone = set(range(PAGES)) - lab.resident()
    for _ in range(3):
        for page in hot:
            touch(lab.mm, BASE + page * 4096, READ)
        gone |= lab.reclaim(4)
    assert len(gone) == 13
    assert not gone & set(hot)
    for kind in (0, 1):
        assert MIN_NR_GENS - 1 <= policy.max_seq - policy.min_seq[kind] < MAX_NR_GENS
    lab.machine.validate()


def test_mglru_protects_file_pages_whose_tier_comes_back() -> None:
    """Pages read several times come back each time; those read once never do: soon the former stay."""
    lab = Lab("mglru")
    hot = lab.machine.file(store=Store(bytes(128 * 4096))).cache
    stream = lab.machine.file(store=Store(bytes(8000 * 4096))).cache
    at = 0
    back = []
    for _ in range(12):
        before = lab.node.vmstat["workingset_refault_file"]
        for _ in range(4):
            for page in range(128):
                hot.read(page * 4096, 1)
                lab.node.lru.drain()
        back.append(lab.node.vmstat["workingset_refault_file"] - before)
        for _ in range(300):
            stream.read(at * 4096, 1)
            at += 1
        lab.reclaim(300)
    assert back[0] == 0
    assert max(back) > 64
    assert back[-1] < max(back) // 4


# ---- Linux 2.0


def grow_old(lab: Lab) -> None:
    """Nobody has used any page for long."""
    policy = lab.node.lru.policy
    assert isinstance(policy, Linux20Policy)
    lab.node.lru.drain()
    for pfn in policy.pages():
        lab.node.mem_map.flags[pfn] &= ~PG_referenced
        page_referenced(lab.node.mem_map, pfn)
        policy._age[pfn] = 0


def test_linux_2_0_takes_caches_first_then_shared_memory_then_processes() -> None:
    lab = Lab("linux-2.0")
    file = lab.machine.file(store=Store(bytes(8 * 4096))).cache
    map_fixed(lab.mm, BASE + 0x100000, 64, RW, SHARED_ANON)
    for page in range(8):
        poke(lab.mm, BASE + page * 4096, 1)
        file.read(page * 4096, 1)
    for page in range(64):
        poke(lab.mm, BASE + 0x100000 + page * 4096, 1)
    grow_old(lab)
    order = []
    for _ in range(8 + 64 - 31 + 8):
        before = (file.nr_pages, lab.mm.rss_shmem, lab.mm.rss_anon)
        lab.reclaim(1)
        after = (file.nr_pages, lab.mm.rss_shmem, lab.mm.rss_anon)
        order.append([old - new for old, new in zip(before, after, strict=True)].index(1))
    # Of fewer than 32 pages of shared memory a 64th, twice, is nothing.
    assert order == [0] * 8 + [1] * 33 + [2] * 8
    lab.machine.validate()


def test_linux_2_0_lets_a_page_grow_old() -> None:
    lab = Lab("linux-2.0")
    policy = lab.node.lru.policy
    assert isinstance(policy, Linux20Policy)
    lab.victims([0, 1])
    pfn = pfn_of(lab.mm, BASE)
    assert policy._age[pfn] == PAGE_INITIAL_AGE
    for _ in range(3):
        for page in (0, 1):
            touch(lab.mm, BASE + page * 4096, READ)
        scan = Scan(lab.node, 1, pfn_limit=lab.node.mem_map.nr_frames)
        assert policy._swap_out(scan, 6) is None
    assert policy._age[pfn] == PAGE_INITIAL_AGE + 9
    touch(lab.mm, BASE + 4096, READ)
    assert lab.reclaim(1) == {0}


def test_linux_2_0_asks_the_processes_in_turn() -> None:
    lab = Lab("linux-2.0")
    mms = [lab.mm, lab.machine.mm(), lab.machine.mm()]
    for mm in mms[1:]:
        map_fixed(mm, BASE, PAGES)
    for mm in mms:
        for page in range(PAGES):
            poke(mm, BASE + page * 4096, 1)
    grow_old(lab)
    taken = []
    for _ in range(24):
        before = [mm.rss for mm in mms]
        lab.reclaim(1)
        taken.append([old - mm.rss for old, mm in zip(before, mms, strict=True)].index(1))
    assert taken == ([0] * 4 + [1] * 4 + [2] * 4) * 2
    lab.machine.validate()


@pytest.mark.parametrize(("reserves", "pages", "halves"), [(1.2, 6, 1), (1.7, 3, 2), (2.5, 0, 0)])
def test_linux_2_0_works_a_little_at_a_time(reserves: float, pages: int, halves: int) -> None:
    """*reserves*: free memory, in multiples of what is kept for emergencies; *halves* of the interval follow."""
    lab = Lab("linux-2.0", pages=600)
    policy = lab.node.lru.policy
    for page in range(600):
        poke(lab.mm, BASE + page * 4096, 1)
    reserve = sum(zone.watermark[0] for zone in lab.node.zones)
    while lab.node.nr_free > reserve * reserves and (pfn := lab.node.alloc_page()) is not None:
        lab.machine.held[pfn] = 1
    assert policy.kswapd_pages() == pages
    assert policy.kswapd_interval() == (125_000_000 * halves if halves else None)
    assert lab.vmscan.balance() == pages
    assert lab.mm.swapents == pages
