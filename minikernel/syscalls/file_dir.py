"""Handlers: directories and names.  Linux: fs/namei.c, fs/readdir.c, fs/open.c, fs/d_path.c."""

from collections.abc import Callable
from typing import Final

from minikernel.abi.capability import CAP_DAC_READ_SEARCH, CAP_SYS_CHROOT
from minikernel.abi.dirent import pack_dirent, pack_dirent64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, PATH_MAX
from minikernel.fs import dirops
from minikernel.fs.cred import MAY_EXEC, inode_permission
from minikernel.fs.dentry import Path, prepend_path
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_to_user
from minikernel.syscalls.args import AtFlags, Dev, DirFd, Fd, Mode, PathOut, PathPtr, Ptr, RenameFlags, Size, UInt
from minikernel.syscalls.entry_types import Entry, full
from minikernel.syscalls.file_common import abi_of, get_name, path_at, start_of
from minikernel.task.task import Task

# ---- making and removing


def _mkdir(task: Task, dirfd: int, address: int, mode: int) -> int:
    name = get_name(task, address)
    dirops.mkdir(task.fs, task.cred, name, mode, start=start_of(task, dirfd, name))
    return 0


def sys_mkdir(_kernel: Kernel, task: Task, path: PathPtr, mode: Mode) -> int:
    """Make a directory: mkdir(2)."""
    return _mkdir(task, AT_FDCWD, path, mode)


def sys_mkdirat(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, mode: Mode) -> int:
    """The same seen from a directory: mkdirat(2)."""
    return _mkdir(task, dirfd, path, mode)


def _mknod(task: Task, dirfd: int, address: int, mode: int, dev: int) -> int:
    name = get_name(task, address)
    dirops.mknod(task.fs, task.cred, name, mode, dev, start=start_of(task, dirfd, name))
    return 0


def sys_mknod(_kernel: Kernel, task: Task, path: PathPtr, mode: Mode, dev: Dev) -> int:
    """Make a file of any type: mknod(2)."""
    return _mknod(task, AT_FDCWD, path, mode, dev)


def sys_mknodat(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, mode: Mode, dev: Dev) -> int:
    """The same seen from a directory: mknodat(2)."""
    return _mknod(task, dirfd, path, mode, dev)


def _unlink(task: Task, dirfd: int, address: int) -> int:
    name = get_name(task, address)
    dirops.unlink(task.fs, task.cred, name, start=start_of(task, dirfd, name))
    return 0


def _rmdir(task: Task, dirfd: int, address: int) -> int:
    name = get_name(task, address)
    dirops.rmdir(task.fs, task.cred, name, start=start_of(task, dirfd, name))
    return 0


def sys_unlink(_kernel: Kernel, task: Task, path: PathPtr) -> int:
    """Remove a name: unlink(2)."""
    return _unlink(task, AT_FDCWD, path)


def sys_rmdir(_kernel: Kernel, task: Task, path: PathPtr) -> int:
    """Remove a directory: rmdir(2)."""
    return _rmdir(task, AT_FDCWD, path)


def sys_unlinkat(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, flags: AtFlags) -> int:
    """Either, seen from a directory: unlinkat(2).  Errors: EINVAL for unknown flags."""
    if flags & ~AT_REMOVEDIR:
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    return _rmdir(task, dirfd, path) if flags & AT_REMOVEDIR else _unlink(task, dirfd, path)


def _symlink(task: Task, target: int, dirfd: int, address: int) -> int:
    text = get_name(task, target)
    name = get_name(task, address)
    dirops.symlink(task.fs, task.cred, text, name, start=start_of(task, dirfd, name))
    return 0


def sys_symlink(_kernel: Kernel, task: Task, target: PathPtr, path: PathPtr) -> int:
    """Make a symbolic link: symlink(2)."""
    return _symlink(task, target, AT_FDCWD, path)


def sys_symlinkat(_kernel: Kernel, task: Task, target: PathPtr, dirfd: DirFd, path: PathPtr) -> int:
    """The same seen from a directory: symlinkat(2)."""
    return _symlink(task, target, dirfd, path)


def _link(task: Task, olddirfd: int, old: int, newdirfd: int, new: int, flags: int) -> int:
    """do_linkat."""
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    if flags & AT_EMPTY_PATH and not task.cred.capable(CAP_DAC_READ_SEARCH):
        raise LinuxError(Errno.ENOENT, "AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH")
    source = path_at(task, olddirfd, old, follow=bool(flags & AT_SYMLINK_FOLLOW), empty=bool(flags & AT_EMPTY_PATH))
    name = get_name(task, new)
    dirops.link(task.fs, task.cred, source, name, start=start_of(task, newdirfd, name))
    return 0


def sys_link(_kernel: Kernel, task: Task, old: PathPtr, new: PathPtr) -> int:
    """Make one more name: link(2)."""
    return _link(task, AT_FDCWD, old, AT_FDCWD, new, 0)


def sys_linkat(
    _kernel: Kernel, task: Task, olddirfd: DirFd, old: PathPtr, newdirfd: DirFd, new: PathPtr, flags: AtFlags
) -> int:
    """The same seen from directories: linkat(2)."""
    return _link(task, olddirfd, old, newdirfd, new, flags)


def _rename(task: Task, olddirfd: int, old: int, newdirfd: int, new: int, flags: int) -> int:
    old_name, new_name = get_name(task, old), get_name(task, new)
    dirops.rename(
        task.fs,
        task.cred,
        old_name,
        new_name,
        old_start=start_of(task, olddirfd, old_name),
        new_start=start_of(task, newdirfd, new_name),
        flags=flags,
    )
    return 0


def sys_rename(_kernel: Kernel, task: Task, old: PathPtr, new: PathPtr) -> int:
    """Move a name: rename(2)."""
    return _rename(task, AT_FDCWD, old, AT_FDCWD, new, 0)


def sys_renameat(_kernel: Kernel, task: Task, olddirfd: DirFd, old: PathPtr, newdirfd: DirFd, new: PathPtr) -> int:
    """The same seen from directories: renameat(2)."""
    return _rename(task, olddirfd, old, newdirfd, new, 0)


def sys_renameat2(
    _kernel: Kernel, task: Task, olddirfd: DirFd, old: PathPtr, newdirfd: DirFd, new: PathPtr, flags: RenameFlags
) -> int:
    """The same with flags: renameat2(2)."""
    return _rename(task, olddirfd, old, newdirfd, new, flags)


# ---- where we are


def _chdir(task: Task, path: Path) -> int:
    if not path.inode.is_dir:
        raise LinuxError(Errno.ENOTDIR, "not a directory")
    inode_permission(path.inode, MAY_EXEC, task.cred)
    task.fs.cwd = path
    return 0


def sys_chdir(_kernel: Kernel, task: Task, path: PathPtr) -> int:
    """Change the working directory: chdir(2)."""
    return _chdir(task, path_at(task, AT_FDCWD, path))


def sys_fchdir(_kernel: Kernel, task: Task, fd: Fd) -> int:
    """Change it to an open directory: fchdir(2)."""
    return _chdir(task, task.files.get_raw(fd).f_path)


def sys_chroot(_kernel: Kernel, task: Task, path: PathPtr) -> int:
    """Change the root: chroot(2).  Errors: ENOTDIR, EACCES, EPERM."""
    place = path_at(task, AT_FDCWD, path)
    if not place.inode.is_dir:
        raise LinuxError(Errno.ENOTDIR, "not a directory")
    inode_permission(place.inode, MAY_EXEC, task.cred)
    if not task.cred.capable(CAP_SYS_CHROOT):
        raise LinuxError(Errno.EPERM, "chroot needs CAP_SYS_CHROOT")
    task.fs.root = place
    return 0


def sys_getcwd(_kernel: Kernel, task: Task, buf: PathOut, size: Size) -> int:
    """The working directory's name with its NUL: getcwd(2).  Errors: ENOENT: it was removed; ERANGE."""
    cwd = task.fs.cwd
    if cwd.dentry.unhashed:
        raise LinuxError(Errno.ENOENT, "the working directory was removed")
    name, reachable = prepend_path(cwd, task.fs.root)
    text = (name if reachable else b"(unreachable)" + name) + b"\0"
    if len(text) > PATH_MAX:
        raise LinuxError(Errno.ENAMETOOLONG, "the working directory's name")
    if len(text) > size:
        raise LinuxError(Errno.ERANGE, f"{len(text)} bytes")
    copy_to_user(task.mm, buf, text)
    return len(text)


def sys_umask(_kernel: Kernel, task: Task, mask: Mode) -> int:
    """Set the mask of new files; the old one: umask(2)."""
    old = task.fs.umask
    task.fs.umask = mask & 0o777
    return old


# ---- reading directories


def _getdents(task: Task, fd: int, buf: int, size: int, pack: Callable[[int, int, int, bytes], bytes]) -> int:
    """iterate_dir: as many whole entries as fit.  Errors: EINVAL: not even one fits; ENOTDIR, ENOENT, EBADF."""
    file = task.files.get(fd)
    parts: list[bytes] = []
    room, pos = size, file.pos
    entries = file.read_dir()
    for name, ino, kind in entries:
        record = pack(ino, pos + 1, kind, name)
        if len(record) > room:
            break
        room -= len(record)
        pos += 1
        parts.append(record)
    if entries and not parts:
        raise LinuxError(Errno.EINVAL, f"{size} bytes are too few")
    copy_to_user(task.mm, buf, b"".join(parts))
    file.pos = pos
    return size - room


def sys_getdents(_kernel: Kernel, task: Task, fd: Fd, buf: Ptr, count: UInt) -> int:
    """Directory entries: getdents(2)."""
    word = abi_of(task).word
    if word == 4:
        return _getdents(task, fd, buf, count, _pack_dirent32)
    return _getdents(task, fd, buf, count, lambda ino, offset, kind, name: pack_dirent(ino, offset, kind, name, 8))


def _pack_dirent32(ino: int, offset: int, kind: int, name: bytes) -> bytes:
    if ino > 0xFFFF_FFFF:
        raise LinuxError(Errno.EOVERFLOW, "an inode number does not fit struct linux_dirent")
    return pack_dirent(ino, offset, kind, name, 4)


def sys_getdents64(_kernel: Kernel, task: Task, fd: Fd, buf: Ptr, count: UInt) -> int:
    """Directory entries with 64-bit numbers: getdents64(2)."""
    return _getdents(task, fd, buf, count, pack_dirent64)


ENTRIES: Final[tuple[Entry, ...]] = (
    full("mkdir", sys_mkdir),
    full("mkdirat", sys_mkdirat),
    full("mknod", sys_mknod),
    full("mknodat", sys_mknodat),
    full("unlink", sys_unlink),
    full("rmdir", sys_rmdir),
    full("unlinkat", sys_unlinkat),
    full("symlink", sys_symlink),
    full("symlinkat", sys_symlinkat),
    full("link", sys_link),
    full("linkat", sys_linkat),
    full("rename", sys_rename),
    full("renameat", sys_renameat),
    full("renameat2", sys_renameat2),
    full("chdir", sys_chdir),
    full("fchdir", sys_fchdir),
    full("chroot", sys_chroot),
    full("getcwd", sys_getcwd),
    full("umask", sys_umask),
    full("getdents", sys_getdents),
    full("getdents64", sys_getdents64),
)
