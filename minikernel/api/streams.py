"""A host that is none: the guest's standard streams are held by the program that drives the machine."""

import os
from collections.abc import Callable

from minikernel.abi.poll import READABLE, WRITABLE
from minikernel.config import Config
from minikernel.fs.anon import DetachedFs
from minikernel.fs.hostio import HostInode
from minikernel.fs.outside import CopyableOutside, Stream
from minikernel.trace.outside import pin_streams


class Tap:
    """One of the guest's streams: *data* to read, and a place for what is written."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._written: list[bytes] = []

    def read(self, count: int, _host: Callable[[int], bytes]) -> bytes:
        """The next bytes."""
        data, self._data = self._data[:count], self._data[count:]
        return data

    def write(self, data: bytes, _host: Callable[[bytes], int]) -> int:
        """Everything is taken at once."""
        self._written.append(bytes(data))
        return len(data)

    @staticmethod
    def poll(_host: Callable[[], int]) -> int:
        """Always ready."""
        return READABLE | WRITABLE

    @staticmethod
    def ioctl(request: int, data: bytes | int, host: Callable[[int, bytes | int], bytes]) -> bytes:
        """As a pipe of the host says."""
        return host(request, data)

    def output(self) -> bytes:
        """All that was written."""
        return b"".join(self._written)


class OwnStreams(CopyableOutside):
    """The host's files, and three pipes that say the same about themselves in every run.

    Attributes:
        taps: standard input, output and error.
    """

    def __init__(self, config: Config, stdin: bytes = b"") -> None:
        super().__init__()
        self._config = config
        self._ends: list[int] = []
        self.taps = (Tap(stdin), Tap(), Tap())

    def streams(self, sb: DetachedFs) -> dict[int, Stream]:
        """Nothing comes from our own descriptors 0, 1 and 2."""
        found = {}
        for fd, tap in enumerate(self.taps):
            ends = os.pipe2(os.O_CLOEXEC)
            self._ends += ends
            inode = HostInode(sb, ends[min(fd, 1)])
            inode.tap = tap
            found[fd] = Stream(inode, inode.host_fd, os.O_WRONLY if fd else os.O_RDONLY)
        pin_streams(sb.dev, found, self._config.uid, self._config.gid)
        return found

    def close(self) -> None:
        """Close the pipes: after the machine."""
        for end in self._ends:
            os.close(end)
        self._ends.clear()
