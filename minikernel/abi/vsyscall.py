"""Where the vsyscall page is.  Linux: arch/x86/include/uapi/asm/vsyscall.h."""

from typing import Final

from emu.x86 import PAGE_SHIFT

VSYSCALL_ADDR: Final = 0xFFFF_FFFF_FF60_0000
VSYSCALL_PAGE: Final = VSYSCALL_ADDR >> PAGE_SHIFT
