"""The machine's files for a debugger: found and read without a dentry, an inode or a page cache being touched.

What the guest has looked at is found where it is kept.  What it has not yet seen of the host's tree is asked of the
host through the same door, which follows no symbolic link: our walk does.
"""

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import Kstat
from minikernel.fs.dentry import Dentry, Path
from minikernel.fs.hostdoor import HostNode
from minikernel.fs.hostfs import HostDir, HostFs
from minikernel.procfs.node import ProcText
from minikernel.report.peek import FileBytes

if TYPE_CHECKING:
    import os

    from minikernel.fs.namei import FsStruct
    from minikernel.mm.filemap import PageCache

_MAX_LINKS: Final = 40
_MAX_NAME: Final = 4096


@dataclass(frozen=True, slots=True)
class Unseen:
    """A file of the host that the guest has not looked at yet."""

    sb: HostFs
    node: HostNode
    status: "os.stat_result"


Entry = Path | Unseen


def find(fs: "FsStruct", name: bytes, *, follow: bool = True) -> Entry:
    """What *name* leads to for a task with *fs*; the last symbolic link only if *follow*.

    Errors:
        ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG.
    """
    if not name or len(name) > _MAX_NAME:
        raise LinuxError(Errno.ENAMETOOLONG if name else Errno.ENOENT, "the name")
    way: list[Entry] = [fs.root] if name.startswith(b"/") else _ancestors(fs)
    todo = [part for part in reversed(name.split(b"/")) if part]
    links = 0
    while todo:
        part = todo.pop()
        if part == b".":
            continue
        if part == b"..":
            del way[max(len(way) - 1, 1) :]
            continue
        found = _child(fs, way[-1], part)
        if stat.S_ISLNK(_mode(found)) and (todo or follow):
            links += 1
            if links > _MAX_LINKS:
                raise LinuxError(Errno.ELOOP, "too many symbolic links")
            target = _link(found)
            if isinstance(target, Path):
                way.append(target)
                continue
            if target.startswith(b"/"):
                way = [fs.root]
            todo += [piece for piece in reversed(target.split(b"/")) if piece]
            continue
        way.append(found)
    return way[-1]


def _ancestors(fs: "FsStruct") -> list[Entry]:
    """The working directory and what is above it, the root first."""
    way: list[Entry] = []
    path = fs.cwd
    while path.dentry is not fs.root.dentry:
        way.append(path)
        if not path.dentry.is_root:
            path = Path(path.mnt, path.dentry.parent)
        elif path.mnt.parent is not None:
            path = Path(path.mnt.parent, path.mnt.mountpoint.parent)
        else:
            break
    return [fs.root, *reversed(way)]


def _child(fs: "FsStruct", place: Entry, name: bytes) -> Entry:
    if not stat.S_ISDIR(_mode(place)):
        raise LinuxError(Errno.ENOTDIR, f"{name!r}")
    if isinstance(place, Unseen):
        return _unseen(place.sb, place.node, name)
    dentry = place.dentry
    known = dentry.children.get(name)
    if known is not None:
        return fs.namespace.traverse(Path(place.mnt, known))
    directory = dentry.inode
    if not isinstance(directory, HostDir):
        inode = directory.lookup(name)
    elif name in directory.children or name in directory.gone:
        inode = directory.children.get(name)
    else:
        if directory._listing is not None and name not in directory._listing:
            raise LinuxError(Errno.ENOENT, f"{name!r}")
        assert isinstance(directory.sb, HostFs), "_child: a host directory of another file system"
        return _unseen(directory.sb, directory.node, name)
    if inode is None:
        raise LinuxError(Errno.ENOENT, f"{name!r}")
    return Path(place.mnt, Dentry(name, dentry, inode))


def _unseen(sb: HostFs, parent: HostNode, name: bytes) -> Unseen:
    if sb._is_kernel_made(parent.dev):
        raise LinuxError(Errno.ENOENT, "what the host's kernel makes is shown empty")
    status = sb.door.lstat(parent, name)
    if status is None:
        raise LinuxError(Errno.ENOENT, f"{name!r}")
    return Unseen(sb, HostNode(parent, name, status.st_dev, status.st_ino), status)


def _mode(place: Entry) -> int:
    return place.status.st_mode if isinstance(place, Unseen) else place.dentry.inode.mode


def _link(place: Entry) -> bytes | Path:
    """Where a symbolic link leads."""
    if isinstance(place, Unseen):
        assert place.node.parent is not None, "_link: the root is a directory"
        return place.sb.door.readlink(place.node.parent, place.node.name)
    return place.dentry.inode.get_link()


def read_link(place: Entry) -> bytes:
    """The text of a symbolic link.  Errors: EINVAL: it is none."""
    if not stat.S_ISLNK(_mode(place)):
        raise LinuxError(Errno.EINVAL, "not a symbolic link")
    if isinstance(place, Path):
        return place.dentry.inode.readlink()
    target = _link(place)
    assert isinstance(target, bytes), "read_link: the host has no magic links"
    return target


class OpenedFile:
    """A file that the debugger reads."""

    def __init__(self, place: Entry) -> None:
        """Errors: EISDIR, EACCES: neither a regular file nor text of /proc."""
        self._place = place
        self._text: bytes | None = None
        self._cache: PageCache | None = None
        mode = _mode(place)
        if stat.S_ISDIR(mode):
            raise LinuxError(Errno.EISDIR, "a directory")
        if isinstance(place, Path):
            inode = place.dentry.inode
            if isinstance(inode, ProcText):
                self._text = inode.make()
            elif inode.mapping is not None and stat.S_ISREG(mode):
                self._cache = inode.mapping
        if not stat.S_ISREG(mode) or (isinstance(place, Path) and self._text is None and self._cache is None):
            raise LinuxError(Errno.EACCES, "not a regular file")

    def pread(self, count: int, offset: int) -> bytes:
        """Up to *count* bytes at *offset*.  Errors: EIO, and the host's."""
        if isinstance(self._place, Unseen):
            return self._place.sb.door.pread(self._place.node, count, offset)
        if self._text is not None:
            return self._text[offset : offset + count]
        assert self._cache is not None, "pread: a file of no kind"
        stream = FileBytes(self._cache)
        stream.seek(offset)
        try:
            return stream.read(count) or b""
        except OSError as error:
            raise LinuxError(Errno.EIO, str(error)) from None

    def stat(self) -> Kstat:
        """What fstat(2) shows."""
        if isinstance(self._place, Path):
            return self._place.dentry.inode.stat()
        st = self._place.status
        found = Kstat(
            dev=st.st_dev, ino=st.st_ino, mode=st.st_mode, nlink=st.st_nlink, uid=st.st_uid, gid=st.st_gid,
            rdev=st.st_rdev, size=st.st_size,
        )  # fmt: skip
        found.blocks = st.st_blocks
        found.atime, found.mtime, found.ctime = st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns
        return found
