"""A door through which changes reach the host: ``--bind HOST:GUEST:rw``.

Every change is made to the host's file first, by the same one-component steps as reading, and then to our inode.
Written bytes go to the host at once; what a shared mapping wrote goes with msync, fsync, the last close and at
the end of the run.  Entries and sizes that the host changes by itself are seen at the next lookup or open.
"""

import fcntl
import os
from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import RENAME_EXCHANGE
from minikernel.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Kstat
from minikernel.fs.cred import Cred, mode_of_new_child
from minikernel.fs.dentry import Dentry, Path
from minikernel.fs.file import OpenFile, RegularFile
from minikernel.fs.hostdoor import HostDoor, HostNode, from_host
from minikernel.fs.hostfs import HostDir, HostFile, HostFs, copy_attributes
from minikernel.fs.inode import Attributes, Inode
from minikernel.fs.services import KernelServices
from minikernel.fs.tmpfs import MemNode, dirent_type

_PAGE: Final = 4096
_WRITEBACK_NS: Final = 5_000_000_000  # dirty_writeback_centisecs


class HostRwStore:
    """Backing store that reads and writes the host's file.  *fd* is open while the file is open in the guest."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = -1

    def read_page(self, index: int) -> bytes:
        """A page."""
        try:
            return os.pread(self.fd, _PAGE, index * _PAGE)
        except OSError as error:
            raise LinuxError(Errno.EIO, f"the host could not read: {error}") from None

    def write_page(self, index: int, data: bytes) -> None:
        """Store a page."""
        try:
            os.pwrite(self.fd, data, index * _PAGE)
        except OSError as error:
            raise from_host(error) from None


class HostRwFile(HostFile):
    """A regular file whose changes reach the host."""

    __slots__ = ("_mtime_seen", "_store", "node")

    def __init__(self, sb: "HostRwFs", st: os.stat_result, node: HostNode) -> None:
        super().__init__(sb, st, node)
        self.node = node
        self._store = HostRwStore()
        self.mapping.backing = self._store
        self.mapping.on_mkwrite = self._page_mkwrite
        self._mtime_seen = st.st_mtime_ns

    def _page_mkwrite(self) -> None:
        """A mapping makes a page dirty: new times now, and the page goes to the host before long."""
        self.modified()
        _fs(self).start_writeback()

    def open(self, path: Path, flags: int) -> OpenFile:
        """Open here and on the host; content that the host changed meanwhile is read anew."""
        file = RegularFile(path, flags)
        try:
            self._open_host(write=file.writable)
        except LinuxError:
            file.put_file()
            raise
        self._notice(os.fstat(self._store.fd))
        return file

    def _notice(self, st: os.stat_result) -> None:
        """Forget the cached pages if the host changed the file."""
        if (st.st_size, st.st_mtime_ns) != (self.size, self._mtime_seen) and not self.mapping.dirty:
            self.mapping.truncate(0)
            self.mapping.size = self.mapping.backed = st.st_size
            self._mtime_seen = st.st_mtime_ns

    def _open_host(self, *, write: bool) -> None:
        """Open the host's file, for writing if the host lets us.  Errors: EACCES if it does not, and must."""
        if self._store.fd < 0:
            door = _fs(self).door
            try:
                self._store.fd = door.open_file(self.node, os.O_RDWR)
            except LinuxError as error:
                if write or error.errno not in {Errno.EACCES, Errno.EROFS, Errno.ETXTBSY}:
                    raise
                self._store.fd = door.open_file(self.node, os.O_RDONLY)
        if write and fcntl.fcntl(self._store.fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
            raise LinuxError(Errno.EACCES, "the host does not let us write")

    def put(self) -> None:
        """With the last user the dirty pages are written, and the host's file is closed."""
        if not self.open_count and self._store.fd >= 0:
            if self.nlink:
                self.mapping.sync()
                self._mtime_seen = os.fstat(self._store.fd).st_mtime_ns
            os.close(self._store.fd)
            self._store.fd = -1
        super().put()

    def after_write(self, offset: int, data: bytes) -> None:
        """To the host at once."""
        self.mapping.sync(offset // _PAGE, (offset + len(data) + _PAGE - 1) // _PAGE)
        self._mtime_seen = os.fstat(self._store.fd).st_mtime_ns

    def truncate(self, size: int) -> None:
        """Set the length on the host and here."""
        was_open = self._store.fd >= 0
        try:
            self._open_host(write=True)
            os.ftruncate(self._store.fd, size)
            super().truncate(size)
            self.mapping.backed = size
            self._mtime_seen = os.fstat(self._store.fd).st_mtime_ns
        except OSError as error:
            raise from_host(error) from None
        finally:
            if not was_open:
                self.put()

    def setattr(self, attrs: Attributes) -> None:
        """Change the host's attributes, then ours."""
        set_host_attributes(_fs(self).door, self.node, attrs)
        super().setattr(attrs)

    def fsync(self) -> None:
        """Dirty pages to the host, and the host's to its disk."""
        self.mapping.sync()
        if self._store.fd >= 0:
            os.fsync(self._store.fd)

    def blocks(self) -> int:
        """What the host's file takes; pages that only a mapping wrote are not there yet."""
        return self._host_blocks

    def seek_extent(self, offset: int, *, data: bool) -> int:
        """The host knows its holes.  Errors: ENXIO: no data follows."""
        self.mapping.sync()
        try:
            return os.lseek(self._store.fd, offset, os.SEEK_DATA if data else os.SEEK_HOLE)
        except OSError as error:
            raise from_host(error) from None

    def stat(self) -> Kstat:
        """What the host says now; the size is ours while the file is open."""
        st = _refresh(self, self.node)
        if st is not None:
            self._host_blocks = st.st_blocks
            if not self.open_count:
                self._notice(st)
        return super().stat()


class HostRwNode(MemNode):
    """A FIFO or socket on the host: what passes through it stays in the guest, its attributes reach the host."""

    __slots__ = ("node",)

    def __init__(self, sb: "HostRwFs", st: os.stat_result, node: HostNode) -> None:
        super().__init__(sb, st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_rdev)
        self.node = node
        copy_attributes(self, st)

    def setattr(self, attrs: Attributes) -> None:
        """Change the host's attributes, then ours."""
        set_host_attributes(_fs(self).door, self.node, attrs)
        super().setattr(attrs)


class HostRwDir(HostDir):
    """A directory whose changes reach the host; always looked up there."""

    __slots__ = ()

    def lookup(self, name: bytes) -> Inode | None:
        """What the host has under *name* now."""
        sb = _fs(self)
        st = sb.door.lstat(self.node, name)
        if st is None:
            self.children.pop(name, None)
            return None
        inode = self.children.get(name)
        if inode is None or (inode.dev, inode.ino, dirent_type(inode.mode)) != (
            st.st_dev,
            st.st_ino,
            dirent_type(st.st_mode),
        ):
            inode = self.children[name] = sb.inode_of(self.node, name, st)
        elif not inode.open_count:
            inode.mode, inode.uid, inode.gid = st.st_mode, st.st_uid, st.st_gid
            copy_attributes(inode, st)
        return inode

    def entries(self) -> list[tuple[bytes, int, int]]:
        """What the host has now."""
        self._listing = None
        return sorted((name, ino, kind) for name, (ino, kind) in self._lower().items())

    def is_empty(self) -> bool:
        """Whether the host's is empty."""
        return not self.entries()

    def make_child(self, name: bytes, mode: int, cred: Cred, *, rdev: int = 0, target: bytes = b"") -> Inode:
        """Make the file on the host, with exactly *mode*."""
        del rdev
        mode, gid = mode_of_new_child(self, mode, cred)
        sb = _fs(self)
        sb.door.make(self.node, name, mode, target)
        st = sb.door.lstat(self.node, name)
        if st is None:
            raise LinuxError(Errno.ENOENT, "removed on the host while we made it")
        inode = self.children[name] = sb.inode_of(self.node, name, st)
        attrs = Attributes(uid=cred.fsuid if cred.fsuid != st.st_uid else None, gid=gid if gid != st.st_gid else None)
        if not inode.is_symlink:
            attrs.mode = mode & ~S_IFMT
        set_host_attributes(sb.door, HostNode(self.node, name, st.st_dev, st.st_ino), attrs)
        Inode.setattr(inode, attrs)
        self.modified()
        return inode

    def link(self, name: bytes, inode: Inode) -> None:
        """One more name on the host."""
        sb = _fs(self)
        if not isinstance(inode, HostRwFile):
            raise LinuxError(Errno.EPERM, "only regular files get more names on the host")
        sb.door.link(inode.node, self.node, name)
        sb.remember(inode)
        self.children[name] = inode
        inode.nlink += 1
        inode.ctime = sb.now()
        self.modified()

    def unlink(self, name: bytes, inode: Inode) -> None:
        """Remove the host's name."""
        _fs(self).door.unlink(self.node, name)
        self.children.pop(name, None)
        self.modified()
        inode.nlink -= 1
        if not inode.nlink:
            _fs(self).forget(inode)
        inode.put()

    def rmdir(self, name: bytes, inode: Inode) -> None:
        """Remove the host's directory."""
        _fs(self).door.rmdir(self.node, name)
        self.children.pop(name, None)
        self.modified()
        self.nlink -= 1
        inode.nlink = 0
        inode.dead = True
        inode.put()

    def rename(self, name: bytes, new_dir: Inode, new_name: bytes, flags: int) -> None:
        """Rename on the host."""
        assert isinstance(new_dir, HostRwDir), "rename: not a directory of ours"
        if flags & RENAME_EXCHANGE:
            raise LinuxError(Errno.EINVAL, "the host does not exchange names for us")
        inode, target = self.lookup(name), new_dir.lookup(new_name)
        assert inode is not None, "rename: the source is gone"
        _fs(self).door.rename(self.node, name, new_dir.node, new_name)
        self.children.pop(name, None)
        new_dir.children[new_name] = inode
        if isinstance(inode, (HostRwFile, HostRwDir, HostRwNode)):
            inode.node.parent, inode.node.name = new_dir.node, new_name
        self.modified()
        new_dir.modified()
        if target is not None:
            target.nlink = 0 if target.is_dir else target.nlink - 1
            target.dead = target.is_dir
            if not target.nlink:
                _fs(self).forget(target)
            target.put()

    def tmpfile(self, mode: int, cred: Cred) -> Inode:
        """Not on the host."""
        raise LinuxError(Errno.EOPNOTSUPP, f"O_TMPFILE {mode:o} {cred}: not on a directory of the host")

    def setattr(self, attrs: Attributes) -> None:
        """Change the host's attributes, then ours."""
        set_host_attributes(_fs(self).door, self.node, attrs)
        super().setattr(attrs)

    def stat(self) -> Kstat:
        """What the host says now."""
        st = _refresh(self, self.node)
        if st is not None:
            self.size = st.st_size
        return super().stat()


class HostRwFs(HostFs):
    """The host's tree behind a door, for reading and writing."""

    __slots__ = ("_writeback_due",)

    door: HostDoor  # changes go through the real one

    def __init__(self, services: KernelServices, door: HostDoor, *, only: bytes | None = None) -> None:
        super().__init__(services, door, only=only)
        self._writeback_due = False

    def start_writeback(self) -> None:
        """A page is dirty: see to it within some seconds (wb_wakeup_delayed)."""
        if not self._writeback_due:
            self._writeback_due = True
            clock = self.services.clock
            clock.add_timer(clock.now_ns() + _WRITEBACK_NS, self._writeback)

    def _writeback(self) -> None:
        self._writeback_due = False
        try:
            self.sync()
        except LinuxError:
            return  # the pages stay dirty: fsync and the last close will say what the host said

    def _new_inode(self, parent: HostNode | None, name: bytes, st: os.stat_result) -> Inode:
        kind = st.st_mode & S_IFMT
        if kind == S_IFLNK or self._is_kernel_made(st.st_dev):
            return super()._new_inode(parent, name, st)
        if kind == S_IFDIR:
            node = self.door.root if parent is None else HostNode(parent, name, st.st_dev, st.st_ino)
            return HostRwDir(self, st, node)
        assert parent is not None, "_new_inode: the door's root is a directory"
        kind_of_file = HostRwFile if kind == S_IFREG else HostRwNode
        return kind_of_file(self, st, HostNode(parent, name, st.st_dev, st.st_ino))

    def revalidate(self, dentry: Dentry) -> bool:
        """Whether the host still has this file under this name."""
        return dentry.is_root or dentry.parent.inode.lookup(dentry.name) is dentry.inode

    def sync(self) -> None:
        """Dirty pages of every file that is still known go to the host."""
        pending = [self.root]
        while pending:
            inode = pending.pop()
            if isinstance(inode, HostRwDir):
                pending.extend(inode.children.values())
            elif isinstance(inode, HostRwFile) and inode.open_count:
                inode.mapping.sync()


def set_host_attributes(door: HostDoor, node: HostNode, attrs: Attributes) -> None:
    """Give the host's file *node* what *attrs* says, except the size.  Errors: the host's."""
    if attrs.uid is not None or attrs.gid is not None:
        door.chown(node, -1 if attrs.uid is None else attrs.uid, -1 if attrs.gid is None else attrs.gid)
    if attrs.mode is not None:
        door.chmod(node, attrs.mode & ~S_IFMT)
    # A new size or mode stamps the time itself; only utimes names times without a size.
    if attrs.size is None and (attrs.atime is not None or attrs.mtime is not None):
        door.utime(node, attrs.atime, attrs.mtime)


def _refresh(inode: Inode, node: HostNode) -> os.stat_result | None:
    """Take the attributes of *node* from the host; None if it has that file no more."""
    door = _fs(inode).door
    st = door.root_stat() if node.parent is None else door.lstat(node.parent, node.name)
    if st is None or (st.st_dev, st.st_ino) != (inode.dev, inode.ino):
        return None
    inode.mode, inode.uid, inode.gid = st.st_mode, st.st_uid, st.st_gid
    copy_attributes(inode, st)
    return st


def _fs(inode: Inode) -> HostRwFs:
    sb = inode.sb
    assert isinstance(sb, HostRwFs), "HostRw: foreign super block"
    return sb
