"""Handlers: splice, tee, vmsplice.  Linux: fs/splice.c.

Pages are copied, not moved: what a program can tell is the same.
"""

from collections.abc import Callable
from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_APPEND, O_NONBLOCK, SEEK_CUR, SEEK_SET
from minikernel.fs.file import MAX_RW_COUNT, BrokenPipe, OpenFile, WouldBlock, can_seek
from minikernel.fs.pipe import PipeFile
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.syscalls.args import Fd, IovecIn, Ptr, Size, UInt, ULong
from minikernel.syscalls.entry_types import Entry, Result, full, partial
from minikernel.syscalls.file_common import holding, send_sigpipe
from minikernel.syscalls.file_io import import_iovec, read_segments, write_segments
from minikernel.task.task import Task

SPLICE_F_NONBLOCK: Final = 2
_FLAGS_ALL: Final = 15
_PAGE: Final = 4096

Step = Callable[[], int]
"""Moves some bytes and says how many; raises WouldBlock if none can move now."""


def _run(task: Task, files: tuple[OpenFile, OpenFile], step: Step, *, nowait: bool) -> Result:
    """Make *step*; if it would block, wait and make it then."""
    try:
        return step()
    except WouldBlock as blocked:
        if nowait:
            raise
        return holding(files[0], holding(files[1], _wait(task, step, blocked)))
    except BrokenPipe:
        send_sigpipe(task)
        raise


async def _wait(task: Task, step: Step, blocked: WouldBlock) -> int:
    """Wait until *step* can be made, and make it."""
    queue = blocked.queue
    while True:
        await queue.wait()
        try:
            return step()
        except WouldBlock as again:
            queue = again.queue
        except BrokenPipe:
            send_sigpipe(task)
            raise


def _check_room(target: PipeFile) -> None:
    """Wait for room in pipe *target* (wait_for_space).  Errors: EPIPE, EAGAIN."""
    pipe = target.pipe
    if not pipe.readers:
        raise BrokenPipe("nobody reads")
    if len(pipe.buffers) >= pipe.max_buffers:
        raise WouldBlock(pipe.writable, "the pipe is full")


class _Offset:
    """An offset of *size* bytes in user memory, or (address 0) the file's own position."""

    __slots__ = ("address", "file", "size", "task")

    def __init__(self, task: Task, file: OpenFile, address: int, size: int = 8) -> None:
        self.task = task
        self.file = file
        self.address = address
        self.size = size

    def get(self) -> int:
        """Where to start."""
        if not self.address:
            return self.file.seek(0, SEEK_CUR)
        return int.from_bytes(copy_from_user(self.task.mm, self.address, self.size), "little", signed=True)

    def set(self, offset: int) -> None:
        """Where it ended."""
        if self.address:
            copy_to_user(self.task.mm, self.address, offset.to_bytes(self.size, "little"))
        else:
            self.file.seek(offset, SEEK_SET)


def _file_to_pipe(source: OpenFile, target: PipeFile, offset: _Offset, size: int) -> int:
    """splice_file_to_pipe; each page of a file takes one buffer."""
    start = offset.get() if can_seek(source) else 0
    if start < 0:
        raise LinuxError(Errno.EINVAL, "a negative offset")
    if source.inode.is_dir:
        raise LinuxError(Errno.EINVAL, "a directory")
    _check_room(target)
    pipe = target.pipe
    first = _PAGE - start % _PAGE if source.inode.is_reg else _PAGE
    size = min(size, (pipe.max_buffers - len(pipe.buffers)) * _PAGE - (_PAGE - first))
    if not can_seek(source):
        return pipe.store_pages(source.read(size), first)
    moved = pipe.store_pages(source.pread(size, start), first)
    offset.set(start + moved)
    return moved


def _pipe_to_file(source: PipeFile, target: OpenFile, offset: _Offset, size: int) -> int:
    """do_splice_from: what the pipe holds, up to *size* bytes."""
    data = source.read(size)
    if not data:
        return 0
    try:
        if can_seek(target):
            start = offset.get()
            written = target.pwrite(data, start)
            offset.set(start + written)
        else:
            written = target.write(data)
    except LinuxError:
        source.unread(data)
        raise
    if written < len(data):
        source.unread(data[written:])
    return written


def sys_splice(
    _kernel: Kernel, task: Task, fd_in: Fd, off_in: Ptr, fd_out: Fd, off_out: Ptr, count: Size, flags: UInt
) -> Result:
    """Move bytes from or to a pipe: splice(2).

    Errors:
        EINVAL: flags, no pipe, the same pipe twice, an output that appends; ESPIPE: an offset of a pipe; EBADF.
    """
    if not count:
        return 0
    if flags & ~_FLAGS_ALL:
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    source, target = task.files.get(fd_in), task.files.get(fd_out)
    if not source.readable or not target.writable:
        raise LinuxError(Errno.EBADF, "the files are not open for it")
    for file, offset in ((source, off_in), (target, off_out)):
        if offset and isinstance(file, PipeFile):
            raise LinuxError(Errno.ESPIPE, "an offset of a pipe")
        if offset and not can_seek(file):
            raise LinuxError(Errno.EINVAL, "an offset of a file without positions")
    size = min(count, MAX_RW_COUNT)
    nowait = bool(flags & SPLICE_F_NONBLOCK)
    if isinstance(source, PipeFile) and isinstance(target, PipeFile):
        if source.pipe is target.pipe:
            raise LinuxError(Errno.EINVAL, "a pipe into itself")
        nowait = nowait or bool((source.flags | target.flags) & O_NONBLOCK)
        return _run(task, (source, target), _between(source, target, size), nowait=nowait)
    if isinstance(source, PipeFile):
        if target.flags & O_APPEND:
            raise LinuxError(Errno.EINVAL, "the output appends")
        place = _Offset(task, target, off_out)
        drain = lambda: _pipe_to_file(source, target, place, size)  # noqa: E731 - a step of one expression
        return _run(task, (source, target), drain, nowait=nowait or bool(source.flags & O_NONBLOCK))
    if isinstance(target, PipeFile):
        place = _Offset(task, source, off_in)
        fill = lambda: _file_to_pipe(source, target, place, size)  # noqa: E731 - a step of one expression
        return _run(task, (source, target), fill, nowait=nowait or bool(target.flags & O_NONBLOCK))
    raise LinuxError(Errno.EINVAL, "neither file is a pipe")


def splice_to_pipe(task: Task, source: OpenFile, target: PipeFile, address: int, word: int, size: int) -> Result:
    """sendfile(2) into a pipe: what there is room for, once there is some; *address* of an offset of *word* bytes."""
    place = _Offset(task, source, address, word)
    fill = lambda: _file_to_pipe(source, target, place, size)  # noqa: E731 - a step of one expression
    return _run(task, (source, target), fill, nowait=bool(target.flags & O_NONBLOCK))


def _between(source: PipeFile, target: PipeFile, size: int, *, keep: bool = False) -> Step:
    """The step from pipe to pipe: splice_pipe_to_pipe, or with *keep* link_pipe (tee)."""

    def step() -> int:
        if not source.pipe.buffers:
            if not source.pipe.writers:
                return 0
            raise WouldBlock(source.pipe.readable, "the pipe is empty")
        _check_room(target)
        return source.pipe.splice_to(target.pipe, size, keep=keep)

    return step


def sys_tee(_kernel: Kernel, task: Task, fd_in: Fd, fd_out: Fd, count: Size, flags: UInt) -> Result:
    """Copy what a pipe holds into another: tee(2).  Errors: EINVAL, EBADF."""
    if flags & ~_FLAGS_ALL:
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    if not count:
        return 0
    source, target = task.files.get(fd_in), task.files.get(fd_out)
    if not source.readable or not target.writable:
        raise LinuxError(Errno.EBADF, "the files are not open for it")
    if not isinstance(source, PipeFile) or not isinstance(target, PipeFile) or source.pipe is target.pipe:
        raise LinuxError(Errno.EINVAL, "tee is from one pipe to another")
    nowait = bool(flags & SPLICE_F_NONBLOCK or (source.flags | target.flags) & O_NONBLOCK)
    return _run(task, (source, target), _between(source, target, min(count, MAX_RW_COUNT), keep=True), nowait=nowait)


def sys_vmsplice(_kernel: Kernel, task: Task, fd: Fd, iov: IovecIn, nr_segs: ULong, flags: UInt) -> Result:
    """Between memory and a pipe: vmsplice(2).  Errors: EINVAL, EBADF."""
    if flags & ~_FLAGS_ALL:
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    file = task.files.get(fd)
    segments = import_iovec(task, iov, nr_segs)
    if not sum(size for _, size in segments):
        return 0
    if not isinstance(file, PipeFile):
        raise LinuxError(Errno.EBADF, "no pipe")
    nowait = bool(flags & SPLICE_F_NONBLOCK)
    if file.writable:
        return write_segments(task, file, segments, -1, nowait=nowait)
    return read_segments(task, file, segments, -1, nowait=nowait)


ENTRIES: Final[tuple[Entry, ...]] = (
    full("splice", sys_splice),
    full("tee", sys_tee),
    partial("vmsplice", sys_vmsplice, "copies; SPLICE_F_GIFT changes nothing"),
)
