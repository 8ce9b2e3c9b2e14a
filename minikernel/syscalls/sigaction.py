"""What a task does about signals: actions, masks, stacks, and the way back from a handler.

Linux: kernel/signal.c (do_sigaction, sigprocmask, do_sigaltstack), arch/x86/kernel/signal_64.c, signal_32.c.
"""

from typing import Final

from emu.cpu import RSP
from emu.x86 import VirtAddr
from minikernel.abi import signal as s
from minikernel.abi.abi import Abi
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.signal import (
    OLD_SIGACTION_SIZE,
    Sigaction,
    SignalStack,
    pack_sigset,
    sigaction_size,
    sigmask,
    stack_size,
    unpack_old_sigaction,
    unpack_sigaction,
    unpack_sigset,
    unpack_stack,
)
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.syscalls.args import (
    Int,
    Ptr,
    SigactionIn,
    SigactionOut,
    SigaltstackIn,
    SigaltstackOut,
    SigHow,
    Signal,
    SigsetIn,
    SigsetOut,
    Size,
    ULong,
)
from minikernel.syscalls.entry_types import Entry, full
from minikernel.task.posix_timers import timers_of_heard_signal, timers_of_ignored_signal
from minikernel.task.sigframe import on_signal_stack, rt_sigreturn, set_signal_stack, sigreturn
from minikernel.task.signal import flush, is_ignored, recalc_sigpending, set_blocked
from minikernel.task.task import Task

_SIGSET_SIZE: Final = 8
_OLD_MASK: Final = 0xFFFF_FFFF
_SA_KNOWN: Final = (
    s.SA_NOCLDSTOP | s.SA_NOCLDWAIT | s.SA_SIGINFO | s.SA_ONSTACK | s.SA_RESTART | s.SA_NODEFER | s.SA_RESETHAND
    | s.SA_RESTORER | s.SA_EXPOSE_TAGBITS
)  # fmt: skip


def check_sigset_size(size: int) -> None:
    """Errors: EINVAL unless *size* is the kernel's sigset_t, 8 bytes."""
    if size != _SIGSET_SIZE:
        raise LinuxError(Errno.EINVAL, "a sigset_t has 8 bytes")


def read_sigset(task: Task, address: int) -> int:
    """The mask at *address*.  Errors: EFAULT."""
    return unpack_sigset(copy_from_user(task.mm, VirtAddr(address), _SIGSET_SIZE))


def call_abi(task: Task) -> Abi:
    """The ABI of the system call the task is in."""
    assert task.in_call is not None, "call_abi: outside of a call"
    return task.in_call


def do_sigaction(task: Task, sig: int, new: Sigaction | None) -> Sigaction:
    """Set the action of *sig* if *new* is given; the old one.  Errors: EINVAL."""
    if not 1 <= sig <= s.NSIG or (new is not None and sigmask(sig) & s.UNMASKABLE):
        raise LinuxError(Errno.EINVAL, f"the action of signal {sig} cannot be set")
    process = task.process
    old = process.actions[sig]
    if new is not None:
        process.actions[sig] = new._replace(flags=new.flags & _SA_KNOWN, mask=new.mask & ~s.UNMASKABLE)
        if is_ignored(process, sig):
            # POSIX 3.3.1.3: setting a signal to be ignored discards it if it is pending.
            for pending in (process.shared_pending, *(thread.pending for thread in process.threads)):
                timers_of_ignored_signal(process, flush(pending, sigmask(sig)))
            recalc_sigpending(task)
        elif process.ignored_timers:
            timers_of_heard_signal(process, sig)
    return old


def sys_rt_sigaction(
    kernel: Kernel, task: Task, sig: Signal, act: SigactionIn, oldact: SigactionOut, size: Size
) -> int:
    """rt_sigaction(2)."""
    check_sigset_size(size)
    abi = call_abi(task)
    new = unpack_sigaction(abi, copy_from_user(task.mm, VirtAddr(act), sigaction_size(abi))) if act else None
    old = do_sigaction(task, sig, new)
    if oldact:
        copy_to_user(task.mm, VirtAddr(oldact), old.pack(abi))
    return 0


def sys_sigaction(kernel: Kernel, task: Task, sig: Signal, act: Ptr, oldact: Ptr) -> int:
    """i386's first sigaction(2)."""
    new = unpack_old_sigaction(copy_from_user(task.mm, VirtAddr(act), OLD_SIGACTION_SIZE)) if act else None
    old = do_sigaction(task, sig, new)
    if oldact:
        copy_to_user(task.mm, VirtAddr(oldact), old.pack_old())
    return 0


def sys_signal(kernel: Kernel, task: Task, sig: Signal, handler: ULong) -> int:
    """i386's signal(2): SA_RESETHAND and SA_NODEFER."""
    return do_sigaction(task, sig, Sigaction(handler, s.SA_RESETHAND | s.SA_NODEFER)).handler


def _change_mask(task: Task, how: int, mask: int, keep: int = 0) -> None:
    """sigprocmask; bits in *keep* stay as they are with SIG_SETMASK.  Errors: EINVAL."""
    if how == s.SIG_BLOCK:
        set_blocked(task, task.blocked | mask)
    elif how == s.SIG_UNBLOCK:
        set_blocked(task, task.blocked & ~mask)
    elif how == s.SIG_SETMASK:
        set_blocked(task, mask | task.blocked & keep)
    else:
        raise LinuxError(Errno.EINVAL, f"how is {how}")


def sys_rt_sigprocmask(kernel: Kernel, task: Task, how: SigHow, new: SigsetIn, old: SigsetOut, size: Size) -> int:
    """rt_sigprocmask(2)."""
    check_sigset_size(size)
    before = task.blocked
    if new:
        _change_mask(task, how, read_sigset(task, new) & ~s.UNMASKABLE)
    if old:
        copy_to_user(task.mm, VirtAddr(old), pack_sigset(before))
    return 0


def sys_sigprocmask(kernel: Kernel, task: Task, how: SigHow, new: Ptr, old: Ptr) -> int:
    """i386's first sigprocmask(2): signals 1 to 32."""
    before = task.blocked & _OLD_MASK
    if new:
        mask = int.from_bytes(copy_from_user(task.mm, VirtAddr(new), 4), "little")
        _change_mask(task, how, mask & ~s.UNMASKABLE, keep=~_OLD_MASK)
    if old:
        copy_to_user(task.mm, VirtAddr(old), before.to_bytes(4, "little"))
    return 0


def sys_sgetmask(kernel: Kernel, task: Task) -> int:
    """sgetmask(2): signals 1 to 32."""
    return task.blocked & _OLD_MASK


def sys_ssetmask(kernel: Kernel, task: Task, mask: Int) -> int:
    """ssetmask(2): the old mask."""
    before = task.blocked & _OLD_MASK
    set_blocked(task, mask & _OLD_MASK)
    return before


def sys_rt_sigpending(kernel: Kernel, task: Task, where: SigsetOut, size: Size) -> int:
    """rt_sigpending(2): *size* may be smaller than a sigset_t."""
    if size > _SIGSET_SIZE:
        raise LinuxError(Errno.EINVAL, "a sigset_t has 8 bytes")
    copy_to_user(task.mm, VirtAddr(where), pack_sigset(_pending(task))[:size])
    return 0


def sys_sigpending(kernel: Kernel, task: Task, where: Ptr) -> int:
    """i386's first sigpending(2)."""
    copy_to_user(task.mm, VirtAddr(where), (_pending(task) & _OLD_MASK).to_bytes(4, "little"))
    return 0


def _pending(task: Task) -> int:
    return (task.pending.mask | task.process.shared_pending.mask) & task.blocked


def sys_sigaltstack(kernel: Kernel, task: Task, new: SigaltstackIn, old: SigaltstackOut) -> int:
    """sigaltstack(2).

    Errors:
        EPERM: the task runs on the stack now.  EINVAL: unknown flags.  ENOMEM: smaller than MINSIGSTKSZ.
    """
    abi = call_abi(task)
    sp = kernel.cpu.regs[RSP]
    stack = unpack_stack(abi, copy_from_user(task.mm, VirtAddr(new), stack_size(abi))) if new else None
    before = task.sigstack
    on_it = on_signal_stack(task, sp)
    if stack is not None:
        set_signal_stack(task, stack, sp)
    if old:
        mode = s.SS_DISABLE if not before.size else s.SS_ONSTACK if on_it else 0
        shown = SignalStack(before.sp, mode | before.flags & s.SS_AUTODISARM, before.size)
        copy_to_user(task.mm, VirtAddr(old), shown.pack(abi))
    return 0


def sys_rt_sigreturn(kernel: Kernel, task: Task) -> int:
    """rt_sigreturn(2)."""
    return rt_sigreturn(task)


def sys_sigreturn(kernel: Kernel, task: Task) -> int:
    """i386's sigreturn(2)."""
    return sigreturn(task)


ENTRIES: Final[tuple[Entry, ...]] = (
    full("rt_sigaction", sys_rt_sigaction),
    full("sigaction", sys_sigaction, abi="i386"),
    full("signal", sys_signal, abi="i386"),
    full("rt_sigprocmask", sys_rt_sigprocmask),
    full("sigprocmask", sys_sigprocmask, abi="i386"),
    full("sgetmask", sys_sgetmask, abi="i386"),
    full("ssetmask", sys_ssetmask, abi="i386"),
    full("rt_sigpending", sys_rt_sigpending),
    full("sigpending", sys_sigpending, abi="i386"),
    full("sigaltstack", sys_sigaltstack),
    full("rt_sigreturn", sys_rt_sigreturn),
    full("sigreturn", sys_sigreturn, abi="i386"),
)
