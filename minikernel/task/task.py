"""A task: struct task_struct, and what tasks of one process share.

Linux: include/linux/sched.h, include/linux/sched/signal.h.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from minikernel.abi.resource import Rusage
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import NSIG, SIGCHLD, Sigaction, SignalStack
from minikernel.arch.segments import NR_TLS
from minikernel.task.attributes import Attributes
from minikernel.task.kstack import write_image
from minikernel.wait import WaitQueue

if TYPE_CHECKING:
    from emu.cpu import Context
    from minikernel.abi.abi import Abi
    from minikernel.fs.cred import Cred
    from minikernel.fs.fdtable import FdTable
    from minikernel.fs.namei import FsStruct
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.slab_objects import Charge
    from minikernel.task.cpu_timers import CpuTimers
    from minikernel.task.itimer import RealTimer
    from minikernel.task.posix_timers import PosixTimer
    from minikernel.wait import Wait

TASK_COMM_LEN: Final = 16  # with the NUL
NO_SYSCALL: Final = -1


class TaskState(Enum):
    """What /proc/PID/stat shows."""

    RUNNING = "R"
    SLEEPING = "S"
    STOPPED = "T"
    ZOMBIE = "Z"
    DEAD = "X"


class Terminal(Protocol):
    """What controls a session (minikernel.tty)."""

    number: int  # of the device, as st_rdev
    pgrp: int  # the foreground process group, 0: none

    def disassociate(self, process: Process) -> None:
        """*process*, the leader of the session, ends."""
        ...


class SemUndo(Protocol):
    """What is taken back of System V semaphores (minikernel.ipc.sem)."""

    def take_back(self, pid: int) -> None:
        """Now, by process *pid*."""
        ...


class SysvSem:
    """The undos that tasks share from CLONE_SYSVSEM on: struct sysv_sem."""

    __slots__ = ("refs", "undo")

    def __init__(self) -> None:
        self.refs = 1
        self.undo: SemUndo | None = None  # made by the first semop that wants it

    def put(self, pid: int) -> None:
        """A task of process *pid* that shares them ends; the last one takes them back (exit_sem)."""
        self.refs -= 1
        if not self.refs and self.undo is not None:
            self.undo.take_back(pid)


class Sigpending:
    """Signals that were sent and not yet taken: struct sigpending.

    Invariant: bit n-1 of *mask* is set if and only if the queue holds a siginfo of signal n.
    """

    __slots__ = ("mask", "queue")

    def __init__(self) -> None:
        self.queue: list[Siginfo] = []
        self.mask = 0


class Process:
    """What all threads of a process share: struct signal_struct and struct sighand_struct."""

    __slots__ = (
        "actions",
        "children",
        "children_usage",
        "cld_notify",
        "continued",
        "cpu_timers",
        "dead_io",
        "dead_usage",
        "exit_code",
        "exit_signal",
        "group_exiting",
        "ignored_timers",
        "is_subreaper",
        "leader",
        "next_timer_id",
        "objects",
        "oom_score_adj",
        "parent",
        "pgrp",
        "pid",
        "posix_timers",
        "real_timer",
        "rlimits",
        "session",
        "shared_pending",
        "signalfd_queue",
        "stop_count",
        "stop_signal",
        "stopped",
        "threads",
        "tty",
        "wait_chldexit",
        "zombie",
    )

    def __init__(self, pid: int, rlimits: list[list[int]]) -> None:
        self.pid = pid  # the thread group's id
        self.parent: Process | None = None  # None: the kernel itself
        self.children: list[Process] = []
        self.exit_signal = SIGCHLD  # what the parent is sent at the end; 0: nothing
        self.zombie = False  # every thread has ended, and the parent has not asked how
        self.is_subreaper = False  # prctl(PR_SET_CHILD_SUBREAPER)
        self.wait_chldexit = WaitQueue()  # threads of ours in wait(2)
        self.stopped = False  # every thread has stopped (SIGNAL_STOP_STOPPED)
        self.stop_count = 0  # threads that have not yet joined a stop that has begun
        self.stop_signal = 0  # what stopped it; 0: not stopped, or the parent has been told by wait(2)
        self.continued = False  # SIGCONT came, and the parent has not seen that
        self.cld_notify = 0  # CLD_* that a thread is to tell the parent on its way to user mode; 0: nothing
        self.dead_io = [0, 0, 0, 0]  # Task.io of threads that have ended
        self.dead_usage = Rusage()  # of threads that have ended, and of memory that was given up
        self.actions = [Sigaction()] * (NSIG + 1)  # by signal number; 0 is not used
        self.shared_pending = Sigpending()
        self.rlimits = rlimits  # [current, maximum] by RLIMIT_*
        self.threads: list[Task] = []
        self.objects: list[Charge] = []  # of signal_cache and sighand_cache
        self.leader: Task | None = None
        self.pgrp = 0
        self.session = 0
        self.group_exiting = False
        self.exit_code = 0  # in wait(2)'s form
        self.tty: Terminal | None = None  # that controls the session
        self.oom_score_adj = 0  # /proc/PID/oom_score_adj
        self.children_usage = Rusage()  # of the children waited for
        self.signalfd_queue: WaitQueue | None = None  # readers of signalfds; made by the first
        # Timers.
        self.real_timer: RealTimer | None = None  # ITIMER_REAL
        self.cpu_timers: CpuTimers | None = None  # what counts CPU time; None: nothing ever did
        self.posix_timers: dict[int, PosixTimer] = {}  # timer_create(2)
        self.next_timer_id = 0
        self.ignored_timers: list[PosixTimer] = []  # expired while their signal was ignored


class Task:
    """One thread of execution.  ``wake_up`` is set by the scheduler when the task is made known to it."""

    __slots__ = (
        "abi",
        "attributes",
        "blocked",
        "blocked_call",
        "clear_child_tid",
        "comm",
        "context",
        "cr2",
        "cred",
        "error_code",
        "exit_code",
        "files",
        "fs",
        "has_mm",
        "in_call",
        "interrupted",
        "io",
        "io_context",
        "kernel",
        "mm",
        "nr_involuntary_switches",
        "nr_voluntary_switches",
        "objects",
        "orig_ax",
        "pdeath_signal",
        "pending",
        "personality",
        "pi_priority",
        "pid",
        "process",
        "real_blocked",
        "restart",
        "robust_list",
        "rseq",
        "saved_sigmask",
        "sigpending",
        "sigstack",
        "stack",
        "start_time",
        "state",
        "stime",
        "stop_pending",
        "sysvsem",
        "tgid",
        "tls",
        "trap_nr",
        "uninterruptible",
        "utime",
        "vfork_done",
        "vruntime",
        "wait",
        "waiting_on",
        "woken",
    )

    def __init__(self, kernel: Kernel, pid: int, process: Process, abi: Abi) -> None:
        self.kernel = kernel
        self.pid = pid
        self.tgid = process.pid
        self.process = process
        self.abi = abi
        self.comm = b""
        self.sysvsem: SysvSem | None = None
        self.mm: MmStruct  # absent between execve's two programs and after exit: ``has_mm``
        self.has_mm = False
        self.files: FdTable
        self.fs: FsStruct
        self.cred: Cred
        self.objects: list[Charge] = []  # task_struct and what else a task costs, until it is released
        self.stack = 0  # its kernel stack, until it ends (Linux: task_struct.stack); 0: none
        self.context: Context = b""  # the CPU state while another task runs
        self.tls: tuple[int, ...] = (0,) * NR_TLS  # descriptors of set_thread_area(2)
        self.state = TaskState.RUNNING
        # Signals.
        self.pending = Sigpending()
        self.blocked = 0
        self.real_blocked = 0  # what sigtimedwait(2) unblocked to be woken by it
        self.stop_pending = False  # a group stop has begun that this thread has not joined
        self.saved_sigmask: int | None = None  # to put back when sigsuspend and its like are over
        self.sigpending = False  # something is to be done before the task sees user mode again
        self.sigstack = SignalStack()
        self.trap_nr = self.error_code = self.cr2 = 0  # the last exception, for signal frames
        # The system call the task is in.
        self.orig_ax = NO_SYSCALL  # its number; NO_SYSCALL outside of one
        self.in_call: Abi | None = None  # the table it came through
        self.blocked_call: Coroutine[Any, Any, int] | None = None
        self.restart: Callable[[], Coroutine[Any, Any, int]] | None = None  # what restart_syscall(2) continues
        self.waiting_on: WaitQueue | None = None
        self.wait: Wait | None = None  # the wait itself, so that an old timeout does not end a new one
        self.woken: bool | None = None  # what the last wait ended with
        self.interrupted = False
        self.uninterruptible = False  # only SIGKILL ends the sleep
        self.pi_priority = 0  # real-time priority of those who wait for a lock of this task
        self.vruntime = 0  # instructions, weighted: the fair scheduler's clock
        # What the kernel keeps for user space.
        self.clear_child_tid = 0
        self.robust_list = (0, 0)  # head, length
        self.rseq = (0, 0, 0)  # address, length, signature
        self.pdeath_signal = 0
        self.personality = 0
        self.attributes = Attributes()
        self.io = [0, 0, 0, 0]  # rchar, wchar, syscr, syscw: syscalls/io_accounting.py
        self.io_context = 0  # ioprio_set(2)
        self.utime = self.stime = 0  # ns
        self.start_time = 0  # CLOCK_MONOTONIC ns
        self.nr_voluntary_switches = self.nr_involuntary_switches = 0
        self.exit_code = 0
        self.vfork_done: WaitQueue | None = None  # the parent of a vfork waits here

    @property
    def parent(self) -> Task | None:
        """The leader of the parent process; None for a child of the kernel."""
        parent = self.process.parent
        return parent.leader if parent is not None else None

    @property
    def ppid(self) -> int:
        """The parent's process id; 0 if that is the kernel."""
        return self.process.parent.pid if self.process.parent is not None else 0

    @property
    def rlimits(self) -> list[list[int]]:
        """[current, maximum] by RLIMIT_*."""
        return self.process.rlimits

    @property
    def pgrp(self) -> int:
        """Process group."""
        return self.process.pgrp

    @pgrp.setter
    def pgrp(self, value: int) -> None:
        self.process.pgrp = value

    @property
    def session(self) -> int:
        """Session."""
        return self.process.session

    @session.setter
    def session(self, value: int) -> None:
        self.process.session = value

    def wake_up(self) -> None:
        """End the wait the task is in (try_to_wake_up)."""
        self.kernel.scheduler.wake(self)

    def set_comm(self, name: bytes) -> None:
        """Name the task, cut to 15 bytes."""
        self.comm = name[: TASK_COMM_LEN - 1]
        write_image(self)
