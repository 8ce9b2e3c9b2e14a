"""MIN is what a search through all choices finds, and LRU what its definition says."""

from array import array
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikernel.report.belady import Cost, simulate_lru, simulate_min

STRINGS = st.lists(st.integers(0, 5), min_size=1, max_size=14)
SAMPLES = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=5, unique=True), min_size=1, max_size=20)


def one_by_one(string: list[int]) -> list["array[int]"]:
    return [array("I", [page]) for page in string]


def fewest_misses(string: list[int], frames: int) -> int:
    """Try every victim at every miss."""

    @cache
    def after(at: int, resident: frozenset[int]) -> int:
        if at == len(string):
            return 0
        page = string[at]
        if page in resident:
            return after(at + 1, resident)
        if len(resident) < frames:
            return 1 + after(at + 1, resident | {page})
        return 1 + min(after(at + 1, resident - {victim} | {page}) for victim in resident)

    return after(0, frozenset())


def lru_misses(string: list[int], frames: int) -> int:
    misses = 0
    for at, page in enumerate(string):
        recent = list(dict.fromkeys(reversed(string[:at])))[:frames]
        misses += page not in recent
    return misses


@settings(max_examples=100, deadline=None, derandomize=True)
@given(string=STRINGS, frames=st.integers(1, 4))
def test_min_is_the_least_that_any_choice_costs(string: list[int], frames: int) -> None:
    cost = simulate_min(one_by_one(string), frames)
    assert cost.first == len(set(string))
    assert cost.first + cost.back == fewest_misses(string, frames)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(string=STRINGS, frames=st.integers(1, 4))
def test_lru_is_what_it_is_called(string: list[int], frames: int) -> None:
    cost = simulate_lru(one_by_one(string), frames)
    assert cost.first + cost.back == lru_misses(string, frames)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(samples=SAMPLES, frames=st.integers(1, 6))
def test_a_coarser_look_never_makes_the_optimum_larger(samples: list[list[int]], frames: int) -> None:
    """Whatever the order within the samples really was: MIN of it, use by use, is at least what we say."""
    played = [array("I", sample) for sample in samples]
    least = simulate_min(played, frames)
    truth = simulate_min(one_by_one([page for sample in samples for page in sample]), frames)
    assert least.first == truth.first
    assert least.back <= truth.back
    assert least.back <= simulate_lru(played, frames).back


@pytest.mark.parametrize("simulate", [simulate_min, simulate_lru])
def test_with_room_for_all_nothing_comes_back(simulate: object) -> None:
    assert callable(simulate)
    assert simulate([array("I", [1, 2]), array("I", [3, 1]), array("I", [2])], 3) == Cost(3, 0)
