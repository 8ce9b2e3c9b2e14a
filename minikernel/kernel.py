"""What one booted system owns: its parts, handed around.  Several can live side by side in one process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Final

from minikernel.abi.abi import I386, X86_64
from minikernel.abi.resource import default_rlimits
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import SI_KERNEL
from minikernel.ipc.shm import Shm
from minikernel.task.kstack import KernelStacks
from minikernel.task.loadavg import LoadAverage
from minikernel.task.oom import OomKiller
from minikernel.task.sched import Scheduler
from minikernel.task.task import Process, Task
from minikernel.task.vdso import SYSENTER_RETURN

if TYPE_CHECKING:
    from emu.cpu import Cpu
    from emu.physmem import PhysMem
    from emu.x86 import Pfn
    from minikernel.abi.abi import Abi
    from minikernel.arch.user_mode import UserMode
    from minikernel.clock import Clock
    from minikernel.config import Config
    from minikernel.events import Tracer
    from minikernel.fs.dentry import Path
    from minikernel.fs.file import OpenFile
    from minikernel.fs.vfs import Vfs
    from minikernel.ipc.msg import Msg
    from minikernel.ipc.sem import Sem
    from minikernel.mm.compaction import Compaction
    from minikernel.mm.kernel_half import KernelHalf
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.page_alloc import Node
    from minikernel.mm.pgtable import PageTable
    from minikernel.net.net import Net
    from minikernel.prng import Prng
    from minikernel.task.futex import FutexKey, FutexWaiter
    from minikernel.task.futex_pi import PiState, PiWaiter
    from minikernel.task.kswapd import Kswapd
    from minikernel.task.vdso import Vdso
    from minikernel.tty.console import Console

PID_MAX: Final = 32768
REAPER_PID: Final = 1


class Kernel:
    """One machine, booted: its hardware, memory, files, clock and tasks."""

    def __init__(
        self,
        config: Config,
        tracer: Tracer,
        physmem: PhysMem,
        cpu: Cpu,
        node: Node,
        kernel_half: KernelHalf,
        init_pgtable: PageTable,
        user_mode: UserMode,
        clock: Clock,
        random: Prng,
    ) -> None:
        self.config = config
        self.tracer = tracer
        self.physmem = physmem
        self.cpu = cpu
        self.node = node
        self.kernel_half = kernel_half
        self.init_pgtable = init_pgtable  # what CR3 holds while no process is: only the kernel's half
        self.user_mode = user_mode
        self.clock = clock
        self.random = random
        self.chrdevs: dict[int, Callable[[Path, int], OpenFile]] = {}  # besides the memory devices
        self.console: Console | None = None  # the host's terminal, if it is one of the machine's
        self.stacks = KernelStacks(kernel_half)
        self.load = LoadAverage(clock.now_ns())
        self.vfs: Vfs
        node.compact = self._compact
        self.scheduler = Scheduler(config.schedule_seed)
        self.tasks: dict[int, Task] = {}
        self.init: Task | None = None  # the first task: its end is the machine's
        self.current: Task | None = None  # whose state is in the CPU
        self.exit_code: int | None = None  # of the first task, in wait(2)'s form
        self.fatal: tuple[Task, Siginfo] | None = None  # the last signal that killed a task
        self.on_fatal: Callable[[Task, Siginfo], None] | None = None  # the crash reporter
        self.signal_gate: Callable[[Task], bool] | None = None  # a debugger: is what is pending to wait? (ptrace_stop)
        self.vdso: dict[Abi, tuple[Vdso, Pfn]] = {}  # the object, and the frame that holds it
        self.need_resched = False  # the running task's slice ends at the next chance
        # fork_init's rule of thumb: an eighth of memory in stacks.
        self.max_threads = config.max_processes or max(physmem.nr_frames // 8, 20)
        self.host_signals: list[int] = []  # signals of the host that the guest has not seen yet
        self.vm_sysctl = node.vm_sysctl
        self.vm_sysctl.current_mm = lambda: (
            self.current.mm if self.current is not None and self.current.has_mm else None
        )
        self.shm = Shm(self, X86_64 if cpu.long_mode else I386)
        self.core_pattern = b"core"  # where core files go: kernel.core_pattern
        self.core_uses_pid = 0
        self.hostname = b"minikernel"
        self.domainname = b"(none)"
        self.futexes: dict[FutexKey, list[FutexWaiter]] = {}  # who waits, first come first
        self.pi_states: dict[FutexKey, PiState] = {}  # locks with priority inheritance that somebody waits for
        self.pi_blocked: dict[Task, PiWaiter] = {}  # and who does
        self.syscall_missing: dict[tuple[str, int], str] = {}  # (ABI name, number) -> name
        self.nr_syscalls = 0
        self.nr_switches = 0
        self.nr_forks = 0
        self.messages: list[tuple[int, str]] = []  # the log: (CLOCK_MONOTONIC ns, text)
        self.oom = OomKiller(self)
        self.kswapd: Kswapd | None = None
        self.reaper = Process(REAPER_PID, default_rlimits())  # adopts orphans and forgets them
        self._last_pid = REAPER_PID
        self._leaving: Task | None = None  # whose address space is being taken down

    @cached_property
    def compaction(self) -> Compaction:
        """Who puts free frames together; loaded when somebody asks for it first, as it costs every start 2 ms."""
        from minikernel.mm.compaction import Compaction

        return Compaction(self.node)

    @cached_property
    def msg(self) -> Msg:
        """The System V message queues; loaded with the first call."""
        from minikernel.ipc.msg import Msg

        return Msg(self)

    @cached_property
    def sem(self) -> Sem:
        """The System V semaphores; loaded with the first call."""
        from minikernel.ipc.sem import Sem

        return Sem(self)

    @cached_property
    def net(self) -> Net:
        """The machine's sockets; loaded with the first one."""
        from minikernel.net.net import Net

        return Net(self, self._calling_task, self._signal_owner)

    def _calling_task(self) -> Task:
        assert self.current is not None, "_calling_task: nobody runs"
        return self.current

    def _signal_owner(self, owner: int, signo: int) -> None:
        """Send *signo* to process *owner*, or to the process group -*owner* (send_sigurg)."""
        from minikernel.task.signal import send_signal

        for task in [*self.tasks.values()]:
            process = task.process
            if process.leader is task and (process.pid == owner or (owner < 0 and process.pgrp == -owner)):
                send_signal(task, Siginfo(signo, SI_KERNEL), group=True)

    def _compact(self, order: int, gfp: int) -> bool:
        return self.compaction(order, gfp)

    def log(self, text: str) -> None:
        """Add a line to the kernel's log (printk)."""
        self.messages.append((self.clock.now_ns(), text))

    def update_curr(self) -> None:
        """Charge the task in the CPU for what it has run since it was last charged."""
        scheduler, icount = self.scheduler, self.cpu.icount
        ran = icount - scheduler.exec_start
        task = self.current
        if ran and task is not None:
            scheduler.exec_start = icount
            scheduler.account(task, ran)
            timers = task.process.cpu_timers
            if timers is not None:
                timers.check()

    @property
    def last_pid(self) -> int:
        """The process id given out last."""
        return self._last_pid

    def alloc_pid(self) -> int:
        """The next free process id; ids are not reused before PID_MAX is reached."""
        pid = self._last_pid
        for _ in range(PID_MAX):
            pid = pid % (PID_MAX - 1) + 1
            if pid not in self.tasks:
                self._last_pid = pid
                return pid
        raise AssertionError("alloc_pid: every id is in use")

    def address_spaces(self) -> list[MmStruct]:
        """Those that tasks use, each once, in the order of the tasks."""
        return list({id(task.mm): task.mm for task in self.tasks.values() if task.has_mm}.values())

    def acting_tgid(self) -> int:
        """The process on whose behalf something happens (task_tgid(current)): a dying task does its own cleaning."""
        task = self._leaving or self.current
        return task.tgid if task is not None else 0

    def leave_mm(self, task: Task) -> None:
        """Drop *task*'s address space; the CPU walks the kernel's own tables until another is loaded."""
        if not task.has_mm:
            return
        if self.current is task:
            self.cpu.set_root(self.init_pgtable.root)
        task.has_mm = False
        mm = task.mm
        mm.users -= 1
        if not mm.users:
            task.process.dead_usage.add_memory(mm.min_flt, mm.maj_flt, max(mm.hiwater_rss, mm.rss))
            self.node.vmstat["pgfault"] += mm.min_flt + mm.maj_flt
            self.node.vmstat["pgmajfault"] += mm.maj_flt
            self._leaving = task
            mm.destroy()
            self._leaving = None
            self.oom.victims.pop(mm, None)

    def vdso_symbol(self, task: Task, name: str) -> int:
        """Address of *name* in the vDSO of *task*; 0 if it has none."""
        image, _ = self.vdso[task.abi]
        return task.mm.vdso + image.symbols[name] if task.mm.vdso else 0

    def fatal_signal(self, task: Task, info: Siginfo) -> None:
        """A signal is about to kill *task*: its state is still whole, so this is when a report is made."""
        self.fatal = (task, info)
        if self.on_fatal is not None:
            self.on_fatal(task, info)

    def sysenter_return(self, task: Task) -> int:
        """Where SYSENTER comes back to in *task*: behind the instruction in the vDSO; 0 without an i386 vDSO."""
        entry = self.vdso_symbol(task, "__kernel_vsyscall") if task.abi is I386 else 0
        return entry + SYSENTER_RETURN if entry else 0
