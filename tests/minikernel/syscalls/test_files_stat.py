"""What stat, statx, getdents and statfs store, byte for byte as the host stores it."""

import os
from pathlib import Path
from struct import Struct, unpack_from

import pytest

from minikernel.abi import fcntl as f
from minikernel.abi.abi import I386, X86_64
from minikernel.abi.stat import STATX_BASIC_STATS
from tests.minikernel.syscalls.file_calls import Emulated, Native

AT = f.AT_FDCWD


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with one of everything."""
    (tmp_path / "file").write_bytes(b"x" * 10000)
    os.utime(tmp_path / "file", ns=(1_000_000_000_123_456_789, 1_500_000_000_987_654_321))
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.link(tmp_path / "file", tmp_path / "hard")
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


@pytest.mark.parametrize("name", ["file", "dir", "link", "hard", "fifo"])
def test_stat_of_a_host_file_is_the_hosts(root: Path, name: str) -> None:
    native, ours = Native(), Emulated(X86_64, bytes(root))
    size = 144
    for side, path in ((native, bytes(root / name)), (ours, b"/" + name.encode())):
        where = side.put(path + b"\0")
        assert side.call("newfstatat", AT, where, side.memory() + 4096, f.AT_SYMLINK_NOFOLLOW) == 0

    assert ours.get(size, 4096) == native.get(size, 4096)
    ours.vfs.shutdown()


@pytest.mark.parametrize("abi", [X86_64, I386])
def test_statx_of_a_host_file_is_the_hosts(root: Path, abi: object) -> None:
    """All but mask, attributes, birth time and mount id, which are the host's own business."""
    native, ours = Native(), Emulated(X86_64 if abi is X86_64 else I386, bytes(root))
    for side, path in ((native, bytes(root / "file")), (ours, b"/file")):
        where = side.put(path + b"\0")
        assert side.call("statx", AT, where, 0, STATX_BASIC_STATS, side.memory() + 4096) == 0
    theirs, mine = native.get(256, 4096), ours.get(256, 4096)

    for start, end in ((4, 8), (16, 56), (64, 80), (96, 144)):
        assert mine[start:end] == theirs[start:end], (start, end)
    assert unpack_from("<I", mine)[0] & STATX_BASIC_STATS == STATX_BASIC_STATS
    ours.vfs.shutdown()


def test_stat64_of_i386_says_the_same_in_its_own_layout(root: Path) -> None:
    """arch/x86/include/uapi/asm/stat.h, struct stat64: 96 bytes."""
    ours = Emulated(I386, bytes(root))
    where = ours.put(b"/file\0")
    assert ours.call("stat64", where, ours.memory() + 4096) == 0
    fields = Struct("<Q4xIIIIIQ4xqIQIIIIIIQ").unpack(ours.get(96, 4096))
    st = (root / "file").stat()

    assert fields[0] == st.st_dev
    assert fields[2:6] == (st.st_mode, 2, st.st_uid, st.st_gid)
    assert fields[7:10] == (10000, st.st_blksize, st.st_blocks)
    assert fields[12:14] == divmod(st.st_mtime_ns, 10**9)
    assert fields[16] == st.st_ino
    ours.vfs.shutdown()


def test_old_stat_of_i386_refuses_what_does_not_fit(root: Path) -> None:
    with (root / "large").open("wb") as file:
        file.truncate(3 << 30)
    ours = Emulated(I386, bytes(root))
    where = ours.put(b"/large\0")

    assert ours.call("stat", where, ours.memory() + 4096) == -75
    assert ours.call("open", where, 0, 0) == -75
    assert ours.call("open", where, f.O_LARGEFILE, 0) == 0
    ours.vfs.shutdown()


def _parse64(data: bytes) -> list[tuple[bytes, int]]:
    """Names and types of linux_dirent64 records."""
    found = []
    at = 0
    while at < len(data):
        length, kind = unpack_from("<HB", data, at + 16)
        found.append((data[at + 19 : at + length].split(b"\0")[0], kind))
        at += length
    return found


@pytest.mark.parametrize("abi", [X86_64, I386])
def test_getdents64_gives_sorted_names_in_pieces(root: Path, abi: object) -> None:
    ours = Emulated(X86_64 if abi is X86_64 else I386, bytes(root))
    fd = ours.call("open", ours.put(b"/\0"), os.O_RDONLY | os.O_DIRECTORY, 0)
    found: list[tuple[bytes, int]] = []
    assert ours.call("getdents64", fd, ours.memory(), 20) == -22
    while (length := ours.call("getdents64", fd, ours.memory(), 64)) > 0:
        found += _parse64(ours.get(length))

    assert [name for name, _ in found] == [b".", b"..", b"dev", b"dir", b"fifo", b"file", b"hard", b"link"]
    assert dict(found)[b"link"] == 10
    assert dict(found)[b"fifo"] == 1
    assert ours.call("lseek", fd, 0, 0) == 0
    assert ours.call("getdents64", fd, ours.memory(), 4096) > 100
    ours.vfs.shutdown()


def test_getdents_of_both_widths_ends_a_record_with_its_type(root: Path) -> None:
    for abi, word in ((X86_64, 8), (I386, 4)):
        ours = Emulated(abi, bytes(root))
        fd = ours.call("open", ours.put(b"/dir\0"), os.O_RDONLY | os.O_DIRECTORY, 0)
        length = ours.call("getdents", fd, ours.memory(), 4096)
        data = ours.get(length)
        (record,) = unpack_from("<H", data, 2 * word)

        assert data[2 * word + 2 :].startswith(b".\0")
        assert data[record - 1] == 4
        assert length % word == 0
        ours.vfs.shutdown()
