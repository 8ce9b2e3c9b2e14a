"""Page tables: entries, ranges, fork, freeing tables; every contract in every mode."""

from collections.abc import Iterator

import pytest

from emu.paging import PAE, Translation, walk
from emu.physmem import PhysMem
from emu.x86 import (
    PAGE_SIZE,
    PF_I,
    PF_P,
    PF_U,
    PF_W,
    PTE_A,
    PTE_D,
    PTE_P,
    PTE_RW,
    PTE_US,
    PTE_XD,
    Pfn,
    VirtAddr,
    pfn_to_phys,
)
from minikernel.abi.errno import Errno, LinuxError
from minikernel.events import Tracer
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LA57_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.page import PG_used
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import PTE_SPECIAL, KernelHalf, PageTable, build_kernel_half, pte_pfn

MIB = 1 << 20
BASE = 0x0800_0000
LAYOUTS = [X86_64_LAYOUT, X86_64_LA57_LAYOUT, I386_PAE_LAYOUT, I386_2LEVEL_LAYOUT]


class Machine:
    def __init__(self, layout: KernelLayout, ram: int = 8 * MIB) -> None:
        self.layout = layout
        self.node = Node(PhysMem(ram), layout, Tracer())
        self.half: KernelHalf = build_kernel_half(self.node, layout)
        self.span = 1 << layout.mode.levels[-2].shift  # of a leaf table
        self.fixed = 3 if layout.mode is PAE else 0  # tables that an empty address space has
        self.levels = len(layout.mode.levels) - (2 if layout.mode is PAE else 1)  # tables of a single page

    def table(self) -> PageTable:
        return PageTable(self.node, self.half)


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    machine = Machine(request.param)
    yield machine
    machine.node.validate()


def fill(table: PageTable, *addresses: int, pfn: int = 0x500) -> dict[int, int]:
    """Map frames pfn, pfn + 1, ... writable at *addresses*; the entries."""
    entries = {}
    for offset, address in enumerate(addresses):
        entries[address] = table.make_pte(Pfn(pfn + offset), write=True, exec=False)
        assert table.set(address, entries[address])
    return entries


# ---- entries


def test_make_pte_gives_the_rights_asked_for(machine: Machine) -> None:
    table = machine.table()
    nx = PTE_XD if machine.layout.mode.has_nx else 0

    assert table.make_pte(Pfn(5), write=False, exec=True) == 0x5000 | PTE_P | PTE_US
    assert table.make_pte(Pfn(5), write=True, exec=True) == 0x5000 | PTE_P | PTE_US | PTE_RW
    assert table.make_pte(Pfn(5), write=False, exec=False) == 0x5000 | PTE_P | PTE_US | nx
    assert table.make_pte(Pfn(5), write=False, exec=True, user=False) == 0x5000 | PTE_P
    assert pte_pfn(table.make_pte(Pfn(0xABCDE), write=True, exec=False)) == 0xABCDE


def test_an_entry_that_was_never_set_is_zero(machine: Machine) -> None:
    table = machine.table()

    assert table.get(BASE) == 0
    assert table.clear(BASE) == 0
    assert table.update(BASE, set=PTE_A) == 0
    assert table.nr_tables == machine.fixed
    fill(table, BASE)
    assert table.get(BASE + PAGE_SIZE) == 0
    assert table.clear(BASE + PAGE_SIZE) == 0
    assert table.update(BASE + PAGE_SIZE, set=PTE_A) == 0
    assert table.get(BASE + PAGE_SIZE) == 0


def test_clear_and_update_say_what_was_there(machine: Machine) -> None:
    table = machine.table()
    pte = fill(table, BASE)[BASE]

    assert table.update(BASE + 7, set=PTE_D, clear=PTE_RW) == pte
    assert table.get(BASE) == pte & ~PTE_RW | PTE_D
    assert table.clear(BASE) == pte & ~PTE_RW | PTE_D
    assert table.get(BASE) == 0


def test_the_hardware_finds_what_was_set(machine: Machine) -> None:
    table = machine.table()
    physmem, mode = machine.node.physmem, machine.layout.mode
    fill(table, BASE, pfn=0x123)

    found = walk(physmem, mode, table.root, VirtAddr(BASE + 0x45), PF_U | PF_W)
    assert isinstance(found, Translation)
    assert found.phys == 0x123045
    assert table.get(BASE) & (PTE_A | PTE_D) == PTE_A | PTE_D
    fetch = walk(physmem, mode, table.root, VirtAddr(BASE), PF_U | PF_I)
    assert isinstance(fetch, Translation) != mode.has_nx


def test_every_address_space_has_the_kernel_s_half(machine: Machine) -> None:
    tables = [machine.table(), machine.table()]
    physmem, layout = machine.node.physmem, machine.layout

    for table in tables:
        found = walk(physmem, layout.mode, table.root, VirtAddr(layout.page_offset + 0x5000), PF_W)
        assert isinstance(found, Translation)
        assert found.phys == 0x5000
        fault = walk(physmem, layout.mode, table.root, VirtAddr(layout.page_offset), PF_U)
        assert getattr(fault, "error_code", None) == PF_U | PF_P


def test_the_highest_user_page_can_be_mapped_and_the_next_cannot(machine: Machine) -> None:
    table = machine.table()
    top = machine.layout.task_size
    fill(table, top - PAGE_SIZE)

    with pytest.raises(AssertionError, match="not a user address"):
        table.set(top + machine.span, PTE_P)
    table.validate()
    assert table.clear(top - PAGE_SIZE)
    table.free_pgtables(0, top)
    assert table.nr_tables == machine.fixed


def test_pae_s_user_directories_exist_from_the_start_and_have_no_rights_of_their_own() -> None:
    machine = Machine(I386_PAE_LAYOUT)
    table = machine.table()
    entries = machine.node.physmem.view64[table.root >> 3 : (table.root >> 3) + 4].tolist()

    assert [entry & 0xFFF for entry in entries] == [PTE_P] * 4
    assert table.free_pgtables(0, machine.layout.task_size) == 0


# ---- ranges


def test_entries_come_in_order_and_without_holes(machine: Machine) -> None:
    table = machine.table()
    far = BASE + 5 * machine.span
    addresses = [far, BASE + machine.span, BASE, BASE + 3 * PAGE_SIZE, BASE + machine.span - PAGE_SIZE]
    expected = fill(table, *addresses)

    everything = sorted(expected.items())
    assert list(table.entries(0, machine.layout.task_size)) == everything
    assert list(table.entries(BASE + PAGE_SIZE, far)) == everything[1:-1]
    assert list(table.entries(BASE + PAGE_SIZE, BASE + 3 * PAGE_SIZE)) == []
    assert list(table.entries(far + machine.span, far + 2 * machine.span)) == []


def test_entries_may_be_cleared_while_they_are_walked(machine: Machine) -> None:
    table = machine.table()
    expected = fill(table, *range(BASE, BASE + 5 * PAGE_SIZE, PAGE_SIZE))

    assert {address: table.clear(address) for address, _ in table.entries(BASE, BASE + MIB)} == expected
    assert list(table.entries(BASE, BASE + MIB)) == []


def test_clear_range_takes_just_the_range(machine: Machine) -> None:
    table = machine.table()
    left, right = BASE + machine.span - PAGE_SIZE, BASE + machine.span
    expected = fill(table, left - PAGE_SIZE, left, right, right + PAGE_SIZE)

    assert dict(table.clear_range(left, right + PAGE_SIZE)) == {left: expected[left], right: expected[right]}
    assert table.clear_range(left, right + PAGE_SIZE) == []
    assert [address for address, _ in table.entries(BASE, BASE + 2 * machine.span)] == [
        left - PAGE_SIZE,
        right + PAGE_SIZE,
    ]


# ---- fork


def test_copy_range_of_a_private_mapping_write_protects_both_sides(machine: Machine) -> None:
    parent, child = machine.table(), machine.table()
    left, right = BASE + machine.span - PAGE_SIZE, BASE + machine.span
    expected = fill(parent, left, right)
    parent.update(left, set=PTE_A | PTE_D)

    pfns = parent.copy_range(child, BASE, BASE + 2 * machine.span, wrprotect=True)

    assert pfns == [0x500, 0x501]
    assert parent.get(left) == expected[left] & ~PTE_RW | PTE_A | PTE_D
    assert child.get(left) == expected[left] & ~PTE_RW | PTE_D, "the child's copy is old, but as dirty"
    assert child.get(right) == parent.get(right) == expected[right] & ~PTE_RW
    child.validate()


def test_copy_range_of_a_shared_mapping_keeps_the_right_and_cleans_the_copy(machine: Machine) -> None:
    parent, child = machine.table(), machine.table()
    pte = fill(parent, BASE)[BASE]
    parent.update(BASE, set=PTE_A | PTE_D)

    assert parent.copy_range(child, BASE, BASE + PAGE_SIZE, wrprotect=False) == [0x500]
    assert parent.get(BASE) == pte | PTE_A | PTE_D
    assert child.get(BASE) == pte


def test_copy_range_copies_just_the_range(machine: Machine) -> None:
    parent, child = machine.table(), machine.table()
    fill(parent, BASE, BASE + PAGE_SIZE, BASE + 2 * PAGE_SIZE)
    fill(child, BASE, pfn=0x700)

    assert parent.copy_range(child, BASE + PAGE_SIZE, BASE + 2 * PAGE_SIZE, wrprotect=True) == [0x501]
    assert [pte_pfn(pte) for _, pte in child.entries(0, BASE + MIB)] == [0x700, 0x501]
    assert parent.get(BASE) & PTE_RW
    assert parent.get(BASE + 2 * PAGE_SIZE) & PTE_RW


def test_copy_range_lists_no_zero_page_and_leaves_swap_entries_alone(machine: Machine) -> None:
    parent, child = machine.table(), machine.table()
    zero = parent.make_pte(machine.node.zero_pfn, write=False, exec=False) | PTE_SPECIAL
    swapped = 0x1234_5000 | PTE_RW | PTE_A
    parent.set(BASE, zero)
    parent.set(BASE + PAGE_SIZE, swapped)

    assert parent.copy_range(child, BASE, BASE + MIB, wrprotect=True) == []
    assert child.get(BASE) == zero
    assert child.get(BASE + PAGE_SIZE) == parent.get(BASE + PAGE_SIZE) == swapped


def test_copy_range_makes_no_table_for_what_is_empty(machine: Machine) -> None:
    parent, child = machine.table(), machine.table()
    fill(parent, BASE)
    parent.clear(BASE)

    assert parent.copy_range(child, BASE, BASE + 4 * machine.span, wrprotect=True) == []
    assert child.nr_tables == machine.fixed


# ---- tables


def test_free_pgtables_frees_what_lies_wholly_in_the_hole(machine: Machine) -> None:
    table = machine.table()
    fill(table, BASE, BASE + machine.span, BASE + 2 * machine.span)
    tables = table.nr_tables
    table.clear_range(BASE, BASE + 3 * machine.span)

    assert table.free_pgtables(BASE + PAGE_SIZE, BASE + 3 * machine.span - PAGE_SIZE) == 1
    assert table.nr_tables == tables - 1
    table.validate()
    assert table.get(BASE + machine.span) == 0
    assert table.free_pgtables(0, machine.layout.task_size) == tables - 1 - machine.fixed
    assert table.nr_tables == machine.fixed
    table.validate()
    fill(table, BASE + machine.span)
    table.validate()


def test_a_freed_table_needs_no_clearing(machine: Machine) -> None:
    table = machine.table()
    fill(table, BASE)
    table.clear(BASE)
    table.free_pgtables(0, machine.layout.task_size)
    pfn = machine.node.alloc_page()

    assert pfn is not None
    assert not machine.node.mem_map.flags[pfn] & PG_used
    assert machine.node.physmem.read(pfn_to_phys(pfn), PAGE_SIZE) == bytes(PAGE_SIZE)


def test_a_table_that_still_maps_something_is_not_freed(machine: Machine) -> None:
    table = machine.table()
    fill(table, BASE)

    with pytest.raises(AssertionError, match="is not empty"):
        table.free_pgtables(0, machine.layout.task_size)


def test_destroy_gives_every_table_back_even_if_in_use(machine: Machine) -> None:
    before = machine.node.nr_free
    table = machine.table()
    fill(table, BASE, BASE + 9 * machine.span, 0x1000)
    table.destroy()

    assert machine.node.nr_free == before
    assert table.nr_tables == 0


# ---- no memory


def test_set_reports_that_a_table_cannot_be_had_and_works_later(machine: Machine) -> None:
    """Whichever table it is; those made before stay, and are freed with the rest."""
    before = machine.node.nr_free
    table = machine.table()
    for n in range(machine.levels):
        machine.node.fail_allocation(n)
        assert not table.set(BASE, PTE_P)
        assert table.get(BASE) == 0
        table.validate()
        table.free_pgtables(0, machine.layout.task_size)
    machine.node.fail_allocation(machine.levels)

    assert table.set(BASE, PTE_P)
    table.validate()
    machine.node.fail_allocation(None)
    table.destroy()
    assert machine.node.nr_free == before


def test_a_page_table_that_cannot_be_built_leaves_no_trace(machine: Machine) -> None:
    before = machine.node.nr_free
    for n in range(1 + machine.fixed):
        machine.node.fail_allocation(n)
        with pytest.raises(LinuxError) as caught:
            machine.table()
        assert caught.value.errno is Errno.ENOMEM
        assert machine.node.nr_free == before


def test_copy_range_that_fails_has_copied_nothing(machine: Machine) -> None:
    parent = machine.table()
    expected = fill(parent, BASE, BASE + machine.span, BASE + 2 * machine.span)
    before = machine.node.nr_free
    for n in range(machine.levels + 2):
        child = machine.table()
        machine.node.fail_allocation(n)
        assert parent.copy_range(child, BASE, BASE + 3 * machine.span, wrprotect=True) is None
        assert dict(parent.entries(0, BASE * 2)) == expected
        assert list(child.entries(0, BASE * 2)) == []
        child.validate()
        child.destroy()
        assert machine.node.nr_free == before


# ---- the books


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda table, pfn: table._leaf.pop(next(iter(table._leaf))), "depth"),
        (lambda table, pfn: table.node.mem_map.flags.__setitem__(pfn, 0), "has flags"),
        (lambda table, pfn: table.node.mem_map.owner.__setitem__(pfn, None), "belongs to None"),
        (lambda table, pfn: table.node.mem_map.refcount.__setitem__(pfn, 2), "2 references"),
        (lambda table, pfn: setattr(table, "nr_tables", 77), "77 tables counted"),
        (lambda table, pfn: table.node.physmem.write(table.root + PAGE_SIZE - 8, bytes(8)), "kernel's entries"),
    ],
)
def test_validate_finds_damage(harm, message: str) -> None:  # type: ignore[no-untyped-def]
    machine = Machine(X86_64_LAYOUT)
    machine.half.root_entries[-1] = 0x1234
    table = machine.table()
    fill(table, BASE)
    table.validate()
    harm(table, next(iter(table._leaf.values())) >> 9)

    with pytest.raises(AssertionError, match=message):
        table.validate()
