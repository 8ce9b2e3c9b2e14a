"""From a frame to the entries that map it."""

import pytest

from emu.x86 import PAGE_SIZE, PTE_RW
from minikernel.abi.mman import MAP_PRIVATE, MAP_SHARED, PROT_READ
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.rmap import AnonVma, anon_vma_prepare, page_mkclean, rmap_walk
from tests.minikernel.mm.touch import ANON, BASE, RW, Machine, Store, map_fixed, pfn_of, poke, shape, touch


@pytest.fixture
def machine() -> Machine:
    return Machine(ram=4 << 20)


def test_a_file_page_is_found_wherever_it_is_mapped(machine: Machine) -> None:
    one, other = machine.mm(), machine.mm()
    file = machine.file(store=Store(bytes(4 * PAGE_SIZE)))
    map_fixed(one, BASE, 4, RW, MAP_SHARED, file)
    map_fixed(one, BASE + 8 * PAGE_SIZE, 1, RW, MAP_PRIVATE, file, 3)
    map_fixed(other, BASE, 2, PROT_READ, MAP_PRIVATE, file, 2)
    map_fixed(other, BASE + 8 * PAGE_SIZE, 1, PROT_READ, MAP_PRIVATE, file, 1)
    touch(one, BASE + 3 * PAGE_SIZE)
    touch(other, BASE + PAGE_SIZE)
    poke(one, BASE + 8 * PAGE_SIZE, 1)
    mem_map = machine.node.mem_map

    assert rmap_walk(mem_map, file.cache.pages[3]) == [(one, BASE + 3 * PAGE_SIZE), (other, BASE + PAGE_SIZE)]
    assert rmap_walk(mem_map, pfn_of(one, BASE + 8 * PAGE_SIZE)) == [(one, BASE + 8 * PAGE_SIZE)]
    assert rmap_walk(mem_map, machine.node.zero_pfn) == []


def test_cleaning_touches_only_what_is_dirty_or_writable(machine: Machine) -> None:
    one, other = machine.mm(), machine.mm()
    file = machine.file(store=Store(bytes(PAGE_SIZE)))
    for mm in (one, other):
        map_fixed(mm, BASE, 1, RW, MAP_SHARED, file)
    poke(one, BASE, 1)
    touch(other, BASE)
    other.tlb_dirty = False

    assert page_mkclean(machine.node.mem_map, file.cache.pages[0]) == 1
    assert not one.pgtable.get(BASE) & PTE_RW
    assert (one.tlb_dirty, other.tlb_dirty) == (True, False)


def test_neighbours_that_differ_in_protection_get_one_owner(machine: Machine) -> None:
    """Otherwise an mprotect back could never merge them."""
    mm = machine.mm()
    map_fixed(mm, BASE, 2)
    do_mprotect(mm, BASE + PAGE_SIZE, PAGE_SIZE, 7)
    poke(mm, BASE, 1)
    poke(mm, BASE + PAGE_SIZE, 1)
    do_mprotect(mm, BASE + PAGE_SIZE, PAGE_SIZE, RW)

    assert shape(mm) == [(0, 2, "rw-")]
    machine.validate()


def test_the_owner_of_either_neighbour_is_taken(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 1)
    map_fixed(mm, BASE + PAGE_SIZE, 1, 7)
    poke(mm, BASE + PAGE_SIZE, 1)
    map_fixed(mm, BASE - PAGE_SIZE, 1, 7)
    poke(mm, BASE - PAGE_SIZE, 1)

    assert len({id(vma.anon_vma) for vma in mm.vmas}) == 1


@pytest.mark.parametrize("why", ["a hole", "a file", "other flags"])
def test_no_owner_is_shared_across(machine: Machine, why: str) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 1)
    if why == "a hole":
        map_fixed(mm, BASE + 2 * PAGE_SIZE, 1, 7)
    elif why == "a file":
        map_fixed(mm, BASE + PAGE_SIZE, 1, RW, MAP_PRIVATE, machine.file(PAGE_SIZE))
    else:
        map_fixed(mm, BASE + PAGE_SIZE, 1, 7, ANON | 0x100)
    last = mm.vmas.items[-1]
    poke(mm, last.start, 1)

    assert mm.vmas.items[-1].anon_vma is not mm.vmas.items[0].anon_vma
    machine.validate()


def test_an_owner_is_made_once(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    vma = anon_vma_prepare(mm, mm.vmas.items[0])

    assert vma is not None
    assert isinstance(vma.anon_vma, AnonVma)
    with pytest.raises(AssertionError, match="has an owner"):
        anon_vma_prepare(mm, vma)
