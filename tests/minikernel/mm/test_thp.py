"""Transparent huge pages, rule by rule, in every paging mode."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from emu.x86 import PAGE_SIZE, PTE_A, PTE_D, PTE_P, PTE_RW, Pfn
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DONTDUMP,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
)
from minikernel.events import FaultKind
from minikernel.mm.fault import OutOfMemory, Segv, Served
from minikernel.mm.gfp import GFP_DIRECT_RECLAIM, GFP_KSWAPD_RECLAIM, GFP_NORETRY
from minikernel.mm.layout import KernelLayout
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mlock import do_mlock, do_munlock
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.mremap import do_mremap
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.page import PG_exec
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.rmap import page_referenced
from minikernel.mm.thp import THP_DISABLED, THP_EXCEPT_ADVISED, alloc_huge, free_huge, gfp_mask, set_enabled
from minikernel.mm.validate import validate_mm
from tests.minikernel.mm.touch import (
    ANON,
    BASE,
    FETCH,
    LAYOUTS,
    READ,
    RW,
    SHARED_ANON,
    WRITE,
    Machine,
    map_fixed,
    peek,
    pfn_of,
    poke,
    touch,
)


class Scene:
    """An address space with room for two huge pages at BASE, advised; a page between them and everything else."""

    def __init__(self, layout: KernelLayout) -> None:
        self.machine = Machine(layout, ram=24 << 20)
        self.node = self.machine.node
        self.mm: MmStruct = self.machine.mm()
        self.size = self.mm.pgtable.large_size
        self.pages = self.size // PAGE_SIZE
        self.end = BASE + 2 * self.size
        map_fixed(self.mm, BASE, 2 * self.pages)
        self.advise(MADV_HUGEPAGE)

    def advise(self, advice: int, start: int = BASE, length: int | None = None) -> None:
        do_madvise(self.mm, start, 2 * self.size if length is None else length, advice)

    def is_huge(self, address: int = BASE, mm: MmStruct | None = None) -> bool:
        return bool((mm or self.mm).pgtable.get_large(address))

    def fork(self) -> MmStruct:
        return self.machine.fork(self.mm)

    def count(self, name: str) -> int:
        return self.node.vmstat[name]

    def fragment(self) -> list[Pfn]:
        """Take every block that is large enough for a huge page; the frames, to be given back."""
        order = (self.size // PAGE_SIZE).bit_length() - 1
        blocks = []
        while (pfn := self.node.alloc_pages(order, 0)) is not None:
            blocks.append(pfn)
        return blocks


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    made = Scene(request.param)
    made.machine.swapon(8192)
    yield made
    made.machine.validate()
    for mm in list(made.machine.mms):
        made.machine.destroy(mm)
    made.machine.validate()


def kind(outcome: object) -> FaultKind:
    assert isinstance(outcome, Served)
    return outcome.kind


def refused(errno: Errno, call: Callable[[], object]) -> None:
    with pytest.raises(LinuxError) as caught:
        call()
    assert caught.value.errno == errno


# ---- faults


def test_the_first_write_brings_all_of_it(scene: Scene) -> None:
    assert kind(touch(scene.mm, BASE + 5 * PAGE_SIZE + 3, WRITE)) is FaultKind.HUGE_ANON
    assert scene.is_huge()
    assert scene.mm.rss_anon == scene.pages
    assert not scene.is_huge(BASE + scene.size)
    for page in range(0, scene.pages, 17):
        assert touch(scene.mm, BASE + page * PAGE_SIZE, WRITE) is None
        assert peek(scene.mm, BASE + page * PAGE_SIZE) == 0
    assert scene.count("thp_fault_alloc") == 1
    assert scene.mm.min_flt == 1


def test_frames_of_former_users_are_cleared(scene: Scene) -> None:
    for pfn in scene.fragment():
        scene.node.physmem.ram[pfn << 12 : (pfn << 12) + scene.size] = b"x" * scene.size
        scene.node.put_page(pfn)
    poke(scene.mm, BASE, 1)
    assert scene.is_huge()
    assert {peek(scene.mm, BASE + page * PAGE_SIZE) for page in range(1, scene.pages)} == {0}


def test_reads_share_the_huge_zero_page(scene: Scene) -> None:
    assert kind(touch(scene.mm, BASE, READ)) is FaultKind.HUGE_ZERO_PAGE
    assert kind(touch(scene.mm, scene.end - 1, READ)) is FaultKind.HUGE_ZERO_PAGE
    assert scene.mm.rss == 0
    assert scene.count("thp_zero_page_alloc") == 1
    assert pfn_of(scene.mm, BASE) == pfn_of(scene.mm, BASE + scene.size)
    assert kind(poke(scene.mm, BASE + 7, 5)) is FaultKind.HUGE_ANON
    assert peek(scene.mm, BASE + 7) == 5
    assert peek(scene.mm, BASE + scene.size + 7) == 0
    scene.machine.validate()


def test_the_huge_zero_page_goes_when_nobody_uses_it(scene: Scene) -> None:
    free = scene.node.nr_free
    other = scene.machine.mm()
    map_fixed(other, BASE, scene.pages)
    do_madvise(other, BASE, scene.size, MADV_HUGEPAGE)
    touch(other, BASE, READ)
    third = scene.machine.fork(other)
    scene.machine.destroy(other)
    assert scene.node.huge_zero.scan_objects(1) == scene.node.huge_zero.count_objects() == 0, "the fork may use it"
    scene.machine.destroy(third)
    assert scene.node.huge_zero.scan_objects(1) == scene.pages
    assert scene.node.huge_zero.scan_objects(1) == 0
    assert scene.node.nr_free == free


def test_without_the_huge_zero_page_a_read_takes_memory(scene: Scene) -> None:
    scene.node.vm_sysctl.thp.use_zero_page = 0
    do_mprotect(scene.mm, BASE, scene.size, PROT_READ)
    assert kind(touch(scene.mm, BASE, READ)) is FaultKind.HUGE_ANON
    assert not scene.mm.pgtable.get(BASE) & PTE_RW
    do_mprotect(scene.mm, BASE, scene.size, RW)
    assert touch(scene.mm, BASE, WRITE) is None


@pytest.mark.parametrize("access", [READ, WRITE])
def test_without_a_block_a_small_page_does(scene: Scene, access: int) -> None:
    scene.node.drain_all_pages()
    blocks = scene.fragment()
    wanted = FaultKind.ANON if access == WRITE else FaultKind.ZERO_PAGE
    assert kind(touch(scene.mm, BASE, access)) is wanted
    assert scene.count("thp_fault_fallback") == 1
    for pfn in blocks:
        scene.node.put_page(pfn)
    assert kind(touch(scene.mm, BASE + PAGE_SIZE, WRITE)) is FaultKind.ANON, "there is a table now"


def test_a_write_to_huge_zeroes_without_a_block_is_a_small_copy(scene: Scene) -> None:
    touch(scene.mm, BASE, READ)
    blocks = scene.fragment()
    assert kind(poke(scene.mm, BASE + PAGE_SIZE, 9)) is FaultKind.COW_COPY
    assert not scene.is_huge()
    assert [peek(scene.mm, BASE + page * PAGE_SIZE) for page in range(3)] == [0, 9, 0]
    for pfn in blocks:
        scene.node.put_page(pfn)


def test_only_whole_aligned_ranges_of_advised_mappings(scene: Scene) -> None:
    mm, far = scene.mm, scene.end + scene.size
    map_fixed(mm, far + PAGE_SIZE, scene.pages)
    do_madvise(mm, far + PAGE_SIZE, scene.size, MADV_HUGEPAGE)
    assert kind(touch(mm, far + PAGE_SIZE, WRITE)) is FaultKind.ANON
    assert kind(touch(mm, far + scene.size, WRITE)) is FaultKind.ANON
    map_fixed(mm, far + 4 * scene.size, scene.pages)
    assert kind(touch(mm, far + 4 * scene.size, WRITE)) is FaultKind.ANON
    map_fixed(mm, far + 6 * scene.size, scene.pages, RW, SHARED_ANON)
    do_madvise(mm, far + 6 * scene.size, scene.size, MADV_HUGEPAGE)
    assert kind(touch(mm, far + 6 * scene.size, WRITE)) is not FaultKind.HUGE_ANON
    scene.advise(MADV_NOHUGEPAGE)
    assert kind(touch(mm, BASE, WRITE)) is FaultKind.ANON


@pytest.mark.parametrize(
    ("mode", "disabled", "advised", "plain"),
    [
        ("always", 0, True, True),
        ("madvise", 0, True, False),
        ("never", 0, False, False),
        ("always", THP_DISABLED, False, False),
        ("always", THP_DISABLED | THP_EXCEPT_ADVISED, True, False),
    ],
)
def test_knob_and_prctl(scene: Scene, mode: str, disabled: int, advised: bool, plain: bool) -> None:
    set_enabled(scene.node, mode)
    scene.mm.thp_disabled = disabled
    other = scene.end + scene.size
    map_fixed(scene.mm, other, scene.pages)
    assert (kind(touch(scene.mm, BASE, WRITE)) is FaultKind.HUGE_ANON) == advised
    assert (kind(touch(scene.mm, other, WRITE)) is FaultKind.HUGE_ANON) == plain


def test_defrag_says_who_may_reclaim(scene: Scene) -> None:
    advised = scene.mm.vmas.items[0]
    map_fixed(scene.mm, scene.end + scene.size, 1)
    plain = scene.mm.vmas.items[-1]
    direct, kswapd = GFP_DIRECT_RECLAIM | GFP_NORETRY, GFP_KSWAPD_RECLAIM
    for mode, wanted in (
        ("always", (direct, direct)),
        ("defer", (kswapd, kswapd)),
        ("defer+madvise", (direct, kswapd)),
        ("madvise", (direct, 0)),
        ("never", (0, 0)),
    ):
        scene.node.vm_sysctl.thp.defrag = mode
        got = tuple(gfp_mask(scene.node, vma) & (direct | kswapd) for vma in (advised, plain))
        assert got == wanted, mode


# ---- fork


def test_fork_shares_it_and_a_write_splits(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    poke(scene.mm, BASE + PAGE_SIZE, 2)
    child = scene.fork()
    assert scene.is_huge()
    assert scene.is_huge(mm=child)
    assert child.rss_anon == scene.pages
    assert kind(poke(child, BASE, 7)) is FaultKind.COW_COPY
    assert not scene.is_huge(mm=child)
    assert scene.is_huge()
    assert (peek(scene.mm, BASE), peek(child, BASE), peek(child, BASE + PAGE_SIZE)) == (1, 7, 2)
    assert scene.count("thp_split_pmd") == 1
    scene.machine.validate()
    assert kind(poke(scene.mm, BASE, 8)) is FaultKind.COW_REUSE
    assert not scene.is_huge(), "its other pages are shared still"
    assert peek(child, BASE) == 7


def test_it_is_ours_again_when_the_child_is_gone(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    child = scene.fork()
    scene.machine.destroy(child)
    assert kind(poke(scene.mm, BASE + PAGE_SIZE, 2)) is FaultKind.COW_REUSE
    assert scene.is_huge()
    assert touch(scene.mm, BASE, WRITE) is None


def test_the_child_takes_it_over(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    child = scene.fork()
    scene.machine.destroy(scene.mm)
    assert kind(poke(child, BASE + PAGE_SIZE, 2)) is FaultKind.COW_REUSE
    assert scene.is_huge(mm=child)
    owner = child.vmas.items[0].anon_vma
    assert scene.node.mem_map.owner[pfn_of(child, scene.end - scene.size - 1)] is owner
    assert peek(child, BASE) == 1


# ---- parts change


def test_a_mapping_boundary_splits(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    poke(scene.mm, BASE + scene.size, 1)
    scene.advise(MADV_DONTDUMP, BASE, scene.size + 3 * PAGE_SIZE)
    assert scene.is_huge()
    assert not scene.is_huge(BASE + scene.size)


def test_protection_of_all_of_it_keeps_it(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    for prot in (PROT_NONE, PROT_READ, RW | PROT_EXEC, PROT_READ | PROT_EXEC, RW):
        do_mprotect(scene.mm, BASE, scene.size, prot)
        assert scene.is_huge()
        scene.machine.validate()
    assert touch(scene.mm, BASE, WRITE) is None
    assert peek(scene.mm, BASE) == 1


def test_shared_pages_do_not_become_writable(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    child = scene.fork()
    do_mprotect(scene.mm, BASE, scene.size, PROT_READ)
    do_mprotect(scene.mm, BASE, scene.size, RW)
    assert not scene.mm.pgtable.get(BASE) & PTE_RW
    poke(scene.mm, BASE, 2)
    assert peek(child, BASE) == 1


def test_code_and_data_in_one_huge_page(scene: Scene) -> None:
    do_mprotect(scene.mm, BASE, scene.size, RW | PROT_EXEC)
    poke(scene.mm, BASE, 1)
    assert touch(scene.mm, BASE, FETCH) is None
    pfn = pfn_of(scene.mm, BASE)
    assert scene.node.mem_map.flags[pfn] & PG_exec
    do_mprotect(scene.mm, BASE, scene.size, RW)
    if scene.mm.pgtable.mode.has_nx:
        assert not scene.node.mem_map.flags[pfn] & PG_exec
        assert pfn in scene.node.stale_code
    do_mprotect(scene.mm, BASE, PAGE_SIZE, PROT_READ | PROT_EXEC)
    assert not scene.is_huge()


def test_huge_zeroes_can_be_run(scene: Scene) -> None:
    touch(scene.mm, BASE, READ)
    do_mprotect(scene.mm, BASE, scene.size, PROT_READ | PROT_EXEC)
    assert scene.is_huge()
    assert touch(scene.mm, BASE, FETCH) is None


def test_huge_zeroes_lose_their_rights_and_stay_huge(scene: Scene) -> None:
    """They are not code then, either, where the hardware can tell the two apart."""
    touch(scene.mm, BASE, READ)
    zeroes, has_nx = pfn_of(scene.mm, BASE), scene.mm.pgtable.mode.has_nx
    flags = scene.node.mem_map.flags
    for prot in (PROT_READ, PROT_NONE, RW):
        do_mprotect(scene.mm, BASE, scene.size, prot)
        assert scene.is_huge()
        assert scene.mm.pgtable.get(BASE) & (PTE_SPECIAL | PTE_RW) == PTE_SPECIAL, "never writable: others see it"
        assert bool(flags[zeroes] & PG_exec) != has_nx
        assert isinstance(touch(scene.mm, BASE, FETCH), Segv) == (has_nx or prot == PROT_NONE)
        assert isinstance(touch(scene.mm, BASE, WRITE), Segv) == (prot != RW)
        scene.machine.validate()
    assert pfn_of(scene.mm, BASE) != zeroes


@pytest.mark.parametrize("offset", [0, PAGE_SIZE])
def test_moving(scene: Scene, offset: int) -> None:
    poke(scene.mm, BASE + 3 * PAGE_SIZE, 3)
    touch(scene.mm, BASE + scene.size, READ)
    to = BASE + 8 * scene.size + offset
    do_mremap(scene.mm, BASE, 2 * scene.size, 2 * scene.size, MREMAP_MAYMOVE | MREMAP_FIXED, to)
    assert scene.is_huge(to) == scene.is_huge(to + scene.size) == (not offset)
    scene.machine.validate()
    assert peek(scene.mm, to + 3 * PAGE_SIZE) == 3
    assert poke(scene.mm, to + scene.size, 4) is not None
    assert peek(scene.mm, to + scene.size) == 4


def test_unmapping_frees_all_of_it(scene: Scene) -> None:
    free = scene.machine.unused_frames()
    poke(scene.mm, BASE, 1)
    vm_munmap(scene.mm, BASE, 2 * scene.size)
    assert scene.machine.unused_frames() == free
    assert scene.mm.rss == 0


def test_dontneed_of_all_makes_room_for_a_new_one(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    scene.advise(MADV_DONTNEED, BASE, scene.size)
    assert kind(poke(scene.mm, BASE, 2)) is FaultKind.HUGE_ANON


# ---- reclaim


def test_its_pages_go_to_swap_one_by_one_and_come_back(scene: Scene) -> None:
    for page in range(scene.pages):
        poke(scene.mm, BASE + page * PAGE_SIZE, page % 251 + 1)
    scene.advise(MADV_PAGEOUT, BASE + PAGE_SIZE, PAGE_SIZE)
    assert scene.mm.swapents == 1
    assert not scene.is_huge()
    scene.machine.validate()
    scene.advise(MADV_PAGEOUT, BASE, scene.size)
    assert scene.mm.swapents == scene.pages
    scene.machine.validate()
    assert all(peek(scene.mm, BASE + page * PAGE_SIZE) == page % 251 + 1 for page in range(scene.pages))


def test_the_accessed_bit_goes_with_the_last_page(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    poke(scene.mm, BASE + scene.size, 1)
    first = pfn_of(scene.mm, BASE)
    mem_map = scene.node.mem_map
    assert all(page_referenced(mem_map, Pfn(first + page)) for page in range(scene.pages))
    assert not any(page_referenced(mem_map, Pfn(first + page)) for page in range(scene.pages))
    assert scene.is_huge()
    assert scene.mm.pgtable.get(BASE + scene.size) & PTE_A


def test_lazily_freed_as_a_whole_or_in_part(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    poke(scene.mm, BASE + scene.size, 2)
    scene.advise(MADV_FREE, BASE, scene.size + PAGE_SIZE)
    assert scene.is_huge()
    assert not scene.mm.pgtable.get(BASE) & (PTE_A | PTE_D)
    assert not scene.is_huge(BASE + scene.size), "half of it would take the dirty bit of the rest along"
    poke(scene.mm, BASE + 5 * PAGE_SIZE, 5)
    scene.machine.validate()
    scene.advise(MADV_COLD)
    scene.advise(MADV_PAGEOUT)
    assert peek(scene.mm, BASE + 5 * PAGE_SIZE) == 5
    assert peek(scene.mm, BASE + scene.size) == 0


def test_locked_pages_stay(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    scene.mm.cap_ipc_lock = True
    do_mlock(scene.mm, BASE, scene.size)
    scene.advise(MADV_COLD, BASE + scene.size, scene.size)
    node = scene.node
    node.lru.drain()
    assert node.reclaim_pages is not None
    assert node.reclaim_pages([Pfn(pfn_of(scene.mm, BASE) + page) for page in range(scene.pages)]) == 0
    assert scene.is_huge()
    do_munlock(scene.mm, BASE, scene.size)


# ---- together again


def small_pages(scene: Scene) -> None:
    """Small pages in the first range: one absent, one of zeroes only."""
    scene.advise(MADV_NOHUGEPAGE)
    for page in range(2, scene.pages):
        poke(scene.mm, BASE + page * PAGE_SIZE, page % 251 + 1)
    touch(scene.mm, BASE + PAGE_SIZE, READ)
    scene.advise(MADV_HUGEPAGE)


def check_contents(scene: Scene, mm: MmStruct | None = None) -> None:
    for page in range(scene.pages):
        expected = page % 251 + 1 if page > 1 else 0
        assert peek(mm or scene.mm, BASE + page * PAGE_SIZE) == expected


def test_collapse(scene: Scene) -> None:
    small_pages(scene)
    free = scene.node.nr_free
    scene.advise(MADV_COLLAPSE, BASE, scene.size)
    assert scene.is_huge()
    assert scene.mm.rss_anon == scene.pages
    assert scene.node.nr_free == free - 2
    assert scene.count("thp_collapse_alloc") == 1
    scene.machine.validate()
    check_contents(scene)
    assert touch(scene.mm, BASE, WRITE) is None


def test_collapse_of_pages_in_swap_and_pages_of_others(scene: Scene) -> None:
    small_pages(scene)
    scene.advise(MADV_PAGEOUT, BASE + 8 * PAGE_SIZE, 40 * PAGE_SIZE)
    child = scene.fork()
    scene.advise(MADV_COLLAPSE, BASE, scene.size)
    scene.machine.validate()
    assert scene.is_huge()
    check_contents(scene)
    check_contents(scene, child)


def test_collapse_is_refused(scene: Scene) -> None:
    refused(Errno.EINVAL, lambda: scene.advise(MADV_COLLAPSE, BASE, scene.size))
    touch(scene.mm, BASE, READ)
    scene.advise(MADV_COLLAPSE, BASE, scene.size)
    scene.advise(MADV_DONTNEED)
    small_pages(scene)
    refused(Errno.EINVAL, lambda: scene.advise(MADV_COLLAPSE, BASE + PAGE_SIZE, PAGE_SIZE))
    held = pfn_of(scene.mm, BASE + 5 * PAGE_SIZE)
    scene.node.get_page(held)
    refused(Errno.EAGAIN, lambda: scene.advise(MADV_COLLAPSE, BASE, scene.size))
    scene.node.put_page(held)
    scene.node.drain_all_pages()
    blocks = scene.fragment()
    refused(Errno.ENOMEM, lambda: scene.advise(MADV_COLLAPSE, BASE, scene.size))
    for pfn in blocks:
        scene.node.put_page(pfn)
    check_contents(scene)
    scene.advise(MADV_COLLAPSE, BASE, scene.size)


def take_all_but_one_block(scene: Scene) -> list[Pfn]:
    """What is free is enough for one huge page, and no more; the frames, to be given back."""
    node = scene.node
    node.drain_all_pages()
    block = alloc_huge(node, 0)
    assert block is not None
    zone = next(zone for zone in node.zones if block < zone.end_pfn)
    frames = []
    while (pfn := node.alloc_page(0)) is not None:
        frames.append(pfn)
    free_huge(node, block)
    short = [pfn for pfn in frames if zone.start_pfn <= pfn < zone.end_pfn][:32]  # the watermark wants a few more
    for pfn in short:
        node.put_page(pfn)
    node.drain_all_pages()
    return [pfn for pfn in frames if pfn not in short]


def test_collapse_gives_up_when_its_pages_go_while_others_come(scene: Scene) -> None:
    """What is read from swap takes the memory of pages of the same range that were there: try again, says Linux."""
    small_pages(scene)
    scene.advise(MADV_PAGEOUT, BASE + scene.size // 2, scene.size // 2)
    scene.advise(MADV_COLD, BASE, scene.size)  # the rest is the first that reclaim will take
    node = scene.node
    frames = take_all_but_one_block(scene)

    assert scene.mm.swapents == scene.pages // 2
    refused(Errno.EAGAIN, lambda: scene.advise(MADV_COLLAPSE, BASE, scene.size))
    assert not scene.is_huge()
    assert any(pte and not pte & PTE_P for _, pte in scene.mm.pgtable.entries(BASE, BASE + scene.size // 2))
    for pfn in frames:
        node.put_page(pfn)
    scene.machine.validate()
    check_contents(scene)
    scene.advise(MADV_COLLAPSE, BASE, scene.size)


def test_collapse_needs_swap_to_work(scene: Scene) -> None:
    store = scene.machine.swapon(4096, 7)
    small_pages(scene)
    scene.advise(MADV_PAGEOUT, BASE + 8 * PAGE_SIZE, PAGE_SIZE)
    store.fail = True
    refused(Errno.EINVAL, lambda: scene.advise(MADV_COLLAPSE, BASE, scene.size))
    store.fail = False
    scene.machine.validate()
    check_contents(scene)


def test_collapse_of_zeroes_only_is_refused(scene: Scene) -> None:
    scene.advise(MADV_NOHUGEPAGE)
    touch(scene.mm, BASE, READ)
    scene.advise(MADV_HUGEPAGE)
    assert scene.mm.vmas.items[0].anon_vma is None
    refused(Errno.EINVAL, lambda: scene.advise(MADV_COLLAPSE, BASE, scene.size))


# ---- whichever allocation fails


def write_all(scene: Scene) -> None:
    for address in (BASE, BASE + scene.size):
        outcome = touch(scene.mm, address, WRITE)
        assert outcome is None or isinstance(outcome, Served | OutOfMemory)


def read_then_write(scene: Scene) -> None:
    outcome = touch(scene.mm, BASE, READ)
    assert outcome is None or isinstance(outcome, Served | OutOfMemory)
    write_all(scene)


def fork_and_write(scene: Scene) -> None:
    write_all(scene)
    child = scene.fork()
    outcome = touch(child, BASE, WRITE)
    assert outcome is None or isinstance(outcome, Served | OutOfMemory)


def move(scene: Scene) -> None:
    write_all(scene)
    to = BASE + 8 * scene.size
    do_mremap(scene.mm, BASE, 2 * scene.size, 2 * scene.size, MREMAP_MAYMOVE | MREMAP_FIXED, to)
    do_mremap(scene.mm, to, 2 * scene.size, 2 * scene.size, MREMAP_MAYMOVE | MREMAP_FIXED, BASE)


def collapse(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    vm_munmap(scene.mm, BASE + PAGE_SIZE, PAGE_SIZE)
    map_fixed(scene.mm, BASE + PAGE_SIZE, 1, RW, ANON)
    scene.advise(MADV_HUGEPAGE)
    scene.advise(MADV_PAGEOUT, BASE, PAGE_SIZE)
    scene.advise(MADV_COLLAPSE, BASE, scene.size)


@pytest.mark.parametrize("story", [write_all, read_then_write, fork_and_write, move, collapse])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_allocation_fails_in_turn(layout: KernelLayout, story: Callable[[Scene], None]) -> None:
    for failing in range(40):
        scene = Scene(layout)
        scene.machine.swapon(2048)
        scene.node.fail_allocation(failing)
        with suppress(LinuxError):
            story(scene)
        untouched = scene.node._fail_after is not None
        scene.node.fail_allocation(None)
        scene.machine.validate()
        for mm in list(scene.machine.mms):
            scene.machine.destroy(mm)
        scene.machine.validate()
        if untouched:
            return
    pytest.fail("the story never ended")


def test_the_validator_sees_a_leaf_in_two_mappings(scene: Scene) -> None:
    poke(scene.mm, BASE, 1)
    vma = scene.mm.vmas.items[0]
    at = BASE + 3 * PAGE_SIZE
    scene.mm.vmas.splice(0, 1, [vma.clip(BASE, at), vma.clip(at, scene.end)])
    with pytest.raises(AssertionError):
        validate_mm(scene.mm)
    scene.mm.vmas.splice(0, 2, [vma])


def test_the_validator_sees_a_strange_zero_page(scene: Scene) -> None:
    touch(scene.mm, BASE, READ)
    leaf = scene.mm.pgtable.get_large(BASE)
    assert leaf & PTE_SPECIAL
    users = scene.node.huge_zero.users
    scene.node.huge_zero.users = {}
    with pytest.raises(AssertionError, match="might be freed"):
        validate_mm(scene.mm)
    scene.node.huge_zero.users = users
    scene.mm.pgtable.set_large(BASE, leaf + scene.size)
    with pytest.raises(AssertionError, match="not the huge zero page"):
        validate_mm(scene.mm)
    scene.mm.pgtable.set_large(BASE, leaf)
