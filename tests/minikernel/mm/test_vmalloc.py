"""The vmalloc area: frames from anywhere, one behind the other, in every address space at once."""

import pytest

from emu.exits import PageFault
from emu.paging import Translation, walk
from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PF_I, PF_P, PF_U, PF_W, VirtAddr
from minikernel.abi.errno import LinuxError
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LA57_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.slab_validate import validate_slab
from minikernel.mm.vmalloc import Vmalloc
from tests.minikernel.mm.touch import Machine

LAYOUTS = [X86_64_LAYOUT, X86_64_LA57_LAYOUT, I386_PAE_LAYOUT, I386_2LEVEL_LAYOUT]


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    layout: KernelLayout = request.param
    return Machine(layout, ram=8 << 20)


def seen(mm: MmStruct, address: int, access: int = 0) -> Translation | int:
    """What the hardware finds with *mm*'s root in CR3: a translation, or the error code of a fault."""
    found = walk(mm.node.physmem, mm.pgtable.mode, mm.pgtable.root, VirtAddr(address), access, set_ad=False)
    assert isinstance(found, Translation | PageFault)
    return found if isinstance(found, Translation) else found.error_code


def scattered(machine: Machine) -> Vmalloc:
    """Every other free frame near the next ones is taken."""
    frames = [machine.node.alloc_page() for _ in range(64)]
    for pfn in frames[::2]:
        assert pfn is not None
        machine.node.put_page(pfn)
    for pfn in frames[1::2]:
        assert pfn is not None
        machine.held[pfn] = 1
    return machine.kernel_half.vmalloc


def test_frames_from_anywhere_are_contiguous_addresses(machine: Machine) -> None:
    vmalloc = scattered(machine)
    address = vmalloc.vmalloc(5 * PAGE_SIZE - 7, "test")
    area = vmalloc.find_area(address)

    assert area is not None
    assert address == machine.node.layout.vmalloc_start
    assert (len(area.pages), area.size) == (5, 6 * PAGE_SIZE)
    assert sorted(area.pages) != list(range(min(area.pages), min(area.pages) + 5))
    data = bytes(range(256)) * 60
    vmalloc.write(address + 1000, data)
    assert vmalloc.read(address + 1000, len(data)) == data
    vmalloc.validate()
    validate_slab(machine.node.slab)
    machine.validate()


def test_every_address_space_sees_it_old_or_new(machine: Machine) -> None:
    """With 2-level paging the root tables themselves change."""
    vmalloc = machine.kernel_half.vmalloc
    old = machine.mm()
    address = vmalloc.vmalloc(2 * PAGE_SIZE, "test")
    new = machine.mm()
    for mm in (old, new):
        found = seen(mm, address + PAGE_SIZE + 5, PF_W)
        assert isinstance(found, Translation)
        assert found.phys == (vmalloc.vmalloc_to_page(address + PAGE_SIZE) << PAGE_SHIFT) + 5
        assert seen(mm, address, PF_U) == PF_U | PF_P
        assert isinstance(seen(mm, address, PF_I), Translation) != machine.node.layout.mode.has_nx
    machine.validate()


def test_running_over_the_end_faults(machine: Machine) -> None:
    vmalloc, mm = machine.kernel_half.vmalloc, machine.mm()
    address = vmalloc.vmalloc(PAGE_SIZE, "one")
    behind = vmalloc.vmalloc(PAGE_SIZE, "two")

    assert behind == address + 2 * PAGE_SIZE
    assert seen(mm, address + PAGE_SIZE) == 0
    assert vmalloc.find_area(address + PAGE_SIZE) is None
    assert vmalloc.find_area(behind + 1) is not None


def test_below_the_first_area_there_is_none(machine: Machine) -> None:
    vmalloc = machine.kernel_half.vmalloc
    assert vmalloc.find_area(vmalloc.start) is None
    first = vmalloc.vmalloc(PAGE_SIZE, "one")
    second = vmalloc.vmalloc(PAGE_SIZE, "two")
    vmalloc.vfree(first)

    assert vmalloc.find_area(first) is None
    assert vmalloc.find_area(second - 1) is None
    found = vmalloc.find_area(second)
    assert found is not None
    assert found.caller == "two"


def test_what_is_freed_is_gone_and_its_place_is_used_again(machine: Machine) -> None:
    vmalloc, mm = machine.kernel_half.vmalloc, machine.mm()
    first = vmalloc.vmalloc(3 * PAGE_SIZE, "first")
    second = vmalloc.vmalloc(PAGE_SIZE, "second")
    before = machine.node.nr_free
    vmalloc.vfree(first)

    assert machine.node.nr_free == before + 3
    assert seen(mm, first) == 0
    assert vmalloc.nr_pages == 1
    assert vmalloc.vmalloc(4 * PAGE_SIZE, "too large for the hole") > second
    assert vmalloc.vmalloc(2 * PAGE_SIZE, "fits") == first
    vmalloc.validate()


def test_vmap_shows_the_caller_s_frames(machine: Machine) -> None:
    vmalloc, node = machine.kernel_half.vmalloc, machine.node
    one, two = node.alloc_page(), node.alloc_page()
    assert one is not None
    assert two is not None
    machine.held.update({one: 1, two: 1})
    address = vmalloc.vmap([two, one, two], "test")
    vmalloc.write(address, b"two")

    assert vmalloc.read(address + 2 * PAGE_SIZE, 3) == b"two"
    assert vmalloc.nr_pages == 0
    vmalloc.validate()
    vmalloc.vunmap(address)
    assert not vmalloc.areas
    machine.validate()


@pytest.mark.parametrize("call", ["vfree", "vunmap"])
def test_freeing_what_was_not_allocated_is_our_bug(machine: Machine, call: str) -> None:
    with pytest.raises(AssertionError):
        getattr(machine.kernel_half.vmalloc, call)(machine.node.layout.vmalloc_start)


def test_whichever_allocation_fails_nothing_is_left(machine: Machine) -> None:
    vmalloc, node = machine.kernel_half.vmalloc, machine.node
    failures = 0
    for n in range(32):
        node.slab.shrink()
        before, tables = node.nr_free, machine.kernel_half.nr_tables
        node.fail_allocation(n)
        try:
            vmalloc.vmalloc(8 * PAGE_SIZE, "test")
        except LinuxError:
            failures += 1
        else:
            break
        node.slab.shrink()
        # Tables stay once they are made.
        assert node.nr_free == before - (machine.kernel_half.nr_tables - tables)
        vmalloc.validate()
        machine.validate()
    assert failures >= 8


def test_an_area_without_its_second_table_is_not_there_at_all(machine: Machine) -> None:
    """What the first table showed already is unmapped again, and the addresses are the next one's."""
    vmalloc, node = machine.kernel_half.vmalloc, machine.node
    mm = machine.mm()
    frame = node.alloc_page()
    assert frame is not None
    machine.held[frame] = 1
    per_table = 1 << node.layout.mode.levels[-1].bits
    start = vmalloc.vmap([frame] * 3, "makes the first table")
    vmalloc.vunmap(start)
    tables = machine.kernel_half.nr_tables
    node.fail_allocation(0)
    with pytest.raises(LinuxError, match="tables"):
        vmalloc.vmap([frame] * (per_table + 8), "needs a second one")

    assert machine.kernel_half.nr_tables == tables
    assert {seen(mm, start + (page << PAGE_SHIFT)) for page in range(per_table + 8)} == {0}
    assert not vmalloc.areas
    validate_slab(node.slab)
    machine.validate()
    assert vmalloc.vmap([frame] * (per_table + 8), "has it") == start
    vmalloc.validate()
    vmalloc.vunmap(start)


@pytest.mark.parametrize("size", [0, 1 << 40])
def test_senseless_sizes_are_refused(machine: Machine, size: int) -> None:
    with pytest.raises(LinuxError, match="ENOMEM"):
        machine.kernel_half.vmalloc.vmalloc(size, "test")


def test_addresses_run_out(machine: Machine) -> None:
    vmalloc = machine.kernel_half.vmalloc
    vmalloc.end = VirtAddr(vmalloc.start + 4 * PAGE_SIZE)
    free = machine.node.nr_free
    with pytest.raises(LinuxError, match="addresses"):
        vmalloc.vmalloc(4 * PAGE_SIZE, "test")
    machine.node.slab.shrink()
    assert machine.node.nr_free == free
    vmalloc.vmalloc(3 * PAGE_SIZE, "test")
