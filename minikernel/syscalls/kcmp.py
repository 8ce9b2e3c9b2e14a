"""kcmp(2): do two processes share something?  Linux: kernel/kcmp.c, include/uapi/linux/kcmp.h."""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.kernel import Kernel
from minikernel.syscalls.args import Int, Pid, ULong
from minikernel.syscalls.entry_types import Entry, partial
from minikernel.syscalls.process_vm import ptrace_may_access
from minikernel.task.task import Task

_EQUAL: Final = 0
_DIFFERENT: Final = 3  # and which comes first is not told: an order of addresses would differ between two runs


def sys_kcmp(kernel: Kernel, task: Task, pid1: Pid, pid2: Pid, kind: Int, idx1: ULong, idx2: ULong) -> int:
    """kcmp(2)."""
    first, second = kernel.tasks.get(pid1), kernel.tasks.get(pid2)
    if first is None or second is None:
        raise LinuxError(Errno.ESRCH, "kcmp: no such task")
    if not (ptrace_may_access(task, first) and ptrace_may_access(task, second)):
        raise LinuxError(Errno.EPERM, "kcmp: another user's process")
    one: object
    two: object
    match kind:
        case 0:  # KCMP_FILE
            one, two = first.files.get_raw(idx1), second.files.get_raw(idx2)
        case 1:  # KCMP_VM
            one, two = first.mm, second.mm
        case 2:  # KCMP_FILES
            one, two = first.files, second.files
        case 3:  # KCMP_FS
            one, two = first.fs, second.fs
        case 4:  # KCMP_SIGHAND
            one, two = first.process, second.process
        case 5 | 6:  # KCMP_IO, KCMP_SYSVSEM
            return _EQUAL  # nobody has an I/O context or semaphores to undo
        case _:
            raise LinuxError(Errno.EINVAL, "kcmp: of what kind?")
    return _EQUAL if one is two else _DIFFERENT


ENTRIES: tuple[Entry, ...] = (partial("kcmp", sys_kcmp, "no order among things that differ; no KCMP_EPOLL_TFD"),)
