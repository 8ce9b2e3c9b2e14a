"""Segments a program may describe: struct user_desc and the descriptor the CPU reads.

Source: arch/x86/include/uapi/asm/ldt.h; arch/x86/include/asm/desc.h (fill_ldt, LDT_empty); SDM vol. 3A, 3.4.5.
"""

from struct import Struct
from typing import Final, NamedTuple

USER_DESC_SIZE: Final = 16
_USER_DESC = Struct("<IIII")
LDT_ENTRIES: Final = 8192

GDT_ENTRY_TLS_ENTRIES: Final = 3
GDT_ENTRY_TLS_MIN_X86_64: Final = 12
GDT_ENTRY_TLS_MIN_I386: Final = 6

SEG_32BIT: Final = 1 << 0
CONTENTS: Final = 3 << 1  # 0 data, 1 stack (expand down), 2 code, 3 conforming code
READ_EXEC_ONLY: Final = 1 << 3
LIMIT_IN_PAGES: Final = 1 << 4
SEG_NOT_PRESENT: Final = 1 << 5
USEABLE: Final = 1 << 6
LM: Final = 1 << 7


class UserDesc(NamedTuple):
    """A struct user_desc; *flags* is its word of bit fields."""

    entry_number: int
    base: int
    limit: int
    flags: int

    def pack(self) -> bytes:
        """As user space holds it: 16 bytes."""
        return _USER_DESC.pack(self.entry_number, self.base, self.limit, self.flags)

    @property
    def contents(self) -> int:
        """0 data, 1 stack, 2 code, 3 conforming code."""
        return (self.flags & CONTENTS) >> 1

    @property
    def is_empty(self) -> bool:
        """LDT_empty: the form that removes a descriptor."""
        bits = self.flags & 0x7F
        return self.base == 0 and self.limit == 0 and bits == READ_EXEC_ONLY | SEG_NOT_PRESENT

    @property
    def is_zero(self) -> bool:
        """LDT_zero: nothing at all is set."""
        return self.base == 0 and self.limit == 0 and self.flags & 0x7F == 0

    def descriptor(self) -> int:
        """The 8-byte segment descriptor for the GDT or an LDT (fill_ldt)."""
        flags = self.flags
        seg_type = (((flags & READ_EXEC_ONLY) ^ READ_EXEC_ONLY) >> 2) | self.contents << 2 | 1  # accessed
        access = seg_type | 1 << 4 | 3 << 5 | (0 if flags & SEG_NOT_PRESENT else 1 << 7)
        high = self.limit >> 16 & 0xF
        high |= (1 << 4) if flags & USEABLE else 0
        high |= (1 << 6) if flags & SEG_32BIT else 0
        high |= (1 << 7) if flags & LIMIT_IN_PAGES else 0
        base = self.base
        return (self.limit & 0xFFFF) | (base & 0xFF_FFFF) << 16 | access << 40 | high << 48 | (base >> 24 & 0xFF) << 56


def unpack_user_desc(data: bytes) -> UserDesc:
    """The struct user_desc in *data*."""
    return UserDesc(*_USER_DESC.unpack(data))


def user_desc_of(entry_number: int, descriptor: int) -> UserDesc:
    """The struct user_desc that made *descriptor* (fill_user_desc, arch/x86/kernel/tls.c)."""
    access, high = descriptor >> 40 & 0xFF, descriptor >> 48 & 0xFF
    flags = SEG_32BIT if high & 1 << 6 else 0
    flags |= (access >> 2 & 3) << 1
    flags |= 0 if access & 2 else READ_EXEC_ONLY
    flags |= LIMIT_IN_PAGES if high & 1 << 7 else 0
    flags |= 0 if access & 1 << 7 else SEG_NOT_PRESENT
    flags |= USEABLE if high & 1 << 4 else 0
    base = descriptor >> 16 & 0xFF_FFFF | (descriptor >> 56 & 0xFF) << 24
    limit = descriptor & 0xFFFF | (high & 0xF) << 16
    return UserDesc(entry_number, base, limit, flags)
