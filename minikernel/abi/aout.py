"""The a.out header of i386, and where things are by it.  Source: include/uapi/linux/a.out.h (up to Linux 6.0)."""

from struct import Struct
from typing import Final

from emu.x86 import PAGE_SIZE

OMAGIC: Final = 0o407  # text is writable, and data follows it at once
NMAGIC: Final = 0o410  # text is read-only
ZMAGIC: Final = 0o413  # demand-paged; text starts at 1024 in the file
QMAGIC: Final = 0o314  # demand-paged; the header is part of the text, page 0 stays free
MAGICS: Final = frozenset((OMAGIC, NMAGIC, ZMAGIC, QMAGIC))

SEGMENT_SIZE: Final = 1024
EXEC: Final = Struct("<8I")  # info, text, data, bss, syms, entry, trsize, drsize
EXEC_SIZE: Final = EXEC.size
_ZMAGIC_TEXT: Final = 1024


class Exec:
    """struct exec; sizes in bytes."""

    __slots__ = ("a_bss", "a_data", "a_drsize", "a_entry", "a_info", "a_syms", "a_text", "a_trsize")

    def __init__(self, head: bytes) -> None:
        (
            self.a_info,
            self.a_text,
            self.a_data,
            self.a_bss,
            self.a_syms,
            self.a_entry,
            self.a_trsize,
            self.a_drsize,
        ) = EXEC.unpack(head[:EXEC_SIZE])

    @property
    def magic(self) -> int:
        """N_MAGIC."""
        return int(self.a_info) & 0xFFFF

    @property
    def text_offset(self) -> int:
        """N_TXTOFF: where text begins in the file."""
        if self.magic == ZMAGIC:
            return _ZMAGIC_TEXT
        return 0 if self.magic == QMAGIC else EXEC_SIZE

    @property
    def text_address(self) -> int:
        """N_TXTADDR."""
        return PAGE_SIZE if self.magic == QMAGIC else 0

    @property
    def data_address(self) -> int:
        """N_DATADDR."""
        end: int = self.text_address + self.a_text
        return end if self.magic == OMAGIC else (end + SEGMENT_SIZE - 1) & -SEGMENT_SIZE

    @property
    def bss_address(self) -> int:
        """N_BSSADDR."""
        address: int = self.data_address + self.a_data
        return address
