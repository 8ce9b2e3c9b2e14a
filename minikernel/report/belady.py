"""What a reference string costs at best: Belady's MIN, and LRU beside it.

L. A. Belady: "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5 (1966).

The string is a list of samples, the pages used in one interval each.  Within a sample pages that are there come before
those that are not: any order is possible, and this one misses least.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

Samples = Sequence["array[int]"]
_NEVER: Final = (1 << 32) - 1


class Cost(NamedTuple):
    """Misses: *first* uses of a page, which nobody can avoid, and pages that had been there, brought *back*."""

    first: int
    back: int


def _next_uses(samples: Samples) -> list["array[int]"]:
    """For each use, the number of the sample in which the page is used next."""
    last: dict[int, int] = {}
    found = []
    for number in range(len(samples) - 1, -1, -1):
        found.append(array("I", [last.get(page, _NEVER) for page in samples[number]]))
        last.update(dict.fromkeys(samples[number], number))
    found.reverse()
    return found


def simulate_min(samples: Samples, frames: int) -> Cost:
    """Play *samples* with *frames* frames: the page that is used last from now on goes."""
    resident: dict[int, int] = {}  # page -> when it is used next
    heap: list[tuple[int, int]] = []  # (minus that, page); entries that resident contradicts are old
    seen: set[int] = set()
    back = 0
    for sample, nexts in zip(samples, _next_uses(samples), strict=True):
        misses = []
        for page, following in zip(sample, nexts, strict=True):
            if page in resident:
                resident[page] = following
                heappush(heap, (-following, page))
            else:
                misses.append((page, following))
        for page, following in misses:
            while len(resident) >= frames:
                when, victim = heappop(heap)
                if resident.get(victim) == -when:
                    del resident[victim]
            resident[page] = following
            heappush(heap, (-following, page))
            back += page in seen
            seen.add(page)
    return Cost(len(seen), back)


def simulate_lru(samples: Samples, frames: int) -> Cost:
    """Play *samples* with *frames* frames: the page that was used longest ago goes."""
    resident: OrderedDict[int, None] = OrderedDict()
    seen: set[int] = set()
    back = 0
    for sample in samples:
        misses = []
        for page in sample:
            if page in resident:
                resident.move_to_end(page)
            else:
                misses.append(page)
        for page in misses:
            if len(resident) >= frames:
                resident.popitem(last=False)
            resident[page] = None
            back += page in seen
            seen.add(page)
    return Cost(len(seen), back)
