"""The file of a trace: whole, cut off, damaged, newer, and full of anything."""

import random
import resource
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikernel.trace import format as fmt
from minikernel.trace.codec import TraceError
from minikernel.trace.format import EVENTS, HEADER, MAGIC, NOTES, Reader, Writer, to_json

CONTENTS = [b"", b"x", b"event " * 100, bytes(range(256)) * 40]
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def make(path: Path, *, finish: bool = True) -> bytes:
    """Write a small trace; its bytes."""
    writer = Writer(str(path), {"program": "/bin/true"})
    for number, contents in enumerate(CONTENTS):
        writer.add(EVENTS, number * 1000, number, contents)
    writer.add(NOTES, 5000, 1, to_json({"a": 1}))
    if finish:
        writer.finish()
    else:
        writer.close()
    return path.read_bytes()


def read_all(path: Path) -> list[bytes]:
    """Every chunk's contents; the limits of a reader are checked on the way."""
    with Reader(str(path)) as reader:
        return [reader.contents(chunk) for chunk in reader.chunks]


def test_chunks_come_back(tmp_path: Path) -> None:
    make(tmp_path / "t")
    with Reader(str(tmp_path / "t")) as reader:
        assert reader.complete
        assert reader.header == {"program": "/bin/true"}
        assert [reader.contents(chunk) for chunk in reader.of_kind(EVENTS)] == CONTENTS
        assert [chunk.icount for chunk in reader.of_kind(EVENTS)] == [0, 1000, 2000, 3000]
        assert [reader.json(chunk) for chunk in reader.of_kind(NOTES)] == [{"a": 1}]


def test_a_trace_without_an_end_is_read_to_its_last_whole_chunk(tmp_path: Path) -> None:
    data = make(tmp_path / "t", finish=False)
    with Reader(str(tmp_path / "t")) as reader:
        assert not reader.complete
        starts = [chunk.offset for chunk in reader.chunks]
    for cut in range(starts[1], len(data) + 1):
        (tmp_path / "cut").write_bytes(data[:cut])
        with Reader(str(tmp_path / "cut")) as reader:
            whole = sum(end <= cut for end in [*starts[1:], len(data)])
            assert len(reader.chunks) == whole
            assert not reader.complete


def refusal(path: Path) -> str:
    """Why the file is refused; "" if it is not.  Every other exception is a failure."""
    try:
        read_all(path)
    except TraceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("size", [0, 3, 11, 13, 16, 30, 60])
def test_a_trace_without_its_header_is_refused(tmp_path: Path, size: int) -> None:
    data = make(tmp_path / "t", finish=False)
    (tmp_path / "cut").write_bytes(data[:size])
    with pytest.raises(TraceError, match=r"^\S*cut: byte \d+: "):
        Reader(str(tmp_path / "cut"))


def test_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    data = bytearray(make(tmp_path / "t"))
    data[len(MAGIC)] = 9
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(TraceError, match="byte 12: version 9 of the format, a newer one: this minikernel reads 2"):
        Reader(str(tmp_path / "t"))


@pytest.mark.parametrize("finish", [True, False])
def test_every_changed_byte_is_found(tmp_path: Path, *, finish: bool) -> None:
    data = make(tmp_path / "t", finish=finish)
    for at in range(len(data)):
        if at in {len(MAGIC) + 2, len(MAGIC) + 3}:
            continue  # reserved
        changed = bytearray(data)
        changed[at] ^= 0x10
        (tmp_path / "bad").write_bytes(changed)
        why = refusal(tmp_path / "bad")
        assert not why or why.startswith(f"{tmp_path}/bad: byte ")
        assert "\n" not in why
        if not why:
            contents = read_all(tmp_path / "bad")
            # A file that seems to end early cannot be told from one that does: what is read is right.
            assert contents == read_all(tmp_path / "t")[: len(contents)]
            assert contents


def test_the_end_cannot_stand_in_the_middle(tmp_path: Path) -> None:
    data = make(tmp_path / "t")
    (tmp_path / "t").write_bytes(data + b"x")
    with pytest.raises(TraceError, match="in the middle"):
        Reader(str(tmp_path / "t"))


def append(path: Path, kind: bytes, stored: bytes, size: int) -> None:
    """One chunk more, with a right checksum, whatever it says."""
    fields = (kind, 0, 1, len(stored), size, 1)
    head = fmt._CHUNK.pack(*fields, fmt._checksum(fmt._CHUNK.pack(*fields, bytes(8)), stored))
    with path.open("ab") as file:
        file.write(head + stored)


@pytest.mark.parametrize(
    ("sized", "why"), [(True, "268435456 bytes instead of 100"), (False, "the EVNT chunk does not unpack")]
)
def test_a_bomb_is_not_unpacked(tmp_path: Path, *, sized: bool, why: str) -> None:
    """A chunk that unpacks to more than it says is refused without the rest being made."""
    Writer(str(tmp_path / "t"), {}).close()
    bomb = zstandard.ZstdCompressor(write_content_size=sized).compress(bytes(256 << 20))
    append(tmp_path / "t", EVENTS, bomb, 100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Reader(str(tmp_path / "t")) as reader, pytest.raises(TraceError, match=why):
        reader.contents(reader.chunks[1])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_an_unknown_kind_is_skipped_if_its_name_allows_it(tmp_path: Path) -> None:
    path = tmp_path / "t"
    writer = Writer(str(path), {})
    writer.add(b"futu", 0, 1, b"something of later")
    writer.add(EVENTS, 0, 1, b"ours")
    writer.finish()
    with Reader(str(path)) as reader:
        assert [reader.contents(chunk) for chunk in reader.of_kind(EVENTS)] == [b"ours"]
    Writer(str(path), {}).close()
    append(path, b"FUTU", b"", 0)
    with pytest.raises(TraceError, match="a chunk of the unknown kind b'FUTU'"):
        Reader(str(path))


@SAME_FOLDER
@given(st.binary(max_size=300))
def test_any_file_is_refused_or_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "any").write_bytes(MAGIC + b"\2\0\0\0" + data)
    assert "\n" not in refusal(tmp_path / "any")


def test_a_damaged_corpus(tmp_path: Path) -> None:
    """Spliced, repeated, shuffled and overwritten pieces of traces."""
    data = make(tmp_path / "t")
    chance = random.Random(6)
    for _ in range(300):
        pieces = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            a, b = sorted(chance.randrange(len(pieces) + 1) for _ in range(2))
            piece = bytes(pieces[a:b])
            at = chance.randrange(len(pieces) + 1)
            match chance.randrange(3):
                case 0:
                    del pieces[a:b]
                case 1:
                    pieces[at:at] = piece
                case _:
                    pieces[at : at + len(piece)] = piece
        (tmp_path / "bad").write_bytes(pieces)
        assert "\n" not in refusal(tmp_path / "bad")


def test_a_full_disk_is_the_hosts_error() -> None:
    with pytest.raises(OSError, match="No space left"):
        Writer("/dev/full", {"program": "x"})


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        Reader(str(tmp_path / "none"))
    with pytest.raises(TraceError, match="directory"):
        Reader(str(tmp_path))


def test_the_header_is_an_object(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path / "t"), [])  # type: ignore[arg-type]  # that is the mistake
    writer.finish()
    with pytest.raises(TraceError, match="not an object"):
        Reader(str(tmp_path / "t"))
    assert HEADER
