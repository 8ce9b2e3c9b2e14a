"""A trace for other programs: strace's text, and the JSON that Chrome's and Perfetto's viewers read.

Source of the JSON form: "Trace Event Format" (Google), which ui.perfetto.dev reads, too.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from minikernel.abi.signal import signal_name
from minikernel.events import (
    HostSignal,
    MmFaultFailed,
    MmFaultResolved,
    MmSwapOut,
    OomKill,
    PageFaultUser,
    SchedProcessExec,
    SchedProcessExit,
    SchedProcessFork,
    SchedSwitch,
    SignalDeliver,
    SignalGenerate,
    SysEnter,
    SysExit,
    call_name,
)
from minikernel.syscalls.strace import Strace
from minikernel.trace.codec import Told

CPU: Final = 0
"""The process number under which the CPU's own track is shown."""

_US: Final = 1000  # instructions, which are nanoseconds, in a microsecond: the unit of the format
_CLONE_THREAD: Final = 0x10000


class NoMemory:
    """Nothing is known of the guest's memory: strace shows addresses where it would show what is there."""

    @staticmethod
    def read_bytes(address: int, size: int) -> None:
        """Nothing."""
        del address, size

    @staticmethod
    def read_string(address: int, limit: int) -> None:
        """Nothing."""
        del address, limit


def strace_lines(events: Iterable[Told]) -> Iterator[str]:
    """The system calls and signals of *events* as strace(1) prints them, with addresses for what was in memory."""
    lines: list[str] = []
    strace = Strace(lines.append, NoMemory())
    for icount, pid, event in events:
        strace(icount, pid, event)
        yield from lines
        lines.clear()


def chrome_json(events: Iterable[Told], program: str) -> Iterator[str]:
    """The text of a JSON file, piece by piece.

    A slice for each system call and each stretch of a task in the CPU, an instant for each fault and signal, counters
    of faults and of pages that went to swap.
    """
    yield '{"displayTimeUnit":"ns","traceEvents":[\n'
    writer = _Chrome(program)
    first = True
    for icount, pid, event in events:
        for item in writer.items(icount, pid, event):
            yield ("" if first else ",\n") + json.dumps(item, separators=(",", ":"))
            first = False
    for item in writer.end():
        yield ("" if first else ",\n") + json.dumps(item, separators=(",", ":"))
        first = False
    yield "\n]}\n"


class _Chrome:
    """Turns events into items of the format."""

    def __init__(self, program: str) -> None:
        self._names: dict[int, str] = {}
        self._program = program.rsplit("/", 1)[-1]
        self._group: dict[int, int] = {}  # task -> process
        self._calls: dict[int, tuple[int, SysEnter]] = {}
        self._running: tuple[int, int] | None = None  # since, task
        self._faults = {"minor": 0, "major": 0}
        self._swapped = 0
        self._now = 0

    def items(self, icount: int, pid: int, event: Any) -> Iterator[dict[str, Any]]:
        """What one event adds."""
        self._now = icount
        if pid not in self._names:
            yield from self._name(pid, self._program)
        where = {"pid": self._group.get(pid, pid), "tid": pid, "ts": icount / _US}
        match event:
            case SysEnter():
                self._calls[pid] = (icount, event)
            case SysExit():
                yield from self._call(pid, event.ret)
            case PageFaultUser(address=address, ip=ip, error_code=code):
                args = {"address": hex(address), "ip": hex(ip), "error_code": code}
                yield {"name": "page fault", "cat": "fault", "ph": "i", "s": "t", **where, "args": args}
            case MmFaultResolved(address=address, kind=kind, pfn=pfn, major=major):
                args = {"address": hex(address), "frame": hex(pfn), "major": major}
                yield {"name": kind.value, "cat": "fault", "ph": "i", "s": "t", **where, "args": args}
                self._faults["major" if major else "minor"] += 1
                yield self._counter("page faults", dict(self._faults))
            case MmFaultFailed(address=address, signal=sig, reason=reason):
                args = {"address": hex(address), "signal": signal_name(sig) if sig else "none"}
                yield {"name": reason, "cat": "fault", "ph": "i", "s": "t", **where, "args": args}
            case SignalGenerate(sig=sig) | SignalDeliver(sig=sig):
                verb = "sent" if isinstance(event, SignalGenerate) else "delivered"
                yield {"name": f"{signal_name(sig)} {verb}", "cat": "signal", "ph": "i", "s": "t", **where}
            case HostSignal(sigs=sigs):
                names = ", ".join(map(signal_name, sigs))
                yield {"name": f"from the host: {names}", "cat": "signal", "ph": "i", "s": "g", **where}
            case SchedSwitch(next_pid=next_pid):
                yield from self._run()
                self._running = (icount, next_pid)
            case SchedProcessFork(child_pid=child):
                yield from self._fork(pid, child)
            case SchedProcessExec(filename=filename):
                yield from self._name(pid, filename.rsplit("/", 1)[-1])
            case SchedProcessExit(code=code):
                yield from self._call(pid, None)
                yield {"name": f"exit {code >> 8}" if not code & 0x7F else f"killed by {signal_name(code & 0x7F)}",
                       "cat": "sched", "ph": "i", "s": "p", **where}  # fmt: skip
            case MmSwapOut():
                self._swapped += 1
                yield self._counter("pages written to swap", {"pages": self._swapped})
            case OomKill(victim=victim):
                yield {"name": f"OOM kills {victim}", "cat": "mm", "ph": "i", "s": "g", **where}
            case _:
                return

    def end(self) -> Iterator[dict[str, Any]]:
        """What is still open."""
        yield from self._run()
        for pid in list(self._calls):
            yield from self._call(pid, None)

    def _counter(self, name: str, values: dict[str, int]) -> dict[str, Any]:
        return {"name": name, "ph": "C", "pid": CPU, "ts": self._now / _US, "args": values}

    def _name(self, pid: int, name: str) -> Iterator[dict[str, Any]]:
        group = self._group.get(pid, pid)
        if not self._names:
            yield {"name": "process_name", "ph": "M", "pid": CPU, "args": {"name": "the machine"}}
            yield {"name": "thread_name", "ph": "M", "pid": CPU, "tid": CPU, "args": {"name": "CPU"}}
        self._names[pid] = name
        if group == pid:
            yield {"name": "process_name", "ph": "M", "pid": pid, "args": {"name": name}}
        yield {"name": "thread_name", "ph": "M", "pid": group, "tid": pid, "args": {"name": name}}

    def _fork(self, pid: int, child: int) -> Iterator[dict[str, Any]]:
        call = self._calls.get(pid)
        if call is not None:
            enter = call[1]
            if call_name(enter.abi, enter.nr) == "clone" and enter.args[0] & _CLONE_THREAD:
                self._group[child] = self._group.get(pid, pid)
        yield from self._name(child, self._names.get(pid, self._program))

    def _call(self, pid: int, ret: int | None) -> Iterator[dict[str, Any]]:
        """A call is over; *ret* None: it does not return."""
        if pid not in self._calls:
            return
        start, enter = self._calls.pop(pid)
        args: dict[str, Any] = {"args": [hex(arg) for arg in enter.args]}
        if ret is not None:
            args["ret"] = ret
        yield {"name": call_name(enter.abi, enter.nr), "cat": "syscall", "ph": "X", "pid": self._group.get(pid, pid),
               "tid": pid, "ts": start / _US, "dur": (self._now - start) / _US, "args": args}  # fmt: skip

    def _run(self) -> Iterator[dict[str, Any]]:
        if self._running is not None:
            since, pid = self._running
            name = f"{self._names.get(pid, self._program)} ({pid})"
            yield {"name": name, "cat": "sched", "ph": "X", "pid": CPU, "tid": CPU, "ts": since / _US,
                   "dur": (self._now - since) / _US}  # fmt: skip
            self._running = None
