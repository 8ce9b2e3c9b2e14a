"""Reading a guest without touching it: no fault is taken, no page enters a cache, no accessed bit is set.

So a run that is explained goes exactly as one that is not.
"""

import io
from typing import TYPE_CHECKING, Final

from emu.paging import walk_steps
from emu.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, PTE_P, VirtAddr
from minikernel.abi.errno import LinuxError
from minikernel.mm.pgtable import pte_pfn

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from minikernel.mm.filemap import PageCache
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma

_ZEROES: Final = bytes(PAGE_SIZE)


def peek(mm: "MmStruct", address: int, size: int) -> bytes:
    """The bytes at *address*, whatever their rights, up to *size* or the first that no page could hold."""
    pieces = []
    end = min(address + size, mm.layout.task_size)
    while address < end:
        page = _page(mm, address)
        if page is None:
            break
        at = address & PAGE_MASK
        piece = page[at : at + end - address]
        pieces.append(piece)
        address += len(piece)
    return b"".join(pieces)


def peek_anywhere(mm: "MmStruct", address: int, size: int) -> bytes:
    """As ``peek``; of the kernel's half, which its tables map as well, what the CPU would read there in ring 0."""
    if address < mm.layout.task_size:
        return peek(mm, address, size)
    physmem, pgtable = mm.node.physmem, mm.pgtable
    pieces = []
    end = address + size
    while address < end:
        if not pgtable.mode.is_canonical(address):
            break
        steps = walk_steps(physmem, pgtable.mode, pgtable.root, VirtAddr(address))
        if not steps or not steps[-1].leaf:
            break
        within = address & ((1 << steps[-1].level.shift) - 1)
        part = min(end - address, (1 << steps[-1].level.shift) - within)
        start = steps[-1].page_address(pgtable.mode) + within
        piece = physmem.ram[start : min(start + part, physmem.size)]
        pieces.append(piece)
        address += len(piece)
        if len(piece) < part:
            break
    return b"".join(pieces)


def _page(mm: "MmStruct", address: int) -> bytes | None:
    """The page of *mm* that contains *address*, as the program would find it."""
    vma = mm.vmas.find(address)
    if vma is None:
        return None
    pte = mm.pgtable.get(address)
    if pte & PTE_P:
        phys = pte_pfn(pte) << PAGE_SHIFT
        return mm.ram[phys : phys + PAGE_SIZE]
    return None if pte else _absent_page(mm, vma, address)


def _absent_page(mm: "MmStruct", vma: "Vma", address: int) -> bytes | None:
    """What a fault at *address* would bring."""
    if vma.special is not None:
        phys = vma.special.pages[vma.index(address)] << PAGE_SHIFT
        return mm.ram[phys : phys + PAGE_SIZE]
    if vma.mapping is None:
        return _ZEROES
    index = vma.index(address)
    return file_page(vma.mapping, index) if index << PAGE_SHIFT < vma.mapping.size else None


def file_page(cache: "PageCache", index: int) -> bytes | None:
    """Page *index* of a file, from the cache or from behind it; None if it cannot be read."""
    pfn = cache.pages.get(index)
    if pfn is not None:
        phys = pfn << PAGE_SHIFT
        return cache.node.physmem.ram[phys : phys + PAGE_SIZE]
    limit = cache.backed - (index << PAGE_SHIFT)
    if cache.backing is None or limit <= 0:
        return _ZEROES
    try:
        return cache.backing.read_page(index)[:limit].ljust(PAGE_SIZE, b"\0")
    except LinuxError:
        return None


class FileBytes(io.RawIOBase):
    """A file of the guest as a binary stream, for libraries that want one."""

    def __init__(self, cache: "PageCache") -> None:
        super().__init__()
        self._cache = cache
        self._pos = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to *offset*, which may lie beyond the end; where that is."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._pos, io.SEEK_END: self._cache.size}[whence]
        if base + offset < 0:
            raise ValueError(f"FileBytes.seek: {base + offset} is before the start")
        self._pos = base + offset
        return self._pos

    def tell(self) -> int:
        """The position in bytes."""
        return self._pos

    def readinto(self, buffer: "Buffer") -> int:
        """Fill *buffer*; how many bytes, fewer only at the end.  Raises OSError where the file cannot be read."""
        view = memoryview(buffer).cast("B")
        length = max(min(len(view), self._cache.size - self._pos), 0)
        done = 0
        while done < length:
            page = file_page(self._cache, self._pos >> PAGE_SHIFT)
            if page is None:
                raise OSError(f"FileBytes.readinto: page {self._pos >> PAGE_SHIFT} cannot be read")
            at = self._pos & PAGE_MASK
            size = min(PAGE_SIZE - at, length - done)
            view[done : done + size] = page[at : at + size]
            done += size
            self._pos += size
        return length
