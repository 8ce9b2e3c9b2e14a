"""The inodes of /proc: directories of fixed or computed entries, generated text, links.

Text is made when a file is read from its start, as seq_file does.  Linux: fs/proc/generic.c, fs/proc/inode.c,
fs/seq_file.c.
"""

from collections.abc import Callable, Mapping
from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import SEEK_CUR, SEEK_SET
from minikernel.abi.stat import S_IFDIR, S_IFLNK, S_IFREG
from minikernel.abi.statfs import PROC_SUPER_MAGIC
from minikernel.fs.cred import Cred
from minikernel.fs.dentry import Path
from minikernel.fs.file import DirFile, OpenFile
from minikernel.fs.inode import Attributes, Inode, SuperBlock
from minikernel.fs.services import KernelServices
from minikernel.fs.tmpfs import dirent_type

_U64_MASK: Final = (1 << 64) - 1

Text = Callable[[], bytes]
Store = Callable[[bytes], None]


class ProcFs(SuperBlock):
    """The super block, also of sysfs.  Nothing of it is kept: processes and descriptors come and go."""

    __slots__ = ()

    def __init__(
        self, services: KernelServices, dev: int, fstype: bytes = b"proc", magic: int = PROC_SUPER_MAGIC
    ) -> None:
        super().__init__(services, fstype, magic, dev)
        self.cached = False


class ProcInode(Inode):
    """What all of /proc shares: no attributes change."""

    __slots__ = ()

    def setattr(self, attrs: Attributes) -> None:
        """Attributes of /proc stay; a size of 0 is what O_TRUNC asks for."""
        if attrs.size == 0:
            return
        raise LinuxError(Errno.EPERM, "attributes of /proc do not change")


class TextFile(OpenFile):
    """An open file of generated text."""

    __slots__ = ("_text", "make", "store")

    seekable = True

    def __init__(self, path: Path, flags: int, make: Text, store: Store | None) -> None:
        super().__init__(path, flags)
        self.make = make
        self.store = store
        self._text: bytes | None = None

    def _content(self, offset: int) -> bytes:
        if self._text is None or offset == 0:
            self._text = self.make()
        return self._text

    def read(self, count: int) -> bytes:
        """Text at the position."""
        data = self._content(self.pos)[self.pos : self.pos + count]
        self.pos += len(data)
        return data

    def pread(self, count: int, offset: int) -> bytes:
        """Text at *offset*."""
        return self._content(offset)[offset : offset + count]

    def write(self, data: bytes) -> int:
        """Set what the file stands for."""
        if self.store is None:
            raise LinuxError(Errno.EIO, "the file cannot be written")
        self.store(data)
        self.pos += len(data)
        return len(data)

    def pwrite(self, data: bytes, offset: int) -> int:
        """Set what the file stands for."""
        del offset
        if self.store is None:
            raise LinuxError(Errno.EIO, "the file cannot be written")
        self.store(data)
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        """seq_lseek: SEEK_SET and SEEK_CUR."""
        if whence not in {SEEK_SET, SEEK_CUR}:
            raise LinuxError(Errno.EINVAL, f"whence {whence} in /proc")
        pos = offset + (self.pos if whence == SEEK_CUR else 0)
        if pos < 0:
            raise LinuxError(Errno.EINVAL, f"position {pos}")
        self.pos = pos
        return pos


class PositionFile(OpenFile):
    """A file whose position is an address or a frame: any 64-bit number (mem_lseek)."""

    __slots__ = ()

    seekable = True

    def read(self, count: int) -> bytes:
        """At the position."""
        data = self.pread(count, self.pos)
        self.pos += len(data)
        return data

    def seek(self, offset: int, whence: int) -> int:
        """SEEK_SET and SEEK_CUR."""
        if whence not in {SEEK_SET, SEEK_CUR}:
            raise LinuxError(Errno.EINVAL, f"whence {whence}")
        self.pos = (offset + (self.pos if whence == SEEK_CUR else 0)) & _U64_MASK
        return self.pos


class ProcText(ProcInode):
    """A file of generated text; with *store* it can be written."""

    __slots__ = ("make", "store")

    def __init__(
        self,
        sb: SuperBlock,
        ino: int,
        make: Text,
        *,
        mode: int = 0o444,
        owner: tuple[int, int] = (0, 0),
        store: Store | None = None,
    ) -> None:
        super().__init__(sb, ino, S_IFREG | mode, *owner)
        self.make = make
        self.store = store

    def open(self, path: Path, flags: int) -> OpenFile:
        """The text."""
        return TextFile(path, flags, self.make, self.store)


class ProcLink(ProcInode):
    """A symbolic link: *text* says what readlink shows, *place* (for a magic link) where it leads."""

    __slots__ = ("place", "text")

    def __init__(
        self,
        sb: SuperBlock,
        ino: int,
        text: Text,
        *,
        mode: int = 0o777,
        owner: tuple[int, int] = (0, 0),
        place: Callable[[], Path] | None = None,
    ) -> None:
        super().__init__(sb, ino, S_IFLNK | mode, *owner)
        self.text = text
        self.place = place

    def readlink(self) -> bytes:
        """The text."""
        return self.text()

    def get_link(self) -> bytes | Path:
        """Where the walk goes on."""
        return self.text() if self.place is None else self.place()


class ProcDir(ProcInode):
    """A directory; *find* makes the inode of an entry, *names* tells all entries."""

    __slots__ = ("_find", "_names")

    def __init__(
        self,
        sb: SuperBlock,
        ino: int,
        find: Callable[[bytes], Inode | None],
        names: Callable[[], list[bytes]],
        *,
        mode: int = 0o555,
        owner: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(sb, ino, S_IFDIR | mode, *owner)
        self.nlink = 2
        self._find = find
        self._names = names

    def lookup(self, name: bytes) -> Inode | None:
        """An entry."""
        return self._find(name)

    def make_child(self, name: bytes, mode: int, cred: Cred, *, rdev: int = 0, target: bytes = b"") -> Inode:
        """Nothing can be made here: the look-up of a new name already fails (proc_pid_lookup, proc_lookup_de)."""
        del mode, cred, rdev, target
        raise LinuxError(Errno.ENOENT, f"/proc has no {name!r}")

    def entries(self) -> list[tuple[bytes, int, int]]:
        """All entries."""
        found = []
        for name in sorted(self._names()):
            inode = self._find(name)
            if inode is not None:
                found.append((name, inode.ino, dirent_type(inode.mode)))
        return found

    def open(self, path: Path, flags: int) -> OpenFile:
        """The directory."""
        return DirFile(path, flags)


def fixed_dir(sb: SuperBlock, ino: int, children: Mapping[bytes, Inode], *, mode: int = 0o555) -> ProcDir:
    """A directory whose entries never change."""
    return ProcDir(sb, ino, children.get, lambda: list(children), mode=mode)
