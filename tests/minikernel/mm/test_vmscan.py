"""Clean file pages come back when memory is short."""

import pytest

from emu.x86 import PAGE_SIZE
from minikernel.abi.mman import MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_READ
from minikernel.mm.fault import OutOfMemory, Served
from minikernel.mm.gfp import GFP_HIGHMEM, GFP_MEMALLOC
from minikernel.mm.layout import KernelLayout
from minikernel.mm.vmscan import SWAP_CLUSTER_MAX, CacheClock
from tests.minikernel.mm.touch import ANON, BASE, LAYOUTS, READ, RW, WRITE, Machine, Store, map_fixed, peek, touch

RAM = 4 << 20
PAGES = 3 * RAM // PAGE_SIZE


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    layout: KernelLayout = request.param
    made = Machine(layout, ram=RAM)
    made.node.reclaim = CacheClock(made.node)
    return made


def content(index: int) -> bytes:
    return index.to_bytes(4, "little") * (PAGE_SIZE // 4)


def big_store() -> Store:
    return Store(b"".join(content(index) for index in range(PAGES)))


def test_a_file_larger_than_ram_can_be_read(machine: Machine) -> None:
    cache = machine.file(store=big_store()).cache
    for _ in range(2):
        for index in range(PAGES):
            assert cache.read(index * PAGE_SIZE, PAGE_SIZE) == content(index)
    machine.validate()


@pytest.mark.parametrize("how", [READ, WRITE], ids=["read", "written"])
def test_a_mapping_larger_than_ram_can_be_walked(machine: Machine, how: int) -> None:
    """Every page that is mapped stays; so it is unmapped behind the walk, as a program with little memory would."""
    mm = machine.mm()
    file = machine.file(store=big_store())
    for first in range(0, PAGES, 64):
        map_fixed(mm, BASE, 64, RW, MAP_PRIVATE, file, first)
        for page in range(64):
            assert isinstance(touch(mm, BASE + page * PAGE_SIZE, how), Served | None)
            assert peek(mm, BASE + page * PAGE_SIZE) == (first + page) & 0xFF
    machine.validate()


def test_dirty_mapped_and_shared_pages_stay(machine: Machine) -> None:
    mm = machine.mm()
    disk = machine.file(store=Store(bytes(40 * PAGE_SIZE)))
    memory = machine.file(4 * PAGE_SIZE)
    memory.cache.write(0, b"m")
    disk.cache.write(0, b"d")
    map_fixed(mm, BASE, 2, PROT_READ, MAP_SHARED, disk, 16)
    touch(mm, BASE)
    disk.cache.read(0, 40 * PAGE_SIZE)
    clock = CacheClock(machine.node)

    assert clock(0, 0) == SWAP_CLUSTER_MAX
    assert clock(0, 0) == 40 - SWAP_CLUSTER_MAX - 3
    assert clock(0, 0) == 0
    assert sorted(disk.cache.pages) == [0, 16, 17]
    assert memory.cache.read(0, 1) == b"m"
    machine.validate()


def test_memory_full_of_our_own_pages_is_out_of_memory(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, RAM // PAGE_SIZE, RW, ANON | MAP_NORESERVE)
    outcomes = [touch(mm, BASE + page * PAGE_SIZE, WRITE) for page in range(RAM // PAGE_SIZE)]

    assert outcomes[-1] == OutOfMemory()
    machine.validate()


@pytest.mark.parametrize(
    ("flags", "how"), [(MAP_PRIVATE, READ), (MAP_PRIVATE, WRITE), (MAP_SHARED, WRITE)], ids=["read", "copied", "shared"]
)
def test_a_page_in_the_middle_of_its_fault_is_not_taken(machine: Machine, flags: int, how: int) -> None:
    """It is the only clean page there is, and the fault needs a frame."""
    mm = machine.mm()
    file = machine.file(store=Store(b"f" * PAGE_SIZE))
    file.cache.read(0, 1)
    map_fixed(mm, BASE, 1, RW, flags, file)
    owners = machine.node.objects.anon_vma
    owners.free(owners.alloc())  # there is one for the copy's owner: the frame is what is missing
    while (pfn := machine.node.alloc_page(GFP_MEMALLOC | GFP_HIGHMEM)) is not None:
        machine.held[pfn] = 1

    assert touch(mm, BASE, how) == OutOfMemory()
    assert file.cache.nr_pages == 1
    machine.validate()
    for pfn in list(machine.held):
        machine.node.put_page(pfn)
        del machine.held[pfn]
    assert isinstance(touch(mm, BASE, how), Served)
    machine.validate()
