"""A file system in memory: directories are dicts, file content is in the page cache and nowhere else.

The copy-up layer of ``hostfs`` is made of the same inodes.  Linux: mm/shmem.c, fs/ramfs/inode.c.
"""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import (
    F_SEAL_FUTURE_WRITE,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
    RENAME_EXCHANGE,
)
from minikernel.abi.stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG
from minikernel.abi.statfs import TMPFS_MAGIC, Kstatfs
from minikernel.fs.chrdev import open_chrdev
from minikernel.fs.cred import Cred, mode_of_new_child
from minikernel.fs.dentry import Path
from minikernel.fs.file import DirFile, OpenFile, RegularFile
from minikernel.fs.inode import Inode, SuperBlock
from minikernel.fs.pipe import Pipe, open_fifo
from minikernel.fs.services import KernelServices
from minikernel.mm.filemap import PageCache

_PAGE: Final = 4096
_DIRENT_SIZE: Final = 20  # BOGO_DIRENT_SIZE: what an entry adds to the size of a tmpfs directory


def dirent_type(mode: int) -> int:
    """DT_* of a file mode (S_DT)."""
    return (mode & S_IFMT) >> 12


class MemDir(Inode):
    """A directory in memory.  *children* maps names to inodes."""

    __slots__ = ("children",)

    def __init__(self, sb: SuperBlock, ino: int, mode: int, uid: int = 0, gid: int = 0) -> None:
        super().__init__(sb, ino, mode, uid, gid)
        self.nlink = 2
        self.size = sb.dir_size
        self.children: dict[bytes, Inode] = {}

    def lookup(self, name: bytes) -> Inode | None:
        """An entry."""
        return self.children.get(name)

    def entries(self) -> list[tuple[bytes, int, int]]:
        """All entries."""
        return [(name, inode.ino, dirent_type(inode.mode)) for name, inode in sorted(self.children.items())]

    def is_empty(self) -> bool:
        """Whether rmdir may remove it."""
        return not self.children

    def make_child(self, name: bytes, mode: int, cred: Cred, *, rdev: int = 0, target: bytes = b"") -> Inode:
        """A new file of any type (shmem_mknod, shmem_mkdir, shmem_symlink)."""
        if self.dead:
            raise LinuxError(Errno.ENOENT, "the directory was removed")
        inode = new_mem_inode(self.sb, self, mode, cred, rdev=rdev, target=target)
        self.add_entry(name, inode)
        if inode.is_dir:
            self.nlink += 1
        return inode

    def link(self, name: bytes, inode: Inode) -> None:
        """One more name."""
        inode.nlink += 1
        inode.ctime = self.sb.now()
        self.add_entry(name, inode)

    def unlink(self, name: bytes, inode: Inode) -> None:
        """One name fewer."""
        self.remove_entry(name)
        inode.nlink -= 1
        inode.ctime = self.ctime
        inode.put()

    def rmdir(self, name: bytes, inode: Inode) -> None:
        """Remove an empty directory."""
        assert isinstance(inode, MemDir), "rmdir: not a directory of ours"
        if not inode.is_empty():
            raise LinuxError(Errno.ENOTEMPTY, f"{name!r}")
        self.remove_entry(name)
        self.nlink -= 1
        inode.nlink = 0
        inode.dead = True
        inode.ctime = self.ctime
        inode.put()

    def rename(self, name: bytes, new_dir: Inode, new_name: bytes, flags: int) -> None:
        """Move an entry (simple_rename, simple_rename_exchange)."""
        assert isinstance(new_dir, MemDir), "rename: not a directory of ours"
        inode = self.lookup(name)
        assert inode is not None, "rename: the source is gone"
        target = new_dir.lookup(new_name)
        if flags & RENAME_EXCHANGE:
            assert target is not None, "rename: nothing to exchange with"
            self.add_entry(name, target)
            new_dir.add_entry(new_name, inode)
            if self is not new_dir and inode.is_dir != target.is_dir:
                step = 1 if inode.is_dir else -1
                new_dir.nlink += step
                self.nlink -= step
            inode.ctime = target.ctime = self.ctime
            return
        if target is not None:
            if target.is_dir:
                new_dir.rmdir(new_name, target)
            else:
                new_dir.unlink(new_name, target)
        self.remove_entry(name)
        new_dir.add_entry(new_name, inode)
        if inode.is_dir:
            self.nlink -= 1
            new_dir.nlink += 1
        inode.ctime = self.ctime

    def tmpfile(self, mode: int, cred: Cred) -> Inode:
        """A file without a name."""
        inode = new_mem_inode(self.sb, self, mode, cred)
        inode.nlink = 0
        return inode

    def add_entry(self, name: bytes, inode: Inode) -> None:
        """*name* is *inode* from now on."""
        if name not in self.children and not self.sb.dir_size:
            self.size += _DIRENT_SIZE
        self.children[name] = inode
        self.modified()

    def remove_entry(self, name: bytes) -> None:
        """*name* is free from now on."""
        del self.children[name]
        if not self.sb.dir_size:
            self.size = max(self.size - _DIRENT_SIZE, 0)
        self.modified()

    def blocks(self) -> int:
        """As on a disk, where there is one."""
        return (self.sb.dir_size + _PAGE - 1) // _PAGE * (_PAGE // 512)

    def open(self, path: Path, flags: int) -> OpenFile:
        """A directory file."""
        return DirFile(path, flags)


class MemFile(Inode):
    """A regular file in memory.  *seals* are those of memfd_create (F_SEAL_*)."""

    __slots__ = ("seals",)

    mapping: PageCache

    def __init__(
        self, sb: SuperBlock, ino: int, mode: int, uid: int = 0, gid: int = 0, mapping: PageCache | None = None
    ) -> None:
        super().__init__(sb, ino, mode, uid, gid)
        self.mapping = PageCache(sb.services.node) if mapping is None else mapping
        self.mapping.on_mkwrite = self.modified
        self.seals = F_SEAL_SEAL

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.mapping.size

    @size.setter
    def size(self, size: int) -> None:
        self.mapping.size = size

    def open(self, path: Path, flags: int) -> OpenFile:
        """A regular file."""
        return RegularFile(path, flags)

    def blocks(self) -> int:
        """The pages that exist."""
        return self.mapping.nr_pages * (_PAGE // 512)

    def before_write(self, offset: int, length: int) -> None:
        """Seals (shmem_write_begin)."""
        if self.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
            raise LinuxError(Errno.EPERM, "sealed against writing")
        if self.seals & F_SEAL_GROW and offset + length > self.size:
            raise LinuxError(Errno.EPERM, "sealed against growing")

    def truncate(self, size: int) -> None:
        """Set the length; what is cut off is gone, also from every mapping."""
        if size < self.size and self.seals & F_SEAL_SHRINK:
            raise LinuxError(Errno.EPERM, "sealed against shrinking")
        if size > self.size and self.seals & F_SEAL_GROW:
            raise LinuxError(Errno.EPERM, "sealed against growing")
        self.mapping.truncate(size)

    def fallocate(self, mode: int, offset: int, length: int) -> None:
        """shmem_fallocate: pages exist when they are touched; a hole is made by clearing."""
        if mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE):
            raise LinuxError(Errno.EOPNOTSUPP, f"fallocate mode {mode:#x}")
        end = offset + length
        if mode & FALLOC_FL_PUNCH_HOLE:
            if self.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
                raise LinuxError(Errno.EPERM, "sealed against writing")
            self.mapping.punch_hole(offset, length)
            self.modified()
            return
        if self.seals & F_SEAL_GROW and end > self.size:
            raise LinuxError(Errno.EPERM, "sealed against growing")
        if mode & FALLOC_FL_ZERO_RANGE:
            self.mapping.punch_hole(offset, length)
            self.modified()
        if not mode & FALLOC_FL_KEEP_SIZE and end > self.size:
            self.truncate(end)
            self.modified()

    def seek_extent(self, offset: int, *, data: bool) -> int:
        """The next page that is, or is not, there (shmem_file_llseek)."""
        pages = self.mapping.pages
        index = offset // _PAGE
        if (index in pages) == data:
            return offset
        if data:
            index = min((page for page in pages if page > index), default=-1)
            if index < 0 or index * _PAGE >= self.size:
                raise LinuxError(Errno.ENXIO, "no data follows")
            return index * _PAGE
        while index in pages:
            index += 1
        return min(index * _PAGE, self.size)

    def evict(self) -> None:
        """Free the pages."""
        self.mapping.destroy()


class MemSymlink(Inode):
    """A symbolic link."""

    __slots__ = ("target",)

    def __init__(self, sb: SuperBlock, ino: int, target: bytes, uid: int = 0, gid: int = 0) -> None:
        super().__init__(sb, ino, S_IFLNK | 0o777, uid, gid)
        self.target = target
        self.size = len(target)

    def readlink(self) -> bytes:
        """The text."""
        return self.target


class MemNode(Inode):
    """A FIFO, socket or device node.  Devices are found by number; sockets and block devices do not open."""

    __slots__ = ("_pipe",)

    def __init__(self, sb: SuperBlock, ino: int, mode: int, uid: int = 0, gid: int = 0, rdev: int = 0) -> None:
        super().__init__(sb, ino, mode, uid, gid, rdev)
        self._pipe: Pipe | None = None

    def open(self, path: Path, flags: int) -> OpenFile:
        """Open what the node stands for.  Errors: ENXIO."""
        kind = self.mode & S_IFMT
        if kind == S_IFCHR:
            return open_chrdev(path, flags)
        if kind == S_IFIFO:
            if self._pipe is None:
                self._pipe = Pipe(self.sb.services.node)
            return open_fifo(path, flags, self._pipe)
        raise LinuxError(Errno.ENXIO, f"nothing behind a node of mode {self.mode:o}")


def new_mem_inode(
    sb: SuperBlock, directory: Inode | None, mode: int, cred: Cred, *, rdev: int = 0, target: bytes = b""
) -> Inode:
    """A fresh inode of the type in *mode*, owned as *directory* and *cred* say."""
    uid, gid = cred.fsuid, cred.fsgid
    if directory is not None:
        mode, gid = mode_of_new_child(directory, mode, cred)
    kind = mode & S_IFMT
    ino = sb.new_ino()
    if kind == S_IFDIR:
        return MemDir(sb, ino, mode, uid, gid)
    if kind == S_IFREG:
        return MemFile(sb, ino, mode, uid, gid)
    if kind == S_IFLNK:
        return MemSymlink(sb, ino, target, uid, gid)
    return MemNode(sb, ino, mode, uid, gid, rdev if kind in {S_IFCHR, S_IFBLK} else 0)


class Tmpfs(SuperBlock):
    """A tmpfs of its own.  *mode* is that of its root directory."""

    __slots__ = ()

    def __init__(self, services: KernelServices, dev: int, *, fstype: bytes = b"tmpfs", mode: int = 0o1777) -> None:
        super().__init__(services, fstype, TMPFS_MAGIC, dev)
        self.inode_cache = self.objects.shmem_inode_cache
        self.root = self.make_root(mode)

    def make_root(self, mode: int) -> MemDir:
        """Its root directory."""
        return MemDir(self, self.new_ino(), S_IFDIR | mode)

    def statfs(self) -> Kstatfs:
        """Half of RAM, as Linux's default."""
        node = self.services.node
        total = node.mem_map.nr_frames // 2
        return Kstatfs(self.magic, blocks=total, bfree=min(total, node.nr_free), bavail=min(total, node.nr_free))
