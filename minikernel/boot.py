"""start_kernel: from a Config to a machine whose first program is loaded.  Linux: init/main.c."""

import functools
import os
import signal
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from emu.cpu import Cpu
from emu.physmem import PhysMem
from emu.x86 import Pfn, pfn_to_phys
from minikernel import entry
from minikernel.abi.abi import I386, X86_64
from minikernel.abi.errno import LinuxError
from minikernel.abi.resource import default_rlimits
from minikernel.abi.signal import SIGALRM, SIGINT, SIGTERM, SIGWINCH
from minikernel.arch.user_mode import UserMode
from minikernel.clock import Clock
from minikernel.config import Config
from minikernel.events import Tracer
from minikernel.fs.cred import Cred
from minikernel.fs.dentry import Path
from minikernel.fs.devpts import PTMX, TTY
from minikernel.fs.file import OpenFile
from minikernel.fs.outside import Outside
from minikernel.fs.vfs import Vfs
from minikernel.kernel import Kernel
from minikernel.mm.gfp import GFP_KERNEL
from minikernel.mm.kernel_half import build_kernel_half
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.page import PG_kernel
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import PageTable
from minikernel.mm.policy import make_policy
from minikernel.prng import Prng
from minikernel.procfs.mount import procfs
from minikernel.procfs.sysctl import set_sysctl
from minikernel.procfs.sysfs import sysfs
from minikernel.task.exec import do_execve
from minikernel.task.exit import do_group_exit
from minikernel.task.kstack import charge_process, charge_task
from minikernel.task.kswapd import Kswapd
from minikernel.task.task import Process, Task
from minikernel.task.vdso import Vdso

if TYPE_CHECKING:
    from minikernel.mm.vmscan import Vmscan

_IO_NS: Final = 100_000  # what a page of swap, or of a file that reclaim took too early, costs: a fast disk
_UPTIME_NS: Final = 10 * 10**9  # when the first program starts: some programs look a second back
_LAYOUTS: Final = {
    ("x86-64", "pae"): X86_64_LAYOUT,
    ("i386", "pae"): I386_PAE_LAYOUT,
    ("i386", "2level"): I386_2LEVEL_LAYOUT,
}
_HOST_SIGNALS: Final = {
    signal.SIGINT: SIGINT,
    signal.SIGTERM: SIGTERM,
    signal.SIGALRM: SIGALRM,
    signal.SIGWINCH: SIGWINCH,
}


def _register_terminals(kernel: Kernel) -> None:
    """/dev/ptmx and /dev/tty; most programs never need what is behind them."""

    def ptmx(path: Path, flags: int) -> OpenFile:
        from minikernel.tty.pty import open_ptmx

        return open_ptmx(path, flags, kernel)

    def tty(path: Path, flags: int) -> OpenFile:
        from minikernel.tty.pty import open_controlling

        return open_controlling(path, flags, kernel)

    kernel.chrdevs = {PTMX: ptmx, TTY: tty}


def machine_layout(config: Config) -> KernelLayout:
    """The memory map that *config* asks for."""
    return _LAYOUTS[config.cpu, config.paging if config.cpu == "i386" else "pae"]


class System:
    """A booted machine.  Use it as a context manager: the end gives the host back what was borrowed."""

    def __init__(
        self,
        config: Config,
        tracer: Tracer | None = None,
        *,
        slab_debug: bool = False,
        outside: Outside | None = None,
    ) -> None:
        """Boot.  *slab_debug*: the kernel's objects are watched, which finds our own mistakes and costs time.

        *outside*: what answers in the host's place (minikernel/fs/outside.py).

        Raises:
            ValueError: the amount of RAM, the policy, a sysctl.
            OSError: --root, a --bind or a swap file is not there or cannot be used.
            MachineError, NativeMissingError: the emulator cannot be used.
            LinuxError: the working directory is not there.
        """
        self.kernel = start_kernel(config, tracer or Tracer(), slab_debug=slab_debug, outside=outside)
        self._old_handlers: dict[int, object] = {}

    def exec_init(self, program: bytes | None = None) -> None:
        """Load *program* (None: the first argument itself) into the first task, with the configuration's arguments.

        Errors:
            LinuxError: it cannot be executed.
        """
        kernel, config = self.kernel, self.kernel.config
        task = kernel.init
        assert task is not None, "exec_init: nothing is booted"
        kernel.current = task
        kernel.tracer.pid = task.pid
        do_execve(task, program or config.argv[0], list(config.argv), list(config.env))

    def run(self, run_cpu: entry.RunCpu | None = None) -> int:
        """Run until the first task ends; its exit code in wait(2)'s form.

        Raises:
            Deadlock, InstructionLimit, KernelPanic, TimeLimit.
        """
        return entry.run(self.kernel, run_cpu)

    def __enter__(self) -> Self:
        """From now on signals of the host are the guest's, and SIGALRM ends the run (Config.timeout)."""
        for sig in _HOST_SIGNALS:
            self._old_handlers[sig] = signal.signal(sig, self._host_signal)
        self.kernel.vfs.doorbell.connect_signals()
        if self.kernel.console is not None:
            self.kernel.console.take_host()
        if self.kernel.config.timeout is not None:
            signal.setitimer(signal.ITIMER_REAL, self.kernel.config.timeout)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.kernel.config.timeout is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for sig, handler in self._old_handlers.items():
            signal.signal(sig, handler)  # type: ignore[arg-type]  # what signal.signal gave us
        self.close()

    def close(self) -> None:
        """Give the host back what the machine's files borrowed."""
        self.kernel.vfs.shutdown()
        self.kernel.node.swap.close()

    def _host_signal(self, number: int, _frame: object) -> None:
        """A signal to the emulator: the run loop takes it at its next turn."""
        self.kernel.host_signals.append(_HOST_SIGNALS[signal.Signals(number)])
        self.kernel.need_resched = True

    def power_off(self) -> None:
        """End every task, so that the books can be checked."""
        for task in list(self.kernel.tasks.values()):
            do_group_exit(task, SIGTERM)


def start_kernel(config: Config, tracer: Tracer, *, slab_debug: bool = False, outside: Outside | None = None) -> Kernel:
    """Build the machine: RAM, zones, the kernel's tables, the CPU in user mode, files, and a task without a program."""
    outside = outside or Outside()
    layout = machine_layout(config)
    physmem = PhysMem(config.ram if config.max_memory is None else min(config.ram, config.max_memory))
    cpu = Cpu(physmem, layout.mode)
    node = Node(physmem, layout, tracer, slab_debug=slab_debug)
    kernel_half = build_kernel_half(node, layout)
    init_pgtable = PageTable(node, kernel_half)
    user_mode = UserMode(cpu, kernel_half, init_pgtable.root)
    clock = Clock(lambda: cpu.icount, host=outside.time if config.host_clock else None, uptime_ns=_UPTIME_NS)
    tracer.icount = lambda: cpu.icount
    kernel = Kernel(
        config, tracer, physmem, cpu, node, kernel_half, init_pgtable, user_mode, clock, Prng(config.seed)
    )  # fmt: skip
    for abi in (X86_64, I386) if cpu.long_mode else (I386,):
        kernel.vdso[abi] = (image := Vdso(abi), _kernel_page(node, image.image))
    _start_reclaim(kernel, outside)
    _register_terminals(kernel)
    kernel.vfs = Vfs(kernel, config.root, config.binds, outside)
    kernel.vfs.mount_at(b"/proc", procfs(kernel))
    kernel.vfs.mount_at(b"/sys", sysfs(kernel))
    for name, value in config.sysctls:
        set_sysctl(kernel, name, value)
    kernel.init = _init_task(kernel)
    return kernel


def _start_reclaim(kernel: Kernel, outside: Outside) -> None:
    """Hand the page allocator what it calls when memory is short, and switch swap on.

    Raises:
        ValueError: no such policy.  OSError, LinuxError: a swap file.
    """
    node, config, clock = kernel.node, kernel.config, kernel.clock
    if config.policy != node.lru.policy.name:
        node.lru.use(make_policy(config.policy, node, config.seed))

    @functools.cache
    def vmscan() -> "Vmscan":
        from minikernel.mm.vmscan import Vmscan  # most programs never need it

        return Vmscan(node)

    node.reclaim = lambda order, gfp: vmscan().try_to_free_pages(order, gfp)
    node.reclaim_pages = lambda pfns: vmscan().reclaim_pages(pfns)
    node.drop_pagecache = lambda: vmscan().drop_pagecache()
    node.out_of_memory = kernel.oom
    if not clock.is_host:
        node.spend_io = lambda: clock.skip_to(clock.now_ns() + _IO_NS)
    kernel.kswapd = Kswapd(kernel, vmscan)
    entry.start_kernel_thread(kernel, kernel.kswapd.task)
    node.wake_kswapd = kernel.kswapd.wake
    for number, swap in enumerate(config.swap):
        try:
            store = outside.temporary_swap(swap.size) if swap.path is None else outside.swap_file(swap.path)
        except LinuxError as error:
            raise ValueError(f"--swap {swap.size}: {error.why}") from error
        try:
            node.swap.swapon(b"/dev/swap%d" % number, store, store.nr_pages, swap.priority)
        except LinuxError as error:
            store.close()
            raise OSError(error.errno, error.why, os.fsdecode(swap.path or b"")) from error


def _kernel_page(node: Node, data: bytes) -> Pfn:
    """A frame of the kernel's own with *data* in it."""
    pfn = node.alloc_page(GFP_KERNEL)
    assert pfn is not None, "_kernel_page: no frame at boot"
    node.mem_map.flags[pfn] |= PG_kernel
    node.physmem.zero(pfn_to_phys(pfn))
    node.physmem.write(pfn_to_phys(pfn), data)
    return pfn


def _init_task(kernel: Kernel) -> Task:
    """The first task: it has files, credentials and a place in the tree, but no memory yet."""
    config = kernel.config
    pid = kernel.alloc_pid()
    process = Process(pid, default_rlimits(max(kernel.physmem.nr_frames // 64, 64)))
    task = Task(kernel, pid, process, X86_64 if kernel.cpu.long_mode else I386)
    task.objects = charge_task(kernel)
    task.stack = kernel.stacks.alloc()
    process.objects = charge_process(kernel, own_sighand=True)
    process.threads.append(task)
    process.leader = task
    process.parent = kernel.reaper
    kernel.reaper.children.append(process)
    process.pgrp = process.session = task.pid
    task.cred = Cred(config.uid, config.gid, config.groups)
    task.files = kernel.vfs.std_files()
    if config.console:
        from minikernel.tty.console import attach_console

        attach_console(kernel, task)
    task.fs = kernel.vfs.fs_struct(config.cwd, kernel.node.objects.fs_cache)
    task.fs.umask = config.umask
    kernel.tasks[task.pid] = task
    kernel.scheduler.add(task)
    return task


def host_environment() -> tuple[bytes, ...]:
    """The host's environment, in its order."""
    return tuple(name + b"=" + value for name, value in os.environb.items())
