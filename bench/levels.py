"""What tracing every block, instruction and access costs, beside a Python hook on bare Unicorn.

    python -m bench.levels [--rounds 2] [--only recursion] [--json FILE]

User and system time of whole processes, medians of rounds that take turns; what the same command takes for a program
that does nothing is taken off.  A hook in Python is given a few million instructions, for it is slow: what it would do
with them (here: append the address to an array) comes on top of being called.
"""

import argparse
import array
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from rich.console import Console
from rich.table import Table
from unicorn import UC_HOOK_CODE, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE

from bench.bare_unicorn import Bare
from bench.traces import cpu_seconds
from guest.builder import build_all, programs, targets
from minikernel.trace.trace import Trace

LEVELS: Final = ("events", "blocks", "instructions", "memory")
WORKLOADS: Final = ("integer_loop", "store_loop", "recursion", "memory_copy")
_START: Final = "hello"
_HOOKED: Final = 2_000_000  # instructions


class Enough(Exception):  # noqa: N818 - not an error
    """The program is over, or the hook has seen as many instructions as it is to see."""


class Ending(Bare):
    """A program whose end is not that of this process."""

    def _sys_exit_group(self, status: int, *_: int) -> NoReturn:
        raise Enough(status)


def hooked(program: Path, *, memory: bool) -> float:
    """Instructions a second of a hook in Python on each instruction, and with *memory* on each access."""
    bare = Ending(str(program), [str(program)])
    seen = array.array("Q")
    accesses = array.array("Q")

    def on_code(_uc: Any, address: int, _size: int, _data: object) -> None:
        seen.append(address)
        if len(seen) >= _HOOKED:
            raise Enough

    def on_access(_uc: Any, kind: int, address: int, size: int, value: int, _data: object) -> bool:
        accesses.extend((kind, address, size, value & (1 << 64) - 1))
        return True

    bare.uc.hook_add(UC_HOOK_CODE, on_code)
    if memory:
        bare.uc.hook_add(UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, on_access)
    before = time.process_time()
    with suppress(Enough):
        bare.run()
    return len(seen) / (time.process_time() - before)


def measure(program: Path, folder: Path, rounds: int, levels: Sequence[str]) -> dict[str, float]:
    """Seconds of a plain run and of each level; sizes; instructions and accesses."""
    tool = [sys.executable, "-m", "minikernel"]
    times: dict[str, list[float]] = {name: [] for name in ("run", *levels)}
    traces = {level: folder / f"{program.name}.{level}" for level in levels}
    for _ in range(rounds):
        times["run"].append(cpu_seconds([*tool, "run", "--", str(program)]))
        for level, trace in traces.items():
            command = [*tool, "record", "--level", level, "-o", str(trace), "--", str(program)]
            times[level].append(cpu_seconds(command))
    found = {name: statistics.median(values) for name, values in times.items()}
    for level, trace in traces.items():
        found[f"{level} bytes"] = trace.stat().st_size
    with Trace(str(traces["memory"])) as opened:
        found["icount"] = (opened.notes or {})["icount"]
        found["accesses"] = opened.flows.nr_accesses
    for trace in traces.values():
        trace.unlink()
    return found


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=WORKLOADS, action="append")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    wanted = tuple(options.only or WORKLOADS)
    built = [t for t in targets(programs(("bench",)), ["x86-64"]) if t.id.rpartition("/")[2] in {*wanted, _START}]
    build_all(built)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for target in sorted(built, key=lambda t: t.id.endswith(_START), reverse=True):
            found = results[target.path.name] = measure(target.path, Path(folder), options.rounds, LEVELS)
            if target.path.name != _START:
                found["hook"] = hooked(target.path, memory=False)
                found["hook memory"] = hooked(target.path, memory=True)
    console = Console(width=150)
    console.print(_table(results))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _table(results: dict[str, dict[str, float]]) -> Table:
    table = Table("workload", "instructions", "run", "level", "slowdown", "to disk", "bytes an instruction",
                  "of memory", "Python hook", title="traces: start-up taken off, CPU time")  # fmt: skip
    start = results[_START]
    for name, r in results.items():
        if name == _START:
            continue
        plain = max(r["run"] - start["run"], 1e-9)
        rate = r["icount"] / 1e6
        for level in LEVELS:
            seconds = max(r[level] - start[level], 1e-9)
            first = level == LEVELS[0]
            size = r[f"{level} bytes"] - start[f"{level} bytes"]
            hook = {"instructions": r["hook"], "memory": r["hook memory"]}.get(level)
            table.add_row(
                name if first else "",
                f"{rate:.0f} M" if first else "",
                f"{rate / plain:.0f} M/s" if first else "",
                level,
                f"x{seconds / plain:.2f}",
                f"{rate / seconds:.0f} M/s",
                f"{size / r['icount']:.5f}" if level != "memory" else f"{size / r['icount']:.3f}",
                f"{size / max(r['accesses'], 1):.2f} an access, {r['accesses'] / 1e6:.0f} M"
                if level == "memory"
                else "",
                f"{hook / 1e6:.2f} M/s: x{r['icount'] / hook / plain:.0f}" if hook is not None else "",
            )
    return table


if __name__ == "__main__":
    sys.exit(main())
