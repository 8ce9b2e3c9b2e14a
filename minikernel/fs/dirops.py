"""Changes to directories: mkdir, mknod, symlink, link, unlink, rmdir, rename.

Linux: fs/namei.c (filename_create, may_create, may_delete, do_*at, vfs_rename).
"""

from minikernel.abi.capability import CAP_MKNOD
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import PATH_MAX, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from minikernel.abi.stat import (
    S_IALLUGO,
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    S_IRWXUGO,
    S_ISGID,
    S_ISUID,
    S_ISVTX,
    S_IXGRP,
)
from minikernel.fs.cred import (
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    Cred,
    check_sticky,
    inode_permission,
    owner_or_capable,
)
from minikernel.fs.dentry import Dentry, Path
from minikernel.fs.inode import Inode
from minikernel.fs.namei import (
    LAST_DOT,
    LAST_DOTDOT,
    LAST_NORM,
    LAST_ROOT,
    LOOKUP_FOLLOW,
    FsStruct,
    Walk,
    negative_or_dentry,
)


def may_create(parent: Path, cred: Cred) -> None:
    """Whether *cred* may make a new entry in *parent*.  Errors: ENOENT, EROFS, EACCES."""
    directory = parent.inode
    if directory.sb.readonly:
        raise LinuxError(Errno.EROFS, "the file system is read-only")
    if directory.dead:
        raise LinuxError(Errno.ENOENT, "the directory was removed")
    inode_permission(directory, MAY_WRITE | MAY_EXEC, cred)


def may_delete(parent: Path, victim: Dentry, cred: Cred, *, is_dir: bool) -> None:
    """Whether *cred* may remove *victim* from *parent*.  Errors: EACCES, EPERM, ENOTDIR, EISDIR, EBUSY, ENOENT."""
    directory = parent.inode
    inode_permission(directory, MAY_WRITE | MAY_EXEC, cred)
    if check_sticky(directory, victim.inode, cred):
        raise LinuxError(Errno.EPERM, "the directory is sticky")
    if is_dir and not victim.inode.is_dir:
        raise LinuxError(Errno.ENOTDIR, f"{victim.name!r}")
    if not is_dir and victim.inode.is_dir:
        raise LinuxError(Errno.EISDIR, f"{victim.name!r}")
    if directory.dead:
        raise LinuxError(Errno.ENOENT, "the directory was removed")


def _filename_create(walk: Walk, name: bytes, *, want_dir: bool = False) -> Path:
    """The directory for a new entry *name*; the entry is ``walk.last`` and free (filename_create)."""
    parent = walk.parent_of(name)
    if walk.last_type != LAST_NORM:
        raise LinuxError(Errno.EEXIST, f"{name!r}")
    if negative_or_dentry(parent, walk.last) is not None:
        raise LinuxError(Errno.EEXIST, f"{name!r}")
    if walk.trailing and not want_dir:
        raise LinuxError(Errno.ENOENT, "a new file whose name ends in a slash")
    if parent.inode.sb.readonly:
        raise LinuxError(Errno.EROFS, "the file system is read-only")
    return parent


def _make(walk: Walk, parent: Path, mode: int, *, rdev: int = 0, target: bytes = b"") -> Inode:
    may_create(parent, walk.cred)
    directory = parent.inode
    return parent.dentry.create(
        walk.last, lambda: directory.make_child(walk.last, mode, walk.cred, rdev=rdev, target=target)
    ).inode


def mkdir(fs: FsStruct, cred: Cred, name: bytes, mode: int, *, start: Path | None = None) -> None:
    """Make a directory: mkdirat(2).  Errors: EEXIST, EACCES, EROFS and the path walk's."""
    walk = Walk(fs, cred, start)
    parent = _filename_create(walk, name, want_dir=True)
    _make(walk, parent, S_IFDIR | mode & ~fs.umask & (S_IRWXUGO | S_ISVTX))


def mknod(fs: FsStruct, cred: Cred, name: bytes, mode: int, rdev: int, *, start: Path | None = None) -> Inode:
    """What mknodat(2) makes; *rdev* as user space writes it.

    Errors:
        EPERM: a directory, or a device without CAP_MKNOD; EINVAL: no type; EEXIST, EACCES, EROFS.
    """
    kind = mode & S_IFMT
    if kind == S_IFDIR:
        raise LinuxError(Errno.EPERM, "mknod of a directory")
    if kind not in {0, S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK}:
        raise LinuxError(Errno.EINVAL, f"mknod of type {kind:#o}")
    walk = Walk(fs, cred, start)
    parent = _filename_create(walk, name)
    may_create(parent, cred)
    # Device 0:0 is overlayfs's whiteout, which anybody may make (vfs_mknod).
    if (kind == S_IFBLK or (kind == S_IFCHR and rdev)) and not cred.capable(CAP_MKNOD):
        raise LinuxError(Errno.EPERM, "mknod of a device")
    return _make(walk, parent, (kind or S_IFREG) | mode & ~fs.umask & S_IALLUGO, rdev=rdev)


def symlink(fs: FsStruct, cred: Cred, target: bytes, name: bytes, *, start: Path | None = None) -> None:
    """Make a symbolic link: symlinkat(2).  Errors: ENOENT for an empty *target*, EEXIST, EACCES ..."""
    if not target:
        raise LinuxError(Errno.ENOENT, "an empty symbolic link")
    if len(target) >= PATH_MAX:
        raise LinuxError(Errno.ENAMETOOLONG, "a symbolic link of 4096 bytes or more")
    walk = Walk(fs, cred, start)
    parent = _filename_create(walk, name)
    _make(walk, parent, S_IFLNK | S_IRWXUGO, target=target)


def _may_linkat(old: Path, cred: Cred) -> None:
    """fs.protected_hardlinks, as distributions set it: others' files only if they could be opened for writing.

    Errors:
        EPERM.
    """
    inode = old.inode
    if owner_or_capable(inode, cred):
        return
    executable_by_group = S_ISGID | S_IXGRP
    safe = inode.is_reg and not inode.mode & S_ISUID and inode.mode & executable_by_group != executable_by_group
    if safe:
        try:
            inode_permission(inode, MAY_READ | MAY_WRITE, cred)
        except LinuxError:
            safe = False
    if not safe:
        raise LinuxError(Errno.EPERM, "a hard link to another's file")


def link(fs: FsStruct, cred: Cred, old: Path, name: bytes, *, start: Path | None = None) -> None:
    """Give a file one more name: linkat(2), where the old name led to *old*.

    Errors:
        EXDEV: another mount; EPERM: a directory; ENOENT: a file without any name left.
    """
    walk = Walk(fs, cred, start)
    parent = _filename_create(walk, name)
    if old.mnt is not parent.mnt:
        raise LinuxError(Errno.EXDEV, "a link to another mount")
    _may_linkat(old, cred)
    may_create(parent, cred)
    inode = old.inode
    if inode.sb is not parent.inode.sb:
        raise LinuxError(Errno.EXDEV, "a link to another file system")
    if inode.is_dir:
        raise LinuxError(Errno.EPERM, "a hard link to a directory")
    is_tmpfile = old.dentry.unhashed and old.dentry.name.startswith(b"#")
    if inode.nlink == 0 and not is_tmpfile:
        raise LinuxError(Errno.ENOENT, "the file was removed")

    def make_link() -> Inode:
        parent.inode.link(walk.last, inode)
        return inode

    parent.dentry.create(walk.last, make_link)


def unlink(fs: FsStruct, cred: Cred, name: bytes, *, start: Path | None = None) -> None:
    """Remove a name: unlinkat(2) of a file.  Errors: ENOENT, EISDIR, ENOTDIR, EACCES, EPERM, EROFS, EBUSY."""
    walk = Walk(fs, cred, start)
    parent = walk.parent_of(name)
    if walk.last_type != LAST_NORM:
        raise LinuxError(Errno.EISDIR, f"{name!r}")
    if parent.inode.sb.readonly:
        raise LinuxError(Errno.EROFS, "the file system is read-only")
    dentry = negative_or_dentry(parent, walk.last)
    if dentry is None:
        raise LinuxError(Errno.ENOENT, f"{name!r}")
    if walk.trailing:
        raise LinuxError(Errno.EISDIR if dentry.inode.is_dir else Errno.ENOTDIR, f"{name!r}")
    may_delete(parent, dentry, cred, is_dir=False)
    if dentry.mounts:
        raise LinuxError(Errno.EBUSY, "a mount point")
    parent.inode.unlink(walk.last, dentry.inode)
    dentry.drop()


def rmdir(fs: FsStruct, cred: Cred, name: bytes, *, start: Path | None = None) -> None:
    """Remove an empty directory.

    Errors:
        ENOTEMPTY; EINVAL for "."; EBUSY for the root and mount points; ENOENT, ENOTDIR, EACCES, EPERM, EROFS.
    """
    walk = Walk(fs, cred, start)
    parent = walk.parent_of(name)
    if walk.last_type != LAST_NORM:
        errors = {LAST_DOTDOT: Errno.ENOTEMPTY, LAST_DOT: Errno.EINVAL, LAST_ROOT: Errno.EBUSY}
        raise LinuxError(errors[walk.last_type], f"{name!r}")
    if parent.inode.sb.readonly:
        raise LinuxError(Errno.EROFS, "the file system is read-only")
    dentry = negative_or_dentry(parent, walk.last)
    if dentry is None:
        raise LinuxError(Errno.ENOENT, f"{name!r}")
    may_delete(parent, dentry, cred, is_dir=True)
    if dentry.mounts:
        raise LinuxError(Errno.EBUSY, "a mount point")
    parent.inode.rmdir(walk.last, dentry.inode)
    dentry.drop()


def rename(
    fs: FsStruct,
    cred: Cred,
    old_name: bytes,
    new_name: bytes,
    *,
    old_start: Path | None = None,
    new_start: Path | None = None,
    flags: int = 0,
) -> None:
    """Move or exchange names: renameat2(2) (do_renameat2).

    Errors:
        EINVAL: unknown flags, or a directory moved below itself; EXDEV: another mount; EBUSY: ".", "..", the root;
        EEXIST: RENAME_NOREPLACE; ENOENT; ENOTDIR, EISDIR, ENOTEMPTY: the types do not fit; EACCES, EPERM, EROFS.
    """
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT):
        raise LinuxError(Errno.EINVAL, f"rename flags {flags:#x}")
    if flags & RENAME_EXCHANGE and flags & (RENAME_NOREPLACE | RENAME_WHITEOUT):
        raise LinuxError(Errno.EINVAL, "RENAME_EXCHANGE stands alone")
    old_walk, new_walk = Walk(fs, cred, old_start), Walk(fs, cred, new_start)
    old_parent, new_parent = old_walk.parent_of(old_name), new_walk.parent_of(new_name)
    if old_parent.mnt is not new_parent.mnt:
        raise LinuxError(Errno.EXDEV, "a rename to another mount")
    if old_walk.last_type != LAST_NORM:
        raise LinuxError(Errno.EBUSY, f"{old_name!r}")
    if new_walk.last_type != LAST_NORM:
        raise LinuxError(Errno.EEXIST if flags & RENAME_NOREPLACE else Errno.EBUSY, f"{new_name!r}")
    if old_parent.inode.sb.readonly:
        raise LinuxError(Errno.EROFS, "the file system is read-only")
    if flags & RENAME_WHITEOUT:
        raise LinuxError(Errno.EINVAL, "RENAME_WHITEOUT: the file system has no whiteouts")
    source = negative_or_dentry(old_parent, old_walk.last)
    if source is None:
        raise LinuxError(Errno.ENOENT, f"{old_name!r}")
    target = negative_or_dentry(new_parent, new_walk.last)
    _check_rename_shape(old_walk, new_walk, source, target, flags)
    if target is not None and target.inode is source.inode:
        return
    _check_rename_rights(old_parent, new_parent, source, target, cred, flags)
    old_parent.inode.rename(old_walk.last, new_parent.inode, new_walk.last, flags)
    if flags & RENAME_EXCHANGE:
        assert target is not None, "rename: nothing to exchange with"
        source.exchange(target)
    else:
        source.move(new_parent.dentry, new_walk.last)


def _check_rename_shape(old_walk: Walk, new_walk: Walk, source: Dentry, target: Dentry | None, flags: int) -> None:
    """Existence, trailing slashes and ancestry, in do_renameat2's order."""
    if target is not None and flags & RENAME_NOREPLACE:
        raise LinuxError(Errno.EEXIST, f"{new_walk.last!r}")
    if flags & RENAME_EXCHANGE:
        if target is None:
            raise LinuxError(Errno.ENOENT, f"{new_walk.last!r}")
        if not target.inode.is_dir and new_walk.trailing:
            raise LinuxError(Errno.ENOTDIR, f"{new_walk.last!r}")
    if not source.inode.is_dir and (old_walk.trailing or (new_walk.trailing and not flags & RENAME_EXCHANGE)):
        raise LinuxError(Errno.ENOTDIR, "a trailing slash after the name of a file")
    if source.is_ancestor_of(new_walk.path.dentry):
        raise LinuxError(Errno.EINVAL, "a directory cannot move below itself")
    if target is not None and target.is_ancestor_of(old_walk.path.dentry):
        raise LinuxError(Errno.EINVAL if flags & RENAME_EXCHANGE else Errno.ENOTEMPTY, "the target holds the source")


def _check_rename_rights(
    old_parent: Path, new_parent: Path, source: Dentry, target: Dentry | None, cred: Cred, flags: int
) -> None:
    """vfs_rename's checks."""
    is_dir = source.inode.is_dir
    may_delete(old_parent, source, cred, is_dir=is_dir)
    if target is None:
        may_create(new_parent, cred)
    else:
        new_is_dir = target.inode.is_dir if flags & RENAME_EXCHANGE else is_dir
        may_delete(new_parent, target, cred, is_dir=new_is_dir)
    if old_parent.inode is not new_parent.inode:
        # ".." of a directory changes.
        if is_dir:
            inode_permission(source.inode, MAY_WRITE, cred)
        if target is not None and flags & RENAME_EXCHANGE and target.inode.is_dir:
            inode_permission(target.inode, MAY_WRITE, cred)
    if source.mounts or (target is not None and target.mounts):
        raise LinuxError(Errno.EBUSY, "a mount point")


def lookup_for_link(fs: FsStruct, cred: Cred, name: bytes, start: Path | None, *, follow: bool) -> Path:
    """Where the old name of a link leads."""
    return Walk(fs, cred, start).lookup(name, LOOKUP_FOLLOW if follow else 0)
