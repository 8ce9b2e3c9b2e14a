"""madvise, mlock, msync, mincore."""

from collections.abc import Callable

import pytest

from emu.x86 import PAGE_SIZE, PTE_A, PTE_D
from minikernel.abi import mman
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import (
    MADV_COLD,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    MAP_LOCKED,
    MAP_PRIVATE,
    MAP_SHARED,
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    PROT_READ,
)
from minikernel.abi.resource import RLIMIT_MEMLOCK
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mlock import do_mlock, do_mlockall, do_munlock, do_munlockall
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import install_special_mapping
from minikernel.mm.msync import do_mincore, do_msync
from minikernel.mm.page import PG_swapbacked
from minikernel.mm.uaccess import copy_from_user
from minikernel.mm.vma import VM_DONTCOPY, VM_IO, VM_LOCKED, VM_PFNMAP, VM_RAND_READ, Vma
from tests.minikernel.mm.touch import (
    ANON,
    BASE,
    RW,
    SHARED_ANON,
    File,
    Machine,
    Store,
    map_fixed,
    peek,
    pfn_of,
    poke,
    shape,
    touch,
)

BITS = 1 << 64


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


def vdso(machine: Machine, mm: MmStruct, at: int = BASE) -> None:
    pfn = machine.node.alloc_page()
    assert pfn is not None
    machine.held[pfn] = 1
    install_special_mapping(mm, at, [pfn], PROT_READ, "[vdso]")


def device(mm: MmStruct, flags: int) -> None:
    """Make the first mapping one of a device."""
    from msgspec.structs import replace

    vma: Vma = mm.vmas.items[0]
    mm.replace(0, 1, [replace(vma, flags=vma.flags | flags)])


# ---- madvise


def test_dontneed_gives_pages_back(machine: Machine, mm: MmStruct) -> None:
    file = machine.file(store=Store(b"f" * PAGE_SIZE))
    map_fixed(mm, BASE, 2)
    map_fixed(mm, BASE + 2 * PAGE_SIZE, 1, RW, MAP_PRIVATE, file)
    for page in range(3):
        poke(mm, BASE + page * PAGE_SIZE, 9)
    do_madvise(mm, BASE, 3 * PAGE_SIZE - 1, MADV_DONTNEED)

    assert (mm.rss, mm.hiwater_rss, mm.tlb_dirty) == (0, 3, True)
    assert (peek(mm, BASE), peek(mm, BASE + 2 * PAGE_SIZE)) == (0, ord("f"))
    machine.validate()


def test_locked_memory_is_not_given_back_unless_insisted(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1, RW, ANON | MAP_LOCKED)
    for advice in (MADV_DONTNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT):
        refused(Errno.EINVAL, lambda advice=advice: do_madvise(mm, BASE, PAGE_SIZE, advice))  # type: ignore[misc]
    assert mm.rss == 1
    do_madvise(mm, BASE, PAGE_SIZE, MADV_DONTNEED_LOCKED)
    assert mm.rss == 0
    device(mm, VM_PFNMAP)
    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE, PAGE_SIZE, MADV_DONTNEED_LOCKED))


def test_lazily_freed_pages_are_clean_until_written(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 3)
    poke(mm, BASE, 1)
    touch(mm, BASE + PAGE_SIZE)
    do_madvise(mm, BASE, 3 * PAGE_SIZE, MADV_FREE)

    assert not mm.pgtable.get(BASE) & (PTE_A | PTE_D)
    assert not machine.node.mem_map.flags[pfn_of(mm, BASE)] & PG_swapbacked
    assert peek(mm, BASE) == 1
    poke(mm, BASE, 2)
    assert mm.pgtable.get(BASE) & PTE_D
    machine.fork(mm)
    do_madvise(mm, BASE, PAGE_SIZE, MADV_FREE)
    assert mm.pgtable.get(BASE) & PTE_D, "others have it too"
    machine.validate()
    map_fixed(mm, BASE, 1, RW, SHARED_ANON)
    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE, PAGE_SIZE, MADV_FREE))


def test_cold_pages_are_not_accessed(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)
    poke(mm, BASE, 1)
    touch(mm, BASE + PAGE_SIZE)
    do_madvise(mm, BASE, 2 * PAGE_SIZE, MADV_COLD)

    assert not mm.pgtable.get(BASE) & PTE_A
    machine.validate()


def test_willneed_reads_the_file(machine: Machine, mm: MmStruct) -> None:
    store = Store(bytes(3 * PAGE_SIZE))
    file = machine.file(store=store)
    map_fixed(mm, BASE, 4, PROT_READ, MAP_PRIVATE, file)
    map_fixed(mm, BASE + 4 * PAGE_SIZE, 1)
    map_fixed(mm, BASE + 5 * PAGE_SIZE, 1, RW, SHARED_ANON)
    store.fail = True
    do_madvise(mm, BASE, 4 * PAGE_SIZE, MADV_WILLNEED)
    store.fail = False
    do_madvise(mm, BASE, 6 * PAGE_SIZE, MADV_WILLNEED)

    assert store.reads == [0, 1, 2]
    assert mm.rss == 0


def test_remove_punches_a_hole(machine: Machine, mm: MmStruct) -> None:
    file = machine.file(4 * PAGE_SIZE)
    file.cache.write(0, b"x" * (4 * PAGE_SIZE))
    map_fixed(mm, BASE, 2, RW, MAP_SHARED, file, 1)
    map_fixed(mm, BASE + 2 * PAGE_SIZE, 1)
    map_fixed(mm, BASE + 3 * PAGE_SIZE, 1, PROT_READ, MAP_SHARED, File(file.mapping, writable=False))
    map_fixed(mm, BASE + 4 * PAGE_SIZE, 1, RW, SHARED_ANON | MAP_LOCKED)
    do_madvise(mm, BASE, PAGE_SIZE, MADV_REMOVE)

    assert file.cache.read(PAGE_SIZE - 1, 3) == b"x\0\0"
    assert file.cache.read(2 * PAGE_SIZE - 1, 2) == b"\0x"
    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE + 2 * PAGE_SIZE, PAGE_SIZE, MADV_REMOVE))
    refused(Errno.EACCES, lambda: do_madvise(mm, BASE + 3 * PAGE_SIZE, PAGE_SIZE, MADV_REMOVE))
    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE + 4 * PAGE_SIZE, PAGE_SIZE, MADV_REMOVE))


def test_advice_that_sets_flags_splits_and_merges(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 3)
    do_madvise(mm, BASE + PAGE_SIZE, PAGE_SIZE, MADV_RANDOM)
    assert [bool(vma.flags & VM_RAND_READ) for vma in mm.vmas] == [False, True, False]
    do_madvise(mm, BASE, 3 * PAGE_SIZE, mman.MADV_NORMAL)
    assert mm.map_count == 1
    mm.sysctl.max_map_count = 1
    refused(Errno.EAGAIN, lambda: do_madvise(mm, BASE, PAGE_SIZE, MADV_DONTFORK))
    do_madvise(mm, BASE, 3 * PAGE_SIZE, MADV_DONTFORK)
    assert mm.vmas.items[0].flags & VM_DONTCOPY
    device(mm, VM_IO)
    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE, PAGE_SIZE, MADV_DOFORK))
    machine.validate()


def test_advice_a_mapping_cannot_take(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1, RW, MAP_PRIVATE, machine.file(PAGE_SIZE))
    vdso(machine, mm, BASE + PAGE_SIZE)

    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE, PAGE_SIZE, MADV_WIPEONFORK))
    do_madvise(mm, BASE + PAGE_SIZE, PAGE_SIZE, MADV_DONTDUMP)
    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE + PAGE_SIZE, PAGE_SIZE, MADV_DODUMP))


def test_populating_reads_or_writes(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)
    map_fixed(mm, BASE + 2 * PAGE_SIZE, 1, PROT_READ)
    do_madvise(mm, BASE, 3 * PAGE_SIZE, MADV_POPULATE_READ)
    assert mm.rss == 0
    assert touch(mm, BASE) is None
    do_madvise(mm, BASE, 2 * PAGE_SIZE, MADV_POPULATE_WRITE)
    do_madvise(mm, BASE, 2 * PAGE_SIZE, MADV_POPULATE_WRITE)
    assert mm.rss_anon == 2
    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE, 3 * PAGE_SIZE, MADV_POPULATE_WRITE))
    refused(Errno.ENOMEM, lambda: do_madvise(mm, BASE, 4 * PAGE_SIZE, MADV_POPULATE_READ))
    map_fixed(mm, BASE, 1, RW, MAP_SHARED, machine.file(0))
    refused(Errno.EFAULT, lambda: do_madvise(mm, BASE, PAGE_SIZE, MADV_POPULATE_READ))
    map_fixed(mm, BASE, 1)
    machine.node.fail_allocation(0)
    refused(Errno.ENOMEM, lambda: do_madvise(mm, BASE, PAGE_SIZE, MADV_POPULATE_WRITE))
    machine.validate()


def test_madvise_errors(mm: MmStruct) -> None:
    map_fixed(mm, BASE + PAGE_SIZE, 1)

    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE + PAGE_SIZE, PAGE_SIZE, 77))
    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE + 1, PAGE_SIZE, MADV_DONTNEED))
    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE, BITS - 1, MADV_DONTNEED))
    refused(Errno.EINVAL, lambda: do_madvise(mm, BASE, BITS - 2 * PAGE_SIZE, MADV_DONTNEED))
    do_madvise(mm, BASE, 0, MADV_DONTNEED)
    refused(Errno.ENOMEM, lambda: do_madvise(mm, BASE, PAGE_SIZE, MADV_DONTNEED))
    poke(mm, BASE + PAGE_SIZE, 1)
    refused(Errno.ENOMEM, lambda: do_madvise(mm, BASE, 3 * PAGE_SIZE, MADV_DONTNEED))
    assert mm.rss == 0, "what is mapped was done"


# ---- mlock


def test_locking_faults_in_and_counts(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 4)
    do_mlock(mm, BASE + 5, 2 * PAGE_SIZE - 5)
    assert (mm.locked_vm, mm.rss_anon) == (2, 2)
    do_mlock(mm, BASE + 2 * PAGE_SIZE, PAGE_SIZE, MLOCK_ONFAULT)
    assert (mm.locked_vm, mm.rss_anon) == (3, 2)
    do_munlock(mm, BASE, 4 * PAGE_SIZE)
    assert (mm.locked_vm, mm.map_count) == (0, 1)
    machine.validate()


def test_mlock_errors(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 4)
    machine.rlimits[RLIMIT_MEMLOCK] = [2 * PAGE_SIZE, 2 * PAGE_SIZE]
    refused(Errno.EINVAL, lambda: do_mlock(mm, BASE, PAGE_SIZE, 2))
    refused(Errno.ENOMEM, lambda: do_mlock(mm, BASE, 3 * PAGE_SIZE))
    do_mlock(mm, BASE, 2 * PAGE_SIZE)
    do_mlock(mm, BASE, 2 * PAGE_SIZE)
    refused(Errno.ENOMEM, lambda: do_mlock(mm, BASE + PAGE_SIZE, 2 * PAGE_SIZE))
    mm.cap_ipc_lock = True
    do_mlock(mm, BASE, 4 * PAGE_SIZE)
    refused(Errno.ENOMEM, lambda: do_mlock(mm, BASE, 5 * PAGE_SIZE))
    refused(Errno.EINVAL, lambda: do_mlock(mm, BASE, BITS - PAGE_SIZE))
    mm.cap_ipc_lock = False
    machine.rlimits[RLIMIT_MEMLOCK] = [0, 0]
    refused(Errno.EPERM, lambda: do_mlock(mm, BASE, PAGE_SIZE))
    do_munlock(mm, BASE, 4 * PAGE_SIZE)
    do_munlock(mm, BASE, 0)
    assert mm.locked_vm == 0


def test_pages_that_cannot_be_had(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 1, 0)
    map_fixed(mm, BASE + PAGE_SIZE, 1)
    refused(Errno.ENOMEM, lambda: do_mlock(mm, BASE, PAGE_SIZE))
    machine.node.fail_allocation(0)
    refused(Errno.EAGAIN, lambda: do_mlock(mm, BASE + PAGE_SIZE, PAGE_SIZE))
    assert mm.locked_vm == 2
    machine.validate()


def test_mlockall_now_and_later(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)
    map_fixed(mm, BASE + 4 * PAGE_SIZE, 1, 0)
    vdso(machine, mm, BASE + 8 * PAGE_SIZE)
    do_mlockall(mm, MCL_CURRENT)
    assert (mm.locked_vm, mm.rss_anon, mm.def_flags) == (3, 2, 0)
    do_mlockall(mm, MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)
    map_fixed(mm, BASE + 6 * PAGE_SIZE, 1)
    assert (mm.locked_vm, mm.rss_anon) == (4, 2)
    do_mlockall(mm, MCL_FUTURE)
    map_fixed(mm, BASE + 10 * PAGE_SIZE, 1)
    assert (mm.locked_vm, mm.rss_anon) == (5, 3)
    do_munlockall(mm)
    assert (mm.locked_vm, mm.def_flags) == (0, 0)
    assert not any(vma.flags & VM_LOCKED for vma in mm.vmas)
    machine.validate()


def test_mlockall_errors(machine: Machine, mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)
    for flags in (0, 8, MCL_ONFAULT):
        refused(Errno.EINVAL, lambda flags=flags: do_mlockall(mm, flags))  # type: ignore[misc]
    machine.rlimits[RLIMIT_MEMLOCK] = [PAGE_SIZE, PAGE_SIZE]
    refused(Errno.ENOMEM, lambda: do_mlockall(mm, MCL_CURRENT))
    machine.rlimits[RLIMIT_MEMLOCK] = [0, 0]
    refused(Errno.EPERM, lambda: do_mlockall(mm, MCL_CURRENT))
    mm.cap_ipc_lock = True
    do_mlockall(mm, MCL_CURRENT)
    assert mm.locked_vm == 2


# ---- msync, mincore


def test_msync_writes_shared_files(machine: Machine, mm: MmStruct) -> None:
    store = Store(bytes(4 * PAGE_SIZE))
    file = machine.file(store=store)
    map_fixed(mm, BASE, 2, RW, MAP_SHARED, file, 1)
    map_fixed(mm, BASE + 2 * PAGE_SIZE, 1)
    poke(mm, BASE, 1)
    poke(mm, BASE + PAGE_SIZE, 2)
    do_msync(mm, BASE, PAGE_SIZE, MS_ASYNC)
    assert store.writes == []
    do_msync(mm, BASE + PAGE_SIZE, 2 * PAGE_SIZE, MS_SYNC)
    assert store.writes == [2]
    do_msync(mm, BASE, PAGE_SIZE - 1, MS_SYNC | MS_INVALIDATE)
    assert store.writes == [2, 1]
    machine.validate()


def test_msync_errors(mm: MmStruct) -> None:
    map_fixed(mm, BASE + PAGE_SIZE, 1, RW, ANON | MAP_LOCKED)

    refused(Errno.EINVAL, lambda: do_msync(mm, BASE, PAGE_SIZE, 8))
    refused(Errno.EINVAL, lambda: do_msync(mm, BASE + 1, PAGE_SIZE, MS_SYNC))
    refused(Errno.EINVAL, lambda: do_msync(mm, BASE, PAGE_SIZE, MS_SYNC | MS_ASYNC))
    refused(Errno.ENOMEM, lambda: do_msync(mm, BASE, BITS - PAGE_SIZE, MS_SYNC))
    do_msync(mm, BASE, 0, MS_SYNC)
    refused(Errno.ENOMEM, lambda: do_msync(mm, BASE, PAGE_SIZE, MS_SYNC))
    refused(Errno.ENOMEM, lambda: do_msync(mm, BASE, 2 * PAGE_SIZE, MS_ASYNC))
    refused(Errno.ENOMEM, lambda: do_msync(mm, BASE, 3 * PAGE_SIZE, MS_SYNC))
    refused(Errno.EBUSY, lambda: do_msync(mm, BASE + PAGE_SIZE, PAGE_SIZE, MS_INVALIDATE))


def test_mincore_tells_what_needs_no_io(machine: Machine, mm: MmStruct) -> None:
    file = machine.file(store=Store(bytes(3 * PAGE_SIZE)))
    map_fixed(mm, BASE, 3)
    map_fixed(mm, BASE + 3 * PAGE_SIZE, 3, PROT_READ, MAP_PRIVATE, file)
    map_fixed(mm, BASE + 8 * PAGE_SIZE, 1)
    poke(mm, BASE + PAGE_SIZE, 1)
    file.cache.read(2 * PAGE_SIZE, 1)
    do_mincore(mm, BASE, 6 * PAGE_SIZE - 1, BASE + 8 * PAGE_SIZE)

    assert copy_from_user(mm, BASE + 8 * PAGE_SIZE, 6) == b"\0\1\0\0\0\1"
    refused(Errno.ENOMEM, lambda: do_mincore(mm, BASE, 7 * PAGE_SIZE, BASE + 8 * PAGE_SIZE + 100))
    assert copy_from_user(mm, BASE + 8 * PAGE_SIZE + 100, 6) == b"\0\1\0\0\0\1"


def test_mincore_errors(mm: MmStruct) -> None:
    size = mm.layout.task_size
    map_fixed(mm, BASE, 1)

    refused(Errno.EINVAL, lambda: do_mincore(mm, BASE + 1, PAGE_SIZE, BASE))
    refused(Errno.ENOMEM, lambda: do_mincore(mm, BASE, size, BASE))
    refused(Errno.EFAULT, lambda: do_mincore(mm, BASE, PAGE_SIZE, size))
    refused(Errno.EFAULT, lambda: do_mincore(mm, BASE, PAGE_SIZE, BASE + PAGE_SIZE))
    do_mincore(mm, BASE, 0, BASE)


def test_shapes_are_as_before_if_nothing_changes(mm: MmStruct) -> None:
    map_fixed(mm, BASE, 2)
    do_madvise(mm, BASE, PAGE_SIZE, mman.MADV_KEEPONFORK)

    assert shape(mm) == [(0, 2, "rw-")]
