"""Core files: the notes in them, for both ABIs.

Source: include/uapi/linux/elfcore.h, include/linux/elfcore-compat.h, arch/x86/include/asm/user_64.h, user_32.h,
include/uapi/linux/elf.h (NT_*).
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from minikernel.abi.abi import X86_64, Abi

NT_PRSTATUS: Final = 1
NT_PRFPREG: Final = 2
NT_PRPSINFO: Final = 3
NT_AUXV: Final = 6
NT_FILE: Final = 0x46494C45
NT_SIGINFO: Final = 0x53494749
NT_PRXFPREG: Final = 0x46E62B7F  # the FXSAVE image of an i386 program

PT_LOAD: Final = 1
PT_NOTE: Final = 4
PF_X: Final = 1
PF_W: Final = 2
PF_R: Final = 4
_ET_CORE: Final = 4
_EM_386: Final = 3
_EM_X86_64: Final = 62
PN_XNUM: Final = 0xFFFF  # so many program headers or more: the number stands in the first section header

_PRSTATUS64: Final = Struct("<iiihxxQQiiii8q27QIxxxx")
_PRSTATUS32: Final = Struct("<iiihxxIIiiii8i17II")
_PRPSINFO64: Final = Struct("<bcbbxxxxQIIiiii16s80s")
_PRPSINFO32: Final = Struct("<bcbbIHHiiii16s80s")
_NOTE: Final = Struct("<III")
_EHDR64: Final = Struct("<16sHHIQQQIHHHHHH")
_EHDR32: Final = Struct("<16sHHIIIIIHHHHHH")
_PHDR64: Final = Struct("<IIQQQQQQ")
_PHDR32: Final = Struct("<IIIIIIII")
_SHDR64: Final = Struct("<IIQQQQIIQQ")
_SHDR32: Final = Struct("<IIIIIIIIII")
_NS_PER_S: Final = 1_000_000_000


class Prstatus(NamedTuple):
    """A thread: struct elf_prstatus.  *regs* in the order of struct user_regs_struct, *times* in ns."""

    signo: int
    pending: int
    blocked: int
    pid: int
    ppid: int
    pgrp: int
    session: int
    times: tuple[int, int, int, int]  # user, system; those of children that were waited for
    regs: tuple[int, ...]

    def pack(self, abi: Abi) -> bytes:
        """336 bytes on x86-64, 144 on i386."""
        clock = [part for ns in self.times for part in (ns // _NS_PER_S, ns % _NS_PER_S // 1000)]
        wide = abi is X86_64
        mask = abi.mask
        return (_PRSTATUS64 if wide else _PRSTATUS32).pack(
            *(self.signo, 0, 0, self.signo, self.pending & mask, self.blocked & mask),
            *(self.pid, self.ppid, self.pgrp, self.session, *clock),
            *(value & mask for value in self.regs),
            1,  # there are floating point registers
        )


class Prpsinfo(NamedTuple):
    """The process: struct elf_prpsinfo.  *state*: the letter that ps shows."""

    state: bytes
    nice: int
    flags: int
    uid: int
    gid: int
    pid: int
    ppid: int
    pgrp: int
    session: int
    comm: bytes
    arguments: bytes

    def pack(self, abi: Abi) -> bytes:
        """136 bytes on x86-64, 124 on i386, where ids are of 16 bits."""
        number = b"RSDTZW".find(self.state)
        wide = abi is X86_64
        ids = (self.uid, self.gid) if wide else (min(self.uid, 0xFFFE), min(self.gid, 0xFFFE))
        return (_PRPSINFO64 if wide else _PRPSINFO32).pack(
            *(number, self.state, int(self.state == b"Z"), self.nice, self.flags, *ids),
            *(self.pid, self.ppid, self.pgrp, self.session, self.comm, self.arguments),
        )


def pack_note(owner: bytes, kind: int, contents: bytes) -> bytes:
    """An ELF note: name and contents are padded to four bytes."""
    name = owner + b"\0"
    return _NOTE.pack(len(name), len(contents), kind) + _padded(name) + _padded(contents)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def pack_files(abi: Abi, page_size: int, files: Sequence[tuple[int, int, int, bytes]]) -> bytes:
    """NT_FILE: start, end, page offset and name of every mapping of a file (fill_files_note)."""
    word = Struct("<Q" if abi is X86_64 else "<I")
    numbers = [len(files), page_size, *(number for entry in files for number in entry[:3])]
    return b"".join(map(word.pack, numbers)) + b"".join(entry[3] + b"\0" for entry in files)


def header_size(abi: Abi, segments: int) -> int:
    """Bytes of the ELF header and *segments* program headers."""
    wide = abi is X86_64
    return (_EHDR64 if wide else _EHDR32).size + segments * (_PHDR64 if wide else _PHDR32).size


def pack_header(abi: Abi, segments: int, section_offset: int = 0) -> bytes:
    """The ELF header; *section_offset*: where the one section header stands, if there are PN_XNUM segments."""
    wide = abi is X86_64
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1, 0)) + bytes(8)
    header, program, section = (_EHDR64, _PHDR64, _SHDR64) if wide else (_EHDR32, _PHDR32, _SHDR32)
    extended = segments >= PN_XNUM
    return header.pack(
        *(ident, _ET_CORE, _EM_X86_64 if wide else _EM_386, 1, 0, header.size, section_offset if extended else 0, 0),
        *(header.size, program.size, min(segments, PN_XNUM), section.size if extended else 0, int(extended), 0),
    )


def pack_extra_section(abi: Abi, segments: int) -> bytes:
    """The section header whose sh_info is the number of segments."""
    return (_SHDR64 if abi is X86_64 else _SHDR32).pack(0, 0, 0, 0, 0, 0, 0, segments, 0, 0)


class Segment(NamedTuple):
    """A program header."""

    kind: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    align: int

    def pack(self, abi: Abi) -> bytes:
        """56 bytes on x86-64, 32 on i386."""
        kind, flags, offset, address, file_size, memory_size, align = self
        if abi is X86_64:
            return _PHDR64.pack(kind, flags, offset, address, 0, file_size, memory_size, align)
        return _PHDR32.pack(kind, offset, address, 0, file_size, memory_size, flags, align)
