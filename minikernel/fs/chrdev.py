"""Memory devices: /dev/null, zero, full, random, urandom.

Linux: drivers/char/mem.c, drivers/char/random.c.
"""

from collections.abc import Callable
from typing import Any, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ioctl import RNDGETENTCNT
from minikernel.abi.stat import makedev
from minikernel.fs.dentry import Path
from minikernel.fs.file import OpenFile
from minikernel.mm.filemap import PageCache

MEM_MAJOR: Final = 1
TTYAUX_MAJOR: Final = 5
_ENTROPY_BITS: Final = 256  # what an initialized generator tells (POOL_BITS)


class NullFile(OpenFile):
    """/dev/null: empty, and takes everything."""

    __slots__ = ()

    seekable = True

    def read(self, count: int) -> bytes:
        """End of file."""
        del count
        return b""

    def pread(self, count: int, offset: int) -> bytes:
        """End of file."""
        del count, offset
        return b""

    def write(self, data: bytes) -> int:
        """Gone."""
        self.pos += len(data)
        return len(data)

    def pwrite(self, data: bytes, offset: int) -> int:
        """Gone."""
        del offset
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        """Always 0 (null_lseek)."""
        del offset, whence
        self.pos = 0
        return 0


class ZeroFile(NullFile):
    """/dev/zero.  Mapped, it is anonymous memory."""

    __slots__ = ()

    def __init__(self, path: Path, flags: int) -> None:
        super().__init__(path, flags)
        self.mapping = PageCache(path.inode.sb.services.node)
        self.mapping.is_dev_zero = True

    def read(self, count: int) -> bytes:
        """Zeroes without end."""
        self.pos += count
        return bytes(count)

    def pread(self, count: int, offset: int) -> bytes:
        """Zeroes without end."""
        del offset
        return bytes(count)


class FullFile(ZeroFile):
    """/dev/full: zeroes to read, never room to write, and nothing to map."""

    __slots__ = ()

    def __init__(self, path: Path, flags: int) -> None:
        super().__init__(path, flags)
        self.mapping = None

    def write(self, data: bytes) -> int:
        """No room."""
        raise LinuxError(Errno.ENOSPC, f"/dev/full took none of {len(data)} bytes")

    def pwrite(self, data: bytes, offset: int) -> int:
        """No room."""
        del offset
        raise LinuxError(Errno.ENOSPC, f"/dev/full took none of {len(data)} bytes")


class RandomFile(NullFile):
    """/dev/random and /dev/urandom: the machine's seeded generator."""

    __slots__ = ()

    def read(self, count: int) -> bytes:
        """Random bytes."""
        return self.inode.sb.services.random.randbytes(count)

    def pread(self, count: int, offset: int) -> bytes:
        """Random bytes."""
        del offset
        return self.inode.sb.services.random.randbytes(count)

    def ioctl(self, task: Any, request: int, arg: int) -> int:
        """RNDGETENTCNT."""
        if request != RNDGETENTCNT:
            raise LinuxError(Errno.EINVAL, f"ioctl {request:#x} of /dev/random")
        from minikernel.mm.uaccess import copy_to_user

        copy_to_user(task.mm, arg, _ENTROPY_BITS.to_bytes(4, "little"))
        return 0


_DEVICES: Final[dict[int, Callable[[Path, int], OpenFile]]] = {
    makedev(MEM_MAJOR, 3): NullFile,
    makedev(MEM_MAJOR, 5): ZeroFile,
    makedev(MEM_MAJOR, 7): FullFile,
    makedev(MEM_MAJOR, 8): RandomFile,
    makedev(MEM_MAJOR, 9): RandomFile,
}


def open_chrdev(path: Path, flags: int) -> OpenFile:
    """Open the character device *path* by its number (chrdev_open).  Errors: ENXIO for one we do not have."""
    number = path.inode.rdev
    opener = _DEVICES.get(number) or path.inode.sb.services.chrdevs.get(number)
    if opener is None:
        raise LinuxError(Errno.ENXIO, f"no device {number:#x}")
    return opener(path, flags)
