"""Handlers: open, close, dup, and files without a name.  Linux: fs/open.c, fs/file.c, fs/pipe.c, mm/memfd.c."""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import (
    AT_FDCWD,
    CLOSE_RANGE_CLOEXEC,
    CLOSE_RANGE_UNSHARE,
    EFD_SEMAPHORE,
    MFD_ALLOW_SEALING,
    MFD_CLOEXEC,
    MFD_EXEC,
    MFD_HUGETLB,
    MFD_NOEXEC_SEAL,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECT,
    O_LARGEFILE,
    O_NONBLOCK,
    O_PATH,
    O_PATH_FLAGS,
    O_TMPFILE_BIT,
    O_TRUNC,
    O_WRONLY,
    RESOLVE_BENEATH,
    RESOLVE_CACHED,
    RESOLVE_IN_ROOT,
    VALID_OPEN_FLAGS,
    VALID_RESOLVE_FLAGS,
)
from minikernel.abi.stat import S_IALLUGO
from minikernel.fs.file import OpenFile
from minikernel.fs.open import check_large, do_open
from minikernel.fs.pipe import fifo_wait, other_end_opened
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user, strncpy_from_user
from minikernel.syscalls.args import (
    CloseRangeFlags,
    DirFd,
    EventfdFlags,
    Fd,
    IntPairOut,
    MemfdFlags,
    Mode,
    OpenFlags,
    PathPtr,
    Ptr,
    Size,
    StrPtr,
    UInt,
)
from minikernel.syscalls.entry_types import Entry, Result, full, partial
from minikernel.syscalls.file_common import abi_of, get_name, nofile_limit, start_of
from minikernel.task.task import Task
from minikernel.wait import WaitQueue

_OPEN_HOW_SIZE: Final = 24
_PAGE_SIZE: Final = 4096
_MFD_NAME_MAX: Final = 249


def _open(task: Task, dirfd: int, name: bytes, flags: int, mode: int, resolve: int = 0) -> Result:
    """do_sys_openat2: the descriptor, or a coroutine that waits for the other end of a FIFO."""
    if abi_of(task).word == 8:
        flags |= O_LARGEFILE
    files = task.files
    limit = nofile_limit(task)
    files.find_free(limit)
    file = do_open(task.fs, task.cred, name, flags, mode, start=start_of(task, dirfd, name), resolve=resolve)
    try:
        check_large(file)
    except LinuxError:
        file.put_file()
        raise
    opened = other_end_opened(file)
    queue = fifo_wait(file, opened)
    cloexec = bool(flags & O_CLOEXEC)
    if queue is not None:
        return _open_wait(task, file, queue, opened, cloexec=cloexec)
    return files.add(file, limit, cloexec=cloexec)


async def _open_wait(task: Task, file: OpenFile, queue: WaitQueue | None, opened: int, *, cloexec: bool) -> int:
    """Wait until the other end of a FIFO is opened too (wait_for_partner)."""
    try:
        while queue is not None:
            await queue.wait()
            queue = fifo_wait(file, opened)
    except BaseException:
        file.put_file()
        raise
    return task.files.add(file, nofile_limit(task), cloexec=cloexec)


def sys_open(_kernel: Kernel, task: Task, path: PathPtr, flags: OpenFlags, mode: Mode) -> Result:
    """Open a file: open(2)."""
    return _open(task, AT_FDCWD, get_name(task, path), flags, mode)


def sys_creat(_kernel: Kernel, task: Task, path: PathPtr, mode: Mode) -> Result:
    """Make or empty a file: creat(2)."""
    return _open(task, AT_FDCWD, get_name(task, path), O_CREAT | O_WRONLY | O_TRUNC, mode)


def sys_openat(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, flags: OpenFlags, mode: Mode) -> Result:
    """Open a file, its name seen from a directory: openat(2)."""
    return _open(task, dirfd, get_name(task, path), flags, mode)


def sys_openat2(_kernel: Kernel, task: Task, dirfd: DirFd, path: PathPtr, how: Ptr, size: Size) -> Result:
    """Open a file with strict flags and ways to resolve its name: openat2(2).

    Errors:
        EINVAL: unknown flags, a mode without O_CREAT, too small a struct; E2BIG: a larger one with unknown fields set;
        EAGAIN: RESOLVE_CACHED, which we have no notion of.
    """
    if size < _OPEN_HOW_SIZE:
        raise LinuxError(Errno.EINVAL, "struct open_how is larger")
    if size > _PAGE_SIZE:
        raise LinuxError(Errno.E2BIG, "struct open_how is smaller")
    data = copy_from_user(task.mm, how, size)
    if any(data[_OPEN_HOW_SIZE:]):
        raise LinuxError(Errno.E2BIG, "unknown fields of struct open_how")
    flags, mode, resolve = (int.from_bytes(data[at : at + 8], "little") for at in (0, 8, 16))
    path_only = bool(flags & O_PATH)
    if flags & ~(O_PATH_FLAGS if path_only else VALID_OPEN_FLAGS) or resolve & ~VALID_RESOLVE_FLAGS:
        raise LinuxError(Errno.EINVAL, f"open flags {flags:#x}, resolve {resolve:#x}")
    if resolve & RESOLVE_BENEATH and resolve & RESOLVE_IN_ROOT:
        raise LinuxError(Errno.EINVAL, "RESOLVE_BENEATH with RESOLVE_IN_ROOT")
    making = bool(flags & (O_CREAT | O_TMPFILE_BIT))
    if mode & ~S_IALLUGO if making else mode:
        raise LinuxError(Errno.EINVAL, f"mode {mode:#o}")
    if resolve & RESOLVE_CACHED:
        raise LinuxError(Errno.EAGAIN, "RESOLVE_CACHED")
    name = get_name(task, path)
    if resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT) and name[:1] == b"/" and dirfd != AT_FDCWD:
        # Here an absolute name is seen from dirfd too.
        return _open_rooted(task, dirfd, name, flags, mode, resolve)
    return _open(task, dirfd, name, flags, mode, resolve)


def _open_rooted(task: Task, dirfd: int, name: bytes, flags: int, mode: int, resolve: int) -> Result:
    """openat2 of an absolute name that stays in *dirfd*."""
    file = do_open(
        task.fs, task.cred, name, flags | O_LARGEFILE, mode, start=task.files.get_raw(dirfd).f_path, resolve=resolve
    )
    return task.files.add(file, nofile_limit(task), cloexec=bool(flags & O_CLOEXEC))


def sys_close(_kernel: Kernel, task: Task, fd: Fd) -> int:
    """Close a descriptor: close(2).  Errors: EBADF."""
    task.files.close(fd)
    return 0


def sys_close_range(_kernel: Kernel, task: Task, first: UInt, last: UInt, flags: CloseRangeFlags) -> int:
    """Close, or mark, descriptors *first* to *last*: close_range(2).  Errors: EINVAL."""
    if flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) or first > last:
        raise LinuxError(Errno.EINVAL, f"close_range {first} {last} {flags:#x}")
    if flags & CLOSE_RANGE_UNSHARE and task.files.users > 1:
        shared, task.files = task.files, task.files.copy()
        shared.put()
    files = task.files
    for fd in files.open_fds():
        if first <= fd <= last:
            if flags & CLOSE_RANGE_CLOEXEC:
                files.cloexec.add(fd)
            else:
                files.close(fd)
    return 0


def sys_dup(_kernel: Kernel, task: Task, fd: Fd) -> int:
    """One more descriptor of the same open file: dup(2).  Errors: EBADF, EMFILE."""
    file = task.files.get_raw(fd)
    file.get_file()
    return task.files.add(file, nofile_limit(task))


def sys_dup2(_kernel: Kernel, task: Task, oldfd: Fd, newfd: Fd) -> int:
    """The same open file at *newfd*: dup2(2).  Errors: EBADF."""
    if oldfd == newfd:
        task.files.get_raw(oldfd)
        return newfd
    return _dup3(task, oldfd, newfd, cloexec=False)


def sys_dup3(_kernel: Kernel, task: Task, oldfd: Fd, newfd: Fd, flags: OpenFlags) -> int:
    """The same open file at *newfd*, with flags: dup3(2).  Errors: EINVAL, EBADF."""
    if flags & ~O_CLOEXEC or oldfd == newfd:
        raise LinuxError(Errno.EINVAL, f"dup3 {oldfd} {newfd} {flags:#x}")
    return _dup3(task, oldfd, newfd, cloexec=bool(flags & O_CLOEXEC))


def _dup3(task: Task, oldfd: int, newfd: int, *, cloexec: bool) -> int:
    if not 0 <= newfd < nofile_limit(task):
        raise LinuxError(Errno.EBADF, f"descriptor {newfd} is beyond RLIMIT_NOFILE")
    task.files.replace(newfd, task.files.get_raw(oldfd), cloexec=cloexec)
    return newfd


def sys_pipe(kernel: Kernel, task: Task, fds: IntPairOut) -> int:
    """Make a pipe: pipe(2)."""
    return sys_pipe2(kernel, task, fds, 0)


def sys_pipe2(kernel: Kernel, task: Task, fds: IntPairOut, flags: OpenFlags) -> int:
    """Make a pipe: pipe2(2).  Errors: EINVAL, EMFILE, EFAULT."""
    if flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT):
        raise LinuxError(Errno.EINVAL, f"pipe2 flags {flags:#x}")
    reader, writer = kernel.vfs.pipe(flags & (O_NONBLOCK | O_DIRECT))
    files, limit, cloexec = task.files, nofile_limit(task), bool(flags & O_CLOEXEC)
    try:
        first = files.add(reader, limit, cloexec=cloexec)
    except LinuxError:
        writer.put_file()
        raise
    try:
        second = files.add(writer, limit, cloexec=cloexec)
    except LinuxError:
        files.close(first)
        raise
    try:
        copy_to_user(task.mm, fds, first.to_bytes(4, "little") + second.to_bytes(4, "little"))
    except LinuxError:
        files.close(first)
        files.close(second)
        raise
    return 0


def sys_eventfd(kernel: Kernel, task: Task, count: UInt) -> int:
    """Make a counter: eventfd(2)."""
    return sys_eventfd2(kernel, task, count, 0)


def sys_eventfd2(kernel: Kernel, task: Task, count: UInt, flags: EventfdFlags) -> int:
    """Make a counter: eventfd2(2).  Errors: EINVAL, EMFILE."""
    if flags & ~(O_CLOEXEC | O_NONBLOCK | EFD_SEMAPHORE):
        raise LinuxError(Errno.EINVAL, f"eventfd flags {flags:#x}")
    file = kernel.vfs.eventfd(count, flags & O_NONBLOCK, semaphore=bool(flags & EFD_SEMAPHORE))
    return task.files.add(file, nofile_limit(task), cloexec=bool(flags & O_CLOEXEC))


def sys_memfd_create(kernel: Kernel, task: Task, name: StrPtr, flags: MemfdFlags) -> int:
    """Make a file without a place: memfd_create(2).  Errors: EINVAL, EFAULT, EMFILE; ENOSYS: huge pages."""
    if flags & MFD_HUGETLB:
        raise LinuxError(Errno.ENOSYS, "no huge pages")
    known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC
    if flags & ~known or (flags & MFD_EXEC and flags & MFD_NOEXEC_SEAL):
        raise LinuxError(Errno.EINVAL, f"memfd flags {flags:#x}")
    try:
        text = strncpy_from_user(task.mm, name, _MFD_NAME_MAX + 1)
    except LinuxError as error:
        raise LinuxError(Errno.EINVAL if error.errno == Errno.ENAMETOOLONG else error.errno, "memfd name") from None
    noexec = bool(flags & MFD_NOEXEC_SEAL)
    file = kernel.vfs.memfd(text, task.cred, sealable=noexec or bool(flags & MFD_ALLOW_SEALING), noexec=noexec)
    return task.files.add(file, nofile_limit(task), cloexec=bool(flags & MFD_CLOEXEC))


ENTRIES: Final[tuple[Entry, ...]] = (
    full("open", sys_open),
    full("creat", sys_creat),
    full("openat", sys_openat),
    partial("openat2", sys_openat2, "RESOLVE_CACHED is always EAGAIN"),
    full("close", sys_close),
    full("close_range", sys_close_range),
    full("dup", sys_dup),
    full("dup2", sys_dup2),
    full("dup3", sys_dup3),
    full("pipe", sys_pipe),
    full("pipe2", sys_pipe2),
    full("eventfd", sys_eventfd),
    full("eventfd2", sys_eventfd2),
    partial("memfd_create", sys_memfd_create, "no huge pages"),
)
