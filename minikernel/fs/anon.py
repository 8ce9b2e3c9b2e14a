"""Files without a name in the tree: eventfd, and the super blocks of pipes and anonymous inodes.

Linux: fs/anon_inodes.c, fs/eventfd.c, the kern_mount()s of fs/pipe.c and mm/shmem.c.
"""

from struct import Struct
from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_RDWR
from minikernel.abi.poll import POLLERR, READABLE, WRITABLE
from minikernel.abi.statfs import ANON_INODE_FS_MAGIC
from minikernel.fs.dentry import Dentry, Path
from minikernel.fs.file import OpenFile, WouldBlock
from minikernel.fs.inode import Inode, SuperBlock
from minikernel.fs.mount import Mount
from minikernel.fs.services import KernelServices
from minikernel.wait import WaitQueue

_U64: Final = Struct("<Q")
EVENTFD_MAX: Final = (1 << 64) - 1  # never reached: the largest count is one less


class DetachedFs(SuperBlock):
    """A file system of the kernel that is mounted nowhere."""

    __slots__ = ("mount",)

    def __init__(self, services: KernelServices, fstype: bytes, magic: int, dev: int) -> None:
        super().__init__(services, fstype, magic, dev)
        self.cached = False
        self.root = Inode(self, self.new_ino(), 0o040555)
        self.mount = Mount(self, detached_name=_name_of)

    def path(self, name: bytes, inode: Inode) -> Path:
        """A place for *inode*; *name* is what /proc shows."""
        return Path(self.mount, Dentry(name, self.mount.root, inode))


def _name_of(path: Path) -> bytes:
    return path.dentry.name


class AnonFs(DetachedFs):
    """anon_inodefs: one inode stands for all its files."""

    __slots__ = ("inode",)

    def __init__(self, services: KernelServices, dev: int) -> None:
        super().__init__(services, b"anon_inodefs", ANON_INODE_FS_MAGIC, dev)
        self.inode = Inode(self, self.new_ino(), 0o600)


class EventFile(OpenFile):
    """A 64-bit counter: eventfd(2)."""

    __slots__ = ("count", "queue", "semaphore")

    def __init__(self, path: Path, flags: int, count: int, *, semaphore: bool) -> None:
        super().__init__(path, flags | O_RDWR)
        self.count = count
        self.semaphore = semaphore
        self.queue = WaitQueue()

    def read(self, count: int) -> bytes:
        """The counter, which is then 0; as a semaphore 1, which is taken off."""
        if count < 8:
            raise LinuxError(Errno.EINVAL, "an eventfd is read in 8 bytes")
        if not self.count:
            raise WouldBlock(self.queue, "the counter is 0")
        taken = 1 if self.semaphore else self.count
        self.count -= taken
        self.queue.wake(key=WRITABLE)
        return _U64.pack(taken)

    def unread(self, data: bytes) -> None:
        """The value is lost, as on Linux."""

    def write(self, data: bytes) -> int:
        """Add to the counter."""
        if len(data) != 8:
            raise LinuxError(Errno.EINVAL, "an eventfd is written in 8 bytes")
        (added,) = _U64.unpack_from(data)
        if added == EVENTFD_MAX:
            raise LinuxError(Errno.EINVAL, "the counter never reaches 2**64 - 1")
        if self.count + added >= EVENTFD_MAX:
            raise WouldBlock(self.queue, "the counter would overflow")
        self.count += added
        self.queue.wake(key=READABLE)
        return 8

    def seek(self, offset: int, whence: int) -> int:
        """Nowhere to go (noop_llseek)."""
        del offset, whence
        return self.pos

    def fdinfo(self) -> bytes:
        """The counter, for /proc/PID/fdinfo (eventfd_show_fdinfo)."""
        return b"eventfd-count: %16x\n" % self.count

    def poll(self) -> int:
        """eventfd_poll."""
        mask = 0
        if self.count:
            mask |= READABLE
        if self.count < EVENTFD_MAX - 1:
            mask |= WRITABLE
        return mask | (POLLERR if self.count == EVENTFD_MAX else 0)

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        """One for both directions."""
        return (self.queue,)
