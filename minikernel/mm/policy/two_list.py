"""Linux's policy: an active and an inactive list for anonymous and for file pages.

Linux: mm/vmscan.c, mm/workingset.c.

A page starts on its inactive list and is looked at when it comes to the end: used twice since, it becomes active;
otherwise it goes.  The active list is as long as it needs to be and gives its oldest to the inactive one.  A page that
comes back soon after it was evicted, sooner than it would take to replace the pages in use, becomes active at once.
"""

from collections import OrderedDict
from collections.abc import Iterator
from math import isqrt
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from emu.x86 import Pfn
from minikernel.mm.page import PG_active, PG_exec, PG_referenced, PG_swapbacked, PG_workingset
from minikernel.mm.policy.base import (
    ACTIVE_ANON,
    ACTIVE_FILE,
    INACTIVE_ANON,
    INACTIVE_FILE,
    NR_LISTS,
    SWAP_CLUSTER_MAX,
    ReclaimPolicy,
    Scan,
    list_of,
)

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

_MAX_SWAPPINESS: Final = 200
_PAGES_PER_GIB: Final = 1 << 18
_NAMES: Final = ("anon", "anon", "file", "file")


class Shadow(NamedTuple):
    """When a page was evicted, and whether it was of the working set."""

    age: int
    was_workingset: bool


class TwoListPolicy(ReclaimPolicy):
    """Four lists; the first page of each is the oldest.

    *nonresident_age* counts evictions and activations, the clock of refault distances.  *cost* is what reclaim from
    anonymous and from file pages has caused lately: it tilts the balance between the two (lru_note_cost).
    """

    name: ClassVar[str] = "two-list"
    summary: ClassVar[str] = "active and inactive lists, refault distance (Linux's default)"

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._flags = node.mem_map.flags
        self._lists: tuple[OrderedDict[Pfn, None], ...] = tuple(OrderedDict() for _ in range(NR_LISTS))
        self.nonresident_age = 0
        self.cost = [0, 0]  # anon, file

    # ---- coming and going

    def add(self, pfn: Pfn) -> None:
        """New pages are inactive, unless a refault said otherwise."""
        self._lists[list_of(self._flags[pfn])][pfn] = None

    put_back = add

    def remove(self, pfn: Pfn) -> None:
        """Off its list."""
        del self._lists[list_of(self._flags[pfn])][pfn]

    def accessed(self, pfn: Pfn) -> None:
        """Used a second time by system calls: active (folio_mark_accessed)."""
        if not self._flags[pfn] & PG_active:
            self.remove(pfn)
            self._activate(pfn)
            self.add(pfn)
            self._flags[pfn] &= ~PG_referenced

    def deactivate(self, pfn: Pfn) -> None:
        """To the young end of the inactive list (lru_deactivate)."""
        self.remove(pfn)
        self._flags[pfn] &= ~(PG_active | PG_referenced)
        self.add(pfn)

    def _activate(self, pfn: Pfn) -> None:
        self._flags[pfn] |= PG_active
        self.nonresident_age += 1
        self._node.vmstat["pgactivate"] += 1

    # ---- refaults

    def evicted(self, pfn: Pfn) -> object:
        """The time, and whether the page was of the working set (workingset_eviction)."""
        self.nonresident_age += 1
        return Shadow(self.nonresident_age, bool(self._flags[pfn] & PG_workingset))

    def refault(self, pfn: Pfn, shadow: object) -> None:
        """Active at once if it had stayed with the room that the working set has now (workingset_refault)."""
        if not isinstance(shadow, Shadow):
            return  # of another policy
        age, was_workingset = shadow
        flags = self._flags[pfn]
        kind = 0 if flags & PG_swapbacked else 1
        inactive_anon, active_anon, inactive_file, active_file = self.lists()
        room = active_file
        if not kind:
            room += inactive_file
        if self._node.swap.has_room:
            room += active_anon + (inactive_anon if kind else 0)
        if self.nonresident_age - age > room:
            return
        self._activate(pfn)
        self._node.vmstat[f"workingset_activate_{_NAMES[2 * kind]}"] += 1
        if was_workingset:
            self._flags[pfn] |= PG_workingset
            self._note_cost(kind)
            self._node.vmstat[f"workingset_restore_{_NAMES[2 * kind]}"] += 1

    def _note_cost(self, kind: int, pages: int = 1) -> None:
        """Reclaiming *kind* (0 anon, 1 file) has cost I/O; old costs fade (lru_note_cost)."""
        self.cost[kind] += pages
        if sum(self.cost) > sum(self.lists()) // 4:
            self.cost = [self.cost[0] // 2, self.cost[1] // 2]

    # ---- choosing

    def victims(self, scan: Scan) -> Iterator[Pfn]:
        """Ends of the inactive lists, in turns, each list scanned as far as its share says (shrink_lruvec)."""
        left = self._scan_counts(scan)
        while not scan.is_done and any(left[kind] for kind in (INACTIVE_ANON, INACTIVE_FILE, ACTIVE_FILE)):
            for kind in range(NR_LISTS):
                count = min(left[kind], SWAP_CLUSTER_MAX)
                left[kind] -= count
                if kind in {ACTIVE_ANON, ACTIVE_FILE}:
                    if count and self._inactive_is_low(kind - 1):
                        self._shrink_active(scan, kind, count)
                elif count:
                    yield from self._shrink_inactive(scan, kind, count)
        # Anonymous pages keep flowing to the inactive list even when none of them was wanted.
        if scan.may_swap and self._inactive_is_low(INACTIVE_ANON):
            self._shrink_active(scan, ACTIVE_ANON, SWAP_CLUSTER_MAX)

    def _scan_counts(self, scan: Scan) -> list[int]:
        """How many pages of each list to look at (get_scan_count)."""
        sizes = self.lists()
        swappiness = self._node.vm_sysctl.swappiness
        anon, file = 1, 1
        if not scan.may_swap or not swappiness:
            anon = 0
        elif scan.priority == 0:
            pass
        elif sizes[INACTIVE_FILE] >> scan.priority and not self._inactive_is_low(INACTIVE_FILE):
            anon = 0  # there is plenty of file cache that nobody uses twice
        else:
            total = sum(self.cost)
            anon = swappiness * (total + 1) // (total + self.cost[0] + 1)
            file = (_MAX_SWAPPINESS - swappiness) * (total + 1) // (total + self.cost[1] + 1)
        counts = []
        for kind, size in enumerate(sizes):
            fraction = file if kind >= INACTIVE_FILE else anon
            count = size >> scan.priority
            if size and fraction and not count and scan.priority < 6:
                count = min(size, SWAP_CLUSTER_MAX)
            if scan.priority and anon and file:
                count = -(-count * fraction // (anon + file)) if anon + file > 1 else count
            counts.append(count if fraction else 0)
        return counts

    def _inactive_is_low(self, inactive: int) -> bool:
        """The inactive list is shorter than its share, a quarter on 1 GiB, a half on little (inactive_is_low)."""
        sizes = self.lists()
        gib = (sizes[inactive] + sizes[inactive + 1]) // _PAGES_PER_GIB
        ratio = isqrt(10 * gib) if gib else 1
        return sizes[inactive] * ratio < sizes[inactive + 1]

    def _shrink_active(self, scan: Scan, kind: int, count: int) -> None:
        """The oldest active pages become inactive; code in use stays (shrink_active_list)."""
        active, inactive = self._lists[kind], self._lists[kind - 1]
        flags, vmstat = self._flags, self._node.vmstat
        for _ in range(min(count, len(active))):
            pfn = active.popitem(last=False)[0]
            vmstat["pgrefill"] += 1
            if scan.referenced(pfn) and kind == ACTIVE_FILE and flags[pfn] & PG_exec:
                active[pfn] = None
                continue
            flags[pfn] = flags[pfn] & ~PG_active | PG_workingset
            inactive[pfn] = None
            vmstat["pgdeactivate"] += 1

    def _shrink_inactive(self, scan: Scan, kind: int, count: int) -> Iterator[Pfn]:
        """Pages from the end that were not used again (shrink_inactive_list, folio_check_references)."""
        pages = self._lists[kind]
        flags = self._flags
        for _ in range(min(count, len(pages))):
            pfn = pages.popitem(last=False)[0]
            scan.nr_scanned += 1
            if not scan.suits(pfn):
                pages[pfn] = None
                continue
            mappings = scan.referenced(pfn)
            before = flags[pfn]
            if mappings:
                # Used through a mapping: stays; twice, by two, or as code: active.
                if before & PG_referenced or mappings > 1 or (before & PG_exec and kind == INACTIVE_FILE):
                    self._activate(pfn)
                flags[pfn] |= PG_referenced
                self.add(pfn)
                continue
            flags[pfn] = before & ~PG_referenced
            yield pfn
            if scan.is_done:
                return

    def lists(self) -> tuple[int, int, int, int]:
        """Their lengths."""
        inactive_anon, active_anon, inactive_file, active_file = map(len, self._lists)
        return inactive_anon, active_anon, inactive_file, active_file

    def pages(self) -> Iterator[Pfn]:
        """From the ends of the inactive lists to the young ends of the active ones."""
        for pages in self._lists:
            yield from pages
