"""Where user space ends, and where mmap and the stack start.  Linux: arch/x86/mm/mmap.c, processor.h.

0 .. mmap_min_addr       never mapped: a NULL pointer faults
program, heap (brk)      upwards
... legacy_base          bottom-up search of mmap, when the top-down one finds nothing
... mmap_base            top-down search of mmap starts here
gap for the stack        RLIMIT_STACK, at least 128 MiB
stack_top                the stack, downwards
"""

from typing import Final

from msgspec import Struct

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, VirtAddr, page_align
from minikernel.mm.vma import STACK_GUARD_GAP

MMAP_MIN_ADDR: Final = VirtAddr(65536)  # CONFIG_DEFAULT_MMAP_MIN_ADDR of distributions
TASK_SIZE_X86_64: Final = (1 << 47) - PAGE_SIZE
TASK_SIZE_COMPAT: Final = 0xFFFF_E000  # IA32_PAGE_OFFSET: an i386 program on an x86-64 kernel
TASK_SIZE_I386: Final = 0xC000_0000
_MIN_GAP: Final = 128 << 20
_RND_BITS_64: Final = 28  # mmap_rnd_bits
_RND_BITS_32: Final = 8  # mmap_rnd_compat_bits


class AddressLayout(Struct, frozen=True, kw_only=True):
    """The fixed points of one address space; all page-aligned."""

    task_size: VirtAddr  # one past the last user address
    mmap_base: VirtAddr
    legacy_base: VirtAddr  # TASK_UNMAPPED_BASE
    stack_top: VirtAddr
    mmap_min_addr: VirtAddr = MMAP_MIN_ADDR
    is_64bit: bool = False  # the program; MAP_32BIT means something only there
    word_mask: int = 0xFFFF_FFFF  # of the machine's registers: where address arithmetic wraps
    bottom_up: bool = False  # ADDR_COMPAT_LAYOUT: search upwards from legacy_base


def address_layout(
    task_size: int, *, stack_limit: int, random: int = 0, machine_64bit: bool = True, bottom_up: bool = False
) -> AddressLayout:
    """The layout of a program that may use addresses below *task_size*, one of TASK_SIZE_*.

    *stack_limit* is RLIMIT_STACK in bytes; *random* any number, of which ASLR takes its bits (0: none).
    """
    is_64bit = task_size > 1 << 32
    bits = _RND_BITS_64 if is_64bit else _RND_BITS_32
    shift = (random & ((1 << bits) - 1)) << PAGE_SHIFT
    pad = STACK_GUARD_GAP
    if random:
        pad += (0x3FFFFF if is_64bit else 0x7FF) << PAGE_SHIFT  # stack_maxrandom_size
    gap = min(max(stack_limit + pad, _MIN_GAP), task_size // 6 * 5)
    return AddressLayout(
        task_size=VirtAddr(task_size),
        mmap_base=VirtAddr(page_align(task_size - gap - shift)),
        legacy_base=VirtAddr(page_align(task_size // 3) + shift),
        stack_top=VirtAddr(task_size),
        is_64bit=is_64bit,
        word_mask=(1 << 64) - 1 if machine_64bit else 0xFFFF_FFFF,
        bottom_up=bottom_up,
    )
