"""The walker by itself: what each bit means, one case each.  Needs RAM only.

That the emulated processor means the same is shown by test_paging_hardware.py.
"""

import random

import pytest

from emu.exits import CpuException, PageFault
from emu.paging import FIVE_LEVEL, FOUR_LEVEL, MODES, PAE, TWO_LEVEL, PagingMode, Translation, walk, walk_steps
from emu.physmem import PhysMem
from emu.x86 import (
    PAGE_SHIFT,
    PF_I,
    PF_P,
    PF_RSVD,
    PF_U,
    PF_W,
    PTE_A,
    PTE_D,
    PTE_P,
    PTE_PS,
    PTE_RW,
    PTE_US,
    PTE_XD,
    VEC_GP,
    PhysAddr,
    VirtAddr,
)

ALL = PTE_P | PTE_RW | PTE_US
ROOT = PhysAddr(0x1000)
FRAME = 0x20_0000
ADDRESS = VirtAddr(0x0804_8123)
NX_MODES = (PAE, FOUR_LEVEL, FIVE_LEVEL)


class Tables:
    """Tables at 0x1000, 0x2000 ... that map ADDRESS to FRAME; entries can be changed level by level."""

    def __init__(self, mode: PagingMode, address: int = ADDRESS) -> None:
        self.mode = mode
        self.ram = PhysMem(4 << 20)
        self.view = self.ram.view64 if mode.entry_size == 8 else self.ram.view32
        self.slots = []
        for depth, level in enumerate(mode.levels):
            table = ROOT + depth * 0x1000
            self.slots.append(table // mode.entry_size + (address >> level.shift & (1 << level.bits) - 1))
            leaf = depth == len(mode.levels) - 1
            self[depth] = FRAME | ALL if leaf else table + 0x1000 | (ALL if level.has_rights else PTE_P)

    def __getitem__(self, depth: int) -> int:
        return self.view[self.slots[depth]]

    def __setitem__(self, depth: int, entry: int) -> None:
        self.view[self.slots[depth]] = entry

    def walk(
        self,
        access: int = PF_U,
        address: int = ADDRESS,
        *,
        nxe: bool = True,
        wp: bool = True,
        set_ad: bool = True,
    ) -> Translation | PageFault | CpuException:
        return walk(self.ram, self.mode, ROOT, VirtAddr(address), access, nxe=nxe, wp=wp, set_ad=set_ad)

    def error(self, access: int = PF_U, *, nxe: bool = True, wp: bool = True) -> int:
        """The error code of an access that faults."""
        result = self.walk(access, nxe=nxe, wp=wp)
        assert isinstance(result, PageFault)
        assert result.address == ADDRESS
        return result.error_code

    def entries(self) -> list[int]:
        return [self[depth] for depth in range(len(self.slots))]

    def large_depth(self) -> int:
        """The lowest level with large pages."""
        return max(depth for depth, level in enumerate(self.mode.levels) if level.large_page)


@pytest.fixture(params=MODES, ids=lambda mode: mode.name)
def tables(request: pytest.FixtureRequest) -> Tables:
    return Tables(request.param)


@pytest.fixture(params=NX_MODES, ids=lambda mode: mode.name)
def nx_tables(request: pytest.FixtureRequest) -> Tables:
    return Tables(request.param)


def test_page_is_found(tables: Tables) -> None:
    assert tables.walk() == Translation(PhysAddr(FRAME | 0x123), PAGE_SHIFT, FRAME | ALL | PTE_A)


def test_levels_cover_the_address(tables: Tables) -> None:
    """Shifts and widths of a mode leave no gap."""
    shift = PAGE_SHIFT
    for level in reversed(tables.mode.levels):
        assert level.shift == shift
        shift += level.bits

    assert shift == tables.mode.va_bits


def test_low_bits_of_cr3_are_not_the_root(tables: Tables) -> None:
    result = walk(tables.ram, tables.mode, PhysAddr(ROOT | 0x18), ADDRESS, PF_U)

    assert isinstance(result, Translation)


def test_read_sets_accessed_on_every_level(tables: Tables) -> None:
    before = tables.entries()

    tables.walk()

    marks = [PTE_A if level.has_rights else 0 for level in tables.mode.levels]
    assert tables.entries() == [entry | mark for entry, mark in zip(before, marks, strict=True)]


def test_write_sets_dirty_on_the_leaf_only(tables: Tables) -> None:
    result = tables.walk(PF_U | PF_W)

    assert isinstance(result, Translation)
    assert result.entry == tables[-1] == FRAME | ALL | PTE_A | PTE_D
    assert not any(entry & PTE_D for entry in tables.entries()[:-1])


@pytest.mark.parametrize("access", [PF_U, PF_U | PF_W])
def test_nothing_is_set_when_not_wanted(tables: Tables, access: int) -> None:
    before = tables.entries()

    assert isinstance(tables.walk(access, set_ad=False), Translation)
    assert tables.entries() == before


def test_second_write_changes_nothing(tables: Tables) -> None:
    first = tables.walk(PF_U | PF_W)
    before = tables.entries()

    assert tables.walk(PF_U | PF_W) == first
    assert tables.entries() == before


def test_missing_entry_faults_at_every_level(tables: Tables) -> None:
    """P = 0 in the code, whatever else the entry holds; the levels above are marked accessed, the leaf never."""
    for depth in reversed(range(len(tables.slots))):
        tables[depth] &= ~PTE_P

        assert tables.error(PF_U | PF_W) == PF_U | PF_W
        assert tables.error(0) == 0
    assert not any(entry & PTE_D for entry in tables.entries())


def test_no_table_beyond_ram(tables: Tables) -> None:
    """The emulated bus reads zeroes there: not present."""
    tables[0] |= 0x4000_0000

    assert tables.error(PF_U) == PF_U


def test_write_needs_rw_on_every_level(tables: Tables) -> None:
    for depth, level in enumerate(tables.mode.levels):
        if not level.has_rights:
            continue
        tables[depth] &= ~PTE_RW

        assert tables.error(PF_U | PF_W) == PF_P | PF_U | PF_W
        assert tables.error(PF_W) == PF_P | PF_W
        assert isinstance(tables.walk(PF_U), Translation)
        assert not tables[-1] & PTE_D
        tables[depth] |= PTE_RW


def test_supervisor_writes_anywhere_without_wp(tables: Tables) -> None:
    tables[-1] &= ~PTE_RW

    assert isinstance(tables.walk(PF_W, wp=False), Translation)
    assert tables[-1] & PTE_D
    assert tables.error(PF_W | PF_U, wp=False) == PF_P | PF_W | PF_U


def test_user_needs_us_on_every_level(tables: Tables) -> None:
    for depth, level in enumerate(tables.mode.levels):
        if not level.has_rights:
            continue
        tables[depth] &= ~PTE_US

        assert tables.error(PF_U) == PF_P | PF_U
        assert isinstance(tables.walk(0), Translation)
        tables[depth] |= PTE_US


def test_protection_fault_marks_tables_but_not_the_page(tables: Tables) -> None:
    tables[-1] &= ~PTE_US

    tables.walk(PF_U)

    assert not tables[-1] & PTE_A
    assert tables[-2] & PTE_A


def test_fetch_needs_xd_clear_on_every_level(nx_tables: Tables) -> None:
    for depth, level in enumerate(nx_tables.mode.levels):
        if not level.has_rights:
            continue
        nx_tables[depth] |= PTE_XD

        assert nx_tables.error(PF_U | PF_I) == PF_P | PF_U | PF_I
        assert nx_tables.error(PF_I) == PF_P | PF_I
        assert isinstance(nx_tables.walk(PF_U | PF_W), Translation)
        nx_tables[depth] &= ~PTE_XD


def test_xd_is_reserved_without_nxe(nx_tables: Tables) -> None:
    nx_tables[-1] |= PTE_XD

    assert nx_tables.error(PF_U, nxe=False) == PF_P | PF_U | PF_RSVD
    assert nx_tables.error(PF_U | PF_I, nxe=False) == PF_P | PF_U | PF_RSVD


def test_fetch_shows_in_the_code_only_with_nx(tables: Tables) -> None:
    tables[-1] = 0

    assert tables.error(PF_U | PF_I) == (PF_U | PF_I if tables.mode.has_nx else PF_U)
    assert tables.error(PF_U | PF_I, nxe=False) == PF_U


def test_two_level_pages_are_always_executable() -> None:
    assert isinstance(Tables(TWO_LEVEL).walk(PF_U | PF_I), Translation)


def test_large_page_ends_the_walk(tables: Tables) -> None:
    depth = tables.large_depth()
    shift = tables.mode.levels[depth].shift
    tables[depth] = 1 << shift | ALL | PTE_PS

    expected = PhysAddr(1 << shift | ADDRESS & (1 << shift) - 1)
    assert tables.walk() == Translation(expected, shift, tables[depth])
    assert tables[depth] & PTE_A


def test_large_page_is_dirty_by_itself(tables: Tables) -> None:
    depth = tables.large_depth()
    tables[depth] = ALL | PTE_PS

    tables.walk(PF_U | PF_W)

    assert tables[depth] == ALL | PTE_PS | PTE_A | PTE_D


def test_large_page_checks_its_address_bits(tables: Tables) -> None:
    """Bits between PAT and the page's size are reserved (4 MiB pages: bit 21 only)."""
    depth = tables.large_depth()
    tables[depth] = ALL | PTE_PS | 1 << tables.mode.levels[depth].shift - 1

    assert tables.error(PF_U) == PF_P | PF_U | PF_RSVD
    assert not tables[depth] & PTE_A


def test_large_page_has_pat_at_bit_12(tables: Tables) -> None:
    depth = tables.large_depth()
    tables[depth] = ALL | PTE_PS | 1 << 12

    assert isinstance(tables.walk(), Translation)


def test_four_mib_page_reaches_40_bits() -> None:
    """PSE-36: bits 20:13 are address bits 39:32."""
    tables = Tables(TWO_LEVEL)
    tables[0] = 0x40_0000 | 1 << 13 | ALL | PTE_PS

    result = tables.walk()

    assert isinstance(result, Translation)
    assert result.phys == 1 << 32 | 0x40_0000 | ADDRESS & 0x3F_FFFF


@pytest.mark.parametrize("mode", [FOUR_LEVEL, FIVE_LEVEL], ids=lambda mode: mode.name)
def test_gib_page_is_accessed_before_it_is_checked(mode: PagingMode) -> None:
    """As the emulated processor does it, unlike for the other sizes."""
    tables = Tables(mode)
    depth = next(depth for depth, level in enumerate(mode.levels) if level.large_page)
    tables[depth] = PTE_P | PTE_RW | PTE_PS

    assert tables.error(PF_U) == PF_P | PF_U
    assert tables[depth] & PTE_A
    tables[depth] |= PTE_US
    assert tables.walk() == Translation(PhysAddr(ADDRESS), 30, tables[depth])


def test_ps_is_reserved_in_the_root_of_long_mode() -> None:
    for mode in (FOUR_LEVEL, FIVE_LEVEL):
        tables = Tables(mode)
        tables[0] |= PTE_PS

        assert tables.error(PF_U) == PF_P | PF_U | PF_RSVD


def test_ps_of_a_pte_is_pat(tables: Tables) -> None:
    tables[-1] |= PTE_PS

    assert isinstance(tables.walk(), Translation)


@pytest.mark.parametrize(("mode", "bit", "reserved"), [
    (PAE, 40, True),
    (PAE, 39, False),
    (PAE, 52, True),
    (PAE, 62, True),
    (FOUR_LEVEL, 40, True),
    (FOUR_LEVEL, 51, True),
    (FOUR_LEVEL, 52, False),
    (FOUR_LEVEL, 62, False),
    (FIVE_LEVEL, 51, True),
])  # fmt: skip
def test_high_bits_are_reserved(mode: PagingMode, bit: int, *, reserved: bool) -> None:
    tables = Tables(mode)
    tables[-1] |= 1 << bit

    if reserved:
        assert tables.error(PF_U) == PF_P | PF_U | PF_RSVD
    else:
        assert isinstance(tables.walk(), Translation)


def test_pdpte_of_pae_has_no_rights() -> None:
    """R/W, U/S and A are ignored there (the SDM reserves some of them), XD is reserved even with NXE."""
    tables = Tables(PAE)

    assert isinstance(tables.walk(PF_U | PF_W), Translation)
    assert not tables[0] & PTE_A
    tables[0] |= PTE_XD
    assert tables.error(PF_U) == PF_P | PF_U | PF_RSVD


@pytest.mark.parametrize(("mode", "address"), [
    (FOUR_LEVEL, 1 << 47),
    (FOUR_LEVEL, 0xFFFF_7FFF_FFFF_FFFF),
    (FOUR_LEVEL, 1 << 63),
    (FIVE_LEVEL, 1 << 56),
])  # fmt: skip
def test_non_canonical_address_is_a_general_protection_fault(mode: PagingMode, address: int) -> None:
    tables = Tables(mode)

    assert tables.walk(PF_U, address) == CpuException(VEC_GP, 0)
    assert walk_steps(tables.ram, mode, ROOT, VirtAddr(address)) == []


@pytest.mark.parametrize("mode", [FOUR_LEVEL, FIVE_LEVEL], ids=lambda mode: mode.name)
def test_upper_half_is_translated(mode: PagingMode) -> None:
    address = 0xFFFF_8880_0012_3456
    tables = Tables(mode, address)

    assert tables.walk(0, address) == Translation(PhysAddr(FRAME | 0x456), PAGE_SHIFT, FRAME | ALL | PTE_A)


@pytest.mark.parametrize("mode", [TWO_LEVEL, PAE], ids=lambda mode: mode.name)
def test_32_bit_modes_have_the_whole_4_gib(mode: PagingMode) -> None:
    tables = Tables(mode, 0xFFFF_FFFF)

    assert isinstance(tables.walk(PF_U, 0xFFFF_FFFF), Translation)
    with pytest.raises(AssertionError, match="not a 32-bit address"):
        tables.walk(PF_U, 1 << 32)


def test_steps_tell_the_way_to_a_page(tables: Tables) -> None:
    steps = walk_steps(tables.ram, tables.mode, ROOT, ADDRESS)

    assert [step.level for step in steps] == list(tables.mode.levels)
    assert [step.raw for step in steps] == tables.entries()
    assert [step.entry_phys // tables.mode.entry_size for step in steps] == tables.slots
    assert [step.leaf for step in steps] == [False] * (len(steps) - 1) + [True]
    assert [step.page_address(tables.mode) for step in steps][-2:] == [ROOT + (len(steps) - 1) * 0x1000, FRAME]
    assert all(step.present and not step.reserved for step in steps)


def test_steps_end_where_the_walk_ends(tables: Tables) -> None:
    depth = tables.large_depth()
    large = tables.mode.levels[depth]
    tables[depth] = 1 << large.shift | ALL | PTE_PS

    last = walk_steps(tables.ram, tables.mode, ROOT, ADDRESS)[-1]
    assert (last.level, last.leaf, last.page_address(tables.mode)) == (large, True, 1 << large.shift)

    tables[depth] |= 1 << large.shift - 1
    assert walk_steps(tables.ram, tables.mode, ROOT, ADDRESS)[-1].reserved == 1 << large.shift - 1

    tables[depth] = PTE_RW
    last = walk_steps(tables.ram, tables.mode, ROOT, ADDRESS)[-1]
    assert (last.present, last.leaf, last.reserved) == (False, False, 0)

    tables[0] = 0x4000_0000 | PTE_P
    assert walk_steps(tables.ram, tables.mode, ROOT, ADDRESS)[-1].raw == 0


def test_steps_know_that_xd_is_reserved_without_nxe(nx_tables: Tables) -> None:
    nx_tables[-1] |= PTE_XD

    assert walk_steps(nx_tables.ram, nx_tables.mode, ROOT, ADDRESS, nxe=False)[-1].reserved == PTE_XD
    assert walk_steps(nx_tables.ram, nx_tables.mode, ROOT, ADDRESS)[-1].reserved == 0


def test_walk_and_steps_agree_on_random_tables(tables: Tables) -> None:
    """The last step is a sound leaf exactly when a supervisor's read succeeds."""
    rnd = random.Random(tables.mode.name)
    for _ in range(500):
        for depth in range(len(tables.slots)):
            tables[depth] ^= 1 << rnd.randrange(8 * tables.mode.entry_size) if rnd.random() < 0.1 else 0
        last = walk_steps(tables.ram, tables.mode, ROOT, ADDRESS)[-1]
        result = tables.walk(0)

        assert isinstance(result, Translation) == (last.leaf and not last.reserved)
        if isinstance(result, Translation):
            assert result.phys & -(1 << result.page_shift) == last.page_address(tables.mode)
        tables = Tables(tables.mode) if rnd.random() < 0.2 else tables
