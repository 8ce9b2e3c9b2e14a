"""Handlers: fcntl, flock, ioctl.  Linux: fs/fcntl.c, fs/locks.c, fs/ioctl.c."""

from struct import Struct
from typing import Final

from minikernel.abi import fcntl as f
from minikernel.abi import ioctl as io
from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.cred import owner_or_capable
from minikernel.fs.file import OpenFile
from minikernel.fs.locks import OFFSET_MAX, FileLock, FileLocks, new_lock
from minikernel.fs.pipe import PIPE_MAX_SIZE, PipeFile
from minikernel.fs.tmpfs import MemFile, Tmpfs
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user, get_user
from minikernel.mm.vma import VM_MAYWRITE, VM_SHARED
from minikernel.syscalls.args import FcntlCmd, Fd, Int, IoctlCmd, ULong
from minikernel.syscalls.entry_types import Entry, Result, full, partial
from minikernel.syscalls.file_common import abi_of, holding, nofile_limit
from minikernel.task.task import Task

_PATH_COMMANDS: Final = {f.F_DUPFD, f.F_DUPFD_CLOEXEC, f.F_GETFD, f.F_SETFD, f.F_GETFL}
_LOCK_COMMANDS: Final = {f.F_GETLK, f.F_SETLK, f.F_SETLKW}
_LOCK64_COMMANDS: Final = {f.F_GETLK64, f.F_SETLK64, f.F_SETLKW64}
_OFD_COMMANDS: Final = {f.F_OFD_GETLK, f.F_OFD_SETLK, f.F_OFD_SETLKW}
_GET_COMMANDS: Final = {f.F_GETLK, f.F_GETLK64, f.F_OFD_GETLK}
_WAIT_COMMANDS: Final = {f.F_SETLKW, f.F_SETLKW64, f.F_OFD_SETLKW}


def sys_fcntl(_kernel: Kernel, task: Task, fd: Fd, cmd: FcntlCmd, arg: ULong) -> Result:
    """Control a descriptor: fcntl(2)."""
    file = task.files.get_raw(fd)
    if file.flags & f.O_PATH and cmd not in _PATH_COMMANDS:
        raise LinuxError(Errno.EBADF, "opened with O_PATH")
    if cmd in _LOCK_COMMANDS:
        return _lock(task, file, fd, cmd, arg, f.FLOCK_X86_64 if abi_of(task).word == 8 else f.FLOCK_I386)
    if cmd in _OFD_COMMANDS and abi_of(task).word == 8:
        return _lock(task, file, fd, cmd, arg, f.FLOCK_X86_64)
    return _control(task, file, fd, cmd, arg)


def sys_fcntl64(kernel: Kernel, task: Task, fd: Fd, cmd: FcntlCmd, arg: ULong) -> Result:
    """Control a descriptor, with locks of 64 bits: fcntl64(2) of i386."""
    if cmd in _LOCK64_COMMANDS | _OFD_COMMANDS:
        file = task.files.get_raw(fd)
        if file.flags & f.O_PATH:
            raise LinuxError(Errno.EBADF, "opened with O_PATH")
        return _lock(task, file, fd, cmd, arg, f.FLOCK64_I386)
    return sys_fcntl(kernel, task, fd, cmd, arg)


def _control(task: Task, file: OpenFile, fd: int, cmd: int, arg: int) -> int:
    """do_fcntl without locks."""
    files = task.files
    match cmd:
        case f.F_DUPFD | f.F_DUPFD_CLOEXEC:
            limit = nofile_limit(task)
            if arg >= limit:
                raise LinuxError(Errno.EINVAL, f"descriptor {arg} is beyond RLIMIT_NOFILE")
            file.get_file()
            return files.add(file, limit, cloexec=cmd == f.F_DUPFD_CLOEXEC, minimum=arg)
        case f.F_GETFD:
            return f.FD_CLOEXEC if fd in files.cloexec else 0
        case f.F_SETFD:
            (files.cloexec.add if arg & f.FD_CLOEXEC else files.cloexec.discard)(fd)
            return 0
        case f.F_GETFL:
            return file.flags
        case f.F_SETFL:
            return _set_flags(task, file, arg)
        case f.F_GETOWN:
            return file.owner_pid
        case f.F_SETOWN:
            file.owner_pid = arg & 0xFFFF_FFFF
            return 0
        case f.F_GETSIG:
            return 0
        case f.F_GETLEASE:
            return f.F_UNLCK
        case f.F_GETPIPE_SZ | f.F_SETPIPE_SZ:
            return _pipe_size(task, file, cmd, arg)
        case f.F_GET_SEALS | f.F_ADD_SEALS:
            return _seals(file, cmd, arg)
        case _:
            raise LinuxError(Errno.EINVAL, f"fcntl command {cmd}")


def _set_flags(task: Task, file: OpenFile, arg: int) -> int:
    """Change the flags that may change (setfl).  Errors: EPERM: O_NOATIME of another's file."""
    if arg & f.O_NOATIME and not file.flags & f.O_NOATIME and not owner_or_capable(file.inode, task.cred):
        raise LinuxError(Errno.EPERM, "O_NOATIME of another's file")
    file.set_flags(file.flags & ~f.SETFL_MASK | arg & f.SETFL_MASK)
    return 0


def _pipe_size(task: Task, file: OpenFile, cmd: int, arg: int) -> int:
    """pipe_fcntl.  Errors: EBADF: no pipe; EPERM, EBUSY, EINVAL."""
    if not isinstance(file, PipeFile):
        raise LinuxError(Errno.EBADF, "no pipe")
    if cmd == f.F_GETPIPE_SZ:
        return file.pipe.max_buffers * 4096
    size = arg & 0xFFFF_FFFF
    if size > PIPE_MAX_SIZE and task.cred.fsuid:
        raise LinuxError(Errno.EPERM, "above pipe-max-size")
    return file.pipe.resize(size)


def _seals(file: OpenFile, cmd: int, arg: int) -> int:
    """memfd_fcntl.  Errors: EINVAL: no such file, or unknown seals; EPERM: sealed, or not writable; EBUSY: mapped."""
    inode = file.inode
    if not isinstance(inode, MemFile) or not isinstance(inode.sb, Tmpfs):
        raise LinuxError(Errno.EINVAL, "the file has no seals")
    if cmd == f.F_GET_SEALS:
        return inode.seals
    if not file.writable:
        raise LinuxError(Errno.EPERM, "not open for writing")
    if arg & ~f.F_ALL_SEALS:
        raise LinuxError(Errno.EINVAL, f"seals {arg:#x}")
    if inode.seals & f.F_SEAL_SEAL:
        raise LinuxError(Errno.EPERM, "no more seals may be added")
    shared = VM_SHARED | VM_MAYWRITE
    if arg & f.F_SEAL_WRITE and any(vma.flags & shared == shared for vma in inode.mapping.i_mmap):
        raise LinuxError(Errno.EBUSY, "mapped shared and writable")
    inode.seals |= arg
    inode.mapping.write_sealed = bool(inode.seals & (f.F_SEAL_WRITE | f.F_SEAL_FUTURE_WRITE))
    return 0


# ---- locks


def _locks_of(file: OpenFile) -> FileLocks:
    if file.inode.locks is None:
        file.inode.locks = FileLocks()
    return file.inode.locks


def _read_lock(task: Task, file: OpenFile, arg: int, layout: Struct, *, ofd: bool) -> tuple[FileLock, int]:
    """The lock described at *arg* (flock_to_posix_lock) and its l_whence.  Errors: EINVAL, EOVERFLOW, EFAULT."""
    kind, whence, start, length, pid = layout.unpack(copy_from_user(task.mm, arg, layout.size))
    if whence == f.SEEK_CUR:
        start += file.pos
    elif whence == f.SEEK_END:
        start += file.inode.size
    elif whence != f.SEEK_SET:
        raise LinuxError(Errno.EINVAL, f"l_whence {whence}")
    end = OFFSET_MAX
    if length > 0:
        end = start + length - 1
    elif length < 0:
        start, end = start + length, start - 1
    if start < 0:
        raise LinuxError(Errno.EINVAL, "the lock begins before the file")
    if end > OFFSET_MAX:
        raise LinuxError(Errno.EOVERFLOW, "the lock ends beyond all files")
    if kind not in {f.F_RDLCK, f.F_WRLCK, f.F_UNLCK}:
        raise LinuxError(Errno.EINVAL, f"l_type {kind}")
    if ofd and pid:
        raise LinuxError(Errno.EINVAL, "l_pid of an OFD lock is 0")
    return new_lock(kind, start, end, file if ofd else task.files, -1 if ofd else task.tgid), whence


def _lock(task: Task, file: OpenFile, fd: int, cmd: int, arg: int, layout: Struct) -> Result:
    """fcntl_getlk, fcntl_setlk."""
    lock, _ = _read_lock(task, file, arg, layout, ofd=cmd in _OFD_COMMANDS)
    locks = _locks_of(file)
    if cmd in _GET_COMMANDS:
        return _get_lock(task, locks, lock, arg, layout)
    if lock.kind == f.F_RDLCK and not file.readable:
        raise LinuxError(Errno.EBADF, "a read lock needs a readable file")
    if lock.kind == f.F_WRLCK and not file.writable:
        raise LinuxError(Errno.EBADF, "a write lock needs a writable file")
    if lock.kind != f.F_UNLCK and locks.conflict(lock) is not None:
        if cmd not in _WAIT_COMMANDS:
            raise LinuxError(Errno.EAGAIN, "another holds the lock")
        return holding(file, _lock_wait(task, file, fd, lock))
    locks.set_posix(lock)
    return 0


async def _lock_wait(task: Task, file: OpenFile, fd: int, lock: FileLock) -> int:
    """Wait for *lock*.  Errors: EDEADLK; EBADF: another thread closed *fd* meanwhile, which drops its locks."""
    locks, files = _locks_of(file), task.files
    await locks.wait_posix(lock, task.kernel.vfs.lock_waits)
    if lock.owner is files and (fd >= len(files.fds) or files.fds[fd] is not file):
        locks.set_posix(new_lock(f.F_UNLCK, lock.start, lock.end, files, lock.pid))
        raise LinuxError(Errno.EBADF, "the descriptor was closed while we waited")
    return 0


def _get_lock(task: Task, locks: FileLocks, lock: FileLock, arg: int, layout: Struct) -> int:
    """F_GETLK: the lock that stands in the way, or F_UNLCK in l_type."""
    if lock.kind == f.F_UNLCK:
        raise LinuxError(Errno.EINVAL, "F_GETLK of F_UNLCK")
    held = locks.conflict(lock)
    if held is None:
        data = bytearray(copy_from_user(task.mm, arg, layout.size))
        data[0:2] = f.F_UNLCK.to_bytes(2, "little")
        copy_to_user(task.mm, arg, data)
        return 0
    length = 0 if held.end == OFFSET_MAX else held.end - held.start + 1
    copy_to_user(task.mm, arg, layout.pack(held.kind, f.SEEK_SET, held.start, length, held.pid))
    return 0


_FLOCK_KINDS: Final = {f.LOCK_SH: f.F_RDLCK, f.LOCK_EX: f.F_WRLCK, f.LOCK_UN: f.F_UNLCK}


def sys_flock(_kernel: Kernel, task: Task, fd: Fd, operation: Int) -> Result:
    """Lock a whole file: flock(2).  Errors: EINVAL, EBADF, EAGAIN."""
    if operation & f.LOCK_MAND:
        return 0
    kind = _FLOCK_KINDS.get(operation & ~f.LOCK_NB)
    if kind is None:
        raise LinuxError(Errno.EINVAL, f"flock operation {operation:#x}")
    file = task.files.get(fd)
    if kind != f.F_UNLCK and not file.readable and not file.writable:
        raise LinuxError(Errno.EBADF, "neither readable nor writable")
    locks = _locks_of(file)
    if locks.try_flock(kind, file, task.tgid):
        return 0
    if operation & f.LOCK_NB:
        raise LinuxError(Errno.EAGAIN, "another holds the lock")
    return holding(file, _flock_wait(locks, kind, file, task.tgid))


async def _flock_wait(locks: FileLocks, kind: int, file: OpenFile, pid: int) -> int:
    """Wait until the lock can be had, and take it."""
    while not locks.try_flock(kind, file, pid):
        await locks.queue.wait()
    return 0


# ---- ioctl


def sys_ioctl(_kernel: Kernel, task: Task, fd: Fd, request: IoctlCmd, arg: ULong) -> int:
    """Control a device: ioctl(2) (do_vfs_ioctl)."""
    file = task.files.get(fd)
    files = task.files
    match request:
        case io.FIOCLEX:
            files.cloexec.add(fd)
            return 0
        case io.FIONCLEX:
            files.cloexec.discard(fd)
            return 0
        case io.FIONBIO:
            on = get_user(task.mm, arg, 4)
            file.set_flags(file.flags | f.O_NONBLOCK if on else file.flags & ~f.O_NONBLOCK)
            return 0
        case io.FIOASYNC:
            on = get_user(task.mm, arg, 4)
            if bool(on) != bool(file.flags & f.O_ASYNC):
                raise LinuxError(Errno.ENOTTY, "no SIGIO from this file")
            return 0
        case io.FIOQSIZE if file.inode.is_reg or file.inode.is_dir or file.inode.is_symlink:
            copy_to_user(task.mm, arg, file.inode.size.to_bytes(8, "little"))
            return 0
        case io.FIONREAD if file.inode.is_reg:
            left = (file.size - file.pos) & 0xFFFF_FFFF
            copy_to_user(task.mm, arg, left.to_bytes(4, "little"))
            return 0
        case io.FICLONE | io.FICLONERANGE if file.inode.is_reg:
            raise LinuxError(Errno.EOPNOTSUPP, "no shared extents")
        case _:
            return file.ioctl(task, request, arg)


ENTRIES: Final[tuple[Entry, ...]] = (
    partial("fcntl", sys_fcntl, "no leases, F_NOTIFY, F_SETSIG; no SIGIO"),
    partial("fcntl64", sys_fcntl64, "no leases, F_NOTIFY, F_SETSIG; no SIGIO", abi="i386"),
    full("flock", sys_flock),
    partial("ioctl", sys_ioctl, "those of files, pipes, terminals, /dev/random"),
)
