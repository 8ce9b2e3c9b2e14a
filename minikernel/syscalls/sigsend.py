"""Sending signals, and waiting for them.  Linux: kernel/signal.c (kill_something_info, do_tkill, do_sigtimedwait)."""

from typing import Final

from emu.x86 import VirtAddr
from minikernel.abi import signal as s
from minikernel.abi.abi import Abi
from minikernel.abi.capability import CAP_KILL
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import SIGINFO_SIZE, Siginfo, unpack_siginfo
from minikernel.abi.time import (
    pair_size,
    timespec_ns,
    unpack_timespec,
    unpack_timespec64,
)
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.syscalls.args import (
    Int,
    Pid,
    Ptr,
    Signal,
    SigsetIn,
    Size,
    Timespec64In,
    TimespecIn,
    ULong,
)
from minikernel.syscalls.entry_types import Entry, Result, full
from minikernel.syscalls.sigaction import call_abi, check_sigset_size, read_sigset
from minikernel.task.signal import dequeue_signal, recalc_sigpending, send_signal, set_blocked
from minikernel.task.task import Task
from minikernel.wait import Interrupted, WaitQueue

_TIMESPEC64_SIZE: Final = 16
_INT_MIN: Final = -(1 << 31)


# ---- sending


def _check_permission(task: Task, target: Task, sig: int) -> None:
    """check_kill_permission: the same process or user, the capability, or SIGCONT within the session.

    Errors:
        EINVAL: no such signal.  EPERM.
    """
    if not 0 <= sig <= s.NSIG:
        raise LinuxError(Errno.EINVAL, f"there is no signal {sig}")
    mine, theirs = task.cred, target.cred
    if (
        target.process is task.process
        or mine.euid in {theirs.suid, theirs.uid}
        or mine.uid in {theirs.suid, theirs.uid}
    ):
        return
    if not mine.capable(CAP_KILL) and (sig != s.SIGCONT or task.session != target.session):
        raise LinuxError(Errno.EPERM, "another user's process")


def _send(task: Task, target: Task, info: Siginfo, *, group: bool) -> None:
    """Send *info*, unless it is signal 0; a process that has ended takes it silently."""
    if info.code <= 0:
        _check_permission(task, target, info.signo)
    elif not 0 <= info.signo <= s.NSIG:
        raise LinuxError(Errno.EINVAL, f"there is no signal {info.signo}")
    if info.signo and target.process.threads:
        send_signal(target, info, group=group)


def _find(kernel: Kernel, pid: int) -> Task:
    target = kernel.tasks.get(pid)
    if target is None:
        raise LinuxError(Errno.ESRCH, f"there is no process {pid}")
    return target


def sys_kill(kernel: Kernel, task: Task, pid: Pid, sig: Signal) -> int:
    """kill(2): to a process, a group (0, -pgrp), or everyone (-1) (kill_something_info)."""
    info = Siginfo(sig, s.SI_USER, pid=task.tgid, uid=task.cred.uid)
    if pid > 0:
        _send(task, _find(kernel, pid), info, group=True)
        return 0
    if pid == _INT_MIN:
        raise LinuxError(Errno.ESRCH, "there is no such group")
    leaders = [other for other in kernel.tasks.values() if other.pid == other.tgid]
    if pid == -1:
        targets = [other for other in leaders if other.tgid not in {1, task.tgid}]
    else:
        group = task.pgrp if pid == 0 else -pid
        targets = [other for other in leaders if other.pgrp == group]
    return _send_to_all(task, targets, info, everyone=pid == -1)


def _send_to_all(task: Task, targets: list[Task], info: Siginfo, *, everyone: bool) -> int:
    """0 if one of a group could be sent it; of everyone, those who may not be sent it do not count."""
    if not targets:
        raise LinuxError(Errno.ESRCH, "nobody answers to that")
    failure: LinuxError | None = None
    sent = False
    for target in targets:
        try:
            _send(task, target, info, group=True)
            sent = True
        except LinuxError as error:
            failure = error
    if failure is None or sent or (everyone and failure.errno is Errno.EPERM):
        return 0
    raise failure


def _find_thread(kernel: Kernel, tgid: int | None, tid: int) -> Task:
    if tid <= 0 or (tgid is not None and tgid <= 0):
        raise LinuxError(Errno.EINVAL, "thread ids are positive")
    target = kernel.tasks.get(tid)
    if target is None or (tgid is not None and target.tgid != tgid):
        raise LinuxError(Errno.ESRCH, f"there is no thread {tid}")
    return target


def sys_tgkill(kernel: Kernel, task: Task, tgid: Pid, tid: Pid, sig: Signal) -> int:
    """tgkill(2)."""
    info = Siginfo(sig, s.SI_TKILL, pid=task.tgid, uid=task.cred.uid)
    _send(task, _find_thread(kernel, tgid, tid), info, group=False)
    return 0


def sys_tkill(kernel: Kernel, task: Task, tid: Pid, sig: Signal) -> int:
    """tkill(2)."""
    info = Siginfo(sig, s.SI_TKILL, pid=task.tgid, uid=task.cred.uid)
    _send(task, _find_thread(kernel, None, tid), info, group=False)
    return 0


def _queued_info(task: Task, sig: int, address: int, pid: int) -> Siginfo:
    """The siginfo a program made up.  Errors: EFAULT.  EPERM: only the kernel sends such a code to others."""
    info = unpack_siginfo(call_abi(task), copy_from_user(task.mm, VirtAddr(address), SIGINFO_SIZE))
    if (info.code >= 0 or info.code == s.SI_TKILL) and pid != task.pid:
        raise LinuxError(Errno.EPERM, "only the kernel sends such a code to others")
    return info._replace(signo=sig)


def sys_rt_sigqueueinfo(kernel: Kernel, task: Task, pid: Pid, sig: Signal, info: Ptr) -> int:
    """rt_sigqueueinfo(2)."""
    queued = _queued_info(task, sig, info, pid)
    _send(task, _find(kernel, pid), queued, group=True)
    return 0


def sys_rt_tgsigqueueinfo(kernel: Kernel, task: Task, tgid: Pid, tid: Pid, sig: Signal, info: Ptr) -> int:
    """rt_tgsigqueueinfo(2)."""
    if tid <= 0 or tgid <= 0:
        raise LinuxError(Errno.EINVAL, "thread ids are positive")
    queued = _queued_info(task, sig, info, tid)
    _send(task, _find_thread(kernel, tgid, tid), queued, group=False)
    return 0


# ---- waiting


async def _suspend(task: Task, mask: int | None) -> int:
    """Sleep until a signal; *mask* is blocked meanwhile, and the old one put back behind the handler."""
    if mask is not None:
        task.saved_sigmask = task.blocked
        set_blocked(task, mask)
    queue = WaitQueue()
    try:
        while not task.sigpending:
            await queue.wait()
    except Interrupted:
        pass
    return -int(Errno.ERESTARTNOHAND)


def sys_rt_sigsuspend(kernel: Kernel, task: Task, mask: SigsetIn, size: Size) -> Result:
    """rt_sigsuspend(2)."""
    check_sigset_size(size)
    return _suspend(task, read_sigset(task, mask))


def sys_sigsuspend(kernel: Kernel, task: Task, unused1: Int, unused2: Int, mask: ULong) -> Result:
    """i386's first sigsuspend(2): the mask is an argument."""
    return _suspend(task, mask)


def sys_pause(kernel: Kernel, task: Task) -> Result:
    """pause(2)."""
    return _suspend(task, None)


async def _timed_wait(task: Task, wanted: int, timeout_ns: int | None, where: int, abi: Abi) -> int:
    """do_sigtimedwait: take a signal in *wanted*, which are blocked, as it comes."""
    wanted &= ~s.UNMASKABLE
    info = dequeue_signal(task, wanted)
    if info is None and timeout_ns != 0:
        task.real_blocked = task.blocked
        task.blocked &= ~wanted  # so that their arrival wakes us
        recalc_sigpending(task)
        interrupted = False
        try:
            await WaitQueue().wait(timeout_ns)
        except Interrupted:
            interrupted = True
        blocked, task.real_blocked = task.real_blocked, 0
        set_blocked(task, blocked)
        info = dequeue_signal(task, wanted)
        recalc_sigpending(task)
        if info is None and interrupted:
            raise LinuxError(Errno.EINTR, "another signal came")
    if info is None:
        raise LinuxError(Errno.EAGAIN, "the time is up")
    if where:
        copy_to_user(task.mm, VirtAddr(where), info.pack(abi))
    return info.signo


def sys_rt_sigtimedwait(
    kernel: Kernel, task: Task, wanted: SigsetIn, info: Ptr, timeout: TimespecIn, size: Size
) -> Result:
    """rt_sigtimedwait(2)."""
    check_sigset_size(size)
    abi = call_abi(task)
    mask = read_sigset(task, wanted)
    limit = None
    if timeout:
        limit = timespec_ns(*unpack_timespec(abi, copy_from_user(task.mm, VirtAddr(timeout), pair_size(abi))))
    return _timed_wait(task, mask, limit, info, abi)


def sys_rt_sigtimedwait_time64(
    kernel: Kernel, task: Task, wanted: SigsetIn, info: Ptr, timeout: Timespec64In, size: Size
) -> Result:
    """rt_sigtimedwait(2) of i386 with 64-bit seconds."""
    check_sigset_size(size)
    abi = call_abi(task)
    mask = read_sigset(task, wanted)
    limit = None
    if timeout:
        data = copy_from_user(task.mm, VirtAddr(timeout), _TIMESPEC64_SIZE)
        limit = timespec_ns(*unpack_timespec64(call_abi(task), data))
    return _timed_wait(task, mask, limit, info, abi)


ENTRIES: Final[tuple[Entry, ...]] = (
    full("kill", sys_kill),
    full("tgkill", sys_tgkill),
    full("tkill", sys_tkill),
    full("rt_sigqueueinfo", sys_rt_sigqueueinfo),
    full("rt_tgsigqueueinfo", sys_rt_tgsigqueueinfo),
    full("rt_sigsuspend", sys_rt_sigsuspend),
    full("sigsuspend", sys_sigsuspend, abi="i386"),
    full("pause", sys_pause),
    full("rt_sigtimedwait", sys_rt_sigtimedwait),
    full("rt_sigtimedwait_time64", sys_rt_sigtimedwait_time64, abi="i386"),
)
