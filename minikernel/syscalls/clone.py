"""fork, vfork, clone, clone3; wait4, waitid.  Linux: kernel/fork.c, kernel/exit.c."""

from typing import Final

from emu.x86 import VirtAddr
from minikernel.abi import clone as c
from minikernel.abi import wait as w
from minikernel.abi.abi import Abi
from minikernel.abi.clone import CLONE_ARGS, CLONE_ARGS_SIZE_VER0, CSIGNAL
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.signal import NSIG, SIGCHLD
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user, put_user
from minikernel.syscalls.args import CloneFlags, Int, Pid, Ptr, Size, ULong, WaitOptions, WaitStatusOut
from minikernel.syscalls.entry_types import Entry, Result, full, partial
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.fork import CloneArgs, kernel_clone, unshare
from minikernel.task.reap import Reaped, Selector, do_wait
from minikernel.task.task import Task
from minikernel.wait import Interrupted

_PAGE_SIZE: Final = 4096
_CLONE_LEGACY: Final = 0xFFFF_FFFF
_WAIT4_FLAGS: Final = w.WNOHANG | w.WUNTRACED | w.WCONTINUED | w.W_NOTHREAD | w.W_ALL | w.W_CLONE
_WAITID_FLAGS: Final = (
    w.WNOHANG | w.WNOWAIT | w.WEXITED | w.WSTOPPED | w.WCONTINUED | w.W_NOTHREAD | w.W_ALL | w.W_CLONE
)
_SIGINFO_SIZE: Final = 128


# ---- making


def _clone(task: Task, args: CloneArgs) -> Result:
    child = kernel_clone(task, args)
    if child.vfork_done is not None:
        return _vfork_wait(task, child)
    return child.pid


async def _vfork_wait(task: Task, child: Task) -> int:
    """The parent of a vfork sleeps until the child has a memory of its own (wait_for_vfork_done)."""
    pid, queue = child.pid, child.vfork_done
    task.uninterruptible = True
    try:
        while queue is not None and child.vfork_done is queue:
            await queue.wait()
    finally:
        task.uninterruptible = False
    return pid


def sys_fork(kernel: Kernel, task: Task) -> Result:
    """fork(2)."""
    return _clone(task, CloneArgs(flags=0, exit_signal=SIGCHLD))


def sys_vfork(kernel: Kernel, task: Task) -> Result:
    """vfork(2)."""
    return _clone(task, CloneArgs(flags=c.CLONE_VFORK | c.CLONE_VM, exit_signal=SIGCHLD))


def _legacy_args(flags: int, stack: int, parent_tid: int, child_tid: int, tls: int) -> CloneArgs:
    # CLONE_NEWTIME shares its bit with the signal: the old call cannot ask for it.
    return CloneArgs(
        flags=flags & _CLONE_LEGACY & ~CSIGNAL,
        exit_signal=flags & CSIGNAL,
        stack=stack,
        parent_tid=parent_tid,
        child_tid=child_tid,
        tls=tls,
    )


def sys_clone(
    kernel: Kernel, task: Task, flags: CloneFlags, stack: ULong, parent_tid: Ptr, child_tid: Ptr, tls: ULong
) -> Result:
    """clone(2) of x86-64."""
    return _clone(task, _legacy_args(flags, stack, parent_tid, child_tid, tls))


def sys_clone_i386(
    kernel: Kernel, task: Task, flags: CloneFlags, stack: ULong, parent_tid: Ptr, tls: ULong, child_tid: Ptr
) -> Result:
    """clone(2) of i386: TLS comes fourth (CONFIG_CLONE_BACKWARDS)."""
    return _clone(task, _legacy_args(flags, stack, parent_tid, child_tid, tls))


def sys_clone3(kernel: Kernel, task: Task, where: Ptr, size: Size) -> Result:
    """clone3(2).

    Errors:
        E2BIG: a struct from the future.  EINVAL: too small, or contradictory.  EFAULT.
    """
    if size > _PAGE_SIZE:
        raise LinuxError(Errno.E2BIG, "clone3: larger than a page")
    if size < CLONE_ARGS_SIZE_VER0:
        raise LinuxError(Errno.EINVAL, "clone3: smaller than the first version")
    data = copy_from_user(task.mm, VirtAddr(where), size)
    if any(data[CLONE_ARGS.size :]):
        raise LinuxError(Errno.E2BIG, "clone3: fields this kernel does not know")
    fields = CLONE_ARGS.unpack(data[: CLONE_ARGS.size].ljust(CLONE_ARGS.size, b"\0"))
    flags, _, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, _ = fields
    if set_tid or set_tid_size:
        if not set_tid or not set_tid_size or set_tid_size > 1:
            raise LinuxError(Errno.EINVAL, "clone3: set_tid")
        raise LinuxError(Errno.EPERM, "clone3: thread ids are not chosen")
    if exit_signal & ~CSIGNAL or exit_signal > NSIG:
        raise LinuxError(Errno.EINVAL, f"clone3: no signal {exit_signal}")
    known = 0xFFFF_FFFF | c.CLONE_CLEAR_SIGHAND | c.CLONE_INTO_CGROUP
    if flags & ~known or flags & (c.CLONE_DETACHED | CSIGNAL & ~c.CLONE_NEWTIME):
        raise LinuxError(Errno.EINVAL, "clone3: unknown flags")
    if flags & c.CLONE_INTO_CGROUP:
        raise LinuxError(Errno.EINVAL, "clone3: no control groups")
    if flags & (c.CLONE_THREAD | c.CLONE_PARENT) and exit_signal:
        raise LinuxError(Errno.EINVAL, "clone3: a thread sends no signal")
    if bool(stack) != bool(stack_size):
        raise LinuxError(Errno.EINVAL, "clone3: a stack without its size")
    top = stack + stack_size if stack else 0
    return _clone(
        task,
        CloneArgs(flags=flags, exit_signal=exit_signal, stack=top, parent_tid=parent_tid, child_tid=child_tid, tls=tls),
    )


# ---- waiting


def _selector(task: Task, pid: int) -> Selector:
    """Whom wait4 means by *pid*."""
    if pid == -1:
        return Selector()
    if pid < 0:
        return Selector(pgrp=-pid)
    if pid == 0:
        return Selector(pgrp=task.pgrp)
    return Selector(pid=pid)


async def _wait4(task: Task, selector: Selector, options: int, status: int, usage: int) -> int:
    abi = call_abi(task)
    reaped = await do_wait(task, selector, options)
    if reaped is None:
        return 0
    if status:
        put_user(task.mm, VirtAddr(status), reaped.status, 4)
    if usage:
        copy_to_user(task.mm, VirtAddr(usage), reaped.usage.pack(abi))
    return reaped.pid


def sys_wait4(kernel: Kernel, task: Task, pid: Pid, status: WaitStatusOut, options: WaitOptions, usage: Ptr) -> Result:
    """wait4(2).

    Errors:
        EINVAL: unknown options.  ESRCH: pid is INT_MIN.  ECHILD.  EINTR.
    """
    flags = options & 0xFFFF_FFFF
    if flags & ~_WAIT4_FLAGS:
        raise LinuxError(Errno.EINVAL, f"wait4: options {options:#x}")
    if pid == -(1 << 31):
        raise LinuxError(Errno.ESRCH, "wait4: no such group")
    return _wait4(task, _selector(task, pid), flags | w.WEXITED, status, usage)


def sys_waitpid(kernel: Kernel, task: Task, pid: Pid, status: WaitStatusOut, options: WaitOptions) -> Result:
    """i386's waitpid(2)."""
    return sys_wait4(kernel, task, pid, status, options, 0)


async def _waitid(task: Task, selector: Selector, options: int, info: int, usage: int) -> int:
    abi = call_abi(task)
    try:
        reaped = await do_wait(task, selector, options)
    except (LinuxError, Interrupted):
        _put_waitid_info(task, abi, info, None)
        raise
    if reaped is not None and usage:
        copy_to_user(task.mm, VirtAddr(usage), reaped.usage.pack(abi))
    _put_waitid_info(task, abi, info, reaped)
    return 0


def sys_unshare(kernel: Kernel, task: Task, flags: CloneFlags) -> int:
    """unshare(2)."""
    unshare(task, flags)
    return 0


def _put_waitid_info(task: Task, abi: Abi, where: int, reaped: Reaped | None) -> None:
    """The six fields of siginfo_t that waitid(2) writes, whatever its result; the rest stays as it was."""
    if where:
        data = reaped.info.pack(abi) if reaped is not None else bytes(_SIGINFO_SIZE)
        fields = 16 if abi.word == 8 else 12  # the union is aligned to its pointers
        copy_to_user(task.mm, VirtAddr(where), data[:12])
        copy_to_user(task.mm, VirtAddr(where + fields), data[fields : fields + 12])


def sys_waitid(
    kernel: Kernel, task: Task, which: Int, pid: Pid, info: Ptr, options: WaitOptions, usage: Ptr
) -> Result:  # fmt: skip
    """waitid(2)."""
    flags = options & 0xFFFF_FFFF
    if flags & ~_WAITID_FLAGS or not flags & (w.WEXITED | w.WSTOPPED | w.WCONTINUED):
        raise LinuxError(Errno.EINVAL, f"waitid: options {options:#x}")
    if which == w.P_ALL:
        selector = Selector()
    elif which == w.P_PID and pid > 0:
        selector = Selector(pid=pid)
    elif which == w.P_PGID and pid >= 0:
        selector = Selector(pgrp=pid or task.pgrp)
    elif which == w.P_PIDFD and pid >= 0:
        raise LinuxError(Errno.EBADF, "waitid: not a pidfd")
    else:
        raise LinuxError(Errno.EINVAL, f"waitid: {which}, {pid}")
    return _waitid(task, selector, flags, info, usage)


ENTRIES: Final[tuple[Entry, ...]] = (
    full("fork", sys_fork),
    full("vfork", sys_vfork),
    full("clone", sys_clone, abi="x86-64"),
    full("clone", sys_clone_i386, abi="i386"),
    partial("clone3", sys_clone3, "no pidfds, chosen thread ids, control groups or namespaces"),
    full("wait4", sys_wait4),
    full("waitpid", sys_waitpid, abi="i386"),
    partial("waitid", sys_waitid, "no pidfds"),
    partial("unshare", sys_unshare, "one set of namespaces"),
)
