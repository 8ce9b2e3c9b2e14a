"""The host's tree, read-only, with a copy-up layer in guest memory.

A host directory is a ``MemDir`` that fills itself from the host as it is looked at.  Every change (a new entry,
a removed one, another mode) is made to our inodes alone: the host keeps its files as they are.  A file keeps its
inode, and its number, when it is written to; only its dirty pages are ours.

What the host itself mounts below the root from its kernel (proc, sysfs, devices, cgroups ...) is shown empty.
"""

import os
import stat
from typing import Final, Protocol

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from minikernel.abi.statfs import EXT4_SUPER_MAGIC, Kstatfs
from minikernel.fs.hostdoor import HostNode
from minikernel.fs.inode import Inode, SuperBlock
from minikernel.fs.services import KernelServices
from minikernel.fs.tmpfs import MemDir, MemFile, MemNode, MemSymlink, dirent_type
from minikernel.mm.filemap import PageCache

_PAGE: Final = 4096
_READAHEAD_PAGES: Final = 16
_NEW_INO: Final = 0xF000_0000  # numbers of files that the host does not have: large, but 32 bits, for old programs

_KERNEL_FILE_SYSTEMS: Final = frozenset(
    (
        b"autofs binder binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs "
        b"mqueue nsfs proc pstore resctrl rpc_pipefs securityfs selinuxfs smackfs sysfs tracefs"
    ).split()
)


class Door(Protocol):
    """Where a tree of files is looked at: ``hostdoor.HostDoor``, or somebody who remembers what that said."""

    @property
    def root(self) -> HostNode:
        """The directory that is the root of the tree."""
        ...

    @property
    def opened(self) -> dict[HostNode, None]:
        """Every file whose contents were asked for: what a run depends on."""
        ...

    def root_stat(self) -> os.stat_result:
        """What the root is."""
        ...

    def lstat(self, parent: HostNode, name: bytes) -> os.stat_result | None:
        """What entry *name* of *parent* is; None if there is none."""
        ...

    def readlink(self, parent: HostNode, name: bytes) -> bytes:
        """The text of symbolic link *name*."""
        ...

    def entries(self, node: HostNode) -> list[tuple[bytes, int, int]]:
        """Name, inode number and st_mode's type (0: ask ``lstat``) of the entries of directory *node*."""
        ...

    def pread(self, node: HostNode, count: int, offset: int) -> bytes:
        """Up to *count* bytes of regular file *node* at *offset*.  Errors: EIO."""
        ...

    def statvfs(self) -> os.statvfs_result:
        """Sizes of the file system that holds the root."""
        ...

    def mounts(self) -> list[tuple[int, bytes]]:
        """Device number and type of every file system that the host has mounted."""
        ...

    def close(self) -> None:
        """Nothing more will be asked."""
        ...


class HostStore:
    """Backing store of a host file's page cache.  Written pages, should reclaim ever want them out, stay in memory."""

    __slots__ = ("_ahead", "_ahead_start", "_door", "_node", "_written")

    def __init__(self, door: Door, node: HostNode) -> None:
        self._door = door
        self._node = node
        self._ahead = b""
        self._ahead_start = 0
        self._written: dict[int, bytes] | None = None

    def read_page(self, index: int) -> bytes:
        """A page of the file; the host is asked for many at once."""
        if self._written is not None and index in self._written:
            return self._written[index]
        at = index * _PAGE - self._ahead_start
        if not 0 <= at < len(self._ahead):
            # From the start of an aligned window: faults of neighbouring pages come in any order.
            self._ahead_start = index // _READAHEAD_PAGES * _READAHEAD_PAGES * _PAGE
            self._ahead = self._door.pread(self._node, _READAHEAD_PAGES * _PAGE, self._ahead_start)
            at = index * _PAGE - self._ahead_start
        data = self._ahead[at : at + _PAGE]
        if at + _PAGE >= len(self._ahead):
            self._ahead = b""
        return data

    def write_page(self, index: int, data: bytes) -> None:
        """Keep a page that leaves RAM."""
        if self._written is None:
            self._written = {}
        self._written[index] = data


class HostFile(MemFile):
    """A regular file of the host; what is written stays in the page cache."""

    __slots__ = ("_host_blocks",)

    def __init__(self, sb: "HostFs", st: os.stat_result, node: HostNode) -> None:
        cache = PageCache(sb.services.node, HostStore(sb.door, node), st.st_size)
        super().__init__(sb, st.st_ino, st.st_mode, st.st_uid, st.st_gid, cache)
        self._host_blocks = st.st_blocks
        copy_attributes(self, st)

    def blocks(self) -> int:
        """The host's count until the file is written to."""
        if not self.mapping.dirty:
            return self._host_blocks if self.size else 0
        return (self.size + _PAGE - 1) // _PAGE * (_PAGE // 512)

    def seek_extent(self, offset: int, *, data: bool) -> int:
        """Holes of the host's file are not looked for: all is data."""
        return offset if data else self.size


class HostDir(MemDir):
    """A directory of the host.  *children* has what was looked up or changed, *gone* what was removed here."""

    __slots__ = ("_listing", "gone", "node")

    def __init__(self, sb: "HostFs", st: os.stat_result, node: HostNode, *, shown_empty: bool = False) -> None:
        super().__init__(sb, st.st_ino, st.st_mode, st.st_uid, st.st_gid)
        copy_attributes(self, st)
        self.size = st.st_size
        self.nlink = st.st_nlink
        self.node = node
        self.gone: set[bytes] = set()
        self._listing: dict[bytes, tuple[int, int]] | None = {} if shown_empty else None

    def lookup(self, name: bytes) -> Inode | None:
        """An entry: ours, or the host's."""
        inode = self.children.get(name)
        if inode is not None or name in self.gone:
            return inode
        if self._listing is not None and name not in self._listing:
            return None
        sb = self.sb
        assert isinstance(sb, HostFs), "HostDir: foreign super block"
        st = sb.door.lstat(self.node, name)
        if st is None:
            return None
        inode = sb.inode_of(self.node, name, st)
        self.children[name] = inode
        return inode

    def entries(self) -> list[tuple[bytes, int, int]]:
        """The host's entries and ours, without those that are gone."""
        found = {name: (ino, kind) for name, (ino, kind) in self._lower().items() if name not in self.gone}
        for name, inode in self.children.items():
            found[name] = (inode.ino, dirent_type(inode.mode))
        return [(name, *found[name]) for name in sorted(found)]

    def _lower(self) -> dict[bytes, tuple[int, int]]:
        """The host's entries, read once."""
        if self._listing is None:
            sb = self.sb
            assert isinstance(sb, HostFs), "HostDir: foreign super block"
            listing = {}
            for name, ino, kind in sb.door.entries(self.node):
                mode = kind
                if not mode:
                    st = sb.door.lstat(self.node, name)
                    if st is None:
                        continue
                    mode = st.st_mode
                listing[name] = (ino, dirent_type(mode))
            self._listing = listing
        return self._listing

    def is_empty(self) -> bool:
        """Nothing of ours, and all of the host's is gone."""
        return not self.children and all(name in self.gone for name in self._lower())

    def add_entry(self, name: bytes, inode: Inode) -> None:
        """An entry of ours, which hides the host's."""
        self.children[name] = inode
        self.gone.discard(name)
        self.modified()

    def remove_entry(self, name: bytes) -> None:
        """An entry goes; the host's stays hidden (a whiteout)."""
        self.children.pop(name, None)
        self.gone.add(name)
        self.modified()

    def blocks(self) -> int:
        """Whole pages."""
        return (self.size + _PAGE - 1) // _PAGE * 8


class HostFs(SuperBlock):
    """The host's tree behind a door.  Inode and device numbers are the host's."""

    __slots__ = ("_devices", "_inodes", "door")

    def __init__(self, services: KernelServices, door: Door, *, only: bytes | None = None) -> None:
        """*only*: the root is this entry of *door*'s root instead, which may be a file."""
        self.door: Door = door
        st = self.door.root_stat()
        super().__init__(services, b"ext4", EXT4_SUPER_MAGIC, st.st_dev)
        self.inode_cache = self.objects.ext4_inode_cache
        self.source = b"/dev/root"
        self.noatime = True
        self.dir_size = _PAGE
        self.next_ino = _NEW_INO
        self._inodes: dict[tuple[int, int], Inode] = {}
        self._devices: dict[int, bool] = {st.st_dev: False}
        if only is None:
            self.root = self._new_inode(None, b"", st)
        else:
            entry = self.door.lstat(self.door.root, only)
            if entry is None or stat.S_ISLNK(entry.st_mode):
                raise LinuxError(Errno.ENOENT, f"{only!r} is not there, or is a symbolic link")
            self.root = self.inode_of(self.door.root, only, entry)

    def inode_of(self, parent: HostNode, name: bytes, st: os.stat_result) -> Inode:
        """The inode of entry *name* of *parent*, which is *st*: one for all its hard links."""
        key = (st.st_dev, st.st_ino)
        inode = self._inodes.get(key)
        if inode is None:
            inode = self._new_inode(parent, name, st)
            if st.st_nlink > 1 and not inode.is_dir:
                self._inodes[key] = inode
        return inode

    def remember(self, inode: Inode) -> None:
        """*inode* has several names from now on."""
        self._inodes[inode.dev, inode.ino] = inode

    def forget(self, inode: Inode) -> None:
        """*inode* has no names any more: the host may use its number again."""
        self._inodes.pop((inode.dev, inode.ino), None)

    def _new_inode(self, parent: HostNode | None, name: bytes, st: os.stat_result) -> Inode:
        """The inode of what the host has; the root of the door if there is no *parent*."""
        if parent is None:
            return HostDir(self, st, self.door.root)
        kind = st.st_mode & S_IFMT
        node = HostNode(parent, name, st.st_dev, st.st_ino)
        if kind == S_IFDIR:
            return HostDir(self, st, node, shown_empty=self._is_kernel_made(st.st_dev))
        if kind == S_IFREG and not self._is_kernel_made(st.st_dev):
            return HostFile(self, st, node)
        if kind == S_IFLNK:
            link = MemSymlink(self, st.st_ino, self.door.readlink(parent, name), st.st_uid, st.st_gid)
            copy_attributes(link, st)
            return link
        if kind == S_IFREG:
            empty = MemFile(self, st.st_ino, st.st_mode, st.st_uid, st.st_gid)
            copy_attributes(empty, st)
            return empty
        special = MemNode(self, st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_rdev)
        copy_attributes(special, st)
        return special

    def _is_kernel_made(self, dev: int) -> bool:
        """Whether *dev* is a file system of the host's kernel, whose files are no files to us."""
        known = self._devices.get(dev)
        if known is None:
            for major_minor, fstype in self.door.mounts():
                self._devices.setdefault(major_minor, fstype in _KERNEL_FILE_SYSTEMS)
            known = self._devices.setdefault(dev, False)
        return known

    def statfs(self) -> Kstatfs:
        """The host's sizes."""
        st = self.door.statvfs()
        answer = Kstatfs(self.magic, blocks=st.f_blocks, bfree=st.f_bfree, bavail=st.f_bavail, fsid=st.f_fsid)
        answer.bsize = st.f_frsize
        answer.files, answer.ffree = st.f_files, st.f_ffree
        return answer


def copy_attributes(inode: Inode, st: os.stat_result) -> None:
    """Device, times and link count as the host has them."""
    inode.dev = st.st_dev
    inode.nlink = st.st_nlink
    inode.atime, inode.mtime, inode.ctime = st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns
    inode.btime = None
