"""mremap."""

from collections.abc import Callable

import pytest

from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import (
    MAP_LOCKED,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
)
from minikernel.abi.resource import RLIMIT_AS, RLIMIT_MEMLOCK
from minikernel.mm.layout import KernelLayout
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import install_special_mapping
from minikernel.mm.mremap import do_mremap
from minikernel.mm.rmap import rmap_walk
from minikernel.mm.vma import VM_LOCKED
from tests.minikernel.mm.touch import (
    ANON,
    BASE,
    LAYOUTS,
    RW,
    SHARED_ANON,
    Machine,
    map_fixed,
    peek,
    pfn_of,
    poke,
    shape,
)

FAR = BASE + (64 << 20)


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    layout: KernelLayout = request.param
    return Machine(layout, ram=4 << 20)


@pytest.fixture
def mm(machine: Machine) -> MmStruct:
    return machine.mm()


def refused(errno: Errno, call: Callable[[], object]) -> None:
    with pytest.raises(LinuxError) as failure:
        call()
    assert failure.value.errno == errno, failure.value


def remap(mm: MmStruct, page: int, old: int, new: int, flags: int = 0, to: int = 0) -> int:
    """mremap in pages from BASE."""
    where = do_mremap(mm, BASE + page * PAGE_SIZE, old * PAGE_SIZE, new * PAGE_SIZE, flags, to)
    return (where - BASE) // PAGE_SIZE


def test_growing_in_place_keeps_the_pages(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)
    poke(mm, BASE, 7)

    assert remap(mm, 0, 2, 4) == 0
    assert shape(mm) == [(0, 4, "rw-")]
    assert peek(mm, BASE) == 7
    machine.validate()


def test_growing_meets_a_neighbour_that_fits_and_merges(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1)
    map_fixed(mm, BASE + 2 * PAGE_SIZE, 1)

    assert remap(mm, 0, 1, 2) == 0
    assert shape(mm) == [(0, 3, "rw-")]
    machine.validate()


def test_shrinking_unmaps_the_tail(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 4)
    poke(mm, BASE + 3 * PAGE_SIZE, 1)

    assert remap(mm, 0, 4, 1) == 0
    assert (shape(mm), mm.rss_anon) == ([(0, 1, "rw-")], 0)
    assert remap(mm, 0, 1, 1) == 0
    machine.validate()


def test_no_room_means_a_move_if_allowed(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)
    map_fixed(mm, BASE + 2 * PAGE_SIZE, 1, PROT_READ)
    poke(mm, BASE + PAGE_SIZE, 7)
    frame = pfn_of(mm, BASE + PAGE_SIZE)

    refused(Errno.ENOMEM, lambda: remap(mm, 0, 2, 4))
    where = BASE + remap(mm, 0, 2, 4, MREMAP_MAYMOVE) * PAGE_SIZE
    assert where == mm.layout.mmap_base - 4 * PAGE_SIZE
    assert pfn_of(mm, where + PAGE_SIZE) == frame
    assert rmap_walk(machine.node.mem_map, frame) == [(mm, where + PAGE_SIZE)]
    assert shape(mm)[0] == (2, 3, "r--")
    machine.validate()


def test_the_middle_of_a_mapping_may_move(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 4)
    for page in range(4):
        poke(mm, BASE + page * PAGE_SIZE, page)
    remap(mm, 1, 2, 3, MREMAP_MAYMOVE | MREMAP_FIXED, FAR)

    assert [peek(mm, FAR + page * PAGE_SIZE) for page in range(3)] == [1, 2, 0]
    assert shape(mm)[:2] == [(0, 1, "rw-"), (3, 4, "rw-")]
    machine.validate()


def test_a_fixed_move_replaces_what_is_there_and_may_shrink(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 4)
    map_fixed(mm, FAR, 4, PROT_READ)
    poke(mm, BASE, 9)
    remap(mm, 0, 4, 2, MREMAP_MAYMOVE | MREMAP_FIXED, FAR)

    assert peek(mm, FAR) == 9
    assert [pages for pages in shape(mm) if pages[0] < 100] == []
    machine.validate()


def test_a_move_of_several_mappings_keeps_their_holes(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1)
    map_fixed(mm, BASE + 2 * PAGE_SIZE, 2, PROT_READ)
    remap(mm, 0, 3, 3, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + 8 * PAGE_SIZE)

    assert shape(mm) == [(3, 4, "r--"), (8, 9, "rw-"), (10, 11, "r--")]
    machine.validate()


def test_shared_memory_can_be_duplicated(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2, RW, SHARED_ANON)
    poke(mm, BASE + PAGE_SIZE, 7)
    where = BASE + remap(mm, 1, 0, 1, MREMAP_MAYMOVE) * PAGE_SIZE

    assert peek(mm, where) == 7
    assert peek(mm, BASE + PAGE_SIZE) == 7
    refused(Errno.EFAULT, lambda: remap(mm, 0, 0, 2, MREMAP_MAYMOVE | MREMAP_FIXED, BASE))
    machine.validate()


@pytest.mark.parametrize("part", [False, True], ids=["the whole mapping", "a part of it"])
def test_dontunmap_leaves_an_empty_mapping(machine: Machine, mm: MmStruct, part: bool) -> None:
    map_fixed(mm, BASE, 3 if part else 2, RW, ANON | MAP_LOCKED)
    poke(mm, BASE, 7)
    where = BASE + remap(mm, 0, 2, 2, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, FAR) * PAGE_SIZE

    assert where == FAR
    assert (peek(mm, FAR), peek(mm, BASE)) == (7, 0)
    old = mm.vmas.items[0]
    assert not old.flags & VM_LOCKED
    assert (old.anon_vma is None) != part
    machine.validate()


def test_untouched_memory_takes_the_offset_of_its_new_place(mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1)
    map_fixed(mm, FAR, 1)
    remap(mm, 0, 1, 1, MREMAP_MAYMOVE | MREMAP_FIXED, FAR + PAGE_SIZE)

    assert mm.map_count == 1


def test_a_locked_mapping_grows_locked(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1, RW, ANON | MAP_LOCKED)
    remap(mm, 0, 1, 2)
    assert (mm.locked_vm, mm.rss_anon) == (2, 2)
    map_fixed(mm, BASE + 2 * PAGE_SIZE, 1, PROT_READ)
    remap(mm, 0, 2, 3, MREMAP_MAYMOVE)
    assert (mm.locked_vm, mm.rss_anon) == (3, 3)
    machine.rlimits[RLIMIT_MEMLOCK] = [3 * PAGE_SIZE, 3 * PAGE_SIZE]
    start = mm.vmas.items[-1].start
    refused(Errno.EAGAIN, lambda: do_mremap(mm, start, 3 * PAGE_SIZE, 4 * PAGE_SIZE, 0, 0))
    machine.validate()


def test_the_end_of_user_space_is_no_place_to_grow(mm: MmStruct) -> None:
    last = mm.layout.task_size - PAGE_SIZE
    map_fixed(mm, last, 1)

    refused(Errno.ENOMEM, lambda: do_mremap(mm, last, PAGE_SIZE, 2 * PAGE_SIZE, 0, 0))


def test_senseless_requests(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)
    map_fixed(mm, BASE + 2 * PAGE_SIZE, 1, PROT_READ)
    fixed = MREMAP_MAYMOVE | MREMAP_FIXED
    size = mm.layout.task_size

    refused(Errno.EINVAL, lambda: remap(mm, 0, 1, 1, 8))
    refused(Errno.EINVAL, lambda: do_mremap(mm, BASE + 1, PAGE_SIZE, PAGE_SIZE, 0, 0))
    refused(Errno.EINVAL, lambda: remap(mm, 0, 1, 0))
    refused(Errno.EINVAL, lambda: do_mremap(mm, BASE, PAGE_SIZE, size + PAGE_SIZE, 0, 0))
    refused(Errno.EINVAL, lambda: remap(mm, 0, 1, 1, fixed, FAR + 1))
    refused(Errno.EINVAL, lambda: remap(mm, 0, 1, 2, fixed, size - PAGE_SIZE))
    refused(Errno.EINVAL, lambda: remap(mm, 0, 1, 1, MREMAP_FIXED, FAR))
    refused(Errno.EINVAL, lambda: remap(mm, 0, 1, 2, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, FAR))
    refused(Errno.EINVAL, lambda: remap(mm, 0, 2, 2, fixed, BASE + PAGE_SIZE))
    refused(Errno.EFAULT, lambda: remap(mm, 7, 1, 2))
    refused(Errno.EFAULT, lambda: remap(mm, 0, 3, 4))
    refused(Errno.EINVAL, lambda: remap(mm, 0, 0, 1, MREMAP_MAYMOVE))
    refused(Errno.EINVAL, lambda: do_mremap(mm, BASE, size, PAGE_SIZE, 0, 0))
    file = machine.file(PAGE_SIZE)
    last = (mm.layout.word_mask >> 12 if mm.layout.word_mask < 1 << 40 else (1 << 51)) - 2
    map_fixed(mm, FAR, 1, RW, MAP_SHARED, file, last)
    if mm.layout.word_mask < 1 << 40:
        assert do_mremap(mm, FAR, PAGE_SIZE, 2 * PAGE_SIZE, 0, 0) == FAR


def test_a_file_offset_may_not_wrap(machine: Machine, mm: MmStruct) -> None:
    file = machine.file(PAGE_SIZE)
    if mm.layout.word_mask > 1 << 40:
        return  # there the largest file ends first
    map_fixed(mm, FAR, 1, RW, MAP_SHARED, file, mm.layout.word_mask - 1)

    refused(Errno.EINVAL, lambda: do_mremap(mm, FAR, PAGE_SIZE, 4 * PAGE_SIZE, MREMAP_MAYMOVE, 0))


def test_limits(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)
    mm.sysctl.max_map_count = 6
    refused(Errno.ENOMEM, lambda: remap(mm, 0, 1, 1, MREMAP_MAYMOVE | MREMAP_FIXED, FAR))
    mm.sysctl.max_map_count = 4
    map_fixed(mm, BASE + 2 * PAGE_SIZE, 1, PROT_READ)
    refused(Errno.ENOMEM, lambda: remap(mm, 0, 2, 3, MREMAP_MAYMOVE))
    mm.sysctl.max_map_count = 65530
    refused(Errno.ENOMEM, lambda: remap(mm, 0, 2, 4096, MREMAP_MAYMOVE))
    machine.rlimits[RLIMIT_AS] = [3 * PAGE_SIZE, 3 * PAGE_SIZE]
    refused(Errno.ENOMEM, lambda: remap(mm, 0, 2, 3, MREMAP_MAYMOVE))
    refused(Errno.ENOMEM, lambda: remap(mm, 0, 2, 2, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, FAR))
    assert shape(mm) == [(0, 2, "rw-"), (2, 3, "r--")]


def test_special_mappings_move_but_do_not_change(machine: Machine, mm: MmStruct) -> None:
    pfn = machine.node.alloc_page()
    assert pfn is not None
    machine.held[pfn] = 1
    install_special_mapping(mm, BASE, [pfn], PROT_READ, "[vdso]")

    refused(Errno.EFAULT, lambda: remap(mm, 0, 1, 2))
    refused(Errno.EINVAL, lambda: remap(mm, 0, 1, 1, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, FAR))
    peek(mm, BASE)
    remap(mm, 0, 1, 1, MREMAP_MAYMOVE | MREMAP_FIXED, FAR)
    assert pfn_of(mm, FAR) == pfn
    machine.validate()
