"""Errors and effects of the file calls, native first: each list of calls is made on the host and in our kernel."""

import contextlib
import os
from pathlib import Path

import pytest

from minikernel.abi import fcntl as f
from minikernel.abi.abi import I386, X86_64
from tests.minikernel.syscalls.file_calls import Emulated, In, Native, Off, Out, Ref, run, step

AT = f.AT_FDCWD
BAD = 0x10  # mapped by nobody
LONG = b"x" * 256
TOO_LONG = b"y/" * 2048
WR = os.O_WRONLY | os.O_CREAT


def populate(root: Path) -> None:
    """The tree the lists work on."""
    (root / "file").write_bytes(b"0123456789" * 100)
    (root / "dir").mkdir()
    (root / "dir" / "inner").write_bytes(b"inner")
    (root / "link").symlink_to("file")
    (root / "dangling").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")


OPENING = [
    step("openat", AT, b"missing", 0, 0),
    step("openat", AT, b"", 0, 0),
    step("openat", AT, BAD, 0, 0),
    step("openat", AT, LONG, 0, 0),
    step("openat", AT, TOO_LONG, 0, 0),
    step("openat", 999, b"file", 0, 0),
    step("openat", AT, b"file/", 0, 0),
    step("openat", AT, b"file/x", 0, 0),
    step("openat", AT, b"dir", os.O_WRONLY, 0),
    step("openat", AT, b"dir", os.O_RDWR | os.O_CREAT, 0o644),
    step("openat", AT, b"dir/", WR, 0o644),
    step("openat", AT, b"new/", WR, 0o644),
    step("openat", AT, b"file", WR | os.O_EXCL, 0o644),
    step("openat", AT, b"link", WR | os.O_EXCL, 0o644),
    step("openat", AT, b"dangling", WR | os.O_EXCL, 0o644),
    step("openat", AT, b"link", os.O_NOFOLLOW, 0),
    step("openat", AT, b"loop", 0, 0),
    step("openat", AT, b"file", os.O_DIRECTORY, 0),
    step("openat", AT, b"file", os.O_DIRECTORY | os.O_CREAT, 0o644),
    step("openat", AT, b".", f.O_TMPFILE_BIT | os.O_DIRECTORY, 0o600),
    step("openat", AT, b".", f.O_TMPFILE_BIT | os.O_DIRECTORY | os.O_RDWR, 0o600, save="tmp"),
    step("write", Ref("tmp"), In(b"abc"), 3),
    step("openat", AT, b"dir", os.O_DIRECTORY, 0, save="dir"),
    step("openat", Ref("dir"), b"inner", 0, 0, save="inner"),
    step("openat", Ref("inner"), b"x", 0, 0),
    step("read", Ref("inner"), Out(10), 10),
    step("write", Ref("inner"), In(b"x"), 1),
    step("openat", AT, b"file", os.O_PATH, 0, save="path"),
    step("read", Ref("path"), Out(10), 10),
    step("fcntl", Ref("path"), f.F_GETFL, 0),
    step("fcntl", Ref("path"), f.F_SETFL, 0),
    step("ftruncate", Ref("path"), 0),
    step("close", Ref("path")),
    step("close", Ref("path")),
    step("creat", b"made", 0o640, save="made"),
    step("read", Ref("made"), Out(1), 1),
    step("access", b"made", 4),
    step("access", b"made", 9),
    step("access", b"nowhere", 0),
    step("faccessat2", AT, b"link", 0, f.AT_SYMLINK_NOFOLLOW),
    step("faccessat2", AT, b"link", 0, 1),
    step("openat2", AT, b"file", In(bytes(24)), 23),
    step("openat2", AT, b"file", In(bytes(24)), 24, save="how"),
    step("openat2", AT, b"file", In(bytes(24) + b"\1"), 25),
    step("openat2", AT, b"file", In((1 << 40).to_bytes(8, "little") + bytes(16)), 24),
    step("openat2", AT, b"file", In(bytes(8) + (0o600).to_bytes(8, "little") + bytes(8)), 24),
    step("openat2", AT, b"../x", In(bytes(16) + (8).to_bytes(8, "little")), 24),
    step("openat2", AT, b"link", In(bytes(16) + (4).to_bytes(8, "little")), 24),
]

READING = [
    step("openat", AT, b"file", os.O_RDWR, 0, save="f"),
    step("read", Ref("f"), Out(25), 25),
    step("read", Ref("f"), BAD, 25),
    step("read", Ref("f"), BAD, 0),
    step("lseek", Ref("f"), 0, os.SEEK_CUR),
    step("lseek", Ref("f"), -1, os.SEEK_SET),
    step("lseek", Ref("f"), -30, os.SEEK_END),
    step("lseek", Ref("f"), 0, 9),
    step("lseek", Ref("f"), 5000, os.SEEK_DATA),
    step("read", Ref("f"), Out(100), 100),
    step("read", Ref("f"), Out(100), 100),
    step("pread64", Ref("f"), Out(10), 10, Off(995)),
    step("pread64", Ref("f"), Out(10), 10, Off(-1)),
    step("pread64", Ref("f"), Out(10), 10, Off(1 << 40)),
    step("pwrite64", Ref("f"), In(b"XYZ"), 3, Off(1100)),
    step("pwrite64", Ref("f"), BAD, 3, Off(0)),
    step("pread64", Ref("f"), Out(120), 120, Off(990)),
    step("ftruncate", Ref("f"), -1),
    step("ftruncate", Ref("f"), 4),
    step("pread64", Ref("f"), Out(10), 10, Off(0)),
    step("truncate", b"file", 8),
    step("truncate", b"dir", 8),
    step("truncate", b"nowhere", 8),
    step("truncate", b"file", -1),
    step("pread64", Ref("f"), Out(10), 10, Off(0)),
    step("fallocate", Ref("f"), 0, Off(0), Off(0)),
    step("fallocate", Ref("f"), 0, Off(-1), Off(4)),
    step("fallocate", Ref("f"), 2, Off(0), Off(4)),
    step("fallocate", Ref("f"), 3, Off(0), Off(2)),
    step("fallocate", Ref("f"), 1 << 20, Off(0), Off(4)),
    step("fallocate", Ref("f"), 0, Off(0), Off(5000)),
    step("pread64", Ref("f"), Out(10), 10, Off(0)),
    step("fsync", Ref("f")),
    step("fdatasync", Ref("f")),
    step("fsync", 999),
    step("sync_file_range", Ref("f"), Off(0), Off(-1), 0),
    step("openat", AT, b"dir", os.O_DIRECTORY, 0, save="d"),
    step("read", Ref("d"), Out(10), 10),
    step("write", Ref("d"), In(b"x"), 1),
    step("pread64", Ref("d"), Out(10), 10, Off(0)),
    step("ftruncate", Ref("d"), 0),
    step("lseek", Ref("d"), 0, os.SEEK_SET),
    step("pipe2", Out(8, loose=True), 1),
    step("pipe2", BAD, 0),
    step("copy_file_range", Ref("f"), 0, Ref("f"), 0, 10, 1),
    step("copy_file_range", Ref("d"), 0, Ref("f"), 0, 10, 0),
    step("copy_file_range", 999, 0, Ref("f"), 0, 10, 0),
    step("lseek", Ref("f"), 0, os.SEEK_SET),
    step("copy_file_range", Ref("f"), 0, Ref("f"), In((100).to_bytes(8, "little")), 8, 0),
    step("copy_file_range", Ref("f"), In(bytes(8)), Ref("f"), In(bytes(8)), 8, 0),
    step("pread64", Ref("f"), Out(120), 120, Off(0)),
    step("eventfd2", 3, os.O_NONBLOCK, save="e"),
    step("read", Ref("e"), Out(8), 4),
    step("read", Ref("e"), Out(8), 8),
    step("read", Ref("e"), Out(8), 8),
    step("write", Ref("e"), In(b"\xff" * 8), 8),
    step("pread64", Ref("e"), Out(8), 8, Off(0)),
    step("lseek", Ref("e"), 0, os.SEEK_SET),
    step("eventfd2", 0, 2),
    step("memfd_create", b"name", 0x40),
    step("memfd_create", BAD, 0),
    step("memfd_create", LONG, 0),
    step("memfd_create", b"name", f.MFD_ALLOW_SEALING, save="m"),
    step("write", Ref("m"), In(b"hello"), 5),
    step("fcntl", Ref("m"), f.F_ADD_SEALS, f.F_SEAL_SHRINK | f.F_SEAL_GROW),
    step("fcntl", Ref("m"), f.F_GET_SEALS, 0),
    step("ftruncate", Ref("m"), 2),
    step("ftruncate", Ref("m"), 20),
    step("pwrite64", Ref("m"), In(b"J"), 1, Off(0)),
    step("pwrite64", Ref("m"), In(b"J"), 1, Off(5)),
    step("pread64", Ref("m"), Out(8), 8, Off(0)),
    step("fcntl", Ref("f"), f.F_GET_SEALS, 0),
]

NAMES = [
    step("mkdir", b"dir", 0o755),
    step("mkdir", b"file/x", 0o755),
    step("mkdir", b"new/", 0o755),
    step("mkdirat", AT, b"no/where", 0o755),
    step("mkdir", b"/", 0o755),
    step("mkdir", BAD, 0o755),
    step("rmdir", b"dir"),
    step("rmdir", b"file"),
    step("rmdir", b"."),
    step("rmdir", b"dir/.."),
    step("rmdir", b"new/"),
    step("unlink", b"dir"),
    step("unlink", b"file/"),
    step("unlink", b"nowhere/"),
    step("unlinkat", AT, b"file", 1),
    step("unlinkat", AT, b"dir", f.AT_REMOVEDIR),
    step("symlink", b"", b"s"),
    step("symlink", b"a", b"file"),
    step("symlink", b"target", b"s"),
    step("symlinkat", TOO_LONG, AT, b"s2"),
    step("readlink", b"s", Out(3), 3),
    step("readlink", b"s", Out(10), 10),
    step("readlink", b"s", Out(10), 0),
    step("readlink", b"file", Out(10), 10),
    step("readlink", b"nowhere", Out(10), 10),
    step("readlink", b"s", BAD, 10),
    step("link", b"dir", b"hard"),
    step("link", b"nowhere", b"hard"),
    step("link", b"file", b"dir"),
    step("link", b"file", b"hard"),
    step("linkat", AT, b"link", AT, b"hard2", f.AT_SYMLINK_FOLLOW),
    step("linkat", AT, b"file", AT, b"hard3", 1),
    step("rename", b"file", b"dir"),
    step("rename", b"dir", b"file"),
    step("rename", b"dir", b"dir/sub"),
    step("rename", b"file", b"hard"),
    step("rename", b"nowhere", b"x"),
    step("rename", b".", b"x"),
    step("rename", b"file/", b"x"),
    step("renameat2", AT, b"file", AT, b"hard", f.RENAME_NOREPLACE),
    step("renameat2", AT, b"file", AT, b"nowhere", f.RENAME_EXCHANGE),
    step("renameat2", AT, b"file", AT, b"dir", f.RENAME_EXCHANGE),
    step("renameat2", AT, b"file", AT, b"dir", f.RENAME_EXCHANGE),
    step("renameat2", AT, b"file", AT, b"dir", 64),
    step("renameat2", AT, b"file", AT, b"dir", f.RENAME_EXCHANGE | f.RENAME_NOREPLACE),
    step("mknod", b"fifo", 0o010644, 0),
    step("mknod", b"fifo", 0o010644, 0),
    step("mknod", b"d", 0o040755, 0),
    step("mknod", b"odd", 0o120644, 0),
    step("mknod", b"plain", 0o644, 0),
    step("openat", AT, b"fifo", os.O_WRONLY | os.O_NONBLOCK, 0),
    step("openat", AT, b"fifo", os.O_RDONLY | os.O_NONBLOCK, 0, save="r"),
    step("openat", AT, b"fifo", os.O_WRONLY | os.O_NONBLOCK, 0, save="w"),
    step("read", Ref("r"), Out(4), 4),
    step("write", Ref("w"), In(b"data"), 4),
    step("read", Ref("r"), Out(4), 4),
    step("lseek", Ref("r"), 0, 0),
    step("chdir", b"file"),
    step("chdir", b"nowhere"),
    step("chdir", b"dir"),
    step("access", b"inner", 0),
    step("rename", b"inner", b"../moved"),
    step("rmdir", b"../dir"),
    step("getcwd", Out(64, loose=True), 64),
    step("openat", AT, b"x", WR, 0o644),
    step("openat", AT, b".", 0, 0, save="gone"),
    step("getdents64", Ref("gone"), Out(100), 100),
    step("chdir", b".."),
    step("fchdir", Ref("r")),
    step("getcwd", Out(64, loose=True), 1),
    step("umask", 0o077),
    step("umask", 0o022),
]

ATTRIBUTES = [
    step("chmod", b"nowhere", 0o644),
    step("chmod", b"link", 0o4755),
    step("access", b"file", 1),
    step("fchmodat", AT, b"dangling", 0o644),
    step("chown", b"file", 0xFFFF_FFFF, 0xFFFF_FFFF),
    step("lchown", b"dangling", 0xFFFF_FFFF, 0xFFFF_FFFF),
    step("chown", b"dangling", 0xFFFF_FFFF, 0xFFFF_FFFF),
    step("fchownat", AT, b"file", 0xFFFF_FFFF, 0xFFFF_FFFF, 1),
    step("fchown", 999, 1, 1),
    step("utimensat", AT, b"nowhere", 0, 0),
    step("utimensat", AT, b"file", 0, 1),
    step("utimensat", AT, 0, 0, 0),
    step("utimensat", AT, b"file", BAD, 0),
    step("setxattr", b"file", b"user.x", In(b"value"), 5, f.XATTR_REPLACE),
    step("setxattr", b"file", b"user.x", In(b"value"), 5, 8),
    step("setxattr", b"file", b"nonsense", In(b"value"), 5, 0),
    step("setxattr", b"file", b"user.x", In(b"value"), 5, 0),
    step("setxattr", b"file", b"user.x", In(b"value"), 5, f.XATTR_CREATE),
    step("getxattr", b"file", b"user.x", Out(10), 10),
    step("getxattr", b"file", b"user.x", Out(10), 2),
    step("getxattr", b"file", b"user.x", 0, 0),
    step("getxattr", b"file", b"user.y", Out(10), 10),
    step("lgetxattr", b"dangling", b"user.y", Out(10), 10),
    step("listxattr", b"file", Out(20), 20),
    step("removexattr", b"file", b"user.x"),
    step("removexattr", b"file", b"user.x"),
    step("getxattr", b"file", b"", Out(10), 10),
    step("getxattr", b"file", LONG, Out(10), 10),
    step("statfs", b"nowhere", Out(8, loose=True)),
    step("fstatfs", 999, Out(8, loose=True)),
]

DESCRIPTORS = [
    step("openat", AT, b"file", os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0, save="f"),
    step("fcntl", Ref("f"), f.F_GETFD, 0),
    step("fcntl", Ref("f"), f.F_SETFD, 0),
    step("fcntl", Ref("f"), f.F_GETFD, 0),
    step("fcntl", Ref("f"), f.F_SETFL, os.O_NONBLOCK),
    step("fcntl", Ref("f"), f.F_GETLEASE, 0),
    step("fcntl", Ref("f"), 9999, 0),
    step("fcntl", 999, f.F_GETFD, 0),
    step("fcntl", Ref("f"), f.F_DUPFD, 100),
    step("fcntl", Ref("f"), f.F_DUPFD_CLOEXEC, 100),
    step("fcntl", 101, f.F_GETFD, 0),
    step("dup2", Ref("f"), Ref("f"), save="same"),
    step("dup2", 999, 999),
    step("dup2", Ref("f"), -1),
    step("dup2", Ref("f"), 120),
    step("dup3", Ref("f"), Ref("f"), 0),
    step("dup3", Ref("f"), 121, 1),
    step("dup3", Ref("f"), 121, os.O_CLOEXEC),
    step("fcntl", 121, f.F_GETFD, 0),
    step("close_range", 120, 119, 0),
    step("close_range", 110, 130, 1),
    step("close_range", 120, 121, 0),
    step("fcntl", 121, f.F_GETFD, 0),
    step("close", 100),
    step("close", 101),
    step("flock", Ref("f"), 99),
    step("flock", Ref("f"), 3),
    step("flock", 999, f.LOCK_EX),
    step("flock", Ref("f"), f.LOCK_EX),
    step("openat", AT, b"file", 0, 0, save="g"),
    step("flock", Ref("g"), f.LOCK_SH | f.LOCK_NB),
    step("flock", Ref("f"), f.LOCK_UN),
    step("flock", Ref("g"), f.LOCK_SH | f.LOCK_NB),
    step("flock", Ref("f"), f.LOCK_EX | f.LOCK_NB),
    step("ioctl", Ref("f"), 0x5401, Out(60)),
    step("ioctl", Ref("f"), 0x541B, Out(4)),
    step("ioctl", Ref("f"), 0x541B, BAD),
    step("ioctl", 999, 0x5401, 0),
    step("ioctl", Ref("f"), 0x5451, 0),
    step("fcntl", Ref("f"), f.F_GETFD, 0),
    step("poll", In(b"\xff\xff\xff\xff\1\0\0\0"), 1, 0),
    step("poll", In((999).to_bytes(4, "little") + b"\1\0\0\0"), 1, 0),
    step("poll", BAD, 1, 0),
    step("poll", 0, 0, 0),
    step("poll", BAD, 1 << 30, 0),
    step("sendfile", Ref("f"), Ref("g"), 0, 10),
    step("fcntl", Ref("f"), f.F_SETFL, 0),
    step("sendfile", Ref("f"), Ref("g"), In((3).to_bytes(8, "little")), 5),
    step("sendfile", Ref("f"), 999, 0, 10),
    step("sendfile", Ref("g"), Ref("f"), 0, 10),
    step("pread64", Ref("g"), Out(12), 12, Off(0)),
    step("pread64", Ref("g"), Out(12), 12, Off(998)),
]

SPLICING = [
    step("openat", AT, b"file", os.O_RDWR, 0, save="f"),
    step("mknod", b"p1", 0o010600, 0),
    step("mknod", b"p2", 0o010600, 0),
    step("openat", AT, b"p1", os.O_RDWR | os.O_NONBLOCK, 0, save="one"),
    step("openat", AT, b"p2", os.O_RDWR | os.O_NONBLOCK, 0, save="two"),
    step("splice", Ref("f"), 0, Ref("f"), 0, 10, 0),
    step("splice", Ref("f"), 0, Ref("one"), 0, 10, 64),
    step("splice", Ref("f"), 0, Ref("one"), 0, 0, 64),
    step("splice", Ref("f"), 0, Ref("one"), In(bytes(8)), 10, 0),
    step("splice", Ref("one"), 0, Ref("one"), 0, 10, 0),
    step("splice", Ref("one"), 0, Ref("two"), 0, 10, 0),
    step("splice", Ref("f"), In((5).to_bytes(8, "little")), Ref("one"), 0, 10, 0),
    step("splice", Ref("f"), 0, Ref("one"), 0, 4, 0),
    step("lseek", Ref("f"), 0, os.SEEK_CUR),
    step("tee", Ref("one"), Ref("two"), 7, 0),
    step("tee", Ref("one"), Ref("f"), 7, 0),
    step("tee", Ref("one"), Ref("one"), 7, 0),
    step("ioctl", Ref("one"), 0x541B, Out(4)),
    step("ioctl", Ref("two"), 0x541B, Out(4)),
    step("read", Ref("two"), Out(20), 20),
    step("splice", Ref("one"), 0, Ref("two"), 0, 3, 0),
    step("read", Ref("two"), Out(20), 20),
    step("splice", Ref("one"), 0, Ref("f"), In((100).to_bytes(8, "little")), 5, 0),
    step("splice", Ref("one"), 0, Ref("f"), 0, 100, 0),
    step("splice", Ref("one"), 0, Ref("f"), 0, 100, 0),
    step("pread64", Ref("f"), Out(120), 120, Off(0)),
    step("vmsplice", Ref("f"), 0, 0, 0),
    step("vmsplice", Ref("one"), 0, 0, 0),
    step("splice", Ref("f"), 0, Ref("one"), 0, 100000, 0),
    step("splice", Ref("f"), In(bytes(8)), Ref("one"), 0, 100000, 0),
]

LISTS = {
    "splicing": SPLICING,
    "opening": OPENING,
    "reading": READING,
    "names": NAMES,
    "attributes": ATTRIBUTES,
    "descriptors": DESCRIPTORS,
}


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Native:
    """The host, in a populated directory of its own."""
    root = tmp_path / "native"
    root.mkdir()
    populate(root)
    monkeypatch.chdir(root)
    return Native()


def ours(tmp_path: Path, abi: str) -> Emulated:
    """Our kernel, in a copy of the directory."""
    root = tmp_path / abi
    (root / "work").mkdir(parents=True)
    populate(root / "work")
    return Emulated(X86_64 if abi == "x86-64" else I386, bytes(root), b"/work")


def open_descriptors() -> set[int]:
    """The descriptors of this process."""
    found = set()
    for fd in range(256):
        with contextlib.suppress(OSError):
            os.fstat(fd)
            found.add(fd)
    return found


@pytest.mark.parametrize("abi", ["x86-64", "i386"])
@pytest.mark.parametrize("name", sorted(LISTS))
def test_calls_end_as_on_the_host(native: Native, tmp_path: Path, name: str, abi: str) -> None:
    """The i386 calls are compared with the host's x86-64 ones: their errors and effects are the same."""
    emulated = ours(tmp_path, abi)
    umask = os.umask(0o022)
    held = open_descriptors()
    try:
        theirs = run(native, LISTS[name])
    finally:
        os.umask(umask)
        for fd in sorted(open_descriptors() - held):
            os.close(fd)
    mine = run(emulated, LISTS[name])

    for expected, got in zip(theirs, mine, strict=True):
        assert got == expected
    emulated.vfs.shutdown()
