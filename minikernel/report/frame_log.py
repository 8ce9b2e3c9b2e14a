"""Who took and gave back each frame, and when: what the events do not tell.

The allocator of a machine that is watched is replaced by one that notes; of any other machine nothing is different.
Nothing that the guest could see changes: the same frames are handed out.
"""

import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.x86 import Pfn
from minikernel.mm.gfp import GFP_KERNEL
from minikernel.mm.page import MemMap
from minikernel.mm.page_alloc import Node

if TYPE_CHECKING:
    from minikernel.kernel import Kernel

ALLOCATED, FREED, SHARED = range(3)
_LIMIT: Final = 1 << 20  # notes; the older half is forgotten then
_OUR_FILES: Final = ("/page_alloc.py", "/frame_log.py", "/kmem_cache.py", "/slab.py", "/slab_objects.py", "/page.py")
_PACKAGE: Final = "minikernel/"


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that happened to a frame: *site* is the function of the kernel, with its file."""

    icount: int
    pid: int
    what: int  # ALLOCATED, FREED, SHARED
    site: str


class FrameLog:
    """The notes of one machine, in columns: 18 bytes each."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._icounts = array("Q")
        self._pids = array("I")
        self._pfns = array("I")
        self._whats = array("H")
        self._sites: list[str] = []
        self._site_of: dict[object, int] = {}
        self.forgotten_before = 0  # instruction count
        self._watch(kernel.node)

    def _watch(self, node: Node) -> None:
        """Put an allocator that notes in the place of *node*'s; its data stay as they are."""
        log = self
        node.__class__ = _watched_node(log)
        node.mem_map.__class__ = _watched_mem_map(log)

    def note(self, what: int, pfn: int) -> None:
        """Frame *pfn* has been allocated, freed, or given one more user by a fork."""
        if len(self._pfns) >= _LIMIT:
            self._forget()
        tracer = self._kernel.tracer
        self._icounts.append(tracer.icount())
        self._pids.append(tracer.pid)
        self._pfns.append(pfn)
        self._whats.append(what | self._site() << 2)

    def is_last(self, what: int, pfn: int) -> bool:
        """Whether that was the last note."""
        return bool(self._pfns) and self._pfns[-1] == pfn and self._whats[-1] & 3 == what

    def _site(self) -> int:
        """Who called the allocator."""
        frame = sys._getframe(3)
        while frame.f_back is not None and frame.f_code.co_filename.endswith(_OUR_FILES):
            frame = frame.f_back
        number = self._site_of.get(frame.f_code)
        if number is None:
            file = frame.f_code.co_filename
            at = file.rfind(_PACKAGE)
            number = self._site_of[frame.f_code] = len(self._sites)
            self._sites.append(f"{frame.f_code.co_name} ({file[at:] if at >= 0 else file})")
        return number

    def _forget(self) -> None:
        half = len(self._pfns) // 2
        self.forgotten_before = self._icounts[half]
        for column in (self._icounts, self._pids, self._pfns, self._whats):
            del column[:half]

    def of(self, pfn: int) -> Iterator[Note]:
        """What happened to frame *pfn*, oldest first."""
        at = -1
        while True:
            try:
                at = self._pfns.index(pfn, at + 1)
            except ValueError:
                return
            word = self._whats[at]
            yield Note(self._icounts[at], self._pids[at], word & 3, self._sites[word >> 2])


def _watched_node(log: FrameLog) -> type[Node]:
    """A Node that tells *log*."""

    class WatchedNode(Node):
        """The allocator, overheard."""

        __slots__ = ()

        def alloc_page(self, gfp: int = GFP_KERNEL) -> Pfn | None:
            pfn = super().alloc_page(gfp)
            if pfn is not None:
                log.note(ALLOCATED, pfn)
            return pfn

        def alloc_pages(self, order: int, gfp: int = GFP_KERNEL) -> Pfn | None:
            pfn = super().alloc_pages(order, gfp)
            if pfn is not None and order:
                for frame in range(pfn, pfn + (1 << order)):
                    log.note(ALLOCATED, frame)
            return pfn

        def alloc_contig_range(self, start: Pfn, end: Pfn, gfp: int = GFP_KERNEL) -> bool:
            taken = super().alloc_contig_range(start, end, gfp)
            if taken:
                for frame in range(start, end):
                    log.note(ALLOCATED, frame)
            return taken

        def put_page(self, pfn: Pfn) -> None:
            last = self.mem_map.refcount[pfn] == 1
            size = 1 << self.mem_map.order[pfn] if last and self.mem_map.order[pfn] > 0 else 1
            super().put_page(pfn)
            if last and not log.is_last(FREED, pfn + size - 1):
                for frame in range(pfn, pfn + size):
                    log.note(FREED, frame)

    return WatchedNode


def _watched_mem_map(log: FrameLog) -> type[MemMap]:
    """A MemMap that tells *log*."""

    class WatchedMemMap(MemMap):
        """struct pages, overheard."""

        __slots__ = ()

        def dup_mappings(self, pfns: list[Pfn]) -> None:
            super().dup_mappings(pfns)
            for pfn in pfns:
                log.note(SHARED, pfn)

    return WatchedMemMap
