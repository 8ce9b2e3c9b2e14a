"""Which pages a run uses, in which order: the reference string that replacement algorithms are judged by.

    references = References(kernel, 50_000);  ...System.run(references.run_cpu)...;  references.samples

The machine reclaims first in, first out, for which no bit is looked at that is harvested here.  A page is named by a
number, which stays with a frame until that is freed, and with what was evicted until it is back.  Uses by the program
are found in the accessed bits, harvested every so many instructions, and before a page goes: when within such a sample
is not known, nor how often.  Uses by read and write are told by the page cache.  Everything in a sample was really
used; pages that a fault only mapped along are not in it, and a use by the kernel on the program's behalf (of a buffer)
is not seen.
"""

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.exits import BudgetSpent, CpuExit
from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_A, Pfn, VirtAddr
from minikernel.events import Event, FaultKind, MmFaultResolved
from minikernel.mm.file_fault import FAULT_AROUND_PAGES
from minikernel.mm.filemap import PageCache
from minikernel.mm.lru import PageLru
from minikernel.mm.page import PG_referenced
from minikernel.mm.page_alloc import Node
from minikernel.mm.policy.base import Scan
from minikernel.mm.policy.fifo import FifoPolicy
from minikernel.mm.young import harvest_young

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct

_WINDOW: Final = FAULT_AROUND_PAGES << PAGE_SHIFT


class _Name(NamedTuple):
    """What is remembered of an evicted page."""

    page: int


class _ListeningFifo(FifoPolicy):
    """Tells what goes and comes back."""

    def __init__(self, node: Node, references: "References") -> None:
        super().__init__(node)
        self._references = references

    def victims(self, scan: Scan) -> Iterator[Pfn]:
        for pfn in super().victims(scan):
            if scan.referenced(pfn):
                self._references.use(pfn)
            yield pfn

    def evicted(self, pfn: Pfn) -> _Name:
        return _Name(self._references.leave(pfn))

    def refault(self, pfn: Pfn, shadow: object) -> None:
        assert isinstance(shadow, _Name), "_ListeningFifo.refault: another policy's shadow"
        self._references.resume(pfn, shadow.page)


class _ListeningLru(PageLru):
    """Tells which frames begin a life, and each use by a system call.

    Every page of a file keeps PG_referenced, so that each use comes to mark_accessed.
    """

    __slots__ = ("_references",)

    def __init__(self, node: Node, references: "References") -> None:
        super().__init__(node)
        self._references = references
        self.policy = _ListeningFifo(node, references)
        keep = self.note

        def note(pfn: Pfn) -> None:
            keep(pfn)
            references.begin(pfn)
            if isinstance(node.mem_map.owner[pfn], PageCache):
                node.mem_map.flags[pfn] |= PG_referenced

        self.note = note

    def replace(self, old: Pfn, new: Pfn) -> None:
        """Compaction moves a page: its name goes along."""
        page = self._references.leave(old)
        super().replace(old, new)
        self._references.page_in[new] = page

    def mark_accessed(self, pfn: Pfn) -> None:
        """Told, and nothing else: it makes no difference here."""
        self._references.use(pfn)


class References:
    """Of a machine that has no program yet.  *samples*: the pages used in one interval each, by number."""

    def __init__(self, kernel: "Kernel", interval: int) -> None:
        """*interval*: instructions from one harvest to the next."""
        self._kernel = kernel
        self._interval = interval
        self._due = kernel.cpu.icount + interval
        self.page_in: dict[Pfn, int] = {}
        self._resumed: set[Pfn] = set()
        self._nr_pages = 0
        self._current: dict[int, None] = {}
        self._harvested: list[int] = []
        self._mm: MmStruct | None = None  # whose entries have the bits since the last harvest
        self.samples: list[array[int]] = []
        assert not kernel.node.lru.pending, "References: the machine runs already"
        kernel.node.lru = _ListeningLru(kernel.node, self)

    @property
    def nr_uses(self) -> int:
        """Uses in all samples together."""
        return sum(map(len, self.samples))

    # ---- what is heard

    def begin(self, pfn: Pfn) -> None:
        """A frame is handed out: for a new page, unless one was brought back into it just now."""
        if pfn in self._resumed:
            self._resumed.remove(pfn)
            return
        self.page_in[pfn] = self._new_page()

    def _new_page(self) -> int:
        self._nr_pages += 1
        return self._nr_pages - 1

    def leave(self, pfn: Pfn) -> int:
        """The page in *pfn* goes elsewhere; its name."""
        page = self.page_in.pop(pfn, None)
        return self._new_page() if page is None else page

    def resume(self, pfn: Pfn, page: int) -> None:
        """An evicted page is back, in *pfn*: from a file, which has begun, or from swap, which will."""
        self.page_in[pfn] = page
        if self._kernel.node.mem_map.owner[pfn] is None:
            self._resumed.add(pfn)

    def use(self, pfn: Pfn) -> None:
        """The page in *pfn* is used, if one of ours is there."""
        page = self.page_in.get(pfn)
        if page is not None:
            self._current[page] = None

    def sink(self, _icount: int, _pid: int, event: Event) -> None:
        """What a fault mapped along was not used yet: take the bits away that say so."""
        if not isinstance(event, MmFaultResolved) or event.kind is not FaultKind.FILE_READ:
            return
        task = self._kernel.current
        if task is None or not task.has_mm:
            return
        start = event.address & -_WINDOW
        own = event.address & -PAGE_SIZE
        for address in range(start, start + _WINDOW, PAGE_SIZE):
            if address != own:
                task.mm.pgtable.update(VirtAddr(address), clear=PTE_A)

    # ---- what is looked for

    def run_cpu(self, budget: int) -> CpuExit:
        """Run the CPU as Cpu.run does, stopping for a harvest where one is due."""
        kernel, cpu = self._kernel, self._kernel.cpu
        task = kernel.current
        assert task is not None, "References.run_cpu: nobody runs"
        if task.mm is not self._mm:
            self._harvest()
            self._mm = task.mm
        end = cpu.icount + budget
        while True:
            if cpu.icount >= self._due:
                self._end_sample()
            cpu_exit = cpu.run(min(end, self._due) - cpu.icount)
            if not isinstance(cpu_exit, BudgetSpent) or cpu.icount >= end:
                return cpu_exit

    def _harvest(self) -> None:
        if self._mm is None:
            return
        for pfn in harvest_young(self._mm.pgtable):
            page = self.page_in.get(pfn)
            if page is not None:
                self._harvested.append(page)
        self._kernel.cpu.flush_tlb()

    def _end_sample(self) -> None:
        """The harvest in the order of the pages' first uses: a guess at the program's own."""
        self._harvest()
        self._current.update(dict.fromkeys(sorted(self._harvested)))
        self._harvested.clear()
        if self._current:
            self.samples.append(array("I", self._current))
        self._current = {}
        self._due = self._kernel.cpu.icount + self._interval

    def finish(self) -> None:
        """The run is over."""
        self._end_sample()
