"""Adaptive replacement: pages used once and pages used again share the frames, and ghosts say in which proportion.

N. Megiddo, D. Modha: "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003.  Hardware tells that a page was
used, not when, so T1 and T2 are clocks, as in S. Bansal, D. Modha: "CAR: Clock with Adaptive Replacement", FAST 2004.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from emu.x86 import Pfn
from minikernel.mm.page import PG_active, PG_referenced
from minikernel.mm.policy.base import ReclaimPolicy, Scan
from minikernel.mm.policy.queue import PageQueue
from minikernel.mm.rmap import page_referenced

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

Ghosts = OrderedDict[int, None]  # numbers of evictions, the oldest first


class Ghost(NamedTuple):
    """What is left of a page: *which* list it is on, and its number there."""

    which: int
    number: int


class ArcPolicy(ReclaimPolicy):
    """T1 and T2 of the paper are *recent* and *frequent*, B1 and B2 *ghosts*; *target* is p, the size T1 should have.

    A page of T2 has PG_active.  The cache's size c is what is resident: it changes with what else needs memory.

    Invariants: |T1| + |B1| <= c and |B1| + |B2| <= c + 1, as of the last eviction.
    """

    name: ClassVar[str] = "arc"
    summary: ClassVar[str] = "adaptive between used once and used again, with ghosts"

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._flags = node.mem_map.flags
        self.recent = PageQueue(node)
        self.frequent = PageQueue(node)
        self.ghosts: tuple[Ghosts, Ghosts] = (OrderedDict(), OrderedDict())
        self.target = 0
        self._evictions = 0

    def add(self, pfn: Pfn) -> None:
        """Used once, unless a ghost or the mechanism said otherwise.

        The use that brought the page is not a second one.
        """
        flags = self._flags[pfn]
        self._flags[pfn] = flags & ~PG_referenced
        page_referenced(self._node.mem_map, pfn)
        (self.frequent if flags & PG_active else self.recent).append(pfn)

    put_back = add

    def remove(self, pfn: Pfn) -> None:
        """Off its list."""
        (self.frequent if pfn in self.frequent else self.recent).remove(pfn)

    def accessed(self, pfn: Pfn) -> None:
        """Used again."""
        self.recent.remove(pfn)
        self._promote(pfn)

    def deactivate(self, pfn: Pfn) -> None:
        """Used once, long ago."""
        self.remove(pfn)
        self._flags[pfn] &= ~(PG_active | PG_referenced)
        self.recent.append(pfn)
        self.recent.to_front(pfn)

    def _promote(self, pfn: Pfn) -> None:
        self._flags[pfn] = self._flags[pfn] & ~PG_referenced | PG_active
        self._node.vmstat["pgactivate"] += 1
        self.frequent.append(pfn)

    def victims(self, scan: Scan) -> Iterator[Pfn]:
        """REPLACE of the paper: from T1 while it is longer than it should be, otherwise from T2."""
        lists = self.recent, self.frequent
        left = [scan.quota(len(pages)) for pages in lists]
        while not scan.is_done:
            which = 0 if len(self.recent) >= max(self.target, 1) else 1
            if not (left[which] and lists[which]):
                which ^= 1
                if not (left[which] and lists[which]):
                    return
            left[which] -= 1
            pfn = lists[which].popleft()
            scan.nr_scanned += 1
            if not scan.suits(pfn):
                lists[which].append(pfn)
            elif scan.used(pfn):
                self._promote(pfn)
            else:
                yield pfn

    def evicted(self, pfn: Pfn) -> Ghost:
        """Leave a ghost."""
        which = 1 if self._flags[pfn] & PG_active else 0
        self._evictions += 1
        once, again = self.ghosts
        self.ghosts[which][self._evictions] = None
        size = len(self.recent) + len(self.frequent) + 1
        while len(once) + len(self.recent) > size:
            once.popitem(last=False)
        while len(once) + len(again) > size + 1:
            (again or once).popitem(last=False)
        return Ghost(which, self._evictions)

    def refault(self, pfn: Pfn, shadow: object) -> None:
        """A ghost's page is back: its list was too short."""
        if not isinstance(shadow, Ghost):
            return  # of another policy
        which, number = shadow
        mine, other = self.ghosts[which], self.ghosts[1 - which]
        if number not in mine:
            return
        step = max(len(other) // len(mine), 1)
        size = len(self.recent) + len(self.frequent) + 1
        self.target = max(self.target - step, 0) if which else min(self.target + step, size)
        del mine[number]
        self._flags[pfn] |= PG_active

    def lists(self) -> tuple[int, int, int, int]:
        """T1 is inactive, T2 active."""
        return self.recent.nr_anon, self.frequent.nr_anon, self.recent.nr_file, self.frequent.nr_file

    def pages(self) -> Iterator[Pfn]:
        """T1, then T2."""
        yield from self.recent
        yield from self.frequent
