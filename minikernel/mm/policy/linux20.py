"""How Linux 2.0 did it: a little at a time, caches first, then shared memory, then the processes in turn.

Linux 2.0: mm/vmscan.c (try_to_free_page, swap_out, try_to_swap_out, kswapd), mm/filemap.c (shrink_mmap),
ipc/shm.c (shm_swap), mm/swap.c (swap_control); D. Rusling, "The Linux Kernel", section "Swapping Out and Discarding
Pages", has the 3 and the 6 pages.

The three are asked in turn, with rising urgency, and the one that found a page is asked first the next time.  kswapd
works when memory falls below *free_pages_low*, takes 6 pages, and again after half its interval; above it, 3 pages
after a whole one, until there are *free_pages_high*.

Then a page was taken out of one process at a time and was free when it had left the last.  Here the mechanism takes it
out of all of them; so a page of a file that a process maps is freed by swap_out, and shrink_mmap has the unmapped.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Final

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_A, PTE_P, Pfn
from minikernel.mm.filemap import PageCache
from minikernel.mm.page import PG_active, PG_referenced
from minikernel.mm.policy.base import DEF_PRIORITY, ReclaimPolicy, Scan
from minikernel.mm.policy.queue import PageQueue
from minikernel.mm.rmap import PFN_MASK, AnonVma
from minikernel.mm.zone import WMARK_MIN

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.page_alloc import Node

MAX_PAGE_AGE: Final = 20
PAGE_ADVANCE: Final = 3
PAGE_DECLINE: Final = 1
PAGE_INITIAL_AGE: Final = 3
AGE_CLUSTER_MIN: Final = 4  # pages: the least that is taken of a process in a row
AGE_CLUSTER_FRACT: Final = 32  # and 32/1024 of it for larger ones
PAGEOUT_WEIGHT: Final = 8192
_WEIGHT_SHIFT: Final = 10
_LOWEST_PRIORITY: Final = 6  # 6 is lazy, 0 desperate
_INTERVAL_NS: Final = 250_000_000  # swapout_interval, HZ / 4
_PAGES_LOW: Final = 6
_PAGES_HIGH: Final = 3


class _Walk:
    """Where swap_out is in a process: *swap_address*, and the *swap_cnt* pages it still owes in this round."""

    __slots__ = ("mm", "swap_address", "swap_cnt")

    def __init__(self, mm: "MmStruct", swap_address: int) -> None:
        self.mm = mm
        self.swap_address = swap_address
        self.swap_cnt = max(mm.rss * AGE_CLUSTER_FRACT >> _WEIGHT_SHIFT, AGE_CLUSTER_MIN)


class Linux20Policy(ReclaimPolicy):
    """Pages with their ages; *_hand* is shrink_mmap's, a frame number, *_round* the processes still to be asked."""

    name: ClassVar[str] = "linux-2.0"
    summary: ClassVar[str] = "caches, shared memory, processes in turn, 3 or 6 pages at a time (Linux 2.0)"

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._mem_map = node.mem_map
        self._pages = PageQueue(node)  # of files and of processes
        self._shm = PageQueue(node)
        self._age: dict[Pfn, int] = {}
        self._state = 0  # who is asked first
        self._hand = Pfn(0)
        self._round: list[_Walk] = []

    # ---- coming and going

    def add(self, pfn: Pfn) -> None:
        """Every page starts at the same age."""
        flags = self._mem_map.flags
        owner = self._mem_map.owner[pfn]
        self._age[pfn] = PAGE_INITIAL_AGE + (PAGE_ADVANCE if flags[pfn] & PG_active else 0)
        flags[pfn] &= ~PG_active
        (self._shm if isinstance(owner, PageCache) and owner.is_shmem else self._pages).append(pfn)

    put_back = add

    def remove(self, pfn: Pfn) -> None:
        """It is gone."""
        (self._shm if pfn in self._shm else self._pages).remove(pfn)
        del self._age[pfn]

    def deactivate(self, pfn: Pfn) -> None:
        """Old."""
        self._mem_map.flags[pfn] &= ~PG_referenced
        self._age[pfn] = 0

    # ---- kswapd

    def _thresholds(self) -> tuple[int, int]:
        """free_pages_low and free_pages_high: one and a half and two times what is kept for emergencies."""
        reserve = sum(zone.watermark[WMARK_MIN] for zone in self._node.zones)
        return reserve + reserve // 2, 2 * reserve

    def kswapd_pages(self) -> int:
        """6 when memory is very low, otherwise 3, none when there is enough."""
        low, high = self._thresholds()
        free = self._node.nr_free
        return _PAGES_LOW if free < low else _PAGES_HIGH if free < high else 0

    def kswapd_interval(self) -> int | None:
        """Half of it when memory is very low."""
        low, high = self._thresholds()
        free = self._node.nr_free
        return _INTERVAL_NS // 2 if free < low else _INTERVAL_NS if free < high else None

    # ---- choosing

    def victims(self, scan: Scan) -> Iterator[Pfn]:
        """The way that was successful last, again until it is not, and then the others (try_to_free_page)."""
        urgency = scan.priority * _LOWEST_PRIORITY // DEF_PRIORITY
        ways = (self._shrink_mmap, self._shm_swap, self._swap_out)
        failures = 0
        left = scan.quota(len(self._age))  # a page that could not be taken may be found again
        while left and failures < len(ways) and not scan.is_done:
            pfn = ways[self._state](scan, urgency)
            if pfn is None:
                failures += 1
                self._state = (self._state + 1) % len(ways)
                continue
            failures = 0
            left -= 1
            yield pfn

    def _take(self, scan: Scan, pfn: Pfn) -> bool:
        """Whether *pfn* can go; then it is nobody's."""
        scan.nr_scanned += 1
        if not scan.suits(pfn):
            return False
        self.remove(pfn)
        return True

    def _shrink_mmap(self, scan: Scan, urgency: int) -> Pfn | None:
        """Round all frames: a cached page that nobody maps, and nobody used since the last time."""
        mem_map = self._mem_map
        for _ in range(2 * mem_map.nr_frames >> (urgency >> 1)):
            pfn = self._hand
            self._hand = Pfn((pfn + 1) % mem_map.nr_frames)
            if mem_map.mapcount[pfn] or pfn not in self._pages:
                continue
            if mem_map.flags[pfn] & PG_referenced:
                mem_map.flags[pfn] &= ~PG_referenced
                scan.nr_scanned += 1
            elif self._take(scan, pfn):
                return pfn
        return None

    def _shm_swap(self, scan: Scan, urgency: int) -> Pfn | None:
        """A page of shared memory that no mapping used since the last time."""
        shm = self._shm
        for _ in range(2 * len(shm) >> urgency):
            pfn = next(iter(shm))
            if not scan.used(pfn) and self._take(scan, pfn):
                return pfn
            shm.remove(pfn)
            shm.append(pfn)
        return None

    def _swap_out(self, scan: Scan, urgency: int) -> Pfn | None:
        """A page of the process whose turn it is; if it has none that is old, of the next."""
        self._begin_round()
        for _ in range((PAGEOUT_WEIGHT * len(self._round) >> _WEIGHT_SHIFT >> urgency) + 1):
            if not self._begin_round():
                return None
            walk = self._round[0]
            found = self._swap_out_process(scan, walk)
            walk.swap_cnt -= 1
            if found is None or not walk.swap_cnt:
                self._round.append(self._round.pop(0))
            if found is not None:
                return found
        return None

    def _begin_round(self) -> bool:
        """Let every process owe pages again when none does; False: no process has any.

        The processes are those that may map a page of ours.
        """
        self._round = [walk for walk in self._round if walk.mm.rss]
        if any(walk.swap_cnt > 0 for walk in self._round):
            while self._round[0].swap_cnt <= 0:
                self._round.append(self._round.pop(0))
            return True
        hands = {walk.mm: walk.swap_address for walk in self._round}
        owners = dict.fromkeys(map(self._mem_map.owner.__getitem__, self._pages))
        vmas = [owner.vmas for owner in owners if isinstance(owner, AnonVma | PageCache)]
        mms = dict.fromkeys(mm for each in vmas for mm in each.values())
        self._round = [_Walk(mm, hands.get(mm, 0)) for mm in mms if mm.rss]
        return bool(self._round)

    def _swap_out_process(self, scan: Scan, walk: _Walk) -> Pfn | None:
        """The next page of a process that has grown old; None: its end was reached, so the walk begins anew."""
        mm, start = walk.mm, walk.swap_address
        walk.swap_address = 0
        for address, pte in mm.pgtable.entries(start, mm.layout.task_size):
            pfn = Pfn(pte >> PAGE_SHIFT & PFN_MASK)
            if not pte & PTE_P or pfn not in self._pages:
                continue
            age = self._age[pfn]
            if pte & PTE_A:
                mm.pgtable.set(address, pte & ~PTE_A)
                self._age[pfn] = min(age + PAGE_ADVANCE, MAX_PAGE_AGE)
                scan.nr_scanned += 1
                continue
            self._age[pfn] = max(age - PAGE_DECLINE, 0)
            if self._age[pfn]:
                scan.nr_scanned += 1
            elif self._take(scan, pfn):
                walk.swap_address = address + PAGE_SIZE
                return pfn
        return None

    # ---- figures

    def lists(self) -> tuple[int, int, int, int]:
        """All inactive."""
        return self._pages.nr_anon + len(self._shm), 0, self._pages.nr_file, 0

    def pages(self) -> Iterator[Pfn]:
        """Shared memory last."""
        yield from self._pages
        yield from self._shm
