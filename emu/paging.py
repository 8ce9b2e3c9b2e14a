"""The paging modes as data, and the walk that the paging hardware does: SDM vol. 3A, chapter 4.

One loop serves every mode; a mode is a row of levels from the root to the page.  Where the emulated processor
(QEMU 5.0 inside Unicorn) leaves the SDM, the walk goes with the processor: `tests/emu/test_paging_hardware.py`
compares the two on thousands of random tables, and `emu/README.md` lists the differences.
"""

from typing import Final

from msgspec import Struct
from msgspec.structs import force_setattr

from emu.exits import CpuException, PageFault
from emu.physmem import PhysMem
from emu.x86 import (
    PAGE_SHIFT,
    PF_I,
    PF_P,
    PF_RSVD,
    PF_U,
    PF_W,
    PTE_A,
    PTE_ADDR,
    PTE_ADDR32,
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

MAXPHYADDR: Final = 40  # the emulated processor's, whatever CPUID says (TCG_PHYS_ADDR_BITS)
RSVD_HIGH: Final = PTE_ADDR & ~((1 << MAXPHYADDR) - 1)  # address bits beyond MAXPHYADDR
RSVD_PAE: Final = RSVD_HIGH | 0x7FF0_0000_0000_0000  # PAE also reserves 62:52, which 4-level paging ignores
RSVD_2M: Final = 0x001F_E000  # bits 20:13; bit 12 is PAT
RSVD_1G: Final = 0x3FFF_E000  # bits 29:13; bit 12 is PAT
RSVD_4M: Final = 0x0020_0000  # bit 21; bits 20:13 are address bits 39:32 (PSE-36)
PSE36_ADDR: Final = 0x001F_E000  # of a 4 MiB entry
PSE36_SHIFT: Final = 32 - 13

_ALL_RIGHTS: Final = PTE_RW | PTE_US | PTE_XD  # XD inverted: execution allowed


class Level(Struct, frozen=True):
    """One level of paging structures.  Masks are of entry bits."""

    name: str  # of its entries, as in the SDM
    shift: int  # lowest address bit of the index
    bits: int  # address bits of the index
    large_page: bool = False  # PS = 1 maps a page of 2**shift bytes here
    reserved: int = 0  # bits that must be 0 in every present entry
    reserved_large: int = 0  # the further ones of an entry that maps a large page
    has_rights: bool = True  # R/W, U/S, XD and A mean something; not so in PAE's PDPTEs
    accessed_early: bool = False  # A is set in a large page's entry before its rights are looked at


_Plan = tuple[int, int, int, int, int, bool, bool]


class PagingMode(Struct, frozen=True):
    """A paging mode: how a linear address becomes a physical one."""

    name: str
    levels: tuple[Level, ...]  # from the root to the table of 4 KiB pages
    entry_size: int  # bytes
    va_bits: int  # of a linear address; above 32, the bits beyond must repeat the highest (canonical)
    has_nx: bool  # XD exists, if EFER.NXE = 1
    root_mask: int  # address bits of CR3
    plan: tuple[_Plan, ...] = ()  # the levels, unpacked for the walk; made here

    def __post_init__(self) -> None:
        plan = tuple(
            (
                level.shift,
                (1 << level.bits) - 1,
                PTE_P if level is self.levels[-1] else PTE_PS * level.large_page,  # the bit that ends the walk
                level.reserved,
                level.reserved_large,
                level.has_rights,
                level.accessed_early,
            )
            for level in self.levels
        )
        force_setattr(self, "plan", plan)

    def is_canonical(self, address: int) -> bool:
        """Whether *address* can be translated at all; SDM vol. 1, 3.3.7.1."""
        if self.va_bits == 32:
            return address >> 32 == 0
        return (address >> (self.va_bits - 1)) in {0, (1 << (65 - self.va_bits)) - 1}


TWO_LEVEL: Final = PagingMode(
    name="2-level",
    levels=(
        Level("PDE", 22, 10, large_page=True, reserved_large=RSVD_4M),
        Level("PTE", 12, 10),
    ),
    entry_size=4,
    va_bits=32,
    has_nx=False,
    root_mask=PTE_ADDR32,
)
"""SDM vol. 3A, 4.3, with CR4.PSE = 1."""

PAE: Final = PagingMode(
    name="PAE",
    levels=(
        # The SDM also reserves R/W, U/S and 8:5 of a PDPTE; the emulated processor ignores them.
        Level("PDPTE", 30, 2, reserved=RSVD_PAE | PTE_XD, has_rights=False),
        Level("PDE", 21, 9, large_page=True, reserved=RSVD_PAE, reserved_large=RSVD_2M),
        Level("PTE", 12, 9, reserved=RSVD_PAE),
    ),
    entry_size=8,
    va_bits=32,
    has_nx=True,
    root_mask=0xFFFF_FFE0,
)
"""SDM vol. 3A, 4.4."""

_FOUR_LEVELS: Final = (
    Level("PML4E", 39, 9, reserved=RSVD_HIGH | PTE_PS),
    Level("PDPTE", 30, 9, large_page=True, reserved=RSVD_HIGH, reserved_large=RSVD_1G, accessed_early=True),
    Level("PDE", 21, 9, large_page=True, reserved=RSVD_HIGH, reserved_large=RSVD_2M),
    Level("PTE", 12, 9, reserved=RSVD_HIGH),
)

FOUR_LEVEL: Final = PagingMode(
    name="4-level", levels=_FOUR_LEVELS, entry_size=8, va_bits=48, has_nx=True, root_mask=PTE_ADDR
)
"""SDM vol. 3A, 4.5, with CR4.LA57 = 0."""

FIVE_LEVEL: Final = PagingMode(
    name="5-level",
    levels=(Level("PML5E", 48, 9, reserved=RSVD_HIGH | PTE_PS), *_FOUR_LEVELS),
    entry_size=8,
    va_bits=57,
    has_nx=True,
    root_mask=PTE_ADDR,
)
"""SDM vol. 3A, 4.5, with CR4.LA57 = 1, which the emulated processor takes whatever its CPUID says."""

MODES: Final = (TWO_LEVEL, PAE, FOUR_LEVEL, FIVE_LEVEL)


class Translation(Struct):
    """Where an address leads."""

    phys: PhysAddr
    page_shift: int  # log2 of the page's size in bytes
    entry: int  # the entry that maps the page, with A and D as the walk left them


class WalkStep(Struct, frozen=True):
    """One entry that a walk looked at; for explanations."""

    level: Level
    index: int  # of the entry in its table
    entry_phys: PhysAddr  # where the entry lies; perhaps beyond RAM, where the bus reads zeroes
    raw: int  # the entry
    leaf: bool  # present, and maps a page of 2**level.shift bytes
    reserved: int  # the bits of a present entry that must be 0 and are not

    @property
    def present(self) -> bool:
        """The entry's P bit."""
        return bool(self.raw & PTE_P)

    def page_address(self, mode: PagingMode) -> PhysAddr:
        """First byte of the page that a leaf maps, or of the table that another present entry points to."""
        return PhysAddr(_page_address(mode, self.raw, self.level.shift if self.leaf else PAGE_SHIFT))


def walk(
    physmem: PhysMem,
    mode: PagingMode,
    root: PhysAddr,
    address: VirtAddr,
    access: int,
    *,
    nxe: bool = True,
    wp: bool = True,
    set_ad: bool = True,
) -> Translation | PageFault | CpuException:
    """Translate *address* for *access* (PF_W, PF_U, PF_I; none of them is a supervisor read), as the hardware does.

    *root* is CR3, *nxe* EFER.NXE, *wp* CR0.WP.  Accessed and dirty bits are set in RAM unless *set_ad* is false.
    The result is a CpuException (#GP) for an address that is not canonical and for nothing else; the 32-bit modes
    have no such address.
    """
    if address >> 31 and not mode.is_canonical(address):
        assert mode.va_bits > 32, f"walk: {address:#x} is not a 32-bit address"
        return CpuException(VEC_GP, 0)
    view = physmem.view64 if mode.entry_size == 8 else physmem.view32
    entry_shift = 3 if mode.entry_size == 8 else 2
    xd_reserved = 0 if nxe else PTE_XD
    table = root & mode.root_mask
    rights = _ALL_RIGHTS
    shift = slot = entry = reserved_large = 0
    for plan in mode.plan:  # pragma: no branch - the last level always ends the walk
        shift, index_mask, leaf_bit, reserved, reserved_large, has_rights, accessed_early = plan
        slot = (table >> entry_shift) + ((address >> shift) & index_mask)
        try:
            entry = view[slot]
        except IndexError:
            entry = 0  # no RAM there: the emulated bus reads zeroes
        if not entry & PTE_P:
            return PageFault(address, _error_code(mode, access, nxe=nxe))
        if entry & (reserved | xd_reserved):
            return PageFault(address, _error_code(mode, access, nxe=nxe) | PF_P | PF_RSVD)
        if has_rights:
            rights &= entry ^ PTE_XD
            leaf = entry & leaf_bit
            if set_ad and not entry & PTE_A and (not leaf or accessed_early):
                entry |= PTE_A
                view[slot] = entry
            if leaf:
                break
        table = entry & PTE_ADDR

    if entry & reserved_large:
        return PageFault(address, _error_code(mode, access, nxe=nxe) | PF_P | PF_RSVD)
    user = access & PF_U
    if (
        (user and not rights & PTE_US)
        or (access & PF_W and not rights & PTE_RW and (user or wp))
        or (access & PF_I and not rights & PTE_XD)
    ):
        return PageFault(address, _error_code(mode, access, nxe=nxe) | PF_P)

    used = PTE_A | PTE_D if access & PF_W else PTE_A
    if set_ad and entry & used != used:
        entry |= used
        view[slot] = entry
    return Translation(PhysAddr(_page_address(mode, entry, shift) | address & ((1 << shift) - 1)), shift, entry)


def walk_steps(
    physmem: PhysMem, mode: PagingMode, root: PhysAddr, address: VirtAddr, *, nxe: bool = True
) -> list[WalkStep]:
    """The entries that translate *address*, from the root to the one that ends the walk: a leaf, not present, or bad.

    No rights are checked and nothing is set in RAM.  Empty for an address that is not canonical.
    """
    if not mode.is_canonical(address):
        return []
    steps: list[WalkStep] = []
    table = root & mode.root_mask
    for level in mode.levels:  # pragma: no branch - as above
        index = address >> level.shift & ((1 << level.bits) - 1)
        phys = PhysAddr(table + index * mode.entry_size)
        raw = int.from_bytes(physmem.ram[phys : phys + mode.entry_size], "little")  # empty, so 0, beyond RAM
        leaf = bool(raw & PTE_P and (level is mode.levels[-1] or (level.large_page and raw & PTE_PS)))
        forbidden = level.reserved | (level.reserved_large if leaf else 0) | (0 if nxe else PTE_XD)
        reserved = raw & forbidden if raw & PTE_P else 0
        steps.append(WalkStep(level, index, phys, raw, leaf, reserved))
        if leaf or reserved or not raw & PTE_P:
            break
        table = raw & PTE_ADDR
    return steps


def _error_code(mode: PagingMode, access: int, *, nxe: bool) -> int:
    """The error code's bits that the access alone decides: a fetch shows only where XD works.  SDM vol. 3A, 4.7."""
    return access & (PF_W | PF_U | PF_I if mode.has_nx and nxe else PF_W | PF_U)


def _page_address(mode: PagingMode, entry: int, shift: int) -> int:
    """First byte of the page of 2**shift bytes that *entry* maps."""
    phys = entry & PTE_ADDR & -(1 << shift)
    if mode.entry_size == 4 and shift != PAGE_SHIFT:
        phys |= (entry & PSE36_ADDR) << PSE36_SHIFT
    return phys
