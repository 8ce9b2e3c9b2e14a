"""What the debugger costs, and what going back costs: over a hundred million instructions of 50 processes that swap.

CPU time of the machine's processes and its checkpoints, wall time where a person waits.  The checkpoints' own memory
is what the host has for each of them alone.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from guest.builder import OUTPUT
from minikernel.config import Config, Swap
from minikernel.debug import session_maker
from minikernel.kdb.back import private_kib
from minikernel.kdb.front import Front
from minikernel.kdb.session import Session

TARGET: Final = 100_000_000
_ROUNDS: Final = 9


def crowd(arch: str) -> Config:
    """The program, on a machine that is too small for it."""
    return Config(argv=(str(OUTPUT / arch / "bench" / "crowd").encode(),), ram=16 << 20, swap=(Swap(size=64 << 20),))


def checkpoints(session: Session) -> Callable[[Any], Any]:
    """A handler: count, KiB of each, and the CPU seconds of the machine's process."""

    def tell(_payload: Any) -> tuple[list[int], float]:
        assert session.timeline is not None
        return [private_kib(each.pid) for each in session.timeline.points], time.process_time()

    return tell


class Debugger:
    """A front end that is timed."""

    def __init__(self, config: Config) -> None:
        self.shown: list[str] = []
        self.front = Front(self.shown.append)
        self.front.start(session_maker(config), {"checkpoints": checkpoints})

    def timed(self, line: str) -> float:
        """Milliseconds until *line* is done."""
        start = time.perf_counter()
        ok = self.front.execute(line)
        assert ok, f"{line}: {self.shown[-1:]}"
        return (time.perf_counter() - start) * 1000

    def cpu(self) -> float:
        """CPU seconds of the process that is the machine now."""
        _, seconds = self.front.request("checkpoints", None)
        return float(seconds)

    def median(self, line: str) -> float:
        """Of several times."""
        return statistics.median(self.timed(line) for _ in range(_ROUNDS))


def backwards(arch: str, table: Table) -> None:
    """Latencies around instruction 100 million."""
    it = Debugger(crowd(arch))
    try:
        table.add_row(arch, "run to 100 million instructions, ms", f"{it.timed(f'goto {TARGET}'):.0f}")
        sizes, _ = it.front.request("checkpoints", None)
        table.add_row("", "checkpoints; own MiB of each, median; all", _sizes(sizes))
        table.add_row("", "stepi, ms", f"{it.median('stepi'):.1f}")
        first = it.timed("reverse-stepi")
        table.add_row("", "reverse-stepi, ms: the first, the next", f"{first:.0f}, {it.median('reverse-stepi'):.0f}")
        table.add_row("", "a checkpoint, ms", f"{statistics.median(_checkpoints(it)):.1f}")
        table.add_row("", "goto another 1 million back, ms", f"{it.median('goto -1000000'):.0f}")
        table.add_row("", "goto the beginning, and to 100 million again, ms", _both(it))
        table.add_row("", "last-write of a variable, ms", f"{it.timed('last-write $sp'):.0f}")
        table.add_row("", "reverse-continue over all of it, ms", f"{it.timed('reverse-continue'):.0f}")
    finally:
        it.front.close()


def _checkpoints(it: Debugger) -> list[float]:
    times = []
    for _ in range(_ROUNDS):
        it.front.execute("stepi 30")  # away from those that going back has left
        times.append(it.timed("checkpoint"))
    return times


def _both(it: Debugger) -> str:
    back = it.timed("goto 1000")
    return f"{back:.0f}, {it.timed(f'goto {TARGET}'):.0f}"


def _sizes(sizes: list[int]) -> str:
    mib = sorted(size / 1024 for size in sizes)
    return f"{len(mib)}; {statistics.median(mib):.1f}; {sum(mib):.0f}"


def armed(arch: str, table: Table) -> None:
    """What points cost a run that never meets them: CPU seconds of the same run."""
    settings = {
        "none": [],
        "1 breakpoint": ["break *0x10"],
        "100 breakpoints": [f"break *{0x10 + at:#x}" for at in range(100)],
        "1 watchpoint": ["watch -l *(int*)$pc"],
    }
    base = 0.0
    for name, lines in settings.items():
        times = []
        for _ in range(3):
            it = Debugger(crowd(arch))
            try:
                for line in lines:
                    it.front.execute(line)
                start = it.cpu()
                it.front.execute(f"until @{TARGET}")
                times.append(it.cpu() - start)
            finally:
                it.front.close()
        seconds = min(times)
        base = base or seconds
        table.add_row(arch if name == "none" else "", f"the same run with {name}, CPU s (ratio)",
                      f"{seconds:.2f} ({seconds / base:.2f})")  # fmt: skip


def main() -> None:
    """Print the table."""
    subprocess.run([sys.executable, "-m", "guest.builder", "--bench", "--only", "bench/crowd"], check=True)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    table = Table(title="the debugger, over 100 million instructions of 50 processes that swap")
    table.add_column("machine")
    table.add_column("what")
    table.add_column("", justify="right")
    for arch in ("x86-64", "i386"):
        backwards(arch, table)
    armed("x86-64", table)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main()
