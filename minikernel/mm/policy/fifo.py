"""First in, first out: the page that came first goes first, used or not.

Belady, Nelson, Shedler: "An anomaly in space-time characteristics of certain programs", CACM 12 (1969): with more
frames it may do worse.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from emu.x86 import Pfn
from minikernel.mm.page import PG_active
from minikernel.mm.policy.base import ReclaimPolicy, Scan
from minikernel.mm.policy.queue import PageQueue

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node


class FifoPolicy(ReclaimPolicy):
    """One row."""

    name: ClassVar[str] = "fifo"
    summary: ClassVar[str] = "first in, first out"

    def __init__(self, node: "Node") -> None:
        self._flags = node.mem_map.flags
        self._queue = PageQueue(node)

    def add(self, pfn: Pfn) -> None:
        """To the end."""
        self._flags[pfn] &= ~PG_active
        self._queue.append(pfn)

    put_back = add

    def remove(self, pfn: Pfn) -> None:
        """Out of the row."""
        self._queue.remove(pfn)

    def deactivate(self, pfn: Pfn) -> None:
        """The next to go."""
        self._queue.to_front(pfn)

    def victims(self, scan: Scan) -> Iterator[Pfn]:
        """From the front."""
        queue = self._queue
        for _ in range(scan.quota(len(queue))):
            if scan.is_done or not queue:
                return
            pfn = queue.popleft()
            scan.nr_scanned += 1
            if scan.suits(pfn):
                yield pfn
            else:
                queue.append(pfn)

    def lists(self) -> tuple[int, int, int, int]:
        """All inactive."""
        return self._queue.lists()

    def pages(self) -> Iterator[Pfn]:
        """From the front."""
        return iter(self._queue)
