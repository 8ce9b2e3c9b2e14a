"""Changing attributes: chmod, chown, utimes, truncate.

Linux: fs/attr.c (setattr_prepare, notify_change), fs/open.c, fs/utimes.c.
"""

from typing import Final

from minikernel.abi.capability import CAP_CHOWN, CAP_FSETID
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import S_IALLUGO, S_IFDIR, S_IFMT, S_ISGID, S_ISUID, S_IXGRP
from minikernel.fs.cred import (
    MAY_WRITE,
    Cred,
    inode_permission,
    killed_privileges,
    owner_or_capable,
)
from minikernel.fs.inode import Attributes, Inode

UTIME_NOW: Final = (1 << 30) - 1
UTIME_OMIT: Final = (1 << 30) - 2


def check_writable_mount(inode: Inode) -> None:
    """mnt_want_write.  Errors: EROFS."""
    if inode.sb.readonly:
        raise LinuxError(Errno.EROFS, "the file system is read-only")


def chmod(inode: Inode, mode: int, cred: Cred) -> None:
    """chmod_common.  Errors: EROFS; EPERM for other people's files; EOPNOTSUPP for symbolic links."""
    check_writable_mount(inode)
    if not owner_or_capable(inode, cred):
        raise LinuxError(Errno.EPERM, "not the owner")
    if inode.is_symlink:
        raise LinuxError(Errno.EOPNOTSUPP, "a symbolic link has no mode of its own")
    mode &= S_IALLUGO
    if mode & S_ISGID and not cred.in_group(inode.gid) and not cred.capable(CAP_FSETID):
        mode &= ~S_ISGID
    attrs = Attributes(mode=mode)
    attrs.ctime = inode.sb.now()
    inode.setattr(attrs)


def chown(inode: Inode, uid: int | None, gid: int | None, cred: Cred) -> None:
    """chown_common: None leaves the number as it is.  Errors: EROFS; EPERM without CAP_CHOWN."""
    check_writable_mount(inode)
    able = cred.capable(CAP_CHOWN)
    owner = cred.fsuid == inode.uid
    if uid is not None and not able and not (owner and uid == inode.uid):
        raise LinuxError(Errno.EPERM, "chown needs CAP_CHOWN")
    if gid is not None and not able and not (owner and (gid == inode.gid or cred.in_group(gid))):
        raise LinuxError(Errno.EPERM, "chgrp to a group that is not ours")
    attrs = Attributes(uid=uid, gid=gid)
    attrs.ctime = inode.sb.now()
    if inode.mode & S_IFMT != S_IFDIR and inode.mode & (S_ISUID | S_ISGID):
        attrs.mode = killed_privileges(inode.mode, in_group=cred.in_group(inode.gid) or cred.capable(CAP_FSETID))
        if inode.mode & S_IXGRP:
            attrs.mode &= ~S_ISGID
    inode.setattr(attrs)


def utimes(inode: Inode, times: tuple[int | None, int | None] | None, cred: Cred) -> None:
    """vfs_utimes: access and modification time in ns; None in the pair: leave it; no pair at all: now.

    Errors:
        EROFS; EACCES: now, and neither owner nor allowed to write; EPERM: a given time, and not the owner.
    """
    check_writable_mount(inode)
    now = inode.sb.now()
    if times is None:
        if not owner_or_capable(inode, cred):
            inode_permission(inode, MAY_WRITE, cred)
        attrs = Attributes(atime=now, mtime=now)
    else:
        if times == (None, None):
            return
        if not owner_or_capable(inode, cred):
            raise LinuxError(Errno.EPERM, "not the owner")
        attrs = Attributes(atime=times[0], mtime=times[1])
    attrs.ctime = now
    inode.setattr(attrs)


def truncate_inode(inode: Inode, size: int) -> None:
    """do_truncate: set the length of a regular file; takes set-id bits away and stamps the time."""
    attrs = Attributes(size=size)
    now = inode.sb.now()
    attrs.mtime = attrs.ctime = now
    if inode.mode & (S_ISUID | S_ISGID):
        attrs.mode = killed_privileges(inode.mode)
    inode.setattr(attrs)


def vfs_truncate(inode: Inode, size: int, cred: Cred) -> None:
    """truncate(2) of what a name led to.  Errors: EISDIR, EINVAL, EACCES, EROFS, ETXTBSY."""
    if inode.is_dir:
        raise LinuxError(Errno.EISDIR, "truncate of a directory")
    if not inode.is_reg:
        raise LinuxError(Errno.EINVAL, "truncate of something that is no regular file")
    inode_permission(inode, MAY_WRITE, cred)
    check_writable_mount(inode)
    if inode.write_count < 0:
        raise LinuxError(Errno.ETXTBSY, "the file is being executed")
    truncate_inode(inode, size)
