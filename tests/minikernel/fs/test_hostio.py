"""Standard streams: bytes pass as they are, kinds and errors are the host's."""

import os
import stat
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs import attr
from minikernel.fs.anon import DetachedFs
from minikernel.fs.cred import Cred
from minikernel.fs.file import BrokenPipe, WouldBlock
from minikernel.fs.hostio import HostInode, HostStream, TtyNode, host_flags
from tests.minikernel.fs.fake import FakeServices


@pytest.fixture
def sb(services: FakeServices) -> DetachedFs:
    return DetachedFs(services, b"hostio", 0, 12)


def stream(sb: DetachedFs, fd: int) -> HostStream:
    """A stream over descriptor *fd* of the host."""
    inode = HostInode(sb, fd)
    return HostStream(sb.path(inode.name(), inode), host_flags(fd), fd)


@pytest.fixture
def host_pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue


def test_bytes_pass_as_they_are(sb: DetachedFs, host_pipe: tuple[int, int]) -> None:
    reader, writer = (stream(sb, fd) for fd in host_pipe)
    data = bytes(range(256)) + b"\r\n\0"
    assert writer.write(data) == len(data)

    assert reader.read(1000) == data
    assert stat.S_ISFIFO(reader.stat().mode)
    assert reader.path == b"pipe:[%d]" % reader.ino


def test_a_read_that_would_wait_says_where(sb: DetachedFs, host_pipe: tuple[int, int]) -> None:
    reader = stream(sb, host_pipe[0])

    with pytest.raises(WouldBlock) as caught:
        reader.read(10)
    assert caught.value.queue is reader.inode.queue


def test_nobody_reading_is_a_broken_pipe(sb: DetachedFs, host_pipe: tuple[int, int]) -> None:
    os.close(host_pipe[0])

    with pytest.raises(BrokenPipe):
        stream(sb, host_pipe[1]).write(b"x")


def test_a_file_as_standard_input_has_its_size_and_position(sb: DetachedFs, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    file = stream(sb, fd)
    file.read(3)

    assert file.stat().size == 10
    assert file.seek(0, os.SEEK_CUR) == 3
    assert file.pread(2, 8) == b"89"
    assert file.mapping is not None
    assert file.mapping.read(0, 20) == b"0123456789"
    again = file.inode.open(file.f_path, os.O_RDONLY)
    assert again.read(2) == b"01"
    assert file.read(2) == b"34"
    again.put_file()
    os.close(fd)


def test_changed_attributes_stay_in_the_guest(sb: DetachedFs, tmp_path: Path) -> None:
    (tmp_path / "f").touch(mode=0o600)
    fd = os.open(tmp_path / "f", os.O_RDWR)
    file = stream(sb, fd)
    attr.chmod(file.inode, 0o777, Cred())

    assert file.stat().mode & 0o777 == 0o777
    assert os.fstat(fd).st_mode & 0o777 == 0o600
    os.close(fd)


def test_terminal_keeps_its_name_and_modes(sb: DetachedFs) -> None:
    """On a pty: it is a terminal, has its own name, and gets its modes back at the end."""
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    inode = HostInode(sb, slave)
    assert inode.is_tty
    assert inode.name() == os.ttyname(slave).encode()
    file = HostStream(sb.path(inode.name(), inode), host_flags(slave), slave)
    inode.saved_termios = file._host_ioctl(0x5401, bytes(36))
    changed = termios.tcgetattr(slave)
    changed[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, changed)
    inode.restore()

    assert termios.tcgetattr(slave) == before
    with pytest.raises(LinuxError) as caught:
        file.seek(0, os.SEEK_SET)
    assert caught.value.errno == Errno.ESPIPE
    os.close(master)
    os.close(slave)


def test_dev_tty_without_a_terminal_does_not_open(sb: DetachedFs) -> None:
    node = TtyNode(sb, 1, 0o020666, 0x500, None)

    with pytest.raises(LinuxError) as caught:
        node.open(sb.path(b"tty", node), os.O_RDWR)
    assert caught.value.errno == Errno.ENXIO
