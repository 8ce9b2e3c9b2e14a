"""/dev/pts: the slaves of pseudo terminals by number.  Linux: fs/devpts/inode.c."""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import S_IFCHR, S_IFDIR, makedev
from minikernel.abi.statfs import DEVPTS_SUPER_MAGIC, Kstatfs
from minikernel.fs.cred import Cred
from minikernel.fs.dentry import Path
from minikernel.fs.inode import Inode
from minikernel.fs.mount import Mount
from minikernel.fs.services import KernelServices
from minikernel.fs.tmpfs import MemDir, MemNode, Tmpfs

PTMX: Final = makedev(5, 2)  # device numbers, as st_rdev
TTY: Final = makedev(5, 0)


class PtsDir(MemDir):
    """Its root: names come and go with the pairs, and in no other way (simple_dir_inode_operations)."""

    __slots__ = ()

    def make_child(self, name: bytes, mode: int, cred: Cred, *, rdev: int = 0, target: bytes = b"") -> Inode:
        """Refused."""
        raise LinuxError(Errno.EPERM, f"{name!r} {mode:o} {cred} {rdev} {target!r}: devpts makes no files")

    def link(self, name: bytes, inode: Inode) -> None:
        """Refused."""
        raise LinuxError(Errno.EPERM, f"{name!r} {inode}")

    def unlink(self, name: bytes, inode: Inode) -> None:
        """Refused."""
        raise LinuxError(Errno.EPERM, f"{name!r} {inode}")

    def rmdir(self, name: bytes, inode: Inode) -> None:
        """Refused."""
        raise LinuxError(Errno.EPERM, f"{name!r} {inode}")

    def rename(self, name: bytes, new_dir: Inode, new_name: bytes, flags: int) -> None:
        """Refused."""
        raise LinuxError(Errno.EPERM, f"{name!r} {new_dir} {new_name!r} {flags}")


class DevPts(Tmpfs):
    """The file system; *mount* is where the machine has it."""

    __slots__ = ("mount",)

    root: MemDir

    def __init__(self, services: KernelServices, dev: int) -> None:
        super().__init__(services, dev, fstype=b"devpts", mode=0o755)
        self.magic = DEVPTS_SUPER_MAGIC
        self.mount: Mount
        self.root.children[b"ptmx"] = MemNode(self, self.new_ino(), S_IFCHR, rdev=PTMX)

    def make_root(self, mode: int) -> MemDir:
        """Of its own kind."""
        return PtsDir(self, self.new_ino(), S_IFDIR | mode)

    def statfs(self) -> Kstatfs:
        """No sizes."""
        return Kstatfs(self.magic)

    def free_index(self, limit: int) -> int:
        """The lowest number that no pair has.  Errors: ENOSPC at *limit*."""
        index = next((number for number in range(limit) if b"%d" % number not in self.root.children), None)
        if index is None:
            raise LinuxError(Errno.ENOSPC, f"there are {limit} pseudo terminals")
        return index

    def add(self, index: int, inode: Inode) -> None:
        """There is a pair *index*."""
        self.root.add_entry(b"%d" % index, inode)

    def remove(self, index: int) -> None:
        """Its master is closed."""
        name = b"%d" % index
        inode = self.root.children[name]
        self.root.remove_entry(name)
        dentry = self.mount.root.children.get(name)
        if dentry is not None:
            dentry.drop()
        inode.nlink = 0
        inode.put()

    def child_path(self, index: int) -> Path:
        """The place of pair *index*."""
        child = self.mount.root.lookup(b"%d" % index)
        assert child is not None, f"DevPts.child_path: no pair {index}"
        return Path(self.mount, child)
