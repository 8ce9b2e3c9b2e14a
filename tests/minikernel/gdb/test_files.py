"""The machine's files for gdb: found through links and mounts, read whole, and nothing in the machine is touched."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikernel.gdb.packet import unescape
from tests.minikernel.gdb.talk import Talk, talk


@pytest.fixture(scope="module")
def client() -> Iterator[Talk]:
    """A program in front of its first instruction."""
    with talk("x86-64") as it:
        yield it


def name(path: str | Path) -> str:
    return str(path).encode().hex()


def answer(client: Talk, packet: str) -> tuple[int, bytes]:
    """The number behind F, and the attachment."""
    reply = client(packet).encode("latin-1")
    assert reply[:1] == b"F"
    head, _, data = reply[1:].partition(b";")
    plain = unescape(data)
    assert plain is not None
    return int(head.partition(b",")[0], 16), plain


def read(client: Talk, path: str | Path) -> bytes:
    fd, _ = answer(client, f"vFile:open:{name(path)},0,0")
    assert fd >= 0, client(f"vFile:open:{name(path)},0,0")
    pieces: list[bytes] = []
    while (got := answer(client, f"vFile:pread:{fd:x},1000,{sum(map(len, pieces)):x}"))[0]:
        pieces.append(got[1])
    assert client(f"vFile:close:{fd:x}") == "F0"
    return b"".join(pieces)


def test_files_are_found_and_nothing_is_touched(client: Talk, tmp_path: Path) -> None:
    data = bytes(range(256)) * 40
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "data").write_bytes(data)
    (tmp_path / "up").symlink_to("sub/../sub")
    (tmp_path / "absolute").symlink_to(tmp_path / "up" / "data")
    ram = client.kernel.physmem.ram
    before = hashlib.sha256(ram).hexdigest(), client.kernel.node.nr_free

    assert read(client, tmp_path / "sub" / "data") == data
    assert read(client, tmp_path / "up" / ".." / "absolute") == data
    assert read(client, client.program) == client.program.read_bytes()
    assert read(client, "/proc/2/exe") == client.program.read_bytes()
    assert b"[stack]" in read(client, "/proc/2/maps")
    assert answer(client, f"vFile:readlink:{name(tmp_path / 'up')}") == (len("sub/../sub"), b"sub/../sub")
    assert answer(client, f"vFile:readlink:{name('/proc/2/exe')}")[1] == bytes(client.program)

    assert (hashlib.sha256(ram).hexdigest(), client.kernel.node.nr_free) == before


def test_what_fstat_shows(client: Talk, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    fd, _ = answer(client, f"vFile:open:{name(tmp_path / 'file')},0,0")
    size, data = answer(client, f"vFile:fstat:{fd:x}")
    assert size == len(data) == 64
    assert int.from_bytes(data[8:12], "big") == (tmp_path / "file").stat().st_mode
    assert int.from_bytes(data[28:36], "big") == 5000
    client(f"vFile:close:{fd:x}")


def test_an_open_file_stays_open_when_the_machine_goes_to_another_time(client: Talk, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"the same")
    (tmp_path / "other").write_bytes(b"another")
    fd, _ = answer(client, f"vFile:open:{name(tmp_path / 'file')},0,0")
    stub = client.stub
    stub.adopt(stub.client)
    assert answer(client, f"vFile:pread:{fd:x},100,0")[1] == b"the same"
    second, _ = answer(client, f"vFile:open:{name(tmp_path / 'other')},0,0")
    assert second != fd
    stub.adopt(stub.client)
    assert client(f"vFile:close:{fd:x}") == "F0"
    assert client(f"vFile:pread:{fd:x},100,0") == "F-1,9"
    assert answer(client, f"vFile:pread:{second:x},100,0")[1] == b"another"
    assert client(f"vFile:close:{second:x}") == "F0"


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        ("open:{missing},0,0", "F-1,2"),
        ("open:{folder},0,0", "F-1,15"),
        ("open:{file}2f78,0,0", "F-1,14"),  # below a file
        ("open:{file},1,0", "F-1,1e"),
        ("open:{file},200,0", "F-1,1e"),
        ("open:{loop},0,0", "F-1,270f"),
        ("open:,0,0", "F-1,2"),
        ("open:zz,0,0", "F-1,16"),
        ("unlink:{file}", "F-1,1e"),
        ("pwrite:0,0,x", "F-1,1e"),
        ("pread:77,1,0", "F-1,9"),
        ("close:77", "F-1,9"),
        ("readlink:{file}", "F-1,16"),
        ("setfs:7777", "F-1,16"),
        ("setfs:2", "F0"),
        ("setfs:0", "F0"),
        ("frobnicate:1", ""),
    ],
)
def test_mistakes_have_their_numbers(client: Talk, tmp_path: Path, packet: str, error: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    names = {"missing": tmp_path / "missing", "folder": tmp_path, "file": tmp_path / "file", "loop": tmp_path / "loop"}
    assert client("vFile:" + packet.format(**{key: name(path) for key, path in names.items()})) == error


def test_only_so_many_files_are_open(client: Talk) -> None:
    opened = [answer(client, f"vFile:open:{name('/proc/version')},0,0")[0] for _ in range(256)]
    assert opened == list(range(256))
    assert client(f"vFile:open:{name('/proc/version')},0,0") == "F-1,18"
    for fd in opened:
        assert client(f"vFile:close:{fd:x}") == "F0"
