"""One table: the emulator's whole-process times beside the same programs natively, under qemu-user, on bare Unicorn.

All engines run in turn, several rounds of everything, so that a slow minute of the machine is everyone's; on a busy
machine ``--cpu-time`` leaves the waiting out.  Times are medians; the spread is the distance between the quartiles;
memory is the peak of the whole process.  ``-`` stands where an engine is not installed or cannot run the program.
Nothing here passes or fails but the output, which must be the native run's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.workloads import INPUTS, Workload, workloads
from guest.builder import ROOT
from guest.toolchain import compiler_for

ENGINES: Final = ("native", "qemu-user", "bare Unicorn", "minikernel")
PATIENCE: Final = 3.0  # seconds: what takes longer is run fewer times


@dataclass(slots=True)
class Samples:
    """The runs of one workload on one engine."""

    seconds: list[float] = field(default_factory=list)
    peak_kib: int = 0
    wrong: str = ""

    @property
    def median(self) -> float:
        """Milliseconds; not a number without a run."""
        return statistics.median(self.seconds) * 1000 if self.seconds and not self.wrong else float("nan")

    @property
    def spread(self) -> float:
        """Milliseconds between the quartiles."""
        if len(self.seconds) < 2:
            return 0.0
        quartiles = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (quartiles[2] - quartiles[0]) * 1000


def build_launcher() -> Path:
    """The program that starts the others, measures them, and weighs next to nothing itself."""
    path = INPUTS / "launcher"
    source = Path(__file__).with_name("launcher.c")
    command = [*compiler_for("x86-64").command, "-O2", "-static", "-o", str(path), str(source)]
    subprocess.run(command, check=True)  # noqa: S603  # this repository's own program
    return path


def run_once(launcher: Path, command: Sequence[str], output: Path, *, cpu_time: bool) -> tuple[float, int, int]:
    """Seconds, peak memory in KiB, and status of one run; its output goes to the file *output*."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    measured = Path(f"{output}.measured")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(output), write, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, f"{output}.err", write, 0o600),
        (os.POSIX_SPAWN_OPEN, 3, str(measured), write, 0o600),
    ]
    pid = os.posix_spawn(launcher, [str(launcher), *command], environment, file_actions=actions)
    os.waitpid(pid, 0)
    wall, cpu, peak, status = map(int, measured.read_text().split())
    return (cpu if cpu_time else wall) / 1e9, peak, os.waitstatus_to_exitcode(status)


def measure(
    wanted: Sequence[Workload], rounds: int, console: Console, *, cpu_time: bool
) -> dict[tuple[str, str, str], Samples]:
    """The samples by (architecture, workload, engine)."""
    results = {(w.arch, w.name, engine): Samples() for w in wanted for engine in w.commands}
    launcher, output = build_launcher(), INPUTS / "output"
    with console.status("measuring") as status:
        for index in range(rounds):
            for w in wanted:
                expected = b""
                for engine in ENGINES:
                    if engine not in w.commands:
                        continue
                    samples = results[w.arch, w.name, engine]
                    if samples.wrong or (samples.seconds and index >= max(1, PATIENCE * rounds / samples.seconds[0])):
                        continue
                    status.update(f"round {index + 1} of {rounds}: {w.arch} {w.name}, {engine}")
                    seconds, peak, code = run_once(launcher, w.commands[engine], output, cpu_time=cpu_time)
                    printed = output.read_bytes()
                    if engine == "native":
                        expected = printed
                    elif code or printed != expected:
                        complaint = Path(f"{output}.err").read_text(errors="replace").strip().splitlines()
                        samples.wrong = f"status {code}: {complaint[-1] if complaint else printed[-80:]!r}"
                    samples.seconds.append(seconds)
                    samples.peak_kib = max(samples.peak_kib, peak)
    return results


def _ratio(value: float, base: float) -> str:
    """*value* in units of *base*."""
    return f"{value / base:.1f}" if base > 0 and value == value and value > 0 else "-"  # noqa: PLR0124  # not a number


def summarise(w: Workload, results: dict[tuple[str, str, str], Samples]) -> dict[str, Any]:
    """The figures of one workload: per engine, start-up excluded, and per operation."""
    row: dict[str, Any] = {"workload": w.name, "arch": w.arch, "engines": {}}
    for engine in w.commands:
        samples = results[w.arch, w.name, engine]
        if samples.wrong:
            row["engines"][engine] = {"wrong": samples.wrong}
            continue
        figures: dict[str, Any] = {
            "ms": samples.median,
            "spread_ms": samples.spread,
            "peak_mib": samples.peak_kib / 1024,
            "runs": len(samples.seconds),
        }
        base = results.get((w.arch, w.base, engine))
        if base is not None and base.seconds and not base.wrong:
            figures["net_ms"] = samples.median - base.median
            if w.count:
                figures["us_each"] = figures["net_ms"] * 1000 / w.count
                figures["each"] = w.per
        row["engines"][engine] = figures
    return row


def cell(figures: dict[str, Any] | None, native_ms: float) -> str:
    """One engine's whole-process time: milliseconds, ratio to native, spread, memory."""
    if figures is None:
        return "-"
    if "wrong" in figures:
        return "[red]wrong[/red]"
    ratio = "" if native_ms == figures["ms"] else f" x{_ratio(figures['ms'], native_ms)}"
    return f"{figures['ms']:.1f}{ratio} ±{figures['spread_ms']:.1f} {figures['peak_mib']:.0f}M"


def show(rows: list[dict[str, Any]], console: Console, what_time: str) -> None:
    """The table, and below it what one operation costs."""
    table = Table(title=f"whole process, {what_time} time: median ms, times native, ± quartile distance, peak MiB")
    table.add_column("workload")
    for engine in ENGINES:
        table.add_column(engine, justify="right")
    table.add_column("minikernel : qemu-user", justify="right")
    table.add_column("start-up excluded", justify="right")
    for row in rows:
        engines = row["engines"]
        native = engines["native"].get("ms", 0.0)
        ours, qemu = engines.get("minikernel", {}), engines.get("qemu-user", {})
        table.add_row(
            f"{row['arch']} {row['workload']}",
            *(cell(engines.get(engine), native) for engine in ENGINES),
            _ratio(ours.get("ms", 0.0), qemu.get("ms", 0.0)),
            _ratio(ours.get("net_ms", 0.0), qemu.get("net_ms", 0.0)),
        )
    console.print(table)
    for row in rows:
        each = [
            f"{engine} {figures['us_each']:.2f}"
            for engine in ENGINES
            if "us_each" in (figures := row["engines"].get(engine, {}))
        ]
        if each:
            what = next(figures["each"] for figures in row["engines"].values() if "each" in figures)
            console.print(f"{row['arch']}: us for one {what}: {', '.join(each)}")
    for row in rows:
        for engine, figures in row["engines"].items():
            if "wrong" in figures:
                console.print(f"[red]{row['arch']} {row['workload']} on {engine}[/red]: {figures['wrong']}")
    if not any("qemu-user" in row["engines"] for row in rows):
        console.print("qemu-user is not installed (Debian: apt-get install qemu-user): its column is empty")


def main() -> int:
    """The command line; 1 if the emulator's output was wrong."""
    parser = argparse.ArgumentParser(prog="bench", description="Compare the emulator's speed.")
    parser.add_argument("--only", metavar="NAME", action="append", help="only these workloads (with their start-up)")
    parser.add_argument("--arch", choices=("x86-64", "i386"), help="only this architecture")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is run (default: 5)")
    parser.add_argument("--cpu-time", action="store_true", help="user and system time instead of the wall clock's")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 180)
    chosen = [w for w in workloads() if options.arch in {None, w.arch}]
    if options.only:
        bases = {w.base for w in chosen if w.name in options.only}
        chosen = [w for w in chosen if w.name in options.only or w.name in bases]
    results = measure(chosen, options.rounds, console, cpu_time=options.cpu_time)
    rows = [summarise(w, results) for w in chosen]
    show(rows, console, "CPU" if options.cpu_time else "wall")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return int(any("wrong" in row["engines"].get("minikernel", {}) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
