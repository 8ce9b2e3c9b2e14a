"""Second chance: one hand goes round, takes what was not used since it passed last.

F. J. Corbato: "A Paging Experiment with the Multics System", 1968.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from emu.x86 import Pfn
from minikernel.mm.page import PG_active, PG_referenced
from minikernel.mm.policy.base import ReclaimPolicy, Scan
from minikernel.mm.policy.queue import PageQueue

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node


class ClockPolicy(ReclaimPolicy):
    """The clock's face as a row: the hand points to the first page, and passes one by moving it to the end."""

    name: ClassVar[str] = "clock"
    summary: ClassVar[str] = "second chance, one hand"

    def __init__(self, node: "Node") -> None:
        self._flags = node.mem_map.flags
        self._face = PageQueue(node)

    def add(self, pfn: Pfn) -> None:
        """Right behind the hand: it comes there last."""
        if self._flags[pfn] & PG_active:
            self._flags[pfn] = self._flags[pfn] & ~PG_active | PG_referenced
        self._face.append(pfn)

    put_back = add

    def remove(self, pfn: Pfn) -> None:
        """Out of the face."""
        self._face.remove(pfn)

    def deactivate(self, pfn: Pfn) -> None:
        """Under the hand, and not used."""
        self._flags[pfn] &= ~PG_referenced
        self._face.to_front(pfn)

    def victims(self, scan: Scan) -> Iterator[Pfn]:
        """What the hand finds unused."""
        face = self._face
        for _ in range(scan.quota(len(face))):
            if scan.is_done or not face:
                return
            pfn = face.popleft()
            scan.nr_scanned += 1
            if not scan.suits(pfn) or scan.used(pfn):
                face.append(pfn)
            else:
                yield pfn

    def lists(self) -> tuple[int, int, int, int]:
        """All inactive."""
        return self._face.lists()

    def pages(self) -> Iterator[Pfn]:
        """From the hand on."""
        return iter(self._face)
