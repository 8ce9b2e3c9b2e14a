"""Constants and address types of the x86 architecture, named as in Intel's SDM.

Plain ints where the walker and the fault path run: an ``IntFlag`` operation costs thirty times an int's.
"""

from typing import Final, NewType

VirtAddr = NewType("VirtAddr", int)
"""A linear address, in bytes."""
PhysAddr = NewType("PhysAddr", int)
"""A physical address, in bytes."""
Pfn = NewType("Pfn", int)
"""A frame number: a physical address divided by the page size."""

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 1 << PAGE_SHIFT
PAGE_MASK: Final = PAGE_SIZE - 1  # the offset bits; not Linux's inverted mask

# Paging-structure entries: SDM vol. 3A, 4.5.4, "4-Level Paging", format of an entry that maps a 4-KByte page.
PTE_P: Final = 1 << 0  # present
PTE_RW: Final = 1 << 1  # writes allowed
PTE_US: Final = 1 << 2  # user-mode accesses allowed
PTE_PWT: Final = 1 << 3  # page-level write-through
PTE_PCD: Final = 1 << 4  # page-level cache disable
PTE_A: Final = 1 << 5  # accessed: set by the walker
PTE_D: Final = 1 << 6  # dirty: set by the walker on a write, leaf entries only
PTE_PS: Final = 1 << 7  # page size: this entry maps a large page (levels above the lowest)
PTE_G: Final = 1 << 8  # global
PTE_SOFT1: Final = 1 << 9  # ignored by the hardware
PTE_SOFT2: Final = 1 << 10  # ignored by the hardware
PTE_SOFT3: Final = 1 << 11  # ignored by the hardware
PTE_XD: Final = 1 << 63  # execute-disable, if EFER.NXE = 1
PTE_ADDR: Final = 0x000F_FFFF_FFFF_F000  # the frame's address in 8-byte entries
PTE_ADDR32: Final = 0xFFFF_F000  # the frame's address in 4-byte entries

# Page-fault error code: SDM vol. 3A, 4.7.
PF_P: Final = 1 << 0  # 0: not present; 1: protection violation
PF_W: Final = 1 << 1  # a write
PF_U: Final = 1 << 2  # a user-mode access
PF_RSVD: Final = 1 << 3  # a reserved bit was set in an entry
PF_I: Final = 1 << 4  # an instruction fetch

# Exception vectors: SDM vol. 3A, 6.3.1, table 6-1.
VEC_DE: Final = 0
VEC_DB: Final = 1
VEC_NMI: Final = 2
VEC_BP: Final = 3
VEC_OF: Final = 4
VEC_BR: Final = 5
VEC_UD: Final = 6
VEC_NM: Final = 7
VEC_DF: Final = 8
VEC_TS: Final = 10
VEC_NP: Final = 11
VEC_SS: Final = 12
VEC_GP: Final = 13
VEC_PF: Final = 14
VEC_MF: Final = 16
VEC_AC: Final = 17
VEC_MC: Final = 18
VEC_XM: Final = 19

# Control registers: SDM vol. 3A, 2.5.
CR0_PE: Final = 1 << 0
CR0_MP: Final = 1 << 1
CR0_EM: Final = 1 << 2
CR0_TS: Final = 1 << 3
CR0_ET: Final = 1 << 4
CR0_NE: Final = 1 << 5
CR0_WP: Final = 1 << 16
CR0_AM: Final = 1 << 18
CR0_PG: Final = 1 << 31
CR4_TSD: Final = 1 << 2
CR4_DE: Final = 1 << 3
CR4_PSE: Final = 1 << 4
CR4_PAE: Final = 1 << 5
CR4_PGE: Final = 1 << 7
CR4_OSFXSR: Final = 1 << 9
CR4_OSXMMEXCPT: Final = 1 << 10
CR4_LA57: Final = 1 << 12
EFER_SCE: Final = 1 << 0
EFER_LME: Final = 1 << 8
EFER_LMA: Final = 1 << 10
EFER_NXE: Final = 1 << 11

# RFLAGS: SDM vol. 1, 3.4.3.
FLAG_CF: Final = 1 << 0
FLAG_FIXED: Final = 1 << 1  # always 1
FLAG_PF: Final = 1 << 2
FLAG_AF: Final = 1 << 4
FLAG_ZF: Final = 1 << 6
FLAG_SF: Final = 1 << 7
FLAG_TF: Final = 1 << 8
FLAG_IF: Final = 1 << 9
FLAG_DF: Final = 1 << 10
FLAG_OF: Final = 1 << 11
FLAG_NT: Final = 1 << 14
FLAG_RF: Final = 1 << 16
FLAG_AC: Final = 1 << 18
FLAG_ID: Final = 1 << 21


def pfn_to_phys(pfn: Pfn) -> PhysAddr:
    """Physical address of the first byte of frame *pfn*."""
    return PhysAddr(pfn << PAGE_SHIFT)


def phys_to_pfn(phys: PhysAddr) -> Pfn:
    """Frame that holds the byte at *phys*."""
    return Pfn(phys >> PAGE_SHIFT)


def page_align(size: int) -> int:
    """*size* in bytes, rounded up to whole pages."""
    return (size + PAGE_MASK) & ~PAGE_MASK
