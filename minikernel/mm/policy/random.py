"""Any page, by a seeded chance: what a policy must beat."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from emu.x86 import Pfn
from minikernel.mm.page import PG_active, PG_swapbacked
from minikernel.mm.policy.base import ReclaimPolicy, Scan
from minikernel.prng import Prng

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node


class RandomPolicy(ReclaimPolicy):
    """The pages in an array, and where each is in it; one that leaves is replaced by the last."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "any page, from --seed"

    def __init__(self, node: "Node") -> None:
        self._flags = node.mem_map.flags
        self._pages: list[Pfn] = []
        self._at: dict[Pfn, int] = {}
        self._anon: set[Pfn] = set()  # those that go to swap
        self._prng = Prng(0)

    def seed(self, number: int) -> None:
        """Draw from *number* from now on."""
        self._prng = Prng(number)

    def add(self, pfn: Pfn) -> None:
        """To the end."""
        self._flags[pfn] &= ~PG_active
        self._at[pfn] = len(self._pages)
        self._pages.append(pfn)
        if self._flags[pfn] & PG_swapbacked:
            self._anon.add(pfn)

    put_back = add

    def remove(self, pfn: Pfn) -> None:
        """The last page takes its place."""
        self._swap(self._at[pfn], len(self._pages) - 1)
        self._pages.pop()
        del self._at[pfn]
        self._anon.discard(pfn)

    def _swap(self, left: int, right: int) -> None:
        pages, at = self._pages, self._at
        pages[left], pages[right] = pages[right], pages[left]
        at[pages[left]], at[pages[right]] = left, right

    def victims(self, scan: Scan) -> Iterator[Pfn]:
        """Draw without putting back: what does not suit moves behind those that can still be drawn."""
        left = len(self._pages)
        for _ in range(scan.quota(left)):
            left = min(left, len(self._pages))
            if scan.is_done or not left:
                return
            at = self._prng.next64() % left
            left -= 1
            pfn = self._pages[at]
            scan.nr_scanned += 1
            self._swap(at, left)
            if scan.suits(pfn):
                self.remove(pfn)
                yield pfn

    def lists(self) -> tuple[int, int, int, int]:
        """All inactive."""
        return len(self._anon), 0, len(self._pages) - len(self._anon), 0

    def pages(self) -> Iterator[Pfn]:
        """As they lie."""
        return iter(self._pages)
