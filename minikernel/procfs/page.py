"""/proc/kpagecount and kpageflags: eight bytes for each frame of RAM.  Linux: fs/proc/page.c."""

from array import array
from collections.abc import Callable
from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import S_IFREG
from minikernel.fs.dentry import Path
from minikernel.fs.file import OpenFile
from minikernel.fs.inode import SuperBlock
from minikernel.mm.buddy import MAX_PAGE_ORDER
from minikernel.mm.page import PG_buddy
from minikernel.mm.page_alloc import Node
from minikernel.procfs.node import PositionFile, ProcInode

# Bits that are made up, not kept: include/uapi/linux/kernel-page-flags.h.
KPF_MMAP: Final = 1 << 11
KPF_NOPAGE: Final = 1 << 20
KPF_ZERO_PAGE: Final = 1 << 24
_KEPT: Final = (1 << 27) - 1 | 3 << 32  # of the columns's flags: those that have the numbers of this file
_SECTION_64: Final = 1 << 15  # frames: what a 64-bit kernel rounds the number of frames up to (PAGES_PER_SECTION)
_ENTRY: Final = 8

_Range = Callable[[Node, int, int], "array[int]"]


def kpagecount(node: Node, first: int, last: int) -> "array[int]":
    """How many page-table entries map each of the frames [*first*, *last*): get_kpage_count."""
    counts = array("Q", node.mem_map.mapcount[first : min(last, node.mem_map.nr_frames)])
    counts.extend([0] * (last - first - len(counts)))
    return counts


def kpageflags(node: Node, first: int, last: int) -> "array[int]":
    """What each of the frames [*first*, *last*) is: stable_page_flags."""
    mem_map = node.mem_map
    end = min(last, mem_map.nr_frames)
    found = array("Q", [flags & _KEPT for flags in mem_map.flags[first:end]])
    for at, users in enumerate(mem_map.mapcount[first:end]):
        if users:
            found[at] |= KPF_MMAP
    _mark_free(node, first, end, found)
    if first <= node.zero_pfn < end:
        found[node.zero_pfn - first] |= KPF_ZERO_PAGE
    found.extend([KPF_NOPAGE] * (last - first - len(found)))
    return found


def _mark_free(node: Node, first: int, end: int, found: "array[int]") -> None:
    """Every frame of a free block is one of the buddy allocator's; the column says so of the first one only."""
    flags, order = node.mem_map.flags, node.mem_map.order
    pfn = first & -(1 << MAX_PAGE_ORDER)  # no block begins below and reaches here
    while pfn < end:
        if not flags[pfn] & PG_buddy:
            pfn += 1
            continue
        above = pfn + (1 << order[pfn])
        for free in range(max(pfn, first), min(above, end)):
            found[free - first] |= PG_buddy
        pfn = above


class _FrameFile(PositionFile):
    """One of the two files, open."""

    __slots__ = ("make", "node")

    def __init__(self, path: Path, flags: int, node: Node, make: _Range) -> None:
        super().__init__(path, flags)
        self.node = node
        self.make = make

    def pread(self, count: int, offset: int) -> bytes:
        """Entries.  Errors: EINVAL unless offset and count are multiples of 8."""
        if offset % _ENTRY or count % _ENTRY:
            raise LinuxError(Errno.EINVAL, "entries have 8 bytes")
        frames = self.node.mem_map.nr_frames
        if self.node.layout.mode.va_bits > 32:
            frames += -frames % _SECTION_64
        first = offset // _ENTRY
        last = min(first + count // _ENTRY, frames)
        return self.make(self.node, first, last).tobytes() if first < last else b""


class FrameInode(ProcInode):
    """The inode of kpagecount or kpageflags: *make* gives the entries of a range of frames."""

    __slots__ = ("_make", "_node")

    def __init__(self, sb: SuperBlock, ino: int, node: Node, make: _Range) -> None:
        super().__init__(sb, ino, S_IFREG | 0o400)
        self._node = node
        self._make = make

    def open(self, path: Path, flags: int) -> OpenFile:
        """The file."""
        return _FrameFile(path, flags, self._node, self._make)
