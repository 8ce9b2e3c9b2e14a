"""``minikernel compare``: one program under several reclaim policies, beside the optimum for the same references.

Each run is a machine in a process of its own.  The table goes to stdout; what the program writes, both streams, goes to
stderr, once.  It reads what stdin is redirected from, again in each run, or nothing.

Exit status: the program's; 125 if it ended or wrote otherwise under another policy, or something is wrong with us.
"""

import argparse
import contextlib
import gc
import json
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

from msgspec.structs import replace

from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Event, FaultKind, MmFaultResolved
from minikernel.mm.page import PG_lru
from minikernel.mm.policy import POLICIES, find_policy
from minikernel.report.comparison import Best, Run, json_text, pressed, table
from minikernel.runner import EXIT_FAILURE, Listeners, boot, load, run_to_status

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

_MIB: Final = 1 << 20
_NO_EXTRAS: Final = argparse.Namespace(stats=None, strace=False, explain=False)
T = TypeVar("T")


class Failed(Exception):  # noqa: N818 - it carries the status to end with
    """A run has told, in a line, why it is none."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def compare_command(config: Config, options: argparse.Namespace) -> int:
    """Run, print; the exit status of the process."""
    names = options.policy.split(",") if options.policy else list(POLICIES)
    if config.host_clock:
        return _complain("compare needs the virtual clock: the host's would measure the host")
    try:
        for name in names:
            find_policy(name)
    except ValueError as error:
        return _complain(str(error))
    try:
        with tempfile.TemporaryFile() as shown:
            runs, differing = _run_all(config, names, shown)
            best = _find_best(config, max(run.resident for run in runs), options.sample) if pressed(runs) else None
    except Failed as failure:
        return failure.status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if options.json:
        print(json_text(config, runs, best, differing))
    else:
        print(table(config, runs, best), end="")
    if differing:
        return _complain(f"THE RUNS DIFFER: output or status under {', '.join(differing)} is not as under {names[0]}")
    return runs[0].status


def _run_all(config: Config, names: Sequence[str], shown: IO[bytes]) -> tuple[list[Run], list[str]]:
    """A run under each policy, and the policies under which the program did otherwise than under the first."""
    runs: list[Run] = []
    differing = []
    for name in names:
        with tempfile.TemporaryFile() as output:
            told = _in_child(partial(_run_under, replace(config, policy=name)), output)
            if told is None or not runs:
                _copy(output, sys.stderr.buffer)
            if told is None:
                raise Failed(_complain(f"the run under {name} has died"))
            if "failed" in told:
                raise Failed(told["failed"])
            run = Run(**told)
            if not runs:
                _copy(output, shown)
            elif run.status != runs[0].status or not _same(output, shown):
                differing.append(name)
            runs.append(run)
    return runs, differing


# ---- a run, in a process of its own


def _in_child(work: Callable[[], dict[str, T]], output: IO[bytes]) -> dict[str, T] | None:
    """What *work* gives, done in a child whose standard output and error go to *output*; None: it died.

    It gives {"failed": status} if *work* raised Failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        status = EXIT_FAILURE
        try:
            _redirect(output)
            try:
                told: dict[str, object] = dict(work())
            except Failed as failure:
                told = {"failed": failure.status}
            with os.fdopen(writer, "w", encoding="utf-8") as pipe:
                json.dump(told, pipe)
            status = 0
        except Exception as error:  # noqa: BLE001 - our own bug: a panic, not a traceback
            from minikernel.report.panic import panic_report

            sys.stderr.write(panic_report(None, error))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(writer)
    try:
        with os.fdopen(reader, encoding="utf-8") as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    result: dict[str, T] | None = json.loads(text) if text else None
    return result


def _redirect(output: IO[bytes]) -> None:
    """Standard input from its start again if it is a file, otherwise empty; both outputs to one place, in order."""
    source = os.open(os.devnull, os.O_RDONLY)
    with contextlib.suppress(OSError):  # closed, or not ours to open
        if stat.S_ISREG(os.fstat(0).st_mode):
            source = os.open("/proc/self/fd/0", os.O_RDONLY)
            os.lseek(source, os.lseek(0, 0, os.SEEK_CUR), os.SEEK_SET)
    os.dup2(source, 0)
    for fd in (1, 2):
        os.dup2(output.fileno(), fd)


def _boot(config: Config) -> System:
    system = boot(config)
    if isinstance(system, int):
        raise Failed(system)
    return system


def _load(system: System) -> None:
    loaded = load(system)
    if isinstance(loaded, int):
        raise Failed(loaded)
    gc.freeze()
    gc.enable()


def _run_under(config: Config) -> dict[str, Any]:
    """Run the program of *config*, and read the figures off the machine: the fields of Run.  Raises Failed."""
    system = _boot(config)
    kernel = system.kernel
    with system:
        Listeners(system, _NO_EXTRAS)
        faults = [0, 0]

        def count(_icount: int, _pid: int, event: Event) -> None:
            if isinstance(event, MmFaultResolved) and event.kind is not FaultKind.STACK_GROWTH:
                faults[event.major] += 1

        kernel.tracer.sink = count
        peak = _watch_resident(kernel.node)
        _load(system)
        start = kernel.clock.now_ns()
        status = run_to_status(system)
        events = kernel.node.vmstat
        run = Run(
            policy=config.policy,
            status=status,
            minor_faults=faults[0],
            major_faults=faults[1],
            refaults=events["workingset_refault_anon"] + events["workingset_refault_file"],
            pages_swapped_out=events["pswpout"],
            pages_swapped_in=events["pswpin"],
            file_pages_reread=events["workingset_refault_file"],
            pages_scanned=events["pgscan_kswapd"] + events["pgscan_direct"],
            pages_reclaimed=events["pgsteal_kswapd"] + events["pgsteal_direct"],
            time_ns=kernel.clock.now_ns() - start,
            resident=peak[0],
        )
    return asdict(run)


def _watch_resident(node: "Node") -> list[int]:
    """The most pages that were resident when memory was short, in a list of one: it grows while the machine runs."""
    peak = [0]
    reclaim, wake = node.reclaim, node.wake_kswapd
    assert reclaim is not None, "_watch_resident: a machine that cannot reclaim"
    assert wake is not None, "_watch_resident: a machine without kswapd"

    def look() -> None:
        lru, mem_map = node.lru, node.mem_map
        pending = sum(1 for pfn in set(lru.pending) if mem_map.refcount[pfn] and not mem_map.flags[pfn] & PG_lru)
        peak[0] = max(peak[0], sum(lru.policy.lists()) + len(lru.unevictable) + pending)

    def watched_reclaim(order: int, gfp: int) -> int:
        look()
        return reclaim(order, gfp)

    def watched_wake() -> None:
        look()
        wake()

    node.reclaim, node.wake_kswapd = watched_reclaim, watched_wake
    return peak


# ---- the optimum


def _find_best(config: Config, frames: int, interval: int) -> Best:
    """The least that *frames* frames could have cost.  Raises Failed."""
    with tempfile.TemporaryFile() as output:
        told = _in_child(lambda: _refer(replace(config, policy="fifo"), frames, interval), output)
        if told is None or "failed" in told:
            _copy(output, sys.stderr.buffer)
            raise Failed(told["failed"] if told else _complain("the run for the references has died"))
        return Best(**told)


def _refer(config: Config, frames: int, interval: int) -> dict[str, int]:
    """Record the references of a run, and play them: the fields of Best."""
    from minikernel.report.belady import simulate_lru, simulate_min
    from minikernel.report.references import References

    system = _boot(config)
    kernel = system.kernel
    with system:
        references = References(kernel, interval)
        kernel.tracer.sink = references.sink
        _load(system)
        run_to_status(system, references.run_cpu)
        references.finish()
    samples = references.samples
    least = simulate_min(samples, frames)
    return {
        "frames": frames,
        "min_refaults": least.back,
        "lru_refaults": simulate_lru(samples, frames).back,
        "pages": least.first,
        "uses": references.nr_uses,
        "samples": len(samples),
        "interval": interval,
    }


# ---- output


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    source.seek(0)
    while chunk := source.read(_MIB):
        target.write(chunk)
    target.flush()


def _same(left: IO[bytes], right: IO[bytes]) -> bool:
    left.seek(0)
    right.seek(0)
    while True:
        one, other = left.read(_MIB), right.read(_MIB)
        if one != other:
            return False
        if not one:
            return True


def _complain(message: str) -> int:
    sys.stderr.write(f"minikernel: {message}\n")
    return EXIT_FAILURE
