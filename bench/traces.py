"""What traces cost: recording beside a plain run, verifying, replaying, seeking; bytes and events a second.

    python -m bench.traces [--rounds 5] [--only steady] [--json FILE]

All times are user and system time of whole processes, medians of rounds that take turns, so that a busy machine
disturbs the columns alike.  ``less start`` takes off what the same command takes for a program that does nothing.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from guest.builder import build_all, programs, targets
from minikernel.trace.trace import Trace

WORKLOADS: Final = ("steady", "null_call", "first_touch", "fork_wait")
_START: Final = "hello"
_COMMANDS: Final = ("run", "record", "verify", "replay")


def cpu_seconds(command: Sequence[str]) -> float:
    """User and system time of a process that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(  # noqa: S603 - our own command
        command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(program: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Medians of each command, and what the trace is like."""
    trace = folder / f"{program.name}.trace"
    tool = [sys.executable, "-m", "minikernel"]
    commands: dict[str, Callable[[], Sequence[str]]] = {
        "run": lambda: [*tool, "run", "--", str(program)],
        "record": lambda: [*tool, "record", "-o", str(trace), "--", str(program)],
        "verify": lambda: [*tool, "verify", str(trace)],
        "replay": lambda: [*tool, "replay", str(trace)],
    }
    times: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for _ in range(rounds):
        for name in _COMMANDS:
            times[name].append(cpu_seconds(commands[name]()))
    found = {name: statistics.median(values) for name, values in times.items()}
    with Trace(str(trace)) as opened:
        found["events"] = opened.nr_events
        last = max((told[0] for told in opened.events()), default=0)
    found["bytes"] = trace.stat().st_size
    seek = [*tool, "show", "--from", str(max(last - 10, 0)), str(trace)]
    found["seek"] = statistics.median(cpu_seconds(seek) for _ in range(rounds))
    return found


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=WORKLOADS, action="append")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    wanted = tuple(options.only or WORKLOADS)
    built = [t for t in targets(programs(("bench",)), ["x86-64"]) if t.id.rpartition("/")[2] in {*wanted, _START}]
    build_all(built)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for target in sorted(built, key=lambda t: t.id.endswith(_START), reverse=True):
            results[target.path.name] = measure(target.path, Path(folder), options.rounds)
    Console(width=150).print(_table(results))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _table(results: dict[str, dict[str, float]]) -> Table:
    table = Table("workload", "run", "record", "", "less start", "verify", "replay", "events", "a second", "bytes each",
                  "seek", title="traces, events level: CPU seconds")  # fmt: skip
    start = results[_START]
    for name, r in results.items():
        net = {key: max(r[key] - start[key], 1e-9) for key in _COMMANDS}
        own = name != _START
        table.add_row(
            name,
            *(f"{r[key]:.2f}" for key in ("run", "record")),
            f"x{r['record'] / r['run']:.2f}",
            f"x{net['record'] / net['run']:.2f}" if own else "",
            f"{r['verify']:.2f} (x{r['verify'] / r['run']:.2f})",
            f"{r['replay']:.2f} (x{r['replay'] / r['run']:.2f})",
            f"{r['events']:,.0f}",
            f"{r['events'] / net['record']:,.0f}" if own else "",
            f"{(r['bytes'] - start['bytes']) / max(r['events'], 1):.2f}" if own else f"{r['bytes']:,.0f} in all",
            f"{r['seek']:.2f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
