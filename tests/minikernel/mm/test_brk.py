"""brk and growing stacks."""

import pytest

from emu.x86 import PAGE_SIZE, VirtAddr
from minikernel.abi.errno import LinuxError
from minikernel.abi.mman import MAP_GROWSDOWN, MAP_LOCKED, MCL_FUTURE, PROT_READ
from minikernel.abi.resource import RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_STACK
from minikernel.events import MmapRegion
from minikernel.mm.brk import do_brk, do_brk_flags
from minikernel.mm.fault import SEGV_MAPERR, Segv, Served
from minikernel.mm.mlock import do_mlockall
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.vma import STACK_GUARD_GAP, VM_DATA_DEFAULT_FLAGS
from tests.minikernel.mm.touch import ANON, BASE, RW, WRITE, Machine, map_fixed, poke, shape, touch

GUARD = STACK_GUARD_GAP // PAGE_SIZE
STACK = BASE + (16 << 20)


@pytest.fixture
def machine() -> Machine:
    return Machine(ram=4 << 20)


@pytest.fixture
def mm(machine: Machine) -> MmStruct:
    """With an empty heap at BASE."""
    made = machine.mm()
    made.start_brk = made.brk = VirtAddr(BASE)
    return made


def test_the_break_moves_by_bytes_and_maps_by_pages(machine: Machine, mm: MmStruct) -> None:
    assert do_brk(mm, 0) == BASE
    assert do_brk(mm, BASE + 10) == BASE + 10
    assert do_brk(mm, BASE + 20) == BASE + 20
    assert do_brk(mm, BASE + 3 * PAGE_SIZE) == BASE + 3 * PAGE_SIZE
    assert shape(mm) == [(0, 3, "rw-")]
    poke(mm, BASE + 2 * PAGE_SIZE, 1)
    assert do_brk(mm, BASE + PAGE_SIZE + 1) == BASE + PAGE_SIZE + 1
    assert (shape(mm), mm.rss_anon) == ([(0, 2, "rw-")], 0)
    assert do_brk(mm, BASE) == BASE
    assert shape(mm) == []
    machine.validate()


def test_the_heap_stops_before_its_neighbours(mm: MmStruct) -> None:
    map_fixed(mm, BASE + 4 * PAGE_SIZE, 1)
    assert do_brk(mm, BASE + 4 * PAGE_SIZE) == BASE, "one page stays free"
    assert do_brk(mm, BASE + 3 * PAGE_SIZE) == BASE + 3 * PAGE_SIZE
    map_fixed(mm, BASE + (GUARD + 8) * PAGE_SIZE, 1, RW, ANON | MAP_GROWSDOWN)
    map_fixed(mm, BASE + 4 * PAGE_SIZE, 1, PROT_READ)
    assert do_brk(mm, mm.layout.task_size + PAGE_SIZE) == BASE + 3 * PAGE_SIZE


def test_limits_stop_the_heap(machine: Machine, mm: MmStruct) -> None:
    mm.end_data = VirtAddr(PAGE_SIZE)
    machine.rlimits[RLIMIT_DATA] = [3 * PAGE_SIZE, 3 * PAGE_SIZE]
    assert do_brk(mm, BASE + 3 * PAGE_SIZE) == BASE
    assert do_brk(mm, BASE + 2 * PAGE_SIZE) == BASE + 2 * PAGE_SIZE
    machine.rlimits[RLIMIT_DATA] = [1 << 40, 1 << 40]
    machine.rlimits[RLIMIT_AS] = [2 * PAGE_SIZE, 2 * PAGE_SIZE]
    assert do_brk(mm, BASE + 3 * PAGE_SIZE) == BASE + 2 * PAGE_SIZE
    machine.rlimits[RLIMIT_AS] = [1 << 40, 1 << 40]
    assert do_brk(mm, BASE + (16 << 20)) == BASE + 2 * PAGE_SIZE, "more than the machine has"
    mm.sysctl.max_map_count = 0
    with pytest.raises(LinuxError, match="ENOMEM"):
        do_brk_flags(mm, STACK, STACK + PAGE_SIZE, VM_DATA_DEFAULT_FLAGS)


def test_a_future_lock_reaches_the_heap(machine: Machine, mm: MmStruct) -> None:
    machine.rlimits[RLIMIT_MEMLOCK] = [2 * PAGE_SIZE, 2 * PAGE_SIZE]
    do_mlockall(mm, MCL_FUTURE)

    assert do_brk(mm, BASE + 3 * PAGE_SIZE) == BASE
    assert do_brk(mm, BASE + 2 * PAGE_SIZE) == BASE + 2 * PAGE_SIZE
    assert (mm.locked_vm, mm.rss_anon) == (2, 2)
    machine.validate()


def test_a_heap_that_was_unmapped_does_not_shrink(mm: MmStruct) -> None:
    do_brk(mm, BASE + 4 * PAGE_SIZE)
    mm.replace(0, 1, [])
    assert do_brk(mm, BASE + PAGE_SIZE) == BASE + 4 * PAGE_SIZE
    map_fixed(mm, BASE + 8 * PAGE_SIZE, 1)
    assert do_brk(mm, BASE + PAGE_SIZE) == BASE + 4 * PAGE_SIZE


def test_a_heap_that_cannot_be_split_does_not_shrink(mm: MmStruct) -> None:
    do_brk(mm, BASE + 4 * PAGE_SIZE)
    map_fixed(mm, BASE + 4 * PAGE_SIZE, 1)
    mm.sysctl.max_map_count = 1
    assert mm.map_count == 1

    assert do_brk(mm, BASE + PAGE_SIZE) == BASE + 4 * PAGE_SIZE


def test_old_programs_get_an_executable_heap(mm: MmStruct) -> None:
    mm.read_implies_exec = True
    do_brk(mm, BASE + 1)

    assert shape(mm) == [(0, 1, "rwx")]


# ---- stacks


def stack(mm: MmStruct, extra: int = 0) -> None:
    map_fixed(mm, STACK, 2, RW, ANON | MAP_GROWSDOWN | extra)


def why(mm: MmStruct, address: int) -> str:
    outcome = touch(mm, address, WRITE)
    assert isinstance(outcome, Segv)
    assert outcome.code == SEGV_MAPERR
    return outcome.reason


def test_a_stack_grows_and_says_so(machine: Machine, mm: MmStruct) -> None:
    stack(mm)
    with machine.events() as told:
        poke(mm, STACK - 3 * PAGE_SIZE + 5, 1)
        poke(mm, STACK - 4 * PAGE_SIZE, 1)

    grown = [event for event in told if isinstance(event, MmapRegion)]
    assert [(event.op, event.start) for event in grown] == [
        ("stack", STACK - 3 * PAGE_SIZE),
        ("stack", STACK - 4 * PAGE_SIZE),
    ]
    assert mm.vmas.items[0].end == STACK + 2 * PAGE_SIZE
    machine.validate()


def test_a_stack_keeps_its_distance_from_the_mapping_below(machine: Machine, mm: MmStruct) -> None:
    stack(mm)
    map_fixed(mm, STACK - 300 * PAGE_SIZE, 1)

    assert isinstance(touch(mm, STACK - (299 - GUARD) * PAGE_SIZE, WRITE), Served)
    assert "guard gap" in why(mm, STACK - (300 - GUARD) * PAGE_SIZE)
    machine.validate()


@pytest.mark.parametrize(("prot", "flags"), [(0, ANON), (RW, ANON | MAP_GROWSDOWN)], ids=["a guard page", "a stack"])
def test_a_guard_page_or_another_stack_may_come_close(machine: Machine, mm: MmStruct, prot: int, flags: int) -> None:
    stack(mm)
    map_fixed(mm, STACK - 8 * PAGE_SIZE, 1, prot, flags)

    assert isinstance(touch(mm, STACK - 7 * PAGE_SIZE, WRITE), Served)
    machine.validate()


def test_limits_stop_a_stack(machine: Machine, mm: MmStruct) -> None:
    machine.rlimits[RLIMIT_STACK] = [8 * PAGE_SIZE, 8 * PAGE_SIZE]
    stack(mm)
    assert why(mm, STACK - 7 * PAGE_SIZE) == "the stack would exceed RLIMIT_STACK"
    assert isinstance(touch(mm, STACK - 6 * PAGE_SIZE, WRITE), Served)
    machine.rlimits[RLIMIT_STACK] = [1 << 40, 1 << 40]
    machine.rlimits[RLIMIT_AS] = [8 * PAGE_SIZE, 8 * PAGE_SIZE]
    assert why(mm, STACK - 7 * PAGE_SIZE) == "the stack would exceed RLIMIT_AS"
    machine.rlimits[RLIMIT_AS] = [1 << 40, 1 << 40]
    assert why(mm, STACK - (16 << 20)) == "the stack would exceed the machine's memory"
    assert why(mm, 5 * PAGE_SIZE) == "the stack may not grow below mmap_min_addr"
    machine.validate()


def test_a_stack_without_memory_for_its_pages_owner_does_not_grow(machine: Machine, mm: MmStruct) -> None:
    stack(mm)
    machine.node.slab.fail_allocation(0)
    assert why(mm, STACK - 2 * PAGE_SIZE) == "no memory for the stack to grow"
    assert (mm.vmas.items[0].start, mm.stack_vm) == (STACK, 2)
    machine.validate()

    assert isinstance(touch(mm, STACK - 2 * PAGE_SIZE, WRITE), Served)
    assert (mm.vmas.items[0].start, mm.stack_vm) == (STACK - 2 * PAGE_SIZE, 4)
    machine.validate()


def test_a_locked_stack_counts_against_the_lock_limit(machine: Machine, mm: MmStruct) -> None:
    machine.rlimits[RLIMIT_MEMLOCK] = [2 * PAGE_SIZE, 2 * PAGE_SIZE]
    stack(mm, MAP_LOCKED)

    assert why(mm, STACK - PAGE_SIZE) == "the locked stack would exceed RLIMIT_MEMLOCK"


def test_a_stack_whose_offset_ran_out_does_not_grow(mm: MmStruct) -> None:
    from msgspec.structs import replace

    stack(mm)
    mm.replace(0, 1, [replace(mm.vmas.items[0], pgoff=1)])

    assert why(mm, STACK - 2 * PAGE_SIZE) == "the stack's page offset would become negative"
