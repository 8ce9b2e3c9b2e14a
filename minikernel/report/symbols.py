"""Names, source lines and call frames for a program's addresses, whatever files it has mapped; see image.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.x86 import Pfn
from minikernel.mm.vma import VM_EXEC
from minikernel.report.dwarf.cfi import Blob, CallFrames
from minikernel.report.image import Image, Symbol

if TYPE_CHECKING:
    from minikernel.abi.abi import Abi
    from minikernel.mm.filemap import PageCache
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma
    from minikernel.report.dwarf.lines import SourceLine
    from minikernel.task.vdso import Vdso


@dataclass(frozen=True, slots=True)
class Found:
    """What a file says about an address."""

    vma: "Vma"  # a mapping of the file; for .bss the one below
    vaddr: int  # the address as the file counts: what nm and objdump show
    section: str  # ".text"; "" where there is none
    symbol: Symbol | None  # the function or variable that contains the address
    image: Image | None
    _vdso: CallFrames | None = None

    @property
    def frames(self) -> CallFrames | None:
        """The file's call-frame information."""
        return self.image.frames if self.image is not None else self._vdso

    @property
    def line(self) -> "SourceLine | None":
        """The source line of the instruction there."""
        return self.image.line(self.vaddr) if self.image is not None else None

    @property
    def size(self) -> int:
        """Bytes of the function or variable; 0 where the file does not say."""
        return self.image.symbol_size(self.vaddr) if self.image is not None else 0


class Symbols:
    """Answers for every address space of one machine; each file is read once."""

    def __init__(self, vdso: "Mapping[Abi, tuple[Vdso, Pfn]] | None" = None) -> None:
        self._images: dict[PageCache, Image] = {}
        self._vdso = {pfn: image for image, pfn in (vdso or {}).values()}
        self._vdso_frames = {pfn: _call_frames(image) for pfn, image in self._vdso.items()}

    def find(self, mm: "MmStruct", address: int) -> "Found | None":
        """What the file behind *address* says about it; None where there is no file, or none that says anything."""
        vma = mm.vmas.find(address)
        if vma is None:
            return None
        if vma.special is not None:
            vdso = self._vdso.get(vma.special.pages[0])
            symbol = _nearest(vdso.symbols, address - vma.start) if vdso is not None else None
            frames = self._vdso_frames.get(vma.special.pages[0])
            return Found(vma, address - vma.start, "", symbol, None, frames)
        if vma.mapping is not None:
            image = self._image(vma.mapping)
            vaddr = image.vaddr(vma, address)
            return Found(vma, vaddr, image.section(vaddr), image.symbol(vaddr), image) if vaddr is not None else None
        return self._find_bss(mm, vma, address)

    def addresses(self, mm: "MmStruct", name: str) -> list[int]:
        """Where *name* is in *mm*: the program's own first, then in the order of addresses; [] for nowhere."""
        return [
            bias + value
            for image, bias in self.images(mm)
            for value in image.values(name)
            if mm.vmas.find(bias + value) is not None
        ]

    def line_addresses(self, mm: "MmStruct", file: str, line: int) -> list[int]:
        """Where the code of *line* of *file* (without its directory) begins in *mm*."""
        return [bias + value for image, bias in self.images(mm) for value in image.line_addresses(file, line)]

    def names(self, mm: "MmStruct") -> set[str]:
        """Every name that ``addresses`` knows."""
        return {name for image, _ in self.images(mm) for name in image.names}

    def in_file(self, vma: "Vma") -> list[tuple[int, int, str]]:
        """The names in the file behind *vma*: (offset in the file, bytes, name) by offset; 0 bytes: not said."""
        if vma.special is not None:
            vdso = self._vdso.get(vma.special.pages[0])
            return sorted((offset, 0, name) for name, offset in vdso.symbols.items()) if vdso is not None else []
        return self._image(vma.mapping).in_file() if vma.mapping is not None else []

    def images(self, mm: "MmStruct") -> list[tuple[Image, int]]:
        """The files with code in *mm*, the program before libraries, and what to add to their own addresses.

        Their code tells where they are: a page of data may show in two mappings.
        """
        exe = mm.exe_file.mapping if mm.exe_file is not None else None
        mapped = [(vma, vma.mapping) for vma in mm.vmas.items if vma.mapping is not None and vma.flags & VM_EXEC]
        mapped.sort(key=lambda pair: pair[1] is not exe)
        found: dict[Image, int] = {}
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

    def _image(self, cache: "PageCache") -> "Image":
        image = self._images.get(cache)
        if image is None:
            image = self._images[cache] = Image(cache)
        return image


def _call_frames(vdso: "Vdso") -> CallFrames:
    image, header, at = vdso.image, vdso.eh_frame_hdr, vdso.eh_frame
    return CallFrames(vdso.abi.word, Blob(at, image[at:]), Blob(header, image[header:at]), b"")


def _nearest(symbols: Mapping[str, int], offset: int) -> Symbol | None:
    """The last of *symbols* (name -> offset) at or before *offset*."""
    before = [(value, name) for name, value in symbols.items() if value <= offset]
    if not before:
        return None
    value, name = max(before)
    return Symbol(name, offset - value)
