"""Handlers: stat, access, readlink, statfs.  Linux: fs/stat.c, fs/open.c (do_faccessat), fs/statfs.c."""

from collections.abc import Callable
from typing import Final

from minikernel.abi.capability import CAP_VALID_MASK
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import (
    AT_EACCESS,
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_STATX_SYNC_TYPE,
    AT_SYMLINK_NOFOLLOW,
)
from minikernel.abi.stat import (
    STATX_RESERVED,
    Kstat,
    pack_old_stat,
    pack_stat64_i386,
    pack_stat_i386,
    pack_stat_x86_64,
    pack_statx,
)
from minikernel.abi.statfs import Kstatfs, pack_statfs64_i386, pack_statfs_i386, pack_statfs_x86_64
from minikernel.fs.cred import Cred, inode_permission
from minikernel.fs.dentry import Path
from minikernel.fs.file import OpenFile
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_to_user
from minikernel.syscalls.args import (
    AccessMode,
    AtFlags,
    DirFd,
    Fd,
    Int,
    PathOut,
    PathPtr,
    Ptr,
    Size,
    Stat64Out,
    StatOut,
    StatxMask,
    StatxOut,
)
from minikernel.syscalls.entry_types import Entry, full
from minikernel.syscalls.file_common import abi_of, get_name, path_at
from minikernel.task.task import Task

_R_OK, _W_OK, _X_OK = 4, 2, 1
_STATFS64_SIZE: Final = 84


def stat_path(path: Path) -> Kstat:
    """What stat shows of *path*."""
    st = path.inode.stat()
    st.mnt_id = path.mnt.id
    st.root = path.dentry is path.mnt.root
    return st


def _stat_file(file: OpenFile) -> Kstat:
    st = file.stat()
    st.mnt_id = file.f_path.mnt.id
    st.root = file.f_path.dentry is file.f_path.mnt.root
    return st


def _stat_at(task: Task, dirfd: int, address: int, flags: int) -> Kstat:
    """vfs_statx: by name, or with AT_EMPTY_PATH and an empty name (or none at all) by descriptor."""
    empty = bool(flags & AT_EMPTY_PATH)
    if empty and dirfd >= 0 and (address == 0 or not get_name(task, address)):
        return _stat_file(task.files.get_raw(dirfd))
    if empty and address == 0:
        return stat_path(task.fs.cwd)
    return stat_path(path_at(task, dirfd, address, follow=not flags & AT_SYMLINK_NOFOLLOW, empty=empty))


def _packer(task: Task) -> Callable[[Kstat], bytes]:
    return pack_stat_x86_64 if abi_of(task).word == 8 else pack_stat_i386


def sys_stat(_kernel: Kernel, task: Task, path: PathPtr, buf: StatOut) -> int:
    """Attributes of a file: stat(2)."""
    copy_to_user(task.mm, buf, _packer(task)(_stat_at(task, AT_FDCWD, path, 0)))
    return 0


def sys_lstat(_kernel: Kernel, task: Task, path: PathPtr, buf: StatOut) -> int:
    """Attributes of a file or link: lstat(2)."""
    copy_to_user(task.mm, buf, _packer(task)(_stat_at(task, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)))
    return 0


def sys_fstat(_kernel: Kernel, task: Task, fd: Fd, buf: StatOut) -> int:
    """Attributes of an open file: fstat(2)."""
    copy_to_user(task.mm, buf, _packer(task)(_stat_file(task.files.get_raw(fd))))
    return 0


def _check_stat_flags(flags: int) -> None:
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE):
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")


def sys_newfstatat(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, buf: StatOut, flags: AtFlags) -> int:
    """Attributes of a file seen from a directory: newfstatat(2)."""
    _check_stat_flags(flags)
    copy_to_user(task.mm, buf, pack_stat_x86_64(_stat_at(task, dirfd, path, flags)))
    return 0


def sys_stat64(_kernel: Kernel, task: Task, path: PathPtr, buf: Stat64Out) -> int:
    """Attributes with 64-bit sizes: stat64(2) of i386."""
    copy_to_user(task.mm, buf, pack_stat64_i386(_stat_at(task, AT_FDCWD, path, 0)))
    return 0


def sys_lstat64(_kernel: Kernel, task: Task, path: PathPtr, buf: Stat64Out) -> int:
    """The same without following a link: lstat64(2) of i386."""
    copy_to_user(task.mm, buf, pack_stat64_i386(_stat_at(task, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)))
    return 0


def sys_fstat64(_kernel: Kernel, task: Task, fd: Fd, buf: Stat64Out) -> int:
    """The same of an open file: fstat64(2) of i386."""
    copy_to_user(task.mm, buf, pack_stat64_i386(_stat_file(task.files.get_raw(fd))))
    return 0


def sys_fstatat64(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, buf: Stat64Out, flags: AtFlags) -> int:
    """The same seen from a directory: fstatat64(2) of i386."""
    _check_stat_flags(flags)
    copy_to_user(task.mm, buf, pack_stat64_i386(_stat_at(task, dirfd, path, flags)))
    return 0


def sys_oldstat(_kernel: Kernel, task: Task, path: PathPtr, buf: Ptr) -> int:
    """Attributes as Linux 1.0 had them: oldstat(2) of i386."""
    copy_to_user(task.mm, buf, pack_old_stat(_stat_at(task, AT_FDCWD, path, 0)))
    return 0


def sys_oldlstat(_kernel: Kernel, task: Task, path: PathPtr, buf: Ptr) -> int:
    """The same without following a link: oldlstat(2) of i386."""
    copy_to_user(task.mm, buf, pack_old_stat(_stat_at(task, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)))
    return 0


def sys_oldfstat(_kernel: Kernel, task: Task, fd: Fd, buf: Ptr) -> int:
    """The same of an open file: oldfstat(2) of i386."""
    copy_to_user(task.mm, buf, pack_old_stat(_stat_file(task.files.get_raw(fd))))
    return 0


def sys_statx(
    _kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, flags: AtFlags, mask: StatxMask, buf: StatxOut
) -> int:
    """Extended attributes of a file: statx(2).  Errors: EINVAL for a reserved mask or unknown flags."""
    if mask & STATX_RESERVED or flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE:
        raise LinuxError(Errno.EINVAL, f"statx mask {mask:#x} flags {flags:#x}")
    _check_stat_flags(flags)
    copy_to_user(task.mm, buf, pack_statx(_stat_at(task, dirfd, path, flags)))
    return 0


# ---- access, readlink


def _real_cred(cred: Cred) -> Cred:
    """The credentials access(2) asks for: the real ids, with capabilities only for a real root."""
    real = cred.copy()
    real.fsuid, real.fsgid = cred.uid, cred.gid
    real.cap_effective = cred.cap_permitted & CAP_VALID_MASK if cred.uid == 0 else 0
    return real


def _access(task: Task, dirfd: int, address: int, mode: int, flags: int) -> int:
    """do_faccessat."""
    if mode & ~(_R_OK | _W_OK | _X_OK):
        raise LinuxError(Errno.EINVAL, f"mode {mode:#x}")
    if flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    own = task.cred
    if not flags & AT_EACCESS:
        task.cred = _real_cred(own)
    try:
        path = path_at(task, dirfd, address, follow=not flags & AT_SYMLINK_NOFOLLOW, empty=bool(flags & AT_EMPTY_PATH))
        if mode:
            inode_permission(path.inode, mode, task.cred)
    finally:
        task.cred = own
    return 0


def sys_access(_kernel: Kernel, task: Task, path: PathPtr, mode: AccessMode) -> int:
    """Whether the real user may use a file: access(2)."""
    return _access(task, AT_FDCWD, path, mode, 0)


def sys_faccessat(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, mode: AccessMode) -> int:
    """The same seen from a directory: faccessat(2)."""
    return _access(task, dirfd, path, mode, 0)


def sys_faccessat2(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, mode: AccessMode, flags: AtFlags) -> int:
    """The same with flags: faccessat2(2)."""
    return _access(task, dirfd, path, mode, flags)


def _readlink(task: Task, dirfd: int, address: int, buf: int, size: int) -> int:
    """do_readlinkat.  Errors: EINVAL: no room, or no link; ENOENT: an empty name of something that is no link."""
    if size <= 0:
        raise LinuxError(Errno.EINVAL, f"size {size}")
    name = get_name(task, address)
    path = path_at(task, dirfd, address, follow=False, empty=True)
    if not path.inode.is_symlink:
        raise LinuxError(Errno.EINVAL if name else Errno.ENOENT, "not a symbolic link")
    target = path.inode.readlink()[:size]
    copy_to_user(task.mm, buf, target)
    return len(target)


def sys_readlink(_kernel: Kernel, task: Task, path: PathPtr, buf: PathOut, size: Int) -> int:
    """Where a symbolic link points: readlink(2)."""
    return _readlink(task, AT_FDCWD, path, buf, size)


def sys_readlinkat(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, buf: PathOut, size: Int) -> int:
    """The same seen from a directory: readlinkat(2)."""
    return _readlink(task, dirfd, path, buf, size)


# ---- statfs


def _statfs_of(path: Path) -> Kstatfs:
    st = path.mnt.sb.statfs()
    st.flags = path.mnt.sb.mount_flags()
    return st


def _put_statfs(task: Task, buf: int, st: Kstatfs) -> int:
    copy_to_user(task.mm, buf, pack_statfs_x86_64(st) if abi_of(task).word == 8 else pack_statfs_i386(st))
    return 0


def sys_statfs(_kernel: Kernel, task: Task, path: PathPtr, buf: Ptr) -> int:
    """The file system of a name: statfs(2)."""
    return _put_statfs(task, buf, _statfs_of(path_at(task, AT_FDCWD, path)))


def sys_fstatfs(_kernel: Kernel, task: Task, fd: Fd, buf: Ptr) -> int:
    """The file system of a descriptor: fstatfs(2)."""
    return _put_statfs(task, buf, _statfs_of(task.files.get_raw(fd).f_path))


def _check_statfs64_size(size: int) -> None:
    if size not in {_STATFS64_SIZE, _STATFS64_SIZE + 4}:
        raise LinuxError(Errno.EINVAL, f"struct statfs64 of {size} bytes")


def sys_statfs64(_kernel: Kernel, task: Task, path: PathPtr, size: Size, buf: Ptr) -> int:
    """The file system of a name: statfs64(2) of i386."""
    _check_statfs64_size(size)
    copy_to_user(task.mm, buf, pack_statfs64_i386(_statfs_of(path_at(task, AT_FDCWD, path))))
    return 0


def sys_fstatfs64(_kernel: Kernel, task: Task, fd: Fd, size: Size, buf: Ptr) -> int:
    """The file system of a descriptor: fstatfs64(2) of i386."""
    _check_statfs64_size(size)
    copy_to_user(task.mm, buf, pack_statfs64_i386(_statfs_of(task.files.get_raw(fd).f_path)))
    return 0


ENTRIES: Final[tuple[Entry, ...]] = (
    full("stat", sys_stat),
    full("lstat", sys_lstat),
    full("fstat", sys_fstat),
    full("newfstatat", sys_newfstatat, abi="x86-64"),
    full("stat64", sys_stat64, abi="i386"),
    full("lstat64", sys_lstat64, abi="i386"),
    full("fstat64", sys_fstat64, abi="i386"),
    full("fstatat64", sys_fstatat64, abi="i386"),
    full("oldstat", sys_oldstat, abi="i386"),
    full("oldlstat", sys_oldlstat, abi="i386"),
    full("oldfstat", sys_oldfstat, abi="i386"),
    full("statx", sys_statx),
    full("access", sys_access),
    full("faccessat", sys_faccessat),
    full("faccessat2", sys_faccessat2),
    full("readlink", sys_readlink),
    full("readlinkat", sys_readlinkat),
    full("statfs", sys_statfs),
    full("fstatfs", sys_fstatfs),
    full("statfs64", sys_statfs64, abi="i386"),
    full("fstatfs64", sys_fstatfs64, abi="i386"),
)
