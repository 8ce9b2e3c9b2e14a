"""Open files: what a descriptor refers to.

Every operation here ends at once.  One that would have to wait raises ``WouldBlock`` with the wait queue; the
system call layer then answers EAGAIN, or waits there and tries again.

Linux: struct file, struct file_operations (include/linux/fs.h), fs/read_write.c.
"""

from typing import TYPE_CHECKING, Any, Final

from minikernel.abi.dirent import DT_DIR
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import (
    O_ACCMODE,
    O_APPEND,
    O_DSYNC,
    O_LARGEFILE,
    O_NOATIME,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    SEEK_CUR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
    SEEK_SET,
)
from minikernel.abi.poll import READABLE, WRITABLE
from minikernel.abi.stat import MAX_NON_LFS, S_ISGID, S_ISUID, Kstat
from minikernel.fs.cred import killed_privileges
from minikernel.fs.dentry import Path, d_path
from minikernel.fs.inode import MAX_LFS_FILESIZE
from minikernel.mm.filemap import PageCache
from minikernel.wait import WaitQueue

if TYPE_CHECKING:
    from minikernel.fs.epoll import EpollItem

MAX_RW_COUNT: Final = 0x7FFF_F000


class WouldBlock(LinuxError):  # noqa: N818 - it says what would happen
    """Nothing can be done now: EAGAIN, or wait on *queue* and try again.

    *timeout_ns*: a reader waits so long at most, and then takes what ``OpenFile.read_expired`` gives.
    """

    def __init__(self, queue: WaitQueue, why: str = "", timeout_ns: int | None = None) -> None:
        super().__init__(Errno.EAGAIN, why)
        self.queue = queue
        self.timeout_ns = timeout_ns


class BrokenPipe(LinuxError):  # noqa: N818 - Linux's name
    """EPIPE, and the writer gets SIGPIPE."""

    def __init__(self, why: str = "") -> None:
        super().__init__(Errno.EPIPE, why)


class OpenFile:
    """An open file description: struct file.  *refs* counts the descriptors and mappings that share it.

    Satisfies mm's MappedFile.  The defaults are what Linux answers where file_operations has NULL.
    """

    __slots__ = (
        "address",
        "denies_write",
        "epitems",
        "f_path",
        "flags",
        "inode",
        "mapping",
        "owner_pid",
        "pos",
        "readable",
        "refs",
        "released",
        "writable",
    )

    seekable = False
    is_socket = False
    read_timeout: int | None = None  # how long a read waits at most, ns (SO_RCVTIMEO); None: for ever
    write_timeout: int | None = None

    def __init__(self, path: Path, flags: int) -> None:
        """Errors: ENOMEM: no object of filp for it; nothing has changed then."""
        inode = path.dentry.inode
        self.address = inode.sb.objects.filp.alloc()
        self.f_path = path
        self.inode = inode
        self.flags = flags
        mode = flags & O_ACCMODE
        usable = not flags & O_PATH
        self.readable = usable and mode in {O_RDONLY, O_RDWR}
        self.writable = usable and mode in {O_WRONLY, O_RDWR}
        self.pos = 0
        self.refs = 1
        self.released = False
        self.denies_write = False
        self.owner_pid = 0
        self.epitems: list[EpollItem] | None = None  # epolls that watch this file (f_ep)
        self.mapping: PageCache | None = inode.mapping
        inode.open_count += 1

    # MappedFile

    @property
    def size(self) -> int:
        """Length of the file now, in bytes."""
        return self.inode.size

    @property
    def path(self) -> bytes:
        """Name for /proc/PID/maps."""
        return d_path(self.f_path, None)

    @property
    def ino(self) -> int:
        """Inode number."""
        return self.inode.ino

    @property
    def dev(self) -> int:
        """Device number, as st_dev."""
        return self.inode.dev

    # Life

    def get_file(self) -> None:
        """One more descriptor or mapping refers to this file."""
        self.refs += 1

    def put_file(self) -> None:
        """One descriptor or mapping fewer; the last one releases the file (fput)."""
        assert self.refs > 0, "put_file: file has no references"
        self.refs -= 1
        if not self.refs:
            self.released = True
            for item in self.epitems[:] if self.epitems else ():
                item.remove()
            inode = self.inode
            if inode.locks is not None:
                inode.locks.drop_file(self)
            self.release()
            if self.denies_write:
                self.inode.write_count += 1
            inode.open_count -= 1
            inode.put()
            inode.sb.objects.filp.free(self.address)

    def deny_write_access(self) -> None:
        """As long as this file lives nobody can open it for writing: it is a program that runs (ETXTBSY)."""
        assert self.inode.write_count <= 0, "deny_write_access: open for writing"
        self.denies_write = True
        self.inode.write_count -= 1

    def release(self) -> None:
        """The last descriptor was closed."""

    # Data

    def read(self, count: int) -> bytes:
        """Up to *count* bytes from the file position, which moves on; b"" at the end.  Errors: WouldBlock."""
        raise LinuxError(Errno.EINVAL, f"read of {count}: not readable")

    def read_expired(self, count: int) -> bytes:
        """What a read gives whose WouldBlock named a time, which has passed."""
        return self.read(count)

    def write(self, data: bytes) -> int:
        """Write *data* at the file position, which moves on; how many bytes.  Errors: WouldBlock, BrokenPipe."""
        raise LinuxError(Errno.EINVAL, f"write of {len(data)}: not writable")

    def pread(self, count: int, offset: int) -> bytes:
        """Up to *count* bytes at *offset*."""
        raise LinuxError(Errno.ESPIPE, f"pread of {count} at {offset}: no positions")

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write *data* at *offset*; how many bytes."""
        raise LinuxError(Errno.ESPIPE, f"pwrite of {len(data)} at {offset}: no positions")

    def unread(self, data: bytes) -> None:
        """Take back *data*, the end of what ``read`` gave, which the reader could not store."""
        self.pos -= len(data)

    def seek(self, offset: int, whence: int) -> int:
        """Move the file position (lseek); where it is then."""
        raise LinuxError(Errno.ESPIPE, f"seek {offset} {whence}")

    def read_dir(self) -> list[tuple[bytes, int, int]]:
        """All entries from the file position on: name, inode number, type; position and index agree."""
        raise LinuxError(Errno.ENOTDIR, "not a directory")

    def fsync(self) -> None:
        """Write back what is dirty."""
        raise LinuxError(Errno.EINVAL, "nothing to write back")

    # Control

    def stat(self) -> Kstat:
        """What fstat shows."""
        return self.inode.stat()

    def ioctl(self, task: Any, request: int, arg: int) -> int:
        """A request for a device; *task* gives access to memory through ``uaccess``."""
        raise LinuxError(Errno.ENOTTY, f"ioctl {request:#x} {arg:#x} of {task}")

    def poll(self) -> int:
        """POLL* events that are true now."""
        return READABLE | WRITABLE

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        """Queues that are woken when ``poll`` may answer something else; none: it never does, and epoll refuses."""
        return ()

    def fdinfo(self) -> bytes:
        """Lines of its own in /proc/PID/fdinfo (show_fdinfo)."""
        return b""

    def set_flags(self, flags: int) -> None:
        """F_SETFL: *flags* are those that may change."""
        self.flags = flags


class PathFile(OpenFile):
    """A file opened with O_PATH: a name, no content."""

    __slots__ = ()


class RegularFile(OpenFile):
    """A regular file.  Its bytes are in the page cache, and nowhere else."""

    __slots__ = ()

    mapping: PageCache
    seekable = True

    def __init__(self, path: Path, flags: int) -> None:
        super().__init__(path, flags)
        if self.writable:
            self.inode.write_count += 1

    def release(self) -> None:
        """Close."""
        if self.writable:
            self.inode.write_count -= 1

    def read(self, count: int) -> bytes:
        """Read at the position."""
        pos = self.pos
        data = self.mapping.read(pos, count)
        self.pos = pos + len(data)
        inode = self.inode
        if not inode.sb.noatime and not self.flags & O_NOATIME:
            inode.accessed()
        return data

    def pread(self, count: int, offset: int) -> bytes:
        """Read at *offset*."""
        data = self.mapping.read(offset, count)
        inode = self.inode
        if not inode.sb.noatime and not self.flags & O_NOATIME:
            inode.accessed()
        return data

    def write(self, data: bytes) -> int:
        """Write at the position, or at the end with O_APPEND."""
        if not data:
            return 0
        pos = self.inode.size if self.flags & O_APPEND else self.pos
        done = self._store(data, pos)
        self.pos = pos + done
        return done

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write at *offset*; with O_APPEND at the end, as Linux does against POSIX."""
        return self._store(data, self.inode.size if self.flags & O_APPEND else offset)

    def _store(self, data: bytes, pos: int) -> int:
        inode = self.inode
        limit = MAX_LFS_FILESIZE if self.flags & O_LARGEFILE else MAX_NON_LFS
        if pos + len(data) > limit:
            if pos >= limit:
                raise LinuxError(Errno.EFBIG, "beyond the largest file, or 2 GiB without O_LARGEFILE")
            data = data[: limit - pos]
        if not data:
            return 0
        inode.before_write(pos, len(data))
        if inode.mode & (S_ISUID | S_ISGID):
            inode.mode = killed_privileges(inode.mode)
        done = self.mapping.write(pos, data)
        inode.modified()
        inode.after_write(pos, data)
        if self.flags & O_DSYNC:
            inode.fsync()
        return done

    def seek(self, offset: int, whence: int) -> int:
        """generic_file_llseek, with SEEK_DATA and SEEK_HOLE."""
        size = self.inode.size
        if whence == SEEK_SET:
            pos = offset
        elif whence == SEEK_CUR:
            pos = self.pos + offset
        elif whence == SEEK_END:
            pos = size + offset
        elif whence in {SEEK_DATA, SEEK_HOLE}:
            if not 0 <= offset < size:
                raise LinuxError(Errno.ENXIO, "beyond the end of the file")
            pos = self.inode.seek_extent(offset, data=whence == SEEK_DATA)
        else:
            raise LinuxError(Errno.EINVAL, f"whence {whence}")
        if not 0 <= pos <= MAX_LFS_FILESIZE:
            raise LinuxError(Errno.EINVAL, f"position {pos}")
        self.pos = pos
        return pos

    def fsync(self) -> None:
        """Write back the dirty pages."""
        self.inode.fsync()

    def poll(self) -> int:
        """Always ready."""
        return READABLE | WRITABLE


class DirFile(OpenFile):
    """A directory.  The entries are those of the first read after open or rewind."""

    __slots__ = ("_entries",)

    seekable = True

    def __init__(self, path: Path, flags: int) -> None:
        super().__init__(path, flags)
        self._entries: list[tuple[bytes, int, int]] | None = None

    def read(self, count: int) -> bytes:
        """A directory has no bytes."""
        raise LinuxError(Errno.EISDIR, f"read of {count}")

    def pread(self, count: int, offset: int) -> bytes:
        """A directory has no bytes."""
        raise LinuxError(Errno.EISDIR, f"pread of {count} at {offset}")

    def read_dir(self) -> list[tuple[bytes, int, int]]:
        """The entries from the position on."""
        if self.inode.dead:
            raise LinuxError(Errno.ENOENT, "the directory was removed")
        if self._entries is None or self.pos == 0:
            parent = self.f_path.dentry.parent.inode
            if self.f_path.dentry is self.f_path.mnt.root and self.f_path.mnt.parent is not None:
                parent = self.f_path.mnt.mountpoint.parent.inode
            dots = [(b".", self.inode.ino, DT_DIR), (b"..", parent.ino, DT_DIR)]
            self._entries = dots + self.inode.entries()
            self.inode.accessed()
        return self._entries[self.pos :]

    def seek(self, offset: int, whence: int) -> int:
        """dcache_dir_lseek: SEEK_SET and SEEK_CUR."""
        if whence not in {SEEK_SET, SEEK_CUR}:
            raise LinuxError(Errno.EINVAL, f"whence {whence} in a directory")
        pos = offset + (self.pos if whence == SEEK_CUR else 0)
        if not 0 <= pos <= MAX_LFS_FILESIZE:
            raise LinuxError(Errno.EINVAL, f"position {pos}")
        self.pos = pos
        return pos

    def fsync(self) -> None:
        """Nothing is dirty."""


def can_seek(file: OpenFile) -> bool:
    """Whether *file* has positions (FMODE_LSEEK)."""
    return type(file).seekable
