"""Handlers: read, write and their relatives.  Linux: fs/read_write.c.

A regular file's bytes go page cache -> user memory in one piece; anything that would have to wait becomes a
coroutine that waits on the queue named by WouldBlock and tries again.
"""

from collections.abc import Callable
from typing import Final

from emu.x86 import PAGE_MASK
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_APPEND, O_DSYNC, O_NONBLOCK, O_SYNC
from minikernel.abi.resource import RLIM_INFINITY, RLIMIT_FSIZE
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import SIGXFSZ
from minikernel.abi.stat import S_IFIFO, S_IFMT
from minikernel.abi.uio import RWF_APPEND, RWF_DSYNC, RWF_NOAPPEND, RWF_NOWAIT, RWF_SUPPORTED, RWF_SYNC, UIO_MAXIOV
from minikernel.fs.file import MAX_RW_COUNT, BrokenPipe, OpenFile, WouldBlock, can_seek
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_from_user_partial, copy_to_user, copy_to_user_partial
from minikernel.syscalls.args import BufIn, BufOut, Fd, Hex, IovecIn, IovecOut, Off, Ptr, Size, UInt, ULong, Whence
from minikernel.syscalls.entry_types import Entry, Result, full, partial
from minikernel.syscalls.file_common import (
    USER_MAX,
    WaitLimit,
    abi_of,
    check_access,
    holding,
    send_sigpipe,
    split_offset,
)
from minikernel.task.signal import send_signal
from minikernel.task.task import Task
from minikernel.wait import Interrupted, WaitQueue

_CHUNK: Final = 1 << 20  # bytes moved at a time, to bound the host's memory
_ABSENT: Final = -1  # no offset: use and move the file position

Segment = tuple[int, int]
"""A piece of user memory: address, size in bytes."""


# ---- reading


def _store(task: Task, segments: list[Segment], done: int, data: bytes) -> int:
    """Copy *data* to where the *done* bytes before it ended in *segments*; how much of it could be stored."""
    stored = 0
    for address, size in segments:
        if done >= size:
            done -= size
            continue
        part = data[stored : stored + size - done]
        copied = copy_to_user_partial(task.mm, address + done, part)
        stored += copied
        if copied < len(part) or stored == len(data):
            break
        done = 0
    return stored


def _read_step(
    task: Task,
    file: OpenFile,
    segments: list[Segment],
    total: int,
    done: int,
    offset: int,
    *,
    read: Callable[[int], bytes] | None = None,
) -> tuple[int, bool]:
    """One read of at most _CHUNK bytes: how many are done then, and whether that was the last.

    Errors:
        WouldBlock: nothing is there yet; EFAULT: nothing could be stored.
    """
    wanted = min(total - done, _CHUNK)
    data = (read or file.read)(wanted) if offset == _ABSENT else file.pread(wanted, offset + done)
    if not data:
        return done, True
    if done or len(segments) > 1:
        stored = _store(task, segments, done, data)
    else:
        stored = copy_to_user_partial(task.mm, segments[0][0], data)
    if stored < len(data):
        if offset == _ABSENT:
            file.unread(data[stored:])
        if not stored and not done:
            raise LinuxError(Errno.EFAULT, "the buffer cannot be written")
        return done + stored, True
    return done + stored, len(data) < wanted or done + stored >= total


def read_segments(task: Task, file: OpenFile, segments: list[Segment], offset: int, *, nowait: bool = False) -> Result:
    """vfs_readv: read *file* into *segments*, at *offset* or at its position."""
    if not file.readable:
        raise LinuxError(Errno.EBADF, "not open for reading")
    total = min(sum(size for _, size in segments), MAX_RW_COUNT)
    done, last = 0, False
    while not last:
        try:
            done, last = _read_step(task, file, segments, total, done, offset)
        except WouldBlock as blocked:
            if done:
                return done
            if nowait or file.flags & O_NONBLOCK:
                raise
            return holding(file, _read_wait(task, file, segments, total, blocked))
        except LinuxError:
            if not done:
                raise
            return done
    return done


async def _read_wait(task: Task, file: OpenFile, segments: list[Segment], total: int, blocked: WouldBlock) -> int:
    """Wait as *blocked* says until something can be read, and read it."""
    limit = WaitLimit(task, file.read_timeout)
    while True:
        read = file.read
        if blocked.timeout_ns is None:
            await limit.wait(blocked.queue)
        elif not await blocked.queue.wait(blocked.timeout_ns):
            read = file.read_expired
        try:
            done, _ = _read_step(task, file, segments, total, 0, _ABSENT, read=read)
        except WouldBlock as again:
            blocked = again
            continue
        return done


def sys_read(_kernel: Kernel, task: Task, fd: Fd, buf: BufOut, count: Size) -> Result:
    """Read up to *count* bytes at the file position: read(2)."""
    file = task.files.get(fd)
    if count > _CHUNK or not file.readable or buf + count > USER_MAX:
        if file.readable:
            check_access(buf, count)
        return read_segments(task, file, [(buf, count)], _ABSENT)
    # The usual case, kept short: the same steps as read_segments for one buffer.
    try:
        data = file.read(count)
    except WouldBlock as blocked:
        if file.flags & O_NONBLOCK:
            raise
        return holding(file, _read_wait(task, file, [(buf, count)], count, blocked))
    try:
        copy_to_user(task.mm, buf, data)
    except LinuxError:
        stored = copy_to_user_partial(task.mm, buf, data)
        file.unread(data[stored:])
        if not stored:
            raise
        return stored
    return len(data)


def _check_offset(task: Task, fd: int, offset: int) -> OpenFile:
    """The file of a call with an offset.  Errors: EINVAL, EBADF, ESPIPE."""
    if offset < 0:
        raise LinuxError(Errno.EINVAL, f"offset {offset}")
    file = task.files.get(fd)
    if not can_seek(file):
        raise LinuxError(Errno.ESPIPE, "no positions")
    return file


def sys_pread64(_kernel: Kernel, task: Task, fd: Fd, buf: BufOut, count: Size, offset: Off) -> Result:
    """Read at *offset*: pread64(2)."""
    file = _check_offset(task, fd, offset)
    if file.readable:
        check_access(buf, count)
    return read_segments(task, file, [(buf, count)], offset)


def sys_pread64_i386(kernel: Kernel, task: Task, fd: Fd, buf: BufOut, count: Size, low: UInt, high: UInt) -> Result:
    """Read at an offset in two words: pread64(2) of i386."""
    return sys_pread64(kernel, task, fd, buf, count, split_offset(low, high))


# ---- writing


def _limit_size(task: Task, file: OpenFile, offset: int, size: int) -> int:
    """How many of *size* bytes RLIMIT_FSIZE lets be written (generic_write_check_limits).  Errors: EFBIG, SIGXFSZ."""
    limit = task.rlimits[RLIMIT_FSIZE][0]
    if limit == RLIM_INFINITY or not file.inode.is_reg:
        return size
    pos = file.inode.size if file.flags & O_APPEND else file.pos if offset == _ABSENT else offset
    if pos >= limit:
        send_signal(task, Siginfo(SIGXFSZ, pid=task.tgid, uid=task.cred.uid), group=False)
        raise LinuxError(Errno.EFBIG, "RLIMIT_FSIZE")
    return min(size, limit - pos)


def _load(task: Task, segments: list[Segment], done: int, size: int) -> bytes:
    """Up to *size* bytes of *segments* after the first *done*, or up to the first that cannot be read."""
    pieces: list[bytes] = []
    for address, length in segments:
        if done >= length:
            done -= length
            continue
        wanted = min(length - done, size)
        part = copy_from_user_partial(task.mm, address + done, wanted)
        pieces.append(part)
        size -= len(part)
        if len(part) < wanted or not size:
            break
        done = 0
    return b"".join(pieces)


def _write_step(
    task: Task, file: OpenFile, segments: list[Segment], total: int, done: int, offset: int
) -> tuple[int, bool]:
    """One write of at most _CHUNK bytes: how many are done then, and whether that was the last."""
    wanted = min(total - done, _CHUNK)
    data = _load(task, segments, done, wanted)
    if len(data) < wanted and file.inode.mode & S_IFMT == S_IFIFO:
        # A pipe is filled page by page, and a page that cannot be copied whole is not kept (pipe_write).
        data = data[: len(data) & ~PAGE_MASK]
    if len(data) < wanted and not data:
        if done:
            return done, True
        raise LinuxError(Errno.EFAULT, "the buffer cannot be read")
    at = _ABSENT if offset == _ABSENT else offset + done
    data = data[: _limit_size(task, file, at, len(data))] if file.inode.is_reg else data
    written = file.write(data) if offset == _ABSENT else file.pwrite(data, at)
    done += written
    return done, done >= total or not written or (written == len(data) < wanted)


def write_segments(
    task: Task, file: OpenFile, segments: list[Segment], offset: int, *, nowait: bool = False, done: int = 0
) -> Result:
    """vfs_writev: write *segments*, of which *done* bytes are written, to *file*, at *offset* or at its position."""
    if not file.writable:
        raise LinuxError(Errno.EBADF, "not open for writing")
    total = min(sum(size for _, size in segments), MAX_RW_COUNT)
    last = False
    while not last:
        try:
            done, last = _write_step(task, file, segments, total, done, offset)
        except WouldBlock as blocked:
            if nowait or file.flags & O_NONBLOCK:
                if done:
                    return done
                raise
            return holding(file, _write_wait(task, file, segments, total, done, blocked.queue))
        except LinuxError as error:
            if isinstance(error, BrokenPipe):
                send_sigpipe(task)
            if not done:
                raise
            return done
    return done


async def _write_wait(
    task: Task, file: OpenFile, segments: list[Segment], total: int, done: int, queue: WaitQueue
) -> int:
    """Wait on *queue* for room and go on, until all is written or a signal ends it."""
    last = False
    limit = WaitLimit(task, file.write_timeout)
    while not last:
        try:
            await limit.wait(queue)
        except (Interrupted, LinuxError):
            if done:
                return done
            raise
        try:
            while not last:
                done, last = _write_step(task, file, segments, total, done, _ABSENT)
        except WouldBlock as blocked:
            queue = blocked.queue
        except LinuxError as error:
            if isinstance(error, BrokenPipe):
                send_sigpipe(task)
            if not done:
                raise
            return done
    return done


def sys_write(_kernel: Kernel, task: Task, fd: Fd, buf: BufIn, count: Size) -> Result:
    """Write *count* bytes at the file position: write(2)."""
    file = task.files.get(fd)
    if file.writable:
        # The usual case, kept short; whatever is not usual happens again, and is answered, in write_segments.
        if count <= _CHUNK and (not file.inode.is_reg or task.rlimits[RLIMIT_FSIZE][0] == RLIM_INFINITY):
            try:
                data = copy_from_user(task.mm, buf, count)
            except LinuxError:
                data = b""
            if data:
                try:
                    written = file.write(data)
                except (WouldBlock, BrokenPipe):
                    written = 0
                if written == count or file.inode.is_reg:
                    return written
                return write_segments(task, file, [(buf, count)], _ABSENT, done=written)
        check_access(buf, count)
    return write_segments(task, file, [(buf, count)], _ABSENT)


def sys_pwrite64(_kernel: Kernel, task: Task, fd: Fd, buf: BufIn, count: Size, offset: Off) -> Result:
    """Write at *offset*: pwrite64(2)."""
    file = _check_offset(task, fd, offset)
    if file.writable:
        check_access(buf, count)
    return write_segments(task, file, [(buf, count)], offset)


def sys_pwrite64_i386(kernel: Kernel, task: Task, fd: Fd, buf: BufIn, count: Size, low: UInt, high: UInt) -> Result:
    """Write at an offset in two words: pwrite64(2) of i386."""
    return sys_pwrite64(kernel, task, fd, buf, count, split_offset(low, high))


# ---- vectors


def import_iovec(task: Task, address: int, count: int) -> list[Segment]:
    """The vector at *address*, cut to MAX_RW_COUNT bytes in all (lib/iov_iter.c).  Errors: EINVAL, EFAULT."""
    if count > UIO_MAXIOV:
        raise LinuxError(Errno.EINVAL, f"{count} segments")
    if not count:
        return []
    words = abi_of(task).unpack_words(copy_from_user(task.mm, address, count * 2 * abi_of(task).word))
    segments = list(zip(words[::2], words[1::2], strict=True))
    total = 0
    for number, (base, size) in enumerate(segments):
        if abi_of(task).signed(size) < 0:
            raise LinuxError(Errno.EINVAL, "a negative length")
        check_access(base, size)
        kept = min(size, MAX_RW_COUNT - total)
        segments[number] = (base, kept)
        total += kept
    return segments


def sys_readv(_kernel: Kernel, task: Task, fd: Fd, iov: IovecOut, iovcnt: ULong) -> Result:
    """Read into several buffers: readv(2)."""
    file = task.files.get(fd)
    if not file.readable:
        raise LinuxError(Errno.EBADF, "not open for reading")
    return read_segments(task, file, import_iovec(task, iov, iovcnt), _ABSENT)


def sys_writev(_kernel: Kernel, task: Task, fd: Fd, iov: IovecIn, iovcnt: ULong) -> Result:
    """Write several buffers: writev(2)."""
    file = task.files.get(fd)
    if not file.writable:
        raise LinuxError(Errno.EBADF, "not open for writing")
    return write_segments(task, file, import_iovec(task, iov, iovcnt), _ABSENT)


def _vector_offset(task: Task, low: int, high: int) -> int:
    """pos_from_hilo: on x86-64 the first word is all of it."""
    return split_offset(low, 0) if abi_of(task).word == 8 else split_offset(low, high & 0xFFFF_FFFF)


def sys_preadv(_kernel: Kernel, task: Task, fd: Fd, iov: IovecOut, iovcnt: ULong, low: ULong, high: ULong) -> Result:
    """Read into several buffers at an offset: preadv(2)."""
    offset = _vector_offset(task, low, high)
    file = _check_offset(task, fd, offset)
    if not file.readable:
        raise LinuxError(Errno.EBADF, "not open for reading")
    return read_segments(task, file, import_iovec(task, iov, iovcnt), offset)


def sys_pwritev(_kernel: Kernel, task: Task, fd: Fd, iov: IovecIn, iovcnt: ULong, low: ULong, high: ULong) -> Result:
    """Write several buffers at an offset: pwritev(2)."""
    offset = _vector_offset(task, low, high)
    file = _check_offset(task, fd, offset)
    if not file.writable:
        raise LinuxError(Errno.EBADF, "not open for writing")
    return write_segments(task, file, import_iovec(task, iov, iovcnt), offset)


def _check_rwf(flags: int) -> None:
    """kiocb_set_rw_flags.  Errors: EOPNOTSUPP, EINVAL."""
    if flags & ~RWF_SUPPORTED:
        raise LinuxError(Errno.EOPNOTSUPP, f"flags {flags:#x}")
    if flags & RWF_APPEND and flags & RWF_NOAPPEND:
        raise LinuxError(Errno.EINVAL, "RWF_APPEND with RWF_NOAPPEND")


def sys_preadv2(
    _kernel: Kernel, task: Task, fd: Fd, iov: IovecOut, iovcnt: ULong, low: ULong, high: ULong, flags: Hex
) -> Result:
    """Read with flags, at an offset or (-1) at the position: preadv2(2)."""
    offset = _vector_offset(task, low, high)
    file = task.files.get(fd) if offset == -1 else _check_offset(task, fd, offset)
    if not file.readable:
        raise LinuxError(Errno.EBADF, "not open for reading")
    segments = import_iovec(task, iov, iovcnt)
    _check_rwf(flags)
    return read_segments(task, file, segments, offset, nowait=bool(flags & RWF_NOWAIT))


def sys_pwritev2(
    _kernel: Kernel, task: Task, fd: Fd, iov: IovecIn, iovcnt: ULong, low: ULong, high: ULong, flags: Hex
) -> Result:
    """Write with flags, at an offset or (-1) at the position: pwritev2(2)."""
    offset = _vector_offset(task, low, high)
    file = task.files.get(fd) if offset == -1 else _check_offset(task, fd, offset)
    if not file.writable:
        raise LinuxError(Errno.EBADF, "not open for writing")
    segments = import_iovec(task, iov, iovcnt)
    _check_rwf(flags)
    kept = file.flags
    if flags & RWF_APPEND:
        file.flags |= O_APPEND
    if flags & RWF_NOAPPEND:
        file.flags &= ~O_APPEND
    if flags & (RWF_SYNC | RWF_DSYNC):
        file.flags |= O_SYNC if flags & RWF_SYNC else O_DSYNC
    try:
        return write_segments(task, file, segments, offset, nowait=bool(flags & RWF_NOWAIT))
    finally:
        file.flags = kept


# ---- position


def sys_lseek(_kernel: Kernel, task: Task, fd: Fd, offset: Off, whence: Whence) -> int:
    """Move the file position: lseek(2).  Errors: EBADF, EINVAL, ESPIPE, ENXIO, EOVERFLOW on i386."""
    file = task.files.get(fd)
    if whence > 4:
        raise LinuxError(Errno.EINVAL, f"whence {whence}")
    pos = file.seek(offset, whence)
    if pos > abi_of(task).mask >> 1:
        raise LinuxError(Errno.EOVERFLOW, "the position does not fit a long")
    return pos


def sys_llseek(_kernel: Kernel, task: Task, fd: Fd, high: ULong, low: ULong, result: Ptr, whence: Whence) -> int:
    """Move the file position by 64 bits: _llseek(2) of i386."""
    file = task.files.get(fd)
    if whence > 4:
        raise LinuxError(Errno.EINVAL, f"whence {whence}")
    pos = file.seek(split_offset(low, high), whence)
    copy_to_user(task.mm, result, pos.to_bytes(8, "little"))
    return 0


ENTRIES: Final[tuple[Entry, ...]] = (
    full("read", sys_read),
    full("write", sys_write),
    full("pread64", sys_pread64, abi="x86-64"),
    full("pwrite64", sys_pwrite64, abi="x86-64"),
    full("pread64", sys_pread64_i386, abi="i386"),
    full("pwrite64", sys_pwrite64_i386, abi="i386"),
    full("readv", sys_readv),
    full("writev", sys_writev),
    full("preadv", sys_preadv),
    full("pwritev", sys_pwritev),
    partial("preadv2", sys_preadv2, "RWF_ATOMIC and RWF_DONTCACHE are EOPNOTSUPP"),
    partial("pwritev2", sys_pwritev2, "RWF_ATOMIC and RWF_DONTCACHE are EOPNOTSUPP"),
    full("lseek", sys_lseek),
    full("_llseek", sys_llseek, abi="i386"),
)
