"""``--stats``: what a run did, in figures, counted from its events.

    stats = Stats(kernel);  kernel.tracer.sink = stats;  ...run...;  stats.text(kernel)

A process's memory is measured at its end, just before the kernel takes it apart.
"""

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno
from minikernel.abi.signal import signal_name
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.events import (
    Event,
    FaultKind,
    MmFaultFailed,
    MmFaultResolved,
    PageFaultUser,
    SchedProcessExec,
    SchedProcessExit,
    SchedSwitch,
    SignalDeliver,
    SysEnter,
    SysExit,
)
from minikernel.mm.page import PG_anon, PG_kernel, PG_swapbacked, PG_table, PG_uptodate

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.task.task import Task

JSON_VERSION: Final = 1

_MAX_ERRNO: Final = 4095
_NS: Final = 1_000_000_000
_KINDS: Final = {
    FaultKind.ZERO_PAGE: "read of untouched memory: the zero page",
    FaultKind.ANON: "write to untouched memory: a new page",
    FaultKind.FILE_READ: "page of a file, read or run",
    FaultKind.FILE_COW: "write to a private file page: a copy",
    FaultKind.FILE_SHARED: "write to a shared file page",
    FaultKind.COW_COPY: "write to a page others see: a copy",
    FaultKind.COW_REUSE: "write to a page now ours alone",
    FaultKind.SWAP_IN: "page back from swap",
    FaultKind.STACK_GROWTH: "the stack grew",
    FaultKind.SPURIOUS: "already allowed",
    FaultKind.CODE: "a page turned from data to code or back",
    FaultKind.HUGE_ANON: "write to untouched memory: a new huge page",
    FaultKind.HUGE_ZERO_PAGE: "read of untouched memory: the huge zero page",
}

Json = dict[str, object]


class Stats:
    """A sink that counts.  Host time runs from its making."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._host_start = time.perf_counter_ns()
        self.faults: Counter[FaultKind] = Counter()
        self.failed: Counter[str] = Counter()  # by signal's name; EFAULT: the kernel's own access; OOM
        self.user_faults = self.kernel_faults = self.major = self.minor = 0
        self.calls: Counter[tuple[str, str]] = Counter()  # by ABI and name
        self.call_errors: dict[tuple[str, str], Counter[str]] = {}  # by errno's name
        self.signals: Counter[str] = Counter()  # delivered or taken by default
        self.switches = self.execs = self.exits = 0
        self.peak_rss = self.peak_tables = 0  # pages
        self._frames: dict[str, int] | None = None  # as they were used at the last exit
        self._names = {abi: {nr: name for name, nr in numbers.items()} for abi, numbers in NUMBERS.items()}
        self._fault_of: int | None = None  # address of a user fault on its way

    def __call__(self, _icount: int, pid: int, event: Event) -> None:
        """Count it."""
        match event:
            case SysEnter(abi, nr, _):
                self.calls[abi, self._name(abi, nr)] += 1
            case SysExit(abi, nr, ret):
                if -_MAX_ERRNO <= ret < 0:
                    errors = self.call_errors.setdefault((abi, self._name(abi, nr)), Counter())
                    errors[_errno_name(-ret)] += 1
            case PageFaultUser(address, _, _):
                self._fault_of = address
                self.user_faults += 1
            case MmFaultResolved(address, kind, _, major):
                self._resolved(address, kind, major=major)
            case MmFaultFailed(address, signal, _, _):
                by_user = self._from_user(address)
                self.failed[_failure_name(signal, by_user=by_user)] += 1
            case SchedSwitch():
                self.switches += 1
            case SignalDeliver(sig, _, _):
                self.signals[signal_name(sig)] += 1
            case SchedProcessExec():
                self.execs += 1
            case SchedProcessExit():
                self.exits += 1
                self._measure(self._kernel.tasks.get(pid))

    def _name(self, abi: str, nr: int) -> str:
        return self._names[abi].get(nr, f"syscall_{nr:#x}")

    def _from_user(self, address: int) -> bool:
        """Whether the fault that ends now was the program's own, not the kernel's access on its behalf."""
        by_user = self._fault_of == address
        self._fault_of = None
        if not by_user:
            self.kernel_faults += 1
        return by_user

    def _resolved(self, address: int, kind: FaultKind, *, major: bool) -> None:
        self.faults[kind] += 1
        if kind is FaultKind.STACK_GROWTH:
            return  # the fault goes on
        self._from_user(address)
        if major:
            self.major += 1
        else:
            self.minor += 1

    def _measure(self, task: "Task | None") -> None:
        """Note what *task*, which is about to end, and the machine have in memory."""
        if task is None or not task.has_mm:
            return
        mm = task.mm
        mm.update_hiwater_rss()
        self.peak_rss = max(self.peak_rss, mm.hiwater_rss)
        self.peak_tables = max(self.peak_tables, mm.pgtable.nr_tables + 1)
        self._frames = _frames_in_use(self._kernel)

    # ---- what came of it

    def as_json(self, kernel: "Kernel") -> Json:
        """The figures for programs; README.md lists the keys, and ``version`` changes when one is taken away."""
        frames = self._finish(kernel)
        return {
            "version": JSON_VERSION,
            "program": [word.decode(errors="backslashreplace") for word in kernel.config.argv],
            "machine": {
                "cpu": kernel.config.cpu,
                "paging": kernel.node.layout.mode.name,
                "ram_bytes": kernel.physmem.size,
            },
            "instructions": kernel.cpu.icount,
            "virtual_ns": kernel.clock.now_ns(),
            "host_ns": time.perf_counter_ns() - self._host_start,
            "faults": {
                "total": self.minor + self.major + sum(self.failed.values()),
                "user": self.user_faults,
                "kernel": self.kernel_faults,
                "minor": self.minor,
                "major": self.major,
                "by_kind": {kind.value: self.faults[kind] for kind in FaultKind},
                "failed": dict(sorted(self.failed.items())),
            },
            "pages": {"peak_rss": self.peak_rss, "peak_page_tables": self.peak_tables, **frames},
            "reclaim": reclaim_figures(kernel),
            "system_calls": {
                "total": sum(self.calls.values()),
                "errors": sum(sum(errors.values()) for errors in self.call_errors.values()),
                "by_name": [
                    {"abi": abi, "name": name, "calls": calls, "errors": dict(sorted(self._errors(abi, name).items()))}
                    for (abi, name), calls in self._ranked_calls()
                ],
            },
            "signals": dict(sorted(self.signals.items())),
            "task_switches": self.switches,
            "execs": self.execs,
            "exits": self.exits,
        }

    def _finish(self, kernel: "Kernel") -> dict[str, int]:
        """Measure the tasks of a run that was cut short; how the frames were used in the end."""
        for task in kernel.tasks.values():
            self._measure(task)
        return self._frames or _frames_in_use(kernel)

    def _ranked_calls(self) -> list[tuple[tuple[str, str], int]]:
        """Most frequent first, equal ones by name."""
        return sorted(self.calls.items(), key=lambda item: (-item[1], item[0]))

    def _errors(self, abi: str, name: str) -> Counter[str]:
        return self.call_errors.get((abi, name), Counter())

    def text(self, kernel: "Kernel") -> str:
        """The figures for people, one a line, aligned."""
        frames = self._finish(kernel)
        host = time.perf_counter_ns() - self._host_start
        icount = kernel.cpu.icount
        speed = f"{icount * 1000 / host:.1f} million instructions a second" if host else ""
        lines = [
            _title("run"),
            _row(icount, "instructions"),
            _seconds(kernel.clock.now_ns(), "of virtual time"),
            _seconds(host, f"of host time, {speed}"),
            _row(self.switches, "task switches"),
            "",
            _title("page faults"),
            _row(self.minor + self.major + sum(self.failed.values()), f"in all: {self._split()}"),
            *(_row(self.faults[kind], words) for kind, words in _KINDS.items() if self.faults[kind]),
            *(_row(count, f"failed: {name}") for name, count in sorted(self.failed.items())),
            *_reclaim_lines(kernel),
            "",
            _title("pages of 4 KiB"),
            _row(self.peak_rss, "resident at the peak of a process"),
            _row(self.peak_tables, "page tables of a process at the peak"),
            _row(frames["page_cache"], "in the page cache"),
            _row(frames["in_use"], f"in use of {frames['total']:,} at the last exit"),
            "",
            _title("system calls"),
            _row(sum(self.calls.values()), "in all"),
            *(_row(calls, self._call_words(abi, name)) for (abi, name), calls in self._ranked_calls()),
        ]
        if self.signals:
            lines += ["", _title("signals taken")]
            lines += [_row(count, name) for name, count in sorted(self.signals.items())]
        return "\n".join(lines) + "\n"

    def _split(self) -> str:
        return f"{self.minor:,} minor, {self.major:,} major; {self.kernel_faults:,} of them the kernel's own accesses"

    def _call_words(self, abi: str, name: str) -> str:
        mixed = len({abi for abi, _ in self.calls}) > 1
        words = f"{name} ({abi})" if mixed else name
        errors = self._errors(abi, name)
        if not errors:
            return words
        return f"{words:<24} " + " ".join(f"{error}:{count}" for error, count in sorted(errors.items()))


def _failure_name(signal: int, *, by_user: bool) -> str:
    """What a fault that could not be served came to."""
    if not signal:
        return "OOM"
    return signal_name(signal) if by_user else "EFAULT"


def _frames_in_use(kernel: "Kernel") -> dict[str, int]:
    """How the machine's frames are used now, in pages."""
    flags = Counter(kernel.node.mem_map.flags)
    cache_mask = PG_uptodate | PG_anon | PG_kernel
    shmem = PG_uptodate | PG_swapbacked
    total = kernel.node.totalram_pages
    return {
        "total": total,
        "in_use": total - kernel.node.nr_free,
        "anonymous": sum(count for bits, count in flags.items() if bits & PG_anon),
        "page_cache": sum(count for bits, count in flags.items() if bits & cache_mask == PG_uptodate),
        "shared_memory": sum(count for bits, count in flags.items() if bits & (shmem | PG_anon) == shmem),
        "page_tables": sum(count for bits, count in flags.items() if bits & PG_table),
    }


def _errno_name(number: int) -> str:
    try:
        return Errno(number).name
    except ValueError:
        return str(number)


def reclaim_figures(kernel: "Kernel") -> dict[str, int]:
    """What memory pressure did, in pages, and processes killed for memory."""
    stat = kernel.node.vmstat
    return {
        "scanned": stat["pgscan_kswapd"] + stat["pgscan_direct"],
        "reclaimed_by_kswapd": stat["pgsteal_kswapd"],
        "reclaimed_directly": stat["pgsteal_direct"],
        "swapped_out": stat["pswpout"],
        "swapped_in": stat["pswpin"],
        "refaults_anon": stat["workingset_refault_anon"],
        "refaults_file": stat["workingset_refault_file"],
        "oom_kills": stat["oom_kill"],
    }


def _reclaim_lines(kernel: "Kernel") -> list[str]:
    """Nothing at all where memory was never short."""
    figures = reclaim_figures(kernel)
    if not any(figures.values()):
        return []
    taken = figures["reclaimed_by_kswapd"] + figures["reclaimed_directly"]
    return [
        "",
        _title("memory pressure"),
        _row(taken, f"pages reclaimed, {figures['reclaimed_by_kswapd']:,} of them by kswapd"),
        _row(figures["scanned"], "pages looked at for it"),
        _row(figures["swapped_out"], f"pages written to swap, {figures['swapped_in']:,} read back"),
        _row(figures["refaults_anon"] + figures["refaults_file"], "pages that came back after they were taken"),
        *([_row(figures["oom_kills"], "processes killed for their memory")] if figures["oom_kills"] else []),
    ]


def _title(text: str) -> str:
    return f"-- {text} ".ljust(64, "-")


def _row(value: int, words: str) -> str:
    return f"{value:>16,}  {words}"


def _seconds(ns: int, words: str) -> str:
    return f"{ns / _NS:>16.6f}  s {words}"
