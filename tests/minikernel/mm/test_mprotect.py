"""mprotect."""

from collections.abc import Callable

import pytest

from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import (
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_READ,
    PROT_SEM,
    PROT_WRITE,
)
from minikernel.abi.resource import RLIMIT_DATA
from minikernel.events import FaultKind
from minikernel.mm.fault import Segv, Served
from minikernel.mm.mlock import do_mlock
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.vma import VM_ACCOUNT
from minikernel.mm.vma_modify import vma_modify_name
from tests.minikernel.mm.touch import (
    ANON,
    BASE,
    FETCH,
    RW,
    SHARED_ANON,
    WRITE,
    File,
    Machine,
    Store,
    map_fixed,
    peek,
    poke,
    shape,
    touch,
)


@pytest.fixture
def machine() -> Machine:
    return Machine(ram=4 << 20)


@pytest.fixture
def mm(machine: Machine) -> MmStruct:
    return machine.mm()


def refused(errno: Errno, call: Callable[[], object]) -> None:
    with pytest.raises(LinuxError) as failure:
        call()
    assert failure.value.errno == errno, failure.value


def test_a_part_is_split_off_and_merged_back(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 6)
    poke(mm, BASE, 1)
    poke(mm, BASE + 5 * PAGE_SIZE, 1)
    do_mprotect(mm, BASE + 2 * PAGE_SIZE, 2 * PAGE_SIZE - 1, PROT_READ)

    assert shape(mm) == [(0, 2, "rw-"), (2, 4, "r--"), (4, 6, "rw-")]
    machine.validate()
    do_mprotect(mm, BASE + 2 * PAGE_SIZE, 2 * PAGE_SIZE, RW)
    assert shape(mm) == [(0, 6, "rw-")]
    machine.validate()


def test_pages_lose_and_regain_the_write_right_without_a_fault(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 1)
    mm.tlb_dirty = False
    do_mprotect(mm, BASE, PAGE_SIZE, PROT_READ)

    assert mm.tlb_dirty
    assert isinstance(touch(mm, BASE, WRITE), Segv)
    do_mprotect(mm, BASE, PAGE_SIZE, RW)
    assert touch(mm, BASE, WRITE) is None
    machine.validate()


def test_pages_others_have_too_stay_read_only(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)
    poke(mm, BASE, 1)
    touch(mm, BASE + PAGE_SIZE)
    machine.fork(mm)
    do_mprotect(mm, BASE, 2 * PAGE_SIZE, PROT_READ)
    do_mprotect(mm, BASE, 2 * PAGE_SIZE, RW)

    assert touch(mm, BASE, WRITE) == Served(FaultKind.COW_COPY)
    assert touch(mm, BASE + PAGE_SIZE, WRITE) == Served(FaultKind.COW_COPY)
    machine.validate()


def test_shared_pages_become_writable_if_the_file_knows(machine: Machine, mm: MmStruct) -> None:
    file = machine.file(store=Store(bytes(2 * PAGE_SIZE)))
    map_fixed(mm, BASE, 2, RW, MAP_SHARED, file)
    map_fixed(mm, BASE + 2 * PAGE_SIZE, 1, RW, SHARED_ANON)
    poke(mm, BASE, 1)
    touch(mm, BASE + PAGE_SIZE)
    touch(mm, BASE + 2 * PAGE_SIZE)
    do_mprotect(mm, BASE, 3 * PAGE_SIZE, PROT_READ)
    machine.validate()
    do_mprotect(mm, BASE, 3 * PAGE_SIZE, RW)
    machine.validate()

    assert touch(mm, BASE, WRITE) is None
    assert touch(mm, BASE + PAGE_SIZE, WRITE) == Served(FaultKind.FILE_SHARED)
    assert touch(mm, BASE + 2 * PAGE_SIZE, WRITE) is None


def test_written_then_made_executable_then_written_again(machine: Machine, mm: MmStruct) -> None:
    """A JIT that respects W^X."""
    map_fixed(mm, BASE, 1)
    for round_ in range(3):
        poke(mm, BASE, round_)
        do_mprotect(mm, BASE, PAGE_SIZE, PROT_READ | PROT_EXEC)
        assert touch(mm, BASE, FETCH) is None
        machine.validate()
        do_mprotect(mm, BASE, PAGE_SIZE, RW)
        machine.validate()
    assert machine.node.stale_code


def test_shared_code_stays_code_until_it_is_written(machine: Machine, mm: MmStruct) -> None:
    file = machine.file(PAGE_SIZE)
    map_fixed(mm, BASE, 1, PROT_READ | PROT_EXEC, MAP_SHARED, file)
    touch(mm, BASE, FETCH)
    do_mprotect(mm, BASE, PAGE_SIZE, RW)

    machine.validate()
    assert touch(mm, BASE, WRITE) == Served(FaultKind.FILE_SHARED)
    machine.validate()


def test_errors(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)
    map_fixed(mm, BASE + 3 * PAGE_SIZE, 1)
    readonly = File(machine.file(PAGE_SIZE).mapping, writable=False)
    map_fixed(mm, BASE + 8 * PAGE_SIZE, 1, PROT_READ, MAP_SHARED, readonly)

    refused(Errno.EINVAL, lambda: do_mprotect(mm, BASE, PAGE_SIZE, PROT_GROWSDOWN | PROT_GROWSUP))
    refused(Errno.EINVAL, lambda: do_mprotect(mm, BASE + 1, PAGE_SIZE, RW))
    refused(Errno.ENOMEM, lambda: do_mprotect(mm, BASE, (1 << 64) - 1, RW))
    refused(Errno.EINVAL, lambda: do_mprotect(mm, BASE, PAGE_SIZE, 0x10))
    refused(Errno.ENOMEM, lambda: do_mprotect(mm, BASE + 5 * PAGE_SIZE, PAGE_SIZE, RW))
    refused(Errno.ENOMEM, lambda: do_mprotect(mm, BASE + 50 * PAGE_SIZE, PAGE_SIZE, RW))
    refused(Errno.ENOMEM, lambda: do_mprotect(mm, BASE + 2 * PAGE_SIZE, 2 * PAGE_SIZE, RW))
    refused(Errno.EINVAL, lambda: do_mprotect(mm, BASE, PAGE_SIZE, RW | PROT_GROWSDOWN))
    refused(Errno.EINVAL, lambda: do_mprotect(mm, BASE, PAGE_SIZE, RW | PROT_GROWSUP))
    refused(Errno.EACCES, lambda: do_mprotect(mm, BASE + 8 * PAGE_SIZE, PAGE_SIZE, RW))
    do_mprotect(mm, BASE, 0, PROT_READ)
    do_mprotect(mm, BASE, PAGE_SIZE, RW | PROT_SEM)
    assert shape(mm)[:2] == [(0, 2, "rw-"), (3, 4, "rw-")]


def test_what_comes_before_a_hole_has_changed(mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)

    refused(Errno.ENOMEM, lambda: do_mprotect(mm, BASE + PAGE_SIZE, 4 * PAGE_SIZE, PROT_READ))
    assert shape(mm) == [(0, 1, "rw-"), (1, 2, "r--")]


def test_growing_protection_reaches_down_to_the_stack_s_start(mm: MmStruct) -> None:
    map_fixed(mm, BASE, 4, RW, ANON | MAP_GROWSDOWN)
    do_mprotect(mm, BASE + 2 * PAGE_SIZE, PAGE_SIZE, RW | PROT_EXEC | PROT_GROWSDOWN)

    assert shape(mm) == [(0, 3, "rwx"), (3, 4, "rw-")]


def test_read_implies_exec_if_the_mapping_may(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1)
    mm.read_implies_exec = True
    do_mprotect(mm, BASE, PAGE_SIZE, PROT_READ)

    assert shape(mm) == [(0, 1, "r-x")]
    machine.validate()


def test_what_becomes_data_counts_as_data(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2, PROT_READ)
    machine.rlimits[RLIMIT_DATA] = [PAGE_SIZE, PAGE_SIZE]

    refused(Errno.ENOMEM, lambda: do_mprotect(mm, BASE, 2 * PAGE_SIZE, RW))
    do_mprotect(mm, BASE, PAGE_SIZE, RW)
    assert mm.data_vm == 1


def test_commitment_comes_with_the_write_right_and_goes_if_nothing_was_written(mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1, PROT_READ)
    do_mprotect(mm, BASE, PAGE_SIZE, RW)
    assert mm.vmas.items[0].flags & VM_ACCOUNT
    do_mprotect(mm, BASE, PAGE_SIZE, PROT_READ)
    assert not mm.vmas.items[0].flags & VM_ACCOUNT


def test_more_than_the_machine_has_cannot_become_writable(mm: MmStruct) -> None:
    map_fixed(mm, BASE, 8192, PROT_READ)

    refused(Errno.ENOMEM, lambda: do_mprotect(mm, BASE, 8192 * PAGE_SIZE, RW))


@pytest.mark.parametrize("start", [0, 1, 2], ids=["at the start", "in the middle", "at the end"])
def test_too_many_mappings(machine: Machine, mm: MmStruct, start: int) -> None:
    map_fixed(mm, BASE, 3)
    mm.sysctl.max_map_count = 1

    refused(Errno.ENOMEM, lambda: do_mprotect(mm, BASE + start * PAGE_SIZE, PAGE_SIZE, PROT_READ))
    do_mprotect(mm, BASE, 3 * PAGE_SIZE, PROT_READ)
    machine.validate()


def test_a_locked_private_page_is_copied_at_once(machine: Machine, mm: MmStruct) -> None:
    file = machine.file(store=Store(b"f" * PAGE_SIZE))
    map_fixed(mm, BASE, 1, PROT_READ, MAP_PRIVATE, file)
    do_mlock(mm, BASE, PAGE_SIZE)
    assert mm.rss_file == 1
    do_mprotect(mm, BASE, PAGE_SIZE, PROT_READ | PROT_WRITE)

    assert (mm.rss_anon, mm.rss_file, peek(mm, BASE)) == (1, 0, ord("f"))
    machine.validate()


def test_a_locked_page_beyond_the_end_of_the_file_is_nobody_s_error(machine: Machine, mm: MmStruct) -> None:
    file = machine.file(store=Store(b"f" * PAGE_SIZE))
    map_fixed(mm, BASE, 1, PROT_READ, MAP_PRIVATE, file)
    do_mlock(mm, BASE, PAGE_SIZE)
    file.cache.truncate(0)
    do_mprotect(mm, BASE, PAGE_SIZE, PROT_READ | PROT_WRITE)

    assert mm.rss == 0
    machine.validate()


def test_a_name_divides_and_its_loss_merges(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 4)
    vma_modify_name(mm, mm.vmas.items[0], BASE + PAGE_SIZE, BASE + 2 * PAGE_SIZE, "[anon:glibc: malloc]")
    assert [vma.name for vma in mm.vmas] == ["", "[anon:glibc: malloc]", ""]
    vma_modify_name(mm, mm.vmas.items[1], BASE + PAGE_SIZE, BASE + 2 * PAGE_SIZE, "")

    assert shape(mm) == [(0, 4, "rw-")]
    machine.validate()
