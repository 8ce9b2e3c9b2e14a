"""Extended attributes, kept in memory.

Linux: fs/xattr.c (xattr_permission, the xattr handlers of fs/posix_acl.c and security/commoncap.c).
"""

from typing import Final

from minikernel.abi.capability import CAP_SETFCAP, CAP_SYS_ADMIN
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import XATTR_CREATE, XATTR_REPLACE
from minikernel.abi.stat import S_ISVTX
from minikernel.fs.cred import MAY_READ, MAY_WRITE, Cred, inode_permission, owner_or_capable
from minikernel.fs.inode import Inode

_USER: Final = b"user."
_TRUSTED: Final = b"trusted."
_SECURITY: Final = b"security."
_CAPABILITY: Final = b"security.capability"


def _check(inode: Inode, name: bytes, mask: int, cred: Cred) -> None:
    """xattr_permission.  Errors: EOPNOTSUPP: no such kind; EPERM, ENODATA, EACCES, EROFS."""
    writing = mask & MAY_WRITE
    if writing and inode.sb.readonly:
        raise LinuxError(Errno.EROFS, "the file system is read-only")
    if name.startswith(_SECURITY):
        if writing and not cred.capable(CAP_SETFCAP if name == _CAPABILITY else CAP_SYS_ADMIN):
            raise LinuxError(Errno.EPERM, "a security attribute")
        return
    if name.startswith(_TRUSTED):
        if not cred.capable(CAP_SYS_ADMIN):
            raise LinuxError(Errno.EPERM if writing else Errno.ENODATA, "a trusted attribute")
        return
    if not name.startswith(_USER) or len(name) == len(_USER):
        raise LinuxError(Errno.EOPNOTSUPP, f"attribute {name!r}")
    if not inode.is_reg and not inode.is_dir:
        raise LinuxError(Errno.EPERM if writing else Errno.ENODATA, "user attributes are for files and directories")
    if inode.is_dir and inode.mode & S_ISVTX and writing and not owner_or_capable(inode, cred):
        raise LinuxError(Errno.EPERM, "the directory is sticky")
    inode_permission(inode, mask, cred)


def getxattr(inode: Inode, name: bytes, cred: Cred) -> bytes:
    """The value of attribute *name*.  Errors: ENODATA, and _check's."""
    _check(inode, name, MAY_READ, cred)
    value = inode.xattrs.get(name) if inode.xattrs else None
    if value is None:
        raise LinuxError(Errno.ENODATA, f"no attribute {name!r}")
    return value


def setxattr(inode: Inode, name: bytes, value: bytes, flags: int, cred: Cred) -> None:
    """Set attribute *name*.  Errors: EEXIST with XATTR_CREATE, ENODATA with XATTR_REPLACE, and _check's."""
    _check(inode, name, MAY_WRITE, cred)
    held = inode.xattrs is not None and name in inode.xattrs
    if flags & XATTR_CREATE and held:
        raise LinuxError(Errno.EEXIST, f"attribute {name!r}")
    if flags & XATTR_REPLACE and not held:
        raise LinuxError(Errno.ENODATA, f"no attribute {name!r}")
    if inode.xattrs is None:
        inode.xattrs = {}
    inode.xattrs[name] = value
    inode.ctime = inode.sb.now()


def listxattr(inode: Inode, cred: Cred) -> bytes:
    """Every name that *cred* may see, each with its NUL."""
    names = sorted(inode.xattrs) if inode.xattrs else []
    trusted = cred.capable(CAP_SYS_ADMIN)
    return b"".join(name + b"\0" for name in names if trusted or not name.startswith(_TRUSTED))


def removexattr(inode: Inode, name: bytes, cred: Cred) -> None:
    """Remove attribute *name*.  Errors: ENODATA, and _check's."""
    _check(inode, name, MAY_WRITE, cred)
    if not inode.xattrs or name not in inode.xattrs:
        raise LinuxError(Errno.ENODATA, f"no attribute {name!r}")
    del inode.xattrs[name]
    inode.ctime = inode.sb.now()
