"""Reading the headers of an ELF file for execve: everything a damaged or hostile file can say is checked here.

Linux: fs/binfmt_elf.c (load_elf_binary, load_elf_phdrs, elf_read).
"""

from typing import Final

from msgspec import Struct

from emu.x86 import PAGE_MASK
from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.elf import (
    ELFMAG,
    EM_386,
    EM_486,
    EM_X86_64,
    ET_DYN,
    ET_EXEC,
    PF_X,
    PT_GNU_STACK,
    PT_INTERP,
    PT_LOAD,
    Ehdr,
    Phdr,
    ehdr_size,
    phdr_size,
    unpack_ehdr,
    unpack_phdrs,
)
from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.file import OpenFile

_PATH_MAX: Final = 4096
_PHDRS_MAX: Final = 65536  # bytes of program headers
_MACHINES: Final = {EM_X86_64: X86_64, EM_386: I386, EM_486: I386}


class ElfFile(Struct, frozen=True):
    """The headers of one file.  *exec_stack*: True, False, or None where PT_GNU_STACK says nothing."""

    file: OpenFile
    abi: Abi
    header: Ehdr
    phdrs: list[Phdr]
    interpreter: bytes | None
    exec_stack: bool | None

    @property
    def is_dyn(self) -> bool:
        """Position independent."""
        return self.header.e_type == ET_DYN

    @property
    def loads(self) -> list[Phdr]:
        """The PT_LOAD segments, in the file's order."""
        return [phdr for phdr in self.phdrs if phdr.p_type == PT_LOAD]


def _bad(why: str) -> LinuxError:
    return LinuxError(Errno.ENOEXEC, why)


def read_elf(file: OpenFile, head: bytes) -> ElfFile:
    """The headers of *file*, which begins with *head*.

    Errors:
        ENOEXEC: not an ELF file we can run; the text says what is wrong with it.
        EIO: it ends before its headers do.
    """
    if head[:4] != ELFMAG:
        raise _bad("not an ELF file")
    abi = _abi_of(head)
    if len(head) < ehdr_size(abi):
        raise _bad("truncated in the ELF header")
    header = unpack_ehdr(abi, head)
    if header.e_type not in {ET_EXEC, ET_DYN}:
        raise _bad(f"ELF type {header.e_type} is not executable")
    size = header.e_phnum * phdr_size(abi)
    if header.e_phentsize != phdr_size(abi):
        raise _bad(f"program headers of {header.e_phentsize} bytes")
    if not 0 < size <= _PHDRS_MAX:
        raise _bad(f"{header.e_phnum} program headers")
    data = file.pread(size, header.e_phoff) if header.e_phoff < 1 << 63 else b""
    if len(data) != size:
        raise _bad("truncated in the program headers")
    phdrs = unpack_phdrs(abi, data)
    interpreter, exec_stack = None, None
    for phdr in phdrs:
        if phdr.p_type == PT_INTERP and interpreter is None:
            interpreter = _read_interpreter(file, phdr)
        elif phdr.p_type == PT_GNU_STACK:
            exec_stack = bool(phdr.p_flags & PF_X)
    elf = ElfFile(file, abi, header, phdrs, interpreter, exec_stack)
    _check_loads(elf)
    return elf


def _abi_of(head: bytes) -> Abi:
    if len(head) < 20:
        raise _bad("truncated in the ELF header")
    machine = int.from_bytes(head[18:20], "little")
    abi = _MACHINES.get(machine)
    if abi is None:
        raise _bad(f"an ELF file for another machine (e_machine {machine})")
    return abi  # class and byte order in e_ident are not looked at: neither does Linux


def _read_interpreter(file: OpenFile, phdr: Phdr) -> bytes:
    if not 2 <= phdr.p_filesz <= _PATH_MAX:
        raise _bad(f"an interpreter name of {phdr.p_filesz} bytes")
    name = file.pread(phdr.p_filesz, phdr.p_offset) if phdr.p_offset < 1 << 63 else b""
    if len(name) != phdr.p_filesz:
        raise _bad("truncated in the interpreter's name")
    if name[-1]:
        raise _bad("an interpreter name without an end")
    return name.split(b"\0", 1)[0]


def _check_loads(elf: ElfFile) -> None:
    """What load_elf_binary finds out while it maps: sizes that wrap, segments that lie outside user space."""
    loads = elf.loads
    if not loads:
        raise _bad("no segment to load")
    for phdr in loads:
        if phdr.p_filesz > phdr.p_memsz:
            raise _bad(f"a segment with {phdr.p_filesz:#x} bytes in the file and {phdr.p_memsz:#x} in memory")
        if phdr.p_memsz > elf.abi.task_size or phdr.p_vaddr > elf.abi.task_size - phdr.p_memsz:
            raise _bad(f"a segment at {phdr.p_vaddr:#x} of {phdr.p_memsz:#x} bytes lies outside user space")
        if phdr.p_filesz and (phdr.p_vaddr - phdr.p_offset) & PAGE_MASK:
            raise _bad(f"a segment at {phdr.p_vaddr:#x} whose file offset {phdr.p_offset:#x} is not congruent")
