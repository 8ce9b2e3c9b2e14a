"""Reuse distances, against a list that is searched."""

import random

import numpy as np
import pytest

from emu.reuse import ReuseDistances


def searched(pages: list[int]) -> tuple[dict[int, int], int]:
    """The same, slowly: a stack of pages, the last touched first."""
    stack: list[int] = []
    found: dict[int, int] = {}
    first = 0
    for page in pages:
        if page in stack:
            distance = stack.index(page)
            rounded = 1 << (distance - 1).bit_length() if distance > 1 else distance
            found[rounded] = found.get(rounded, 0) + 1
            stack.remove(page)
        else:
            first += 1
        stack.insert(0, page)
    return dict(sorted(found.items())), first


@pytest.mark.parametrize(
    ("length", "different", "piece"),
    [(0, 1, 1), (2000, 1, 7), (3000, 40, 100), (30_000, 20, 30_000), (4000, 3500, 999)],
)
def test_distances_are_those_of_a_stack_of_pages(length: int, different: int, piece: int) -> None:
    rng = random.Random(length)
    names = [rng.getrandbits(63) for _ in range(different)]
    pages = [rng.choice(names) for _ in range(length)]
    with ReuseDistances() as reuse:
        for at in range(0, length, piece):
            reuse.touch(np.array(pages[at : at + piece], np.uint64))

        assert (reuse.distances, reuse.first) == searched(pages)
