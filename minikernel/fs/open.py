"""open(2): flags, creation, and the making of the OpenFile.

Linux: fs/open.c (build_open_flags, do_sys_openat2), fs/namei.c (open_last_lookups, do_open, may_open).
"""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import (
    NAME_MAX,
    O_ACCMODE,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_LARGEFILE,
    O_NOATIME,
    O_NOCTTY,
    O_NOFOLLOW,
    O_PATH,
    O_PATH_FLAGS,
    O_RDONLY,
    O_TMPFILE_BIT,
    O_TRUNC,
    VALID_OPEN_FLAGS,
)
from minikernel.abi.stat import (
    MAX_NON_LFS,
    S_IALLUGO,
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
)
from minikernel.fs.attr import truncate_inode
from minikernel.fs.cred import (
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    Cred,
    inode_permission,
    owner_or_capable,
)
from minikernel.fs.dentry import Dentry, Path
from minikernel.fs.dirops import may_create
from minikernel.fs.file import OpenFile, PathFile
from minikernel.fs.inode import Inode
from minikernel.fs.namei import (
    LAST_NORM,
    LOOKUP_DIRECTORY,
    LOOKUP_FOLLOW,
    FsStruct,
    Walk,
)

_ACC_MODE: Final = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE)  # ACC_MODE(): 3 checks both
_FMODE_FLAGS: Final = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC | O_TMPFILE_BIT  # not kept in f_flags


def build_open_flags(flags: int, mode: int) -> tuple[int, int]:
    """The flags and mode that open works with.

    Errors:
        EINVAL: O_CREAT with O_DIRECTORY; O_TMPFILE without O_DIRECTORY or without writing.
    """
    flags &= VALID_OPEN_FLAGS
    if flags & O_PATH:
        return flags & O_PATH_FLAGS, 0
    if flags & (O_CREAT | O_TMPFILE_BIT):
        mode = mode & S_IALLUGO | S_IFREG
        if flags & O_CREAT and flags & O_DIRECTORY:
            raise LinuxError(Errno.EINVAL, "O_CREAT with O_DIRECTORY")
    else:
        mode = 0
    if flags & O_TMPFILE_BIT and (not flags & O_DIRECTORY or not _ACC_MODE[flags & O_ACCMODE] & MAY_WRITE):
        raise LinuxError(Errno.EINVAL, "O_TMPFILE is O_DIRECTORY and writing")
    return flags, mode


def do_open(
    fs: FsStruct, cred: Cred, name: bytes, flags: int, mode: int = 0, *, start: Path | None = None, resolve: int = 0
) -> OpenFile:
    """Open, and with O_CREAT make, the file *name* (do_filp_open).  The mode is masked by the umask.

    Errors:
        what the path walk says; EEXIST, EISDIR, ENOTDIR, ELOOP, ENXIO, ETXTBSY, EACCES, EPERM, EROFS.
    """
    flags, mode = build_open_flags(flags, mode)
    walk = Walk(fs, cred, start, resolve)
    created = False
    if flags & O_TMPFILE_BIT:
        return _open_tmpfile(walk, fs, name, flags, mode)
    if flags & O_CREAT:
        path, created = _open_create(walk, fs, name, flags, mode)
    else:
        lookup = LOOKUP_DIRECTORY if flags & O_DIRECTORY else 0
        path = walk.lookup(name, lookup if flags & O_NOFOLLOW else lookup | LOOKUP_FOLLOW)
    if flags & O_PATH:
        return PathFile(path, flags & ~_FMODE_FLAGS)
    return open_path(path, flags, cred, created=created)


def _open_create(walk: Walk, fs: FsStruct, name: bytes, flags: int, mode: int) -> tuple[Path, bool]:
    """The place *name* leads to, made if it is not there, and whether it was made (open_last_lookups)."""
    walk.parent_of(name)
    while walk.last_type == LAST_NORM:
        if walk.trailing:
            raise LinuxError(Errno.EISDIR, "O_CREAT of a name that ends in a slash")
        child = walk.child(walk.last)
        if child is None:
            return _create(walk, fs, mode), True
        if child.inode.is_symlink and not flags & (O_EXCL | O_NOFOLLOW):
            if walk.follow_last(child):
                continue
            return walk.path, False
        walk.path = child
        break
    else:
        walk.finish(0)
    if flags & O_EXCL:
        raise LinuxError(Errno.EEXIST, f"{name!r}")
    return walk.path, False


def _create(walk: Walk, fs: FsStruct, mode: int) -> Path:
    """A new regular file as the last component of *walk* (lookup_open)."""
    parent = walk.path
    directory = parent.inode
    if len(walk.last) > NAME_MAX:
        raise LinuxError(Errno.ENAMETOOLONG, "a component is longer than 255 bytes")
    may_create(parent, walk.cred)
    mode &= ~fs.umask
    dentry = parent.dentry.create(walk.last, lambda: directory.make_child(walk.last, mode, walk.cred))
    return Path(parent.mnt, dentry)


def _open_tmpfile(walk: Walk, fs: FsStruct, name: bytes, flags: int, mode: int) -> OpenFile:
    """O_TMPFILE: a file without a name in directory *name* (do_tmpfile)."""
    parent = walk.lookup(name, LOOKUP_FOLLOW | LOOKUP_DIRECTORY)
    if parent.inode.sb.readonly:
        raise LinuxError(Errno.EROFS, "the file system is read-only")
    inode_permission(parent.inode, MAY_WRITE | MAY_EXEC, walk.cred)
    inode = parent.inode.tmpfile(mode & ~fs.umask, walk.cred)
    dentry = Dentry(b"#%d" % inode.ino, parent.dentry, inode)
    dentry.unhashed = True
    try:
        return inode.open(Path(parent.mnt, dentry), flags & ~(_FMODE_FLAGS | O_DIRECTORY))
    except LinuxError:
        inode.put()
        raise


def open_path(path: Path, flags: int, cred: Cred, *, created: bool = False) -> OpenFile:
    """Open what *path* is, after the checks that open makes (do_open, may_open, do_dentry_open)."""
    inode = path.inode
    if flags & O_CREAT and not created and inode.is_dir:
        raise LinuxError(Errno.EISDIR, "O_CREAT of a directory")
    if flags & O_DIRECTORY and not inode.is_dir:
        raise LinuxError(Errno.ENOTDIR, "O_DIRECTORY of something else")
    if created:
        flags &= ~O_TRUNC
    else:
        if inode.is_reg and flags & O_TRUNC and inode.sb.readonly:
            raise LinuxError(Errno.EROFS, "the file system is read-only")
        may_open(inode, flags, cred)
    if flags & O_ACCMODE != O_RDONLY and inode.is_reg and inode.write_count < 0:
        raise LinuxError(Errno.ETXTBSY, "the file is being executed")
    file = inode.open(path, flags & ~_FMODE_FLAGS | flags & O_NOCTTY)  # which a terminal wants to know
    file.flags &= ~O_NOCTTY
    if flags & O_TRUNC and inode.is_reg:
        truncate_inode(inode, 0)
    return file


def may_open(inode: Inode, flags: int, cred: Cred) -> None:
    """may_open: type and permission."""
    acc_mode = _ACC_MODE[flags & O_ACCMODE]
    if flags & O_TRUNC:
        acc_mode |= MAY_WRITE
    kind = inode.mode & S_IFMT
    if kind == S_IFLNK:
        raise LinuxError(Errno.ELOOP, "O_NOFOLLOW of a symbolic link")
    if kind == S_IFDIR and acc_mode & MAY_WRITE:
        raise LinuxError(Errno.EISDIR, "a directory cannot be written")
    if kind in {S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK}:
        acc_mode &= ~MAY_WRITE if flags & O_ACCMODE == O_RDONLY else ~0
    inode_permission(inode, acc_mode, cred)
    if flags & O_NOATIME and not owner_or_capable(inode, cred):
        raise LinuxError(Errno.EPERM, "O_NOATIME of another's file")


def open_exec(
    fs: FsStruct, cred: Cred, name: bytes, *, start: Path | None = None, flags: int = LOOKUP_FOLLOW
) -> OpenFile:
    """Open program *name* for execve (do_open_execat).

    Errors:
        EACCES: no regular file, or not executable for *cred*; ETXTBSY: open for writing.
    """
    return open_exec_path(Walk(fs, cred, start).lookup(name, flags), cred)


def open_exec_path(path: Path, cred: Cred) -> OpenFile:
    """Open what *path* is for execve."""
    inode = path.inode
    if inode.is_symlink:
        raise LinuxError(Errno.ELOOP, "execve with AT_SYMLINK_NOFOLLOW of a symbolic link")
    if not inode.is_reg:
        raise LinuxError(Errno.EACCES, "no regular file")
    inode_permission(inode, MAY_EXEC, cred)
    if inode.write_count > 0:
        raise LinuxError(Errno.ETXTBSY, "the file is open for writing")
    file = inode.open(path, O_RDONLY | O_LARGEFILE)
    file.deny_write_access()
    return file


def check_large(file: OpenFile) -> None:
    """An i386 program that did not ask for O_LARGEFILE cannot open a file of 2 GiB.  Errors: EOVERFLOW."""
    if not file.flags & (O_LARGEFILE | O_PATH) and file.inode.is_reg and file.inode.size > MAX_NON_LFS:
        raise LinuxError(Errno.EOVERFLOW, "larger than an off_t of 32 bits")
