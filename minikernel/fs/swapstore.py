"""Where swap lies: a file of the host, opened at boot, or a file of the guest's, by swapon(2).

The host's file is held open and locked, so that a second machine cannot use it; a temporary one has no name and is gone
when the machine is.
"""

import fcntl
import mmap
import os
from collections.abc import Callable
from typing import Final

from emu.x86 import PAGE_SHIFT, PAGE_SIZE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.inode import Inode
from minikernel.mm.mapped_file import BackingStore

_MAP_NORESERVE: Final = 0x4000  # linux/mman.h; Python 3.11 does not name it


class HostSwapStore:
    """A file, or block device, of the host."""

    __slots__ = ("_fd", "nr_pages")

    def __init__(self, fd: int) -> None:
        """*fd* is ours from now on."""
        self._fd = fd
        self.nr_pages = os.lseek(fd, 0, os.SEEK_END) >> PAGE_SHIFT

    def read_page(self, index: int) -> bytes:
        """Errors: EIO."""
        try:
            return os.pread(self._fd, PAGE_SIZE, index << PAGE_SHIFT)
        except OSError as error:
            raise LinuxError(Errno.EIO, f"swap cannot be read: {error.strerror}") from error

    def write_page(self, index: int, data: bytes) -> None:
        """Errors: EIO, ENOSPC."""
        try:
            done = os.pwrite(self._fd, data, index << PAGE_SHIFT)
        except OSError as error:
            raise LinuxError(Errno(error.errno or Errno.EIO), f"swap cannot be written: {error.strerror}") from error
        if done != len(data):
            raise LinuxError(Errno.ENOSPC, f"swap took {done} bytes of {len(data)}")

    def close(self) -> None:
        """Close it, which also unlocks it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_swap_file(path: bytes) -> HostSwapStore:
    """The host's file *path*, locked.  Raises OSError."""
    return HostSwapStore(open_locked(path))


def open_locked(path: bytes) -> int:
    """A descriptor of the host's file *path*, locked.

    Raises:
        OSError: it is not there, or may not be used; EBUSY: another machine uses it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise OSError(Errno.EBUSY, "another machine swaps to it", os.fsdecode(path)) from error
    return fd


def temporary_swap(size: int) -> HostSwapStore:
    """A new file of *size* bytes without a name, as mkswap(8) would leave it.

    Raises:
        OSError: it cannot be made.  LinuxError: EINVAL, too small or too large for swap.
    """
    from minikernel.mm.swap_area import make_header

    return blank_swap(size >> PAGE_SHIFT, make_header(size >> PAGE_SHIFT))


def blank_swap(nr_pages: int, header: bytes) -> HostSwapStore:
    """A new file of *nr_pages* pages without a name, the first of which is *header*.  Raises OSError."""
    import tempfile  # not before it is needed: it costs every start 5 ms

    fd, path = tempfile.mkstemp(prefix="minikernel-swap-")
    os.unlink(path)  # noqa: PTH108 - nothing else here needs pathlib
    os.ftruncate(fd, nr_pages << PAGE_SHIFT)
    os.pwrite(fd, header, 0)
    return HostSwapStore(fd)


class PrivateSwapStore:
    """Swap in this process's own memory: copies of the process have copies of it.

    *fd* is a file whose contents it begins with, which is not written; -1: nothing.
    """

    __slots__ = ("_fd", "_memory", "nr_pages")

    def __init__(self, size: int, fd: int = -1) -> None:
        flags = mmap.MAP_PRIVATE | _MAP_NORESERVE | (mmap.MAP_ANONYMOUS if fd < 0 else 0)
        self._memory = mmap.mmap(fd, size, flags=flags)
        self._fd = fd
        self.nr_pages = size >> PAGE_SHIFT

    def read_page(self, index: int) -> bytes:
        """A page."""
        return self._memory[index << PAGE_SHIFT : (index + 1) << PAGE_SHIFT]

    def write_page(self, index: int, data: bytes) -> None:
        """Store a page."""
        self._memory[index << PAGE_SHIFT : (index + 1) << PAGE_SHIFT] = data

    def close(self) -> None:
        """Give it back, and unlock the file."""
        self._memory.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def private_swap_file(path: bytes) -> PrivateSwapStore:
    """As ``open_swap_file``; the file is locked, and not written."""
    fd = open_locked(path)
    return PrivateSwapStore(os.lseek(fd, 0, os.SEEK_END) & -PAGE_SIZE, fd)


def private_temporary_swap(size: int) -> PrivateSwapStore:
    """As ``temporary_swap``."""
    from minikernel.mm.swap_area import make_header

    header = make_header(size >> PAGE_SHIFT)
    store = PrivateSwapStore(size)
    store.write_page(0, header)
    return store


class GuestSwapStore:
    """A regular file of the guest whose contents are outside guest RAM: its backing store, past the page cache."""

    __slots__ = ("_backing", "_put", "inode")

    def __init__(self, backing: BackingStore, inode: Inode, put: Callable[[], None]) -> None:
        """*put* is called at the end: the file may be written to again."""
        self.inode = inode
        self._backing = backing
        self._put = put

    def read_page(self, index: int) -> bytes:
        """Errors: EIO."""
        return self._backing.read_page(index)

    def write_page(self, index: int, data: bytes) -> None:
        """Errors: EIO, ENOSPC."""
        self._backing.write_page(index, data)

    def close(self) -> None:
        """Swapoff."""
        self._put()
