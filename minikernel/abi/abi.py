"""The two binary interfaces a task can have: what a word is, and where arguments travel.

Source: x86-64 psABI, A.2.1; arch/x86/entry/entry_64.S, entry_INT80_compat and entry_32.S.
"""

from struct import Struct
from typing import Final

from emu.x86 import VirtAddr

PAGE_OFFSET_I386: Final = 0xC000_0000  # where the kernel begins on the i386 machine (3G/1G split)


class Abi:
    """One calling convention.  Compared by identity: there are two, ``X86_64`` and ``I386``."""

    __slots__ = (
        "arg_registers",
        "elf_class",
        "elf_machine",
        "mask",
        "name",
        "native_task_size",
        "platform",
        "task_size",
        "word",
        "word_struct",
    )

    def __init__(
        self,
        *,
        name: str,
        word: int,
        arg_registers: tuple[int, ...],
        task_size: VirtAddr,
        native_task_size: VirtAddr,
        elf_class: int,
        elf_machine: int,
        platform: bytes,
        word_struct: Struct,
    ) -> None:
        self.name = name
        self.word = word  # bytes of a long and of a pointer
        self.mask = (1 << (8 * word)) - 1  # the largest unsigned long
        self.arg_registers = arg_registers  # of system call arguments, as indices in SDM order (rax 0, rcx 1, ...)
        self.task_size = task_size  # one past the last user address on the x86-64 machine
        self.native_task_size = native_task_size  # the same on a machine of this ABI's own width
        self.elf_class = elf_class  # EI_CLASS: 1 or 2
        self.elf_machine = elf_machine  # e_machine
        self.platform = platform  # AT_PLATFORM
        self.word_struct = word_struct

    def __repr__(self) -> str:
        return f"<Abi {self.name}>"

    def pack_word(self, value: int) -> bytes:
        """*value* as an unsigned long; high bits are cut off."""
        return self.word_struct.pack(value & self.mask)

    def pack_words(self, *values: int) -> bytes:
        """Several unsigned longs in a row; high bits are cut off."""
        mask = self.mask
        return b"".join([self.word_struct.pack(value & mask) for value in values])

    def unpack_word(self, data: bytes, offset: int = 0) -> int:
        """The unsigned long at *offset* of *data*."""
        value: int = self.word_struct.unpack_from(data, offset)[0]
        return value

    def unpack_words(self, data: bytes) -> list[int]:
        """*data* as an array of unsigned longs; a partial one at the end is left out."""
        whole = len(data) - len(data) % self.word
        return [value for (value,) in self.word_struct.iter_unpack(data[:whole])]

    def signed(self, value: int) -> int:
        """*value* (an unsigned long) read as a long."""
        sign = (self.mask >> 1) + 1
        return ((value & self.mask) ^ sign) - sign


X86_64: Final = Abi(
    name="x86-64",
    word=8,
    arg_registers=(7, 6, 2, 10, 8, 9),  # rdi rsi rdx r10 r8 r9
    task_size=VirtAddr(0x7FFF_FFFF_F000),  # TASK_SIZE_MAX: the last page of the lower half is never mapped
    native_task_size=VirtAddr(0x7FFF_FFFF_F000),
    elf_class=2,
    elf_machine=62,
    platform=b"x86_64",
    word_struct=Struct("<Q"),
)

I386: Final = Abi(
    name="i386",
    word=4,
    arg_registers=(3, 1, 2, 6, 7, 5),  # ebx ecx edx esi edi ebp
    task_size=VirtAddr(0xFFFF_E000),  # IA32_PAGE_OFFSET
    native_task_size=VirtAddr(PAGE_OFFSET_I386),
    elf_class=1,
    elf_machine=3,
    platform=b"i686",
    word_struct=Struct("<I"),
)

ABIS: Final = (X86_64, I386)
