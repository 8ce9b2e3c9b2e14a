"""The fault path: which page appears, what it costs, and who is told."""

import pytest

from emu.x86 import PAGE_SIZE, PF_P, PF_U, PF_W, PTE_P, PTE_XD
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import (
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from minikernel.events import FaultKind, MmFaultFailed, MmFaultResolved
from minikernel.mm.fault import (
    BUS_ADRERR,
    SEGV_ACCERR,
    SEGV_MAPERR,
    BusError,
    OutOfMemory,
    Segv,
    Served,
    handle_mm_fault,
    user_error_code,
)
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, KernelLayout
from minikernel.mm.mmap import install_special_mapping
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.page import PG_kernel
from tests.minikernel.mm.touch import (
    ANON,
    BASE,
    FETCH,
    LAYOUTS,
    READ,
    RW,
    SHARED_ANON,
    WRITE,
    File,
    Machine,
    Store,
    map_fixed,
    peek,
    pfn_of,
    poke,
    touch,
)


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    layout: KernelLayout = request.param
    return Machine(layout, ram=4 << 20)


def test_a_read_of_fresh_memory_maps_the_zero_page(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 2)

    assert touch(mm, BASE) == Served(FaultKind.ZERO_PAGE)
    assert pfn_of(mm, BASE) == machine.node.zero_pfn
    assert mm.rss == 0
    assert touch(mm, BASE) is None
    machine.validate()


def test_a_write_to_fresh_memory_makes_a_zeroed_page_of_our_own(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 2)

    assert poke(mm, BASE + 5, 7) == Served(FaultKind.ANON)
    assert peek(mm, BASE + 5) == 7
    assert peek(mm, BASE + 6) == 0
    assert (mm.rss_anon, mm.min_flt, mm.maj_flt) == (1, 1, 0)
    machine.validate()


def test_a_write_after_a_read_replaces_the_zero_page(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    touch(mm, BASE)

    assert poke(mm, BASE, 7) == Served(FaultKind.COW_COPY)
    assert pfn_of(mm, BASE) != machine.node.zero_pfn
    assert mm.tlb_dirty
    machine.validate()


def test_memory_that_was_used_before_is_zero_again(machine: Machine) -> None:
    mm = machine.mm()
    for _ in range(2):
        map_fixed(mm, BASE, 16)
        for page in range(16):
            assert peek(mm, BASE + page * PAGE_SIZE) == 0
            poke(mm, BASE + page * PAGE_SIZE, 0xEE)
    machine.validate()


def test_no_mapping_is_a_maperr_and_a_forbidden_access_an_accerr(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1, PROT_READ)
    map_fixed(mm, BASE + PAGE_SIZE, 1, 0)

    assert touch(mm, BASE + 2 * PAGE_SIZE) == Segv(SEGV_MAPERR, "no mapping here or above")
    assert touch(mm, BASE - 1) == Segv(SEGV_MAPERR, "no mapping here, and the one above is no stack")
    assert touch(mm, BASE, WRITE) == Segv(SEGV_ACCERR, "write of a mapping whose rights are r--")
    assert touch(mm, BASE + PAGE_SIZE) == Segv(SEGV_ACCERR, "read of a mapping whose rights are ---")
    machine.validate()


def test_a_fetch_needs_the_right_to_execute_where_the_hardware_can_tell(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1, RW)
    map_fixed(mm, BASE + PAGE_SIZE, 1, PROT_READ | PROT_EXEC)
    poke(mm, BASE, 1)
    outcome = touch(mm, BASE, FETCH)

    if machine.node.layout.mode.has_nx:
        assert outcome == Segv(SEGV_ACCERR, "fetch of a mapping whose rights are rw-")
    else:
        assert outcome is None
    assert touch(mm, BASE + PAGE_SIZE, FETCH) == Served(FaultKind.ZERO_PAGE)
    machine.validate()


def test_the_kernel_s_half_is_no_user_s_business(machine: Machine) -> None:
    mm = machine.mm()

    outcome = touch(mm, machine.node.layout.page_offset)
    assert outcome == Segv(SEGV_MAPERR, "the address is the kernel's, not a user's")


def test_a_page_that_became_prot_none_stays_and_comes_back(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 9)
    do_mprotect(mm, BASE, PAGE_SIZE, 0)

    assert isinstance(touch(mm, BASE), Segv)
    assert mm.rss_anon == 1
    machine.validate()

    do_mprotect(mm, BASE, PAGE_SIZE, PROT_READ)
    assert touch(mm, BASE) is None
    assert peek(mm, BASE) == 9
    machine.validate()


def test_a_fault_that_nobody_needed_is_spurious(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 1)

    assert handle_mm_fault(mm, BASE, PF_U | PF_W | PF_P) == Served(FaultKind.SPURIOUS)


def test_a_signal_frame_shows_linux_s_error_code(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 1)
    do_mprotect(mm, BASE, PAGE_SIZE, 0)
    kernel = machine.node.layout.page_offset

    assert user_error_code(mm, BASE, PF_P | PF_W) == PF_U | PF_W
    assert user_error_code(mm, BASE + PAGE_SIZE, PF_U) == PF_U
    assert user_error_code(mm, kernel, PF_U) == PF_U | PF_P
    do_mprotect(mm, BASE, PAGE_SIZE, PROT_READ)
    assert user_error_code(mm, BASE, PF_U | PF_W | PF_P) == PF_U | PF_W | PF_P


# ---- files


def test_a_read_of_a_file_maps_the_cached_pages_around_it(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(store=Store(bytes(range(32)) * (PAGE_SIZE)))
    map_fixed(mm, BASE, 32, PROT_READ, MAP_PRIVATE, file)

    assert touch(mm, BASE + 3 * PAGE_SIZE) == Served(FaultKind.FILE_READ, major=True)
    assert mm.rss_file == 16
    assert touch(mm, BASE) is None
    assert touch(mm, BASE + 15 * PAGE_SIZE) is None
    assert (mm.min_flt, mm.maj_flt) == (0, 1)
    machine.validate()


def test_a_second_mapping_of_cached_pages_needs_no_io(machine: Machine) -> None:
    mm = machine.mm()
    store = Store(bytes(8 * PAGE_SIZE))
    file = machine.file(store=store)
    map_fixed(mm, BASE, 8, PROT_READ, MAP_PRIVATE, file)
    touch(mm, BASE)
    read = len(store.reads)
    map_fixed(mm, BASE + 0x100000, 8, PROT_READ | PROT_EXEC, MAP_PRIVATE, file)

    assert touch(mm, BASE + 0x100000, FETCH) == Served(FaultKind.FILE_READ)
    assert len(store.reads) == read
    machine.validate()


def test_with_little_memory_only_the_page_itself_is_read() -> None:
    machine = Machine(ram=4 << 20)
    mm = machine.mm()
    store = Store(bytes(8 * PAGE_SIZE))
    map_fixed(mm, BASE, 8, PROT_READ, MAP_PRIVATE, machine.file(store=store))
    while machine.node.nr_free >= 256:
        pfn = machine.node.alloc_page()
        assert pfn is not None
        machine.held[pfn] = 1

    touch(mm, BASE + PAGE_SIZE)
    assert store.reads == [1]
    machine.validate()


def test_a_write_to_a_private_file_page_copies_it(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(store=Store(b"ab" * PAGE_SIZE))
    map_fixed(mm, BASE, 2, RW, MAP_PRIVATE, file)

    assert poke(mm, BASE, ord("X")) == Served(FaultKind.FILE_COW, major=True)
    assert peek(mm, BASE + 1) == ord("b")
    assert file.cache.read(0, 2) == b"ab"
    assert (mm.rss_anon, mm.rss_file) == (1, 0)
    machine.validate()


def test_a_write_to_a_private_file_page_that_was_read_copies_it(machine: Machine) -> None:
    mm = machine.mm()
    for file in (machine.file(store=Store(b"ab" * PAGE_SIZE)), machine.file(2 * PAGE_SIZE)):
        file.cache.write(0, b"ab")
        map_fixed(mm, BASE, 2, RW, MAP_PRIVATE, file)
        touch(mm, BASE)

        assert poke(mm, BASE, ord("X")) == Served(FaultKind.FILE_COW)
        assert peek(mm, BASE + 1) == ord("b")
        assert file.cache.read(0, 2) == b"ab"
        assert mm.rss_anon == 1
        machine.validate()


def test_a_shared_write_is_noticed_once_and_again_after_a_sync(machine: Machine) -> None:
    mm = machine.mm()
    store = Store(bytes(PAGE_SIZE))
    file = machine.file(store=store)
    told: list[int] = []
    file.cache.on_mkwrite = lambda: told.append(1)
    map_fixed(mm, BASE, 1, RW, MAP_SHARED, file)

    assert poke(mm, BASE, 1) == Served(FaultKind.FILE_SHARED, major=True)
    assert poke(mm, BASE, 2) is None
    assert (file.cache.dirty, len(told)) == ({0}, 1)
    machine.validate()

    file.cache.sync()
    assert (store.data[0], file.cache.dirty) == (2, set())
    assert mm.tlb_dirty
    machine.validate()

    assert poke(mm, BASE, 3) == Served(FaultKind.FILE_SHARED)
    assert (file.cache.dirty, len(told)) == ({0}, 2)
    assert file.cache.read(0, 1) == b"\3"
    machine.validate()


def test_a_read_first_leaves_a_shared_file_page_read_only_until_it_is_written(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(store=Store(bytes(PAGE_SIZE)))
    map_fixed(mm, BASE, 1, RW, MAP_SHARED, file)
    touch(mm, BASE)

    assert poke(mm, BASE, 1) == Served(FaultKind.FILE_SHARED)
    machine.validate()


def test_shared_memory_needs_no_notice(machine: Machine) -> None:
    """The first read maps it writable at once: vma_wants_writenotify."""
    mm = machine.mm()
    map_fixed(mm, BASE, 4, RW, SHARED_ANON)

    assert touch(mm, BASE) == Served(FaultKind.FILE_READ)
    assert poke(mm, BASE, 5) is None
    assert poke(mm, BASE + PAGE_SIZE, 6) == Served(FaultKind.FILE_SHARED)
    assert (mm.rss_shmem, mm.maj_flt) == (2, 0)
    machine.validate()


def test_beyond_the_end_of_the_file_is_a_bus_error(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(store=Store(b"x" * (PAGE_SIZE + 1)))
    map_fixed(mm, BASE, 4, RW, MAP_PRIVATE, file)
    map_fixed(mm, BASE + 4 * PAGE_SIZE, 4, RW, MAP_SHARED, file)

    assert poke(mm, BASE + PAGE_SIZE + 100, 1) == Served(FaultKind.FILE_COW, major=True)
    for access in (READ, WRITE):
        for page in (2, 6):
            assert touch(mm, BASE + page * PAGE_SIZE, access) == BusError(
                BUS_ADRERR, "the page lies beyond the end of the mapped file"
            )
    machine.validate()


def test_a_first_write_beyond_the_end_prepares_the_copy_like_linux() -> None:
    machine = Machine(ram=4 << 20)
    mm = machine.mm()
    map_fixed(mm, BASE, 4, RW, MAP_PRIVATE, machine.file(PAGE_SIZE))

    assert isinstance(touch(mm, BASE + PAGE_SIZE, WRITE), BusError)
    assert mm.vmas.items[0].anon_vma is not None
    machine.validate()


def test_an_io_error_is_a_bus_error(machine: Machine) -> None:
    mm = machine.mm()
    store = Store(bytes(8 * PAGE_SIZE))
    store.fail = True
    map_fixed(mm, BASE, 8, RW, MAP_PRIVATE, machine.file(store=store))

    outcome = touch(mm, BASE)
    assert isinstance(outcome, BusError)
    assert "EIO" in outcome.reason
    machine.validate()


def test_read_around_ends_quietly_at_an_io_error() -> None:
    machine = Machine(ram=4 << 20)
    mm = machine.mm()

    class HalfBroken(Store):
        def read_page(self, index: int) -> bytes:
            self.fail = index >= 2
            return super().read_page(index)

    store = HalfBroken(bytes(8 * PAGE_SIZE))
    map_fixed(mm, BASE, 8, PROT_READ, MAP_PRIVATE, machine.file(store=store))

    assert touch(mm, BASE) == Served(FaultKind.FILE_READ, major=True)
    assert mm.rss_file == 2
    machine.validate()


def test_a_file_system_may_refuse_a_shared_write(machine: Machine) -> None:
    def refuse() -> None:
        raise LinuxError(Errno.ENOSPC, "full")

    mm = machine.mm()
    file = machine.file(store=Store(bytes(2 * PAGE_SIZE)))
    file.cache.on_mkwrite = refuse
    map_fixed(mm, BASE, 2, RW, MAP_SHARED, file)

    assert isinstance(touch(mm, BASE, WRITE), BusError)
    touch(mm, BASE + PAGE_SIZE)
    assert isinstance(touch(mm, BASE + PAGE_SIZE, WRITE), BusError)
    machine.validate()


# ---- the kernel's own pages


def special(machine: Machine) -> tuple[int, int]:
    """A vDSO of two pages: its address in a new mm, and the first frame."""
    pages = []
    for _ in range(2):
        pfn = machine.node.alloc_page()
        assert pfn is not None
        machine.node.mem_map.flags[pfn] |= PG_kernel
        pages.append(pfn)
    mm = machine.mm()
    where = install_special_mapping(mm, BASE, pages, PROT_READ | PROT_EXEC, "[vdso]")
    return where, pages[0]


def test_the_kernel_s_pages_are_shown_and_copied_on_write(machine: Machine) -> None:
    where, first = special(machine)
    (mm,) = machine.mms

    assert touch(mm, where, FETCH) == Served(FaultKind.FILE_READ)
    assert pfn_of(mm, where) == first
    assert mm.rss_file == 1
    machine.validate()

    do_mprotect(mm, where, 2 * PAGE_SIZE, RW)
    assert poke(mm, where, 1) == Served(FaultKind.FILE_COW)
    assert poke(mm, where + PAGE_SIZE, 1) == Served(FaultKind.FILE_COW)
    assert (mm.rss_anon, mm.rss_file) == (2, 0)
    machine.validate()

    machine.destroy(mm)
    machine.validate()
    assert machine.node.mem_map.refcount[first] == 1


def test_a_write_beyond_a_file_prepares_its_copy_before_it_misses_the_page(machine: Machine) -> None:
    """So the want of memory for the copy's owner comes first, as on Linux; only then the end of the file."""
    mm = machine.mm()
    map_fixed(mm, BASE, 2, RW, MAP_PRIVATE, machine.file(store=Store(bytes(PAGE_SIZE))))
    machine.node.slab.fail_allocation(0)
    assert isinstance(touch(mm, BASE + PAGE_SIZE, WRITE), OutOfMemory)
    assert mm.vmas.items[0].anon_vma is None

    outcome = touch(mm, BASE + PAGE_SIZE, WRITE)
    assert isinstance(outcome, BusError)
    assert outcome.code == BUS_ADRERR
    assert mm.vmas.items[0].anon_vma is not None
    machine.validate()


# ---- stacks


def test_a_stack_grows_to_the_page_touched(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1, RW, ANON | MAP_GROWSDOWN)

    with machine.events() as told:
        assert poke(mm, BASE - 5 * PAGE_SIZE, 1) == Served(FaultKind.ANON)

    kinds = [event.kind for event in told if isinstance(event, MmFaultResolved)]
    assert kinds == [FaultKind.STACK_GROWTH, FaultKind.ANON]
    assert mm.vmas.items[0].start == BASE - 5 * PAGE_SIZE
    assert mm.stack_vm == 6
    machine.validate()


# ---- what is told


def test_every_end_of_the_path_is_told(machine: Machine) -> None:
    mm = machine.mm()
    store = Store(bytes(PAGE_SIZE))
    map_fixed(mm, BASE, 1)
    map_fixed(mm, BASE + PAGE_SIZE, 2, RW, MAP_SHARED, machine.file(store=store))
    with machine.events() as told:
        touch(mm, BASE)
        touch(mm, BASE, WRITE)
        touch(mm, BASE + PAGE_SIZE, WRITE)
        touch(mm, BASE + 2 * PAGE_SIZE)
        touch(mm, BASE - PAGE_SIZE)
        machine.node.fail_allocation(0)
        map_fixed(mm, BASE, 1)
        assert touch(mm, BASE, WRITE) == OutOfMemory()

    resolved = [(event.kind, event.major) for event in told if isinstance(event, MmFaultResolved)]
    failed = [(event.signal, event.code) for event in told if isinstance(event, MmFaultFailed)]
    assert resolved == [(FaultKind.ZERO_PAGE, False), (FaultKind.COW_COPY, False), (FaultKind.FILE_SHARED, True)]
    assert failed == [(7, BUS_ADRERR), (11, SEGV_MAPERR), (0, 0)]
    machine.validate()


def test_a_traced_write_fault_names_its_frame() -> None:
    machine = Machine(ram=4 << 20)
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    with machine.events() as told:
        poke(mm, BASE, 1)

    assert told == [MmFaultResolved(BASE, FaultKind.ANON, pfn_of(mm, BASE))]  # type: ignore[arg-type]


# ---- code: FaultKind.CODE


def test_code_written_through_one_mapping_and_run_through_another(machine: Machine) -> None:
    """The JIT's round; without NX everything is code and nothing needs to move."""
    mm = machine.mm()
    file = machine.file(PAGE_SIZE)
    map_fixed(mm, BASE, 1, RW, MAP_SHARED, file)
    map_fixed(mm, BASE + PAGE_SIZE, 1, PROT_READ | PROT_EXEC, MAP_SHARED, file)
    poke(mm, BASE, 1)
    touch(mm, BASE + PAGE_SIZE, FETCH)
    machine.validate()
    first = poke(mm, BASE, 2)
    machine.validate()
    second = touch(mm, BASE + PAGE_SIZE, FETCH)
    machine.validate()

    if machine.node.layout is I386_2LEVEL_LAYOUT:
        assert (first, second) == (None, None)
    else:
        assert (first, second) == (Served(FaultKind.CODE), Served(FaultKind.CODE))
        assert machine.node.stale_code


def test_a_frame_of_code_is_read_first_without_becoming_data() -> None:
    """A writable shared mapping that only reads leaves the translations alone."""
    machine = Machine(ram=4 << 20)
    mm = machine.mm()
    file = machine.file(PAGE_SIZE)
    map_fixed(mm, BASE + PAGE_SIZE, 1, PROT_READ | PROT_EXEC, MAP_SHARED, file)
    map_fixed(mm, BASE, 1, RW, MAP_SHARED, file)
    touch(mm, BASE + PAGE_SIZE, FETCH)
    touch(mm, BASE)

    assert touch(mm, BASE + PAGE_SIZE, FETCH) is None
    assert poke(mm, BASE, 1) == Served(FaultKind.CODE)
    machine.validate()


def test_the_zero_page_may_be_executed(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1, PROT_READ | PROT_WRITE | PROT_EXEC)

    assert touch(mm, BASE, FETCH) == Served(FaultKind.ZERO_PAGE)
    assert poke(mm, BASE, 0xC3) == Served(FaultKind.COW_COPY)
    assert touch(mm, BASE, FETCH) is None
    pte = mm.pgtable.get(BASE)
    assert pte & PTE_P
    assert not pte & PTE_XD
    machine.validate()


def test_freed_code_is_reported_to_the_cpu() -> None:
    machine = Machine(ram=4 << 20)
    mm = machine.mm()
    map_fixed(mm, BASE, 1, PROT_READ | PROT_WRITE | PROT_EXEC)
    poke(mm, BASE, 0xC3)
    pfn = pfn_of(mm, BASE)
    machine.destroy(mm)

    assert pfn in machine.node.stale_code
    machine.validate()


def test_an_executable_file_page_that_is_written_shared_is_code() -> None:
    machine = Machine(ram=4 << 20)
    mm = machine.mm()
    rwx = PROT_READ | PROT_WRITE | PROT_EXEC
    map_fixed(mm, BASE, 1, rwx, MAP_SHARED, File(machine.file(store=Store(bytes(PAGE_SIZE))).mapping))

    assert poke(mm, BASE, 1) == Served(FaultKind.FILE_SHARED, major=True)
    assert touch(mm, BASE, FETCH) is None
    machine.validate()
