"""Whole tables as one integer, against the same thing entry by entry."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.x86 import PTE_A, PTE_D, PTE_P, PTE_RW, PTE_US, PTE_XD
from minikernel.mm.pgtable import PTE_SPECIAL, pte_pfn
from minikernel.mm.pte_lanes import TableLanes

FLAGS = [PTE_P, PTE_P, PTE_P, PTE_RW, PTE_US, PTE_A, PTE_D, PTE_SPECIAL]


def entries(size: int) -> st.SearchStrategy[list[int]]:
    """Entries in use, special ones, swap entries and holes."""
    bits = 32 if size == 4 else 64
    frames = st.integers(1, (1 << (20 if size == 4 else 40)) - 1).map(lambda pfn: pfn << 12)
    flags = st.lists(st.sampled_from([*FLAGS, PTE_XD] if size == 8 else FLAGS)).map(lambda some: sum(set(some)))
    used = st.tuples(frames, flags).map(lambda pair: pair[0] | pair[1])
    swapped = st.integers(0, (1 << bits) - 1).map(lambda raw: raw & ~PTE_P)
    return st.lists(st.one_of(st.just(0), used, swapped), min_size=1, max_size=4096 // size)


def fork_one(pte: int, *, wrprotect: bool) -> tuple[int, int, int]:
    """The parent's and the child's entry for *pte*, and its frame if another reference is needed."""
    if not pte & PTE_P:
        return pte, pte, 0
    parent = pte & ~PTE_RW if wrprotect else pte
    child = parent & ~PTE_A if wrprotect else parent & ~(PTE_A | PTE_D)
    return parent, child, 0 if pte & PTE_SPECIAL else pte_pfn(pte)


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("wrprotect", [True, False])
@given(data=st.data())
def test_fork_does_to_a_table_what_it_does_to_each_entry(size: int, wrprotect: bool, data: st.DataObject) -> None:
    table = data.draw(entries(size))
    code = "I" if size == 4 else "Q"
    got = TableLanes(size).fork(array(code, table).tobytes(), wrprotect=wrprotect)

    if not any(table):
        assert got is None
        return
    parents, children, pfns = zip(*(fork_one(pte, wrprotect=wrprotect) for pte in table), strict=True)
    assert got is not None
    assert array(code, got[0]).tolist() == list(parents)
    assert array(code, got[1]).tolist() == list(children)
    assert got[2] == [pfn for pfn in pfns if pfn]
