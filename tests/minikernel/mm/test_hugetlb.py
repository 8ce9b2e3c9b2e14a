"""Huge pages from the pool: the pool's books, and mappings of it, rule by rule and at random, in every paging mode."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_A, PTE_D
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import (
    MADV_DONTNEED,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGE_SHIFT,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_READ,
)
from minikernel.mm.fault import SEGV_MAPERR, BusError, OutOfMemory, Segv, Served
from minikernel.mm.hugetlb import cache_of
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import do_mmap
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.mremap import do_mremap
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.page import PG_exec
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.mm.validate import validate_mm
from tests.minikernel.mm.touch import BASE, FETCH, LAYOUTS, READ, RW, WRITE, Machine, peek, pfn_of, phys_of, poke, touch

HUGE = MAP_ANONYMOUS | MAP_HUGETLB
RWX = RW | PROT_EXEC


class Scene:
    """A machine with four huge pages in the pool."""

    def __init__(self, layout: KernelLayout, nr: int = 4) -> None:
        self.machine = Machine(layout, ram=32 << 20)
        self.mm = self.machine.mm()
        self.pool = self.machine.node.hugetlb
        self.size = self.pool.size
        self.pool.set_nr(nr)
        assert self.pool.persistent == nr

    def map(self, count: int, flags: int = MAP_PRIVATE, prot: int = RW, at: int = BASE) -> int:
        return do_mmap(self.mm, at, count * self.size, prot, flags | HUGE | MAP_FIXED, None, 0)

    def fork(self) -> MmStruct:
        return self.machine.fork(self.mm)

    @property
    def books(self) -> tuple[int, int, int, int]:
        """Total, free, reserved, surplus."""
        pool = self.pool
        return pool.total, len(pool.free), pool.reserved, pool.surplus


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    made = Scene(request.param)
    yield made
    made.machine.validate()
    for mm in list(made.machine.mms):
        made.machine.destroy(mm)
    assert made.pool.reserved == 0
    assert len(made.pool.free) == made.pool.total == made.pool.persistent
    made.pool.set_nr(0)
    made.machine.validate()


def refused(errno: Errno, call: Callable[[], object]) -> None:
    with pytest.raises(LinuxError) as caught:
        call()
    assert caught.value.errno == errno


# ---- the pool


def test_the_pool_takes_blocks_and_gives_them_back(scene: Scene) -> None:
    node = scene.machine.node
    free = node.nr_free
    scene.pool.set_nr(2)
    assert node.nr_free == free + 2 * (scene.size >> 12)
    scene.pool.set_nr(3)
    assert scene.books == (3, 3, 0, 0)
    scene.pool.set_nr(1000)
    assert 4 < scene.pool.total < 17, "as many as there are"
    assert node.vmstat["htlb_buddy_alloc_fail"] == 1
    scene.pool.set_nr(4)


def test_promised_pages_and_pages_in_use_stay(scene: Scene) -> None:
    scene.map(2)
    poke(scene.mm, BASE, 1)
    scene.pool.set_nr(0)
    assert scene.books == (2, 1, 1, 2)
    scene.machine.validate()
    poke(scene.mm, BASE + scene.size, 1)
    vm_munmap(scene.mm, BASE, scene.size)
    assert scene.books == (1, 0, 0, 1)
    scene.pool.set_nr(1)
    assert scene.books == (1, 0, 0, 0)


def test_overcommit(scene: Scene) -> None:
    refused(Errno.ENOMEM, lambda: scene.map(6))
    scene.pool.nr_overcommit = 1
    refused(Errno.ENOMEM, lambda: scene.map(6))
    assert scene.books == (4, 4, 0, 0)
    scene.map(5)
    assert scene.books == (5, 5, 5, 1)
    vm_munmap(scene.mm, BASE, 5 * scene.size)
    assert scene.books == (4, 4, 0, 0)
    scene.map(5, MAP_PRIVATE | MAP_NORESERVE)
    for page in range(5):
        poke(scene.mm, BASE + page * scene.size, page)
    assert scene.books == (5, 0, 0, 1)
    vm_munmap(scene.mm, BASE, scene.size)
    assert scene.books == (4, 0, 0, 0)


def test_the_pool_says_whether_a_fault_without_a_promise_finds_a_page(scene: Scene) -> None:
    scene.map(3)
    assert scene.pool.has_unpromised, "four, three are promised"
    scene.map(1, MAP_PRIVATE | MAP_NORESERVE, at=BASE + 8 * scene.size)
    poke(scene.mm, BASE + 8 * scene.size, 1)
    assert not scene.pool.has_unpromised
    assert scene.pool.take(promised=False) is None
    scene.pool.nr_overcommit = 1
    assert scene.pool.has_unpromised, "one more may be made"
    scene.map(1, MAP_PRIVATE | MAP_NORESERVE, at=BASE + 9 * scene.size)
    poke(scene.mm, BASE + 9 * scene.size, 1)
    assert not scene.pool.has_unpromised
    assert scene.pool.take(promised=False) is None


# ---- mappings


def test_promises_are_kept(scene: Scene) -> None:
    scene.map(3)
    other = BASE + 8 * scene.size
    scene.map(2, MAP_PRIVATE | MAP_NORESERVE, at=other)
    assert isinstance(poke(scene.mm, other, 1), Served)
    outcome = touch(scene.mm, other + scene.size, WRITE)
    assert isinstance(outcome, BusError)
    for page in range(3):
        assert isinstance(poke(scene.mm, BASE + page * scene.size, page), Served)
    assert scene.books == (4, 0, 0, 0)


def test_a_page_is_cleared_and_all_there(scene: Scene) -> None:
    scene.map(1)
    poke(scene.mm, BASE + 5, 5)
    vm_munmap(scene.mm, BASE, scene.size)
    scene.map(1)
    assert isinstance(touch(scene.mm, BASE + 3 * PAGE_SIZE, READ), Served)
    assert touch(scene.mm, BASE, READ) is None
    assert copy_from_user(scene.mm, BASE, scene.size) == bytes(scene.size)
    assert scene.mm.rss == 0
    assert scene.mm.pgtable.get_large(BASE)


def test_the_kernel_writes_to_it_too(scene: Scene) -> None:
    scene.map(1)
    touch(scene.mm, BASE, READ)
    copy_to_user(scene.mm, BASE + PAGE_SIZE - 2, b"abcd")
    assert scene.mm.pgtable.get_large(BASE) & (PTE_A | PTE_D) == PTE_A | PTE_D
    assert copy_from_user(scene.mm, BASE + PAGE_SIZE - 3, 6) == b"\0abcd\0"


def test_shared_pages_are_the_files(scene: Scene) -> None:
    scene.map(2, MAP_SHARED)
    child = scene.fork()
    poke(child, BASE + scene.size, 3)
    assert peek(scene.mm, BASE + scene.size) == 3
    assert touch(scene.mm, BASE + scene.size, WRITE) is None
    scene.machine.destroy(child)
    assert scene.books == (4, 3, 1, 0)
    do_madvise(scene.mm, BASE, 2 * scene.size, MADV_DONTNEED)
    assert peek(scene.mm, BASE + scene.size) == 3
    do_madvise(scene.mm, BASE, 2 * scene.size, MADV_REMOVE)
    assert scene.books == (4, 4, 1, 0)
    assert peek(scene.mm, BASE + scene.size) == 0


def test_fork_copies_at_a_write(scene: Scene) -> None:
    scene.map(2)
    poke(scene.mm, BASE, 1)
    child = scene.fork()
    scene.machine.validate()
    assert peek(child, BASE) == 1
    assert isinstance(poke(child, BASE, 2), Served)
    assert (peek(scene.mm, BASE), peek(child, BASE)) == (1, 2)
    assert scene.books == (4, 2, 1, 0)
    assert isinstance(poke(scene.mm, BASE, 3), Served), "ours alone again"
    assert scene.books == (4, 2, 1, 0)
    scene.machine.destroy(child)
    assert scene.books == (4, 3, 1, 0)


def test_the_maker_goes_first(scene: Scene) -> None:
    scene.map(3)
    poke(scene.mm, BASE, 1)
    child = scene.fork()
    vm_munmap(scene.mm, BASE, 3 * scene.size)
    assert scene.books == (4, 3, 0, 0), "promises were for the maker"
    assert isinstance(poke(child, BASE + scene.size, 5), Served)
    assert peek(child, BASE) == 1
    scene.machine.destroy(child)


def test_a_page_that_a_child_cannot_map_goes_back_without_a_promise(scene: Scene) -> None:
    """There is a page for it, but none for the table beneath its leaf.  The promise is still its maker's."""
    scene.map(2)
    poke(scene.mm, BASE, 1)
    child = scene.fork()
    assert scene.books == (4, 3, 1, 0)
    scene.machine.node.fail_allocation(0)
    assert isinstance(touch(child, BASE + scene.size, WRITE), OutOfMemory)
    assert scene.books == (4, 3, 1, 0)
    scene.machine.validate()
    assert isinstance(touch(child, BASE + scene.size, WRITE), Served)
    assert scene.books == (4, 2, 1, 0)


def test_the_maker_takes_the_childs_page_when_there_is_no_other(scene: Scene) -> None:
    scene.map(4)
    poke(scene.mm, BASE, 1)
    child = scene.fork()
    assert isinstance(touch(child, BASE, WRITE), BusError)
    assert peek(child, BASE) == 1
    assert isinstance(poke(scene.mm, BASE, 2), Served)
    scene.machine.validate()
    assert isinstance(touch(child, BASE, READ), BusError)


def test_boundaries_are_those_of_huge_pages(scene: Scene) -> None:
    mm, size = scene.mm, scene.size
    scene.map(2)
    poke(mm, BASE, 1)
    for call in (
        lambda: vm_munmap(mm, BASE, PAGE_SIZE),
        lambda: vm_munmap(mm, BASE + PAGE_SIZE, size),
        lambda: do_mprotect(mm, BASE, PAGE_SIZE, PROT_READ),
        lambda: do_madvise(mm, BASE + PAGE_SIZE, size, MADV_DONTNEED),
        lambda: do_mmap(mm, BASE + PAGE_SIZE, PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, None, 0),
        lambda: do_mmap(mm, BASE + PAGE_SIZE, size, RW, MAP_PRIVATE | HUGE | MAP_FIXED, None, 0),
        lambda: do_mremap(mm, BASE, size, 2 * size, MREMAP_MAYMOVE, 0),
        lambda: do_mremap(mm, BASE, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + 9 * size + PAGE_SIZE),
    ):
        refused(Errno.EINVAL, call)
    do_madvise(mm, BASE, size + PAGE_SIZE, MADV_DONTNEED)
    assert not mm.pgtable.get_large(BASE)
    assert len(mm.vmas) == 1
    assert scene.books == (4, 4, 1, 0)


def test_a_refused_mapping_promises_nothing(scene: Scene) -> None:
    scene.map(1)
    refused(Errno.EINVAL, lambda: do_mmap(scene.mm, 0, scene.size, RW, HUGE, None, 0))
    at = BASE + PAGE_SIZE
    refused(Errno.EINVAL, lambda: do_mmap(scene.mm, at, scene.size, RW, HUGE | MAP_PRIVATE | MAP_FIXED, None, 0))
    scene.mm.sysctl.max_map_count = 0
    refused(Errno.ENOMEM, lambda: do_mmap(scene.mm, 0, scene.size, RW, HUGE | MAP_PRIVATE, None, 0))
    assert scene.books == (4, 4, 1, 0)


def test_a_size_may_be_asked_for(scene: Scene) -> None:
    own = scene.pool.order + PAGE_SHIFT
    for log in (own - 1, own + 2, 16):
        with pytest.raises(LinuxError, match="EINVAL"):
            scene.map(1, MAP_PRIVATE | log << MAP_HUGE_SHIFT)
    if scene.machine.node.layout.mode.va_bits > 32:
        refused(Errno.ENOMEM, lambda: scene.map(1, MAP_PRIVATE | 30 << MAP_HUGE_SHIFT))
    assert (len(scene.mm.vmas), scene.books) == (0, (4, 4, 0, 0))
    scene.map(1, MAP_PRIVATE | own << MAP_HUGE_SHIFT)
    assert isinstance(poke(scene.mm, BASE, 1), Served)
    assert scene.mm.pgtable.get_large(BASE)


def test_places(scene: Scene) -> None:
    first = do_mmap(scene.mm, 0, 1, RW, HUGE | MAP_PRIVATE, None, 0)
    second = do_mmap(scene.mm, first, scene.size + 1, RW, HUGE | MAP_PRIVATE, None, 0)
    hinted = do_mmap(scene.mm, BASE + PAGE_SIZE, scene.size, RW, HUGE | MAP_PRIVATE, None, 0)
    assert not (first | second | hinted) & (scene.size - 1)
    assert second + 2 * scene.size == first
    assert hinted == BASE + scene.size
    assert [vma.end - vma.start for vma in scene.mm.vmas] == [scene.size, 2 * scene.size, scene.size]


def test_moving_takes_page_and_promise_along(scene: Scene) -> None:
    scene.map(2)
    poke(scene.mm, BASE, 7)
    to = BASE + 8 * scene.size
    do_mremap(scene.mm, BASE, 2 * scene.size, 2 * scene.size, MREMAP_MAYMOVE | MREMAP_FIXED, to)
    scene.machine.validate()
    assert scene.books == (4, 3, 1, 0)
    assert peek(scene.mm, to) == 7
    poke(scene.mm, to + scene.size, 8)
    assert scene.books == (4, 2, 0, 0)
    do_mremap(scene.mm, to, 2 * scene.size, scene.size, 0, 0)
    assert scene.books == (4, 3, 0, 0)


def test_locking_and_populating(scene: Scene) -> None:
    scene.mm.cap_ipc_lock = True
    scene.map(1, MAP_PRIVATE | MAP_LOCKED)
    assert scene.mm.locked_vm == 0
    assert scene.mm.pgtable.get_large(BASE)
    scene.map(1, MAP_SHARED | MAP_POPULATE, at=BASE + 4 * scene.size)
    assert scene.books == (4, 2, 0, 0)
    scene.map(3, MAP_PRIVATE | MAP_NORESERVE, at=BASE + 8 * scene.size)
    far = BASE + 8 * scene.size
    refused(Errno.EFAULT, lambda: do_madvise(scene.mm, far, 3 * scene.size, MADV_POPULATE_WRITE))
    assert scene.books == (4, 0, 0, 0)


def test_protection_and_code(scene: Scene) -> None:
    mm, flags = scene.mm, scene.machine.node.mem_map.flags
    scene.map(1, prot=RWX)
    poke(mm, BASE, 1)
    assert touch(mm, BASE + 5 * PAGE_SIZE, FETCH) is None
    pfn = pfn_of(mm, BASE)
    assert flags[pfn + 5] & PG_exec
    do_mprotect(mm, BASE, scene.size, PROT_READ)
    assert isinstance(touch(mm, BASE, WRITE), Segv)
    do_mprotect(mm, BASE, scene.size, RW)
    assert isinstance(poke(mm, BASE, 2), Served)
    if mm.pgtable.mode.has_nx:
        assert not flags[pfn + 5] & PG_exec
        assert pfn + 5 in mm.node.stale_code
    scene.machine.validate()


def test_aliases_of_code_and_data_take_turns(scene: Scene) -> None:
    """Shared pages written through one mapping and run through another, as icache.py has it for small pages."""
    scene.map(1, MAP_SHARED, prot=RWX)
    child = scene.fork()
    do_mprotect(scene.mm, BASE, scene.size, RW)
    do_mprotect(child, BASE, scene.size, PROT_READ | PROT_EXEC)
    for value in (1, 2):
        poke(scene.mm, BASE, value)
        scene.machine.validate()
        assert peek(child, BASE) == value
        outcome = touch(child, BASE, FETCH)
        scene.machine.validate()
        assert touch(child, BASE, FETCH) is None
        assert (outcome is not None) or not child.pgtable.mode.has_nx or value == 1


def write_all(scene: Scene) -> None:
    for page in range(2):
        outcome = touch(scene.mm, BASE + page * scene.size, WRITE)
        assert outcome is None or isinstance(outcome, Served | OutOfMemory)


def private(scene: Scene) -> None:
    scene.map(2)
    write_all(scene)
    write_all(scene)


def shared(scene: Scene) -> None:
    scene.map(2, MAP_SHARED)
    write_all(scene)
    write_all(scene)


def forked(scene: Scene) -> None:
    scene.map(2)
    write_all(scene)
    child = scene.fork()
    touch(child, BASE, WRITE)


def moved(scene: Scene) -> None:
    scene.map(2)
    write_all(scene)
    to = BASE + 8 * scene.size
    do_mremap(scene.mm, BASE, 2 * scene.size, 2 * scene.size, MREMAP_MAYMOVE | MREMAP_FIXED, to)


def grown(scene: Scene) -> None:
    scene.pool.nr_overcommit = 2
    scene.pool.set_nr(5)
    scene.map(6)


@pytest.mark.parametrize("story", [private, shared, forked, moved, grown])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_allocation_fails_in_turn(layout: KernelLayout, story: Callable[[Scene], None]) -> None:
    for failing in range(20):
        scene = Scene(layout)
        scene.machine.node.fail_allocation(failing)
        with suppress(LinuxError):
            story(scene)
        untouched = scene.machine.node._fail_after is not None
        scene.machine.node.fail_allocation(None)
        scene.machine.validate()
        for mm in list(scene.machine.mms):
            scene.machine.destroy(mm)
        scene.machine.validate()
        assert scene.pool.reserved == scene.pool.surplus == 0
        if untouched:
            return
    pytest.fail("the story never ended")


def test_the_validators_see_a_split_page_and_a_lost_promise(scene: Scene) -> None:
    scene.map(2)
    poke(scene.mm, BASE, 1)
    cache_of(scene.mm.vmas.items[0]).promised.add(0)
    with pytest.raises(AssertionError, match="promised"):
        scene.machine.validate()
    cache_of(scene.mm.vmas.items[0]).promised.discard(0)
    leaf = scene.mm.pgtable.get_large(BASE)
    scene.mm.pgtable.split_large(BASE)
    with pytest.raises(AssertionError, match="small page"):
        validate_mm(scene.mm)
    scene.mm.pgtable.clear_range(BASE, BASE + scene.size)
    assert scene.mm.pgtable.set_large(BASE, leaf)


# ---- at random


class HugetlbSpaces(RuleBasedStateMachine):
    """Up to three address spaces over three places for two huge pages each; a dict says what a program sees.

    A page may be missing where the pool has none; then the access ends in SIGBUS and nothing has changed.
    """

    layout: KernelLayout = X86_64_LAYOUT
    ram = 24 << 20

    @initialize(nr=st.integers(1, 5), overcommit=st.integers(0, 2))
    def boot(self, nr: int, overcommit: int) -> None:
        self.machine = Machine(self.layout, ram=self.ram)
        self.pool = self.machine.node.hugetlb
        self.pool.set_nr(nr)
        self.pool.nr_overcommit = overcommit
        self.size = self.pool.size
        # Slot -> the cell that holds its byte and its rights; shared slots of a family have the same cell.
        self.spaces: list[tuple[MmStruct, dict[int, tuple[list[int], int, bool]]]] = [(self.machine.mm(), {})]

    def space(self, which: int) -> tuple[MmStruct, dict[int, tuple[list[int], int, bool]]]:
        return self.spaces[which % len(self.spaces)]

    def at(self, slot: int) -> int:
        return BASE + slot * self.size

    @rule(
        which=st.integers(0, 2),
        slot=st.integers(0, 5),
        count=st.integers(1, 2),
        shared=st.booleans(),
        lazy=st.booleans(),
    )
    def mmap(self, which: int, slot: int, count: int, shared: bool, lazy: bool) -> None:
        mm, model = self.space(which)
        flags = (MAP_SHARED if shared else MAP_PRIVATE) | (MAP_NORESERVE if lazy else 0) | HUGE | MAP_FIXED
        with suppress(LinuxError):
            do_mmap(mm, self.at(slot), count * self.size, RWX, flags, None, 0)
            model |= {at: ([0], RWX, shared) for at in range(slot, slot + count)}

    @rule(which=st.integers(0, 2), slot=st.integers(0, 5), count=st.integers(1, 3))
    def munmap(self, which: int, slot: int, count: int) -> None:
        mm, model = self.space(which)
        vm_munmap(mm, self.at(slot), count * self.size)
        for at in range(slot, slot + count):
            model.pop(at, None)

    @rule(which=st.integers(0, 2), slot=st.integers(0, 5), prot=st.sampled_from([0, PROT_READ, RW, RWX, 5]))
    def mprotect(self, which: int, slot: int, prot: int) -> None:
        mm, model = self.space(which)
        if slot in model:
            do_mprotect(mm, self.at(slot), self.size, prot)
            model[slot] = (model[slot][0], prot, model[slot][2])

    @rule(which=st.integers(0, 2), slot=st.integers(0, 2), to=st.integers(3, 5))
    def move(self, which: int, slot: int, to: int) -> None:
        mm, model = self.space(which)
        if slot in model:
            do_mremap(mm, self.at(slot), self.size, self.size, MREMAP_MAYMOVE | MREMAP_FIXED, self.at(to))
            model[to] = model.pop(slot)

    @rule(which=st.integers(0, 2), slot=st.integers(0, 5))
    def dontneed(self, which: int, slot: int) -> None:
        mm, model = self.space(which)
        if slot in model:
            do_madvise(mm, self.at(slot), self.size, MADV_DONTNEED)
            cell, prot, shared = model[slot]
            model[slot] = (cell if shared else [0], prot, shared)

    @rule(which=st.integers(0, 2), slot=st.integers(0, 5), value=st.integers(1, 255), page=st.integers(0, 511))
    def store(self, which: int, slot: int, value: int, page: int) -> None:
        mm, model = self.space(which)
        if not self.access(mm, model, slot, WRITE, 2, page):
            return
        cell, prot, shared = model[slot]
        mm.node.physmem.view8[phys_of(mm, self.at(slot))] = value
        if shared:
            cell[0] = value
        else:
            model[slot] = ([value], prot, shared)

    @rule(which=st.integers(0, 2), slot=st.integers(0, 5), fetch=st.booleans(), page=st.integers(0, 511))
    def load(self, which: int, slot: int, fetch: bool, page: int) -> None:
        mm, model = self.space(which)
        needed = PROT_EXEC if fetch and self.layout.mode.has_nx else 7
        self.access(mm, model, slot, FETCH if fetch else READ, needed, page)

    def access(
        self,
        mm: MmStruct,
        model: dict[int, tuple[list[int], int, bool]],
        slot: int,
        access: int,
        needed: int,
        page: int,
    ) -> bool:
        outcome = touch(mm, self.at(slot) + page * PAGE_SIZE, access)
        if isinstance(outcome, Segv):
            assert (slot not in model) == (outcome.code == SEGV_MAPERR)
            assert slot not in model or not model[slot][1] & needed
            return False
        if isinstance(outcome, BusError):
            self.lose_stolen(mm, model, slot)
            return False
        assert outcome is None or isinstance(outcome, Served)
        cell, prot, _ = model[slot]
        assert prot & needed
        value = mm.node.physmem.view8[phys_of(mm, self.at(slot))]
        if value != cell[0]:
            assert value == 0
            assert mm is not self.spaces[0][0], "only a child loses pages to the maker"
            model[slot] = ([0], prot, False)
        return True

    def lose_stolen(self, mm: MmStruct, model: dict[int, tuple[list[int], int, bool]], slot: int) -> None:
        """SIGBUS is for those whom nothing was promised."""
        vma = mm.vmas.find(self.at(slot))
        assert vma is not None
        cache = cache_of(vma)
        assert cache.huge_index(vma, self.at(slot)) not in cache.promised or cache.owner not in {None, mm}
        assert slot in model

    @rule(which=st.integers(0, 2))
    def fork(self, which: int) -> None:
        if len(self.spaces) < 3:
            mm, model = self.space(which)
            child = self.machine.fork(mm)
            self.spaces.append((child, dict(model)))

    @rule(which=st.integers(1, 2))
    def exit(self, which: int) -> None:
        if which < len(self.spaces):
            self.machine.destroy(self.spaces.pop(which)[0])

    @rule(nr=st.integers(0, 6))
    def resize(self, nr: int) -> None:
        self.pool.set_nr(nr)

    @invariant()
    def the_books_balance(self) -> None:
        self.machine.validate()

    def teardown(self) -> None:
        if not hasattr(self, "spaces"):
            return
        while self.spaces:
            self.machine.destroy(self.spaces.pop()[0])
        self.pool.set_nr(0)
        assert (self.pool.total, self.pool.reserved, self.pool.surplus) == (0, 0, 0)
        self.machine.validate()


class PaeHugetlbSpaces(HugetlbSpaces):
    layout = I386_PAE_LAYOUT


class TwoLevelHugetlbSpaces(HugetlbSpaces):
    layout = I386_2LEVEL_LAYOUT
    ram = 40 << 20


for _machine in (HugetlbSpaces, PaeHugetlbSpaces, TwoLevelHugetlbSpaces):
    _machine.TestCase.settings = settings(max_examples=15, stateful_step_count=40, deadline=None, derandomize=True)

TestHugetlbSpaces = HugetlbSpaces.TestCase
TestPaeHugetlbSpaces = PaeHugetlbSpaces.TestCase
TestTwoLevelHugetlbSpaces = TwoLevelHugetlbSpaces.TestCase

pytestmark = pytest.mark.slow
