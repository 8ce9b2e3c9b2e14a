"""One ELF file of the guest: its segments, symbols, lines and call frames.  The only file that imports elftools.

The files are the guest's, so they may be damaged or made to hurt: whatever is wrong with one, the answer is None.
Symbols come from .symtab, or from .dynsym in a stripped file; lines from .debug_line.
"""

import io
import struct
import zlib
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from emu.x86 import PAGE_MASK, PAGE_SHIFT
from minikernel.abi.elf import ELFMAG, PF_X
from minikernel.mm.vma import VM_EXEC
from minikernel.report.dwarf.cfi import Blob, CallFrames
from minikernel.report.dwarf.lines import LineTable, SourceLine, line_table
from minikernel.report.dwarf.program import Program
from minikernel.report.peek import FileBytes

if TYPE_CHECKING:
    from minikernel.mm.filemap import PageCache
    from minikernel.mm.vma import Vma

_MIN_ELF: Final = 52  # bytes of the smaller file header
_MAX_SECTION: Final = 64 << 20  # bytes: what a section may grow to when it is decompressed
_MAX_LINES: Final = 4 << 20  # bytes of .debug_line that we take the time to decode
_MAX_SEGMENTS: Final = 1024
_SYM: Final = {64: struct.Struct("<IBBHQQ"), 32: struct.Struct("<IIIBBH")}
_NAMING_TYPES: Final = frozenset({0, 1, 2, 10})  # NOTYPE, OBJECT, FUNC, GNU_IFUNC
_SHF_ALLOC: Final = 0x2
_SHF_TLS: Final = 0x400
_GLOB_DAT, _JUMP_SLOT = 6, 7  # relocation types of both architectures
_SHN_UNDEF: Final = 0
_SHN_LORESERVE: Final = 0xFF00
_MAX_GAP: Final = 1 << 16  # a symbol without a size does not name what lies further behind it


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name, and how far behind it an address lies in bytes."""

    name: str
    offset: int

    def __str__(self) -> str:
        return f"{self.name}+{self.offset:#x}" if self.offset else self.name


@dataclass(frozen=True, slots=True)
class _Segment:
    """A PT_LOAD program header."""

    offset: int
    vaddr: int
    filesz: int
    memsz: int
    executable: bool


class Image:
    """What one file says about addresses, which count from its own zero (p_vaddr, st_value)."""

    def __init__(self, cache: "PageCache") -> None:
        self._segments: list[_Segment] = []
        self._starts: list[int] = []
        self._by_name: dict[str, list[int]] = {}  # aliases have one place
        self._symbols: list[tuple[int, int, str]] = []  # (value, size, name)
        self._sections: list[tuple[int, int, str]] = []  # (address, size, name)
        self._lines: LineTable | None = None
        self._frames: CallFrames | None = None
        self._program: Program | None = None
        self._slots: dict[int, str] | None = None
        self._numbered: list[str] = []
        self._elf: Any = None
        self.word = 8  # bytes of an address
        self.cache = cache
        self.tls_size = 0  # bytes of its thread-local variables, as they lie below the thread pointer
        self._size = cache.size
        with suppress(OSError):
            if cache.size >= _MIN_ELF and FileBytes(cache).read(len(ELFMAG)) == ELFMAG:
                self._open(cache)

    def _open(self, cache: "PageCache") -> None:
        from elftools.elf.elffile import ELFFile

        with suppress(*_damage()):
            elf: Any = ELFFile(io.BufferedReader(FileBytes(cache), 1 << 16))
            self._segments = [
                _Segment(s["p_offset"], s["p_vaddr"], s["p_filesz"], s["p_memsz"], bool(s["p_flags"] & PF_X))
                for _, s in zip(range(_MAX_SEGMENTS), elf.iter_segments(type="PT_LOAD"), strict=False)
            ]
            self._elf = elf
            self.word = elf.elfclass // 8
            for segment in elf.iter_segments(type="PT_TLS"):
                align = max(segment["p_align"], 1)
                self.tls_size = -(-segment["p_memsz"] // align) * align
            self._sections = [
                (section["sh_addr"], section["sh_size"], section.name)
                for section in elf.iter_sections()
                if section["sh_flags"] & _SHF_ALLOC and not section["sh_flags"] & _SHF_TLS
            ]
            self._read_symbols(elf)

    def _section(self, section: Any, limit: int = _MAX_SECTION) -> bytes:
        """The contents of *section*; nothing if it claims to be larger than can be."""
        if section is None or section["sh_type"] == "SHT_NOBITS":
            return b""
        if section["sh_size"] > self._size or section.data_size > limit:
            return b""
        data: bytes = section.data()
        return data

    def _read_symbols(self, elf: Any) -> None:
        """Fill the table with the names that address a place in memory; of several for one place, the best."""
        tables = {section["sh_type"]: section for section in elf.iter_sections()}
        table = tables.get("SHT_SYMTAB") or tables.get("SHT_DYNSYM")
        if table is None:
            return
        names = self._section(elf.get_section(table["sh_link"]))
        record = _SYM[elf.elfclass]
        data = self._section(table)
        best: dict[int, tuple[tuple[bool, bool, int, str], int]] = {}
        for fields in record.iter_unpack(data[: len(data) - len(data) % record.size]):
            if elf.elfclass == 64:
                at_name, info, _, section, value, size = fields
            else:
                at_name, value, size, info, _, section = fields
            if info & 0xF not in _NAMING_TYPES or section == _SHN_UNDEF or section >= _SHN_LORESERVE:
                continue
            end = names.find(b"\0", at_name)
            name = names[at_name:end].decode(errors="backslashreplace") if end > at_name else ""
            if not name or name.startswith(".L"):
                continue  # a label that the assembler should have kept for itself
            places = self._by_name.setdefault(name, [])
            if value not in places:
                places.append(value)
            rank = (info & 0xF == 0, size == 0, len(name) - len(name.lstrip("_")), name)
            if value not in best or rank < best[value][0]:
                best[value] = rank, size
        self._starts = sorted(best)
        self._symbols = [(value, best[value][1], best[value][0][3]) for value in self._starts]

    def vaddr(self, vma: "Vma", address: int) -> int | None:
        """The file's own address for *address*, which lies in the mapping *vma* of it."""
        offset = (vma.pgoff << PAGE_SHIFT) + address - vma.start
        executable = bool(vma.flags & VM_EXEC)
        found: tuple[tuple[bool, bool], int] | None = None
        for segment in self._segments:
            # The kernel maps whole pages: those at the ends show the neighbours' bytes as well.
            if not segment.offset & ~PAGE_MASK <= offset < (segment.offset + segment.filesz + PAGE_MASK) & ~PAGE_MASK:
                continue
            exact = segment.offset <= offset < segment.offset + segment.filesz
            rank = segment.executable == executable, exact
            if found is None or rank > found[0]:
                found = rank, segment.vaddr + offset - segment.offset
        return found[1] if found is not None else None

    @property
    def names(self) -> list[str]:
        """The names of all symbols."""
        return list(self._by_name)

    def values(self, name: str) -> list[int]:
        """The addresses, as the file counts, of the symbols called *name*."""
        return self._by_name.get(name, [])

    def line_addresses(self, file: str, line: int) -> list[int]:
        """The first instruction, as the file counts, of every stretch of code that *line* of *file* became."""
        return self.lines.addresses(file, line)

    def in_file(self) -> list[tuple[int, int, str]]:
        """(offset in the file, bytes, name) of the symbols that are in the file, by offset."""
        return sorted(
            (value - segment.vaddr + segment.offset, size, name)
            for value, size, name in self._symbols
            for segment in self._segments
            if segment.vaddr <= value < segment.vaddr + segment.filesz
        )

    def in_bss(self, vaddr: int) -> bool:
        """Whether *vaddr* lies in a segment's memory behind its part of the file."""
        return any(s.vaddr + s.filesz <= vaddr < s.vaddr + s.memsz for s in self._segments)

    def symbol(self, vaddr: int) -> Symbol | None:
        """The symbol that contains *vaddr*."""
        at = bisect_right(self._starts, vaddr) - 1
        if at < 0:
            return None
        value, size, name = self._symbols[at]
        return Symbol(name, vaddr - value) if vaddr - value < (size or _MAX_GAP) else None

    def symbol_size(self, vaddr: int) -> int:
        """Bytes of the symbol that contains *vaddr*; 0: not said."""
        at = bisect_right(self._starts, vaddr) - 1
        return self._symbols[at][1] if at >= 0 else 0

    def section(self, vaddr: int) -> str:
        """The section that contains *vaddr*."""
        return next((name for start, size, name in self._sections if start <= vaddr < start + size), "")

    def line(self, vaddr: int) -> SourceLine | None:
        """The source line of *vaddr*."""
        return self.lines.find(vaddr)

    @property
    def lines(self) -> LineTable:
        """Its line numbers; empty where it has none."""
        if self._lines is None:
            self._lines = LineTable([])
            if self._elf is not None:
                with suppress(*_damage()):
                    self._lines = self._read_lines(self._elf)
        return self._lines

    @property
    def slots(self) -> dict[int, str]:
        """The words that the dynamic linker fills with addresses of functions: where, and of which."""
        if self._slots is None:
            self._slots = {}
            with suppress(*_damage()):
                self._read_slots(self._elf)
        return self._slots

    @property
    def slots_in_order(self) -> list[str]:
        """The functions that are called through the PLT, by the numbers that its stubs push."""
        assert self.slots is not None, "Image.slots_in_order: they are read"
        return self._numbered

    def _read_slots(self, elf: Any) -> None:
        from elftools.elf.relocation import RelocationSection

        for section in elf.iter_sections() if elf is not None else ():
            if not isinstance(section, RelocationSection) or section["sh_size"] > self._size:
                continue
            symbols = elf.get_section(section["sh_link"])
            for relocation in section.iter_relocations():
                if relocation["r_info_type"] in {_GLOB_DAT, _JUMP_SLOT}:
                    name = symbols.get_symbol(relocation["r_info_sym"]).name
                    assert self._slots is not None, "Image._read_slots: the table is there"
                    self._slots[relocation["r_offset"]] = name
                    if relocation["r_info_type"] == _JUMP_SLOT:
                        self._numbered.append(name)

    def is_code(self, vaddr: int) -> bool:
        """Whether *vaddr* lies in a segment that is executed."""
        return any(s.executable and s.vaddr <= vaddr < s.vaddr + s.memsz for s in self._segments)

    @property
    def program(self) -> Program:
        """What it says about functions, variables and types; empty where it says nothing."""
        if self._program is None:
            self._program = Program(self.contents, self.word)
        return self._program

    @property
    def frames(self) -> CallFrames:
        """Its call-frame information; empty where it has none."""
        if self._frames is None:
            self._frames = CallFrames(self.word, Blob(0, b""), Blob(0, b""), b"")
            with suppress(*_damage()):
                self._frames = self._read_frames()
        return self._frames

    def _read_frames(self) -> CallFrames:
        eh_frame, header = self._blob(".eh_frame"), self._blob(".eh_frame_hdr")
        return CallFrames(self.word, eh_frame, header, self.contents(".debug_frame"))

    def contents(self, name: str) -> bytes:
        """What the section *name* contains, decompressed; nothing where there is none, or none that can be."""
        with suppress(*_damage()):
            return self._section(self._elf.get_section_by_name(name)) if self._elf is not None else b""
        return b""

    def _blob(self, name: str) -> Blob:
        section = self._elf.get_section_by_name(name) if self._elf is not None else None
        return Blob(section["sh_addr"], self._section(section)) if section is not None else Blob(0, b"")

    def _read_lines(self, elf: Any) -> LineTable:
        program = self._section(elf.get_section_by_name(".debug_line"), _MAX_LINES)
        if not program:
            return LineTable([])
        line_str = self._section(elf.get_section_by_name(".debug_line_str"))
        strings = self._section(elf.get_section_by_name(".debug_str"))
        return line_table(program, line_str, strings, self.program.directories())


def _damage() -> tuple[type[Exception], ...]:
    """What elftools raises when a file is not what it says it is: its own errors, and those it does not foresee."""
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError

    return (
        *(ELFError, ConstructError, struct.error, zlib.error, OSError, EOFError, MemoryError, RecursionError),
        *(ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError),
    )
