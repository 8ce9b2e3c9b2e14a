"""Names and source lines for a program's addresses.  The only file that imports elftools, and only when asked.

The files are the guest's, so they may be damaged or made to hurt: whatever is wrong with one, the answer is None.
Symbols come from .symtab, or from .dynsym in a stripped file; lines from .debug_line.
"""

import io
import struct
import zlib
from bisect import bisect_right
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from emu.x86 import PAGE_MASK, PAGE_SHIFT, Pfn
from minikernel.abi.elf import ELFMAG, PF_X
from minikernel.mm.vma import VM_EXEC
from minikernel.report.lines import LineTable, SourceLine, line_table
from minikernel.report.peek import FileBytes

if TYPE_CHECKING:
    from minikernel.abi.abi import Abi
    from minikernel.mm.filemap import PageCache
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma
    from minikernel.task.vdso import Vdso

_MIN_ELF: Final = 52  # bytes of the smaller file header
_MAX_SECTION: Final = 64 << 20  # bytes: what a section may grow to when it is decompressed
_MAX_LINES: Final = 4 << 20  # bytes of .debug_line that we take the time to decode
_MAX_SEGMENTS: Final = 1024
_SYM: Final = {64: struct.Struct("<IBBHQQ"), 32: struct.Struct("<IIIBBH")}
_NAMING_TYPES: Final = frozenset({0, 1, 2, 10})  # NOTYPE, OBJECT, FUNC, GNU_IFUNC
_SHF_ALLOC: Final = 0x2
_SHF_TLS: Final = 0x400
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
class Found:
    """What a file says about an address."""

    vma: "Vma"  # a mapping of the file; for .bss the one below
    vaddr: int  # the address as the file counts: what nm and objdump show
    section: str  # ".text"; "" where there is none
    symbol: Symbol | None  # the function or variable that contains the address
    _image: "_Image | None"

    @property
    def line(self) -> SourceLine | None:
        """The source line of the instruction there."""
        return self._image.line(self.vaddr) if self._image is not None else None

    @property
    def size(self) -> int:
        """Bytes of the function or variable; 0 where the file does not say."""
        return self._image.symbol_size(self.vaddr) if self._image is not None else 0


@dataclass(frozen=True, slots=True)
class _Segment:
    """A PT_LOAD program header."""

    offset: int
    vaddr: int
    filesz: int
    memsz: int
    executable: bool


class Symbols:
    """Answers for every address space of one machine; each file is read once."""

    def __init__(self, vdso: "Mapping[Abi, tuple[Vdso, Pfn]] | None" = None) -> None:
        self._images: dict[PageCache, _Image] = {}
        self._vdso = {pfn: image for image, pfn in (vdso or {}).values()}

    def find(self, mm: "MmStruct", address: int) -> "Found | None":
        """What the file behind *address* says about it; None where there is no file, or none that says anything."""
        vma = mm.vmas.find(address)
        if vma is None:
            return None
        if vma.special is not None:
            vdso = self._vdso.get(vma.special.pages[0])
            symbol = _nearest(vdso.symbols, address - vma.start) if vdso is not None else None
            return Found(vma, address - vma.start, "", symbol, None)
        if vma.mapping is not None:
            image = self._image(vma.mapping)
            vaddr = image.vaddr(vma, address)
            return Found(vma, vaddr, image.section(vaddr), image.symbol(vaddr), image) if vaddr is not None else None
        return self._find_bss(mm, vma, address)

    def addresses(self, mm: "MmStruct", name: str) -> list[int]:
        """Where *name* is in *mm*: the program's own first, then in the order of addresses; [] for nowhere."""
        return [
            bias + value
            for image, bias in self._loaded_images(mm)
            for value in image.values(name)
            if mm.vmas.find(bias + value) is not None
        ]

    def line_addresses(self, mm: "MmStruct", file: str, line: int) -> list[int]:
        """Where the code of *line* of *file* (without its directory) begins in *mm*."""
        return [bias + value for image, bias in self._loaded_images(mm) for value in image.line_addresses(file, line)]

    def names(self, mm: "MmStruct") -> set[str]:
        """Every name that ``addresses`` knows."""
        return {name for image, _ in self._loaded_images(mm) for name in image.names}

    def _loaded_images(self, mm: "MmStruct") -> "list[tuple[_Image, int]]":
        """The files with code in *mm*, the program before libraries, and what to add to their own addresses.

        Their code tells where they are: a page of data may show in two mappings.
        """
        exe = mm.exe_file.mapping if mm.exe_file is not None else None
        mapped = [(vma, vma.mapping) for vma in mm.vmas.items if vma.mapping is not None and vma.flags & VM_EXEC]
        mapped.sort(key=lambda pair: pair[1] is not exe)
        found: dict[_Image, int] = {}
        for vma, mapping in mapped:
            image = self._image(mapping)
            start = image.vaddr(vma, vma.start)
            if start is not None:
                found.setdefault(image, vma.start - start)
        return list(found.items())

    def _find_bss(self, mm: "MmStruct", vma: "Vma", address: int) -> "Found | None":
        """Anonymous memory right behind a file's mapping may be the rest of a segment: .bss."""
        at = mm.vmas.index_of(vma)
        if not at or mm.vmas.items[at - 1].end != vma.start:
            return None
        below = mm.vmas.items[at - 1]
        if below.mapping is None:
            return None
        image = self._image(below.mapping)
        last = image.vaddr(below, below.end - 1)
        if last is None:
            return None
        vaddr = last + 1 + address - below.end
        if not image.in_bss(vaddr):
            return None
        return Found(below, vaddr, image.section(vaddr), image.symbol(vaddr), image)

    def _image(self, cache: "PageCache") -> "_Image":
        image = self._images.get(cache)
        if image is None:
            image = self._images[cache] = _Image(cache)
        return image


class _Image:
    """What one file says about addresses, which count from its own zero (p_vaddr, st_value)."""

    def __init__(self, cache: "PageCache") -> None:
        self._segments: list[_Segment] = []
        self._starts: list[int] = []
        self._symbols: list[tuple[int, int, str]] = []  # (value, size, name)
        self._sections: list[tuple[int, int, str]] = []  # (address, size, name)
        self._lines: LineTable | None = None
        self._elf: Any = None
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
        return [name for _, _, name in self._symbols]

    def values(self, name: str) -> list[int]:
        """The addresses, as the file counts, of the symbols called *name*."""
        return [value for value, _, other in self._symbols if other == name]

    def line_addresses(self, file: str, line: int) -> list[int]:
        """The first instruction, as the file counts, of every stretch of code that *line* of *file* became."""
        self.line(0)
        assert self._lines is not None, "_Image.line_addresses: line() has read them"
        return self._lines.addresses(file, line)

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
        if self._lines is None:
            self._lines = LineTable([])
            if self._elf is not None:
                with suppress(*_damage()):
                    self._lines = self._read_lines(self._elf)
        return self._lines.find(vaddr)

    def _read_lines(self, elf: Any) -> LineTable:
        program = self._section(elf.get_section_by_name(".debug_line"), _MAX_LINES)
        if not program:
            return LineTable([])
        line_str = self._section(elf.get_section_by_name(".debug_line_str"))
        return line_table(program, line_str, self._section(elf.get_section_by_name(".debug_str")))


def _nearest(symbols: Mapping[str, int], offset: int) -> Symbol | None:
    """The last of *symbols* (name -> offset) at or before *offset*."""
    before = [(value, name) for name, value in symbols.items() if value <= offset]
    if not before:
        return None
    value, name = max(before)
    return Symbol(name, offset - value)


def _damage() -> tuple[type[Exception], ...]:
    """What elftools raises when a file is not what it says it is: its own errors, and those it does not foresee."""
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError

    return (
        *(ELFError, ConstructError, struct.error, zlib.error, OSError, EOFError, MemoryError, RecursionError),
        *(ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError),
    )
