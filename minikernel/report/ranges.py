"""Rows of neighbours put together, so that long lists stay readable."""

from collections.abc import Iterable, Iterator

Page = tuple[int, int, int, bool]
"""Index in a file, frame, how often it is mapped, whether it is dirty."""


def index_ranges(pages: Iterable[Page]) -> Iterator[tuple[int, int, int, int, bool]]:
    """(first index, last index, first frame, times mapped, dirty) of runs whose frames stand in a row, too."""
    run: tuple[int, int, int, int, bool] | None = None
    for index, pfn, mapped, dirty in pages:
        if run is not None:
            first, last, start, times, was_dirty = run
            if (index, pfn, mapped, dirty) == (last + 1, start + index - first, times, was_dirty):
                run = (first, index, start, times, was_dirty)
                continue
            yield run
        run = (index, index, pfn, mapped, dirty)
    if run is not None:
        yield run
