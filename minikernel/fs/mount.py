"""The tree of mounts that tasks see.

Linux: struct mount, struct mnt_namespace (fs/mount.h, fs/namespace.c).
"""

from collections.abc import Callable, Iterator

from minikernel.fs.dentry import Dentry, Path
from minikernel.fs.inode import SuperBlock


class Mount:
    """A file system seen at one place: struct mount.

    *detached_name*: for the kernel's own mounts (pipes, anonymous inodes), which are nowhere in the tree,
    what /proc shows for a path of theirs (d_dname).
    """

    __slots__ = ("detached_name", "id", "mountpoint", "nosuid", "parent", "root", "sb")

    def __init__(
        self,
        sb: SuperBlock,
        *,
        root: Dentry | None = None,
        at: Path | None = None,
        mnt_id: int = 0,
        detached_name: Callable[[Path], bytes] | None = None,
    ) -> None:
        self.sb = sb
        self.root = root if root is not None else Dentry(b"", None, sb.root)
        self.parent: Mount | None = at.mnt if at is not None else None
        self.mountpoint = at.dentry if at is not None else self.root
        self.id = mnt_id
        self.detached_name = detached_name
        self.nosuid = False  # MNT_NOSUID: set-user-id bits and file capabilities mean nothing here

    def root_path(self) -> Path:
        """The top of the mounted tree."""
        return Path(self, self.root)


class MountNamespace:
    """Every mount, by the place it covers.  The first one is the root of all."""

    __slots__ = ("_by_place", "_next_id", "mounts")

    def __init__(self, root: SuperBlock) -> None:
        self._next_id = 1
        self._by_place: dict[tuple[int, int], Mount] = {}
        self.mounts: list[Mount] = []
        self.mounts.append(Mount(root, mnt_id=self._new_id()))

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    @property
    def root(self) -> Path:
        """The root directory of the first mount, or of what was mounted over it."""
        return self.traverse(self.mounts[0].root_path())

    def mount(self, sb: SuperBlock, at: Path) -> Mount:
        """Mount *sb* over *at*, which is a directory if the root of *sb* is one (do_add_mount)."""
        mount = Mount(sb, at=at, mnt_id=self._new_id())
        self._attach(mount)
        return mount

    def bind(self, source: Path, at: Path) -> Mount:
        """Make *source* visible at *at* too (do_loopback)."""
        mount = Mount(source.mnt.sb, root=source.dentry, at=at, mnt_id=self._new_id())
        self._attach(mount)
        return mount

    def unmount(self, mount: Mount) -> None:
        """Take *mount*, on which nothing is mounted, out of the tree (umount_tree)."""
        assert mount.parent is not None, "unmount: the root cannot go"
        del self._by_place[id(mount.parent), id(mount.mountpoint)]
        mount.mountpoint.mounts -= 1
        self.mounts.remove(mount)

    def _attach(self, mount: Mount) -> None:
        assert mount.parent is not None, "_attach: a mount needs a place"
        place = (id(mount.parent), id(mount.mountpoint))
        assert place not in self._by_place, "_attach: traverse the mounts that cover the place first"
        self._by_place[place] = mount
        mount.mountpoint.mounts += 1
        self.mounts.append(mount)

    def mounted_on(self, path: Path) -> Mount | None:
        """The mount that covers exactly *path*."""
        return self._by_place.get((id(path.mnt), id(path.dentry))) if path.dentry.mounts else None

    def traverse(self, path: Path) -> Path:
        """*path*, or the root of the last of the mounts stacked on it (traverse_mounts)."""
        while path.dentry.mounts:
            mount = self._by_place.get((id(path.mnt), id(path.dentry)))
            if mount is None:
                break
            path = Path(mount, mount.root)
        return path

    def children_of(self, mount: Mount) -> Iterator[Mount]:
        """The mounts that sit on *mount*."""
        return (child for child in self.mounts if child.parent is mount)
