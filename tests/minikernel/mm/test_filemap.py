"""The page cache: read, write, truncate, holes, writeback."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ
from minikernel.mm.fault import BusError
from minikernel.mm.filemap import PageCache
from minikernel.mm.mapped_file import ShmemFile
from tests.minikernel.mm.touch import BASE, RW, WRITE, Machine, Store, map_fixed, peek, poke, touch


@pytest.fixture
def machine() -> Machine:
    return Machine(ram=4 << 20)


def test_a_read_fills_from_the_store_and_stops_at_the_end(machine: Machine) -> None:
    store = Store(b"a" * PAGE_SIZE + b"b" * 10)
    cache = machine.file(store=store).cache

    assert cache.read(PAGE_SIZE - 2, 100) == b"aa" + b"b" * 10
    assert cache.read(PAGE_SIZE + 10, 1) == b""
    assert (store.reads, cache.nr_pages) == ([0, 1], 2)
    assert cache.read(0, 1) == b"a"
    assert store.reads == [0, 1]
    assert cache.find_get_page(5) is None
    machine.validate()


def test_a_hole_reads_as_zeroes_and_takes_no_frame(machine: Machine) -> None:
    cache = machine.file(5 * PAGE_SIZE).cache

    assert cache.read(PAGE_SIZE, 2 * PAGE_SIZE) == bytes(2 * PAGE_SIZE)
    assert cache.nr_pages == 0
    assert cache.is_shmem


def test_a_write_grows_the_file_and_reads_only_partial_pages(machine: Machine) -> None:
    store = Store(b"a" * (3 * PAGE_SIZE))
    cache = machine.file(store=store).cache

    assert cache.write(10, b"x" * (2 * PAGE_SIZE)) == 2 * PAGE_SIZE
    assert store.reads == [0, 2]
    assert cache.read(0, 12) == b"a" * 10 + b"xx"
    assert cache.read(2 * PAGE_SIZE + 9, 3) == b"xaa"
    assert cache.write(4 * PAGE_SIZE, b"end") == 3
    assert cache.size == 4 * PAGE_SIZE + 3
    assert cache.read(3 * PAGE_SIZE, 5) == bytes(5)
    assert cache.dirty == {0, 1, 2, 4}
    machine.validate()


def test_errors_come_first_or_cut_the_transfer_short(machine: Machine) -> None:
    store = Store(b"a" * (3 * PAGE_SIZE))
    cache = machine.file(store=store).cache
    cache.read(0, 1)
    store.fail = True

    assert cache.read(0, 2 * PAGE_SIZE) == b"a" * PAGE_SIZE
    with pytest.raises(LinuxError, match="EIO"):
        cache.read(PAGE_SIZE, 2 * PAGE_SIZE)
    assert cache.write(1, b"x" * PAGE_SIZE) == PAGE_SIZE - 1
    with pytest.raises(LinuxError, match="EIO"):
        cache.write(PAGE_SIZE, b"x")
    machine.validate()


def test_truncation_takes_pages_from_every_mapping(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(store=Store(b"a" * (4 * PAGE_SIZE)))
    map_fixed(mm, BASE, 4, RW, MAP_PRIVATE, file)
    map_fixed(mm, BASE + 4 * PAGE_SIZE, 2, RW, MAP_SHARED, file, 2)
    for page in (0, 3, 4, 5):
        poke(mm, BASE + page * PAGE_SIZE, 1)
    peek(mm, BASE + PAGE_SIZE)
    file.cache.truncate(PAGE_SIZE + 100)
    machine.validate()

    assert (mm.rss_anon, file.cache.nr_pages) == (1, 2)
    assert peek(mm, BASE + PAGE_SIZE + 99) == ord("a")
    assert peek(mm, BASE + PAGE_SIZE + 100) == 0
    for page in (2, 3, 4, 5):
        assert isinstance(touch(mm, BASE + page * PAGE_SIZE, WRITE), BusError)

    file.cache.truncate(4 * PAGE_SIZE)
    assert file.cache.read(PAGE_SIZE + 98, 4) == b"aa\0\0"
    assert file.cache.read(3 * PAGE_SIZE, 2) == bytes(2), "what was cut off does not come back"
    machine.validate()


def test_a_truncation_that_cannot_read_its_last_page_changes_nothing(machine: Machine) -> None:
    store = Store(b"a" * (2 * PAGE_SIZE))
    cache = machine.file(store=store).cache
    store.fail = True

    with pytest.raises(LinuxError, match="EIO"):
        cache.truncate(100)
    assert cache.size == 2 * PAGE_SIZE
    cache.truncate(PAGE_SIZE)
    assert cache.size == PAGE_SIZE


@pytest.mark.parametrize("stored", [True, False], ids=["with a store", "shmem"])
@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 5 * PAGE_SIZE),
        (10, 20),
        (10, PAGE_SIZE),
        (10, 3 * PAGE_SIZE),
        (PAGE_SIZE, PAGE_SIZE),
        (PAGE_SIZE, 2 * PAGE_SIZE + 7),
        (2 * PAGE_SIZE + 1, 100 * PAGE_SIZE),
        (PAGE_SIZE - 1, 2),
        (4 * PAGE_SIZE + 1, 5),
        (9 * PAGE_SIZE, 5),
    ],
)
def test_a_hole_is_zeroes_and_nothing_else(machine: Machine, stored: bool, offset: int, length: int) -> None:
    size = 4 * PAGE_SIZE + 50
    data = bytes(index % 251 + 1 for index in range(size))
    file = machine.file(store=Store(data)) if stored else machine.file()
    if not stored:
        file.cache.write(0, data)
    mm = machine.mm()
    map_fixed(mm, BASE, 5, RW, MAP_SHARED, file)
    for page in range(5):
        peek(mm, BASE + page * PAGE_SIZE)
    file.cache.punch_hole(offset, length)
    machine.validate()

    expected = bytearray(data)
    end = min(offset + length, size)
    expected[offset:end] = bytes(max(end - offset, 0))
    assert file.cache.size == size
    assert file.cache.read(0, size) == bytes(expected)
    assert bytes(peek(mm, BASE + at) for at in range(0, size, 97)) == bytes(expected[0::97])
    machine.validate()


def test_a_hole_in_a_hole_takes_no_frame(machine: Machine) -> None:
    cache = machine.file(5 * PAGE_SIZE).cache
    cache.punch_hole(10, 20)

    assert cache.nr_pages == 0


def test_holes_leave_private_copies_alone(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(2 * PAGE_SIZE)
    map_fixed(mm, BASE, 2, RW, MAP_PRIVATE, file)
    poke(mm, BASE, 7)
    file.cache.punch_hole(0, 2 * PAGE_SIZE)

    assert peek(mm, BASE) == 7
    machine.validate()


def test_sync_writes_what_is_dirty_within_the_size(machine: Machine) -> None:
    store = Store(bytes(3 * PAGE_SIZE))
    cache = machine.file(store=store).cache
    cache.write(0, b"a")
    cache.write(PAGE_SIZE, b"b")
    cache.write(3 * PAGE_SIZE, b"cc")
    cache.sync(1, 2)

    assert store.writes == [1]
    assert cache.dirty == {0, 3}
    cache.sync()
    assert store.writes == [1, 0, 3]
    assert len(store.data) == 3 * PAGE_SIZE + 2
    assert cache.backed == 3 * PAGE_SIZE + 2
    machine.file(PAGE_SIZE).cache.sync()
    machine.validate()


def test_a_page_beyond_the_end_has_nothing_to_write(machine: Machine) -> None:
    cache = machine.file(store=Store(bytes(PAGE_SIZE))).cache
    cache.read_page(3)
    cache.mark_dirty(3)
    cache.sync()

    assert cache.dirty == set()


def test_a_failed_sync_keeps_the_page_dirty(machine: Machine) -> None:
    store = Store(bytes(PAGE_SIZE))
    cache = machine.file(store=store).cache
    cache.write(0, b"a")
    store.fail = True

    with pytest.raises(LinuxError, match="EIO"):
        cache.sync()
    assert cache.dirty == {0}
    machine.validate()


def test_a_write_to_code_reaches_the_cpu(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(PAGE_SIZE)
    map_fixed(mm, BASE, 1, PROT_READ | PROT_EXEC, MAP_SHARED, file)
    peek(mm, BASE)
    machine.node.stale_code.clear()
    file.cache.write(0, b"\xc3")

    assert machine.node.stale_code == [file.cache.pages[0]]


def test_shared_anonymous_memory_goes_with_its_last_mapping(machine: Machine) -> None:
    cache = PageCache(machine.node, size=PAGE_SIZE)
    file = ShmemFile(cache)
    mm = machine.mm()
    map_fixed(mm, BASE, 1, RW, MAP_SHARED, file)
    map_fixed(mm, BASE + PAGE_SIZE, 1, RW, MAP_SHARED, file)
    poke(mm, BASE, 1)
    map_fixed(mm, BASE, 1)

    assert cache.nr_pages == 1
    assert list(cache.i_mmap) == [mm.vmas.items[1]]
    map_fixed(mm, BASE + PAGE_SIZE, 1)
    assert cache.nr_pages == 0
    machine.validate()


def test_a_mapped_cache_cannot_be_destroyed(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(PAGE_SIZE)
    map_fixed(mm, BASE, 1, RW, MAP_SHARED, file)

    with pytest.raises(AssertionError, match="is mapped"):
        file.cache.destroy()


def test_a_store_may_not_give_more_than_a_page(machine: Machine) -> None:
    class Generous(Store):
        def read_page(self, index: int) -> bytes:
            return bytes(PAGE_SIZE + 1)

    cache = machine.file(store=Generous(bytes(3 * PAGE_SIZE))).cache
    with pytest.raises(AssertionError, match="4097 bytes"):
        cache.read(0, 1)


SPAN = 3 * PAGE_SIZE
OFFSETS = st.integers(0, SPAN) | st.sampled_from([0, PAGE_SIZE - 1, PAGE_SIZE, 2 * PAGE_SIZE])
LENGTHS = st.integers(0, SPAN) | st.sampled_from([1, PAGE_SIZE, 2 * PAGE_SIZE])


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(["write", "truncate", "punch", "sync", "read"]), OFFSETS, LENGTHS), max_size=14),
)
def test_a_file_is_its_bytes(stored: bool, steps: list[tuple[str, int, int]]) -> None:
    """Whatever the order of writes, truncations, holes and writeback."""
    machine = Machine(ram=4 << 20)
    model = bytearray(b"\x77" * (PAGE_SIZE + 100))
    store = Store(bytes(model))
    cache = machine.file(store=store).cache if stored else machine.file().cache
    if not stored:
        cache.write(0, model)
    for number, (what, offset, length) in enumerate(steps):
        if what == "write":
            data = bytes([number + 1]) * length
            assert cache.write(offset, data) == length
            if length:
                model.extend(bytes(max(offset + length - len(model), 0)))
                model[offset : offset + length] = data
        elif what == "truncate":
            cache.truncate(offset)
            del store.data[offset:]  # a file system does that
            model = model[:offset] + bytes(max(offset - len(model), 0))
        elif what == "punch":
            cache.punch_hole(offset, length)
            end = min(offset + length, len(model))
            if offset < end:
                model[offset:end] = bytes(end - offset)
        elif what == "sync":
            cache.sync()
        assert cache.size == len(model)
        assert cache.read(offset, length) == bytes(model[offset : offset + length])
    machine.validate()
    assert cache.read(0, 10 * SPAN) == bytes(model)
    if stored:
        cache.sync()
        assert bytes(store.data).ljust(len(model), b"\0") == bytes(model)
    cache.destroy()
    machine.validate()


def test_no_frame_for_a_page_is_enomem(machine: Machine) -> None:
    cache = machine.file(store=Store(bytes(3 * PAGE_SIZE))).cache
    machine.node.fail_allocation(0)

    with pytest.raises(LinuxError) as failure:
        cache.read_page(0)
    assert failure.value.errno == Errno.ENOMEM
    machine.validate()
