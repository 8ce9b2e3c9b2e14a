"""Texts of /proc/PID that few programs read.  Linux: fs/proc/base.c, fs/proc/task_mmu.c (show_numa_map)."""

from typing import Final

from emu.cpu import RIP, RSP
from emu.x86 import PAGE_SHIFT, PTE_D, PTE_P
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.mm.mm_struct import MmStruct, vma_name
from minikernel.mm.page import PG_anon, PG_tail
from minikernel.mm.vma import VM_HUGETLB, VM_SHARED, Vma
from minikernel.task.oom import OOM_SCORE_ADJ_MIN, oom_badness, total_pages
from minikernel.task.task import NO_SYSCALL, Task, TaskState

OOM_SCORE_ADJ_MAX: Final = 1000
_OOM_DISABLE: Final = -17  # the oldest form of the knob, oom_adj: -17 to 15
_OOM_ADJUST_MAX: Final = 15
_FRAME: Final = (1 << 40) - 1

# Where a task sleeps, by its system call: the function's name in Linux (get_wchan).
_WCHAN: Final = {
    "clock_nanosleep": b"hrtimer_nanosleep",
    "clock_nanosleep_time64": b"hrtimer_nanosleep",
    "nanosleep": b"hrtimer_nanosleep",
    "epoll_pwait": b"ep_poll",
    "epoll_pwait2": b"ep_poll",
    "epoll_wait": b"ep_poll",
    "fcntl": b"fcntl_setlk",
    "flock": b"flock_lock_inode_wait",
    "futex": b"futex_do_wait",
    "futex_time64": b"futex_do_wait",
    "futex_waitv": b"futex_do_wait",
    "pause": b"__do_sys_pause",
    "poll": b"poll_schedule_timeout.constprop.0",
    "ppoll": b"poll_schedule_timeout.constprop.0",
    "pselect6": b"poll_schedule_timeout.constprop.0",
    "select": b"poll_schedule_timeout.constprop.0",
    "_newselect": b"poll_schedule_timeout.constprop.0",
    "read": b"anon_pipe_read",
    "readv": b"anon_pipe_read",
    "write": b"anon_pipe_write",
    "writev": b"anon_pipe_write",
    "rt_sigsuspend": b"sigsuspend",
    "rt_sigtimedwait": b"do_sigtimedwait",
    "vfork": b"kernel_clone",
    "clone": b"kernel_clone",
    "clone3": b"kernel_clone",
    "wait4": b"do_wait",
    "waitpid": b"do_wait",
    "waitid": b"do_wait",
}


def wchan(task: Task) -> bytes:
    """The function the task sleeps in; 0 if it runs (proc_pid_wchan)."""
    if task.state is TaskState.STOPPED:
        return b"do_signal_stop"
    if task.state is not TaskState.SLEEPING or task.in_call is None:
        return b"0"
    name = next((name for name, nr in NUMBERS[task.in_call.name].items() if nr == task.orig_ax), "")
    return _WCHAN.get(name, b"schedule")


def syscall(task: Task) -> bytes:
    """The call the task sleeps in: number, arguments, stack pointer, program counter (proc_pid_syscall)."""
    if task.state is TaskState.RUNNING or not task.has_mm or not task.context:
        return b"running\n"
    regs = memoryview(task.context)[: (RIP + 1) * 8].cast("Q")
    if task.in_call is None or task.orig_ax == NO_SYSCALL:
        return b"-1 0x%x 0x%x\n" % (regs[RSP], regs[RIP])
    abi = task.in_call
    words = [regs[index] & abi.mask for index in abi.arg_registers]
    return b"%d " % task.orig_ax + b" ".join(b"0x%x" % word for word in (*words, regs[RSP], regs[RIP])) + b"\n"


def oom_score(task: Task) -> bytes:
    """From 0 to 2000 (proc_oom_score)."""
    total = total_pages(task.kernel)
    badness = oom_badness(task, total)
    if badness is None:
        return b"0\n"
    return b"%d\n" % max((1000 + badness * 1000 // total) * 2 // 3, 0)


def oom_score_adj(task: Task) -> bytes:
    """How much the user wants the process to live."""
    return b"%d\n" % task.process.oom_score_adj


def oom_adj(task: Task) -> bytes:
    """The same on the scale it once had (oom_adj_read)."""
    value = task.process.oom_score_adj
    if value == OOM_SCORE_ADJ_MAX:
        return b"%d\n" % _OOM_ADJUST_MAX
    return b"%d\n" % int(value * -_OOM_DISABLE / OOM_SCORE_ADJ_MAX)


def set_oom_score_adj(task: Task, data: bytes) -> None:
    """oom_score_adj_write.  Errors: EINVAL."""
    task.process.oom_score_adj = _number(data, OOM_SCORE_ADJ_MIN, OOM_SCORE_ADJ_MAX)


def set_oom_adj(task: Task, data: bytes) -> None:
    """oom_adj_write.  Errors: EINVAL."""
    value = _number(data, _OOM_DISABLE, _OOM_ADJUST_MAX)
    full = value == _OOM_ADJUST_MAX
    task.process.oom_score_adj = OOM_SCORE_ADJ_MAX if full else int(value * OOM_SCORE_ADJ_MAX / -_OOM_DISABLE)


def _number(data: bytes, low: int, high: int) -> int:
    text = data.strip()
    if not text.removeprefix(b"-").isdigit() or not low <= int(text) <= high:
        raise LinuxError(Errno.EINVAL, f"{data!r} is not from {low} to {high}")
    return int(text)


def timerslack_ns(task: Task) -> bytes:
    """How late a timer may be."""
    return b"%d\n" % task.attributes.timer_slack_ns


def schedstat(task: Task) -> bytes:
    """Time on the CPU, time waiting for it (not kept), and turns."""
    return b"%d 0 %d\n" % (task.utime + task.stime, task.nr_voluntary_switches + task.nr_involuntary_switches)


def id_map(_task: Task) -> bytes:
    """The one user namespace there is: every id is itself."""
    return b"%10d %10d %10d\n" % (0, 0, 0xFFFF_FFFF)


def numa_maps(task: Task) -> bytes:
    """Mappings with their pages by node: there is one (show_numa_map)."""
    if not task.has_mm:
        return b""
    return b"".join(_numa_line(task.mm, vma) for vma in task.mm.vmas)


def _numa_line(mm: MmStruct, vma: Vma) -> bytes:
    mem_map = mm.mem_map
    huge = bool(vma.flags & VM_HUGETLB)
    pages = anon = dirty = most = 0
    for _, pte in mm.pgtable.entries(vma.start, vma.end):
        pfn = pte >> PAGE_SHIFT & _FRAME
        if not pte & PTE_P or pfn == mm.node.zero_pfn:
            continue
        if mem_map.flags[pfn] & PG_tail:
            continue  # a huge page of the pool counts once
        pages += 1
        anon += bool(mem_map.flags[pfn] & PG_anon) or (huge and not vma.flags & VM_SHARED)
        dirty += bool(pte & PTE_D)
        most = max(most, mem_map.mapcount[pfn])
    line = b"%08x default" % vma.start
    if vma.file is not None:
        line += b" file=" + vma_name(mm, vma).replace(b"\n", b"\\012").replace(b" ", b"\\040")
    elif vma.start <= mm.brk and vma.end >= mm.start_brk:
        line += b" heap"
    elif vma.start <= mm.start_stack < vma.end:
        line += b" stack"
    line += b" huge" if huge else b""
    if not pages:
        return line + b"\n"
    line += b" anon=%d" % anon if anon else b""
    line += b" dirty=%d" % dirty if dirty else b""
    line += b" mapped=%d" % pages if pages not in {anon, dirty} else b""
    line += b" mapmax=%d" % most if most > 1 else b""
    line += b" active=0" if anon and not huge else b""
    return line + b" N0=%d kernelpagesize_kB=%d\n" % (pages, mm.node.hugetlb.size >> 10 if huge else 4)
