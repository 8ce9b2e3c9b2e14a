"""Calls that wait: they park on a queue, are woken by the other side, and end as a signal says."""

import os
from pathlib import Path

import pytest

from minikernel.abi import fcntl as f
from minikernel.abi.abi import I386, X86_64
from minikernel.abi.errno import Errno
from minikernel.abi.poll import POLLERR, POLLHUP, POLLIN
from minikernel.abi.signal import SIGPIPE
from minikernel.syscalls.table import advance
from minikernel.wait import Wait
from tests.minikernel.syscalls.file_calls import Emulated


@pytest.fixture
def ours(tmp_path: Path) -> Emulated:
    return Emulated(X86_64, bytes(tmp_path))


def pipe(ours: Emulated, flags: int = 0) -> tuple[int, int]:
    """A new pipe's descriptors."""
    assert ours.call("pipe2", ours.memory(), flags) == 0
    reader, writer = ours.caller.words(2)
    return reader, writer


def test_read_of_an_empty_pipe_waits_for_a_writer(ours: Emulated) -> None:
    reader, writer = pipe(ours)
    call, wait = ours.caller.block("read", reader, ours.memory() + 4096, 10)
    file = ours.caller.task.files.get(reader)
    assert wait.queue in file.poll_queues()
    ours.call("write", writer, ours.put(b"hello", 100), 5)

    assert advance(call, woken=True) == 5
    assert ours.get(5, 4096) == b"hello"


def test_a_waiting_read_holds_its_file(ours: Emulated) -> None:
    """Another thread closes the descriptor: the read goes on, the file is released after it."""
    reader, writer = pipe(ours)
    file = ours.caller.task.files.get(reader)
    call, _ = ours.caller.block("read", reader, ours.memory() + 4096, 10)
    assert ours.call("close", reader) == 0
    assert not file.released
    ours.call("write", writer, ours.put(b"x", 100), 1)

    assert advance(call, woken=True) == 1
    assert file.released


def test_a_signal_ends_a_waiting_read(ours: Emulated) -> None:
    reader, _ = pipe(ours)
    call, _ = ours.caller.block("read", reader, ours.memory(), 10)

    assert advance(call, interrupt=True) == -Errno.ERESTARTSYS


def test_nonblocking_read_is_eagain_and_at_the_end_0(ours: Emulated) -> None:
    reader, writer = pipe(ours, os.O_NONBLOCK)

    assert ours.call("read", reader, ours.memory(), 10) == -Errno.EAGAIN
    assert ours.call("close", writer) == 0
    assert ours.call("read", reader, ours.memory(), 10) == 0


def test_a_large_write_goes_on_as_room_appears(ours: Emulated) -> None:
    """70,000 bytes: 65,536 fit, the rest follows when a reader has made room."""
    reader, writer = pipe(ours)
    data = bytes(range(256)) * 235
    ours.put(data)
    call, _ = ours.caller.block("writev", writer, _vector(ours, [(0, 50000), (10000, 20000)]), 2)
    assert ours.call("ioctl", reader, 0x541B, ours.memory() + 61000) == 0
    assert ours.caller.words(1, 61000) == [65536]
    assert ours.call("read", reader, ours.memory() + 62000, 1000) == 1000
    still = advance(call, woken=True)
    assert isinstance(still, Wait)
    files = ours.caller.task.files
    got = data[:1000] + files.get(reader).read(69000)

    assert advance(call, woken=True) == 70000
    assert got + files.get(reader).read(70000) == data[:50000] + data[10000:30000]


def _vector(ours: Emulated, pieces: list[tuple[int, int]]) -> int:
    """struct iovec for *pieces* (offset in scratch memory, size)."""
    words = b"".join(
        number.to_bytes(8, "little") for offset, size in pieces for number in (ours.memory() + offset, size)
    )
    return ours.put(words, 60500)


def test_a_signal_in_a_large_write_tells_how_much_was_written(ours: Emulated) -> None:
    _, writer = pipe(ours)
    assert ours.call("write", writer, ours.memory(), 60000) == 60000
    partly, _ = ours.caller.block("write", writer, ours.memory(), 10000)
    not_at_all, _ = ours.caller.block("write", writer, ours.memory(), 5000)

    assert advance(partly, interrupt=True) == 4096
    assert advance(not_at_all, interrupt=True) == -Errno.ERESTARTSYS


def test_writing_to_nobody_is_epipe_with_sigpipe(ours: Emulated) -> None:
    reader, writer = pipe(ours)
    ours.call("close", reader)

    assert ours.call("write", writer, ours.memory(), 1) == -Errno.EPIPE
    assert ours.caller.task.pending.mask >> (SIGPIPE - 1) & 1


def test_the_reader_leaving_ends_a_waiting_write(ours: Emulated) -> None:
    reader, writer = pipe(ours)
    assert ours.call("write", writer, ours.memory(), 60000) == 60000
    call, _ = ours.caller.block("write", writer, ours.memory(), 60000)
    ours.call("close", reader)

    assert advance(call, woken=True) == 4096
    assert ours.caller.task.pending.mask >> (SIGPIPE - 1) & 1


def test_poll_waits_for_one_of_many(ours: Emulated) -> None:
    first, first_in = pipe(ours)
    second, second_in = pipe(ours)
    entries = b"".join(fd.to_bytes(4, "little") + POLLIN.to_bytes(2, "little") + b"\0\0" for fd in (first, second))
    call, _ = ours.caller.block("poll", ours.put(entries), 2, 5000)
    ours.call("write", second_in, ours.put(b"x", 100), 1)

    assert advance(call, woken=True) == 1
    assert ours.get(16)[6:8] == b"\0\0"
    assert ours.get(16)[14:16] == POLLIN.to_bytes(2, "little")
    ours.call("close", first_in)
    assert ours.call("poll", ours.put(entries), 2, 0) == 2
    assert int.from_bytes(ours.get(16)[6:8], "little") == POLLHUP


def test_poll_leaves_no_waiter_behind(ours: Emulated) -> None:
    reader, _ = pipe(ours)
    entry = reader.to_bytes(4, "little") + b"\1\0\0\0"
    call, wait = ours.caller.block("poll", ours.put(entry), 1, 10)
    assert wait.timeout_ns == 10_000_000
    ours.caller.icount += 1 << 40  # time passes
    file = ours.caller.task.files.get(reader)
    assert any(queue.waiters for queue in file.poll_queues())

    assert advance(call, woken=False) == 0
    assert not any(queue.waiters for queue in file.poll_queues())


def test_select_answers_in_the_sets_and_the_time_left(ours: Emulated) -> None:
    reader, writer = pipe(ours)
    ours.call("write", writer, ours.put(b"x", 100), 1)
    ours.put((1 << reader | 1 << writer).to_bytes(8, "little"), 200)
    ours.put((1 << reader | 1 << writer).to_bytes(8, "little"), 300)
    ours.put((2).to_bytes(8, "little") + (0).to_bytes(8, "little"), 400)

    assert ours.call("select", 10, ours.memory() + 200, ours.memory() + 300, 0, ours.memory() + 400) == 2
    assert ours.caller.words(1, 200, 8) == [1 << reader]
    assert ours.caller.words(1, 300, 8) == [1 << writer]
    ours.put((1 << 9).to_bytes(8, "little"), 200)
    assert ours.call("select", 10, ours.memory() + 200, 0, 0, 0) == -Errno.EBADF
    assert ours.call("select", -1, 0, 0, 0, 0) == -Errno.EINVAL


def test_select_of_i386_takes_its_arguments_from_memory(tmp_path: Path) -> None:
    ours = Emulated(I386, bytes(tmp_path))
    reader, writer = pipe(ours)
    ours.call("write", writer, ours.put(b"x", 100), 1)
    ours.put((1 << reader).to_bytes(4, "little"), 200)
    ours.put(b"".join(n.to_bytes(4, "little") for n in (10, ours.memory() + 200, 0, 0, 0)), 300)

    assert ours.call("select", ours.memory() + 300) == 1


def test_fifo_open_waits_for_the_other_end(ours: Emulated) -> None:
    assert ours.call("mknod", ours.put(b"/fifo\0"), 0o010644, 0) == 0
    call, _ = ours.caller.block("open", ours.put(b"/fifo\0"), os.O_RDONLY, 0)
    writer = ours.call("open", ours.put(b"/fifo\0"), os.O_WRONLY, 0)
    assert writer >= 0
    reader = advance(call, woken=True)
    assert isinstance(reader, int)
    assert reader >= 0
    assert ours.call("write", writer, ours.put(b"through"), 7) == 7
    assert ours.call("read", reader, ours.memory() + 100, 10) == 7


def test_posix_locks_of_one_process_wait_for_anothers(ours: Emulated) -> None:
    """Another process holds the bytes: F_SETLK is EAGAIN, F_SETLKW waits, closing any descriptor gives them back."""
    caller = ours.caller
    other = caller.add_task(2, X86_64)
    other.fs, other.mm = caller.task.fs, caller.task.mm
    name = ours.put(b"/f\0")
    mine = ours.call("open", name, os.O_RDWR | os.O_CREAT, 0o600)
    theirs = caller.call("open", name, os.O_RDWR, 0, task=other)
    lock = f.FLOCK_X86_64.pack(f.F_WRLCK, 0, 10, 10, 0)
    at = ours.put(lock, 200)
    assert caller.call("fcntl", theirs, f.F_SETLK, at, task=other) == 0
    assert ours.call("fcntl", mine, f.F_SETLK, at) == -Errno.EAGAIN
    assert ours.call("fcntl", mine, f.F_GETLK, at) == 0
    assert f.FLOCK_X86_64.unpack(ours.get(32, 200)) == (f.F_WRLCK, 0, 10, 10, 2)
    ours.put(lock, 200)
    call, _ = caller.block("fcntl", mine, f.F_SETLKW, at)
    again = caller.call("open", name, os.O_RDONLY, 0, task=other)
    assert caller.call("close", again, task=other) == 0

    assert advance(call, woken=True) == 0


def test_eventfd_wakes_its_reader(ours: Emulated) -> None:
    fd = ours.call("eventfd2", 0, 0)
    call, _ = ours.caller.block("read", fd, ours.memory(), 8)
    ours.call("write", fd, ours.put((7).to_bytes(8, "little"), 100), 8)

    assert advance(call, woken=True) == 8
    assert ours.caller.words(1, 0, 8) == [7]


def test_poll_of_a_write_end_without_readers(ours: Emulated) -> None:
    reader, writer = pipe(ours)
    ours.call("close", reader)
    ours.put(writer.to_bytes(4, "little") + b"\0\0\0\0")

    assert ours.call("poll", ours.memory(), 1, 0) == 1
    assert int.from_bytes(ours.get(8)[6:8], "little") == POLLERR


def test_half_bad_buffers_move_what_they_can(ours: Emulated) -> None:
    """What could not be stored stays in the pipe; of what is written, a page that is not whole is not kept."""
    reader, writer = pipe(ours)
    ours.call("write", writer, ours.put(b"0123456789"), 10)
    end = ours.memory() + (64 << 10)

    assert ours.call("read", reader, end - 4, 10) == 4
    assert ours.call("read", reader, end, 10) == -Errno.EFAULT
    assert ours.call("read", reader, ours.memory(), 10) == 6
    assert ours.get(6) == b"456789"
    assert ours.call("write", writer, end - 3, 10) == -Errno.EFAULT
    assert ours.call("write", writer, end - 4096 - 3, 5000) == 4096
    assert ours.call("write", writer, end, 10) == -Errno.EFAULT


def test_descriptors_run_out_at_the_limit(ours: Emulated) -> None:
    ours.caller.task.rlimits[7][0] = 4
    opened = [ours.call("dup", ours.call("eventfd2", 0, 0)) for _ in range(3)]

    assert opened[-1] == -Errno.EBADF
    assert ours.call("open", ours.put(b"/\0"), 0, 0) == -Errno.EMFILE
    assert ours.call("pipe2", ours.memory(), 0) == -Errno.EMFILE
