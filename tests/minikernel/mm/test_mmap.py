"""mmap, munmap and where mappings go."""

from collections.abc import Callable

import pytest

from emu.x86 import PAGE_SIZE, VirtAddr
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import (
    MAP_32BIT,
    MAP_ABOVE4G,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGE_SHIFT,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_STACK,
    MAP_SYNC,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from minikernel.abi.resource import RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK
from minikernel.events import MmapRegion
from minikernel.mm.address_layout import (
    TASK_SIZE_COMPAT,
    TASK_SIZE_I386,
    TASK_SIZE_X86_64,
    address_layout,
)
from minikernel.mm.fault import Segv
from minikernel.mm.filemap import PageCache
from minikernel.mm.layout import I386_PAE_LAYOUT
from minikernel.mm.mm_struct import MmStruct, vma_name
from minikernel.mm.mmap import do_mmap, install_special_mapping
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.overcommit import OVERCOMMIT_ALWAYS, OVERCOMMIT_NEVER
from minikernel.mm.unmapped_area import get_unmapped_area, round_hint_to_min
from minikernel.mm.vma import STACK_GUARD_GAP, VM_GROWSDOWN, VM_MAYWRITE, VM_NOHUGEPAGE, VM_NORESERVE, VM_SHARED
from tests.minikernel.mm.touch import (
    ANON,
    BASE,
    RW,
    SHARED_ANON,
    File,
    Machine,
    map_fixed,
    peek,
    poke,
    shape,
    touch,
)

MMAP_BASE = 0x7FFF_F7FF_F000  # of a Linux without ASLR and with the usual stack limit


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


# ---- layouts


def test_the_layout_is_linux_s_without_randomization() -> None:
    layout = address_layout(TASK_SIZE_X86_64, stack_limit=8 << 20)

    assert layout.mmap_base == MMAP_BASE
    assert layout.legacy_base == 0x2AAA_AAAA_A000 + PAGE_SIZE
    assert layout.stack_top == 0x7FFF_FFFF_F000
    assert layout.is_64bit


def test_a_large_stack_pushes_the_mappings_down_but_not_away() -> None:
    assert address_layout(TASK_SIZE_I386, stack_limit=1 << 30).mmap_base == TASK_SIZE_I386 - (1 << 30) - STACK_GUARD_GAP
    unlimited = address_layout(TASK_SIZE_COMPAT, stack_limit=(1 << 64) - 1)
    assert unlimited.mmap_base == (TASK_SIZE_COMPAT - TASK_SIZE_COMPAT // 6 * 5 + 0xFFF) & ~0xFFF
    assert not unlimited.is_64bit


def test_randomization_moves_the_bases_by_whole_pages() -> None:
    plain = address_layout(TASK_SIZE_X86_64, stack_limit=8 << 20)
    moved = address_layout(TASK_SIZE_X86_64, stack_limit=8 << 20, random=0x1234)
    compat = address_layout(TASK_SIZE_COMPAT, stack_limit=8 << 20, random=0xFFFF_FFFF)

    assert moved.mmap_base < plain.mmap_base
    assert moved.legacy_base - plain.legacy_base == 0x1234 * PAGE_SIZE
    assert not moved.mmap_base % PAGE_SIZE
    assert compat.legacy_base - address_layout(TASK_SIZE_COMPAT, stack_limit=8 << 20).legacy_base == 0xFF * PAGE_SIZE


# ---- where


def test_mappings_go_top_down_and_merge(mm: MmStruct) -> None:
    first = do_mmap(mm, 0, PAGE_SIZE, RW, ANON, None, 0)
    second = do_mmap(mm, 0, PAGE_SIZE + 1, RW, ANON, None, 0)

    assert first == MMAP_BASE - PAGE_SIZE
    assert second == first - 2 * PAGE_SIZE
    assert mm.map_count == 1


def test_a_hint_is_taken_if_it_is_free(mm: MmStruct) -> None:
    map_fixed(mm, BASE, 4)

    assert do_mmap(mm, BASE + 4 * PAGE_SIZE + 5, PAGE_SIZE, RW, ANON, None, 0) == BASE + 4 * PAGE_SIZE
    assert do_mmap(mm, BASE + PAGE_SIZE, PAGE_SIZE, RW, ANON, None, 0) == MMAP_BASE - PAGE_SIZE
    assert do_mmap(mm, mm.layout.task_size, PAGE_SIZE, RW, ANON, None, 0) == MMAP_BASE - 2 * PAGE_SIZE


def test_a_low_hint_means_the_lowest_address(mm: MmStruct) -> None:
    assert round_hint_to_min(mm, 5) == 0
    assert do_mmap(mm, 0x3000, PAGE_SIZE, RW, ANON, None, 0) == 0x10000


def test_the_highest_hole_that_is_large_enough_is_taken(mm: MmStruct) -> None:
    top = do_mmap(mm, 0, 8 * PAGE_SIZE, RW, ANON, None, 0)
    do_mmap(mm, 0, PAGE_SIZE, PROT_READ, ANON, None, 0)
    vm_munmap(mm, top + 2 * PAGE_SIZE, 2 * PAGE_SIZE)
    vm_munmap(mm, top + 6 * PAGE_SIZE, PAGE_SIZE)

    assert do_mmap(mm, 0, 2 * PAGE_SIZE, PROT_EXEC, ANON, None, 0) == top + 2 * PAGE_SIZE
    assert do_mmap(mm, 0, PAGE_SIZE, PROT_EXEC, ANON, None, 0) == top + 6 * PAGE_SIZE


def test_a_stack_s_guard_gap_stays_free(mm: MmStruct) -> None:
    base = mm.layout.mmap_base
    map_fixed(mm, base + PAGE_SIZE, 1, RW, ANON | MAP_GROWSDOWN)
    where = do_mmap(mm, 0, PAGE_SIZE, RW, ANON, None, 0)
    assert where == base + PAGE_SIZE - STACK_GUARD_GAP - PAGE_SIZE

    map_fixed(mm, where - 16 * PAGE_SIZE, 1, RW, ANON | MAP_GROWSDOWN)
    below = do_mmap(mm, 0, 16 * PAGE_SIZE, PROT_READ, ANON, None, 0)
    assert below == where - 16 * PAGE_SIZE - STACK_GUARD_GAP - 16 * PAGE_SIZE
    hint = base + PAGE_SIZE - 8 * PAGE_SIZE
    assert do_mmap(mm, hint, PAGE_SIZE, RW, ANON, None, 0) != hint


def test_a_mapping_across_the_base_leaves_no_hole_above(mm: MmStruct) -> None:
    base = mm.layout.mmap_base
    map_fixed(mm, base - PAGE_SIZE, 4)

    assert do_mmap(mm, 0, PAGE_SIZE, PROT_READ, ANON, None, 0) == base - 2 * PAGE_SIZE


def test_a_32_bit_mapping_goes_bottom_up_into_the_second_gib(mm: MmStruct) -> None:
    first = do_mmap(mm, 0, PAGE_SIZE, RW, ANON | MAP_32BIT, None, 0)
    second = do_mmap(mm, 0, PAGE_SIZE, PROT_READ, ANON | MAP_32BIT, None, 0)
    map_fixed(mm, second + PAGE_SIZE + STACK_GUARD_GAP // 2, 1, RW, ANON | MAP_GROWSDOWN)
    third = do_mmap(mm, 0, PAGE_SIZE, PROT_READ, ANON | MAP_32BIT, None, 0)

    assert (first, second) == (0x4000_0000, 0x4000_1000)
    assert third == second + 2 * PAGE_SIZE + STACK_GUARD_GAP // 2
    vm_munmap(mm, first, PAGE_SIZE)
    assert do_mmap(mm, 0, PAGE_SIZE, PROT_EXEC, ANON | MAP_32BIT, None, 0) == first
    assert do_mmap(mm, 0x5000_0000, PAGE_SIZE, RW, ANON | MAP_32BIT, None, 0) == 0x5000_0000
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, 1 << 30, RW, ANON | MAP_32BIT | MAP_NORESERVE, None, 0))
    map_fixed(mm, 0x7FFF_F000, 1)
    map_fixed(mm, 0x9000_0000, 1)
    refused(Errno.ENOMEM, lambda: get_unmapped_area(mm, 0, (1 << 30) - (256 << 20), MAP_32BIT))


def test_above_4_gib_keeps_out_of_the_low_memory(machine: Machine, mm: MmStruct) -> None:
    mm.sysctl.overcommit_memory = OVERCOMMIT_ALWAYS
    everything = MMAP_BASE - (1 << 32)
    assert do_mmap(mm, 0, everything, 0, ANON | MAP_ABOVE4G, None, 0) == 1 << 32
    where = do_mmap(mm, 0, PAGE_SIZE, RW, ANON | MAP_ABOVE4G, None, 0)
    assert where == MMAP_BASE, "the bottom-up search finds what lies between the base and the stack"
    machine.validate()


def test_when_nothing_is_free_below_the_base_the_search_goes_bottom_up() -> None:
    machine = Machine(I386_PAE_LAYOUT, ram=4 << 20)
    mm = machine.mm()
    lowest = mm.layout.mmap_min_addr
    base = mm.layout.mmap_base
    do_mmap(mm, lowest, base - lowest, 0, ANON | MAP_FIXED, None, 0)

    assert do_mmap(mm, 0, PAGE_SIZE, RW, ANON, None, 0) == base
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, 256 << 20, 0, ANON, None, 0))
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, 0xC000_0000, 0, ANON, None, 0))


def test_the_old_layout_searches_upwards(machine: Machine) -> None:
    layout = address_layout(TASK_SIZE_I386, stack_limit=8 << 20, bottom_up=True)
    mm = MmStruct(machine.node, machine.kernel_half, layout, machine.tracer, machine.rlimits)
    machine.mms.append(mm)

    first = do_mmap(mm, 0, PAGE_SIZE, RW, ANON, None, 0)
    assert first == 0x4000_0000
    assert do_mmap(mm, first, PAGE_SIZE, PROT_READ, ANON, None, 0) == first + PAGE_SIZE
    assert do_mmap(mm, BASE, PAGE_SIZE, RW, ANON | MAP_32BIT, None, 0) == BASE, "only a 64-bit program has MAP_32BIT"


# ---- errors, in Linux's order


def test_senseless_requests(machine: Machine, mm: MmStruct) -> None:
    size = mm.layout.task_size
    refused(Errno.EINVAL, lambda: do_mmap(mm, 0, 0, RW, ANON, None, 0))
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, (1 << 64) - 1, RW, ANON, None, 0))
    refused(Errno.EOVERFLOW, lambda: do_mmap(mm, 0, 2 * PAGE_SIZE, RW, ANON, None, (1 << 64) - 1))
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, size + PAGE_SIZE, RW, ANON, None, 0))
    refused(Errno.ENOMEM, lambda: do_mmap(mm, size - PAGE_SIZE, 2 * PAGE_SIZE, RW, ANON | MAP_FIXED, None, 0))
    refused(Errno.EINVAL, lambda: do_mmap(mm, BASE + 1, PAGE_SIZE, RW, ANON | MAP_FIXED, None, 0))
    refused(Errno.EPERM, lambda: map_fixed(mm, 0, 1))
    refused(Errno.EINVAL, lambda: do_mmap(mm, 0, PAGE_SIZE, RW, MAP_ANONYMOUS, None, 0))
    refused(Errno.EINVAL, lambda: do_mmap(mm, 0, PAGE_SIZE, RW, SHARED_ANON | MAP_GROWSDOWN, None, 0))
    file = machine.file(PAGE_SIZE)
    refused(Errno.EOVERFLOW, lambda: do_mmap(mm, 0, PAGE_SIZE, RW, MAP_SHARED, file, 1 << 52))
    refused(Errno.EINVAL, lambda: do_mmap(mm, 0, PAGE_SIZE, RW, 0, file, 0))
    refused(Errno.EINVAL, lambda: do_mmap(mm, 0, PAGE_SIZE, RW, MAP_PRIVATE | MAP_GROWSDOWN, file, 0))
    refused(Errno.EOPNOTSUPP, lambda: do_mmap(mm, 0, PAGE_SIZE, RW, MAP_SHARED_VALIDATE | MAP_SYNC, file, 0))
    refused(Errno.ENODEV, lambda: do_mmap(mm, 0, PAGE_SIZE, RW, MAP_SHARED, File(None), 0))
    assert mm.map_count == 0


def test_page_zero_is_for_the_privileged(mm: MmStruct) -> None:
    mm.cap_sys_rawio = True

    assert map_fixed(mm, 0, 1) == 0


def test_a_file_s_mode_limits_its_mappings(machine: Machine, mm: MmStruct) -> None:
    cache = machine.file(PAGE_SIZE).mapping
    unreadable = File(cache, readable=False)
    readonly = File(cache, writable=False)

    refused(Errno.EACCES, lambda: do_mmap(mm, 0, PAGE_SIZE, PROT_WRITE, MAP_SHARED, unreadable, 0))
    refused(Errno.EACCES, lambda: do_mmap(mm, 0, PAGE_SIZE, RW, MAP_SHARED, readonly, 0))
    assert do_mmap(mm, BASE, PAGE_SIZE, RW, MAP_PRIVATE, readonly, 0)
    do_mmap(mm, BASE, PAGE_SIZE, PROT_READ, MAP_SHARED_VALIDATE | MAP_FIXED, readonly, 0)
    assert not mm.vmas.items[0].flags & (VM_MAYWRITE | VM_SHARED)


def test_a_sealed_file_is_mapped_for_reading_only(machine: Machine, mm: MmStruct) -> None:
    file = machine.file(PAGE_SIZE)
    file.cache.write_sealed = True

    refused(Errno.EPERM, lambda: map_fixed(mm, BASE, 1, RW, MAP_SHARED, file))
    map_fixed(mm, BASE, 1, RW, MAP_PRIVATE, file)
    map_fixed(mm, BASE, 1, PROT_READ, MAP_SHARED, file)
    assert not mm.vmas.items[0].flags & VM_MAYWRITE


def test_noreplace_refuses_what_fixed_replaces(mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)

    refused(Errno.EEXIST, lambda: map_fixed(mm, BASE + PAGE_SIZE, 2, RW, ANON | MAP_FIXED_NOREPLACE))
    map_fixed(mm, BASE + PAGE_SIZE, 2, PROT_READ)
    assert shape(mm) == [(0, 1, "rw-"), (1, 3, "r--")]


def test_limits_of_the_address_space(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 4)
    machine.rlimits[RLIMIT_AS] = [4 * PAGE_SIZE, 4 * PAGE_SIZE]
    refused(Errno.ENOMEM, lambda: map_fixed(mm, BASE + 4 * PAGE_SIZE, 1))
    map_fixed(mm, BASE, 4, PROT_READ)
    machine.rlimits[RLIMIT_AS] = [1 << 40, 1 << 40]
    machine.rlimits[RLIMIT_DATA] = [PAGE_SIZE, PAGE_SIZE]
    map_fixed(mm, BASE, 1)
    refused(Errno.ENOMEM, lambda: map_fixed(mm, BASE + 8 * PAGE_SIZE, 1))
    map_fixed(mm, BASE + 8 * PAGE_SIZE, 1, PROT_READ)
    machine.rlimits[RLIMIT_DATA] = [0, 2 * PAGE_SIZE]
    map_fixed(mm, BASE + 9 * PAGE_SIZE, 1)
    refused(Errno.ENOMEM, lambda: map_fixed(mm, BASE + 10 * PAGE_SIZE, 1))
    machine.validate()


def test_limits_of_locked_memory(machine: Machine, mm: MmStruct) -> None:
    machine.rlimits[RLIMIT_MEMLOCK] = [PAGE_SIZE, PAGE_SIZE]
    map_fixed(mm, BASE, 1, RW, ANON | MAP_LOCKED)
    assert (mm.locked_vm, mm.rss_anon) == (1, 1)
    refused(Errno.EAGAIN, lambda: map_fixed(mm, BASE + PAGE_SIZE, 1, RW, ANON | MAP_LOCKED))
    machine.rlimits[RLIMIT_MEMLOCK] = [0, 0]
    refused(Errno.EPERM, lambda: map_fixed(mm, BASE + PAGE_SIZE, 1, RW, ANON | MAP_LOCKED))
    mm.cap_ipc_lock = True
    map_fixed(mm, BASE + PAGE_SIZE, 1, RW, ANON | MAP_LOCKED)
    machine.validate()


def test_too_many_mappings(machine: Machine, mm: MmStruct) -> None:
    mm.sysctl.max_map_count = 2
    for page in (0, 2, 4):
        map_fixed(mm, BASE + page * PAGE_SIZE, 1)
    refused(Errno.ENOMEM, lambda: map_fixed(mm, BASE + 6 * PAGE_SIZE, 1))
    mm.sysctl.max_map_count = 3
    map_fixed(mm, BASE, 3)
    assert mm.map_count == 2
    mm.sysctl.max_map_count = 2
    refused(Errno.ENOMEM, lambda: map_fixed(mm, BASE + PAGE_SIZE, 1, PROT_READ))
    refused(Errno.ENOMEM, lambda: vm_munmap(mm, BASE + PAGE_SIZE, PAGE_SIZE))
    assert shape(mm) == [(0, 3, "rw-"), (4, 5, "rw-")]
    machine.validate()


def test_more_than_the_machine_has_is_refused_unless_asked_for_differently(mm: MmStruct) -> None:
    size = 16 << 20
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, size, RW, ANON, None, 0))
    do_mmap(mm, 0, size, PROT_READ, ANON, None, 0)
    do_mmap(mm, BASE, size, RW, ANON | MAP_NORESERVE, None, 0)
    assert mm.vmas.items[0].flags & VM_NORESERVE
    mm.sysctl.overcommit_memory = OVERCOMMIT_NEVER
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, size, RW, ANON | MAP_NORESERVE, None, 0))
    mm.sysctl.overcommit_memory = OVERCOMMIT_ALWAYS
    do_mmap(mm, 0, size, RW, ANON, None, 0)


def test_there_are_no_huge_pages(machine: Machine, mm: MmStruct) -> None:
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, 2 << 20, RW, ANON | MAP_HUGETLB, None, 0))
    odd = MAP_HUGETLB | 22 << MAP_HUGE_SHIFT
    refused(Errno.EINVAL, lambda: do_mmap(mm, 0, 2 << 20, RW, ANON | odd, None, 0))
    refused(Errno.EINVAL, lambda: do_mmap(mm, 0, 2 << 20, RW, MAP_SHARED | MAP_HUGETLB, machine.file(PAGE_SIZE), 0))


# ---- what


def test_populate_faults_everything_in(mm: MmStruct) -> None:
    map_fixed(mm, BASE, 4, RW, ANON | MAP_POPULATE)
    map_fixed(mm, BASE + 4 * PAGE_SIZE, 4, 0, ANON | MAP_POPULATE)

    assert mm.rss_anon == 4


def test_read_implies_exec_for_old_programs(mm: MmStruct) -> None:
    mm.read_implies_exec = True
    map_fixed(mm, BASE, 1, PROT_READ)

    assert shape(mm) == [(0, 1, "r-x")]


def test_flags_end_up_in_the_mapping(mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1, RW, ANON | MAP_STACK | MAP_GROWSDOWN)

    assert mm.vmas.items[0].flags & (VM_NOHUGEPAGE | VM_GROWSDOWN) == VM_NOHUGEPAGE | VM_GROWSDOWN


def test_the_zero_device_gives_anonymous_and_shared_memory(machine: Machine, mm: MmStruct) -> None:
    zero = PageCache(machine.node)
    zero.is_dev_zero = True
    file = File(zero)
    map_fixed(mm, BASE, 1, RW, MAP_PRIVATE, file, 7)
    map_fixed(mm, BASE + PAGE_SIZE, 1, RW, MAP_SHARED, file)
    for page in range(2):
        poke(mm, BASE + page * PAGE_SIZE, 5)

    assert (mm.rss_anon, mm.rss_shmem, file.users) == (1, 1, 1)
    assert [vma_name(mm, vma) for vma in mm.vmas] == [b"/tmp/file", b"/dev/zero (deleted)"]
    machine.validate()


def test_a_file_is_used_by_each_of_its_mappings(machine: Machine, mm: MmStruct) -> None:
    file = machine.file(8 * PAGE_SIZE)
    map_fixed(mm, BASE, 4, RW, MAP_PRIVATE, file)
    map_fixed(mm, BASE + 4 * PAGE_SIZE, 4, RW, MAP_PRIVATE, file, 4)
    assert (mm.map_count, file.users) == (1, 1)
    vm_munmap(mm, BASE + 2 * PAGE_SIZE, PAGE_SIZE)
    assert (mm.map_count, file.users) == (2, 2)
    vm_munmap(mm, BASE, 8 * PAGE_SIZE)
    assert file.users == 0
    machine.validate()


def test_names_are_those_of_proc_maps(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1)
    map_fixed(mm, BASE + 4 * PAGE_SIZE, 1)
    map_fixed(mm, BASE + 8 * PAGE_SIZE, 1)
    map_fixed(mm, BASE + 12 * PAGE_SIZE, 1, RW, MAP_PRIVATE, machine.file(PAGE_SIZE))
    pfn = machine.node.alloc_page()
    assert pfn is not None
    machine.held[pfn] = 1
    install_special_mapping(mm, BASE + 16 * PAGE_SIZE, [pfn], PROT_READ, "[vdso]")
    mm.start_brk, mm.brk = VirtAddr(BASE), VirtAddr(BASE + PAGE_SIZE)
    mm.start_stack = VirtAddr(BASE + 4 * PAGE_SIZE + 100)

    assert [vma_name(mm, vma) for vma in mm.vmas] == [b"[heap]", b"[stack]", b"", b"/tmp/file", b"[vdso]"]
    machine.validate()


def test_a_special_mapping_goes_elsewhere_if_its_place_is_taken(machine: Machine, mm: MmStruct) -> None:
    pfn = machine.node.alloc_page()
    assert pfn is not None
    map_fixed(mm, BASE, 1)

    assert install_special_mapping(mm, BASE, [pfn], PROT_READ, "[vdso]") == MMAP_BASE - PAGE_SIZE


def test_changes_are_told(mm: MmStruct, machine: Machine) -> None:
    with machine.events() as told:
        map_fixed(mm, BASE, 1)
        vm_munmap(mm, BASE, PAGE_SIZE)

    assert [event.op for event in told if isinstance(event, MmapRegion)] == ["mmap", "munmap"]


# ---- munmap


def test_munmap_splits_and_frees(machine: Machine, mm: MmStruct) -> None:
    free = machine.node.nr_free
    map_fixed(mm, BASE, 6, RW, ANON | MAP_POPULATE)
    vm_munmap(mm, BASE + 2 * PAGE_SIZE, 2 * PAGE_SIZE - 5)

    assert shape(mm) == [(0, 2, "rw-"), (4, 6, "rw-")]
    assert (mm.rss_anon, mm.tlb_dirty) == (4, True)
    assert isinstance(touch(mm, BASE + 2 * PAGE_SIZE), Segv)
    machine.validate()
    vm_munmap(mm, BASE - PAGE_SIZE, 100 * PAGE_SIZE)
    assert machine.node.nr_free == free
    machine.validate()


def test_munmap_of_nothing_is_no_error(mm: MmStruct) -> None:
    vm_munmap(mm, BASE, PAGE_SIZE)


def test_munmap_errors(mm: MmStruct) -> None:
    size = mm.layout.task_size
    for start, length in ((BASE + 1, PAGE_SIZE), (size + PAGE_SIZE, PAGE_SIZE), (BASE, size), (BASE, 0)):
        refused(Errno.EINVAL, lambda start=start, length=length: vm_munmap(mm, start, length))  # type: ignore[misc]


def test_tables_between_mappings_are_freed_and_others_kept(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2, RW, ANON | MAP_POPULATE)
    map_fixed(mm, BASE + (64 << 20), 2, RW, ANON | MAP_POPULATE)
    tables = mm.pgtable.nr_tables
    vm_munmap(mm, BASE + PAGE_SIZE, 64 << 20)
    assert mm.pgtable.nr_tables == tables
    vm_munmap(mm, BASE + PAGE_SIZE, 128 << 20)
    assert mm.pgtable.nr_tables == tables - 1
    assert peek(mm, BASE) == 0
    machine.validate()


def test_the_end_of_an_address_space_frees_everything(machine: Machine) -> None:
    free = machine.node.nr_free
    mm = machine.mm()
    file = machine.file(PAGE_SIZE)
    map_fixed(mm, BASE, 6, RW, ANON | MAP_POPULATE)
    map_fixed(mm, BASE + 6 * PAGE_SIZE, 1, RW, SHARED_ANON | MAP_POPULATE)
    mm.set_exe_file(file)
    assert mm.hiwater_vm == 7
    machine.destroy(mm)

    assert (mm.hiwater_rss, mm.rss, mm.total_vm, file.users) == (7, 0, 0, 0)
    assert machine.node.nr_free == free
    machine.validate()


def test_knobs_are_shared_by_a_machine(machine: Machine) -> None:
    assert machine.mm().sysctl is machine.mm().sysctl is machine.node.vm_sysctl
