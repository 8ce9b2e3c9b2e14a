"""Large leaves of the page table: what they are equivalent to, and how they come and go, in every mode."""

from collections.abc import Iterator

import pytest

from emu.paging import Translation, walk
from emu.x86 import PAGE_SIZE, PF_U, PF_W, PTE_A, PTE_ADDR, PTE_D, PTE_P, PTE_PS, PTE_RW, PTE_US, Pfn, VirtAddr
from minikernel.mm.pgtable import PTE_SPECIAL, PageTable, pte_pfn
from tests.minikernel.mm.test_pgtable import LAYOUTS, MIB, Machine


class Leaf:
    """One table with one large leaf, over frames that nobody counts."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.free = machine.node.nr_free
        self.table: PageTable = machine.table()
        self.size = self.table.large_size
        self.start = 32 * MIB
        self.end = self.start + self.size
        self.first = Pfn(self.size >> 12)
        self.bits = self.table.prot_bits(write=True, exec=False)
        assert self.table.set_large(self.start, self.first << 12 | self.bits)

    def expected(self, bits: int | None = None) -> list[tuple[int, int]]:
        """The entries it is equivalent to."""
        bits = self.bits if bits is None else bits
        return [(self.start + at, (self.first << 12) + at | bits) for at in range(0, self.size, PAGE_SIZE)]

    def translate(self, address: int, access: int = PF_U) -> Translation:
        found = walk(self.machine.node.physmem, self.table.mode, self.table.root, VirtAddr(address), access)
        assert isinstance(found, Translation)
        return found


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def leaf(request: pytest.FixtureRequest) -> Iterator[Leaf]:
    made = Leaf(Machine(request.param, ram=16 * MIB))
    yield made
    made.table.validate()
    made.table.destroy()
    assert made.machine.node.nr_free == made.free
    made.machine.node.validate()


def test_it_is_a_table_of_entries_to_those_who_ask(leaf: Leaf) -> None:
    table = leaf.table
    assert list(table.entries(0, 1 << 30)) == leaf.expected()
    assert list(table.entries(leaf.start + PAGE_SIZE, leaf.start + 3 * PAGE_SIZE)) == leaf.expected()[1:3]
    assert all(table.get(address) == pte for address, pte in leaf.expected())
    assert not table.get(leaf.start - 1)
    assert not table.get(leaf.end)
    assert table.get_large(leaf.end - 1) == leaf.first << 12 | leaf.bits | PTE_PS
    assert not table.has_table(leaf.start)
    assert table.large_leaves(leaf.start, leaf.end) == [(leaf.start, table.get_large(leaf.start))]
    assert not table.large_leaves(leaf.start + 1, leaf.end)
    assert not table.large_leaves(leaf.start, leaf.end - 1)


def test_the_hardware_translates_it(leaf: Leaf) -> None:
    found = leaf.translate(leaf.start + 0x5432)
    assert (found.phys, 1 << found.page_shift) == ((leaf.first << 12) + 0x5432, leaf.size)
    assert leaf.table.get(leaf.end - 1) & (PTE_A | PTE_D) == PTE_A
    leaf.translate(leaf.start, PF_U | PF_W)
    assert leaf.table.get(leaf.end - 1) & (PTE_A | PTE_D) == PTE_A | PTE_D


def test_a_split_changes_nothing_but_the_form(leaf: Leaf) -> None:
    leaf.translate(leaf.start, PF_U | PF_W)
    tables = leaf.table.nr_tables
    assert leaf.table.split_large(leaf.start + 12345)
    assert not leaf.table.split_large(leaf.start)
    assert not leaf.table.get_large(leaf.start)
    assert leaf.table.nr_tables == tables, "the table was there all the time"
    assert list(leaf.table.entries(0, 1 << 30)) == leaf.expected(leaf.bits | PTE_A | PTE_D)
    found = leaf.translate(leaf.start + 0x5432)
    assert (found.phys, found.page_shift) == ((leaf.first << 12) + 0x5432, 12)


def test_changing_one_entry_splits(leaf: Leaf) -> None:
    changed = leaf.expected()
    changed[5] = (changed[5][0], changed[5][1] & ~PTE_RW)
    assert leaf.table.set(changed[5][0] + 0x123, changed[5][1])
    assert not leaf.table.get_large(leaf.start)
    assert list(leaf.table.entries(0, 1 << 30)) == changed


def test_accessed_and_dirty_are_set_in_place_and_dirty_is_cleared_by_a_split(leaf: Leaf) -> None:
    table = leaf.table
    assert table.set(leaf.start + PAGE_SIZE, table.get(leaf.start + PAGE_SIZE) | PTE_A | PTE_D)
    assert table.get_large(leaf.start) & (PTE_A | PTE_D) == PTE_A | PTE_D
    assert table.set(leaf.end - PAGE_SIZE, table.get(leaf.end - PAGE_SIZE) & ~PTE_A)
    assert table.get_large(leaf.start) & (PTE_A | PTE_D) == PTE_D
    assert table.set(leaf.start, table.get(leaf.start) & ~PTE_D)
    assert not table.get_large(leaf.start)
    assert not table.get(leaf.start) & PTE_D
    assert table.get(leaf.start + PAGE_SIZE) & PTE_D, "another page's contents may be newer than what is stored"


def test_clear_and_update_split(leaf: Leaf) -> None:
    expected = leaf.expected()
    assert leaf.table.clear(leaf.start + PAGE_SIZE) == expected.pop(1)[1]
    assert list(leaf.table.entries(0, 1 << 30)) == expected
    assert leaf.table.update(leaf.start, clear=PTE_US) == expected[0][1]
    assert leaf.table.get(leaf.start) == expected[0][1] & ~PTE_US


def test_clearing_all_of_it_takes_the_table_along(leaf: Leaf) -> None:
    assert leaf.table.clear_range(leaf.start - PAGE_SIZE, leaf.end + PAGE_SIZE) == leaf.expected()
    assert not leaf.table.has_table(leaf.start)
    leaf.table.free_pgtables(0, leaf.machine.layout.task_size)
    assert leaf.table.nr_tables == leaf.machine.fixed


def test_clearing_a_part_leaves_the_rest(leaf: Leaf) -> None:
    assert leaf.table.clear_range(leaf.start + PAGE_SIZE, leaf.end) == leaf.expected()[1:]
    assert list(leaf.table.entries(0, 1 << 30)) == leaf.expected()[:1]


@pytest.mark.parametrize("wrprotect", [True, False])
def test_fork_copies_the_leaf(leaf: Leaf, wrprotect: bool) -> None:
    leaf.translate(leaf.start, PF_U | PF_W)
    child = leaf.machine.table()
    pfns = leaf.table.copy_range(child, leaf.start - PAGE_SIZE, leaf.end, wrprotect=wrprotect)
    assert pfns == list(range(leaf.first, leaf.first + leaf.size // PAGE_SIZE))
    kept = leaf.bits & ~(PTE_RW if wrprotect else 0)
    assert list(leaf.table.entries(0, 1 << 30)) == leaf.expected(kept | PTE_A | PTE_D)
    assert list(child.entries(0, 1 << 30)) == leaf.expected(kept | (PTE_D if wrprotect else 0))
    assert child.get_large(leaf.start)
    child.validate()
    child.destroy()


def test_a_fork_without_memory_copies_nothing(leaf: Leaf) -> None:
    child = leaf.machine.table()
    for failing in range(leaf.machine.levels):
        leaf.machine.node.fail_allocation(failing)
        assert leaf.table.copy_range(child, leaf.start, leaf.end, wrprotect=True) is None
        assert not list(child.entries(0, 1 << 30))
        child.free_pgtables(0, leaf.machine.layout.task_size)
    assert leaf.table.get(leaf.start) & PTE_RW
    child.destroy()


def test_the_huge_zero_page_reads_as_the_zero_page(leaf: Leaf) -> None:
    zero = leaf.machine.node.zero_pfn
    bits = leaf.bits & ~PTE_RW | PTE_SPECIAL
    assert leaf.table.set_large(leaf.start, leaf.first << 12 | bits)
    expected = [(leaf.start + at, zero << 12 | bits) for at in range(0, leaf.size, PAGE_SIZE)]
    assert list(leaf.table.entries(0, 1 << 30)) == expected
    assert leaf.table.get(leaf.end - 1) == expected[-1][1]
    child = leaf.machine.table()
    assert leaf.table.copy_range(child, leaf.start, leaf.end, wrprotect=True) == []
    assert leaf.table.split_large(leaf.start)
    assert list(leaf.table.entries(0, 1 << 30)) == list(child.entries(0, 1 << 30)) == expected
    child.destroy()


def test_a_leaf_needs_memory_for_its_table(leaf: Leaf) -> None:
    where = (leaf.end + leaf.size) % (1 << 30)
    tables = leaf.table.nr_tables
    leaf.machine.node.fail_allocation(0)
    assert not leaf.table.set_large(where, leaf.first << 12 | leaf.bits)
    assert leaf.table.nr_tables == tables
    assert not leaf.table.get(where)


def test_only_boundaries_inside_split(leaf: Leaf) -> None:
    leaf.table.split_at(leaf.start)
    leaf.table.split_at(leaf.end)
    assert leaf.table.get_large(leaf.start)
    leaf.table.split_at(leaf.end - PAGE_SIZE)
    assert not leaf.table.get_large(leaf.start)
    assert leaf.table.get(leaf.start) & PTE_P
    assert pte_pfn(leaf.table.get(leaf.start)) == leaf.first
    assert not leaf.table.get(leaf.start) & PTE_ADDR & (PAGE_SIZE - 1)
