"""Handlers: signals read from a file.  Linux: fs/signalfd.c."""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_CLOEXEC, O_NONBLOCK
from minikernel.kernel import Kernel
from minikernel.syscalls.args import Fd, Int, SigsetIn, Size
from minikernel.syscalls.entry_types import Entry, full
from minikernel.syscalls.file_common import nofile_limit
from minikernel.syscalls.sigaction import check_sigset_size, read_sigset
from minikernel.task.signalfd import SignalFile
from minikernel.task.task import Task

_NEW: Final = -1


def sys_signalfd4(kernel: Kernel, task: Task, ufd: Fd, mask: SigsetIn, size: Size, flags: Int) -> int:
    """signalfd4(2): a new descriptor, or other signals for *ufd*.

    Errors:
        EINVAL: size, flags, *ufd* is no signalfd.  EFAULT, EBADF, EMFILE.
    """
    check_sigset_size(size)
    signals = read_sigset(task, mask)
    if flags & ~(O_CLOEXEC | O_NONBLOCK):
        raise LinuxError(Errno.EINVAL, f"signalfd4: flags {flags:#x}")
    if ufd == _NEW:
        anon = kernel.vfs.anon
        file = SignalFile(anon.path(b"anon_inode:[signalfd]", anon.inode), flags & O_NONBLOCK, kernel, signals)
        return task.files.add(file, nofile_limit(task), cloexec=bool(flags & O_CLOEXEC))
    known = task.files.get(ufd)
    if not isinstance(known, SignalFile):
        raise LinuxError(Errno.EINVAL, f"descriptor {ufd} is no signalfd")
    known.set_mask(signals)
    return ufd


def sys_signalfd(kernel: Kernel, task: Task, ufd: Fd, mask: SigsetIn, size: Size) -> int:
    """signalfd(2)."""
    return sys_signalfd4(kernel, task, ufd, mask, size, 0)


ENTRIES: Final[tuple[Entry, ...]] = (
    full("signalfd", sys_signalfd),
    full("signalfd4", sys_signalfd4),
)
