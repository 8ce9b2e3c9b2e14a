"""A file that counts its mappings is told of each that comes or goes, whatever makes or ends it."""

import pytest

from emu.x86 import PAGE_SIZE
from minikernel.abi.mman import MAP_PRIVATE, MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ
from minikernel.mm.filemap import PageCache
from minikernel.mm.mapped_file import CountedFile
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.mremap import do_mremap
from minikernel.mm.munmap import vm_munmap
from tests.minikernel.mm.touch import BASE, RW, Machine, map_fixed, peek, poke, shape


class Told(CountedFile):
    """Notes what it is told: + for a mapping that came, - for one that went."""

    __slots__ = ("nr_mappings", "told")

    def __init__(self, machine: Machine) -> None:
        cache = PageCache(machine.node, None, 16 * PAGE_SIZE)
        machine.caches.append(cache)
        super().__init__(cache)
        self.nr_mappings = 0
        self.told = ""

    def vm_open(self) -> None:
        self.nr_mappings += 1
        self.told += "+"

    def vm_close(self) -> None:
        self.nr_mappings -= 1
        self.told += "-"

    def news(self) -> str:
        """What it was told since it was asked last; all that it was told adds up to the mappings that there are."""
        assert self.nr_mappings == len(self.mapping.vmas) == self.users
        told, self.told = self.told, ""
        return told


@pytest.fixture
def machine() -> Machine:
    return Machine(ram=4 << 20)


@pytest.fixture
def mm(machine: Machine) -> MmStruct:
    return machine.mm()


@pytest.fixture
def file(machine: Machine, mm: MmStruct) -> Told:
    """A file of which eight pages are mapped."""
    made = Told(machine)
    map_fixed(mm, BASE, 8, RW, MAP_SHARED, made)
    return made


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def test_mmap_and_munmap_are_told(machine: Machine, mm: MmStruct, file: Told) -> None:
    assert file.news() == "+"
    map_fixed(mm, at(100), 2, PROT_READ, MAP_PRIVATE, file)
    assert file.news() == "+"
    vm_munmap(mm, BASE, 8 * PAGE_SIZE)
    assert file.news() == "-"
    vm_munmap(mm, at(100), 2 * PAGE_SIZE)
    assert file.news() == "-"
    machine.validate()


def test_fork_opens_and_the_end_of_an_address_space_closes(machine: Machine, mm: MmStruct, file: Told) -> None:
    poke(mm, BASE, 7)
    file.news()
    child = machine.fork(mm)
    assert file.news() == "+"
    machine.destroy(mm)
    assert file.news() == "-"
    assert peek(child, BASE) == 7
    machine.destroy(child)
    assert file.news() == "-"
    machine.validate()


def test_a_hole_makes_two_mappings_of_one(machine: Machine, mm: MmStruct, file: Told) -> None:
    """Linux splits at both ends of the hole and closes what lies between."""
    file.news()
    vm_munmap(mm, at(2), PAGE_SIZE)
    assert file.news() == "++-"
    assert shape(mm) == [(0, 2, "rw-"), (3, 8, "rw-")]
    vm_munmap(mm, at(6), 2 * PAGE_SIZE)
    assert file.news() == "+-", "a split, and its end goes"
    vm_munmap(mm, BASE, 8 * PAGE_SIZE)
    assert file.news() == "--"
    machine.validate()


def test_a_change_of_rights_is_told_only_where_it_splits(machine: Machine, mm: MmStruct, file: Told) -> None:
    file.news()
    do_mprotect(mm, BASE, 8 * PAGE_SIZE, PROT_READ)
    assert file.news() == ""
    do_mprotect(mm, at(2), 2 * PAGE_SIZE, RW)
    assert file.news() == "++"
    assert shape(mm) == [(0, 2, "r--"), (2, 4, "rw-"), (4, 8, "r--")]
    machine.validate()


def test_mappings_that_are_counted_never_merge(machine: Machine, mm: MmStruct, file: Told) -> None:
    """Rights that are the same again, and a neighbour that goes on in the file: still as many as were told."""
    do_mprotect(mm, at(2), 2 * PAGE_SIZE, PROT_READ)
    do_mprotect(mm, at(2), 2 * PAGE_SIZE, RW)
    map_fixed(mm, at(8), 2, RW, MAP_SHARED, file, 8)
    assert file.news() == "++++"
    assert shape(mm) == [(0, 2, "rw-"), (2, 4, "rw-"), (4, 8, "rw-"), (8, 10, "rw-")]
    machine.validate()


def test_a_mapping_that_moves_is_opened_there_before_it_is_closed_here(
    machine: Machine, mm: MmStruct, file: Told
) -> None:
    """Told the other way round, the last mapping's end would be the file's."""
    poke(mm, at(3), 9)
    file.news()
    do_mremap(mm, BASE, 8 * PAGE_SIZE, 8 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at(100))
    assert file.news() == "+-"
    assert peek(mm, at(103)) == 9
    machine.validate()


def test_each_file_is_told_of_its_own_mappings(machine: Machine, mm: MmStruct, file: Told) -> None:
    other = Told(machine)
    map_fixed(mm, at(8), 8, RW, MAP_SHARED, other)
    file.news()
    assert other.news() == "+"
    map_fixed(mm, at(4), 8)
    assert shape(mm) == [(0, 4, "rw-"), (4, 12, "rw-"), (12, 16, "rw-")]
    assert (file.news(), other.news()) == ("+-", "+-")
    map_fixed(mm, BASE, 16)
    assert (file.news(), other.news()) == ("-", "-")
    machine.validate()
