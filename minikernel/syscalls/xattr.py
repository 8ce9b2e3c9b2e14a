"""Handlers: extended attributes.  Linux: fs/xattr.c."""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import (
    AT_FDCWD,
    XATTR_CREATE,
    XATTR_LIST_MAX,
    XATTR_NAME_MAX,
    XATTR_REPLACE,
    XATTR_SIZE_MAX,
)
from minikernel.fs import xattr
from minikernel.fs.inode import Inode
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user, strncpy_from_user
from minikernel.syscalls.args import BufIn, Fd, Int, PathPtr, Ptr, Size, StrPtr
from minikernel.syscalls.entry_types import Entry, partial
from minikernel.syscalls.file_common import path_at
from minikernel.task.task import Task


def _name(task: Task, address: int) -> bytes:
    """An attribute's name (import_xattr_name).  Errors: ERANGE: empty or longer than 255 bytes; EFAULT."""
    try:
        name = strncpy_from_user(task.mm, address, XATTR_NAME_MAX + 1)
    except LinuxError as error:
        if error.errno == Errno.ENAMETOOLONG:
            raise LinuxError(Errno.ERANGE, "the attribute's name is too long") from None
        raise
    if not name:
        raise LinuxError(Errno.ERANGE, "an empty name")
    return name


def _inode(task: Task, address: int, *, follow: bool) -> Inode:
    return path_at(task, AT_FDCWD, address, follow=follow).inode


def _give(task: Task, data: bytes, address: int, size: int) -> int:
    """Store an answer of unknown length; *size* 0 asks for the length alone.  Errors: ERANGE, EFAULT."""
    if not size:
        return len(data)
    if len(data) > size:
        raise LinuxError(Errno.ERANGE, f"{len(data)} bytes")
    copy_to_user(task.mm, address, data)
    return len(data)


def _set(task: Task, inode: Inode, name: int, value: int, size: int, flags: int) -> int:
    if flags & ~(XATTR_CREATE | XATTR_REPLACE):
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    text = _name(task, name)
    if size > XATTR_SIZE_MAX:
        raise LinuxError(Errno.E2BIG, f"{size} bytes")
    xattr.setxattr(inode, text, copy_from_user(task.mm, value, size), flags, task.cred)
    return 0


def sys_setxattr(_kernel: Kernel, task: Task, path: PathPtr, name: StrPtr, value: BufIn, size: Size, flags: Int) -> int:
    """Set an attribute: setxattr(2)."""
    return _set(task, _inode(task, path, follow=True), name, value, size, flags)


def sys_lsetxattr(
    _kernel: Kernel, task: Task, path: PathPtr, name: StrPtr, value: BufIn, size: Size, flags: Int
) -> int:
    """Set an attribute of a file or link: lsetxattr(2)."""
    return _set(task, _inode(task, path, follow=False), name, value, size, flags)


def sys_fsetxattr(_kernel: Kernel, task: Task, fd: Fd, name: StrPtr, value: BufIn, size: Size, flags: Int) -> int:
    """Set an attribute of an open file: fsetxattr(2)."""
    return _set(task, task.files.get(fd).inode, name, value, size, flags)


def _get(task: Task, inode: Inode, name: int, value: int, size: int) -> int:
    return _give(task, xattr.getxattr(inode, _name(task, name), task.cred), value, min(size, XATTR_SIZE_MAX))


def sys_getxattr(_kernel: Kernel, task: Task, path: PathPtr, name: StrPtr, value: Ptr, size: Size) -> int:
    """Read an attribute: getxattr(2)."""
    return _get(task, _inode(task, path, follow=True), name, value, size)


def sys_lgetxattr(_kernel: Kernel, task: Task, path: PathPtr, name: StrPtr, value: Ptr, size: Size) -> int:
    """Read an attribute of a file or link: lgetxattr(2)."""
    return _get(task, _inode(task, path, follow=False), name, value, size)


def sys_fgetxattr(_kernel: Kernel, task: Task, fd: Fd, name: StrPtr, value: Ptr, size: Size) -> int:
    """Read an attribute of an open file: fgetxattr(2)."""
    return _get(task, task.files.get(fd).inode, name, value, size)


def _list(task: Task, inode: Inode, address: int, size: int) -> int:
    return _give(task, xattr.listxattr(inode, task.cred), address, min(size, XATTR_LIST_MAX))


def sys_listxattr(_kernel: Kernel, task: Task, path: PathPtr, buf: Ptr, size: Size) -> int:
    """The names of all attributes: listxattr(2)."""
    return _list(task, _inode(task, path, follow=True), buf, size)


def sys_llistxattr(_kernel: Kernel, task: Task, path: PathPtr, buf: Ptr, size: Size) -> int:
    """Those of a file or link: llistxattr(2)."""
    return _list(task, _inode(task, path, follow=False), buf, size)


def sys_flistxattr(_kernel: Kernel, task: Task, fd: Fd, buf: Ptr, size: Size) -> int:
    """Those of an open file: flistxattr(2)."""
    return _list(task, task.files.get(fd).inode, buf, size)


def _remove(task: Task, inode: Inode, name: int) -> int:
    xattr.removexattr(inode, _name(task, name), task.cred)
    return 0


def sys_removexattr(_kernel: Kernel, task: Task, path: PathPtr, name: StrPtr) -> int:
    """Remove an attribute: removexattr(2)."""
    return _remove(task, _inode(task, path, follow=True), name)


def sys_lremovexattr(_kernel: Kernel, task: Task, path: PathPtr, name: StrPtr) -> int:
    """Remove one of a file or link: lremovexattr(2)."""
    return _remove(task, _inode(task, path, follow=False), name)


def sys_fremovexattr(_kernel: Kernel, task: Task, fd: Fd, name: StrPtr) -> int:
    """Remove one of an open file: fremovexattr(2)."""
    return _remove(task, task.files.get(fd).inode, name)


_NOTE: Final = "kept in guest memory; the host's own attributes are not shown"

ENTRIES: Final[tuple[Entry, ...]] = (
    partial("setxattr", sys_setxattr, _NOTE),
    partial("lsetxattr", sys_lsetxattr, _NOTE),
    partial("fsetxattr", sys_fsetxattr, _NOTE),
    partial("getxattr", sys_getxattr, _NOTE),
    partial("lgetxattr", sys_lgetxattr, _NOTE),
    partial("fgetxattr", sys_fgetxattr, _NOTE),
    partial("listxattr", sys_listxattr, _NOTE),
    partial("llistxattr", sys_llistxattr, _NOTE),
    partial("flistxattr", sys_flistxattr, _NOTE),
    partial("removexattr", sys_removexattr, _NOTE),
    partial("lremovexattr", sys_lremovexattr, _NOTE),
    partial("fremovexattr", sys_fremovexattr, _NOTE),
)
