"""Who a task is: process, thread, group and session ids.  Linux: kernel/sys.c."""

from minikernel.abi.errno import Errno, LinuxError
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import put_user
from minikernel.syscalls.args import Pid, Ptr
from minikernel.syscalls.entry_types import Entry, full
from minikernel.task.task import Task


def find_task(kernel: Kernel, task: Task, pid: int) -> Task:
    """The thread with id *pid*, *task* itself for 0.  Errors: ESRCH."""
    if pid == 0:
        return task
    found = kernel.tasks.get(pid)
    if found is None:
        raise LinuxError(Errno.ESRCH, "no such task")
    return found


def sys_getpid(_kernel: Kernel, task: Task) -> int:
    """getpid(2)."""
    return task.tgid


def sys_gettid(_kernel: Kernel, task: Task) -> int:
    """gettid(2)."""
    return task.pid


def sys_getppid(_kernel: Kernel, task: Task) -> int:
    """getppid(2)."""
    return task.ppid


def sys_getpgrp(_kernel: Kernel, task: Task) -> int:
    """getpgrp(2)."""
    return task.pgrp


def sys_getpgid(kernel: Kernel, task: Task, pid: Pid) -> int:
    """getpgid(2)."""
    return find_task(kernel, task, pid).pgrp


def sys_getsid(kernel: Kernel, task: Task, pid: Pid) -> int:
    """getsid(2)."""
    return find_task(kernel, task, pid).session


def _check_may_move(task: Task, target: Task) -> None:
    """Whether *task* may change the group of *target*: itself, or a child that has not called execve."""
    child = target.parent
    if child is not None and child.tgid == task.tgid and target.tgid != task.tgid:
        if target.session != task.session:
            raise LinuxError(Errno.EPERM, "setpgid: a child in another session")
        if target.attributes.did_exec:
            raise LinuxError(Errno.EACCES, "setpgid: the child has called execve")
    elif target.tgid != task.tgid:
        raise LinuxError(Errno.ESRCH, "setpgid: neither the caller nor its child")


def sys_setpgid(kernel: Kernel, task: Task, pid: Pid, pgid: Pid) -> int:
    """setpgid(2)."""
    pid = pid or task.tgid
    pgid = pgid or pid
    if pgid < 0:
        raise LinuxError(Errno.EINVAL, "setpgid: negative group")
    target = find_task(kernel, task, pid)
    if target.pid != target.tgid:
        raise LinuxError(Errno.EINVAL, "setpgid: a thread that is not its process's leader")
    _check_may_move(task, target)
    if target.session == target.tgid:
        raise LinuxError(Errno.EPERM, "setpgid: a session leader")
    if pgid != pid:
        members = [other for other in kernel.tasks.values() if other.pgrp == pgid]
        if not any(other.session == task.session for other in members):
            raise LinuxError(Errno.EPERM, "setpgid: no such group in this session")
    target.pgrp = pgid
    return 0


def sys_setsid(kernel: Kernel, task: Task) -> int:
    """setsid(2)."""
    if task.session == task.tgid or any(other.pgrp == task.tgid for other in kernel.tasks.values()):
        raise LinuxError(Errno.EPERM, "setsid: a session or group leader")
    task.session = task.pgrp = task.tgid
    task.process.tty = None
    return task.tgid


def sys_getcpu(_kernel: Kernel, task: Task, cpu: Ptr, node: Ptr, _cache: Ptr) -> int:
    """getcpu(2): there is one CPU, on one node."""
    for address in (cpu, node):
        if address:
            put_user(task.mm, address, 0, 4)
    return 0


def sys_set_tid_address(_kernel: Kernel, task: Task, tidptr: Ptr) -> int:
    """set_tid_address(2)."""
    task.clear_child_tid = tidptr
    return task.pid


ENTRIES: tuple[Entry, ...] = (
    full("getpid", sys_getpid),
    full("gettid", sys_gettid),
    full("getppid", sys_getppid),
    full("getpgrp", sys_getpgrp),
    full("getpgid", sys_getpgid),
    full("getsid", sys_getsid),
    full("setpgid", sys_setpgid),
    full("setsid", sys_setsid),
    full("getcpu", sys_getcpu),
    full("set_tid_address", sys_set_tid_address),
)
