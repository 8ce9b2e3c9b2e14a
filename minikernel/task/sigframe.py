"""Signal frames: what a handler finds on its stack, and how sigreturn goes back.

Linux: arch/x86/kernel/signal.c (get_sigframe, handle_signal), signal_64.c, signal_32.c, fpu/signal.c.
The CPU has no XSAVE, so the floating point state is a plain FXSAVE image.
"""

from contextlib import suppress
from typing import Final

from emu.cpu import RAX, RSP
from emu.x86 import FLAG_AC, FLAG_AF, FLAG_CF, FLAG_DF, FLAG_OF, FLAG_PF, FLAG_RF, FLAG_SF, FLAG_TF, FLAG_ZF, VirtAddr
from minikernel.abi import signal as s
from minikernel.abi.abi import X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import Sigaction, SignalStack, sigmask
from minikernel.task import sigframe32, sigframe64
from minikernel.task.frame_common import FrameRequest
from minikernel.task.signal import force_signal, set_blocked
from minikernel.task.task import Task

# The flags that a signal frame may change: FIX_EFLAGS of arch/x86/kernel/signal.c.
FIX_EFLAGS: Final = FLAG_AC | FLAG_OF | FLAG_DF | FLAG_TF | FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF | FLAG_CF | FLAG_RF


def on_signal_stack(task: Task, sp: int) -> bool:
    """Whether *sp* lies on the alternate stack (on_sig_stack)."""
    stack = task.sigstack
    if stack.flags & s.SS_AUTODISARM:
        return False
    return stack.sp < sp <= stack.sp + stack.size


def set_signal_stack(task: Task, stack: SignalStack, sp: int) -> None:
    """Make *stack* the alternate stack of *task*, whose stack pointer is *sp* (do_sigaltstack).

    Errors:
        EPERM: the task runs on its alternate stack now.  EINVAL: unknown flags.  ENOMEM: smaller than MINSIGSTKSZ.
    """
    if on_signal_stack(task, sp):
        raise LinuxError(Errno.EPERM, "the task runs on its alternate stack")
    mode = stack.flags & ~s.SS_AUTODISARM
    if mode not in {0, s.SS_ONSTACK, s.SS_DISABLE}:
        raise LinuxError(Errno.EINVAL, f"flags {stack.flags:#x}")
    if mode == s.SS_DISABLE:
        stack = SignalStack(0, stack.flags, 0)
    elif stack.size < s.MINSIGSTKSZ:
        raise LinuxError(Errno.ENOMEM, "smaller than MINSIGSTKSZ")
    task.sigstack = stack


def setup_frame(task: Task, info: Siginfo, action: Sigaction) -> None:
    """Make *task* enter its handler, with the interrupted state on the stack; SIGSEGV if that cannot be written."""
    cpu = task.kernel.cpu
    sp = cpu.regs[RSP]
    on_altstack = on_signal_stack(task, sp)
    if task.abi is X86_64:
        sp -= sigframe64.RED_ZONE
    if action.flags & s.SA_ONSTACK and task.sigstack.size and not on_signal_stack(task, sp):
        sp = task.sigstack.sp + task.sigstack.size
        on_altstack = True
    mask = task.saved_sigmask if task.saved_sigmask is not None else task.blocked
    request = FrameRequest(task, info, action, VirtAddr(sp), mask, on_altstack)
    try:
        (sigframe64 if task.abi is X86_64 else sigframe32).build(request)
    except LinuxError:
        signal_fault(task, info.signo)
        return
    task.saved_sigmask = None
    if task.sigstack.flags & s.SS_AUTODISARM:
        task.sigstack = SignalStack()
    flags = cpu.rflags
    if flags & (FLAG_DF | FLAG_RF | FLAG_TF):
        cpu.rflags = flags & ~(FLAG_DF | FLAG_RF | FLAG_TF)
    blocked = task.blocked | action.mask
    if not action.flags & s.SA_NODEFER:
        blocked |= sigmask(info.signo)
    set_blocked(task, blocked)


def signal_fault(task: Task, sig: int) -> None:
    """The frame for *sig* cannot be written or read: SIGSEGV, fatal if that is the signal (force_sigsegv)."""
    if sig == s.SIGSEGV:
        task.process.actions[s.SIGSEGV] = Sigaction()
    force_signal(task, Siginfo(s.SIGSEGV, s.SI_KERNEL))


def rt_sigreturn(task: Task) -> int:
    """Restore the state that the frame at the stack pointer holds; the value for RAX."""
    return _return(task, rt=True)


def sigreturn(task: Task) -> int:
    """Go back from a frame without siginfo, as i386 programs do."""
    return _return(task, rt=False)


def _return(task: Task, *, rt: bool) -> int:
    cpu = task.kernel.cpu
    task.orig_ax = -1  # nothing to restart
    task.restart = None
    try:
        if task.in_call is X86_64:
            mask, stack = sigframe64.restore(task, FIX_EFLAGS)
        elif rt:
            mask, stack = sigframe32.restore_rt(task, FIX_EFLAGS)
        else:
            mask, stack = sigframe32.restore(task, FIX_EFLAGS), None
    except LinuxError:
        signal_fault(task, 0)
        return 0
    set_blocked(task, mask)
    if stack is not None:
        with suppress(LinuxError):  # a frame may say what sigaltstack(2) would refuse: the stack stays as it is
            set_signal_stack(task, stack, cpu.regs[RSP])
    return cpu.regs[RAX]
