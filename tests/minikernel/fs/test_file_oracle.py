"""A regular file and a pipe behave, byte for byte and error for error, as the host's do."""

import ctypes
import fcntl
import os
import select
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from minikernel.abi.fcntl import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE
from minikernel.abi.ioctl import FIONREAD
from minikernel.abi.poll import POLLERR, POLLHUP, POLLIN, POLLOUT
from minikernel.abi.stat import makedev
from minikernel.fs import attr
from minikernel.fs.cred import Cred
from minikernel.fs.open import do_open
from minikernel.fs.pipe import PipeFile
from minikernel.fs.tmpfs import Tmpfs
from minikernel.fs.vfs import Vfs
from tests.minikernel.fs.fake import FakeServices
from tests.minikernel.fs.oracle import attempt

SIZES = st.sampled_from([0, 1, 7, 4095, 4096, 4097, 8192, 10000])
OFFSETS = st.sampled_from([0, 1, 100, 4095, 4096, 5000, 8191, 12288, 20000])
SETTINGS = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
_LIBC = ctypes.CDLL(None, use_errno=True)


def host_fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2), which Python offers without a mode only."""
    if _LIBC.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class FileMachine(RuleBasedStateMachine):
    """One file of ours and one of the host, used alike."""

    on_tmpfs = False

    def __init__(self) -> None:
        super().__init__()
        self.scratch = Path(tempfile.mkdtemp())
        (self.scratch / "root").mkdir()
        (self.scratch / "root" / "f").write_bytes(bytes(range(256)) * 40)
        (self.scratch / "oracle").write_bytes(bytes(range(256)) * 40)
        services = FakeServices(8 << 20)
        self.vfs = Vfs(services, os.fsencode(self.scratch / "root"))
        self.name = b"/f"
        self.fs = self.vfs.fs_struct()
        if self.on_tmpfs:
            self.vfs.mount_at(b"/mem", Tmpfs(services, makedev(0, 40)))
            self.name = b"/mem/f"
            file = do_open(self.fs, Cred(), self.name, os.O_CREAT | os.O_RDWR)
            file.write(bytes(range(256)) * 40)
            file.put_file()
        self.stamp = 0

    @initialize(flags=st.sampled_from([os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_RDWR | os.O_TRUNC]))
    def open(self, flags: int) -> None:
        self.ours = do_open(self.fs, Cred(), self.name, flags)
        self.host = os.open(self.scratch / "oracle", flags)

    def teardown(self) -> None:
        if hasattr(self, "host"):
            os.close(self.host)
            self.ours.put_file()
        self.vfs.shutdown()
        shutil.rmtree(self.scratch)

    def same(self, ours: Any, theirs: Any) -> None:
        assert attempt(ours) == attempt(theirs)

    def data(self, size: int) -> bytes:
        """Bytes that no earlier write had."""
        self.stamp += 1
        return bytes([self.stamp % 255 + 1]) * size

    @rule(size=SIZES)
    def read(self, size: int) -> None:
        self.same(lambda: self.ours.read(size), lambda: os.read(self.host, size))

    @rule(size=SIZES, offset=OFFSETS)
    def pread(self, size: int, offset: int) -> None:
        self.same(lambda: self.ours.pread(size, offset), lambda: os.pread(self.host, size, offset))

    @rule(size=SIZES)
    def write(self, size: int) -> None:
        data = self.data(size)
        self.same(lambda: self.ours.write(data), lambda: os.write(self.host, data))

    @rule(size=SIZES, offset=OFFSETS)
    def pwrite(self, size: int, offset: int) -> None:
        data = self.data(size)
        self.same(lambda: self.ours.pwrite(data, offset), lambda: os.pwrite(self.host, data, offset))

    @rule(offset=st.one_of(OFFSETS, st.integers(-5000, 5000)), whence=st.integers(0, 2))
    def seek(self, offset: int, whence: int) -> None:
        self.same(lambda: self.ours.seek(offset, whence), lambda: os.lseek(self.host, offset, whence))

    @rule(size=OFFSETS)
    def truncate(self, size: int) -> None:
        self.same(lambda: attr.truncate_inode(self.ours.inode, size), lambda: os.ftruncate(self.host, size))

    @rule(offset=OFFSETS, length=st.sampled_from([1, 4096, 9000]), grow=st.booleans())
    def fallocate(self, offset: int, length: int, grow: bool) -> None:
        mode = 0 if grow else FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        self.same(
            lambda: self.ours.inode.fallocate(mode, offset, length),
            lambda: host_fallocate(self.host, mode, offset, length),
        )

    @invariant()
    def contents_are_equal(self) -> None:
        if hasattr(self, "host"):
            assert self.ours.pread(1 << 20, 0) == os.pread(self.host, 1 << 20, 0)
            assert self.ours.stat().size == os.fstat(self.host).st_size


class TmpfsFileMachine(FileMachine):
    """A file of tmpfs."""

    on_tmpfs = True


class PipeMachine(RuleBasedStateMachine):
    """A pipe of ours and one of the host, both without waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.vfs = Vfs(FakeServices(4 << 20), os.fsencode(self.scratch.name))
        self.reader, self.writer = self.vfs.pipe(os.O_NONBLOCK)
        self.host_reader, self.host_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.open = {"reader", "writer"}

    def teardown(self) -> None:
        for end in sorted(self.open):
            os.close(getattr(self, "host_" + end))
            getattr(self, end).put_file()
        self.vfs.shutdown()
        self.scratch.cleanup()

    @rule(size=st.sampled_from([0, 1, 100, 2000, 4095, 4096, 4097, 5000, 8192, 65536, 70000]), byte=st.integers(0, 255))
    def write(self, size: int, byte: int) -> None:
        if "writer" in self.open:
            data = bytes([byte]) * size
            assert attempt(lambda: self.writer.write(data)) == attempt(lambda: os.write(self.host_writer, data))

    @rule(size=st.sampled_from([0, 1, 50, 4095, 4096, 4097, 10000, 100000]))
    def read(self, size: int) -> None:
        if "reader" in self.open:
            assert attempt(lambda: self.reader.read(size)) == attempt(lambda: os.read(self.host_reader, size))

    @rule(size=st.sampled_from([1, 4096, 8192, 10000, 65536, 131072]))
    def resize(self, size: int) -> None:
        if "writer" in self.open:
            assert isinstance(self.writer, PipeFile)
            pipe = self.writer.pipe
            ours = attempt(lambda: pipe.resize(size))
            theirs = attempt(lambda: fcntl.fcntl(self.host_writer, fcntl.F_SETPIPE_SZ, size))
            assert ours == theirs

    @rule(end=st.sampled_from(["reader", "writer"]), really=st.integers(0, 9))
    def close(self, end: str, really: int) -> None:
        if end in self.open and not really:
            os.close(getattr(self, "host_" + end))
            getattr(self, end).put_file()
            self.open.remove(end)

    @invariant()
    def polls_are_equal(self) -> None:
        wanted = POLLIN | POLLOUT | POLLERR | POLLHUP
        for end in sorted(self.open):
            poller = select.poll()
            fd = getattr(self, "host_" + end)
            poller.register(fd, wanted)
            theirs = dict(poller.poll(0)).get(fd, 0)
            assert getattr(self, end).poll() & wanted == theirs

    @invariant()
    def lengths_are_equal(self) -> None:
        if "reader" in self.open:
            assert isinstance(self.reader, PipeFile)
            theirs = fcntl.ioctl(self.host_reader, FIONREAD, bytes(4))
            assert self.reader.pipe.length == int.from_bytes(theirs, "little")


@pytest.mark.slow
def test_copied_up_file_behaves_as_the_hosts() -> None:
    run_state_machine_as_test(FileMachine, settings=SETTINGS)


@pytest.mark.slow
def test_tmpfs_file_behaves_as_the_hosts() -> None:
    run_state_machine_as_test(TmpfsFileMachine, settings=SETTINGS)


@pytest.mark.slow
def test_pipe_behaves_as_the_hosts() -> None:
    run_state_machine_as_test(PipeMachine, settings=SETTINGS)
