"""Generations, as Linux's multi-gen LRU.  Linux: mm/vmscan.c, lru_gen_*; mm/workingset.c, lru_gen_refault.

Pages lie in generations numbered from *min_seq* to *max_seq*; the oldest one is evicted.  When only two are left, an
aging walk looks at all accessed bits, moves what was used to the youngest and opens a new one.  Pages that system
calls use are counted instead of moved: how often is their tier, and a tier that comes back more often than the pages
used once is protected by one generation.

Linux walks page tables, we walk pages; it has Bloom filters and a look at the neighbours to make that cheaper.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from emu.x86 import Pfn
from minikernel.mm.page import PG_active, PG_referenced, PG_swapbacked
from minikernel.mm.policy.base import ReclaimPolicy, Scan

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

MIN_NR_GENS: Final = 2  # younger ones are never evicted from
MAX_NR_GENS: Final = 4
MAX_NR_TIERS: Final = 4
_MIN_LRU_BATCH: Final = 64  # refaults below which a ratio means nothing (BITS_PER_LONG)
_ANON: Final = 0
_FILE: Final = 1
_MAX_SWAPPINESS: Final = 200

Generation = OrderedDict[Pfn, None]


class Shadow(NamedTuple):
    """What is remembered of an evicted page: its *kind*, the generation it was in, its *uses* by system calls."""

    kind: int
    seq: int
    uses: int


class Tally:
    """What came back of what was evicted, by tier; old figures fade (struct ctrl_pos)."""

    __slots__ = ("refaulted", "total")

    def __init__(self) -> None:
        self.refaulted = [0] * MAX_NR_TIERS
        self.total = [0] * MAX_NR_TIERS

    def fade(self) -> None:
        """Another generation has gone."""
        self.refaulted = [count // 2 for count in self.refaulted]
        self.total = [count // 2 for count in self.total]

    def unprotected(self) -> int:
        """The first tier that comes back more than twice as often as tier 0 (get_tier_idx)."""
        for tier in range(1, MAX_NR_TIERS):
            if not self.is_cheaper(self, tier=0, other_tier=tier, gain=2, other_gain=1):
                return tier
        return MAX_NR_TIERS

    def is_cheaper(self, other: "Tally", *, tier: int, other_tier: int, gain: int, other_gain: int) -> bool:
        """Whether *other_tier* of *other* may be evicted as readily as *tier* of ours (positive_ctrl_err)."""
        refaulted = other.refaulted[other_tier]
        if refaulted < _MIN_LRU_BATCH:
            return True
        ours = (self.refaulted[tier] + 1) * other.total[other_tier] * other_gain
        return refaulted * (self.total[tier] + _MIN_LRU_BATCH) * gain <= ours


class MglruPolicy(ReclaimPolicy):
    """Generations of anonymous and of file pages, with one *max_seq* and a *min_seq* each.

    Invariants: a page is in the generation that *where* says; min_seq <= max_seq < min_seq + MAX_NR_GENS.
    """

    name: ClassVar[str] = "mglru"
    summary: ClassVar[str] = "generations and tiers (Linux's multi-gen LRU)"

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._flags = node.mem_map.flags
        self.max_seq = MIN_NR_GENS + 1
        self.min_seq = [0, 0]
        self._gens: tuple[dict[int, Generation], ...] = tuple(
            {seq: OrderedDict() for seq in range(MAX_NR_GENS)} for _ in (_ANON, _FILE)
        )
        self._where: dict[Pfn, tuple[int, int]] = {}  # kind and generation
        self._uses: dict[Pfn, int] = {}  # by system calls, beyond PG_referenced
        self._tally = (Tally(), Tally())

    # ---- coming and going

    def add(self, pfn: Pfn) -> None:
        """What a fault brought is youngest, what a system call read is oldest (lru_gen_add_folio)."""
        flags = self._flags[pfn]
        kind = _ANON if flags & PG_swapbacked else _FILE
        young = flags & PG_active or self._node.mem_map.mapcount[pfn]
        self._insert(pfn, kind, self.max_seq if young else self.min_seq[kind])

    def put_back(self, pfn: Pfn) -> None:
        """Not the next to be tried."""
        flags = self._flags[pfn]
        kind = _ANON if flags & PG_swapbacked else _FILE
        self._insert(pfn, kind, self.max_seq if flags & PG_active else min(self.min_seq[kind] + 1, self.max_seq))

    def _insert(self, pfn: Pfn, kind: int, seq: int) -> None:
        self._flags[pfn] &= ~PG_active
        self._where[pfn] = kind, seq
        self._gens[kind][seq][pfn] = None

    def remove(self, pfn: Pfn) -> None:
        """Out of its generation."""
        kind, seq = self._where.pop(pfn)
        del self._gens[kind][seq][pfn]
        self._uses.pop(pfn, None)

    def _move(self, pfn: Pfn, to: int) -> None:
        kind, seq = self._where[pfn]
        del self._gens[kind][seq][pfn]
        self._insert(pfn, kind, to)

    def accessed(self, pfn: Pfn) -> None:
        """One more use: a higher tier soon."""
        self._uses[pfn] = self._uses.get(pfn, 0) + 1

    def deactivate(self, pfn: Pfn) -> None:
        """To the oldest generation."""
        self._flags[pfn] &= ~PG_referenced
        self._uses.pop(pfn, None)
        self._move(pfn, self.min_seq[self._where[pfn][0]])

    def _tier(self, pfn: Pfn) -> int:
        """How often system calls used it, as a power of two (lru_tier_from_refs)."""
        uses = self._uses.get(pfn, 0) + bool(self._flags[pfn] & PG_referenced)
        return min(uses.bit_length(), MAX_NR_TIERS - 1)

    # ---- choosing

    def victims(self, scan: Scan) -> Iterator[Pfn]:
        """From the oldest generation of the kind that comes back less (evict_folios)."""
        left = [scan.quota(sum(map(len, gens.values()))) for gens in self._gens]
        if not scan.may_swap or not self._node.vm_sysctl.swappiness:
            left[_ANON] = 0
        walks = 0
        while not scan.is_done and any(left):
            preferred = self._kind_to_scan()
            for kind in (preferred, 1 - preferred):
                oldest = self._oldest(kind) if left[kind] else None
                if oldest:
                    break
            else:
                # Two walks make everything that nobody uses old.
                if walks == MIN_NR_GENS:
                    return
                walks += 1
                self._age(scan)
                continue
            left[kind] -= 1
            pfn = next(iter(oldest))
            scan.nr_scanned += 1
            if self._is_wanted(scan, pfn, kind):
                continue
            tier = self._tier(pfn)
            self._tally[kind].total[tier] += 1
            del oldest[pfn]
            del self._where[pfn]
            yield pfn

    def _is_wanted(self, scan: Scan, pfn: Pfn, kind: int) -> bool:
        """Whether *pfn* moves on to another generation (sort_folio, folio_check_references)."""
        following = min(self.min_seq[kind] + 1, self.max_seq)
        if not scan.suits(pfn):
            self._move(pfn, following)
        elif scan.referenced(pfn):
            self._move(pfn, self.max_seq)
        elif (tier := self._tier(pfn)) >= self._tally[kind].unprotected():
            self._tally[kind].total[tier] += 1
            self._move(pfn, following)
        else:
            return False
        return True

    def _kind_to_scan(self) -> int:
        """Which of the two comes back less, for its price (get_type_to_scan)."""
        swappiness = self._node.vm_sysctl.swappiness
        anon, file = self._tally
        price = _MAX_SWAPPINESS - swappiness
        return int(anon.is_cheaper(file, tier=0, other_tier=0, gain=swappiness, other_gain=price))

    def _oldest(self, kind: int) -> Generation | None:
        """The oldest generation with pages; None: only the youngest have any (scan_folios)."""
        while self.max_seq - self.min_seq[kind] >= MIN_NR_GENS:
            oldest = self._gens[kind][self.min_seq[kind]]
            if oldest:
                return oldest
            self._retire(kind)
        return None

    def _retire(self, kind: int) -> None:
        """The oldest generation ends; its pages, if any, go to the next (inc_min_seq)."""
        gens = self._gens[kind]
        last = gens.pop(self.min_seq[kind])
        self.min_seq[kind] += 1
        for pfn in last:
            self._insert(pfn, kind, self.min_seq[kind])
        self._tally[kind].fade()

    def _age(self, scan: Scan) -> None:
        """Move all that was used to the youngest generation, and open a new one (inc_max_seq)."""
        scan.nr_scanned += len(self._where)
        for pfn in list(self._where):
            if scan.referenced(pfn):
                self._move(pfn, self.max_seq)
        self.max_seq += 1
        for kind, gens in enumerate(self._gens):
            gens[self.max_seq] = OrderedDict()
            if self.max_seq - self.min_seq[kind] >= MAX_NR_GENS:
                self._retire(kind)

    # ---- refaults

    def evicted(self, pfn: Pfn) -> Shadow:
        """Its kind, when it went, and how often it was used (lru_gen_eviction)."""
        kind = _ANON if self._flags[pfn] & PG_swapbacked else _FILE
        uses = self._uses.pop(pfn, 0) + bool(self._flags[pfn] & PG_referenced)
        return Shadow(kind, self.min_seq[kind], uses)

    def refault(self, pfn: Pfn, shadow: object) -> None:
        """Back while younger generations are still here: that counts against its tier (lru_gen_refault)."""
        if not isinstance(shadow, Shadow) or self.max_seq - shadow.seq >= MAX_NR_GENS:
            return
        kind, _, uses = shadow
        self._tally[kind].refaulted[min(uses.bit_length(), MAX_NR_TIERS - 1)] += 1
        if uses:
            self._uses[pfn] = uses

    # ---- figures

    def lists(self) -> tuple[int, int, int, int]:
        """The two youngest generations are active (lru_gen_is_active)."""
        counts = []
        for gens in self._gens:
            active = sum(len(pages) for seq, pages in gens.items() if seq > self.max_seq - MIN_NR_GENS)
            counts += [sum(map(len, gens.values())) - active, active]
        return counts[0], counts[1], counts[2], counts[3]

    def pages(self) -> Iterator[Pfn]:
        """From the oldest generation to the youngest, anonymous pages first."""
        for gens in self._gens:
            for seq in sorted(gens):
                yield from gens[seq]
