"""The OOM killer: when nothing can be reclaimed, the process that frees most dies.  Linux: mm/oom_kill.c.

A victim gets SIGKILL, may use the reserves on its way out, and its private memory is taken at once, even if it is
asleep in the kernel (the oom_reaper's work, done here and now).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from minikernel.abi import signal as s
from minikernel.abi.siginfo import Siginfo
from minikernel.events import OomKill
from minikernel.mm.vma import VM_HUGETLB, VM_LOCKED, VM_PFNMAP, VM_SHARED
from minikernel.mm.zap import zap_range
from minikernel.task.signal import send_signal
from minikernel.task.task import TaskState

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.task.task import Process, Task

OOM_SCORE_ADJ_MIN: Final = -1000
_PANIC_ALWAYS: Final = 2  # of vm.panic_on_oom: also when it is the memory of a cpuset or a mempolicy that is short


def oom_badness(task: Task, total_pages: int) -> int | None:
    """What speaks for killing the process of *task*, in pages; None: it must not be (same name).

    *total_pages*: RAM and swap.
    """
    adj = task.process.oom_score_adj
    if not task.has_mm or adj == OOM_SCORE_ADJ_MIN:
        return None
    mm = task.mm
    return mm.rss + mm.swapents + mm.pgtable.nr_tables + 1 + adj * (total_pages // 1000)


def total_pages(kernel: Kernel) -> int:
    """RAM and swap: what badness is a part of."""
    return kernel.node.totalram_pages + kernel.node.swap.total_pages


class KernelPanic(RuntimeError):  # noqa: N818 - Linux's word for it, and not an error of ours
    """The machine stops for good, as its administrator asked for: panic()."""


class OomKiller:
    """``Node.out_of_memory``.

    *victims* are the address spaces that somebody was killed for; *pinned* those that the running system call works on
    besides its own, which must not be reaped under it.
    """

    __slots__ = ("_kernel", "origin", "pinned", "victims")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.victims: dict[MmStruct, None] = {}
        self.pinned: list[MmStruct] = []
        self.origin: Task | None = None

    def __call__(self, order: int, gfp: int) -> bool:
        """Make memory free for a request; whether it may have what is left below the watermarks (out_of_memory).

        Raises:
            KernelPanic: vm.panic_on_oom.
        """
        kernel = self._kernel
        current = kernel.current
        if current is None or not current.has_mm:
            return False
        if current.mm in self.victims or is_dying(current):
            self.victims[current.mm] = None
            return True
        self._check_panic(current, order, gfp)
        chosen = current if kernel.node.vm_sysctl.oom_kill_allocating_task else self._select_bad_process()
        if chosen is None or oom_badness(chosen, 0) is None:
            return False
        self._dump(current, order, gfp)
        kernel.node.vmstat["oom_kill"] += 1
        self._kill(chosen)
        return True

    def _check_panic(self, current: Task, order: int, gfp: int) -> None:
        """Stop the machine, if that is wanted (check_panic_on_oom)."""
        how = self._kernel.node.vm_sysctl.panic_on_oom
        if how:
            self._dump(current, order, gfp)
            words = "compulsory" if how == _PANIC_ALWAYS else "system-wide"
            raise KernelPanic(f"Kernel panic - not syncing: Out of memory: {words} panic_on_oom is enabled")

    def _dump(self, current: Task, order: int, gfp: int) -> None:
        from minikernel.task.oom_report import dump_header

        for line in dump_header(self._kernel, current, order, gfp):
            self._kernel.log(line)

    def _select_bad_process(self) -> Task | None:
        """The thread-group leader whose memory, adjusted by its wish, is largest; the first one of equals.

        A victim that was reaped and is still there is passed over: it has nothing left to give.
        """
        if self.origin is not None:
            return self.origin
        total = total_pages(self._kernel)
        best: tuple[int, Task] | None = None
        for process, task in processes(self._kernel):
            points = oom_badness(task, total)
            if points is None or process.group_exiting or task.mm in self.victims:
                continue
            if best is None or points > best[0]:
                best = (points, task)
        return best[1] if best else None

    def _kill(self, victim: Task) -> None:
        """SIGKILL to all that share the memory, and the memory itself (__oom_kill_process)."""
        from minikernel.task.oom_report import killed_line, reaped_line

        kernel, mm = self._kernel, victim.mm
        self.victims[mm] = None
        kernel.log(killed_line(victim))
        if kernel.tracer.sink is not None:
            kernel.tracer.emit(OomKill(victim.pid, victim.comm.decode(errors="replace"), mm.rss, mm.swapents))
        for process, task in list(processes(kernel)):
            if task.mm is mm and process.oom_score_adj != OOM_SCORE_ADJ_MIN:
                send_signal(task, Siginfo(s.SIGKILL, s.SI_KERNEL), group=True)
        kernel.need_resched = True
        current = kernel.current
        if current is not None and current.mm is not mm and mm not in self.pinned:
            reap(mm)
            kernel.log(reaped_line(victim))

    def blame(self, task: Task) -> Blame:
        """If memory runs out within the context it is *task*'s doing: swapoff (set_current_oom_origin)."""
        return Blame(self, task)

    def pin(self, mm: MmStruct) -> Pin:
        """Within the context *mm*, of another task, is worked on: its pages are left where they are."""
        return Pin(self.pinned, mm)


# Contexts as classes: contextlib would cost every start 5 ms.


class Blame:
    """The context of ``OomKiller.blame``."""

    __slots__ = ("_killer", "_task")

    def __init__(self, killer: OomKiller, task: Task) -> None:
        self._killer = killer
        self._task = task

    def __enter__(self) -> None:
        """From now on."""
        self._killer.origin = self._task

    def __exit__(self, *_: object) -> None:
        """It is over."""
        self._killer.origin = None


class Pin:
    """The context of ``OomKiller.pin``."""

    __slots__ = ("_mm", "_pinned")

    def __init__(self, pinned: list[MmStruct], mm: MmStruct) -> None:
        self._pinned = pinned
        self._mm = mm

    def __enter__(self) -> None:
        """From now on."""
        self._pinned.append(self._mm)

    def __exit__(self, *_: object) -> None:
        """It is over."""
        self._pinned.remove(self._mm)


def processes(kernel: Kernel) -> Iterator[tuple[Process, Task]]:
    """Each process with memory, and a thread of it that has some (find_lock_task_mm), in the order of their ids."""
    seen: set[Process] = set()
    for task in kernel.tasks.values():
        if task.process not in seen and task.has_mm and task.state not in {TaskState.ZOMBIE, TaskState.DEAD}:
            seen.add(task.process)
            yield task.process, task


def is_dying(task: Task) -> bool:
    """A fatal signal has come for *task*, or its process exits: it will give its memory back (task_will_free_mem)."""
    bit = 1 << (s.SIGKILL - 1)
    return task.process.group_exiting or bool((task.pending.mask | task.process.shared_pending.mask) & bit)


def reap(mm: MmStruct) -> None:
    """Take all private memory that is not locked (__oom_reap_task_mm)."""
    for vma in mm.vmas:
        if not vma.flags & (VM_LOCKED | VM_HUGETLB | VM_PFNMAP) and (vma.is_anonymous or not vma.flags & VM_SHARED):
            zap_range(mm, vma.start, vma.end)
