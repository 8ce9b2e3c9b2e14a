"""The way in and out of the kernel: run the CPU, look at why it stopped, serve that, go on.

Linux: arch/x86/entry (entry_64.S, common.c: do_syscall_64, exit_to_user_mode_loop), arch/x86/kernel/traps.c,
arch/x86/mm/fault.c (exc_page_fault), kernel/sched/core.c (schedule, context_switch).

Exactly one of these ends a turn of the loop in ``run``: a system call, a page fault, another exception, the slice.
"""

from collections.abc import Callable
from operator import itemgetter
from typing import Final, assert_never

from emu.cpu import RAX, RBP, RIP, RSP
from emu.exits import BudgetSpent, CpuException, CpuExit, PageFault, Syscall, SyscallInsn
from emu.x86 import PAGE_SHIFT, VirtAddr
from minikernel.abi import signal as s
from minikernel.abi.abi import I386, X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.vsyscall import VSYSCALL_PAGE
from minikernel.events import HostSignal, PageFaultUser, SchedSwitch, SysEnter, SysExit
from minikernel.kernel import Kernel
from minikernel.mm.fault import BusError, OutOfMemory, Segv, Served, handle_mm_fault, user_error_code
from minikernel.mm.uaccess import get_user
from minikernel.syscalls.table import TABLE_32, TABLE_64, advance
from minikernel.syscalls.vsyscall import emulate_vsyscall
from minikernel.task.exit import do_group_exit
from minikernel.task.rseq import rseq_handle_notify_resume
from minikernel.task.sigframe import setup_frame
from minikernel.task.signal import force_signal, get_signal, send_signal, set_blocked
from minikernel.task.task import NO_SYSCALL, Task, TaskState
from minikernel.traps import exception_signal
from minikernel.wait import Wait

_FLUSH_ALL: Final = 64  # frames: beyond, forgetting everything is cheaper than one frame at a time
_HOST_CHECK: Final = 5_000_000  # instructions: how often a busy machine looks at the host's streams
_MASK64: Final = (1 << 64) - 1
_ARGS_64: Final = itemgetter(*X86_64.arg_registers)  # a third of the time that asking for each takes
_ERESTARTS: Final = frozenset(
    -int(e) for e in (Errno.ERESTARTSYS, Errno.ERESTARTNOINTR, Errno.ERESTARTNOHAND, Errno.ERESTART_RESTARTBLOCK)
)


class Deadlock(RuntimeError):  # noqa: N818 - the name says it all
    """Every task sleeps, and nothing inside the machine can wake one."""


class TimeLimit(RuntimeError):  # noqa: N818 - not an error of ours
    """The run has taken as long, by the host's clock, as it was allowed."""


class InstructionLimit(RuntimeError):  # noqa: N818 - not an error of ours
    """The run has retired as many instructions as it was allowed."""


RunCpu = Callable[[int], CpuExit]
"""Runs the CPU for at most so many instructions and says why it stopped: ``Cpu.run``, or somebody who looks on."""


def run(kernel: Kernel, run_cpu: RunCpu | None = None) -> int:
    """Run the machine until its first task has ended; that task's exit code in wait(2)'s form.

    Raises:
        Deadlock, InstructionLimit, TimeLimit.
    """
    turns = Turns(kernel)
    while kernel.exit_code is None:
        task = turns.next_task()
        if task is not None:
            _run_slice(kernel, task, run_cpu)
    return kernel.exit_code


class Turns:
    """The outer loop, one turn at a time: who runs next.  A debugger takes the turns that ``run`` would."""

    __slots__ = ("_kernel", "_next_check")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._next_check = 0

    def next_task(self) -> Task | None:
        """A task that is in the CPU and may run in user mode now; None: nothing to run in this turn, ask again.

        Raises:
            Deadlock, TimeLimit.
        """
        kernel = self._kernel
        kernel.clock.run_expired()
        if kernel.cpu.icount >= self._next_check:
            self._next_check = kernel.cpu.icount + _HOST_CHECK
            kernel.load.update(kernel.clock.now_ns(), len(kernel.scheduler.queue))
            kernel.vfs.doorbell.check()
        if kernel.host_signals:
            _pass_on_host_signals(kernel)
        task = kernel.scheduler.pick_next()
        if task is None:
            _idle(kernel)
            return None
        if task is not kernel.current:
            _switch_to(kernel, task)
        if task.blocked_call is not None:
            _resume_call(kernel, task)
            if task.blocked_call is not None:
                return None
        if task.sigpending:
            exit_to_user_mode(kernel, task)
        return task if task.state is TaskState.RUNNING and kernel.exit_code is None else None


def _idle(kernel: Kernel) -> None:
    """Nobody can run: time passes until the next timer, or until the host has something for a task.

    The virtual clock jumps to a timer whatever the host does: only input that is there already comes before it.
    """
    clock, doorbell = kernel.clock, kernel.vfs.doorbell
    deadline = clock.next_deadline()
    if clock.is_host:
        doorbell.sleep(None if deadline is None else max(deadline - clock.now_ns(), 0))
    elif deadline is not None:
        if not doorbell.check():
            clock.skip_to(deadline)
            kernel.load.update(clock.now_ns(), 0)
    elif doorbell.is_awaited():
        doorbell.sleep(None)
    else:
        raise Deadlock("every task sleeps and no timer is set: nothing can wake them")


def _switch_to(kernel: Kernel, task: Task) -> None:
    """Put *task*'s state into the CPU (context_switch)."""
    previous, cpu = kernel.current, kernel.cpu
    if kernel.tracer.sink is not None:
        kernel.tracer.emit(SchedSwitch(previous.pid if previous else 0, task.pid))
    if previous is not None and previous.has_mm and previous.state is not TaskState.ZOMBIE:
        previous.context = cpu.save()
    kernel.current = task
    kernel.tracer.pid = task.pid
    kernel.nr_switches += 1
    if task.context:
        kernel.user_mode.load_tls(task.tls)
        cpu.restore(task.context)
        cpu.set_root(task.mm.pgtable.root)
        task.mm.tlb_dirty = False
        if task.rseq[0]:
            rseq_handle_notify_resume(task)


def _pass_on_host_signals(kernel: Kernel) -> None:
    """Ctrl-C goes to the foreground group, as from a terminal of the guest's; others to the first process."""
    signals, kernel.host_signals = kernel.host_signals, []
    init = kernel.init
    if s.SIGALRM in signals:
        raise TimeLimit("the time is up")
    if kernel.tracer.sink is not None:
        kernel.tracer.emit(HostSignal(tuple(signals)))
    for sig in signals:
        if init is None:
            continue
        if sig == s.SIGWINCH:
            if kernel.console is not None:
                kernel.console.host_resized()
            continue
        if sig != s.SIGINT:
            send_signal(init, Siginfo(sig, s.SI_KERNEL), group=True)
            continue
        group = (kernel.console.pgrp if kernel.console is not None else kernel.vfs.foreground()) or init.pgrp
        for process in {task.process: None for task in kernel.tasks.values() if task.pgrp == group}:
            if process.threads:
                send_signal(process.threads[0], Siginfo(sig, s.SI_KERNEL), group=True)


def _run_slice(kernel: Kernel, task: Task, run_cpu: RunCpu | None = None) -> None:
    """Run *task* until its slice is over, it blocks or it ends."""
    cpu, node = kernel.cpu, kernel.node
    run_cpu = run_cpu or cpu.run
    end = slice_end(kernel, task)
    while True:
        if task.mm.tlb_dirty:
            cpu.flush_tlb()
            task.mm.tlb_dirty = False
        if node.stale_code:
            drop_stale_code(kernel)
        cpu_exit = run_cpu(end - cpu.icount)
        match cpu_exit:
            case Syscall(insn):
                do_syscall(kernel, task, insn)
            case PageFault():
                exc_page_fault(kernel, task, cpu_exit)
            case CpuException():
                exc_other(kernel, task, cpu_exit)
            case BudgetSpent():
                break
            case _ as never:
                assert_never(never)
        if task.sigpending:
            exit_to_user_mode(kernel, task)
        if task.state is not TaskState.RUNNING or task.blocked_call is not None or kernel.exit_code is not None:
            kernel.update_curr()
            return
        if cpu.icount >= end or kernel.need_resched:
            break
    slice_over(kernel, task)


def slice_end(kernel: Kernel, task: Task) -> int:
    """The instruction count at which *task*, which begins to run now, is looked at again at the latest."""
    start = kernel.cpu.icount
    end = start + kernel.scheduler.slice_of(task, kernel.config.slice)
    deadline = kernel.clock.next_deadline()
    if deadline is not None and not kernel.clock.is_host:
        end = min(end, start + max(deadline - kernel.clock.now_ns(), 1))
    if task.process.cpu_timers is not None:
        end = min(end, start + task.process.cpu_timers.budget(task))
    limit = kernel.config.max_instructions
    return end if limit is None else min(end, limit)


def slice_over(kernel: Kernel, task: Task) -> None:
    """*task* has run long enough, or is asked to stop.

    Raises:
        InstructionLimit.
    """
    kernel.need_resched = False
    kernel.update_curr()
    kernel.scheduler.slice_over(task)
    # The engine's TLB starts with 256 entries and grows only when it is flushed: a program that walks through more
    # than 1 MiB is five times slower without this.
    task.mm.tlb_dirty = True
    limit = kernel.config.max_instructions
    if limit is not None and kernel.cpu.icount >= limit:
        raise InstructionLimit(f"{limit} instructions have been retired")


def drop_stale_code(kernel: Kernel) -> None:
    """Make the CPU forget what it translated from frames whose contents changed."""
    stale = kernel.node.stale_code
    if len(stale) < _FLUSH_ALL:
        kernel.cpu.invalidate_code(kernel.kernel_half.identity_root, stale)
    else:
        kernel.cpu.flush_code()
    stale.clear()


# ---- system calls


def do_syscall(kernel: Kernel, task: Task, insn: SyscallInsn) -> None:
    """Serve one system call instruction; the result goes into RAX, or the task blocks (do_syscall_64)."""
    cpu = kernel.cpu
    regs = cpu.regs
    if insn is SyscallInsn.SYSCALL:
        table = TABLE_64  # it is invalid in 32-bit code, as on Intel's processors: the CPU says #UD
        task.in_call = X86_64
    else:
        table = TABLE_32
        task.in_call = I386
        if insn is SyscallInsn.SYSENTER and not _enter_by_sysenter(kernel, task):
            return
    nr = regs[RAX] & 0xFFFF_FFFF
    task.orig_ax = nr
    kernel.nr_syscalls += 1
    tracer = kernel.tracer
    if tracer.sink is not None:
        abi = table.abi
        args = _ARGS_64(regs) if abi is X86_64 else tuple(regs[i] & abi.mask for i in abi.arg_registers)
        tracer.emit(SysEnter(abi.name, nr, args))
    result = table.call(kernel, task, nr, regs)
    if type(result) is int:
        finish_syscall(kernel, task, result)
    else:
        task.blocked_call = result  # type: ignore[assignment]  # not an int: it is the coroutine
        _continue_call(kernel, task, advance(task.blocked_call))  # type: ignore[arg-type]  # just set


def finish_syscall(kernel: Kernel, task: Task, result: int) -> None:
    """Give the call's result to the guest."""
    if task.state is not TaskState.RUNNING:
        return
    # A long, also for `int 0x80` in 64-bit code: Linux stores regs->ax as one.
    kernel.cpu.regs[RAX] = result & (_MASK64 if task.abi is X86_64 else 0xFFFF_FFFF)
    tracer = kernel.tracer
    if tracer.sink is not None and task.in_call is not None:
        tracer.emit(SysExit(task.in_call.name, task.orig_ax & 0xFFFF_FFFF, result))
    if result in _ERESTARTS:
        task.sigpending = True  # the way out turns it into EINTR or a restart
    else:
        task.orig_ax = NO_SYSCALL


def _enter_by_sysenter(kernel: Kernel, task: Task) -> bool:
    """SYSENTER leaves no return address: it lands in the vDSO; EBP is the stack pointer, and points to argument 6."""
    regs = kernel.cpu.regs
    landing = kernel.sysenter_return(task)
    if not landing:
        force_signal(task, Siginfo(s.SIGSEGV, s.SI_KERNEL))
        return False
    regs[RSP] = regs[RBP] & 0xFFFF_FFFF
    regs[RIP] = landing
    try:
        regs[RBP] = get_user(task.mm, VirtAddr(regs[RSP]), 4)
    except LinuxError:
        regs[RAX] = -int(Errno.EFAULT) & 0xFFFF_FFFF
        return False
    return True


def _continue_call(kernel: Kernel, task: Task, outcome: Wait | int) -> None:
    """A blocking call has come to its next wait, or to its end."""
    if isinstance(outcome, int):
        task.blocked_call = None
        finish_syscall(kernel, task, outcome)
        return
    if outcome.timeout_ns is not None:
        deadline = kernel.clock.now_ns() + outcome.timeout_ns
        outcome.timer = kernel.clock.add_timer(deadline, lambda: kernel.scheduler.time_out(task, outcome))
    task.wait = outcome
    kernel.scheduler.sleep(task, outcome.queue)
    if task.sigpending:  # a signal that came before the sleep ends it at once
        kernel.scheduler.signal_wake(task)


def _resume_call(kernel: Kernel, task: Task) -> None:
    """Go on with the system call *task* was sleeping in."""
    call = task.blocked_call
    assert call is not None, "_resume_call: the task is in no call"
    interrupted, task.interrupted = task.interrupted, False
    _continue_call(kernel, task, advance(call, task.woken, interrupt=interrupted))


def start_kernel_thread(kernel: Kernel, task: Task) -> None:
    """Run *task*, whose code is the coroutine in blocked_call, to its first wait (kthread_run)."""
    assert task.blocked_call is not None, "start_kernel_thread: no code"
    kernel.scheduler.add(task)
    _continue_call(kernel, task, advance(task.blocked_call))


# ---- the way out


def exit_to_user_mode(kernel: Kernel, task: Task) -> None:
    """Deliver what is pending, or arrange for the interrupted call to run again (arch_do_signal_or_restart)."""
    if task.blocked_call is not None:
        return
    if kernel.signal_gate is not None and kernel.signal_gate(task):
        return
    chosen = get_signal(task)
    if task.state is not TaskState.RUNNING:
        return
    if chosen is not None:
        info, action = chosen
        _restart_after_handler(kernel, task, action.flags)
        if task.rseq[0]:
            rseq_handle_notify_resume(task)
        setup_frame(task, info, action)
        while task.sigpending and task.state is TaskState.RUNNING and (more := get_signal(task)) is not None:
            setup_frame(task, *more)
        return
    _restart_quietly(kernel, task)
    if task.saved_sigmask is not None:
        mask, task.saved_sigmask = task.saved_sigmask, None
        set_blocked(task, mask)
        if task.sigpending:
            exit_to_user_mode(kernel, task)


def _call_result(kernel: Kernel, task: Task) -> int:
    """The errno the interrupted call ended with, as a positive number; 0 outside of one."""
    if task.orig_ax == NO_SYSCALL or task.in_call is None:
        return 0
    value = kernel.cpu.regs[RAX] & task.in_call.mask
    return task.in_call.mask + 1 - value


def _restart_after_handler(kernel: Kernel, task: Task, sa_flags: int) -> None:
    """handle_signal: EINTR, or back before the call so that sigreturn runs it again."""
    errno = _call_result(kernel, task)
    regs = kernel.cpu.regs
    if errno in {Errno.ERESTART_RESTARTBLOCK, Errno.ERESTARTNOHAND} or (
        errno == Errno.ERESTARTSYS and not sa_flags & s.SA_RESTART
    ):
        assert task.in_call is not None, "_restart_after_handler: outside of a call"
        regs[RAX] = -int(Errno.EINTR) & task.in_call.mask
    elif errno in {Errno.ERESTARTSYS, Errno.ERESTARTNOINTR}:
        regs[RAX] = task.orig_ax
        regs[RIP] -= 2
    task.orig_ax = NO_SYSCALL


def _restart_quietly(kernel: Kernel, task: Task) -> None:
    """No handler ran: every restartable call runs again."""
    errno = _call_result(kernel, task)
    regs = kernel.cpu.regs
    if errno in {Errno.ERESTARTSYS, Errno.ERESTARTNOINTR, Errno.ERESTARTNOHAND}:
        regs[RAX] = task.orig_ax
        regs[RIP] -= 2
        task.orig_ax = NO_SYSCALL
    elif errno == Errno.ERESTART_RESTARTBLOCK:
        assert task.in_call is not None, "_restart_quietly: outside of a call"
        regs[RAX] = 219 if task.in_call is X86_64 else 0  # restart_syscall(2)
        regs[RIP] -= 2
        task.orig_ax = NO_SYSCALL


# ---- exceptions


def exc_page_fault(kernel: Kernel, task: Task, fault: PageFault) -> None:
    """Vector 14: have the memory manager make the page usable, or tell the program (do_user_addr_fault)."""
    address, error_code = fault.address, fault.error_code
    if kernel.tracer.sink is not None:
        kernel.tracer.emit(PageFaultUser(address, VirtAddr(kernel.cpu.regs[RIP]), error_code))
    outcome = handle_mm_fault(task.mm, address, error_code)
    if type(outcome) is Served:
        return
    if address >> PAGE_SHIFT == VSYSCALL_PAGE and emulate_vsyscall(kernel, task, address, error_code):
        return
    task.trap_nr, task.cr2 = 14, address
    task.error_code = user_error_code(task.mm, address, error_code)
    match outcome:
        case Segv(code, _):
            force_signal(task, Siginfo(s.SIGSEGV, code, addr=address))
        case BusError(code, _):
            force_signal(task, Siginfo(s.SIGBUS, code, addr=address))
        case OutOfMemory():
            kernel.log(f"Out of memory: Killed process {task.pid} ({task.comm.decode(errors='replace')})")
            kernel.fatal_signal(task, Siginfo(s.SIGKILL, s.SI_KERNEL))
            do_group_exit(task, s.SIGKILL)
        case Served():
            return
        case _ as never:
            assert_never(never)


def exc_other(kernel: Kernel, task: Task, exception: CpuException) -> None:
    """Every other vector: serve it silently (RDTSC), or tell the program."""
    info = exception_signal(kernel, task, exception)
    if info is not None:
        force_signal(task, info)
