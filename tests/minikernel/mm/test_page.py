"""The columns of struct page."""

from emu.x86 import Pfn
from minikernel.mm.page import MemMap


def test_a_new_row_is_a_free_frame_with_no_history() -> None:
    rows = MemMap(3)

    columns = (rows.refcount, rows.mapcount, rows.flags, rows.order, rows.index)
    assert all(column.tolist() == [0, 0, 0] for column in columns)
    assert rows.owner == [None] * 3


def test_a_row_costs_25_bytes_and_an_owner() -> None:
    rows = MemMap(10)

    columns = (rows.refcount, rows.mapcount, rows.flags, rows.order, rows.index)
    assert sum(column.itemsize for column in columns) == 25


def test_dup_mappings_counts_a_frame_as_often_as_it_is_listed() -> None:
    rows = MemMap(4)
    rows.dup_mappings([Pfn(1), Pfn(3), Pfn(1)])

    assert rows.refcount.tolist() == [0, 2, 0, 1]
    assert rows.mapcount.tolist() == [0, 2, 0, 1]
