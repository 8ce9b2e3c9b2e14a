"""The commands that read traces: show, stats, verify, diff."""

import argparse
import os
import sys
from typing import Any

from emu.cpu import MachineError
from emu.native import NativeMissingError
from minikernel.abi.errno import LinuxError
from minikernel.boot import System
from minikernel.entry import Deadlock, InstructionLimit, TimeLimit
from minikernel.events import Tracer
from minikernel.runner import EXIT_FAILURE, EXIT_TIMED_OUT, find_program
from minikernel.task.oom import KernelPanic
from minikernel.trace.codec import TraceError
from minikernel.trace.compare import Comparer, Diverged, TraceOver, compare_events
from minikernel.trace.header import config_from_json, host_files
from minikernel.trace.replay import RecordedStreams
from minikernel.trace.text import figures, show
from minikernel.trace.trace import Trace

EXIT_SAME, EXIT_DIFFERENT, EXIT_CANNOT = 0, 1, EXIT_FAILURE


def trace_command(options: argparse.Namespace) -> int:
    """Run the command that *options* name; the exit status of the process."""
    try:
        if options.command == "diff":
            with Trace(options.first) as first, Trace(options.second) as second:
                return _diff(first, second)
        with Trace(options.trace) as trace:
            if options.command == "verify":
                return _verify(trace)
            return _show(trace, options) if options.command == "show" else _stats(trace)
    except TraceError as error:
        sys.stderr.write(f"minikernel: {error}\n")
        return EXIT_CANNOT
    except BrokenPipeError:
        raise  # nobody reads our output: __main__ knows
    except Exception as error:  # noqa: BLE001 - our own bugs end here: 1 would say that runs differ
        from minikernel.report.panic import panic_report

        sys.stderr.write(panic_report(None, error))
        return EXIT_CANNOT


def _warn_of_no_end(trace: Trace) -> None:
    if not trace.complete:
        sys.stderr.write(f"minikernel: {trace.path}: the trace has no end: its recorder was killed\n")


def _show(trace: Trace, options: argparse.Namespace) -> int:
    _warn_of_no_end(trace)
    write = sys.stdout.write
    for line in show(trace, pids=options.pid, names=options.event, start=options.start, end=options.end):
        write(line + "\n")
    sys.stdout.flush()
    return 0


def _stats(trace: Trace) -> int:
    sys.stdout.write(figures(trace))
    sys.stdout.flush()
    return 0


def _diff(first: Trace, second: Trace) -> int:
    _warn_of_no_end(first)
    _warn_of_no_end(second)
    counts = f"{first.nr_events} events in {first.path}, {second.nr_events} in {second.path}"
    same, divergence = compare_events(first.events(), second.events())
    if divergence is not None:
        print(f"{divergence.text(('first', 'second'))}\n{same} events in common; {counts}")
        return EXIT_DIFFERENT
    for ours, theirs in zip(first.digests(), second.digests(), strict=False):
        if ours.after == theirs.after and (state := ours.differences(theirs)):
            print(f"the events are the same ({same}); after event {ours.after} the state is not:")
            print("\n".join(f"  differs: {words}" for words in state))
            return EXIT_DIFFERENT
    print(f"the same: {counts}")
    return EXIT_SAME


# ---- verify


class Verification:
    """What came of running a trace's program again."""

    def __init__(self) -> None:
        self.comparer: Comparer | None = None
        self.status: int | None = None  # None: the run was ended by the comparison
        self.changed: list[str] = []  # host files that are not what they were, in words

    @property
    def same(self) -> bool:
        """Nothing differs."""
        return self.comparer is not None and self.comparer.divergence is None


def verify_trace(trace: Trace) -> Verification:
    """Run the program of *trace* again, and compare while it runs.

    Raises:
        TraceError: it cannot be run again.
    """
    config = config_from_json(trace.header.get("config"))
    doors = [os.fsdecode(bind.host) for bind in config.binds if bind.writable]
    if doors:  # nobody said so this time, and the trace may be a stranger's
        raise TraceError(f"{trace.path}: the program could write to the host's {doors[0]}, so it is not run again")
    found = Verification()
    streams = RecordedStreams(trace.header, trace.inputs())
    with streams.in_place():
        try:
            system = System(config, Tracer())
        except (ValueError, MachineError, NativeMissingError, OSError, LinuxError) as error:
            raise TraceError(f"{trace.path}: the machine cannot be built again: {error}") from None
        kernel = system.kernel
        comparer = found.comparer = Comparer(kernel, trace.events(), trace.digests(), open_end=_has_open_end(trace))
        with system:
            streams.connect(kernel)
            kernel.tracer.sink = comparer
            try:
                system.exec_init(find_program(system, config.argv[0]))
                found.status = _run(system)
                comparer.finish()
            except LinuxError as error:
                name = os.fsdecode(config.argv[0])
                raise TraceError(f"{trace.path}: {name} cannot be run again: {error}") from None
            except (Diverged, TraceOver):
                pass
            finally:
                kernel.tracer.sink = None
            found.changed = _changed_files(trace, host_files(kernel))
    return found


def _run(system: System) -> int:
    try:
        code = system.run()
    except (Deadlock, InstructionLimit, KernelPanic):
        return EXIT_FAILURE
    except TimeLimit:
        return EXIT_TIMED_OUT
    return 128 + (code & 0x7F) if code & 0x7F else code >> 8


def _has_open_end(trace: Trace) -> bool:
    """The record stops where the host said, not where its run ended."""
    return not trace.complete or (trace.notes or {}).get("status") == EXIT_TIMED_OUT


def _changed_files(trace: Trace, now: dict[str, str]) -> list[str]:
    """Which host files had other contents when the trace was made."""
    recorded: dict[str, Any] = {}
    for source in (trace.header, trace.notes or {}):
        files = source.get("files")
        recorded |= files if isinstance(files, dict) else {}
    return [f"{name} is not the file it was (sha256)" for name, sha in now.items() if recorded.get(name, sha) != sha]


def _verify(trace: Trace) -> int:
    _warn_of_no_end(trace)
    found = verify_trace(trace)
    comparer, notes = found.comparer, trace.notes or {}
    assert comparer is not None, "_verify: nothing was compared"
    for words in found.changed:
        print(f"note: {words}")
    outside = notes.get("outside", trace.header.get("outside"))
    if comparer.divergence is not None:
        print(comparer.divergence.text())
        for reason in outside if isinstance(outside, list) else []:
            print(f"  note: when this was recorded, {reason}")
        return EXIT_DIFFERENT
    if found.status is not None and notes and found.status != notes.get("status"):
        print(f"the runs differ at their end: status {notes.get('status')}, now {found.status}")
        return EXIT_DIFFERENT
    print(f"the same: {comparer.events} events, {comparer.digests} digests")
    return EXIT_SAME
