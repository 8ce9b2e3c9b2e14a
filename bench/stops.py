"""What points cost: a breakpoint or watchpoint that is armed and never met, one whose page is busy, one that is met.

CPU time of the same run with and without, in one process; microseconds for each time one is met.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from guest.builder import OUTPUT
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Sink, Tracer
from minikernel.kdb import shell
from minikernel.kdb.session import Session
from minikernel.kernel import Kernel

_INSTRUCTIONS: Final = 60_000_000
_SOME: Final = 2_000_000  # instructions, of which some 40,000 meet a point
_ROUNDS: Final = 3
_NOWHERE: Final = [f"break *{0x10 + at:#x}" for at in range(100)]
_ARMED: Final = {
    "nothing": [],
    "1 breakpoint": _NOWHERE[:1],
    "100 breakpoints": _NOWHERE,
    "1 watchpoint elsewhere": ["watch -l *(int*)$pc"],
    "100 watchpoints elsewhere": [f"watch -l *(char*)($pc + {at})" for at in range(100)],
    "1 watchpoint of physical memory": ["watch phys 0x100000 4"],
}
"""What is armed, and how; none of it is ever met."""


def session(arch: str, program: str) -> Session:
    """A session on a program for measurements, in front of its first instruction."""
    assert shell.ROOMS, "the commands have announced themselves"
    config = Config(argv=(str(OUTPUT / arch / "bench" / program).encode(),), ram=64 << 20)

    def launch(listen: Callable[[Kernel], Sink]) -> System:
        system = System(config, Tracer())
        system.kernel.tracer.sink = listen(system.kernel)
        system.__enter__()
        system.exec_init()
        return system

    return Session(launch, lambda _text: None)


def run_with(arch: str, lines: Sequence[str]) -> float:
    """CPU seconds of the run with these points armed."""
    it = session(arch, "store_loop")
    try:
        for line in lines:
            assert it.execute(line), line
        start = time.process_time()
        it.execute(f"until @{_INSTRUCTIONS}")
        return time.process_time() - start
    finally:
        it.close()


def armed(arch: str, table: Table) -> None:
    """Points that are never met: alternating rounds, the best of each, against a run without."""
    best = dict.fromkeys(_ARMED, float("inf"))
    for _ in range(_ROUNDS):
        for name, lines in _ARMED.items():
            best[name] = min(best[name], run_with(arch, lines))
    for name, seconds in best.items():
        table.add_row(arch if name == "nothing" else "", f"{name} armed: s, ratio",
                      f"{seconds:.2f}  {seconds / best['nothing']:.2f}")  # fmt: skip


def met(arch: str, table: Table) -> None:
    """Points that are met all the time, and do not stop because of their condition."""
    for name, line in {
        "breakpoint": "break pick if 0",
        "watchpoint": "watch *(int*)&global if 0",
        "watchpoint of physical memory": "watch phys phys(&global) 4 if 0",
    }.items():
        it = session(arch, "store_loop")
        try:
            assert it.execute("until @1000000")
            assert it.execute(line)
            [point] = it.points.values()
            plain = _seconds(it, "disable")
            seconds = _seconds(it, "enable")
            it.points[point.number].condition = "$icount & 1 << 62"
            hits = _crossings(it)
            table.add_row("", f"a {name} is met, and goes by: us", f"{(seconds - plain) * 1e6 / hits:.1f}")
        finally:
            it.close()


def _seconds(it: Session, command: str) -> float:
    """CPU seconds of some instructions from here."""
    assert it.execute(command)
    start = time.process_time()
    it.execute(f"until @+{_SOME}")
    return time.process_time() - start


def _crossings(it: Session) -> int:
    """How often the only point is met in as many instructions."""
    [point] = it.points.values()
    point.condition, point.hits, point.ignore = "", 0, 1 << 40
    it.execute(f"until @+{_SOME}")
    return point.hits


def busy(arch: str, table: Table) -> None:
    """A watchpoint that is never met, in a page that the program uses all the time: the last of an array."""
    it = session(arch, "store_loop")
    try:
        assert it.execute("until @1000000")
        assert it.execute("watch *(int*)(&array + 196)")
        plain = _seconds(it, "disable")
        table.add_row("", "a watchpoint in the busiest page, never met: ratio", f"{_seconds(it, 'enable') / plain:.2f}")
    finally:
        it.close()


def main() -> None:
    """Print the table."""
    subprocess.run([sys.executable, "-m", "guest.builder", "--bench", "--only", "bench/store_loop"], check=True)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    table = Table(title="what stops a program, and what that costs it")
    table.add_column("machine")
    table.add_column("what")
    table.add_column("", justify="right")
    for arch in ("x86-64", "i386"):
        armed(arch, table)
        busy(arch, table)
        met(arch, table)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main()
