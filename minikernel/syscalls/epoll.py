"""Handlers: epoll.  Linux: fs/eventpoll.c (do_epoll_ctl, do_epoll_wait, do_epoll_pwait)."""

from collections.abc import Coroutine
from typing import Any, Final

from minikernel.abi.capability import CAP_BLOCK_SUSPEND
from minikernel.abi.epoll import (
    EP_MAX_EVENTS,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLL_EVENT,
    EPOLLWAKEUP,
)
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.time import timespec_ns, unpack_timespec64
from minikernel.fs.epoll import EpollFile
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.syscalls.args import EpollFlags, EpollOp, Fd, Int, Ptr, SigsetIn, Size, Timespec64In
from minikernel.syscalls.entry_types import Entry, Result, full
from minikernel.syscalls.file_common import abi_of, check_access, holding, nofile_limit
from minikernel.syscalls.sigaction import check_sigset_size, read_sigset
from minikernel.task.signal import set_blocked
from minikernel.task.task import Task
from minikernel.wait import Interrupted

_NS_PER_MS: Final = 1_000_000


def sys_epoll_create(kernel: Kernel, task: Task, size: Int) -> int:
    """Make a set of files to wait for; *size* was a hint: epoll_create(2).  Errors: EINVAL, EMFILE."""
    if size <= 0:
        raise LinuxError(Errno.EINVAL, f"size {size}")
    return sys_epoll_create1(kernel, task, 0)


def sys_epoll_create1(kernel: Kernel, task: Task, flags: EpollFlags) -> int:
    """Make a set of files to wait for: epoll_create1(2).  Errors: EINVAL, EMFILE."""
    if flags & ~EPOLL_CLOEXEC:
        raise LinuxError(Errno.EINVAL, f"epoll flags {flags:#x}")
    return task.files.add(kernel.vfs.epoll(), nofile_limit(task), cloexec=bool(flags & EPOLL_CLOEXEC))


def sys_epoll_ctl(_kernel: Kernel, task: Task, epfd: Fd, op: EpollOp, fd: Fd, event: Ptr) -> int:
    """Watch a file, or no longer, or for other events: epoll_ctl(2).

    Errors:
        EFAULT; EBADF; EPERM: the file cannot be polled; EINVAL: no epoll, itself, an unknown *op*, EPOLLEXCLUSIVE;
        EEXIST; ENOENT; ELOOP.
    """
    events, data = 0, 0
    if op != EPOLL_CTL_DEL:
        events, data = EPOLL_EVENT.unpack(copy_from_user(task.mm, event, EPOLL_EVENT.size))
    ep, file = task.files.get(epfd), task.files.get(fd)
    if not file.poll_queues():
        raise LinuxError(Errno.EPERM, "the file cannot be polled")
    if not task.cred.capable(CAP_BLOCK_SUSPEND):
        events &= ~EPOLLWAKEUP
    if ep is file or not isinstance(ep, EpollFile):
        raise LinuxError(Errno.EINVAL, "no epoll, or itself")
    if op == EPOLL_CTL_ADD:
        ep.add(file, fd, events, data)
    elif op == EPOLL_CTL_MOD:
        ep.modify(file, fd, events, data)
    elif op == EPOLL_CTL_DEL:
        ep.delete(file, fd)
    else:
        raise LinuxError(Errno.EINVAL, f"operation {op}")
    return 0


# ---- waiting


def _checked(task: Task, epfd: int, events: int, maxevents: int) -> EpollFile:
    """ep_check_params.  Errors: EBADF, EINVAL, EFAULT."""
    ep = task.files.get(epfd)
    if not 0 < maxevents <= EP_MAX_EVENTS:
        raise LinuxError(Errno.EINVAL, f"{maxevents} events")
    check_access(events, maxevents * EPOLL_EVENT.size)
    if not isinstance(ep, EpollFile):
        raise LinuxError(Errno.EINVAL, "no epoll")
    return ep


def _send(task: Task, ep: EpollFile, address: int, maxevents: int) -> int:
    """Store what is ready at *address*; how many."""
    at = address

    def send(events: int, data: int) -> None:
        nonlocal at
        copy_to_user(task.mm, at, EPOLL_EVENT.pack(events, data))
        at += EPOLL_EVENT.size

    return ep.send_events(maxevents, send)


async def _wait(task: Task, ep: EpollFile, address: int, maxevents: int, deadline: int | None) -> int:
    """ep_poll: EINTR, never a restart, if a signal comes first."""
    clock = task.kernel.clock
    while True:
        sent = _send(task, ep, address, maxevents)
        if sent:
            return sent
        left = None if deadline is None else deadline - clock.now_ns()
        if left is not None and left <= 0:
            return 0
        try:
            await ep.queue.wait(left)
        except Interrupted:
            return -int(Errno.EINTR)


async def _masked(task: Task, call: Coroutine[Any, Any, int], mask: int) -> int:
    """Run *call* with *mask* blocked; after EINTR the old mask comes back behind the handler."""
    task.saved_sigmask = task.blocked
    set_blocked(task, mask)
    try:
        result = await call
    except LinuxError:
        _unmask(task)
        raise
    if result != -int(Errno.EINTR):
        _unmask(task)
    return result


def _unmask(task: Task) -> None:
    if task.saved_sigmask is not None:
        set_blocked(task, task.saved_sigmask)
        task.saved_sigmask = None


def _epoll_wait(task: Task, ep: EpollFile, address: int, maxevents: int, timeout_ns: int | None) -> Result:
    if ep.ready or timeout_ns == 0:
        sent = _send(task, ep, address, maxevents)
        if sent or timeout_ns == 0:
            return sent
    deadline = None if timeout_ns is None else task.kernel.clock.now_ns() + timeout_ns
    return holding(ep, _wait(task, ep, address, maxevents, deadline))


def _epoll_pwait(
    task: Task, epfd: int, address: int, maxevents: int, timeout_ns: int | None, sigmask: int, size: int
) -> Result:
    if not sigmask:
        return _epoll_wait(task, _checked(task, epfd, address, maxevents), address, maxevents, timeout_ns)
    check_sigset_size(size)
    mask = read_sigset(task, sigmask)
    ep = _checked(task, epfd, address, maxevents)
    deadline = None if timeout_ns is None else task.kernel.clock.now_ns() + timeout_ns
    return _masked(task, holding(ep, _wait(task, ep, address, maxevents, deadline)), mask)


def _milliseconds(timeout: int) -> int | None:
    return None if timeout < 0 else timeout * _NS_PER_MS


def sys_epoll_wait(_kernel: Kernel, task: Task, epfd: Fd, events: Ptr, maxevents: Int, timeout: Int) -> Result:
    """Wait for events, *timeout* in ms: epoll_wait(2)."""
    ep = _checked(task, epfd, events, maxevents)
    return _epoll_wait(task, ep, events, maxevents, _milliseconds(timeout))


def sys_epoll_pwait(
    _kernel: Kernel, task: Task, epfd: Fd, events: Ptr, maxevents: Int, timeout: Int, mask: SigsetIn, size: Size
) -> Result:
    """The same with a signal mask: epoll_pwait(2)."""
    return _epoll_pwait(task, epfd, events, maxevents, _milliseconds(timeout), mask, size)


def sys_epoll_pwait2(
    _kernel: Kernel, task: Task, epfd: Fd, events: Ptr, maxevents: Int, timeout: Timespec64In, mask: SigsetIn,
    size: Size,
) -> Result:  # fmt: skip
    """The same with a timeout in ns, of 64 bits on both ABIs: epoll_pwait2(2)."""
    timeout_ns = None
    if timeout:
        timeout_ns = timespec_ns(*unpack_timespec64(abi_of(task), copy_from_user(task.mm, timeout, 16)))
    return _epoll_pwait(task, epfd, events, maxevents, timeout_ns, mask, size)


ENTRIES: Final[tuple[Entry, ...]] = (
    full("epoll_create", sys_epoll_create),
    full("epoll_create1", sys_epoll_create1),
    full("epoll_ctl", sys_epoll_ctl),
    full("epoll_wait", sys_epoll_wait),
    full("epoll_pwait", sys_epoll_pwait),
    full("epoll_pwait2", sys_epoll_pwait2),
)
