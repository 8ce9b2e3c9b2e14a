"""The commands that read traces: show, stats."""

import argparse
import sys

from minikernel.trace.codec import TraceError
from minikernel.trace.text import figures, show
from minikernel.trace.trace import Trace

EXIT_CANNOT = 125


def trace_command(options: argparse.Namespace) -> int:
    """Run the command that *options* name; the exit status of the process."""
    try:
        with Trace(options.trace) as trace:
            return _show(trace, options) if options.command == "show" else _stats(trace)
    except TraceError as error:
        sys.stderr.write(f"minikernel: {error}\n")
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
