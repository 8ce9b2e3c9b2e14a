"""Not frequently used, with aging: a counter a page, shifted right at every sample, the accessed bit coming in on top.

A. S. Tanenbaum: "Modern Operating Systems", section "Simulating LRU in software".  The page whose counter is smallest
goes.  A sample looks at every page, so one is due only after an eighth of them was taken since the last: each page
taken costs eight looks, however much RAM there is.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Final

from emu.x86 import Pfn
from minikernel.mm.page import PG_active, PG_referenced
from minikernel.mm.policy.base import ReclaimPolicy, Scan
from minikernel.mm.policy.queue import PageQueue

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

_TOP: Final = 1 << 7  # counters have eight bits
_SAMPLE_SHIFT: Final = 3


class AgingPolicy(ReclaimPolicy):
    """The row is in the order of the counters as of the last sample; younger pages come after it."""

    name: ClassVar[str] = "aging"
    summary: ClassVar[str] = "not frequently used: 8-bit counters that age"

    def __init__(self, node: "Node") -> None:
        self._flags = node.mem_map.flags
        self._queue = PageQueue(node)
        self._age: dict[Pfn, int] = {}
        self._until_sample = 0  # pages to take before the next sample

    def add(self, pfn: Pfn) -> None:
        """New: its accessed bit, which the first use has set, is what the next sample finds."""
        self._age[pfn] = _TOP if self._flags[pfn] & PG_active else 0
        self._flags[pfn] &= ~PG_active
        self._queue.append(pfn)

    put_back = add

    def remove(self, pfn: Pfn) -> None:
        """Out of the row."""
        self._queue.remove(pfn)
        del self._age[pfn]

    def deactivate(self, pfn: Pfn) -> None:
        """As if never used."""
        self._flags[pfn] &= ~PG_referenced
        self._age[pfn] = 0
        self._queue.to_front(pfn)

    def victims(self, scan: Scan) -> Iterator[Pfn]:
        """In the order of the counters."""
        queue, age = self._queue, self._age
        for _ in range(scan.quota(len(queue))):
            if scan.is_done or not queue:
                return
            if self._until_sample <= 0:
                self._sample(scan)
            pfn = queue.popleft()
            scan.nr_scanned += 1
            if scan.suits(pfn):
                del age[pfn]
                self._until_sample -= 1
                yield pfn
            else:
                queue.append(pfn)

    def _sample(self, scan: Scan) -> None:
        age = self._age
        for pfn in self._queue:
            age[pfn] = age[pfn] >> 1 | (_TOP if scan.used(pfn) else 0)
        scan.nr_scanned += len(age)
        self._queue.sort(age.__getitem__)
        self._until_sample = max(len(age) >> _SAMPLE_SHIFT, 1)

    def lists(self) -> tuple[int, int, int, int]:
        """All inactive."""
        return self._queue.lists()

    def pages(self) -> Iterator[Pfn]:
        """From the smallest counter."""
        return iter(self._queue)
