"""Who asks: credentials and the permission checks made with them.

Linux: struct cred (include/linux/cred.h), generic_permission (fs/namei.c), kernel/capability.c.
"""

from typing import TYPE_CHECKING, Final

from minikernel.abi.capability import (
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_VALID_MASK,
)
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_ISVTX, S_IXGRP

if TYPE_CHECKING:
    from minikernel.fs.inode import Inode

MAY_EXEC: Final = 1
MAY_WRITE: Final = 2
MAY_READ: Final = 4


class Cred:
    """The identity of a task: struct cred.  Capability sets are bit masks."""

    __slots__ = (
        "cap_ambient",
        "cap_bset",
        "cap_effective",
        "cap_inheritable",
        "cap_permitted",
        "egid",
        "euid",
        "fsgid",
        "fsuid",
        "gid",
        "groups",
        "sgid",
        "suid",
        "uid",
    )

    def __init__(self, uid: int = 0, gid: int = 0, groups: tuple[int, ...] = ()) -> None:
        self.uid = self.euid = self.suid = self.fsuid = uid
        self.gid = self.egid = self.sgid = self.fsgid = gid
        self.groups = groups
        held = CAP_VALID_MASK if uid == 0 else 0
        self.cap_effective = self.cap_permitted = held
        self.cap_inheritable = self.cap_ambient = 0
        self.cap_bset = CAP_VALID_MASK

    def capable(self, capability: int) -> bool:
        """Whether the effective set holds *capability*."""
        return bool(self.cap_effective >> capability & 1)

    def in_group(self, gid: int) -> bool:
        """Whether *gid* is the file system group or a supplementary one."""
        return gid == self.fsgid or gid in self.groups

    def copy(self) -> "Cred":
        """A cred of its own with the same content (prepare_creds)."""
        other = Cred()
        for name in Cred.__slots__:
            setattr(other, name, getattr(self, name))
        return other


def generic_permission(inode: "Inode", mask: int, cred: Cred) -> None:
    """Check the mode bits of *inode* for *mask*, then the capabilities.  Errors: EACCES."""
    mode = inode.mode
    if cred.fsuid == inode.uid:
        bits = mode >> 6
    elif cred.in_group(inode.gid):
        bits = mode >> 3
    else:
        bits = mode
    if not mask & ~bits & 7:
        return
    if mode & S_IFMT == S_IFDIR:
        if not mask & MAY_WRITE and cred.capable(CAP_DAC_READ_SEARCH):
            return
        if cred.capable(CAP_DAC_OVERRIDE):
            return
    else:
        if mask == MAY_READ and cred.capable(CAP_DAC_READ_SEARCH):
            return
        if (not mask & MAY_EXEC or mode & 0o111) and cred.capable(CAP_DAC_OVERRIDE):
            return
    raise LinuxError(Errno.EACCES, "mode bits")


def inode_permission(inode: "Inode", mask: int, cred: Cred) -> None:
    """Whether *cred* may do *mask* with *inode*.  Errors: EROFS, EACCES, and what the file system says."""
    if mask & MAY_WRITE and inode.sb.readonly and inode.mode & S_IFMT in {S_IFREG, S_IFDIR, S_IFLNK}:
        raise LinuxError(Errno.EROFS, "the file system is read-only")
    inode.permission(mask, cred)


def owner_or_capable(inode: "Inode", cred: Cred) -> bool:
    """inode_owner_or_capable: the owner, or CAP_FOWNER."""
    return cred.fsuid == inode.uid or cred.capable(CAP_FOWNER)


def check_sticky(directory: "Inode", inode: "Inode", cred: Cred) -> bool:
    """Whether the sticky bit of *directory* forbids *cred* to remove *inode*."""
    if not directory.mode & S_ISVTX or cred.fsuid in {inode.uid, directory.uid}:
        return False
    return not cred.capable(CAP_FOWNER)


def mode_of_new_child(directory: "Inode", mode: int, cred: Cred) -> tuple[int, int]:
    """Mode and group of a file made in *directory*: inode_init_owner and mode_strip_sgid (fs/inode.c)."""
    if not directory.mode & S_ISGID:
        return mode, cred.fsgid
    if mode & S_IFMT == S_IFDIR:
        return mode | S_ISGID, directory.gid
    both = S_ISGID | S_IXGRP
    if mode & both == both and not cred.in_group(directory.gid) and not cred.capable(CAP_FSETID):
        mode &= ~S_ISGID
    return mode, directory.gid


def killed_privileges(mode: int, *, in_group: bool = True) -> int:
    """*mode* without the bits that a change of content or owner takes away: setattr_should_drop_suidgid."""
    mode &= ~S_ISUID
    if mode & S_ISGID and (mode & S_IXGRP or not in_group):
        mode &= ~S_ISGID
    return mode
