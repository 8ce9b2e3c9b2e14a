"""Pages in a row: what most policies keep."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from emu.x86 import Pfn
from minikernel.mm.page import PG_swapbacked

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node


class PageQueue:
    """Pages from the first to the last, each once, and how many of them go to swap.

    Every operation costs the same however many there are, but for ``sort``.
    """

    __slots__ = ("_flags", "_pages", "nr_anon")

    def __init__(self, node: "Node") -> None:
        self._flags = node.mem_map.flags
        self._pages: OrderedDict[Pfn, bool] = OrderedDict()  # True: it goes to swap
        self.nr_anon = 0

    def __len__(self) -> int:
        return len(self._pages)

    def __iter__(self) -> Iterator[Pfn]:
        return iter(self._pages)

    def __contains__(self, pfn: object) -> bool:
        return pfn in self._pages

    @property
    def nr_file(self) -> int:
        """Pages of files."""
        return len(self._pages) - self.nr_anon

    def append(self, pfn: Pfn) -> None:
        """*pfn*, which is not in the row, becomes the last."""
        is_anon = bool(self._flags[pfn] & PG_swapbacked)
        self._pages[pfn] = is_anon
        self.nr_anon += is_anon

    def popleft(self) -> Pfn:
        """Take the first."""
        pfn, is_anon = self._pages.popitem(last=False)
        self.nr_anon -= is_anon
        return pfn

    def remove(self, pfn: Pfn) -> None:
        """Take *pfn* out."""
        self.nr_anon -= self._pages.pop(pfn)

    def to_front(self, pfn: Pfn) -> None:
        """Make *pfn* the first."""
        self._pages.move_to_end(pfn, last=False)

    def sort(self, key: Callable[[Pfn], int]) -> None:
        """Put them in the order of *key*; equals stay as they are."""
        self._pages = OrderedDict((pfn, self._pages[pfn]) for pfn in sorted(self._pages, key=key))

    def lists(self) -> tuple[int, int, int, int]:
        """ReclaimPolicy.lists, when there is no other row: all are inactive."""
        return self.nr_anon, 0, self.nr_file, 0
