"""Every program is recorded, replayed without its files, verified and recorded again: ``python -m tests.traces``.

All guest programs on all machines, all jobs of Debian's programs on both architectures; then one program with threads
and signals a thousand times, all with one digest; then recorders that are killed at random moments.  What goes wrong is
printed as the command line that shows it again.  ``tests/guest/test_traces.py`` runs a sample.
"""

import argparse
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from guest.builder import ROOT, Target, build_all, programs, targets
from guest.native import guest_environment
from minikernel.api import Machine
from minikernel.trace.codec import TraceError
from minikernel.trace.digest import take_digest
from minikernel.trace.trace import Trace
from tests.debian.jobs import prepare, read_jobs
from tests.debian.rootfs import rootfs
from tests.guest.test_guest import MACHINES, suits

TOOL: Final = (sys.executable, "-m", "minikernel")
THREADS: Final = "x86-64/thread/storm"
TIMEOUT: Final = 600
_EMPTY: Final = "@empty@"  # in place of an empty directory of the case's own


@dataclass(frozen=True, slots=True)
class Case:
    """A program to be recorded: the words behind ``record --pack -o T``."""

    id: str
    words: tuple[str, ...]
    stdin: bytes = b""


def guest_cases() -> Iterator[Case]:
    """Every guest program on every machine that suits it."""
    for target in targets(programs()):
        for machine, options in MACHINES[target.arch].items():
            if suits(target, machine):
                yield Case(f"{target.id}-{machine}", _guest_words(target, options), _guest_stdin(target))


def _guest_words(target: Target, options: tuple[str, ...]) -> tuple[str, ...]:
    variables = (word for name, value in guest_environment(target).items() for word in ("--env", f"{name}={value}"))
    program = (str(target.path), *target.program.words("args"))
    door = ("--bind", f"{_EMPTY}:/scratch", "--cwd", "/scratch")  # not /tmp, where this repository may be
    return (*options, *target.program.memory, "--clear-env", *variables, *door, "--", *program)


def _guest_stdin(target: Target) -> bytes:
    return target.program.options.get("stdin", "").encode().decode("unicode_escape").encode()


def debian_cases(folder: Path) -> Iterator[Case]:
    """Every job of a Debian program, on both architectures; what it writes stays in the guest."""
    inputs = folder / "job"
    prepare(inputs)
    for path in inputs.rglob("*"):
        if path.is_symlink():
            path.readlink()  # the first time changes its access time, which programs can see
    for arch in ("x86-64", "i386"):
        root = ("--root", str(rootfs(arch)), "--bind", f"{inputs}:/job", "--cwd", "/job", "--clear-env")
        for job in read_jobs():
            environment = ("--env", "PATH=/usr/bin:/bin", "--env", "LC_ALL=C", "--env", "HOME=/root")
            yield Case(f"{arch}/debian/{job.id}", (*root, *environment, "--", *job.command), job.stdin)


def tool(*words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """``minikernel WORDS``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    command = [*TOOL, *words]
    return subprocess.run(
        command, input=stdin, capture_output=True, check=False, timeout=TIMEOUT, env=environment, cwd="/"
    )


def round_trip(case: Case, folder: Path) -> str:
    """Record, replay, verify, record again and compare; what went wrong, or ""."""
    first, second, empty = folder / "first.trace", folder / "second.trace", folder / "empty"
    empty.mkdir(exist_ok=True)
    words = [word.replace(_EMPTY, str(empty)) for word in case.words]
    done = tool("record", "--pack", "-o", str(first), *words, stdin=case.stdin)
    if not first.exists():
        return f"there is no trace: {done.stderr.decode(errors='replace')[-300:]}"
    again = tool("replay", str(first))
    if (again.returncode, again.stdout) != (done.returncode, done.stdout):
        return (
            f"replay: status {again.returncode} for {done.returncode}; {again.stderr.decode(errors='replace')[-300:]}"
        )
    verified = tool("verify", str(first))
    if verified.returncode:
        return f"verify: {(verified.stdout + verified.stderr).decode(errors='replace')[:600]}"
    tool("record", "-o", str(second), *words, stdin=case.stdin)
    compared = tool("diff", str(first), str(second))
    # Free blocks of the disk, and first readings of links, are seen by some programs: then the runs differ rightly.
    if compared.returncode and b"note: the host's" not in compared.stdout:
        return f"recorded again: {(compared.stdout + compared.stderr).decode(errors='replace')[:600]}"
    return ""


def run_digest(program: Path, seed: int) -> tuple[str, ...]:
    """What a run of *program* with the time slices of *seed* comes to: output, events and the machine's state."""
    with Machine(program, schedule_seed=seed, slice=2000) as machine:
        status = machine.run()
        digest = take_digest(machine._system.kernel, len(machine.events))
        told = sha256("".join(one.event.text() for one in machine.events).encode())
        return str(status), machine.stdout.decode(), told.hexdigest(), str(digest)


def killed_recorder(folder: Path, chance: random.Random) -> str:
    """Kill a recorder at some moment: what it leaves is read and verified up to its end, or says why not."""
    path = folder / "killed.trace"
    path.unlink(missing_ok=True)
    script = "i=0; while :; do i=$((i+1)); (exit 3); echo $i; done"
    with subprocess.Popen(
        [*TOOL, "record", "-o", str(path), "/bin/sh", "-c", script], stdout=subprocess.DEVNULL, cwd=ROOT
    ) as child:
        time.sleep(chance.uniform(0.2, 2.5))
        child.kill()
    if not path.exists():
        return ""  # it was killed before it began
    try:
        with Trace(str(path)) as trace:
            events = sum(1 for _ in trace.events())
            if trace.complete:
                return "a killed recorder's trace is complete"
    except TraceError as error:
        return "" if path.stat().st_size < 20_000 else f"what a killed recorder left: {error}"
    done = tool("verify", str(path))
    good = done.returncode == 0 and f"the same: {events} events".encode() in done.stdout
    return "" if good else f"verify of what a killed recorder left: {done.stdout.decode()[:600]}"


def main() -> int:
    """The command line; 1 if something went wrong."""
    parser = argparse.ArgumentParser(prog="traces", description="Record, replay and verify everything.")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose names contain TEXT")
    parser.add_argument("--runs", type=int, default=1000, help="of the program with threads and signals")
    parser.add_argument("--kills", type=int, default=50, help="recorders to kill")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    build_all(targets(programs()))
    wrong = count = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in (*guest_cases(), *debian_cases(folder)):
            if options.only not in case.id:
                continue
            count += 1
            problem = round_trip(case, folder)
            if problem:
                wrong += 1
                print(f"{case.id}: {problem}\n  minikernel record --pack -o T {shlex.join(case.words)}", flush=True)
        print(f"{count} programs, {wrong} wrong", flush=True)
        (target,) = [t for t in targets(programs()) if t.id == THREADS]
        digests = {run_digest(target.path, options.seed) for _ in range(options.runs)}
        print(f"{options.runs} runs of {THREADS}: {len(digests)} digest(s)", flush=True)
        chance = random.Random(options.seed)
        problems = [problem for _ in range(options.kills) if (problem := killed_recorder(folder, chance))]
        print("\n".join([f"{options.kills} recorders killed, {len(problems)} wrong", *problems]), flush=True)
    return 1 if wrong or len(digests) > 1 or problems else 0


if __name__ == "__main__":
    sys.exit(main())
