"""A trace for people: one event a line, for ``grep`` and ``git diff``; and its figures."""

import shlex
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, Final

from minikernel.abi.signal import signal_name
from minikernel.events import Event, MmapRegion, MmFaultResolved, SignalDeliver, SysEnter
from minikernel.trace.codec import Told
from minikernel.trace.inputs import READ
from minikernel.trace.locality import locality, locality_lines
from minikernel.trace.trace import Trace

_ADDRESSES: Final = ("address", "ip", "handler")  # fields that say where


def line(told: Told) -> str:
    """``icount pid event``, as ``minikernel show`` prints it; control characters of names are escaped."""
    icount, pid, event = told
    text = event.text()
    if not text.isprintable():
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return f"{icount:>12} {pid:>5} {text}"


def show(
    trace: Trace,
    *,
    pids: Collection[int] = (),
    names: Collection[str] = (),
    start: int = 0,
    end: int | None = None,
    addresses: Collection[tuple[int, int]] = (),
    follow: bool = False,
) -> Iterator[Told]:
    """The events of *pids* called *names* that touch *addresses*, from instruction *start* to *end*; empty: all.

    *follow*: wait for more until the trace has its end.
    """
    for told in trace.follow(start=start) if follow else trace.events(start=start):
        icount, pid, event = told
        if end is not None and icount > end:
            return
        if pids and pid not in pids:
            continue
        if names and event.name not in names:
            continue
        if addresses and not _touches(event, addresses):
            continue
        yield told


def _touches(event: Event, ranges: Collection[tuple[int, int]]) -> bool:
    """Whether *event* is about an address in one of *ranges* (first, last); a call, if an argument is one."""
    if isinstance(event, MmapRegion):
        return any(event.start <= last and first < event.end for first, last in ranges)
    values = event.args if isinstance(event, SysEnter) else [getattr(event, name, -1) for name in _ADDRESSES]
    return any(first <= value <= last for first, last in ranges for value in values)


def _first_words(header: dict[str, Any]) -> list[str]:
    config = header.get("config")
    config = config if isinstance(config, dict) else {}
    argv = config.get("argv")
    words = shlex.join(str(word) for word in argv) if isinstance(argv, list) else "?"
    paging = f" with {config.get('paging')} paging" if config.get("cpu") == "i386" else ""
    return [
        f"program       {ascii(words)[1:-1]}",
        f"machine       {config.get('cpu')}{paging}, RAM {config.get('ram')} bytes",
        f"clock         {'the host' if config.get('host_clock') else 'virtual'}",
        f"seeds         {config.get('seed')}, ASLR {config.get('aslr')}, schedule {config.get('schedule_seed')}",
        f"recorded by   {header.get('made_by')}, level {header.get('level')}",
    ]


def figures(trace: Trace) -> str:
    """What is in the trace, counted."""
    names: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    signals: Counter[str] = Counter()
    pids: set[int] = set()
    last = 0
    for icount, pid, event in trace.events():
        last = icount
        pids.add(pid)
        names[event.name] += 1
        match event:
            case MmFaultResolved(_, kind, _, _):
                faults[kind.value] += 1
            case SysEnter():
                calls[event.text().split(" ", 1)[1].partition("(")[0]] += 1
            case SignalDeliver(sig, _, _):
                signals[signal_name(sig)] += 1
    notes = trace.notes
    lines = _first_words(trace.header)
    if notes is None:
        lines.append("ended         the trace has no end: its recorder was killed")
    else:
        lines.append(f"ended         status {notes.get('status')} after {notes.get('icount')} instructions")
        lines += [f"outside       {reason}" for reason in notes.get("outside", [])]
    size = sum(len(entry.data) for entry in trace.inputs() if entry.what == READ)
    lines += [
        f"contents      {trace.nr_events} events to instruction {last}",
        f"              {len(trace.digests())} digests, {size} bytes of input",
        f"tasks         {len(pids)}",
    ]
    for title, counts in (("event", names), ("fault", faults), ("call", calls), ("signal", signals)):
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        lines += [f"{title:<8} {count:>10}  {name}" for name, count in ranked]
    lines += locality_lines(locality(trace.events(), last))
    return "\n".join(lines) + "\n"
