"""The path walk: from a name to a place.

Linux: fs/namei.c (path_init, link_path_walk, walk_component, filename_parentat, filename_lookup), and
struct fs_struct (include/linux/fs_struct.h).
"""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import (
    NAME_MAX,
    PATH_MAX,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from minikernel.abi.stat import S_IFDIR, S_IFLNK, S_IFMT
from minikernel.fs.cred import MAY_EXEC, Cred, inode_permission
from minikernel.fs.dentry import Dentry, Path
from minikernel.fs.mount import MountNamespace
from minikernel.mm.kmem_cache import KmemCache

MAXSYMLINKS: Final = 40

# Walk flags: include/linux/namei.h.
LOOKUP_FOLLOW: Final = 1
LOOKUP_DIRECTORY: Final = 2
LOOKUP_EMPTY: Final = 4

# What the last component is: enum in include/linux/namei.h.
LAST_NORM: Final = 0
LAST_ROOT: Final = 1
LAST_DOT: Final = 2
LAST_DOTDOT: Final = 3


class FsStruct:
    """A task's view of the tree: struct fs_struct.  *users* counts the tasks that share it (CLONE_FS).

    *cache* is where its object comes from (fs_cache); the kernel's own views have none.
    """

    __slots__ = ("address", "cache", "cwd", "namespace", "root", "umask", "users")

    def __init__(
        self, namespace: MountNamespace, root: Path, cwd: Path, umask: int = 0o022, cache: KmemCache | None = None
    ) -> None:
        """Errors: ENOMEM."""
        self.cache = cache
        self.address = cache.alloc() if cache is not None else 0
        self.users = 1
        self.namespace = namespace
        self.root = root
        self.cwd = cwd
        self.umask = umask

    def copy(self) -> "FsStruct":
        """The same view, of its own (copy_fs_struct).  Errors: ENOMEM."""
        return FsStruct(self.namespace, self.root, self.cwd, self.umask, self.cache)

    def put(self) -> None:
        """One task fewer uses it (exit_fs)."""
        self.users -= 1
        if not self.users and self.cache is not None:
            self.cache.free(self.address)


class Walk:
    """One path walk: struct nameidata.

    *path* is how far the walk came.  After ``parent_of``, *last* is the component that is left, *last_type*
    what kind it is, and *trailing* whether slashes follow it.  *start* is where a relative name begins
    (None: the working directory).
    """

    __slots__ = ("beneath", "cred", "last", "last_type", "links", "ns", "path", "resolve", "root", "start", "trailing")

    def __init__(self, fs: FsStruct, cred: Cred, start: Path | None = None, resolve: int = 0) -> None:
        self.cred = cred
        self.ns = fs.namespace
        self.start = start if start is not None else fs.cwd
        self.resolve = resolve
        self.beneath = bool(resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT))
        self.root = self.start if self.beneath else fs.root
        self.path = self.start
        self.links = 0
        self.last = b""
        self.last_type = LAST_ROOT
        self.trailing = False

    # The three ways to walk

    def parent_of(self, name: bytes) -> Path:
        """Walk all but the last component of *name* (filename_parentat): the directory it would be in."""
        check_name(name)
        self.path = self.start
        self._walk(name)
        return self.path

    def lookup(self, name: bytes, flags: int) -> Path:
        """Where *name* leads (filename_lookup).

        Errors:
            ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG.
        """
        if not name and flags & LOOKUP_EMPTY:
            return self.start
        check_name(name)
        self.path = self.start
        self._walk(name)
        return self.finish(flags)

    def finish(self, flags: int) -> Path:
        """Walk the component that ``parent_of`` left, and every symbolic link it is."""
        while self.last_type != LAST_ROOT:
            follow = flags & LOOKUP_FOLLOW or self.trailing
            if self.trailing:
                flags |= LOOKUP_DIRECTORY
            if self._step_last(follow=bool(follow)):
                break
        if flags & LOOKUP_DIRECTORY and not self.path.inode.is_dir:
            raise LinuxError(Errno.ENOTDIR, "the name asks for a directory")
        return self.path

    def follow_last(self, child: Path) -> bool:
        """Go on from symbolic link *child* in the directory we are in; False if *path* is the end already."""
        return self._follow(child, b"/" if self.trailing else b"")

    # Steps

    def _step_last(self, *, follow: bool) -> bool:
        """Walk *last*; True when the walk is at its end, False when a link set a new *last*."""
        if self.last_type == LAST_DOTDOT:
            self._dotdot()
            return True
        if self.last_type == LAST_DOT:
            return True
        child = self.child(self.last)
        if child is None:
            raise LinuxError(Errno.ENOENT, f"{self.last!r}")
        if follow and child.dentry.inode.mode & S_IFMT == S_IFLNK:
            return not self.follow_last(child)
        self.path = child
        return True

    def child(self, name: bytes) -> Path | None:
        """Entry *name* of the directory we are in, with what is mounted on it; None if there is none."""
        if len(name) > NAME_MAX:
            raise LinuxError(Errno.ENAMETOOLONG, "a component is longer than 255 bytes")
        path = self.path
        dentry = path.dentry.lookup(name)
        if dentry is None:
            return None
        if not dentry.mounts:
            return Path(path.mnt, dentry)
        crossed = self.ns.traverse(Path(path.mnt, dentry))
        if crossed.mnt is not path.mnt and self.resolve & RESOLVE_NO_XDEV:
            raise LinuxError(Errno.EXDEV, "RESOLVE_NO_XDEV")
        return crossed

    def _walk(self, name: bytes) -> None:
        """link_path_walk: walk every component of *name* but the last."""
        while True:
            if name[:1] == b"/":
                self._to_root()
                name = name.lstrip(b"/")
            if not name:
                self.last, self.last_type, self.trailing = b"", LAST_ROOT, False
                return
            path = self.path
            inode = path.dentry.inode
            if inode.mode & S_IFMT != S_IFDIR:
                raise LinuxError(Errno.ENOTDIR, f"{path.dentry.name!r}")
            inode_permission(inode, MAY_EXEC, self.cred)
            component, slash, rest = name.partition(b"/")
            rest = rest.lstrip(b"/")
            if not rest:
                self._set_last(component, trailing=bool(slash))
                return
            name = rest
            if component == b".":
                continue
            if component == b"..":
                self._dotdot()
                continue
            child = self.child(component)
            if child is None:
                raise LinuxError(Errno.ENOENT, f"{component!r}")
            if child.dentry.inode.mode & S_IFMT == S_IFLNK:
                target = self._take_link(child)
                if isinstance(target, Path):
                    self.path = target
                else:
                    name = target + b"/" + rest
                continue
            self.path = child

    def _set_last(self, component: bytes, *, trailing: bool) -> None:
        self.last = component
        self.trailing = trailing
        self.last_type = LAST_NORM
        if component == b".":
            self.last_type = LAST_DOT
        elif component == b"..":
            self.last_type = LAST_DOTDOT

    def _follow(self, link: Path, rest: bytes) -> bool:
        target = self._take_link(link)
        if isinstance(target, Path):
            self.path = target
            self.last_type = LAST_ROOT
            return False
        self._walk(target + rest)
        return self.last_type != LAST_ROOT

    def _take_link(self, link: Path) -> bytes | Path:
        """What symbolic link *link* says (pick_link, get_link).  Errors: ELOOP, ENOENT."""
        self.links += 1
        if self.links > MAXSYMLINKS or self.resolve & RESOLVE_NO_SYMLINKS:
            raise LinuxError(Errno.ELOOP, "more than 40 symbolic links, or RESOLVE_NO_SYMLINKS")
        target = link.dentry.inode.get_link()
        if isinstance(target, Path):
            if self.resolve & RESOLVE_NO_MAGICLINKS:
                raise LinuxError(Errno.ELOOP, "RESOLVE_NO_MAGICLINKS")
            if self.beneath or (self.resolve & RESOLVE_NO_XDEV and target.mnt is not self.path.mnt):
                raise LinuxError(Errno.EXDEV, "a magic link may lead anywhere")
        elif not target:
            raise LinuxError(Errno.ENOENT, "an empty symbolic link")
        return target

    def _to_root(self) -> None:
        if self.resolve & RESOLVE_BENEATH:
            raise LinuxError(Errno.EXDEV, "RESOLVE_BENEATH: an absolute name")
        if self.resolve & RESOLVE_NO_XDEV and self.root.mnt is not self.path.mnt:
            raise LinuxError(Errno.EXDEV, "RESOLVE_NO_XDEV")
        self.path = self.root

    def _dotdot(self) -> None:
        """One directory up, never above the root (follow_dotdot)."""
        path = self.path
        if path.dentry is self.root.dentry and path.mnt is self.root.mnt:
            if self.resolve & RESOLVE_BENEATH:
                raise LinuxError(Errno.EXDEV, "RESOLVE_BENEATH: above the start")
            return
        mnt, dentry = path.mnt, path.dentry
        while dentry is mnt.root:
            if mnt.parent is None:
                return
            if self.resolve & RESOLVE_NO_XDEV:
                raise LinuxError(Errno.EXDEV, "RESOLVE_NO_XDEV")
            mnt, dentry = mnt.parent, mnt.mountpoint
            if dentry is self.root.dentry and mnt is self.root.mnt:
                self.path = self.root
                return
        self.path = self.ns.traverse(Path(mnt, dentry.parent))


def check_name(name: bytes) -> None:
    """What getname refuses.  Errors: ENOENT for an empty name, ENAMETOOLONG for 4096 bytes and more."""
    if not name:
        raise LinuxError(Errno.ENOENT, "an empty name")
    if len(name) >= PATH_MAX:
        raise LinuxError(Errno.ENAMETOOLONG, "a name of 4096 bytes or more")


def lookup_at(
    fs: FsStruct, cred: Cred, name: bytes, *, start: Path | None = None, flags: int = LOOKUP_FOLLOW, resolve: int = 0
) -> Path:
    """Where *name*, seen from *start* (None: the working directory), leads: user_path_at."""
    return Walk(fs, cred, start, resolve).lookup(name, flags)


def negative_or_dentry(parent: Path, name: bytes) -> Dentry | None:
    """Entry *name* of *parent* without crossing mounts or links (lookup_one_qstr_excl); None if there is none."""
    if len(name) > NAME_MAX:
        raise LinuxError(Errno.ENAMETOOLONG, "a component is longer than 255 bytes")
    return parent.dentry.lookup(name)
