"""fork: two address spaces, one set of pages, until somebody writes."""

import pytest

from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import LinuxError
from minikernel.abi.mman import (
    MADV_DONTFORK,
    MADV_WIPEONFORK,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
)
from minikernel.events import FaultKind
from minikernel.mm.dup import dup_mm
from minikernel.mm.fault import Served
from minikernel.mm.gfp import GFP_HIGHUSER
from minikernel.mm.layout import KernelLayout
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mlock import do_mlock
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.rmap import MAX_CHAIN, rmap_walk
from minikernel.mm.vma import VM_LOCKED
from tests.minikernel.mm.touch import (
    BASE,
    LAYOUTS,
    RW,
    SHARED_ANON,
    Machine,
    Store,
    map_fixed,
    peek,
    pfn_of,
    poke,
    shape,
    touch,
)


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    layout: KernelLayout = request.param
    return Machine(layout, ram=4 << 20)


def fork(machine: Machine, parent: MmStruct) -> MmStruct:
    child = machine.fork(parent)
    machine.validate()
    return child


def test_the_first_write_after_fork_copies_and_the_last_owner_reuses(machine: Machine) -> None:
    parent = machine.mm()
    map_fixed(parent, BASE, 1)
    poke(parent, BASE, 1)
    child = fork(machine, parent)

    assert parent.tlb_dirty
    assert pfn_of(child, BASE) == pfn_of(parent, BASE)
    assert poke(child, BASE, 2) == Served(FaultKind.COW_COPY)
    assert poke(parent, BASE, 3) == Served(FaultKind.COW_REUSE)
    assert (peek(child, BASE), peek(parent, BASE)) == (2, 3)
    assert (child.rss_anon, parent.rss_anon) == (1, 1)
    machine.validate()


def test_the_page_goes_if_its_other_owner_ends_while_a_copy_is_made(machine: Machine) -> None:
    parent, node = machine.mm(), machine.node
    map_fixed(parent, BASE, 65)
    poke(parent, BASE, 1)
    child = fork(machine, parent)
    shared = pfn_of(parent, BASE)
    for page in range(1, 65):
        poke(parent, BASE + page * PAGE_SIZE, 1)  # what its end gives back
    while (pfn := node.alloc_page(GFP_HIGHUSER)) is not None:
        machine.held[pfn] = 1

    def kill(_order: int, _gfp: int) -> int:
        machine.destroy(parent)
        node.drain_all_pages()
        return 1

    node.reclaim = kill
    assert poke(child, BASE, 2) == Served(FaultKind.COW_COPY)
    assert peek(child, BASE) == 2
    assert parent not in machine.mms
    assert not node.mem_map.refcount[shared]
    machine.validate()


def test_after_the_parent_s_end_the_child_owns_the_page_alone(machine: Machine) -> None:
    parent = machine.mm()
    map_fixed(parent, BASE, 1)
    poke(parent, BASE, 1)
    child = fork(machine, parent)
    machine.destroy(parent)

    assert poke(child, BASE, 2) == Served(FaultKind.COW_REUSE)
    anon_vma = child.vmas.items[0].anon_vma
    assert machine.node.mem_map.owner[pfn_of(child, BASE)] is anon_vma
    machine.validate()


def test_zero_pages_stay_shared_by_everybody(machine: Machine) -> None:
    parent = machine.mm()
    map_fixed(parent, BASE, 2)
    touch(parent, BASE)
    poke(parent, BASE + PAGE_SIZE, 1)
    child = fork(machine, parent)

    assert pfn_of(child, BASE) == machine.node.zero_pfn
    assert poke(child, BASE, 2) == Served(FaultKind.COW_COPY)
    machine.validate()


def test_shared_memory_stays_shared(machine: Machine) -> None:
    parent = machine.mm()
    map_fixed(parent, BASE, 1, RW, SHARED_ANON)
    poke(parent, BASE, 1)
    child = fork(machine, parent)

    assert touch(child, BASE) == Served(FaultKind.FILE_READ)
    poke(child, BASE, 2)
    assert peek(parent, BASE) == 2
    machine.destroy(parent)
    assert peek(child, BASE) == 2
    machine.validate()


def test_a_private_file_mapping_is_copied_only_if_it_has_private_pages(machine: Machine) -> None:
    parent = machine.mm()
    file = machine.file(store=Store(b"f" * (4 * PAGE_SIZE)))
    shmem = machine.file(4 * PAGE_SIZE)
    shmem.cache.write(0, b"s" * (4 * PAGE_SIZE))
    for base, mapped in ((BASE, file), (BASE + 0x100000, shmem)):
        map_fixed(parent, base, 4, RW, MAP_PRIVATE, mapped)
        touch(parent, base)
        poke(parent, base + PAGE_SIZE, 1)
    map_fixed(parent, BASE + 0x200000, 4, PROT_READ, MAP_PRIVATE, file)
    touch(parent, BASE + 0x200000)
    child = fork(machine, parent)

    assert (child.rss_anon, child.rss_file, child.rss_shmem) == (2, 3, 3)
    assert (peek(child, BASE), peek(child, BASE + PAGE_SIZE)) == (ord("f"), 1)
    assert touch(child, BASE + 0x200000) == Served(FaultKind.FILE_READ)
    assert file.users == 4
    machine.validate()


def test_advice_decides_what_a_child_inherits(machine: Machine) -> None:
    parent = machine.mm()
    map_fixed(parent, BASE, 3)
    for page in range(3):
        poke(parent, BASE + page * PAGE_SIZE, 1)
    do_madvise(parent, BASE, PAGE_SIZE, MADV_DONTFORK)
    do_madvise(parent, BASE + PAGE_SIZE, PAGE_SIZE, MADV_WIPEONFORK)
    child = fork(machine, parent)

    assert shape(child) == [(1, 2, "rw-"), (2, 3, "rw-")]
    assert peek(child, BASE + PAGE_SIZE) == 0
    assert peek(child, BASE + 2 * PAGE_SIZE) == 1


def test_locks_are_not_inherited(machine: Machine) -> None:
    parent = machine.mm()
    map_fixed(parent, BASE, 2)
    do_mlock(parent, BASE, PAGE_SIZE)
    child = fork(machine, parent)

    assert (parent.locked_vm, child.locked_vm) == (1, 0)
    assert not any(vma.flags & VM_LOCKED for vma in child.vmas)


def test_a_child_inherits_the_fields_of_its_parent(machine: Machine) -> None:
    parent = machine.mm()
    parent.saved_auxv = b"auxv"
    parent.brk = parent.start_brk = parent.vmas.cached.start
    file = machine.file(PAGE_SIZE)
    parent.set_exe_file(file)
    child = fork(machine, parent)

    assert child.saved_auxv == b"auxv"
    assert child.exe_file is file
    assert file.users == 2
    machine.destroy(child)
    parent.set_exe_file(None)
    assert file.users == 0


def test_a_reverse_map_finds_a_page_in_the_whole_family(machine: Machine) -> None:
    parent = machine.mm()
    map_fixed(parent, BASE, 2)
    poke(parent, BASE, 1)
    family = [parent]
    for _ in range(MAX_CHAIN + 2):
        family.append(fork(machine, family[-1]))
    mem_map = machine.node.mem_map

    assert {id(mm) for mm, _ in rmap_walk(mem_map, pfn_of(parent, BASE))} == {id(mm) for mm in family}
    poke(family[-1], BASE + PAGE_SIZE, 1)
    assert rmap_walk(mem_map, pfn_of(family[-1], BASE + PAGE_SIZE)) == [(family[-1], BASE + PAGE_SIZE)]
    machine.validate()


def test_neighbours_can_still_merge_in_the_child(machine: Machine) -> None:
    parent = machine.mm()
    map_fixed(parent, BASE, 4)
    poke(parent, BASE, 1)
    do_mprotect(parent, BASE + PAGE_SIZE, PAGE_SIZE, PROT_READ)
    child = fork(machine, parent)
    do_mprotect(child, BASE + PAGE_SIZE, PAGE_SIZE, RW)

    assert shape(child) == [(0, 4, "rw-")]
    machine.validate()


def test_a_fork_beyond_the_machine_s_memory_is_refused(machine: Machine) -> None:
    parent = machine.mm()
    map_fixed(parent, BASE, 16)
    file = machine.file(PAGE_SIZE)
    map_fixed(parent, BASE + 0x100000, 1, RW, MAP_SHARED, file)
    for zone in machine.node.zones:
        zone.managed_pages //= 1000

    with pytest.raises(LinuxError, match="ENOMEM"):
        dup_mm(parent)
    assert file.users == 1


def test_code_pages_survive_a_fork(machine: Machine) -> None:
    parent = machine.mm()
    map_fixed(parent, BASE, 1, 7)
    poke(parent, BASE, 0xC3)
    child = fork(machine, parent)

    assert poke(child, BASE, 0x90) == Served(FaultKind.COW_COPY)
    assert touch(child, BASE, 0x14) is None
    machine.validate()
