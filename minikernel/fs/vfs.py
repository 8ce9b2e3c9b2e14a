"""The machine's files as a whole: the tree that boot builds, and the makers of files without a name.

Linux: init_mount_tree, devtmpfs (drivers/base/devtmpfs.c), create_pipe_files, memfd_create.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import F_SEAL_EXEC, F_SEAL_SEAL, O_LARGEFILE, O_RDONLY, O_RDWR, O_WRONLY
from minikernel.abi.stat import S_IFCHR, S_IFDIR, S_IFREG, makedev
from minikernel.abi.statfs import PIPEFS_MAGIC
from minikernel.fs.anon import AnonFs, DetachedFs, EventFile
from minikernel.fs.chrdev import MEM_MAJOR, TTYAUX_MAJOR
from minikernel.fs.cred import Cred
from minikernel.fs.dentry import Dentry, Path
from minikernel.fs.devpts import PTMX, DevPts
from minikernel.fs.epoll import EpollFile
from minikernel.fs.fdtable import FdTable
from minikernel.fs.file import OpenFile
from minikernel.fs.hostfs import HostFs
from minikernel.fs.hostio import HostInode, HostStream, TtyNode
from minikernel.fs.hostjournal import Journal
from minikernel.fs.hostrw import HostRwFs
from minikernel.fs.hostwait import HostDoorbell
from minikernel.fs.inode import Inode, SuperBlock
from minikernel.fs.locks import FileLock
from minikernel.fs.mount import Mount, MountNamespace
from minikernel.fs.namei import LOOKUP_DIRECTORY, LOOKUP_FOLLOW, FsStruct, lookup_at
from minikernel.fs.outside import Outside
from minikernel.fs.pipe import PipeFile, PipeInode
from minikernel.fs.services import KernelServices
from minikernel.fs.shrink import DentryShrinker, InodeShrinker
from minikernel.fs.tmpfs import MemDir, MemFile, MemNode, MemSymlink, Tmpfs
from minikernel.mm.kmem_cache import KmemCache

# Minor numbers of the anonymous devices (get_anon_bdev), fixed so that runs are alike.
_DEV_DEVTMPFS: Final = makedev(0, 6)
_DEV_HOSTIO: Final = makedev(0, 12)
_DEV_PIPEFS: Final = makedev(0, 13)
_DEV_ANON: Final = makedev(0, 14)
_DEV_SHM_MNT: Final = makedev(0, 1)
_DEV_DEV_SHM: Final = makedev(0, 25)
_DEV_DEVPTS: Final = makedev(0, 24)

_MEM_DEVICES: Final = ((b"null", 3), (b"zero", 5), (b"full", 7), (b"random", 8), (b"urandom", 9))
_LINKS: Final = (
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
)


class Bind(Protocol):
    """A door to the host: ``--bind HOST:GUEST[:rw]``."""

    @property
    def host(self) -> bytes:
        """A file or directory of the host."""
        ...

    @property
    def guest(self) -> bytes:
        """Where the guest sees it."""
        ...

    @property
    def writable(self) -> bool:
        """Whether changes reach the host."""
        ...


class Vfs:
    """Every file system of one machine.

    *root* is a directory of the host.  Raises OSError if the host's directory, or that of a bind, is not there.
    """

    __slots__ = (
        *("_outside", "_std", "anon", "devpts", "doorbell", "hostio", "lock_waits", "namespace", "pipefs", "services"),
        *("shm", "streams"),
    )

    def __init__(
        self, services: KernelServices, root: bytes, binds: Sequence[Bind] = (), outside: Outside | None = None
    ) -> None:
        self.services = services
        self._outside = outside = outside or Outside()
        self.namespace = MountNamespace(HostFs(services, outside.tree(root)))
        self.pipefs = DetachedFs(services, b"pipefs", PIPEFS_MAGIC, _DEV_PIPEFS)
        self.pipefs.inode_cache = self.pipefs.objects.inode_cache
        self.anon = AnonFs(services, _DEV_ANON)
        self.hostio = DetachedFs(services, b"hostio", PIPEFS_MAGIC, _DEV_HOSTIO)
        self.shm = Mount(Tmpfs(services, _DEV_SHM_MNT), detached_name=_memfd_name)
        self._std = outside.streams(self.hostio)
        self.streams: dict[int, HostInode] = {fd: stream.inode for fd, stream in self._std.items()}
        self.lock_waits: list[FileLock] = []  # POSIX and OFD locks that tasks wait for (blocked_hash)
        self.doorbell = HostDoorbell(self.streams.values(), outside.bell)
        self.devpts = DevPts(services, _DEV_DEVPTS)
        self.mount_at(b"/dev", self._devtmpfs())
        self.devpts.mount = self.mount_at(b"/dev/pts", self.devpts)
        self.mount_at(b"/dev/shm", Tmpfs(services, _DEV_DEV_SHM))
        for bind in binds:
            self.bind_host(bind)
        services.node.shrinkers += [DentryShrinker(self), InodeShrinker(self)]

    # The tree

    def fs_struct(self, cwd: bytes = b"/", cache: KmemCache | None = None) -> FsStruct:
        """A task's view of the whole tree, *cache* for its object.  Errors: ENOENT, ENOTDIR for *cwd*."""
        root = self.namespace.root
        fs = FsStruct(self.namespace, root, root, cache=cache)
        fs.cwd = lookup_at(fs, Cred(), cwd, flags=LOOKUP_FOLLOW | LOOKUP_DIRECTORY)
        return fs

    def mount_at(self, name: bytes, sb: SuperBlock) -> Mount:
        """Mount *sb* over *name*; a missing directory is made, in guest memory."""
        return self.namespace.mount(sb, self._place(name, sb.root.mode))

    def _place(self, name: bytes, mode: int) -> Path:
        fs, root = self.fs_struct(), Cred()
        parts = [part for part in name.split(b"/") if part]
        at = fs.root
        for number, part in enumerate(parts):
            try:
                at = lookup_at(fs, root, part, start=at)
                continue
            except LinuxError as error:
                if error.errno != Errno.ENOENT:
                    raise
            last = number == len(parts) - 1
            kind = S_IFREG | 0o644 if last and mode & S_IFDIR != S_IFDIR else S_IFDIR | 0o755
            inode = at.inode.make_child(part, kind, root)
            at = Path(at.mnt, at.dentry.instantiate(part, inode))
        return at

    def bind_host(self, bind: Bind) -> Mount:
        """Open the door *bind*.  The host resolves symbolic links in its own name of it, once, here."""
        outside = self._outside
        directory, name = outside.locate(bind.host)
        if bind.writable:
            return self.mount_at(bind.guest, HostRwFs(self.services, outside.writable_tree(directory), only=name))
        return self.mount_at(bind.guest, HostFs(self.services, outside.tree(directory), only=name))

    def _devtmpfs(self) -> SuperBlock:
        """/dev: the devices that exist, and links to the descriptors."""
        sb = Tmpfs(self.services, _DEV_DEVTMPFS, fstype=b"devtmpfs", mode=0o755)
        root = sb.root
        assert isinstance(root, MemDir), "_devtmpfs: the root is no directory"
        for name, minor in _MEM_DEVICES:
            root.children[name] = MemNode(sb, sb.new_ino(), S_IFCHR | 0o666, rdev=makedev(MEM_MAJOR, minor))
        terminal = next((inode for inode in self.streams.values() if inode.is_tty), None)
        root.children[b"ptmx"] = MemNode(sb, sb.new_ino(), S_IFCHR | 0o666, rdev=PTMX)
        root.children[b"tty"] = TtyNode(sb, sb.new_ino(), S_IFCHR | 0o666, makedev(TTYAUX_MAJOR, 0), terminal)
        for name, target in _LINKS:
            root.children[name] = MemSymlink(sb, sb.new_ino(), target)
        for name, mode in ((b"pts", 0o755), (b"shm", 0o1777)):
            root.children[name] = MemDir(sb, sb.new_ino(), S_IFDIR | mode)
            root.nlink += 1
        if terminal is not None:
            self._show_terminal(root, terminal)
        return sb

    def _show_terminal(self, root: MemDir, terminal: HostInode) -> None:
        """The host's terminal under its own name, which ttyname(3) looks for."""
        parts = terminal.name().split(b"/")
        if parts[:2] != [b"", b"dev"]:
            return
        directory: Inode = root
        if parts[2:3] == [b"pts"]:
            directory = self.devpts.root
        assert isinstance(directory, MemDir), "_show_terminal: /dev/pts is no directory"
        directory.children[parts[-1]] = terminal

    # Files without a name

    def std_files(self) -> FdTable:
        """Descriptors 0, 1 and 2, as far as the emulator has them."""
        files = FdTable(self.services.node.objects.files_cache)
        for fd, (inode, host_fd, flags) in sorted(self._std.items()):
            path = self.hostio.path(inode.name(), inode)
            files.install(fd, HostStream(path, flags | O_LARGEFILE, host_fd), cloexec=False)
        return files

    def pipe(self, flags: int) -> tuple[OpenFile, OpenFile]:
        """The reading and the writing end of a new pipe; *flags*: O_NONBLOCK, O_DIRECT (create_pipe_files).

        Errors:
            ENOMEM.
        """
        inode = PipeInode(self.pipefs, self.pipefs.new_ino())
        path = self.pipefs.path(b"pipe:[%d]" % inode.ino, inode)
        reader = PipeFile(path, flags | O_RDONLY, inode.pipe)
        try:
            return reader, PipeFile(path, flags | O_WRONLY, inode.pipe)
        except LinuxError:
            reader.put_file()
            raise

    def eventfd(self, count: int, flags: int, *, semaphore: bool) -> OpenFile:
        """Make a counter that tasks wait on."""
        path = self.anon.path(b"anon_inode:[eventfd]", self.anon.inode)
        return EventFile(path, flags, count, semaphore=semaphore)

    def epoll(self) -> OpenFile:
        """Make a set of files to wait for."""
        return EpollFile(self.anon.path(b"anon_inode:[eventpoll]", self.anon.inode))

    def memfd(self, name: bytes, cred: Cred, *, sealable: bool, noexec: bool = False) -> OpenFile:
        """What memfd_create(2) gives: a file of its own on the kernel's tmpfs."""
        sb = self.shm.sb
        inode = MemFile(sb, sb.new_ino(), S_IFREG | 0o777, cred.fsuid, cred.fsgid)
        inode.nlink = 0
        inode.seals = 0 if sealable else F_SEAL_SEAL
        if noexec:
            inode.mode &= ~0o111
            inode.seals = inode.seals & ~F_SEAL_SEAL | F_SEAL_EXEC
        dentry = Dentry(b"memfd:" + name, self.shm.root, inode)
        dentry.unhashed = True
        try:
            return inode.open(Path(self.shm, dentry), O_RDWR | O_LARGEFILE)
        except LinuxError:
            inode.put()
            raise

    def foreground(self) -> int:
        """The process group that the terminal's keys mean; 0 without a terminal, or if nobody has said."""
        return next((inode.foreground for inode in self.streams.values() if inode.is_tty), 0)

    # The end

    def sync(self) -> None:
        """Write back everything that has somewhere to go (sync(2))."""
        for mount in self.namespace.mounts:
            mount.sb.sync()

    def keep_journal(self, journal: Journal) -> None:
        """From now on the host's streams are asked through *journal*."""
        self.doorbell.journal = journal
        for inode in self.streams.values():
            inode.journal = journal

    def shutdown(self) -> None:
        """Write back, give terminals their modes back, close what is open on the host."""
        self.doorbell.close()
        self.sync()
        for inode in self.streams.values():
            inode.restore()
        for mount in self.namespace.mounts:
            if isinstance(mount.sb, HostFs):
                mount.sb.door.close()


def _memfd_name(path: Path) -> bytes:
    return b"/" + path.dentry.name + b" (deleted)"
