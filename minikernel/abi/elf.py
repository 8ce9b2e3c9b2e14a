"""The parts of ELF that a kernel reads: headers, program headers, the auxiliary vector.

Source: include/uapi/linux/elf.h, include/uapi/linux/auxvec.h.  Symbols and DWARF are for the tools (pyelftools).
"""

from struct import Struct
from typing import Final, NamedTuple

from minikernel.abi.abi import Abi

ELFMAG: Final = b"\x7fELF"
ELFDATA2LSB: Final = 1
ET_EXEC: Final = 2
ET_DYN: Final = 3
EM_386: Final = 3
EM_486: Final = 6
EM_X86_64: Final = 62
PT_LOAD: Final = 1
PT_DYNAMIC: Final = 2
PT_INTERP: Final = 3
PT_PHDR: Final = 6
PT_GNU_EH_FRAME: Final = 0x6474_E550
PT_GNU_STACK: Final = 0x6474_E551
PF_X: Final = 1
PF_W: Final = 2
PF_R: Final = 4

AT_NULL: Final = 0
AT_PHDR: Final = 3
AT_PHENT: Final = 4
AT_PHNUM: Final = 5
AT_PAGESZ: Final = 6
AT_BASE: Final = 7
AT_FLAGS: Final = 8
AT_ENTRY: Final = 9
AT_UID: Final = 11
AT_EUID: Final = 12
AT_GID: Final = 13
AT_EGID: Final = 14
AT_PLATFORM: Final = 15
AT_HWCAP: Final = 16
AT_CLKTCK: Final = 17
AT_SECURE: Final = 23
AT_RANDOM: Final = 25
AT_HWCAP2: Final = 26
AT_RSEQ_FEATURE_SIZE: Final = 27
AT_RSEQ_ALIGN: Final = 28
AT_EXECFN: Final = 31
AT_SYSINFO: Final = 32
AT_SYSINFO_EHDR: Final = 33
AT_MINSIGSTKSZ: Final = 51

_EHDR: Final = {8: Struct("<16sHHIQQQIHHHHHH"), 4: Struct("<16sHHIIIIIHHHHHH")}
_PHDR64: Final = Struct("<IIQQQQQQ")
_PHDR32: Final = Struct("<IIIIIIII")


class Ehdr(NamedTuple):
    """The file header, fields named as the standard's."""

    e_ident: bytes
    e_type: int
    e_machine: int
    e_version: int
    e_entry: int
    e_phoff: int
    e_shoff: int
    e_flags: int
    e_ehsize: int
    e_phentsize: int
    e_phnum: int
    e_shentsize: int
    e_shnum: int
    e_shstrndx: int

    def pack(self, abi: Abi) -> bytes:
        """The header as the file has it."""
        return _EHDR[abi.word].pack(*self)


class Phdr(NamedTuple):
    """A program header, in the order of the 64-bit form."""

    p_type: int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int

    def pack(self, abi: Abi) -> bytes:
        """The header as the file has it."""
        if abi.word == 8:
            return _PHDR64.pack(*self)
        kind, flags, offset, vaddr, paddr, filesz, memsz, align = self
        return _PHDR32.pack(kind, offset, vaddr, paddr, filesz, memsz, flags, align)


def ehdr_size(abi: Abi) -> int:
    """Bytes of the file header."""
    return _EHDR[abi.word].size


def phdr_size(abi: Abi) -> int:
    """Bytes of a program header."""
    return 56 if abi.word == 8 else 32


def unpack_ehdr(abi: Abi, data: bytes) -> Ehdr:
    """The file header in the first bytes of *data*, which are enough."""
    return Ehdr(*_EHDR[abi.word].unpack_from(data))


def unpack_phdrs(abi: Abi, data: bytes) -> list[Phdr]:
    """The program headers that *data* is full of."""
    if abi.word == 8:
        return [Phdr(*fields) for fields in _PHDR64.iter_unpack(data)]
    return [
        Phdr(kind, flags, offset, vaddr, paddr, filesz, memsz, align)
        for kind, offset, vaddr, paddr, filesz, memsz, flags, align in _PHDR32.iter_unpack(data)
    ]
