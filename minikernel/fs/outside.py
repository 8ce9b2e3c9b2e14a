"""Where a machine meets its host: trees of files, the standard streams, time.

Everything that can differ between two runs of one program comes in here, so this is where a recorder stands, and
where a recorded run puts its record in the host's place (minikernel/trace).
"""

import os
import stat
from typing import NamedTuple

from minikernel.clock import HostTime, RealTime
from minikernel.fs.anon import DetachedFs
from minikernel.fs.hostdoor import HostDoor
from minikernel.fs.hostfs import Door
from minikernel.fs.hostio import HostInode, host_flags
from minikernel.fs.hostwait import BellTap
from minikernel.fs.swapstore import (
    HostSwapStore,
    PrivateSwapStore,
    open_swap_file,
    private_swap_file,
    private_temporary_swap,
    temporary_swap,
)


class Stream(NamedTuple):
    """One of the guest's descriptors 0, 1 and 2: the host's descriptor behind it, and how that is open."""

    inode: HostInode
    fd: int
    flags: int


class Outside:
    """The host itself.  A recorder listens on the way, a record answers instead."""

    def __init__(self) -> None:
        self.time: HostTime = RealTime()
        self.bell: BellTap | None = None

    def close(self) -> None:
        """The machine is gone: nothing more is asked."""

    def tree(self, root: bytes) -> Door:
        """The files below the host's directory *root*, to read.  Raises OSError: it is not there."""
        return HostDoor(root)

    def writable_tree(self, root: bytes) -> HostDoor:
        """The same, to change.  Raises OSError."""
        return HostDoor(root)

    def locate(self, path: bytes) -> tuple[bytes, bytes | None]:
        """Directory and entry (None: the directory itself) that --bind's *path* leads to.  Raises OSError."""
        host = os.path.realpath(path)
        if stat.S_ISDIR(os.stat(host).st_mode):  # noqa: PTH116 - pathlib has no bytes
            return host, None
        directory, _, name = host.rpartition(b"/")
        return directory or b"/", name

    def swap_file(self, path: bytes) -> HostSwapStore | PrivateSwapStore:
        """The host's swap file *path*.  Raises OSError."""
        return open_swap_file(path)

    def temporary_swap(self, size: int) -> HostSwapStore | PrivateSwapStore:
        """Room for *size* bytes of swap.  Raises OSError, LinuxError."""
        return temporary_swap(size)

    def streams(self, sb: DetachedFs) -> dict[int, Stream]:
        """The standard descriptors that are open on the host; one inode for all that are the same terminal."""
        found: dict[int, Stream] = {}
        for fd in (0, 1, 2):
            try:
                inode = HostInode(sb, fd)
            except OSError:
                continue
            others = [stream.inode for stream in found.values()]
            same = [old for old in others if old.is_tty and (old.dev, old.ino) == (inode.dev, inode.ino)]
            found[fd] = Stream(same[0] if same else inode, fd, host_flags(fd))
        return found


class CopyableOutside(Outside):
    """The host of a machine whose process is forked: nothing of the machine lies in a file, not even its swap."""

    def swap_file(self, path: bytes) -> PrivateSwapStore:
        """See Outside."""
        return private_swap_file(path)

    def temporary_swap(self, size: int) -> PrivateSwapStore:
        """See Outside."""
        return private_temporary_swap(size)
