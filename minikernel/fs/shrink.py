"""Names and inodes that nobody uses go when memory is short.  Linux: fs/dcache.c (prune_dcache_sb), fs/inode.c.

Whether somebody uses one, its reference count says: Python's own, which a path walk, an open file, a mapping or a
sleeping system call holds as Linux's d_lockref.  Children go before their parents, and what was looked up first first.
"""

import sys
from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import LinuxError
from minikernel.fs.dentry import Dentry
from minikernel.fs.hostfs import HostDir, HostFile, HostFs
from minikernel.fs.tmpfs import MemSymlink

if TYPE_CHECKING:
    from minikernel.fs.vfs import Vfs

_LISTED: Final = 2  # references of a value that only its dict has, seen by getrefcount: the dict's, and its argument's


class DentryShrinker:
    """The dentry cache's."""

    name = "dentries"

    def __init__(self, vfs: "Vfs") -> None:
        self._vfs = vfs

    def count_objects(self) -> int:
        """All names that are cached."""
        return self._vfs.services.node.objects.dentry.nr_in_use

    def scan_objects(self, nr_to_scan: int) -> int:
        """Forget names without users."""
        freed = 0
        for mount in self._vfs.namespace.mounts:
            freed += self._prune(mount.root, nr_to_scan - freed)
        return freed

    def _prune(self, top: Dentry, limit: int) -> int:
        """Forget up to *limit* names below *top*."""
        freed = 0
        for name in list(top.children):
            if freed >= limit:
                break
            if top.children[name].children:
                freed += self._prune(top.children[name], limit - freed)
            if sys.getrefcount(top.children[name]) > _LISTED or freed >= limit:
                continue
            dentry = top.children[name]
            if not dentry.children and not dentry.mounts:
                del top.children[name]
                dentry.free_object()
                freed += 1
        return freed


class InodeShrinker:
    """The inode caches' of host trees: what is as the host has it can be looked up again."""

    name = "inodes"

    def __init__(self, vfs: "Vfs") -> None:
        self._vfs = vfs

    def count_objects(self) -> int:
        """All inodes of host trees."""
        return self._vfs.services.node.objects.ext4_inode_cache.nr_in_use

    def scan_objects(self, nr_to_scan: int) -> int:
        """Forget inodes without names, users and changes."""
        freed = 0
        for sb in {id(mount.sb): mount.sb for mount in self._vfs.namespace.mounts}.values():
            if type(sb) is HostFs and isinstance(sb.root, HostDir):
                freed += self._prune(sb, sb.root, nr_to_scan - freed)
        return freed

    def _prune(self, sb: HostFs, top: HostDir, limit: int) -> int:
        freed = 0
        for name in list(top.children):
            if freed >= limit:
                break
            if type(top.children[name]) is HostDir:
                freed += self._prune_below(sb, top, name, limit - freed)
            if freed >= limit or sys.getrefcount(top.children[name]) > _LISTED + _own_references(top, name):
                continue
            if _is_pristine(sb, top, name):
                inode = top.children.pop(name)
                inode.evict()
                inode.free_object()
                if inode.mapping is not None:
                    inode.mapping.on_mkwrite = None  # a reference to the inode
                freed += 1
        return freed

    def _prune_below(self, sb: HostFs, top: HostDir, name: bytes, limit: int) -> int:
        below = top.children[name]
        assert isinstance(below, HostDir), "_prune_below: no directory"
        return self._prune(sb, below, limit)


def _own_references(top: HostDir, name: bytes) -> int:
    """How many references to entry *name* are its own: a file's page cache tells it of writes."""
    mapping = top.children[name].mapping
    return 1 if mapping is not None and mapping.on_mkwrite is not None else 0


def _is_pristine(sb: HostFs, top: HostDir, name: bytes) -> bool:
    """Whether entry *name* is what the host has under this name, and nothing else is known of it."""
    inode = top.children[name]
    if inode.open_count or inode.locks is not None or inode.xattrs or (inode.nlink > 1 and not inode.is_dir):
        return False  # several names share an inode: HostFs remembers it
    kind = type(inode)
    if kind is HostDir:
        assert isinstance(inode, HostDir), "_is_pristine: no directory"
        if inode.children or inode.gone:
            return False
    elif kind is HostFile:
        assert inode.mapping is not None, "_is_pristine: a file without pages"
        if inode.mapping.vmas or inode.mapping.dirty:
            return False
    elif kind is not MemSymlink:
        return False
    try:
        st = sb.door.lstat(top.node, name)
    except LinuxError:
        return False
    if st is None:
        return False
    ours = (inode.dev, inode.ino, inode.mode, inode.uid, inode.gid, inode.nlink, inode.size)
    times = (inode.mtime, inode.ctime)
    theirs = (st.st_dev, st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_size)
    return ours == theirs and times == (st.st_mtime_ns, st.st_ctime_ns)
