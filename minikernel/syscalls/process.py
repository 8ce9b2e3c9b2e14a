"""Programs that replace one another.  Linux: fs/exec.c."""

from typing import Final

from emu.x86 import VirtAddr
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW
from minikernel.fs.namei import LOOKUP_FOLLOW
from minikernel.fs.open import open_exec, open_exec_path
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import get_user, strncpy_from_user
from minikernel.syscalls.args import AtFlags, DirFd, Int, PathPtr, StrVecPtr
from minikernel.syscalls.entry_types import Entry, full
from minikernel.syscalls.file_common import start_of
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.binprm import MAX_ARG_STRLEN
from minikernel.task.exec import do_execve, exec_file
from minikernel.task.exit import do_exit, do_group_exit
from minikernel.task.task import Task

_PATH_MAX: Final = 4096
_ARG_BYTES_MAX: Final = 8 << 20  # no stack limit allows more: stop reading a vector that has no end


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


def sys_execveat(
    kernel: Kernel, task: Task, dirfd: DirFd, filename: PathPtr, argv: StrVecPtr, envp: StrVecPtr, flags: AtFlags
) -> int:
    """execveat(2)."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    name = strncpy_from_user(task.mm, VirtAddr(filename), _PATH_MAX)
    arguments, environment = _strings(task, argv), _strings(task, envp)
    closes = dirfd in task.files.cloexec
    if not name and flags & AT_EMPTY_PATH:
        path = task.files.get_raw(dirfd).f_path
        file = open_exec_path(path, task.cred)
        exec_file(task, b"/dev/fd/%d" % dirfd, file, arguments, environment, path_inaccessible=closes)
        return 0
    start = start_of(task, dirfd, name)
    file = open_exec(
        task.fs, task.cred, name, start=start, flags=0 if flags & AT_SYMLINK_NOFOLLOW else LOOKUP_FOLLOW
    )  # fmt: skip
    shown = name if start is None else b"/dev/fd/%d/%s" % (dirfd, name)
    inaccessible = start is not None and closes
    exec_file(task, shown, file, arguments, environment, path_inaccessible=inaccessible)
    return 0


def sys_exit(kernel: Kernel, task: Task, status: Int) -> int:
    """_exit(2) of one thread."""
    do_exit(task, (status & 0xFF) << 8)
    return 0


def sys_exit_group(kernel: Kernel, task: Task, status: Int) -> int:
    """exit_group(2)."""
    do_group_exit(task, (status & 0xFF) << 8)
    return 0


ENTRIES: Final[tuple[Entry, ...]] = (
    full("execve", sys_execve),
    full("execveat", sys_execveat),
    full("exit", sys_exit),
    full("exit_group", sys_exit_group),
)
