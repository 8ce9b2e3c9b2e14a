"""Names: dentries, and paths, which are a dentry seen through a mount.

Linux: struct dentry, struct path (include/linux/dcache.h, path.h), fs/d_path.c.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from minikernel.fs.inode import Inode

if TYPE_CHECKING:
    from minikernel.fs.mount import Mount

_DELETED: Final = b" (deleted)"


class Dentry:
    """An inode's place in its file system's tree.

    Invariants:
        - a dentry in parent.children is reachable under its name, and is not unhashed;
        - the root of a file system is its own parent;
        - a dentry in parent.children has an object of the cache dentry (*address*); no other one has.
    """

    __slots__ = ("address", "children", "inode", "mounts", "name", "parent", "unhashed")

    def __init__(self, name: bytes, parent: "Dentry | None", inode: Inode) -> None:
        self.name = name
        self.parent: Dentry = parent if parent is not None else self
        self.inode = inode
        self.address = 0
        self.children: dict[bytes, Dentry] = {}
        self.mounts = 0  # how many mounts sit on it
        self.unhashed = False

    @property
    def is_root(self) -> bool:
        """The root of its file system."""
        return self.parent is self

    def lookup(self, name: bytes) -> "Dentry | None":
        """The child *name*; None if there is none.  *name* is no dot entry."""
        child = self.children.get(name)
        if child is not None:
            if child.inode.sb.revalidate(child):
                return child
            child.drop()
        inode = self.inode.lookup(name)
        if inode is None:
            return None
        return self.instantiate(name, inode)

    def instantiate(self, name: bytes, inode: Inode, address: int = 0) -> "Dentry":
        """The dentry of *inode*, which is now entry *name*; *address* is its object, if it was taken before (d_alloc).

        Errors:
            ENOMEM: there is no object for it.
        """
        child = Dentry(name, self, inode)
        if inode.sb.cached:
            child.address = address or inode.sb.objects.dentry.alloc()
            self.children[name] = child
        elif address:
            inode.sb.objects.dentry.free(address)
        return child

    def create(self, name: bytes, make: Callable[[], Inode]) -> "Dentry":
        """The dentry of what *make* makes as entry *name*.

        Errors:
            ENOMEM, before anything is made; and what *make* says.
        """
        cache = self.inode.sb.objects.dentry
        address = cache.alloc()
        try:
            inode = make()
        except BaseException:  # whatever it is goes on to the caller; the object goes back first
            cache.free(address)
            raise
        return self.instantiate(name, inode, address)

    def _forget_children(self) -> None:
        """What was found below a name that is gone is looked up again, should anybody still stand there."""
        for child in self.children.values():
            child.free_object()
            child._forget_children()
        self.children.clear()

    def free_object(self) -> None:
        """It is no longer found by its name: its object goes back, also while somebody still has it open."""
        if self.address:
            self.inode.sb.objects.dentry.free(self.address)
            self.address = 0

    def drop(self) -> None:
        """The name is gone (d_drop, d_delete)."""
        if self.parent.children.get(self.name) is self:
            del self.parent.children[self.name]
        self.free_object()
        self._forget_children()
        self.unhashed = True

    def move(self, new_parent: "Dentry", new_name: bytes) -> None:
        """Become entry *new_name* of *new_parent*; what was there is dropped (d_move)."""
        target = new_parent.children.get(new_name)
        if target is not None and target is not self:
            target.drop()
        if self.parent.children.get(self.name) is self:
            del self.parent.children[self.name]
        self.parent = new_parent
        self.name = new_name
        if self.inode.sb.cached:
            new_parent.children[new_name] = self

    def exchange(self, other: "Dentry") -> None:
        """Swap places with *other* (d_exchange)."""
        self.parent, other.parent = other.parent, self.parent
        self.name, other.name = other.name, self.name
        for dentry in (self, other):
            if dentry.inode.sb.cached:
                dentry.parent.children[dentry.name] = dentry

    def is_ancestor_of(self, other: "Dentry") -> bool:
        """Whether *other* lies below this dentry, or is it."""
        while other is not self:
            if other.parent is other:
                return False
            other = other.parent
        return True


class Path:
    """A dentry seen through a mount: struct path.  A value; compared by content."""

    __slots__ = ("dentry", "mnt")

    def __init__(self, mnt: "Mount", dentry: Dentry) -> None:
        self.mnt = mnt
        self.dentry = dentry

    @property
    def inode(self) -> Inode:
        """The file there."""
        return self.dentry.inode

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Path) and self.mnt is other.mnt and self.dentry is other.dentry

    def __hash__(self) -> int:
        return hash((id(self.mnt), id(self.dentry)))

    def __repr__(self) -> str:
        return f"Path({d_path(self, None)!r})"


def prepend_path(path: Path, root: Path | None) -> tuple[bytes, bool]:
    """The absolute name of *path* seen from *root*, and whether it is below *root* at all."""
    names: list[bytes] = []
    mnt, dentry = path.mnt, path.dentry
    while root is None or dentry is not root.dentry or mnt is not root.mnt:
        if dentry is mnt.root:
            if mnt.parent is None:
                return b"/" + b"/".join(reversed(names)), root is None
            dentry, mnt = mnt.mountpoint, mnt.parent
            continue
        if dentry.is_root:
            return b"/" + b"/".join(reversed(names)), False
        names.append(dentry.name)
        dentry = dentry.parent
    return b"/" + b"/".join(reversed(names)), True


def d_path(path: Path, root: Path | None) -> bytes:
    """The name /proc shows for *path*: absolute, seen from *root*, marked if it was deleted."""
    if path.mnt.detached_name is not None:
        return path.mnt.detached_name(path)
    name, _ = prepend_path(path, root)
    return name + _DELETED if path.dentry.unhashed else name
