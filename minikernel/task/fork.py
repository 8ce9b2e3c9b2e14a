"""New tasks: fork, vfork, clone.  Linux: kernel/fork.c (kernel_clone, copy_process)."""

from typing import Final

from msgspec import Struct

from emu.cpu import RAX, RSP
from emu.x86 import VirtAddr
from minikernel.abi.abi import X86_64
from minikernel.abi.capability import CAP_SYS_ADMIN, CAP_SYS_RESOURCE
from minikernel.abi.clone import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_CLEAR_SIGHAND,
    CLONE_FILES,
    CLONE_FS,
    CLONE_NAMESPACES,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_SETTLS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
)
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import RLIMIT_NPROC
from minikernel.abi.signal import NSIG, SIG_IGN, Sigaction, SignalStack
from minikernel.events import SchedProcessFork
from minikernel.mm.dup import dup_mm
from minikernel.mm.slab_objects import Charge, uncharge
from minikernel.mm.uaccess import put_user
from minikernel.task.cpu_timers import watch_cpu_limit
from minikernel.task.kstack import charge_process, charge_task, write_image
from minikernel.task.task import Process, SysvSem, Task
from minikernel.wait import WaitQueue

MIN_THREADS: Final = 20
_UNSHARE_FLAGS: Final = (
    CLONE_NAMESPACES | CLONE_THREAD | CLONE_FS | CLONE_SIGHAND | CLONE_VM | CLONE_FILES | CLONE_SYSVSEM
)


class CloneArgs(Struct, kw_only=True):
    """What the calls of the family ask for: struct kernel_clone_args.  *stack*: a stack pointer, 0: the same."""

    flags: int
    exit_signal: int = 0
    stack: int = 0
    parent_tid: int = 0
    child_tid: int = 0
    tls: int = 0


def kernel_clone(task: Task, args: CloneArgs) -> Task:
    """Make a child or a thread of *task*, which is in the CPU; it is ready to run.

    Errors:
        EINVAL: flags that exclude each other.  EPERM: namespaces.  EAGAIN: RLIMIT_NPROC or the machine's limit.
        ENOMEM: no memory; nothing is left of the child.
    """
    _check_flags(task, args)
    _check_limits(task)
    kernel = task.kernel
    child = _copy_process(task, args)
    if kernel.tracer.sink is not None:
        kernel.tracer.emit(SchedProcessFork(task.pid, child.pid))
    if args.flags & CLONE_PARENT_SETTID:
        _try_put(task, args.parent_tid, child.pid)
    if args.flags & CLONE_CHILD_SETTID:
        _try_put(child, args.child_tid, child.pid)
    if args.flags & CLONE_VFORK:
        child.vfork_done = WaitQueue()
    kernel.nr_forks += 1
    kernel.scheduler.add_new(child, task)
    return child


def _try_put(task: Task, address: int, value: int) -> None:
    """Store a thread id where user space asked for it; a bad address is the program's business (Linux ignores it)."""
    try:
        put_user(task.mm, VirtAddr(address), value, 4)
    except LinuxError:
        return


def _check_flags(task: Task, args: CloneArgs) -> None:
    """The checks at the head of copy_process, in its order."""
    flags = args.flags
    for both in (CLONE_NEWNS | CLONE_FS, CLONE_NEWUSER | CLONE_FS):
        if flags & both == both:
            raise LinuxError(Errno.EINVAL, "a namespace of one's own with a shared CLONE_FS")
    if flags & CLONE_THREAD and not flags & CLONE_SIGHAND:
        raise LinuxError(Errno.EINVAL, "CLONE_THREAD without CLONE_SIGHAND")
    if flags & CLONE_SIGHAND and not flags & CLONE_VM:
        raise LinuxError(Errno.EINVAL, "CLONE_SIGHAND without CLONE_VM")
    if flags & CLONE_THREAD and flags & (CLONE_NEWUSER | CLONE_NEWPID):
        raise LinuxError(Errno.EINVAL, "a thread in other namespaces")
    if flags & CLONE_PIDFD:
        raise LinuxError(Errno.EINVAL, "pidfds are not there")
    if flags & CLONE_SIGHAND and flags & CLONE_CLEAR_SIGHAND:
        raise LinuxError(Errno.EINVAL, "CLONE_SIGHAND with CLONE_CLEAR_SIGHAND")
    _check_namespaces(task, flags)


def _check_namespaces(task: Task, flags: int) -> None:
    if flags & CLONE_NAMESPACES:
        if not task.cred.capable(CAP_SYS_ADMIN) and flags & CLONE_NAMESPACES != CLONE_NEWUSER:
            raise LinuxError(Errno.EPERM, "namespaces need CAP_SYS_ADMIN")
        raise LinuxError(Errno.EINVAL, "one set of namespaces on this machine")


def unshare(task: Task, flags: int) -> None:
    """Give *task* what it shared with others: ksys_unshare.

    Errors:
        EINVAL: unknown flags, or what threads cannot give up; namespaces, of which there is one set.  EPERM: those.
    """
    if flags & CLONE_VM:
        flags |= CLONE_SIGHAND
    if flags & CLONE_SIGHAND:
        flags |= CLONE_THREAD
    if flags & CLONE_NEWUSER:
        flags |= CLONE_THREAD | CLONE_FS
    if flags & ~_UNSHARE_FLAGS:
        raise LinuxError(Errno.EINVAL, f"unshare: {flags:#x}")
    if flags & CLONE_THREAD and len(task.process.threads) > 1:
        raise LinuxError(Errno.EINVAL, "unshare: of a process with threads")
    if flags & CLONE_VM and task.mm.users > 1:
        raise LinuxError(Errno.EINVAL, "unshare: the memory of several processes")
    _check_namespaces(task, flags)
    if flags & CLONE_FS:
        shared_fs, task.fs = task.fs, task.fs.copy()
        shared_fs.put()
    if flags & CLONE_FILES and task.files.users > 1:
        shared, task.files = task.files, task.files.copy()
        shared.put()


def _check_limits(task: Task) -> None:
    kernel = task.kernel
    limit = task.rlimits[RLIMIT_NPROC][0]
    mine = sum(1 for other in kernel.tasks.values() if other.cred.uid == task.cred.uid)
    privileged = task.cred.uid == 0 or task.cred.capable(CAP_SYS_RESOURCE) or task.cred.capable(CAP_SYS_ADMIN)
    if mine >= limit and not privileged:
        raise LinuxError(Errno.EAGAIN, "RLIMIT_NPROC")
    if len(kernel.tasks) >= kernel.max_threads:
        raise LinuxError(Errno.EAGAIN, "as many tasks as the machine may have")


def _copy_process(task: Task, args: CloneArgs) -> Task:
    """A task that is like *task* but for what *args* says."""
    kernel, flags = task.kernel, args.flags
    # What can fail comes first, and is undone if something behind it does.
    mm, fs, stack = task.mm, task.fs, 0
    held: list[Charge] = []
    shared: list[Charge] = []
    try:
        if not flags & CLONE_VM:
            mm = dup_mm(task.mm)
        held = charge_task(kernel)
        if not flags & CLONE_THREAD:
            shared = charge_process(kernel, own_sighand=not flags & CLONE_SIGHAND)
        stack = kernel.stacks.alloc()
        if not flags & CLONE_FS:
            fs = task.fs.copy()
        files = task.files if flags & CLONE_FILES else task.files.copy()
    except LinuxError:
        if fs is not task.fs:
            fs.put()
        if stack:
            kernel.stacks.free(stack)
        uncharge(shared)
        uncharge(held)
        if mm is not task.mm:
            mm.destroy()
        raise
    pid = kernel.alloc_pid()
    process = task.process if flags & CLONE_THREAD else _copy_signal(task, pid, args)
    process.objects += shared
    child = Task(kernel, pid, process, task.abi)
    child.objects = held
    child.stack = stack
    child.mm = mm
    child.has_mm = True
    if flags & CLONE_VM:
        mm.users += 1
    else:
        mm.rlimits = process.rlimits
    if flags & CLONE_FILES:
        files.users += 1
    child.files = files
    if flags & CLONE_FS:
        fs.users += 1
    child.fs = fs
    child.cred = task.cred.copy()
    child.comm = task.comm
    child.personality = task.personality
    child.attributes = task.attributes.fork()
    child.blocked = task.blocked
    if not flags & CLONE_VM or flags & CLONE_VFORK:
        child.sigstack = task.sigstack
    else:
        child.sigstack = SignalStack()
    if not flags & CLONE_VM:
        child.rseq = task.rseq
    child.io_context = task.io_context
    if flags & CLONE_SYSVSEM:
        task.sysvsem = task.sysvsem or SysvSem()
        child.sysvsem = task.sysvsem
        task.sysvsem.refs += 1
    child.tls = task.tls
    child.start_time = kernel.clock.now_ns()
    if flags & CLONE_CHILD_CLEARTID:
        child.clear_child_tid = args.child_tid
    child.context = _copy_thread(task, child, args)
    process.threads.append(child)
    if not flags & CLONE_THREAD:
        process.leader = child
    kernel.tasks[pid] = child
    write_image(child)
    return child


def _copy_signal(task: Task, pid: int, args: CloneArgs) -> Process:
    """The child's process: its own signals, or shared handlers (copy_sighand, copy_signal)."""
    parent = task.process
    process = Process(pid, [limit[:] for limit in parent.rlimits])
    if args.flags & CLONE_SIGHAND:
        process.actions = parent.actions
    elif args.flags & CLONE_CLEAR_SIGHAND:
        process.actions = [a if a.handler == SIG_IGN else Sigaction() for a in parent.actions]
        assert len(process.actions) == NSIG + 1, "_copy_signal: one action a signal"
    else:
        process.actions = parent.actions[:]
    process.pgrp, process.session, process.tty = parent.pgrp, parent.session, parent.tty
    process.oom_score_adj = parent.oom_score_adj
    watch_cpu_limit(process)
    process.parent = parent.parent if args.flags & CLONE_PARENT else parent
    process.exit_signal = parent.exit_signal if args.flags & CLONE_PARENT else args.exit_signal
    assert process.parent is not None, "_copy_signal: a process without a parent"
    process.parent.children.append(process)
    return process


def _copy_thread(task: Task, child: Task, args: CloneArgs) -> bytes:
    """The child's first CPU state: the parent's, with 0 in RAX, and its own stack and TLS (copy_thread)."""
    kernel = task.kernel
    cpu, user_mode = kernel.cpu, kernel.user_mode
    mine = cpu.save()
    cpu.regs[RAX] = 0
    if args.stack:
        cpu.regs[RSP] = args.stack
    if args.flags & CLONE_SETTLS:
        if task.in_call is X86_64:
            cpu.fs_base = args.tls
        else:
            from minikernel.task.tls import set_new_tls

            set_new_tls(child, args.tls)
            user_mode.load_tls(child.tls)
            user_mode.load_segment("gs", cpu.segment("gs"))
    theirs = cpu.save()
    cpu.restore(mine)
    user_mode.load_tls(task.tls)
    return theirs
