"""Reading a guest without touching it."""

import io

import pytest

from minikernel.abi.mman import MAP_PRIVATE, PROT_NONE, PROT_READ
from minikernel.mm.vma import SpecialMapping
from minikernel.report.peek import FileBytes, peek
from tests.minikernel.mm.touch import BASE, Machine, Store, map_fixed, pfn_of, poke

PAGE = 4096


def test_bytes_across_present_and_absent_pages() -> None:
    machine = Machine()
    mm = machine.mm()
    map_fixed(mm, BASE, 3)
    poke(mm, BASE + PAGE, 7)
    before = mm.min_flt
    assert peek(mm, BASE + PAGE - 1, 3) == b"\0\7\0"
    assert peek(mm, BASE + 3 * PAGE - 2, 99) == b"\0\0"
    assert (mm.min_flt, mm.rss_anon) == (before, 1)


def test_file_pages_are_read_behind_the_cache() -> None:
    machine = Machine()
    mm = machine.mm()
    file = machine.file(store=Store(b"x" * 5000))
    map_fixed(mm, BASE, 4, PROT_READ, MAP_PRIVATE, file)
    assert peek(mm, BASE + 4998, 4) == b"xx\0\0"
    assert peek(mm, BASE + 2 * PAGE, 1) == b""
    assert file.cache.nr_pages == 0


def test_pages_without_rights_can_be_looked_at() -> None:
    machine = Machine()
    mm = machine.mm()
    map_fixed(mm, BASE, 1, PROT_NONE)
    assert peek(mm, BASE, 2) == b"\0\0"


def test_nothing_where_nothing_is() -> None:
    mm = Machine().mm()
    assert peek(mm, BASE, 4) == b""
    assert peek(mm, (1 << 64) - 8, 8) == b""
    assert peek(mm, mm.layout.task_size - 1, 8) == b""


def test_broken_disk_gives_nothing() -> None:
    machine = Machine()
    mm = machine.mm()
    store = Store(bytes(PAGE))
    map_fixed(mm, BASE, 1, PROT_READ, MAP_PRIVATE, machine.file(store=store))
    store.fail = True
    assert peek(mm, BASE, 4) == b""


def test_shared_memory_without_pages_is_zeroes() -> None:
    machine = Machine()
    mm = machine.mm()
    map_fixed(mm, BASE, 1, PROT_READ, MAP_PRIVATE, machine.file(PAGE))
    assert peek(mm, BASE, 2) == b"\0\0"


def test_file_as_a_stream() -> None:
    data = bytes(range(256)) * 40
    file = Machine().file(store=Store(data))
    file.cache.read_page(1)
    stream = FileBytes(file.cache)
    assert stream.readable()
    assert stream.seekable()
    assert stream.read() == data
    assert stream.read(5) == b""
    assert stream.seek(-3, io.SEEK_END) == len(data) - 3
    assert stream.read(9) == data[-3:]
    assert stream.seek(4090) == stream.tell() == 4090
    assert stream.read(12) == data[4090:4102]
    assert stream.seek(1, io.SEEK_CUR) == 4103
    assert stream.seek(1 << 60) == 1 << 60
    assert stream.read(1) == b""
    with pytest.raises(ValueError, match="before the start"):
        stream.seek(-1)


def test_stream_of_a_broken_disk_is_an_error() -> None:
    store = Store(bytes(PAGE))
    stream = FileBytes(Machine().file(store=store).cache)
    store.fail = True
    with pytest.raises(OSError, match="cannot be read"):
        stream.read(1)


def test_special_mapping_shows_the_kernels_frames() -> None:
    machine = Machine()
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 9)
    frame = pfn_of(mm, BASE)
    assert peek(mm, BASE, 1) == b"\t"
    special = SpecialMapping("[vdso]", (frame,))
    assert special.pages == (frame,)
