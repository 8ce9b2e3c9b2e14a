"""Which pages were used when: hot pages, the working set over time, reuse distances; of rows in the order of time."""

from collections import Counter

import numpy as np

from emu.reuse import ReuseDistances
from emu.trace import Column
from emu.x86 import PAGE_SHIFT

_TASK_SHIFT = np.uint64(52)  # of a task in the number of a page
_TOP = 8


class PageUse:
    """The pages that tasks touched; *window* is the length of a stretch of time in instructions."""

    def __init__(self, window: int) -> None:
        self.touches: Counter[int] = Counter()  # by the page's address, whatever the task
        self.windows: dict[int, set[int]] = {}  # by number: task and page
        self.reuse = ReuseDistances()
        self._window = window

    def close(self) -> None:
        """Free what the host gave."""
        self.reuse.__exit__()

    def touch(self, icount: Column, pid: Column, address: Column) -> None:
        """At least one row; *icount* does not decrease."""
        pages = address >> np.uint64(PAGE_SHIFT)
        keys = pages | pid.astype(np.uint64) << _TASK_SHIFT
        self.reuse.touch(keys)
        # Neighbours on one page are counted at once: there are few others.
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        lengths = np.diff(np.append(starts, len(keys)))
        unique, inverse = np.unique(pages[starts], return_inverse=True)
        for page, count in zip(unique.tolist(), np.bincount(inverse, lengths).tolist(), strict=True):
            self.touches[page << PAGE_SHIFT] += int(count)
        first, last = int(icount[0]) // self._window, int(icount[-1]) // self._window
        bounds = np.searchsorted(icount, np.arange(first, last + 2, dtype=np.uint64) * np.uint64(self._window))
        for window, low, high in zip(range(first, last + 1), bounds.tolist(), bounds[1:].tolist(), strict=False):
            self.windows.setdefault(window, set()).update(np.unique(keys[low:high]).tolist())

    def lines(self, title: str) -> list[str]:
        """The three tables; *title* is what the pages hold."""
        total = max(self.touches.total(), 1)
        ranked = sorted(self.touches.items(), key=lambda item: (-item[1], item[0]))[:_TOP]
        lines = [f"{title:<8} {count:>10}  {count * 100 / total:5.1f} %  {page:#x}" for page, count in ranked]
        lines.append(f"working set   pages of {title}, by the first instruction of a tenth of the run")
        lines += [f"{'':<8} {len(pages):>10}  {window * self._window}" for window, pages in self.windows.items()]
        lines.append(f"reuse         of pages of {title}: other pages between two touches; {self.reuse.first} pages")
        lines += [
            f"{'':<8} {count:>10}  {f'up to {distance}' if distance > 1 else distance}"
            for distance, count in self.reuse.distances.items()
        ]
        return lines
