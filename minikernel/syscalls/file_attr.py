"""Handlers: chmod, chown, utimes, truncate, fallocate, sync.  Linux: fs/open.c, fs/utimes.c, fs/sync.c."""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    FALLOC_FL_COLLAPSE_RANGE,
    FALLOC_FL_INSERT_RANGE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_UNSHARE_RANGE,
    FALLOC_FL_ZERO_RANGE,
    O_LARGEFILE,
)
from minikernel.abi.resource import RLIM_INFINITY, RLIMIT_FSIZE
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import SIGXFSZ
from minikernel.abi.stat import MAX_NON_LFS, S_IFBLK, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG
from minikernel.abi.time import NSEC_PER_SEC, NSEC_PER_USEC, unpack_timespec, unpack_timespec64, unpack_timeval
from minikernel.fs import attr
from minikernel.fs.dentry import Path
from minikernel.fs.inode import MAX_LFS_FILESIZE, Inode
from minikernel.fs.pipe import PipeFile
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user
from minikernel.syscalls.args import (
    AtFlags,
    DirFd,
    Fadvice,
    FallocMode,
    Fd,
    Gid,
    Long,
    Mode,
    Off,
    OldGid,
    OldUid,
    PathPtr,
    Ptr,
    Size,
    Timespec64In,
    TimespecIn,
    TimevalIn,
    Uid,
    UInt,
)
from minikernel.syscalls.entry_types import Entry, full, partial
from minikernel.syscalls.file_common import abi_of, path_at, split_offset
from minikernel.task.signal import send_signal
from minikernel.task.task import Task

_LEAVE: Final = 0xFFFF_FFFF  # (uid_t)-1
_LEAVE16: Final = 0xFFFF

# ---- mode and owner


def sys_chmod(_kernel: Kernel, task: Task, path: PathPtr, mode: Mode) -> int:
    """Change the mode: chmod(2)."""
    attr.chmod(path_at(task, AT_FDCWD, path).inode, mode, task.cred)
    return 0


def sys_fchmod(_kernel: Kernel, task: Task, fd: Fd, mode: Mode) -> int:
    """Change the mode of an open file: fchmod(2)."""
    attr.chmod(task.files.get(fd).inode, mode, task.cred)
    return 0


def sys_fchmodat(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, mode: Mode) -> int:
    """Change the mode, seen from a directory: fchmodat(2)."""
    attr.chmod(path_at(task, dirfd, path).inode, mode, task.cred)
    return 0


def sys_fchmodat2(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, mode: Mode, flags: AtFlags) -> int:
    """The same with flags: fchmodat2(2)."""
    attr.chmod(_flagged_path(task, dirfd, path, flags).inode, mode, task.cred)
    return 0


def _flagged_path(task: Task, dirfd: int, address: int, flags: int) -> Path:
    """The place named with AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH allowed.  Errors: EINVAL for other flags."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    return path_at(task, dirfd, address, follow=not flags & AT_SYMLINK_NOFOLLOW, empty=bool(flags & AT_EMPTY_PATH))


def _chown(task: Task, inode: Inode, uid: int, gid: int, leave: int = _LEAVE) -> int:
    attr.chown(inode, None if uid == leave else uid, None if gid == leave else gid, task.cred)
    return 0


def sys_chown(_kernel: Kernel, task: Task, path: PathPtr, uid: Uid, gid: Gid) -> int:
    """Change the owners: chown(2)."""
    return _chown(task, path_at(task, AT_FDCWD, path).inode, uid, gid)


def sys_lchown(_kernel: Kernel, task: Task, path: PathPtr, uid: Uid, gid: Gid) -> int:
    """Change the owners of a file or link: lchown(2)."""
    return _chown(task, path_at(task, AT_FDCWD, path, follow=False).inode, uid, gid)


def sys_fchown(_kernel: Kernel, task: Task, fd: Fd, uid: Uid, gid: Gid) -> int:
    """Change the owners of an open file: fchown(2)."""
    return _chown(task, task.files.get(fd).inode, uid, gid)


def sys_fchownat(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, uid: Uid, gid: Gid, flags: AtFlags) -> int:
    """Change the owners, seen from a directory: fchownat(2)."""
    return _chown(task, _flagged_path(task, dirfd, path, flags).inode, uid, gid)


def sys_chown16(_kernel: Kernel, task: Task, path: PathPtr, uid: OldUid, gid: OldGid) -> int:
    """Change the owners: chown(2) of 16-bit numbers, i386."""
    return _chown(task, path_at(task, AT_FDCWD, path).inode, uid & _LEAVE16, gid & _LEAVE16, _LEAVE16)


def sys_lchown16(_kernel: Kernel, task: Task, path: PathPtr, uid: OldUid, gid: OldGid) -> int:
    """The same of a file or link: lchown(2) of 16-bit numbers."""
    return _chown(task, path_at(task, AT_FDCWD, path, follow=False).inode, uid & _LEAVE16, gid & _LEAVE16, _LEAVE16)


def sys_fchown16(_kernel: Kernel, task: Task, fd: Fd, uid: OldUid, gid: OldGid) -> int:
    """The same of an open file: fchown(2) of 16-bit numbers."""
    return _chown(task, task.files.get(fd).inode, uid & _LEAVE16, gid & _LEAVE16, _LEAVE16)


# ---- times


def _utimes(task: Task, dirfd: int, address: int, times: tuple[int | None, int | None] | None, flags: int = 0) -> int:
    """do_utimes: with no name at all, *dirfd* is the file itself."""
    if address == 0 and dirfd != AT_FDCWD:
        if flags:
            raise LinuxError(Errno.EINVAL, f"flags {flags:#x} without a name")
        attr.utimes(task.files.get(dirfd).inode, times, task.cred)
        return 0
    attr.utimes(_flagged_path(task, dirfd, address, flags).inode, times, task.cred)
    return 0


def _pair_of_specs(pairs: list[tuple[int, int]], now: int) -> tuple[int | None, int | None] | None:
    """What utimensat's two timespecs ask for; None: both now.  Errors: EINVAL."""
    if all(nanoseconds == attr.UTIME_NOW for _, nanoseconds in pairs):
        return None
    times: list[int | None] = []
    for seconds, nanoseconds in pairs:
        if nanoseconds == attr.UTIME_OMIT:
            times.append(None)
        elif nanoseconds == attr.UTIME_NOW:
            times.append(now)
        elif 0 <= nanoseconds < NSEC_PER_SEC:
            times.append(seconds * NSEC_PER_SEC + nanoseconds)
        else:
            raise LinuxError(Errno.EINVAL, f"{nanoseconds} nanoseconds")
    return times[0], times[1]


def sys_utimensat(kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, times: TimespecIn, flags: AtFlags) -> int:
    """Set times in nanoseconds: utimensat(2)."""
    pair = None
    if times:
        size = 2 * abi_of(task).word
        data = copy_from_user(task.mm, times, 2 * size)
        pairs = [unpack_timespec(abi_of(task), data[at : at + size]) for at in (0, size)]
        if all(nanoseconds == attr.UTIME_OMIT for _, nanoseconds in pairs):
            return 0
        pair = _pair_of_specs(pairs, kernel.clock.realtime_ns())
    return _utimes(task, dirfd, path, pair, flags)


def sys_utimensat_time64(
    kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, times: Timespec64In, flags: AtFlags
) -> int:
    """Set times in nanoseconds with 64-bit seconds: utimensat_time64(2) of i386."""
    pair = None
    if times:
        data = copy_from_user(task.mm, times, 32)
        pairs = [unpack_timespec64(abi_of(task), data[at : at + 16]) for at in (0, 16)]
        if all(nanoseconds == attr.UTIME_OMIT for _, nanoseconds in pairs):
            return 0
        pair = _pair_of_specs(pairs, kernel.clock.realtime_ns())
    return _utimes(task, dirfd, path, pair, flags)


def _pair_of_timevals(task: Task, address: int) -> tuple[int | None, int | None] | None:
    """What utimes' two timevals ask for.  Errors: EINVAL, EFAULT."""
    if not address:
        return None
    size = 2 * abi_of(task).word
    data = copy_from_user(task.mm, address, 2 * size)
    times = []
    for at in (0, size):
        seconds, microseconds = unpack_timeval(abi_of(task), data[at : at + size])
        if not 0 <= microseconds < 1_000_000:
            raise LinuxError(Errno.EINVAL, f"{microseconds} microseconds")
        times.append(seconds * NSEC_PER_SEC + microseconds * NSEC_PER_USEC)
    return times[0], times[1]


def sys_utimes(_kernel: Kernel, task: Task, path: PathPtr, times: TimevalIn) -> int:
    """Set times in microseconds: utimes(2)."""
    return _utimes(task, AT_FDCWD, path, _pair_of_timevals(task, times))


def sys_futimesat(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, times: TimevalIn) -> int:
    """The same seen from a directory: futimesat(2)."""
    return _utimes(task, dirfd, path, _pair_of_timevals(task, times))


def sys_utime(_kernel: Kernel, task: Task, path: PathPtr, times: Ptr) -> int:
    """Set times in seconds: utime(2)."""
    pair = None
    if times:
        words = abi_of(task).unpack_words(copy_from_user(task.mm, times, 2 * abi_of(task).word))
        pair = (abi_of(task).signed(words[0]) * NSEC_PER_SEC, abi_of(task).signed(words[1]) * NSEC_PER_SEC)
    return _utimes(task, AT_FDCWD, path, pair)


# ---- size


def _check_size(task: Task, size: int) -> None:
    """inode_newsize_ok: RLIMIT_FSIZE.  Errors: EFBIG, with SIGXFSZ."""
    limit = task.rlimits[RLIMIT_FSIZE][0]
    if limit != RLIM_INFINITY and size > limit:
        send_signal(task, Siginfo(SIGXFSZ, pid=task.tgid, uid=task.cred.uid), group=False)
        raise LinuxError(Errno.EFBIG, "RLIMIT_FSIZE")


def _truncate(task: Task, address: int, size: int) -> int:
    if size < 0:
        raise LinuxError(Errno.EINVAL, f"size {size}")
    inode = path_at(task, AT_FDCWD, address).inode
    if size > inode.size and inode.is_reg:
        _check_size(task, size)
    attr.vfs_truncate(inode, size, task.cred)
    return 0


def _ftruncate(task: Task, fd: int, size: int, *, small: bool) -> int:
    if size < 0:
        raise LinuxError(Errno.EINVAL, f"size {size}")
    file = task.files.get(fd)
    if file.flags & O_LARGEFILE:
        small = False
    if not file.inode.is_reg or not file.writable:
        raise LinuxError(Errno.EINVAL, "no regular file that is open for writing")
    if small and size > MAX_NON_LFS:
        raise LinuxError(Errno.EINVAL, "larger than an off_t of 32 bits")
    if size > file.inode.size:
        _check_size(task, size)
    attr.truncate_inode(file.inode, size)
    return 0


def sys_truncate(_kernel: Kernel, task: Task, path: PathPtr, length: Long) -> int:
    """Set a file's length: truncate(2)."""
    return _truncate(task, path, length)


def sys_ftruncate(_kernel: Kernel, task: Task, fd: Fd, length: Off) -> int:
    """Set an open file's length: ftruncate(2)."""
    return _ftruncate(task, fd, length, small=True)


def sys_truncate64(_kernel: Kernel, task: Task, path: PathPtr, low: UInt, high: UInt) -> int:
    """Set a file's length in 64 bits: truncate64(2) of i386."""
    return _truncate(task, path, split_offset(low, high))


def sys_ftruncate64(_kernel: Kernel, task: Task, fd: Fd, low: UInt, high: UInt) -> int:
    """Set an open file's length in 64 bits: ftruncate64(2) of i386."""
    return _ftruncate(task, fd, split_offset(low, high), small=False)


def sys_fallocate(_kernel: Kernel, task: Task, fd: Fd, mode: FallocMode, offset: Off, length: Off) -> int:
    """Reserve or release storage: fallocate(2) (vfs_fallocate)."""
    file = task.files.get(fd)
    if offset < 0 or length <= 0:
        raise LinuxError(Errno.EINVAL, f"range {offset}+{length}")
    known = (
        FALLOC_FL_KEEP_SIZE
        | FALLOC_FL_PUNCH_HOLE
        | FALLOC_FL_COLLAPSE_RANGE
        | FALLOC_FL_ZERO_RANGE
        | FALLOC_FL_INSERT_RANGE
        | FALLOC_FL_UNSHARE_RANGE
    )
    kind = mode & ~FALLOC_FL_KEEP_SIZE
    if mode & ~known or kind & (kind - 1) or mode == FALLOC_FL_PUNCH_HOLE:
        raise LinuxError(Errno.EOPNOTSUPP, f"fallocate mode {mode:#x}")
    if mode & FALLOC_FL_KEEP_SIZE and kind in {FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE}:
        raise LinuxError(Errno.EOPNOTSUPP, "these change the size")
    if not file.writable:
        raise LinuxError(Errno.EBADF, "not open for writing")
    file_type = file.inode.mode & S_IFMT
    if file_type == S_IFIFO:
        raise LinuxError(Errno.ESPIPE, "a pipe")
    if file_type == S_IFDIR:
        raise LinuxError(Errno.EISDIR, "a directory")
    if file_type not in {S_IFREG, S_IFBLK}:
        raise LinuxError(Errno.ENODEV, "no regular file")
    if offset + length > MAX_LFS_FILESIZE:
        raise LinuxError(Errno.EFBIG, "beyond the largest file")
    if not mode and offset + length > file.inode.size:
        _check_size(task, offset + length)
    file.inode.fallocate(mode, offset, length)
    return 0


def sys_fallocate_i386(
    kernel: Kernel, task: Task, fd: Fd, mode: FallocMode, low: UInt, high: UInt, len_low: UInt, len_high: UInt
) -> int:
    """The same with offset and length in two words each: fallocate(2) of i386."""
    return sys_fallocate(kernel, task, fd, mode, split_offset(low, high), split_offset(len_low, len_high))


# ---- advice and writing back


def _fadvise(task: Task, fd: int, length: int, advice: int) -> int:
    """ksys_fadvise64_64: nothing to do, for the host reads ahead and our pages stay."""
    file = task.files.get(fd)
    if isinstance(file, PipeFile):
        raise LinuxError(Errno.ESPIPE, "a pipe")
    if length < 0 or not 0 <= advice <= 5:
        raise LinuxError(Errno.EINVAL, f"advice {advice}, length {length}")
    return 0


def sys_fadvise64(_kernel: Kernel, task: Task, fd: Fd, _offset: Off, length: Size, advice: Fadvice) -> int:
    """Say how a file will be used: fadvise64(2)."""
    return _fadvise(task, fd, abi_of(task).signed(length), advice)


def sys_fadvise64_i386(
    _kernel: Kernel, task: Task, fd: Fd, _low: UInt, _high: UInt, length: Size, advice: Fadvice
) -> int:
    """The same with the offset in two words: fadvise64(2) of i386."""
    return _fadvise(task, fd, length, advice)


def sys_fadvise64_64(
    _kernel: Kernel, task: Task, fd: Fd, _low: UInt, _high: UInt, len_low: UInt, len_high: UInt, advice: Fadvice
) -> int:
    """The same with both in two words: fadvise64_64(2) of i386."""
    return _fadvise(task, fd, split_offset(len_low, len_high), advice)


def _readahead(task: Task, fd: int) -> int:
    file = task.files.get(fd)
    if not file.readable:
        raise LinuxError(Errno.EBADF, "not open for reading")
    if file.mapping is None or not file.inode.is_reg:
        raise LinuxError(Errno.EINVAL, "no regular file")
    return 0


def sys_readahead(_kernel: Kernel, task: Task, fd: Fd, _offset: Off, _count: Size) -> int:
    """Read pages before they are wanted: readahead(2); the host does that already."""
    return _readahead(task, fd)


def sys_readahead_i386(_kernel: Kernel, task: Task, fd: Fd, _low: UInt, _high: UInt, _count: Size) -> int:
    """The same with the offset in two words: readahead(2) of i386."""
    return _readahead(task, fd)


def sys_sync(kernel: Kernel, _task: Task) -> int:
    """Write everything back: sync(2)."""
    kernel.vfs.sync()
    return 0


def sys_fsync(_kernel: Kernel, task: Task, fd: Fd) -> int:
    """Write a file back: fsync(2)."""
    task.files.get(fd).fsync()
    return 0


def sys_fdatasync(_kernel: Kernel, task: Task, fd: Fd) -> int:
    """Write a file's data back: fdatasync(2)."""
    task.files.get(fd).fsync()
    return 0


def sys_syncfs(_kernel: Kernel, task: Task, fd: Fd) -> int:
    """Write a file system back: syncfs(2)."""
    task.files.get(fd).inode.sb.sync()
    return 0


_SYNC_FILE_RANGE_VALID: Final = 7


def _sync_file_range(task: Task, fd: int, offset: int, length: int, flags: int) -> int:
    file = task.files.get(fd)
    if flags & ~_SYNC_FILE_RANGE_VALID or offset < 0 or length < 0:
        raise LinuxError(Errno.EINVAL, f"sync_file_range {offset}+{length} {flags:#x}")
    if not file.inode.is_reg and not file.inode.is_dir:
        raise LinuxError(Errno.ESPIPE, "no file with ranges")
    if flags:
        file.fsync()
    return 0


def sys_sync_file_range(_kernel: Kernel, task: Task, fd: Fd, offset: Off, length: Off, flags: UInt) -> int:
    """Write a part of a file back: sync_file_range(2)."""
    return _sync_file_range(task, fd, offset, length, flags)


def sys_sync_file_range_i386(
    _kernel: Kernel, task: Task, fd: Fd, low: UInt, high: UInt, len_low: UInt, len_high: UInt, flags: UInt
) -> int:
    """The same with numbers in two words: sync_file_range(2) of i386."""
    return _sync_file_range(task, fd, split_offset(low, high), split_offset(len_low, len_high), flags)


ENTRIES: Final[tuple[Entry, ...]] = (
    full("chmod", sys_chmod),
    full("fchmod", sys_fchmod),
    full("fchmodat", sys_fchmodat),
    full("fchmodat2", sys_fchmodat2),
    full("chown", sys_chown, abi="x86-64"),
    full("lchown", sys_lchown, abi="x86-64"),
    full("fchown", sys_fchown, abi="x86-64"),
    full("chown32", sys_chown, abi="i386"),
    full("lchown32", sys_lchown, abi="i386"),
    full("fchown32", sys_fchown, abi="i386"),
    full("chown", sys_chown16, abi="i386"),
    full("lchown", sys_lchown16, abi="i386"),
    full("fchown", sys_fchown16, abi="i386"),
    full("fchownat", sys_fchownat),
    full("utimensat", sys_utimensat),
    full("utimensat_time64", sys_utimensat_time64, abi="i386"),
    full("utimes", sys_utimes),
    full("futimesat", sys_futimesat),
    full("utime", sys_utime),
    full("truncate", sys_truncate),
    full("ftruncate", sys_ftruncate),
    full("truncate64", sys_truncate64, abi="i386"),
    full("ftruncate64", sys_ftruncate64, abi="i386"),
    partial("fallocate", sys_fallocate, "no COLLAPSE_RANGE, INSERT_RANGE, UNSHARE_RANGE", abi="x86-64"),
    partial("fallocate", sys_fallocate_i386, "no COLLAPSE_RANGE, INSERT_RANGE, UNSHARE_RANGE", abi="i386"),
    full("fadvise64", sys_fadvise64, abi="x86-64"),
    full("fadvise64", sys_fadvise64_i386, abi="i386"),
    full("fadvise64_64", sys_fadvise64_64, abi="i386"),
    full("readahead", sys_readahead, abi="x86-64"),
    full("readahead", sys_readahead_i386, abi="i386"),
    full("sync", sys_sync),
    full("fsync", sys_fsync),
    full("fdatasync", sys_fdatasync),
    full("syncfs", sys_syncfs),
    full("sync_file_range", sys_sync_file_range, abi="x86-64"),
    full("sync_file_range", sys_sync_file_range_i386, abi="i386"),
)
