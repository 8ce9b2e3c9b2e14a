"""Programs that replace one another, and their ends.  Linux: fs/exec.c, kernel/exit.c.

One process for now: fork and its like answer -ENOSYS, so nobody has children to wait for.
"""

from typing import Final

from emu.x86 import VirtAddr
from minikernel.abi.errno import Errno, LinuxError
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import get_user, strncpy_from_user
from minikernel.syscalls.args import (
    Int,
    PathPtr,
    Pid,
    Ptr,
    StrVecPtr,
    WaitOptions,
    WaitStatusOut,
)
from minikernel.syscalls.entry_types import Entry, absent, full, partial
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.binprm import MAX_ARG_STRLEN
from minikernel.task.exec import do_execve
from minikernel.task.exit import do_exit, do_group_exit
from minikernel.task.task import Task

_PATH_MAX: Final = 4096
_MAX_ARG_STRINGS: Final = 0x7FFF_FFFF
_ARG_BYTES_MAX: Final = 8 << 20  # no stack limit allows more: stop reading a vector that has no end
_WAIT_FLAGS: Final = 0x1 | 0x2 | 0x8 | 0x2000_0000 | 0x4000_0000 | 0x8000_0000  # WNOHANG WUNTRACED WCONTINUED, clone's
_WEXITED: Final = 4
_WAITID_FLAGS: Final = 0x1 | 0x2 | 0x4 | 0x8 | 0x0100_0000 | 0x2000_0000 | 0x4000_0000 | 0x8000_0000


def _strings(task: Task, vector: int) -> list[bytes]:
    """The strings of argv or envp.  Errors: EFAULT, E2BIG."""
    abi = call_abi(task)
    strings: list[bytes] = []
    total = 0
    while vector:
        pointer = get_user(task.mm, VirtAddr(vector + len(strings) * abi.word), abi.word)
        if not pointer:
            break
        try:
            text = strncpy_from_user(task.mm, VirtAddr(pointer), MAX_ARG_STRLEN)
        except LinuxError as error:
            if error.errno is Errno.ENAMETOOLONG:
                raise LinuxError(Errno.E2BIG, "an argument of 128 KiB or more") from None
            raise
        total += len(text) + 1 + abi.word
        if total > _ARG_BYTES_MAX:
            raise LinuxError(Errno.E2BIG, "the arguments and the environment are too long")
        strings.append(text)
    return strings


def sys_execve(kernel: Kernel, task: Task, filename: PathPtr, argv: StrVecPtr, envp: StrVecPtr) -> int:
    """execve(2)."""
    name = strncpy_from_user(task.mm, VirtAddr(filename), _PATH_MAX)
    do_execve(task, name, _strings(task, argv), _strings(task, envp))
    return 0


def sys_exit(kernel: Kernel, task: Task, status: Int) -> int:
    """_exit(2) of one thread."""
    do_exit(task, (status & 0xFF) << 8)
    return 0


def sys_exit_group(kernel: Kernel, task: Task, status: Int) -> int:
    """exit_group(2)."""
    do_group_exit(task, (status & 0xFF) << 8)
    return 0


def sys_wait4(kernel: Kernel, task: Task, pid: Pid, status: WaitStatusOut, options: WaitOptions, usage: Ptr) -> int:
    """wait4(2): there are no children.

    Errors:
        EINVAL: unknown options.  ESRCH: pid is INT_MIN.  ECHILD.
    """
    if options & 0xFFFF_FFFF & ~_WAIT_FLAGS:
        raise LinuxError(Errno.EINVAL, f"options {options:#x}")
    if pid == -(1 << 31):
        raise LinuxError(Errno.ESRCH, "no such group")
    raise LinuxError(Errno.ECHILD, "no children")


def sys_waitpid(kernel: Kernel, task: Task, pid: Pid, status: WaitStatusOut, options: WaitOptions) -> int:
    """i386's waitpid(2)."""
    return sys_wait4(kernel, task, pid, status, options, 0)


def sys_waitid(kernel: Kernel, task: Task, which: Int, pid: Pid, info: Ptr, options: WaitOptions, usage: Ptr) -> int:
    """waitid(2): there are no children."""
    if options & 0xFFFF_FFFF & ~_WAITID_FLAGS or not options & (_WEXITED | 2 | 8):
        raise LinuxError(Errno.EINVAL, f"options {options:#x}")
    if not 0 <= which <= 3 or (which == 1 and pid <= 0) or (which == 2 and pid < 0):
        raise LinuxError(Errno.EINVAL, f"{which}, {pid}")
    if which == 3:
        raise LinuxError(Errno.EBADF, "not a pidfd")
    raise LinuxError(Errno.ECHILD, "no children")


_ONE_PROCESS: Final = "one process so far"
ENTRIES: Final[tuple[Entry, ...]] = (
    full("execve", sys_execve),
    full("exit", sys_exit),
    full("exit_group", sys_exit_group),
    partial("wait4", sys_wait4, _ONE_PROCESS + ": ECHILD"),
    partial("waitpid", sys_waitpid, _ONE_PROCESS + ": ECHILD", abi="i386"),
    partial("waitid", sys_waitid, _ONE_PROCESS + ": ECHILD"),
    absent("fork", _ONE_PROCESS),
    absent("vfork", _ONE_PROCESS),
    absent("clone", _ONE_PROCESS),
    absent("clone3", _ONE_PROCESS),
)
