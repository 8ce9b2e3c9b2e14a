# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH115, PTH116, PTH208, PTH211
# Names are bytes here, which pathlib does not take.
"""The same file operation on our tree and on a directory of the host, and how their answers are compared."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minikernel.abi.errno import LinuxError
from minikernel.abi.fcntl import O_ACCMODE, O_APPEND, O_RDONLY
from minikernel.abi.stat import S_IFDIR, S_IFMT
from minikernel.fs import attr, dirops
from minikernel.fs.cred import Cred, inode_permission
from minikernel.fs.namei import LOOKUP_FOLLOW, FsStruct, lookup_at
from minikernel.fs.open import do_open

# Deep enough that no name of the tests leads above the host's directory.
DEEP = b"1/2/3/4/5/6"
HOST_FLAGS = ("O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_DIRECTORY", "O_NOFOLLOW", "O_PATH")


@dataclass(frozen=True)
class Failed:
    """An operation ended with this errno."""

    name: str


def attempt(call: Callable[[], Any]) -> Any:
    """What *call* gives, or the error it ends with."""
    try:
        return call()
    except LinuxError as error:
        return Failed(error.errno.name)
    except OSError as error:
        return Failed(errno.errorcode[error.errno or 0])


def populate(root: Path) -> Path:
    """A small tree to start from; the directory in which the tests work."""
    work = root / os.fsdecode(DEEP)
    work.mkdir(parents=True)
    (work / "a").write_bytes(b"alpha")
    (work / "d").mkdir()
    (work / "d" / "b").write_bytes(b"beta" * 2000)
    (work / "d" / "e").mkdir()
    (work / "d" / "e" / "c").write_bytes(b"")
    os.link(work / "a", work / "d" / "a2")
    (work / "s").symlink_to("a")
    (work / "t").symlink_to("d/e")
    (work / "loop").symlink_to("loop")
    return work


class Ours:
    """Operations on our tree."""

    def __init__(self, fs: FsStruct, cred: Cred, work: bytes = b"/" + DEEP) -> None:
        self.fs = fs
        self.cred = cred
        self.fs.cwd = lookup_at(fs, Cred(), work)

    def mkdir(self, name: bytes, mode: int) -> None:
        dirops.mkdir(self.fs, self.cred, name, mode)

    def rmdir(self, name: bytes) -> None:
        dirops.rmdir(self.fs, self.cred, name)

    def unlink(self, name: bytes) -> None:
        dirops.unlink(self.fs, self.cred, name)

    def rename(self, old: bytes, new: bytes) -> None:
        dirops.rename(self.fs, self.cred, old, new)

    def link(self, old: bytes, new: bytes) -> None:
        source = lookup_at(self.fs, self.cred, old, flags=0)
        dirops.link(self.fs, self.cred, source, new)

    def symlink(self, target: bytes, name: bytes) -> None:
        dirops.symlink(self.fs, self.cred, target, name)

    def readlink(self, name: bytes) -> bytes:
        return lookup_at(self.fs, self.cred, name, flags=0).inode.readlink()

    def write(self, name: bytes, flags: int, mode: int, data: bytes) -> bytes:
        """Open, write, read all from the start; what is there then."""
        file = do_open(self.fs, self.cred, name, flags, mode)
        try:
            if flags & os.O_PATH:
                return b"path"
            if flags & O_ACCMODE != O_RDONLY:
                file.write(data)
            return file.pread(1 << 20, 0) if file.readable else b"written"
        finally:
            file.put_file()

    def listdir(self, name: bytes) -> list[bytes]:
        file = do_open(self.fs, self.cred, name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(entry for entry, _, _ in file.read_dir())[2:]
        finally:
            file.put_file()

    def chmod(self, name: bytes, mode: int) -> None:
        attr.chmod(lookup_at(self.fs, self.cred, name).inode, mode, self.cred)

    def truncate(self, name: bytes, size: int) -> None:
        attr.vfs_truncate(lookup_at(self.fs, self.cred, name).inode, size, self.cred)

    def access(self, name: bytes, mode: int) -> None:
        inode = lookup_at(self.fs, self.cred, name).inode
        if mode:
            inode_permission(inode, mode, self.cred)

    def stat(self, name: bytes, *, follow: bool) -> tuple[int, ...]:
        st = lookup_at(self.fs, self.cred, name, flags=LOOKUP_FOLLOW if follow else 0).inode.stat()
        return shown(st.mode, st.nlink, st.uid, st.gid, st.size)


def shown(mode: int, nlink: int, uid: int, gid: int, size: int) -> tuple[int, ...]:
    """The attributes that any Linux file system agrees on: not a directory's size."""
    return mode, nlink, uid, gid, 0 if mode & S_IFMT == S_IFDIR else size


class Host:
    """The same operations on the host, as user *uid* if that is another than ours."""

    def __init__(self, work: Path, uid: int) -> None:
        self.work = os.fsencode(work) + b"/"
        self.uid = uid

    def name(self, name: bytes) -> bytes:
        """An absolute name of the host."""
        return self.work + name if name else b""

    def run(self, call: Callable[[], Any]) -> Any:
        """*call* as that user."""
        if self.uid == os.geteuid():
            return attempt(call)
        os.setegid(self.uid)
        os.seteuid(self.uid)
        try:
            return attempt(call)
        finally:
            os.seteuid(0)
            os.setegid(0)

    def mkdir(self, name: bytes, mode: int) -> None:
        os.mkdir(self.name(name), mode)

    def rmdir(self, name: bytes) -> None:
        os.rmdir(self.name(name))

    def unlink(self, name: bytes) -> None:
        os.unlink(self.name(name))

    def rename(self, old: bytes, new: bytes) -> None:
        os.rename(self.name(old), self.name(new))

    def link(self, old: bytes, new: bytes) -> None:
        os.link(self.name(old), self.name(new), follow_symlinks=False)

    def symlink(self, target: bytes, name: bytes) -> None:
        os.symlink(target, self.name(name))

    def readlink(self, name: bytes) -> bytes:
        return os.readlink(self.name(name))

    def write(self, name: bytes, flags: int, mode: int, data: bytes) -> bytes:
        fd = os.open(self.name(name), flags, mode)
        try:
            if flags & os.O_PATH:
                return b"path"
            access = flags & os.O_ACCMODE
            if access != os.O_RDONLY:
                os.write(fd, data)
            return os.pread(fd, 1 << 20, 0) if access != os.O_WRONLY else b"written"
        finally:
            os.close(fd)

    def listdir(self, name: bytes) -> list[bytes]:
        fd = os.open(self.name(name), os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(os.fsencode(entry) for entry in os.listdir(fd))
        finally:
            os.close(fd)

    def chmod(self, name: bytes, mode: int) -> None:
        os.chmod(self.name(name), mode)

    def truncate(self, name: bytes, size: int) -> None:
        os.truncate(self.name(name), size)

    def access(self, name: bytes, mode: int) -> None:
        if not os.access(self.name(name), mode, effective_ids=True):
            os.stat(self.name(name))
            raise OSError(errno.EACCES, "access")

    def stat(self, name: bytes, *, follow: bool) -> tuple[int, ...]:
        st = os.stat(self.name(name), follow_symlinks=follow)
        return shown(st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size)


assert O_APPEND == os.O_APPEND
