"""Which pages a run needed, as its page faults tell: hot pages, the working set over time, reuse distances.

A fault is seen when a page is touched for the first time, copied, or brought back; touches of pages that are there are
not events.  So these figures say how the kernel's work is spread, and with little RAM how a program uses its memory.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from emu.x86 import PAGE_SHIFT
from minikernel.events import MmFaultResolved
from minikernel.trace.codec import Told

WINDOWS: Final = 10
"""Stretches of equal length into which a run is cut for the working set."""

HOT: Final = 8
"""Pages that are listed."""

Page = tuple[int, int]
"""A task and the address of a page."""


@dataclass(frozen=True, slots=True)
class Locality:
    """How the page faults of a run are spread."""

    hot: list[tuple[Page, int]]  # the pages with most faults, and how many
    working_set: list[tuple[int, int, int]]  # from instruction on, faults, different pages in this window
    reuse: dict[int, int]  # distance, rounded up to a power of 2 -> how often; 0: the same page again at once
    first: int  # faults on pages that had none before


class _Tree:
    """How many marks stand at or behind a place: Fenwick's tree, which grows."""

    def __init__(self, size: int) -> None:
        self._sums = [0] * (size + 1)

    def add(self, place: int, count: int) -> None:
        """Put *count* marks at *place* (from 1)."""
        while place < len(self._sums):
            self._sums[place] += count
            place += place & -place

    def up_to(self, place: int) -> int:
        """Marks at places up to *place*."""
        total = 0
        while place:
            total += self._sums[place]
            place &= place - 1
        return total


def locality(events: Iterable[Told], end: int) -> Locality:
    """The figures of *events*, the last of which is at instruction *end* or before."""
    faults = [
        (icount, (pid, event.address >> PAGE_SHIFT << PAGE_SHIFT))
        for icount, pid, event in events
        if isinstance(event, MmFaultResolved)
    ]
    counts = Counter(page for _, page in faults)
    hot = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:HOT]
    reuse: Counter[int] = Counter()
    last: dict[Page, int] = {}
    marks = _Tree(len(faults))  # one at the last fault of each page: marks behind a place are the pages used since
    for number, (_, page) in enumerate(faults, 1):
        before = last.get(page)
        if before is not None:
            distance = len(last) - marks.up_to(before)
            reuse[1 << (distance - 1).bit_length() if distance else 0] += 1
            marks.add(before, -1)
        last[page] = number
        marks.add(number, 1)
    return Locality(hot, _windows(faults, end), dict(sorted(reuse.items())), len(last))


def _windows(faults: list[tuple[int, Page]], end: int) -> list[tuple[int, int, int]]:
    length = max(-(-(end + 1) // WINDOWS), 1)
    pages: list[list[Page]] = [[] for _ in range(WINDOWS)]
    for icount, page in faults:
        pages[min(icount // length, WINDOWS - 1)].append(page)
    return [(number * length, len(window), len(set(window))) for number, window in enumerate(pages)]


def locality_lines(found: Locality) -> list[str]:
    """The figures as ``minikernel stats`` prints them."""
    lines = [f"page     {count:>10}  process {pid} {address:#x}" for (pid, address), count in found.hot]
    lines += [f"window   {nr:>10}  faults on {pages} pages, from instruction {start}" for start, nr, pages in
              found.working_set]  # fmt: skip
    lines.append(f"reuse    {found.first:>10}  pages for the first time")
    lines += [
        f"reuse    {count:>10}  {'after up to ' + str(distance) + ' other pages' if distance else 'at once'}"
        for distance, count in found.reuse.items()
    ]
    return lines
