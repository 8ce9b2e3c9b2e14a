"""The pages that could be reclaimed, and the policy that keeps them in order.  Linux: mm/swap.c, mm/mlock.c.

A fault only notes the frame it handed out, one append to a list (Linux: per-CPU batches, lru_add_drain); pages get to
the policy when somebody wants to know, or the list grows long.  So a program on a machine with enough memory pays
nearly nothing, and pages that live shortly never get there at all.

Invariants, checked by validate():
    - a page has PG_lru if and only if it is the policy's, or unevictable;
    - unevictable pages have PG_unevictable, and nobody else has;
    - a page of user memory or of a page cache is on a list, or in ``pending``.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from emu.x86 import Pfn
from minikernel.mm.page import PG_active, PG_lru, PG_mlocked, PG_referenced, PG_unevictable, PG_uptodate
from minikernel.mm.policy.base import ReclaimPolicy
from minikernel.mm.policy.two_list import TwoListPolicy

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

_PENDING_SHIFT: Final = 1  # as many as half of RAM has frames may be pending


class PageLru:
    """Node.lru.  *note* is what the fault path calls with a frame that user memory or a page cache uses now."""

    __slots__ = ("_flags", "_node", "limit", "note", "pending", "policy", "unevictable")

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._flags = node.mem_map.flags
        self.pending: list[Pfn] = []
        self.note = self.pending.append
        self.limit = node.mem_map.nr_frames >> _PENDING_SHIFT
        self.policy: ReclaimPolicy = TwoListPolicy(node)
        self.unevictable: OrderedDict[Pfn, None] = OrderedDict()

    def use(self, policy: ReclaimPolicy) -> None:
        """Let *policy* choose from now on; it gets the pages in the order the old one had them."""
        self.drain()
        old, self.policy = self.policy, policy
        for pfn in list(old.pages()):
            old.remove(pfn)
            self._flags[pfn] &= ~PG_active
            policy.add(pfn)

    def drain(self) -> None:
        """Give what is pending to the policy (lru_add_drain).

        A frame that was freed since is skipped; one that was freed and used again stands where it was noted last.
        """
        pending = self.pending
        if not pending:
            return
        flags = self._flags
        refcount = self._node.mem_map.refcount
        add = self.policy.add
        for pfn in reversed(dict.fromkeys(reversed(pending))):
            bits = flags[pfn]
            if not refcount[pfn] or bits & PG_lru or not bits & PG_uptodate:
                continue
            if bits & PG_mlocked:
                self._add_unevictable(pfn)
                continue
            flags[pfn] = bits | PG_lru
            add(pfn)
        pending.clear()

    def remove(self, pfn: Pfn) -> None:
        """Take *pfn*, which has PG_lru, off its list."""
        if self._flags[pfn] & PG_unevictable:
            del self.unevictable[pfn]
        else:
            self.policy.remove(pfn)
        self._flags[pfn] &= ~(PG_lru | PG_unevictable)

    def move(self, pfn: Pfn, *, clear: int = 0, set: int = 0) -> None:  # noqa: A002 - a local word
        """Change flags of *pfn* that say which list it belongs to."""
        listed = self._flags[pfn] & PG_lru
        if listed:
            self.remove(pfn)
        self._flags[pfn] = self._flags[pfn] & ~clear | set
        if listed:
            self.put_back(pfn)

    def replace(self, old: Pfn, new: Pfn) -> None:
        """*new* takes the place of *old*, whose contents it has: page migration."""
        if self._flags[old] & PG_lru:
            self.remove(old)
            self.put_back(new)
        else:
            self.note(new)

    def put_back(self, pfn: Pfn) -> None:
        """An isolated page stays: on the policy's list, or the unevictable one if it is locked (folio_putback_lru)."""
        if self._flags[pfn] & PG_mlocked:
            self._add_unevictable(pfn)
            return
        self._flags[pfn] |= PG_lru
        self.policy.put_back(pfn)

    def _add_unevictable(self, pfn: Pfn) -> None:
        self._flags[pfn] |= PG_lru | PG_unevictable
        self.unevictable[pfn] = None
        self._node.vmstat["unevictable_pgs_culled"] += 1

    # ---- use

    def mark_accessed(self, pfn: Pfn) -> None:
        """A system call used the page: once it is referenced, twice it is active (folio_mark_accessed)."""
        bits = self._flags[pfn]
        if not bits & PG_referenced:
            self._flags[pfn] = bits | PG_referenced
        elif bits & (PG_lru | PG_active | PG_unevictable) == PG_lru:
            self.policy.accessed(pfn)
        elif not bits & PG_lru:
            self._flags[pfn] = bits & ~PG_referenced | PG_active  # it is pending

    def deactivate(self, pfn: Pfn) -> None:
        """The page is not needed soon."""
        if self._flags[pfn] & (PG_lru | PG_unevictable) == PG_lru:
            self.policy.deactivate(pfn)

    # ---- locked memory

    def mlock(self, pfn: Pfn) -> None:
        """A VM_LOCKED mapping has the page: reclaim need not look at it (mlock_folio)."""
        if not self._flags[pfn] & PG_mlocked:
            self.move(pfn, set=PG_mlocked)
            self._node.vmstat["unevictable_pgs_mlocked"] += 1

    def munlock(self, pfns: Iterable[Pfn]) -> None:
        """One mapping of each of *pfns* is not locked any more; if another is, reclaim will find out."""
        for pfn in pfns:
            if self._flags[pfn] & PG_mlocked:
                self.move(pfn, clear=PG_mlocked)
                self._node.vmstat["unevictable_pgs_munlocked"] += 1

    def rescue(self) -> None:
        """Have reclaim look at every locked page again: the locked mapping may be gone."""
        self.munlock(list(self.unevictable))
        self._node.vmstat["unevictable_pgs_rescued"] += 1

    # ---- figures

    def lists(self) -> tuple[int, int, int, int, int]:
        """Pages on the policy's lists, and unevictable ones."""
        self.drain()
        return (*self.policy.lists(), len(self.unevictable))

    def validate(self) -> None:
        """Assert the invariants."""
        listed = list(self.policy.pages())
        assert len(set(listed)) == len(listed), "PageLru.validate: the policy lists a page twice"
        assert sum(self.policy.lists()) == len(listed), "PageLru.validate: the policy counts other pages than it lists"
        for pfn in listed:
            bits = self._flags[pfn]
            where = f"PageLru.validate: frame {pfn:#x} (flags {bits:#x})"
            assert bits & (PG_lru | PG_unevictable) == PG_lru, f"{where} is on a list"
            assert self._node.mem_map.refcount[pfn], f"{where} is free and on a list"
        for pfn in self.unevictable:
            assert self._flags[pfn] & PG_unevictable, f"PageLru.validate: frame {pfn:#x} is listed as unevictable"
        marked = sum(1 for bits in self._flags if bits & PG_lru)
        known = len(listed) + len(self.unevictable)
        assert marked == known, f"PageLru.validate: {marked} frames have PG_lru, {known} are listed"
        pending = set(self.pending)
        for number, bits in enumerate(self._flags):
            if bits & PG_uptodate and not bits & PG_lru and self._node.mem_map.refcount[number]:
                assert number in pending, f"PageLru.validate: frame {number:#x} (flags {bits:#x}) is on no list"
