"""Small ELF programs made by hand, and a machine to execute them on."""

import struct
from pathlib import Path
from typing import Final

from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.elf import ELFMAG, ET_DYN, ET_EXEC, PF_R, PF_W, PF_X, PT_LOAD, Ehdr, Phdr, ehdr_size, phdr_size
from minikernel.boot import System
from minikernel.config import Config
from minikernel.mm.filemap import PageCache
from minikernel.mm.validate import validate_node

EXIT: Final = {
    X86_64: b"\xb8\x3c\x00\x00\x00\x31\xff\x0f\x05",  # mov eax, 60; xor edi, edi; syscall
    I386: b"\xb8\x01\x00\x00\x00\x31\xdb\xcd\x80",  # mov eax, 1; xor ebx, ebx; int 0x80
}
BASE: Final = {X86_64: 0x40_0000, I386: 0x0804_8000}


def program(
    abi: Abi, code: bytes | None = None, *, dyn: bool = False, bss: int = 10_000, data: bytes = b"data"
) -> bytes:
    """An ELF file with headers, a text segment and a data segment with *bss* bytes of zeroes behind it."""
    code = EXIT[abi] if code is None else code
    base = 0 if dyn else BASE[abi]
    phdrs = (
        Phdr(PT_LOAD, PF_R, 0, base, base, 0x200, 0x200, 0x1000),
        Phdr(PT_LOAD, PF_R | PF_X, 0x1000, base + 0x1000, base + 0x1000, len(code), len(code), 0x1000),
        Phdr(PT_LOAD, PF_R | PF_W, 0x2000, base + 0x2000, base + 0x2000, len(data), len(data) + bss, 0x1000),
        Phdr(0x6474_E551, PF_R | PF_W, 0, 0, 0, 0, 0, 16),  # PT_GNU_STACK
    )
    header = Ehdr(
        ELFMAG + bytes((abi.elf_class, 1, 1)) + bytes(9),
        ET_DYN if dyn else ET_EXEC,
        abi.elf_machine,
        1,
        base + 0x1000,
        ehdr_size(abi),
        0,
        0,
        ehdr_size(abi),
        phdr_size(abi),
        len(phdrs),
        0,
        0,
        0,
    )
    image = header.pack(abi) + b"".join(phdr.pack(abi) for phdr in phdrs)
    return image.ljust(0x1000, b"\0") + code.ljust(0x1000, b"\0") + data


def all_programs() -> list[bytes]:
    """One of each kind."""
    return [program(abi, dyn=dyn) for abi in (X86_64, I386) for dyn in (False, True)]


class Machine:
    """A booted system over the host directory *root*, whose first task has a program."""

    def __init__(
        self, root: Path, *, cpu: str = "x86-64", ram: int = 32 << 20, seed: int = 0, aslr: bool = False
    ) -> None:
        self.root = root
        self.write("init", program(I386))
        config = Config(argv=(b"/init",), root=bytes(root), ram=ram, cpu=cpu, seed=seed, aslr=aslr)
        self.system = System(config)
        self.kernel = self.system.kernel
        self.system.exec_init()
        task = self.kernel.init
        assert task is not None
        self.task = task

    def write(self, name: str, data: bytes) -> bytes:
        """Put an executable file into the guest's root directory; its path there."""
        path = self.root / name
        path.write_bytes(data)
        path.chmod(0o755)
        return b"/" + name.encode()

    def validate(self) -> None:
        """The books of the machine: every frame's references are known."""
        node = self.kernel.node
        caches = {id(owner): owner for owner in node.mem_map.owner if isinstance(owner, PageCache)}
        validate_node(node, self.kernel.address_spaces(), caches.values())

    def close(self) -> None:
        """Give the host back what was borrowed."""
        self.kernel.cpu.close()
        self.kernel.vfs.shutdown()


def words(data: bytes, abi: Abi) -> list[int]:
    """*data* as unsigned longs."""
    return [value for (value,) in struct.iter_unpack("<Q" if abi.word == 8 else "<I", data)]
