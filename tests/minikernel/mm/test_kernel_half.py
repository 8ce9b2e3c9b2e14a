"""The kernel's half and the identity root, seen through the hardware's page walk."""

import pytest

from emu.exits import PageFault
from emu.paging import Translation, walk
from emu.physmem import PhysMem
from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PF_I, PF_P, PF_U, PF_W, PTE_P, PhysAddr, VirtAddr
from minikernel.events import Tracer
from minikernel.mm.kernel_half import KernelHalf, build_kernel_half
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LA57_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.page import PG_kernel, PG_table
from minikernel.mm.page_alloc import Node

MIB = 1 << 20
LAYOUTS = [X86_64_LAYOUT, X86_64_LA57_LAYOUT, I386_PAE_LAYOUT, I386_2LEVEL_LAYOUT]
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)


def make(layout: KernelLayout, ram: int = 8 * MIB) -> tuple[Node, KernelHalf]:
    node = Node(PhysMem(ram), layout, Tracer())
    return node, build_kernel_half(node, layout)


def look(node: Node, half: KernelHalf, address: int, access: int) -> Translation | int:
    """The translation of *address* in the identity root, which has the kernel's half too; or the error code."""
    found = walk(node.physmem, half.mode, half.identity_root, VirtAddr(address), access, set_ad=False)
    if isinstance(found, PageFault):
        return found.error_code
    assert isinstance(found, Translation)
    return found


@every_layout
@pytest.mark.parametrize("ram", [4 * MIB, 5 * MIB + 3 * PAGE_SIZE, 64 * MIB])
def test_the_direct_map_shows_all_of_ram_and_nothing_beyond(layout: KernelLayout, ram: int) -> None:
    node, half = make(layout, ram)
    for phys in (0, PAGE_SIZE, 2 * MIB - 1, 2 * MIB, ram - PAGE_SIZE, ram - 1):
        found = look(node, half, layout.page_offset + phys, PF_W)
        assert isinstance(found, Translation)
        assert found.phys == phys

    assert look(node, half, layout.page_offset + ram, 0) == 0


@every_layout
def test_a_user_access_to_the_kernel_is_a_protection_fault(layout: KernelLayout) -> None:
    node, half = make(layout)

    for phys in (0, 3 * MIB):
        assert look(node, half, layout.page_offset + phys, PF_U) == PF_U | PF_P
        assert look(node, half, layout.page_offset + phys, PF_U | PF_W) == PF_U | PF_W | PF_P


@every_layout
def test_large_pages_map_what_is_not_the_entry_frame_s_neighbourhood(layout: KernelLayout) -> None:
    node, half = make(layout)
    found = look(node, half, layout.page_offset + 5 * MIB, 0)

    assert isinstance(found, Translation)
    assert found.page_shift == (22 if layout is I386_2LEVEL_LAYOUT else 21)


@every_layout
def test_the_entry_frame_alone_is_executable_for_the_kernel(layout: KernelLayout) -> None:
    node, half = make(layout)
    found = look(node, half, half.entry_address, PF_I)

    assert isinstance(found, Translation)
    assert found.phys == half.entry_pfn << PAGE_SHIFT
    assert node.mem_map.flags[half.entry_pfn] & PG_kernel
    for phys in (found.phys - PAGE_SIZE, found.phys + PAGE_SIZE, 5 * MIB):
        elsewhere = look(node, half, layout.page_offset + phys, PF_I)
        assert elsewhere == PF_I | PF_P if layout.mode.has_nx else isinstance(elsewhere, Translation)


@every_layout
@pytest.mark.parametrize("ram", [4 * MIB, 5 * MIB + 3 * PAGE_SIZE])
def test_the_identity_root_runs_every_frame_at_its_own_address(layout: KernelLayout, ram: int) -> None:
    node, half = make(layout, ram)
    for phys in (0, 3 * MIB, ram - 1):
        found = look(node, half, phys, PF_U | PF_I)
        assert isinstance(found, Translation)
        assert found.phys == phys

    assert look(node, half, ram, PF_U) == PF_U
    assert look(node, half, 3 * MIB, PF_U | PF_W) == PF_U | PF_W | PF_P


@every_layout
def test_the_hardware_has_nothing_to_write_to_the_kernel_s_tables(layout: KernelLayout) -> None:
    """Accessed and dirty bits are there from the start."""
    node, half = make(layout)
    tables = [pfn for pfn, flags in enumerate(node.mem_map.flags) if flags & PG_table]
    before = [node.physmem.read(PhysAddr(pfn << PAGE_SHIFT), PAGE_SIZE) for pfn in tables]

    for address, access in ((layout.page_offset, PF_W), (half.entry_address, PF_W), (5 * MIB, PF_U | PF_I)):
        assert isinstance(walk(node.physmem, half.mode, half.identity_root, VirtAddr(address), access), Translation)

    assert len(tables) == half.nr_tables
    assert [node.physmem.read(PhysAddr(pfn << PAGE_SHIFT), PAGE_SIZE) for pfn in tables] == before


def test_pae_s_root_entries_carry_no_rights() -> None:
    """R/W and U/S of a PDPTE are reserved: SDM vol. 3A, 4.4.1."""
    node, half = make(I386_PAE_LAYOUT)
    entries = node.physmem.view64[half.identity_root >> 3 : (half.identity_root >> 3) + 4].tolist()

    assert [entry & 0xFFF for entry in entries] == [PTE_P, 0, 0, PTE_P]


@pytest.mark.parametrize("layout", [I386_PAE_LAYOUT, I386_2LEVEL_LAYOUT], ids=lambda layout: layout.name)
def test_high_memory_is_not_in_the_direct_map(layout: KernelLayout) -> None:
    node, half = make(layout, 912 * MIB)

    assert isinstance(look(node, half, layout.page_offset + 896 * MIB - 1, 0), Translation)
    assert look(node, half, layout.page_offset + 896 * MIB, 0) == 0
    with pytest.raises(AssertionError, match="high memory"):
        layout.kernel_address(PhysAddr(896 * MIB))


@every_layout
def test_the_kernel_s_own_entries_are_handed_on_whole(layout: KernelLayout) -> None:
    _, half = make(layout)

    slots = 1 << layout.mode.levels[0].bits
    assert half.first_root_index + len(half.root_entries) == slots
    assert (
        half.first_root_index
        == {X86_64_LAYOUT: 256, X86_64_LA57_LAYOUT: 256, I386_PAE_LAYOUT: 3, I386_2LEVEL_LAYOUT: 768}[layout]
    )


def test_a_page_size_that_the_mode_lacks_is_our_mistake() -> None:
    node, half = make(I386_PAE_LAYOUT)

    with pytest.raises(AssertionError, match=r"no level of PAE has pages of 2\*\*22"):
        half._map_one(node, half.identity_root, VirtAddr(0), 0, 22)
