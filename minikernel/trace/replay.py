"""Standard input, output and error of a run that goes again: of the same kind as before, with the recorded input."""

import fcntl
import os
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from minikernel.abi.poll import READABLE, WRITABLE
from minikernel.fs.file import WouldBlock
from minikernel.trace.codec import TraceError
from minikernel.trace.header import pin_stream, recorded_stat
from minikernel.trace.trace import Input

if TYPE_CHECKING:
    from minikernel.fs.hostio import HostInode
    from minikernel.kernel import Kernel

_DEVICES: Final = frozenset({"/dev/null", "/dev/zero", "/dev/full"})
_NAMES: Final = ("standard input", "standard output", "standard error")
_REPLAYED: Final = frozenset({"pipe", "socket", "terminal"})
_KEPT_FLAGS: Final = os.O_APPEND | os.O_NONBLOCK


class RecordedStreams:
    """What a header says about descriptors 0, 1 and 2."""

    def __init__(self, header: dict[str, Any], inputs: list[Input]) -> None:
        """Raises TraceError: the header is damaged."""
        streams = header.get("streams")
        if not isinstance(streams, dict) or not set(streams) <= {"0", "1", "2"}:
            raise TraceError("the header's streams are damaged")
        self._streams: dict[int, dict[str, Any]] = {}
        for fd, stream in streams.items():
            if not isinstance(stream, dict) or not all(type(stream.get(key)) is int for key in ("flags", "offset")):
                raise TraceError("the header's streams are damaged")
            recorded_stat(stream.get("stat"))
            self._streams[int(fd)] = stream
        self._inputs = inputs

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Our own descriptors 0, 1 and 2 are like the recorded ones.

        Raises:
            TraceError: that cannot be.
        """
        kept = {fd: os.dup(fd) for fd in (0, 1, 2) if _is_open(fd)}
        borrowed: list[int] = []
        try:
            for fd in (0, 1, 2):
                stream = self._streams.get(fd)
                if stream is not None:
                    self._put(fd, stream, borrowed)
                elif fd in kept:
                    os.close(fd)
            yield
        finally:
            for fd, copy in kept.items():
                os.dup2(copy, fd)
                os.close(copy)
            for fd in borrowed:
                os.close(fd)

    def _put(self, fd: int, stream: dict[str, Any], borrowed: list[int]) -> None:
        """Make descriptor *fd* like *stream*; what else must stay open goes into *borrowed*."""
        kind, name = stream.get("kind"), str(stream.get("name"))
        if kind == "terminal":
            if not os.isatty(fd):
                raise TraceError(f"{_NAMES[fd]} was a terminal, so it has to be one again")
            return
        if kind == "pipe":
            ends = os.pipe()
            new, other = ends if fd == 0 else ends[::-1]
            if fd == 0:
                os.close(other)  # what was read is in the trace: behind it is the end
            else:
                borrowed.append(other)
        elif kind == "socket":
            ours, theirs = socket.socketpair()
            new = ours.detach()
            borrowed.append(theirs.detach())
        elif kind == "device" and name in _DEVICES:
            new = os.open(name, stream["flags"] & os.O_ACCMODE)
        elif kind == "file":
            new = self._file(fd, stream, name)
        else:
            raise TraceError(f"{_NAMES[fd]} was {name!r}, which cannot be had again")
        os.dup2(new, fd)
        os.close(new)
        fcntl.fcntl(fd, fcntl.F_SETFL, stream["flags"] & _KEPT_FLAGS)

    @staticmethod
    def _file(fd: int, stream: dict[str, Any], name: str) -> int:
        """A file: the very one to read from, an empty one to write to."""
        if stream["flags"] & os.O_ACCMODE != os.O_RDONLY:
            file, path = tempfile.mkstemp()
            os.unlink(path)  # noqa: PTH108 - it lives as long as the descriptor
            return file
        try:
            file = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise TraceError(f"{_NAMES[fd]} was the file {name}: {error.strerror}") from None
        os.lseek(file, max(stream["offset"], 0), os.SEEK_SET)
        return file

    def connect(self, kernel: "Kernel") -> None:
        """Make the streams of *kernel*, which booted on ours, say and give what the recorded ones did."""
        for fd, inode in kernel.vfs.streams.items():
            stream = self._streams[fd]
            if stream["kind"] != "file":
                pin_stream(kernel, fd, recorded_stat(stream["stat"]))
            if stream["kind"] in _REPLAYED:
                inode.tap = _Tap(inode, [entry for entry in self._inputs if entry.fd == fd])


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class _Tap:
    """Gives the guest what it read the first time; what it writes is dropped."""

    def __init__(self, inode: "HostInode", inputs: list[Input]) -> None:
        self._inode = inode
        self._inputs = deque(inputs)

    def read(self, count: int, _host: Callable[[int], bytes]) -> bytes:
        """The next piece of the record; nothing behind its end."""
        if not self._inputs:
            return b""
        data = self._inputs.popleft().data
        if data is None:
            raise WouldBlock(self._inode.queue, "it had to wait here")
        if len(data) > count:  # another read than the one that was recorded
            self._inputs.appendleft(Input(0, 0, data[count:]))
        return data[:count]

    @staticmethod
    def write(data: bytes) -> int:
        """Taken at once."""
        return len(data)

    @staticmethod
    def poll(_events: int) -> int:
        """Always ready."""
        return READABLE | WRITABLE
