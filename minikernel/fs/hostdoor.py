"""The one door to the host's files.

Everything below a root directory is reached one component at a time, with a directory descriptor and
O_NOFOLLOW: the host never resolves a symbolic link or ``..`` for us, so nothing outside the root can be named,
not even if the host's tree changes under our feet.  A file is opened for its content only after its descriptor
proved to be a regular file (O_PATH opens nothing), so FIFOs, sockets and devices of the host are never touched.
"""

import os
import stat
from collections import OrderedDict
from typing import Final

from minikernel.abi.errno import Errno, LinuxError

_DIR_FLAGS: Final = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_MAX_DIRS: Final = 64  # descriptors kept open; beyond them the least recently used is closed
_MAX_FILES: Final = 64


class HostNode:
    """A file of the host: *name* in the directory *parent* (None: the root), which must be *dev*, *ino*."""

    __slots__ = ("dev", "ino", "name", "parent")

    def __init__(self, parent: "HostNode | None", name: bytes, dev: int, ino: int) -> None:
        self.parent = parent
        self.name = name
        self.dev = dev
        self.ino = ino

    def path(self) -> bytes:
        """Its name from the root of the door, which is ""."""
        return self.parent.path() + b"/" + self.name if self.parent is not None else b""


class HostDoor:
    """Access to the host's tree below *root*, a directory."""

    __slots__ = ("_dirs", "_files", "_root_fd", "opened", "root")

    def __init__(self, root: bytes) -> None:
        self._root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        st = os.fstat(self._root_fd)
        self.root = HostNode(None, b"", st.st_dev, st.st_ino)
        self._dirs: OrderedDict[HostNode, int] = OrderedDict()
        self._files: OrderedDict[tuple[HostNode, bool], int] = OrderedDict()
        self.opened: dict[HostNode, None] = {}  # every file whose contents were asked for: what a run depends on

    def close(self) -> None:
        """Close every descriptor."""
        for fd in (*self._dirs.values(), *self._files.values()):
            os.close(fd)
        self._dirs.clear()
        self._files.clear()
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1

    def dir_fd(self, node: HostNode) -> int:
        """A descriptor (O_PATH) of directory *node*.  Errors: the host's; ESTALE if another took its place."""
        if node.parent is None:
            return self._root_fd
        fd = self._dirs.get(node)
        if fd is not None:
            self._dirs.move_to_end(node)
            return fd
        parent_fd = self.dir_fd(node.parent)
        check_component(node.name)
        try:
            fd = os.open(node.name, _DIR_FLAGS, dir_fd=parent_fd)
        except OSError as error:
            raise from_host(error) from None
        _expect(fd, node, stat.S_IFDIR)
        self._dirs[node] = fd
        if len(self._dirs) > _MAX_DIRS:
            os.close(self._dirs.popitem(last=False)[1])
        return fd

    def lstat(self, parent: HostNode, name: bytes) -> os.stat_result | None:
        """What entry *name* of *parent* is; None if there is none."""
        check_component(name)
        try:
            return os.stat(name, dir_fd=self.dir_fd(parent), follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_host(error) from None

    def root_stat(self) -> os.stat_result:
        """What the root is."""
        return os.fstat(self._root_fd)

    def readlink(self, parent: HostNode, name: bytes) -> bytes:
        """The text of symbolic link *name*, which nobody but our own path walk follows."""
        check_component(name)
        try:
            return os.readlink(name, dir_fd=self.dir_fd(parent))
        except OSError as error:
            raise from_host(error) from None

    def entries(self, node: HostNode) -> list[tuple[bytes, int, int]]:
        """Name, inode number and st_mode's type (0: ask ``lstat``) of the entries of directory *node*."""
        try:
            # "." of a descriptor is that directory itself, whatever its name leads to by now.
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = _open_quietly(b".", flags, self.dir_fd(node))
        except OSError as error:
            raise from_host(error) from None
        try:
            with os.scandir(fd) as scan:
                return [(os.fsencode(entry.name), entry.inode(), _entry_type(entry)) for entry in scan]
        except OSError as error:
            raise from_host(error) from None
        finally:
            os.close(fd)

    def file_fd(self, node: HostNode, *, write: bool = False) -> int:
        """A descriptor of regular file *node*, kept open for a while.  Errors: the host's; ESTALE."""
        key = (node, write)
        fd = self._files.get(key)
        if fd is not None:
            self._files.move_to_end(key)
            return fd
        fd = self.open_file(node, os.O_RDWR if write else os.O_RDONLY)
        self.opened[node] = None
        self._files[key] = fd
        if len(self._files) > _MAX_FILES:
            os.close(self._files.popitem(last=False)[1])
        return fd

    def open_file(self, node: HostNode, flags: int) -> int:
        """A new descriptor of regular file *node*.  Errors: the host's; ESTALE."""
        assert node.parent is not None, "open_file: the root is a directory"
        check_component(node.name)
        try:
            path_fd = os.open(node.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.dir_fd(node.parent))
        except OSError as error:
            raise from_host(error) from None
        _expect(path_fd, node, stat.S_IFREG)
        try:
            # The descriptor is proved: this opens that very file, by no name that could change.
            return _open_quietly(b"/proc/self/fd/%d" % path_fd, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise from_host(error) from None
        finally:
            os.close(path_fd)

    # Changes: only for a tree that the user opened for writing.

    def make(self, parent: HostNode, name: bytes, mode: int, target: bytes) -> None:
        """A new file, directory, symbolic link to *target* or FIFO.  Errors: the host's; EPERM for devices."""
        check_component(name)
        fd = self.dir_fd(parent)
        kind = stat.S_IFMT(mode)
        try:
            if kind == stat.S_IFREG:
                flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o600, dir_fd=fd))
            elif kind == stat.S_IFDIR:
                os.mkdir(name, 0o700, dir_fd=fd)
            elif kind == stat.S_IFLNK:
                os.symlink(target, name, dir_fd=fd)
            elif kind == stat.S_IFIFO:
                os.mkfifo(name, 0o600, dir_fd=fd)
            else:
                raise LinuxError(Errno.EPERM, "no devices and sockets on the host")
        except OSError as error:
            raise from_host(error) from None

    def unlink(self, parent: HostNode, name: bytes) -> None:
        """Remove file *name*."""
        check_component(name)
        try:
            os.unlink(name, dir_fd=self.dir_fd(parent))
        except OSError as error:
            raise from_host(error) from None

    def rmdir(self, parent: HostNode, name: bytes) -> None:
        """Remove directory *name*."""
        check_component(name)
        try:
            os.rmdir(name, dir_fd=self.dir_fd(parent))
        except OSError as error:
            raise from_host(error) from None

    def link(self, node: HostNode, parent: HostNode, name: bytes) -> None:
        """Make *name* in *parent* one more name of file *node*."""
        assert node.parent is not None, "link: the root is a directory"
        check_component(name)
        check_component(node.name)
        source, target = self.dir_fd(node.parent), self.dir_fd(parent)
        try:
            os.link(node.name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            raise from_host(error) from None

    def rename(self, parent: HostNode, name: bytes, new_parent: HostNode, new_name: bytes) -> None:
        """Move entry *name*."""
        check_component(name)
        check_component(new_name)
        try:
            os.rename(name, new_name, src_dir_fd=self.dir_fd(parent), dst_dir_fd=self.dir_fd(new_parent))
        except OSError as error:
            raise from_host(error) from None

    def chown(self, node: HostNode, uid: int, gid: int) -> None:
        """Change owners; -1 leaves one as it is."""
        try:
            if node.parent is None:
                os.chown(b"/proc/self/fd/%d" % self._root_fd, uid, gid)
            else:
                check_component(node.name)
                os.chown(node.name, uid, gid, dir_fd=self.dir_fd(node.parent), follow_symlinks=False)
        except OSError as error:
            raise from_host(error) from None

    def chmod(self, node: HostNode, mode: int) -> None:
        """Change the mode bits of anything but a symbolic link."""
        fd = self._path_fd(node)
        try:
            os.chmod(b"/proc/self/fd/%d" % fd, mode)  # noqa: PTH101 - pathlib has no bytes
        except OSError as error:
            raise from_host(error) from None
        finally:
            os.close(fd)

    def utime(self, node: HostNode, atime: int | None, mtime: int | None) -> None:
        """Change times, in ns; None leaves one as it is."""
        fd = self._path_fd(node)
        try:
            st = os.fstat(fd)
            times = (st.st_atime_ns if atime is None else atime, st.st_mtime_ns if mtime is None else mtime)
            os.utime(b"/proc/self/fd/%d" % fd, ns=times)
        except OSError as error:
            raise from_host(error) from None
        finally:
            os.close(fd)

    def _path_fd(self, node: HostNode) -> int:
        """An O_PATH descriptor of exactly *node*, which is no symbolic link."""
        if node.parent is None:
            return os.dup(self._root_fd)
        check_component(node.name)
        try:
            fd = os.open(node.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.dir_fd(node.parent))
        except OSError as error:
            raise from_host(error) from None
        st = os.fstat(fd)
        if (st.st_dev, st.st_ino) != (node.dev, node.ino) or stat.S_ISLNK(st.st_mode):
            os.close(fd)
            raise LinuxError(Errno.ESTALE, f"{node.name!r} changed on the host")
        return fd

    def forget(self, node: HostNode) -> None:
        """*node* is gone: close what is open of it."""
        for fd in (self._dirs.pop(node, -1), self._files.pop((node, False), -1), self._files.pop((node, True), -1)):
            if fd >= 0:
                os.close(fd)

    def pread(self, node: HostNode, count: int, offset: int) -> bytes:
        """Up to *count* bytes of regular file *node* at *offset*.  Errors: EIO."""
        try:
            return os.pread(self.file_fd(node), count, offset)
        except OSError as error:
            raise LinuxError(Errno.EIO, f"the host could not read: {error}") from None

    def mounts(self) -> list[tuple[int, bytes]]:
        """Device number and type of every file system that the host has mounted (proc_pid_mountinfo(5))."""
        try:
            fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            return []
        mounts = []
        for line in lines:
            fields = line.split()
            major, _, minor = fields[2].partition(b":")
            mounts.append((os.makedev(int(major), int(minor)), fields[fields.index(b"-") + 1]))
        return mounts

    def statvfs(self) -> os.statvfs_result:
        """Sizes of the file system that holds the root."""
        return os.fstatvfs(self._root_fd)


def check_component(name: bytes) -> None:
    """Assert that *name* is one plain component: the guarantee of this module rests on it."""
    assert name not in {b"", b".", b".."}, f"check_component: {name!r} is no plain name"
    assert b"/" not in name, f"check_component: {name!r} has a slash"


def from_host(error: OSError) -> LinuxError:
    """The guest's view of an error of the host."""
    number = error.errno if error.errno is not None else Errno.EIO
    known = number in Errno._value2member_map_
    return LinuxError(Errno(number) if known else Errno.EIO, f"host: {error.strerror}")


def _open_quietly(name: bytes, flags: int, dir_fd: int | None = None) -> int:
    """Open *name* so that reading leaves no trace in its access time, if the host lets us: its owner, or root."""
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:
        return os.open(name, flags, dir_fd=dir_fd)


def _expect(fd: int, node: HostNode, kind: int) -> None:
    """Close *fd* and raise ESTALE unless it is the file that *node* was when it was looked up."""
    st = os.fstat(fd)
    if stat.S_IFMT(st.st_mode) != kind or (st.st_dev, st.st_ino) != (node.dev, node.ino):
        os.close(fd)
        raise LinuxError(Errno.ESTALE, f"{node.name!r} changed on the host")


def _entry_type(entry: "os.DirEntry[str]") -> int:
    """S_IF* of a directory entry as far as the host's getdents told; 0 for the rare kinds."""
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0
