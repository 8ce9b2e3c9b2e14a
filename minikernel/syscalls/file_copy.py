"""Handlers: from file to file without user memory.  Linux: fs/read_write.c (do_sendfile, vfs_copy_file_range)."""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_APPEND, O_NONBLOCK, SEEK_CUR, SEEK_SET
from minikernel.fs.file import MAX_RW_COUNT, BrokenPipe, OpenFile, RegularFile, WouldBlock, can_seek
from minikernel.fs.pipe import PipeFile
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.syscalls.args import Fd, Ptr, Size, UInt
from minikernel.syscalls.entry_types import Entry, Result, full, partial
from minikernel.syscalls.file_common import abi_of, holding, send_sigpipe
from minikernel.syscalls.file_splice import splice_to_pipe
from minikernel.task.task import Task

_CHUNK: Final = 1 << 16  # what a pipe takes at once


class _Transfer:
    """A copy under way.  An offset of None means the file's own position."""

    __slots__ = ("done", "in_offset", "input", "out_offset", "output", "total")

    def __init__(
        self, source: OpenFile, target: OpenFile, in_offset: int | None, out_offset: int | None, total: int
    ) -> None:
        self.input = source
        self.output = target
        self.in_offset = in_offset
        self.out_offset = out_offset
        self.total = total
        self.done = 0

    def run(self) -> None:
        """Go on until all is copied, the input ends, or WouldBlock."""
        while self.done < self.total:
            start = self.input.seek(0, SEEK_CUR) if self.in_offset is None else self.in_offset
            data = self.input.pread(min(_CHUNK, self.total - self.done), start)
            if not data:
                return
            if self.out_offset is None:
                written = self.output.write(data)
            else:
                written = self.output.pwrite(data, self.out_offset)
                self.out_offset += written
            if self.in_offset is None:
                self.input.seek(start + written, SEEK_SET)
            else:
                self.in_offset += written
            self.done += written


def _offset_at(task: Task, address: int, size: int) -> int | None:
    """The offset at *address*, None if there is none.  Errors: EFAULT."""
    if not address:
        return None
    return int.from_bytes(copy_from_user(task.mm, address, size), "little", signed=True)


def _sendfile(task: Task, out_fd: int, in_fd: int, address: int, count: int, word: int) -> Result:
    """do_sendfile.

    Errors:
        EBADF; ESPIPE: an offset and no positions; EINVAL: the input cannot be mapped, the output appends;
        EOVERFLOW: the offset does not fit.
    """
    offset = _offset_at(task, address, word)
    source = task.files.get(in_fd)
    if not source.readable:
        raise LinuxError(Errno.EBADF, "the input is not readable")
    if offset is not None and not can_seek(source):
        raise LinuxError(Errno.ESPIPE, "the input has no positions")
    target = task.files.get(out_fd)
    if not target.writable:
        raise LinuxError(Errno.EBADF, "the output is not writable")
    if (offset is not None and offset < 0) or not source.inode.is_reg or target.flags & O_APPEND:
        raise LinuxError(Errno.EINVAL, "sendfile is from a regular file, and does not append")
    if isinstance(target, PipeFile):
        return splice_to_pipe(task, source, target, address, word, min(count, MAX_RW_COUNT))
    transfer = _Transfer(source, target, offset, None, min(count, MAX_RW_COUNT))
    try:
        transfer.run()
    except WouldBlock as blocked:
        if target.flags & O_NONBLOCK:
            if not transfer.done:
                raise
        else:
            return holding(source, holding(target, _send_wait(task, transfer, blocked, address, word)))
    except LinuxError as error:
        if isinstance(error, BrokenPipe):
            send_sigpipe(task)
        if not transfer.done:
            raise
    return _finish(task, transfer, address, word)


def _finish(task: Task, transfer: _Transfer, address: int, word: int) -> int:
    if transfer.in_offset is not None:
        copy_to_user(task.mm, address, transfer.in_offset.to_bytes(word, "little"))
    return transfer.done


async def _send_wait(task: Task, transfer: _Transfer, blocked: WouldBlock, address: int, word: int) -> int:
    """Wait for room in the output until all is sent."""
    queue = blocked.queue
    while True:
        await queue.wait()
        try:
            transfer.run()
        except WouldBlock as again:
            queue = again.queue
            continue
        except BrokenPipe:
            send_sigpipe(task)
            if not transfer.done:
                raise
        return _finish(task, transfer, address, word)


def sys_sendfile(_kernel: Kernel, task: Task, out_fd: Fd, in_fd: Fd, offset: Ptr, count: Size) -> Result:
    """Send a file: sendfile(2), with an offset of the ABI's word."""
    return _sendfile(task, out_fd, in_fd, offset, count, abi_of(task).word)


def sys_sendfile64(_kernel: Kernel, task: Task, out_fd: Fd, in_fd: Fd, offset: Ptr, count: Size) -> Result:
    """Send a file: sendfile64(2) of i386."""
    return _sendfile(task, out_fd, in_fd, offset, count, 8)


def sys_copy_file_range(
    _kernel: Kernel, task: Task, fd_in: Fd, off_in: Ptr, fd_out: Fd, off_out: Ptr, count: Size, flags: UInt
) -> int:
    """Copy between regular files: copy_file_range(2).

    Errors:
        EBADF; EFAULT; EINVAL: flags, no regular files, overlapping ranges of one file; EISDIR;
        EXDEV: different file systems.
    """
    source, target = task.files.get(fd_in), task.files.get(fd_out)
    in_offset, out_offset = _offset_at(task, off_in, 8), _offset_at(task, off_out, 8)
    if flags:
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    if source.inode.is_dir or target.inode.is_dir:
        raise LinuxError(Errno.EISDIR, "a directory")
    if not source.inode.is_reg or not target.inode.is_reg:
        raise LinuxError(Errno.EINVAL, "not between regular files")
    if not source.readable or not target.writable or target.flags & O_APPEND:
        raise LinuxError(Errno.EBADF, "the files are not open for it")
    if source.inode.sb is not target.inode.sb or not isinstance(source, RegularFile):
        raise LinuxError(Errno.EXDEV, "different file systems")
    start = source.pos if in_offset is None else in_offset
    end = target.pos if out_offset is None else out_offset
    if start < 0 or end < 0:
        raise LinuxError(Errno.EINVAL, "a negative offset")
    count = min(count, max(source.inode.size - start, 0))
    if source.inode is target.inode and start < end + count and end < start + count:
        raise LinuxError(Errno.EINVAL, "the ranges overlap")
    transfer = _Transfer(source, target, in_offset, end, min(count, MAX_RW_COUNT))
    transfer.run()
    if out_offset is None:
        target.pos += transfer.done
    else:
        copy_to_user(task.mm, off_out, (out_offset + transfer.done).to_bytes(8, "little"))
    return _finish(task, transfer, off_in, 8)


ENTRIES: Final[tuple[Entry, ...]] = (
    partial("sendfile", sys_sendfile, "from regular files only"),
    partial("sendfile64", sys_sendfile64, "from regular files only", abi="i386"),
    full("copy_file_range", sys_copy_file_range),
)
