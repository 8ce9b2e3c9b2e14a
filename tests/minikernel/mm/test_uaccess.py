"""The kernel's access to user memory."""

import pytest

from emu.x86 import PAGE_SIZE, PTE_A, PTE_D
from minikernel.abi.errno import LinuxError
from minikernel.abi.mman import MADV_COLD, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE
from minikernel.mm.layout import KernelLayout
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.uaccess import (
    clear_user,
    copy_from_user,
    copy_from_user_partial,
    copy_to_user,
    copy_to_user_partial,
    faultin,
    get_user,
    put_user,
    strncpy_from_user,
)
from tests.minikernel.mm.touch import BASE, LAYOUTS, RW, Machine, Store, map_fixed, peek, pfn_of

END = BASE + 3 * PAGE_SIZE


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    layout: KernelLayout = request.param
    return Machine(layout, ram=4 << 20)


@pytest.fixture
def mm(machine: Machine) -> MmStruct:
    """Three pages of memory, and nothing behind."""
    made = machine.mm()
    map_fixed(made, BASE, 3)
    return made


def test_what_is_stored_is_read_back(machine: Machine, mm: MmStruct) -> None:
    data = bytes(range(256)) * 32
    copy_to_user(mm, BASE + 100, data)

    assert copy_from_user(mm, BASE + 100, len(data)) == data
    assert copy_from_user(mm, BASE + 101, 3) == data[1:4]
    assert copy_from_user(mm, BASE, 0) == b""
    copy_to_user(mm, BASE, b"")
    machine.validate()


def test_numbers_are_little_endian_and_may_cross_pages(mm: MmStruct) -> None:
    put_user(mm, BASE + PAGE_SIZE - 3, 0x1122334455667788, 8)

    assert get_user(mm, BASE + PAGE_SIZE - 3, 8) == 0x1122334455667788
    put_user(mm, BASE, -1, 4)
    assert get_user(mm, BASE, 4) == 0xFFFFFFFF
    assert get_user(mm, BASE + 4, 4) == 0


def test_an_access_to_nothing_is_efault_and_moves_what_comes_before(mm: MmStruct) -> None:
    copy_to_user(mm, END - 4, b"tail")

    assert copy_from_user_partial(mm, END - 4, 100) == b"tail"
    assert copy_to_user_partial(mm, END - 2, b"1234") == 2
    for access in (
        lambda: copy_from_user(mm, END - 4, 100),
        lambda: copy_from_user(mm, END, 1),
        lambda: copy_to_user(mm, END - 2, b"1234"),
        lambda: copy_to_user(mm, END, b"1"),
        lambda: clear_user(mm, END - 2, 4),
        lambda: get_user(mm, END - 2, 8),
        lambda: put_user(mm, END - 2, 1, 8),
        lambda: strncpy_from_user(mm, END - 4, 100) and strncpy_from_user(mm, END - 1, 9),
        lambda: faultin(mm, END - 2, 8, write=True),
        lambda: get_user(mm, (1 << 64) - 8, 8),
        lambda: get_user(mm, mm.layout.task_size, 8),
    ):
        put_user(mm, END - 4, 0x30303030, 4)
        with pytest.raises(LinuxError, match="EFAULT"):
            access()


def test_rights_bind_the_kernel_too(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1, PROT_READ)
    map_fixed(mm, BASE + PAGE_SIZE, 1, 0)

    assert get_user(mm, BASE, 8) == 0
    with pytest.raises(LinuxError, match=r"EFAULT.*rights are r--"):
        put_user(mm, BASE, 1, 1)
    with pytest.raises(LinuxError, match="EFAULT"):
        get_user(mm, BASE + PAGE_SIZE, 1)
    with pytest.raises(LinuxError, match="EFAULT"):
        get_user(mm, machine.node.layout.page_offset, 1)


def test_strings_end_at_their_nul(mm: MmStruct) -> None:
    long = b"x" * PAGE_SIZE + b"yz"
    copy_to_user(mm, BASE + 50, long + b"\0rest")

    assert strncpy_from_user(mm, BASE + 50, PAGE_SIZE * 2) == long
    assert strncpy_from_user(mm, BASE + 50 + PAGE_SIZE, 4096) == b"yz"
    with pytest.raises(LinuxError, match="ENAMETOOLONG"):
        strncpy_from_user(mm, BASE + 50, PAGE_SIZE)


def test_clear_user_clears_just_the_range(mm: MmStruct) -> None:
    copy_to_user(mm, BASE, b"\xff" * (3 * PAGE_SIZE))
    clear_user(mm, BASE + 10, 2 * PAGE_SIZE)

    assert copy_from_user(mm, BASE, 11) == b"\xff" * 10 + b"\0"
    assert copy_from_user(mm, BASE + 2 * PAGE_SIZE + 9, 2) == b"\0\xff"
    clear_user(mm, BASE, 0)


def test_accessed_and_dirty_are_set_as_the_hardware_would(machine: Machine, mm: MmStruct) -> None:
    put_user(mm, BASE, 1, 1)
    do_madvise(mm, BASE, PAGE_SIZE, MADV_COLD)
    assert not mm.pgtable.get(BASE) & PTE_A
    get_user(mm, BASE, 1)
    assert mm.pgtable.get(BASE) & PTE_A

    file = machine.file(PAGE_SIZE)
    map_fixed(mm, BASE, 1, RW, MAP_SHARED, file)
    get_user(mm, BASE, 1)
    assert not mm.pgtable.get(BASE) & PTE_D
    put_user(mm, BASE, 1, 1)
    assert mm.pgtable.get(BASE) & PTE_D
    machine.validate()


def test_a_kernel_write_is_seen_by_file_and_cpu(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(store=Store(bytes(PAGE_SIZE)))
    map_fixed(mm, BASE, 1, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, file)
    put_user(mm, BASE, 0x90, 1)
    machine.node.stale_code.clear()
    put_user(mm, BASE, 0xC3, 1)

    assert file.cache.read(0, 1) == b"\xc3"
    assert file.cache.dirty == {0}
    assert machine.node.stale_code == [pfn_of(mm, BASE)]


def test_faultin_makes_pages_present_and_changes_nothing(machine: Machine, mm: MmStruct) -> None:
    faultin(mm, BASE + 10, PAGE_SIZE, write=True)
    faultin(mm, BASE + 2 * PAGE_SIZE, 1, write=False)

    assert (mm.rss_anon, peek(mm, BASE + 10)) == (2, 0)
    assert pfn_of(mm, BASE + 2 * PAGE_SIZE) == machine.node.zero_pfn


def test_beyond_the_end_of_a_file_is_efault(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 2, RW, MAP_SHARED, machine.file(PAGE_SIZE))

    with pytest.raises(LinuxError, match="EFAULT"):
        get_user(mm, BASE + PAGE_SIZE, 1)


def test_no_memory_is_efault(machine: Machine, mm: MmStruct) -> None:
    machine.node.fail_allocation(0)

    with pytest.raises(LinuxError, match=r"EFAULT.*out of memory"):
        put_user(mm, BASE, 1, 1)
    machine.validate()
