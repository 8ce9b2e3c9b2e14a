"""The vDSO: a small ELF object that the kernel maps into every process.

It holds what user space expects to call or return to there: signal trampolines and the system call entry on i386, the
clock functions on x86-64.  The functions are plain system calls: in an emulator a call is the cheaper way.

Linux: arch/x86/entry/vdso (vdso32/system_call.S, sigreturn.S; vclock_gettime.c, vgetcpu.c).
"""

from collections.abc import Mapping
from struct import Struct
from typing import Final

from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.elf import (
    ELFDATA2LSB,
    ELFMAG,
    ET_DYN,
    PF_R,
    PF_X,
    PT_DYNAMIC,
    PT_GNU_EH_FRAME,
    PT_LOAD,
    Ehdr,
    Phdr,
    ehdr_size,
    phdr_size,
)
from minikernel.task.vdso_frames import eh_frame

_DT_HASH: Final = 4
_DT_STRTAB: Final = 5
_DT_SYMTAB: Final = 6
_DT_STRSZ: Final = 10
_DT_SYMENT: Final = 11
_DT_SONAME: Final = 14
_STB_GLOBAL_FUNC: Final = 1 << 4 | 2
_CODE_ALIGN: Final = 16


def _call64(number: int) -> bytes:
    """Mov eax, number; syscall; ret."""
    return b"\xb8" + number.to_bytes(4, "little") + b"\x0f\x05\xc3"


def _call32(number: int, arguments: int) -> bytes:
    """Push ebx; load ebx, ecx from the stack; mov eax, number; int 0x80; pop ebx; ret."""
    loads = (b"\x8b\x5c\x24\x08", b"\x8b\x4c\x24\x0c", b"\x8b\x54\x24\x10")
    body = b"".join(loads[:arguments])
    return b"\x53" + body + b"\xb8" + number.to_bytes(4, "little") + b"\xcd\x80\x5b\xc3"


# __kernel_vsyscall: push ecx; push edx; push ebp; mov ebp, esp; sysenter; int 0x80;
# the landing: pop ebp; pop edx; pop ecx; ret
_VSYSCALL: Final = bytes.fromhex("51 52 55 89e5 0f34 cd80 5d 5a 59 c3")
SYSENTER_RETURN: Final = 9  # offset of the landing behind __kernel_vsyscall

_FUNCTIONS: Final[Mapping[Abi, tuple[tuple[str, bytes], ...]]] = {
    X86_64: (
        ("__vdso_clock_gettime", _call64(228)),
        ("__vdso_gettimeofday", _call64(96)),
        ("__vdso_time", _call64(201)),
        ("__vdso_getcpu", _call64(309)),
        ("__vdso_clock_getres", _call64(229)),
        ("clock_gettime", _call64(228)),
        ("gettimeofday", _call64(96)),
        ("time", _call64(201)),
        ("getcpu", _call64(309)),
        ("clock_getres", _call64(229)),
    ),
    I386: (
        ("__kernel_vsyscall", _VSYSCALL),
        ("__kernel_sigreturn", bytes.fromhex("58 b877000000 cd80")),
        ("__kernel_rt_sigreturn", bytes.fromhex("b8ad000000 cd80")),
        ("__vdso_clock_gettime", _call32(265, 2)),
        ("__vdso_gettimeofday", _call32(78, 2)),
        ("__vdso_time", _call32(13, 1)),
        ("__vdso_clock_getres", _call32(266, 2)),
        ("__vdso_clock_gettime64", _call32(403, 2)),
        ("__vdso_getcpu", _call32(318, 2)),
    ),
}
_SONAME: Final = {X86_64: "linux-vdso.so.1", I386: "linux-gate.so.1"}
_SHT_PROGBITS: Final = 1
_SHT_STRTAB: Final = 3
_SHT_HASH: Final = 5
_SHT_DYNAMIC: Final = 6
_SHT_DYNSYM: Final = 11
_SHF_ALLOC: Final = 2
_SHF_EXECINSTR: Final = 4
_SHDR: Final = {8: Struct("<IIQQQQIIQQ"), 4: Struct("<10I")}
_SYM: Final = {8: Struct("<IBBHQQ"), 4: Struct("<IIIBBH")}


class Vdso:
    """The object's bytes (at most a page) and where its symbols and call frames are, as offsets from its start."""

    __slots__ = ("abi", "eh_frame", "eh_frame_hdr", "image", "symbols")

    def __init__(self, abi: Abi) -> None:
        self.abi = abi
        self.symbols: dict[str, int] = {}
        self.image = self._build()

    def _build(self) -> bytes:
        abi = self.abi
        word = abi.word
        functions = _FUNCTIONS[abi]
        names = b"\0" + b"".join(name.encode() + b"\0" for name, _ in functions) + _SONAME[abi].encode() + b"\0"
        nr_symbols = len(functions) + 1
        at_dynamic = ehdr_size(abi) + 3 * phdr_size(abi)
        at_symtab = at_dynamic + 7 * 2 * word
        at_hash = at_symtab + nr_symbols * _SYM[word].size
        at_strtab = at_hash + 4 * (2 + 1 + nr_symbols)
        at_code = -(-(at_strtab + len(names)) // _CODE_ALIGN) * _CODE_ALIGN
        sizes: dict[str, tuple[int, int]] = {}
        code, symtab, at_name = b"", self._symbol(0, 0, 0, defined=False), 1
        for name, body in functions:
            offset = at_code + len(code)
            self.symbols[name] = offset
            sizes[name] = offset, len(body)
            symtab += self._symbol(at_name, offset, len(body), defined=True)
            at_name += len(name) + 1
            code += body.ljust(-(-len(body) // _CODE_ALIGN) * _CODE_ALIGN, b"\x90")
        # One bucket, and the symbols chained in their order: every look-up compares all names.
        chain = (*range(2, nr_symbols), 0)
        table = Struct(f"<{3 + nr_symbols}I").pack(1, nr_symbols, 1, 0, *chain)
        dynamic = abi.pack_words(
            *(_DT_SONAME, at_name, _DT_HASH, at_hash, _DT_STRTAB, at_strtab, _DT_SYMTAB, at_symtab),
            *(_DT_STRSZ, len(names), _DT_SYMENT, _SYM[word].size, 0, 0),
        )
        self.eh_frame_hdr = at_code + len(code)
        frames, header_size = eh_frame(abi, sizes, self.eh_frame_hdr)
        self.eh_frame = self.eh_frame_hdr + header_size
        end = self.eh_frame_hdr + len(frames)
        # Debuggers find names and frames through sections only.
        heading = (
            (".text", _SHT_PROGBITS, _SHF_ALLOC | _SHF_EXECINSTR, at_code, self.eh_frame_hdr, 0),
            (".dynamic", _SHT_DYNAMIC, _SHF_ALLOC, at_dynamic, at_symtab, 5),
            (".dynsym", _SHT_DYNSYM, _SHF_ALLOC, at_symtab, at_hash, 5),
            (".hash", _SHT_HASH, _SHF_ALLOC, at_hash, at_strtab, 3),
            (".dynstr", _SHT_STRTAB, _SHF_ALLOC, at_strtab, at_strtab + len(names), 0),
            (".eh_frame_hdr", _SHT_PROGBITS, _SHF_ALLOC, self.eh_frame_hdr, self.eh_frame, 0),
            (".eh_frame", _SHT_PROGBITS, _SHF_ALLOC, self.eh_frame, end, 0),
        )
        tail, at_sections = self._sections(heading, end)
        size = end + len(tail)
        ident = ELFMAG + bytes((abi.elf_class, ELFDATA2LSB, 1)) + bytes(9)
        header = Ehdr(
            ident, ET_DYN, abi.elf_machine, 1, at_code, ehdr_size(abi), at_sections, 0, ehdr_size(abi), phdr_size(abi),
            3, _SHDR[word].size, len(heading) + 2, len(heading) + 1,
        )  # fmt: skip
        load = Phdr(PT_LOAD, PF_R | PF_X, 0, 0, 0, size, size, 4096)
        dyn = Phdr(PT_DYNAMIC, PF_R, at_dynamic, at_dynamic, at_dynamic, len(dynamic), len(dynamic), word)
        at = self.eh_frame_hdr
        unwinding = Phdr(PT_GNU_EH_FRAME, PF_R, at, at, at, header_size, header_size, 4)
        heads = header.pack(abi) + load.pack(abi) + dyn.pack(abi) + unwinding.pack(abi)
        return (heads + dynamic + symtab + table + names).ljust(at_code, b"\0") + code + frames + tail

    def _sections(self, heading: tuple[tuple[str, int, int, int, int, int], ...], at: int) -> tuple[bytes, int]:
        """Section names and headers, which begin at *at*, and where the headers are.

        *heading*: name, type, flags, start, end and link of each; the names' own section follows them.
        """
        words = b"\0" + b"".join(name.encode() + b"\0" for name, *_ in heading) + b".shstrtab\0"
        pack, entry = (
            _SHDR[self.abi.word].pack,
            {_SHT_DYNSYM: _SYM[self.abi.word].size, _SHT_DYNAMIC: 2 * self.abi.word},
        )
        rows, at_name = pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 1
        for name, kind, flags, start, end, link in heading:
            info = int(kind == _SHT_DYNSYM)  # the first global symbol
            rows += pack(at_name, kind, flags, start, start, end - start, link, info, 4, entry.get(kind, 0))
            at_name += len(name) + 1
        rows += pack(at_name, _SHT_STRTAB, 0, 0, at, len(words), 0, 0, 1, 0)
        padding = -(at + len(words)) % 8
        return words + bytes(padding) + rows, at + len(words) + padding

    def _symbol(self, name: int, value: int, size: int, *, defined: bool) -> bytes:
        info, section = (_STB_GLOBAL_FUNC, 1) if defined else (0, 0)
        if self.abi.word == 8:
            return _SYM[8].pack(name, info, 0, section, value, size)
        return _SYM[4].pack(name, value, size, info, 0, section)
