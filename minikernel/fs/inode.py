"""Files themselves: inodes and the super blocks they belong to.

An operation a file system does not have raises what Linux answers where the method pointer is NULL.
Checks that all file systems share (permissions, types, mounts) are made by the callers, as Linux's VFS does.

Linux: struct inode, struct super_block, struct inode_operations (include/linux/fs.h).
"""

from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Kstat
from minikernel.abi.statfs import ST_NOATIME, ST_RDONLY, ST_RELATIME, Kstatfs
from minikernel.fs.cred import Cred, generic_permission
from minikernel.fs.services import KernelServices

if TYPE_CHECKING:
    from minikernel.fs.dentry import Dentry, Path
    from minikernel.fs.file import OpenFile
    from minikernel.fs.locks import FileLocks
    from minikernel.mm.filemap import PageCache
    from minikernel.mm.kmem_cache import KmemCache

MAX_LFS_FILESIZE: Final = (1 << 63) - 1
_RELATIME_NS: Final = 24 * 3600 * 1_000_000_000


class SuperBlock:
    """One file system.  *dev* is st_dev as user space sees it; *cached*: its dentries may be kept."""

    __slots__ = (
        "cached",
        "dev",
        "dir_size",
        "fstype",
        "magic",
        "inode_cache",
        "next_ino",
        "noatime",
        "objects",
        "readonly",
        "root",
        "services",
        "source",
    )

    def __init__(self, services: KernelServices, fstype: bytes, magic: int, dev: int) -> None:
        self.services = services
        self.objects = services.node.objects
        self.inode_cache: KmemCache | None = None  # what its inodes take objects of
        self.fstype = fstype
        self.magic = magic
        self.dev = dev
        self.source = fstype
        self.readonly = False
        self.noatime = False
        self.cached = True
        self.dir_size = 0  # bytes of a directory on a disk; 0: tmpfs's way, so much for each entry
        self.next_ino = 1
        self.root: Inode

    def new_ino(self) -> int:
        """The next unused inode number."""
        ino = self.next_ino
        self.next_ino = ino + 1
        return ino

    def now(self) -> int:
        """The time stamp of a change made now, in ns."""
        return self.services.clock.realtime_ns()

    def statfs(self) -> Kstatfs:
        """Sizes and limits of the file system."""
        return Kstatfs(self.magic)

    def mount_flags(self) -> int:
        """ST_* bits of statfs."""
        return (ST_RDONLY if self.readonly else 0) | (ST_NOATIME if self.noatime else ST_RELATIME)

    def revalidate(self, _dentry: "Dentry") -> bool:
        """Whether a kept dentry still tells the truth (d_revalidate)."""
        return True

    def sync(self) -> None:
        """Write back what is dirty (sync_fs)."""


class Attributes:
    """What notify_change is asked to change: struct iattr.  None: leave as it is.  Times in ns."""

    __slots__ = ("atime", "ctime", "gid", "mode", "mtime", "size", "uid")

    def __init__(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime: int | None = None,
        mtime: int | None = None,
    ) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.atime = atime
        self.mtime = mtime
        self.ctime: int | None = None


class Inode:
    """A file: struct inode.  Times in ns, *rdev* as user space sees it, *mode* with the type."""

    __slots__ = (
        "_size",
        "address",
        "atime",
        "btime",
        "ctime",
        "dead",
        "dev",
        "gid",
        "ino",
        "locks",
        "mapping",
        "mode",
        "mtime",
        "nlink",
        "open_count",
        "rdev",
        "sb",
        "uid",
        "write_count",
        "xattrs",
    )

    def __init__(self, sb: SuperBlock, ino: int, mode: int, uid: int = 0, gid: int = 0, rdev: int = 0) -> None:
        """Errors: ENOMEM: no object of the file system's inode cache."""
        self.address = sb.inode_cache.alloc() if sb.inode_cache is not None else 0
        self.sb = sb
        self.dev = sb.dev
        self.ino = ino
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.rdev = rdev
        self.nlink = 1
        self._size = 0
        self.atime = self.mtime = self.ctime = sb.now()
        self.btime: int | None = self.ctime
        self.mapping: PageCache | None = None
        self.locks: FileLocks | None = None
        self.xattrs: dict[bytes, bytes] | None = None
        self.open_count = 0
        self.write_count = 0  # open for writing; negative: being executed (i_writecount)
        self.dead = False  # a removed directory (S_DEAD)

    # What it is

    @property
    def size(self) -> int:
        """Length in bytes (i_size).  A regular file's is kept by its page cache."""
        return self._size

    @size.setter
    def size(self, size: int) -> None:
        self._size = size

    @property
    def is_dir(self) -> bool:
        """A directory."""
        return self.mode & S_IFMT == S_IFDIR

    @property
    def is_reg(self) -> bool:
        """A regular file."""
        return self.mode & S_IFMT == S_IFREG

    @property
    def is_symlink(self) -> bool:
        """A symbolic link."""
        return self.mode & S_IFMT == S_IFLNK

    def stat(self) -> Kstat:
        """All that stat shows (vfs_getattr)."""
        st = Kstat(
            dev=self.dev,
            ino=self.ino,
            mode=self.mode,
            nlink=self.nlink,
            uid=self.uid,
            gid=self.gid,
            rdev=self.rdev,
            size=self.size,
        )
        st.atime = self.atime
        st.mtime = self.mtime
        st.ctime = self.ctime
        st.btime = self.btime
        st.blocks = self.blocks()
        return st

    def blocks(self) -> int:
        """Storage taken, in units of 512 bytes."""
        return 0

    def permission(self, mask: int, cred: Cred) -> None:
        """Whether *cred* may do *mask* (MAY_*).  Errors: EACCES."""
        generic_permission(self, mask, cred)

    # Directories

    def lookup(self, name: bytes) -> "Inode | None":
        """The entry *name*; None if there is none."""
        raise LinuxError(Errno.ENOTDIR, f"{name!r}: not in a directory")

    def entries(self) -> list[tuple[bytes, int, int]]:
        """Name, inode number and DT_* type of every entry, sorted by name; without the dot entries."""
        raise LinuxError(Errno.ENOTDIR, "no entries")

    def make_child(self, name: bytes, mode: int, cred: Cred, *, rdev: int = 0, target: bytes = b"") -> "Inode":
        """A new file of any type as entry *name*, which is free: create, mkdir, mknod and symlink in one."""
        raise LinuxError(Errno.EPERM, f"{name!r} {mode:o} {cred} {rdev} {target!r}: the file system makes no files")

    def link(self, name: bytes, inode: "Inode") -> None:
        """*inode* becomes entry *name*, which is free."""
        raise LinuxError(Errno.EPERM, f"{name!r} {inode}: the file system has no hard links")

    def unlink(self, name: bytes, inode: "Inode") -> None:
        """Remove entry *name*, which is *inode* and no directory."""
        raise LinuxError(Errno.EPERM, f"{name!r} {inode}: the file system removes no files")

    def rmdir(self, name: bytes, inode: "Inode") -> None:
        """Remove entry *name*, which is directory *inode*.  Errors: ENOTEMPTY."""
        raise LinuxError(Errno.EPERM, f"{name!r} {inode}: the file system removes no directories")

    def rename(self, name: bytes, new_dir: "Inode", new_name: bytes, flags: int) -> None:
        """Move entry *name* to *new_dir* as *new_name*, replacing or exchanging.  Errors: ENOTEMPTY, EINVAL."""
        raise LinuxError(Errno.EPERM, f"{name!r} {new_dir} {new_name!r} {flags}: the file system does not rename")

    def tmpfile(self, mode: int, cred: Cred) -> "Inode":
        """A regular file without a name (O_TMPFILE)."""
        raise LinuxError(Errno.EOPNOTSUPP, f"{mode:o} {cred}: no O_TMPFILE here")

    # Links

    def readlink(self) -> bytes:
        """Where a symbolic link points, as text."""
        raise LinuxError(Errno.EINVAL, "not a symbolic link")

    def get_link(self) -> "bytes | Path":
        """Where the path walk goes on: text, or for a magic link the place itself (nd_jump_link)."""
        return self.readlink()

    # Content

    def open(self, path: "Path", flags: int) -> "OpenFile":
        """An OpenFile for this inode.  *flags* without the bits that concern the name."""
        raise LinuxError(Errno.ENXIO, f"{path} {flags:#o}: cannot be opened")

    def truncate(self, size: int) -> None:
        """Set the length in bytes."""
        raise LinuxError(Errno.EINVAL, f"{size}: not a regular file")

    def fallocate(self, mode: int, offset: int, length: int) -> None:
        """Reserve or release storage (fallocate(2))."""
        raise LinuxError(Errno.EOPNOTSUPP, f"{mode:#x} {offset} {length}: no fallocate here")

    def before_write(self, offset: int, length: int) -> None:
        """Regular files: may *length* bytes be written at *offset*?  Errors: EPERM (a seal), EFBIG."""

    def after_write(self, offset: int, data: bytes) -> None:
        """Regular files: *data* was stored in the page cache at *offset*."""

    def seek_extent(self, offset: int, *, data: bool) -> int:
        """Regular files: where the next data, or the next hole, begins; *offset* lies inside the file.

        Errors:
            ENXIO: no data follows.
        """
        return offset if data else self.size

    def fsync(self) -> None:
        """Write back the dirty pages, if there is anything to write them to."""

    def setattr(self, attrs: Attributes) -> None:
        """Apply what notify_change has checked (simple_setattr); the size is set by ``truncate``."""
        if attrs.size is not None:
            self.truncate(attrs.size)
        if attrs.uid is not None:
            self.uid = attrs.uid
        if attrs.gid is not None:
            self.gid = attrs.gid
        if attrs.mode is not None:
            self.mode = self.mode & S_IFMT | attrs.mode & ~S_IFMT
        if attrs.atime is not None:
            self.atime = attrs.atime
        if attrs.mtime is not None:
            self.mtime = attrs.mtime
        if attrs.ctime is not None:
            self.ctime = attrs.ctime

    # Bookkeeping

    def modified(self) -> None:
        """The content changed now: mtime and ctime."""
        self.mtime = self.ctime = self.sb.now()

    def accessed(self) -> None:
        """The content was read now: atime, by the rules of relatime (relatime_need_update)."""
        sb = self.sb
        if sb.noatime or sb.readonly:
            return
        now = sb.now()
        if self.atime <= self.mtime or self.atime <= self.ctime or now - self.atime >= _RELATIME_NS:
            self.atime = now

    def put(self) -> None:
        """One user fewer: an inode without names and users gives back its memory (iput_final, evict)."""
        if self.nlink == 0 and self.open_count == 0:
            self.evict()
            self.free_object()

    def free_object(self) -> None:
        """Give the object of the inode cache back, once."""
        if self.address:
            cache, address = self.sb.inode_cache, self.address
            assert cache is not None, "free_object: of a file system without a cache"
            self.address = 0
            cache.free(address)

    def evict(self) -> None:
        """Free what the inode holds; nobody can reach it any more."""
