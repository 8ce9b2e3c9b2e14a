"""Where things are: the kernel's half of the address space, and the zones of RAM, for each machine.

x86-64 (Linux: Documentation/arch/x86/x86_64/mm.rst)      i386 (Documentation/arch/x86/i386, CONFIG_VMSPLIT_3G)

    0x0000_0000_0000_0000  user, 128 TiB                     0x0000_0000  user, 3 GiB
    0xffff_8880_0000_0000  direct map of all RAM             0xc000_0000  direct map of the first 896 MiB: lowmem
    0xffff_c900_0000_0000  vmalloc, 32 TiB                   0xf800_0000  vmalloc; fixmap above it (no user of it yet)

With five levels of paging the user has 64 PiB, the direct map starts at 0xff11_0000_0000_0000 and vmalloc at
0xffa0_0000_0000_0000.
"""

from typing import Final

from msgspec import Struct

from emu.paging import FIVE_LEVEL, FOUR_LEVEL, PAE, TWO_LEVEL, PagingMode
from emu.x86 import PAGE_SIZE, PhysAddr, VirtAddr

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


class ZoneSpec(Struct, frozen=True):
    """A zone's name, as in /proc/zoneinfo, and the physical address behind its last byte."""

    name: str
    end: int
    lowmem_reserve_ratio: int  # 1/ratio of the zones above is kept for those who need this one; 0: nothing is
    is_highmem: bool = False  # not in the direct map


class KernelLayout(Struct, frozen=True):
    """One machine's memory map."""

    name: str
    mode: PagingMode
    task_size: VirtAddr  # one past the last user address (Linux: TASK_SIZE_MAX)
    page_offset: VirtAddr  # where the direct map starts (Linux: PAGE_OFFSET)
    lowmem_size: int  # bytes of RAM that the direct map has room for
    vmalloc_start: VirtAddr  # Linux: VMALLOC_START
    vmalloc_end: VirtAddr  # one past its last byte (Linux's VMALLOC_END is the last byte)
    zones: tuple[ZoneSpec, ...]  # from the lowest

    def kernel_address(self, phys: PhysAddr) -> VirtAddr:
        """The direct map's address of the byte at *phys* (Linux: __va)."""
        assert phys < self.lowmem_size, f"kernel_address: {phys:#x} is high memory"
        return VirtAddr(self.page_offset + phys)


# Ratios: Linux's sysctl_lowmem_reserve_ratio, mm/page_alloc.c.
_I386_ZONES: Final = (
    ZoneSpec("DMA", 16 * _MIB, 256),
    ZoneSpec("Normal", 896 * _MIB, 32),
    ZoneSpec("HighMem", 64 * _GIB, 0, is_highmem=True),
)

_X86_64_ZONES: Final = (
    ZoneSpec("DMA", 16 * _MIB, 256),
    ZoneSpec("DMA32", 4 * _GIB, 256),
    ZoneSpec("Normal", 64 << 40, 32),
)

X86_64_LAYOUT: Final = KernelLayout(
    name="x86-64",
    mode=FOUR_LEVEL,
    task_size=VirtAddr((1 << 47) - PAGE_SIZE),
    page_offset=VirtAddr(0xFFFF_8880_0000_0000),
    lowmem_size=64 << 40,
    vmalloc_start=VirtAddr(0xFFFF_C900_0000_0000),
    vmalloc_end=VirtAddr(0xFFFF_E900_0000_0000),
    zones=_X86_64_ZONES,
)
X86_64_LA57_LAYOUT: Final = KernelLayout(
    name="x86-64-la57",
    mode=FIVE_LEVEL,
    task_size=VirtAddr((1 << 56) - PAGE_SIZE),
    page_offset=VirtAddr(0xFF11_0000_0000_0000),
    lowmem_size=64 << 40,
    vmalloc_start=VirtAddr(0xFFA0_0000_0000_0000),
    vmalloc_end=VirtAddr(0xFFD2_0000_0000_0000),
    zones=_X86_64_ZONES,
)
I386_PAE_LAYOUT: Final = KernelLayout(
    name="i386-pae",
    mode=PAE,
    task_size=VirtAddr(0xC000_0000),
    page_offset=VirtAddr(0xC000_0000),
    lowmem_size=896 * _MIB,
    vmalloc_start=VirtAddr(0xF800_0000),
    vmalloc_end=VirtAddr(0xFF80_0000),
    zones=_I386_ZONES,
)
I386_2LEVEL_LAYOUT: Final = KernelLayout(
    name="i386-2level",
    mode=TWO_LEVEL,
    task_size=VirtAddr(0xC000_0000),
    page_offset=VirtAddr(0xC000_0000),
    lowmem_size=896 * _MIB,
    vmalloc_start=VirtAddr(0xF800_0000),
    vmalloc_end=VirtAddr(0xFF80_0000),
    zones=_I386_ZONES,
)
