"""What the file calls share: names and directories from user memory, waiting, SIGPIPE."""

from collections.abc import Coroutine
from typing import Any, Final

from minikernel.abi.abi import X86_64, Abi
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import AT_FDCWD, O_NONBLOCK, PATH_MAX
from minikernel.abi.resource import RLIMIT_NOFILE
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import SIGPIPE
from minikernel.fs.dentry import Path
from minikernel.fs.file import OpenFile, WouldBlock
from minikernel.fs.namei import LOOKUP_EMPTY, LOOKUP_FOLLOW, lookup_at
from minikernel.mm.uaccess import strncpy_from_user
from minikernel.task.signal import send_signal
from minikernel.task.task import Task
from minikernel.wait import Interrupted, WaitQueue

USER_MAX: Final = X86_64.task_size  # what access_ok compares with, on a 64-bit kernel also for i386 programs


def abi_of(task: Task) -> Abi:
    """The ABI of the call *task* is in: that of ``int 0x80`` in a 64-bit program is i386."""
    return task.in_call or task.abi


def get_name(task: Task, address: int) -> bytes:
    """The name at *address* (getname).  Errors: EFAULT, ENAMETOOLONG.  An empty one is the path walk's business."""
    return strncpy_from_user(task.mm, address, PATH_MAX)


def start_of(task: Task, dirfd: int, name: bytes) -> Path | None:
    """Where relative *name* begins; None: the working directory, or it does not matter.  Errors: EBADF."""
    if dirfd == AT_FDCWD or name[:1] == b"/":
        return None
    return task.files.get_raw(dirfd).f_path


def path_at(task: Task, dirfd: int, address: int, *, follow: bool = True, empty: bool = False) -> Path:
    """Where the name at *address*, seen from *dirfd*, leads (user_path_at)."""
    name = get_name(task, address)
    if not name and not empty:
        raise LinuxError(Errno.ENOENT, "an empty name")
    flags = (LOOKUP_FOLLOW if follow else 0) | (LOOKUP_EMPTY if empty else 0)
    return lookup_at(task.fs, task.cred, name, start=start_of(task, dirfd, name), flags=flags)


def nofile_limit(task: Task) -> int:
    """RLIMIT_NOFILE now."""
    return task.rlimits[RLIMIT_NOFILE][0]


def check_access(address: int, size: int) -> None:
    """access_ok.  Errors: EFAULT."""
    if address + size > USER_MAX:
        raise LinuxError(Errno.EFAULT, f"{address:#x}+{size:#x} is not in user space")


def send_sigpipe(task: Task) -> None:
    """Tell *task* that nobody reads what it writes."""
    send_signal(task, Siginfo(SIGPIPE, pid=task.tgid, uid=task.cred.uid), group=False)


def would_wait(file: OpenFile, blocked: WouldBlock) -> None:
    """Raise *blocked* as EAGAIN if *file* does not want to wait."""
    if file.flags & O_NONBLOCK:
        raise blocked


class WaitLimit:
    """How long a call waits in all: for ever, or up to a socket's SO_RCVTIMEO or SO_SNDTIMEO."""

    __slots__ = ("_clock", "_deadline")

    def __init__(self, task: Task, timeout_ns: int | None) -> None:
        self._clock = task.kernel.clock
        self._deadline = None if timeout_ns is None else self._clock.now_ns() + timeout_ns

    async def wait(self, queue: WaitQueue) -> None:
        """Wait on *queue* until it is woken.

        Errors:
            EAGAIN: the time is over; EINTR: a signal came; a call with a limit is not begun again (sock_intr_errno).

        Raises:
            Interrupted: a signal came, in a call without a limit.
        """
        if self._deadline is None:
            await queue.wait()
            return
        left = self._deadline - self._clock.now_ns()
        try:
            woken = left > 0 and await queue.wait(left)
        except Interrupted:
            raise LinuxError(Errno.EINTR, "a signal ended a wait with a time limit") from None
        if not woken:
            raise LinuxError(Errno.EAGAIN, "the time is over")


async def holding(file: OpenFile, call: Coroutine[Any, Any, int]) -> int:
    """Run *call* with a reference of *file* of its own: another thread may close the descriptor meanwhile."""
    file.get_file()
    try:
        return await call
    finally:
        file.put_file()


def split_offset(low: int, high: int) -> int:
    """A loff_t that came as two words of 32 bits."""
    value = low | high << 32
    return value - (value >> 63 << 64)
