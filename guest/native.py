"""Runs guest programs on this machine's own Linux: the oracle that the emulator is compared with.

``python -m guest.native [-v] [PATTERN...]`` runs those whose name has one of the patterns (default: all), and says how
each ended; ``-v`` shows what they print.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guest.builder import Target, build_all, programs, targets

# The same small environment everywhere: what a program does must not hang on the developer's.
ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LANG": "C"}


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended, as a shell would say it: *status* is 128+N after signal N."""

    status: int
    stdout: bytes
    stderr: bytes


def run(
    command: Sequence[str], target: Target, cwd: Path, *, environment: Mapping[str, str], timeout: float = 30
) -> Result:
    """Run *command* in the directory *cwd* with the input that *target*'s header gives."""
    done = subprocess.run(  # noqa: S603  # programs of this repository
        command,
        input=target.program.options.get("stdin", "").encode().decode("unicode_escape").encode("latin-1"),
        capture_output=True,
        timeout=timeout,
        cwd=cwd,
        env=dict(environment),
        start_new_session=True,  # the caller's may lie outside its PID namespace, where getsid says 0
        check=False,
    )
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Result(status, done.stdout, done.stderr)


def guest_environment(target: Target) -> dict[str, str]:
    """The environment of *target*, with what its header adds."""
    return ENVIRONMENT | dict(word.split("=", 1) for word in target.program.words("env"))


def run_natively(target: Target, cwd: Path) -> Result:
    """Run *target* on the host."""
    command = [str(target.path), *target.program.words("args")]
    return run(command, target, cwd, environment=guest_environment(target))


def ending(status: int) -> str:
    """A status in words."""
    return f"status {status}" if status <= 128 else f"signal {status - 128}"


def main() -> int:
    """The command line; 1 if a program contradicted itself or left files behind."""
    parser = argparse.ArgumentParser(description="Run the guest programs natively.")
    parser.add_argument("-v", "--verbose", action="store_true", help="show their output")
    parser.add_argument("patterns", nargs="*", help="part of a name such as i386/mm/mremap")
    options = parser.parse_args()
    wanted = [
        target
        for target in targets(programs())
        if target.program.has_oracle
        and (not options.patterns or any(pattern in target.id for pattern in options.patterns))
    ]
    build_all(wanted)
    bad = False
    for target in wanted:
        with tempfile.TemporaryDirectory() as folder:
            result = run_natively(target, Path(folder))
            left = sorted(path.name for path in Path(folder).iterdir())
        # CHECK in guest.h prints "NO: " for what is not so.
        wrong = b"NO: " in result.stdout or bool(left)
        bad = bad or wrong
        print(f"{target.id:48} {ending(result.status)}{'  WRONG' if wrong else ''}{f'  left {left}' if left else ''}")
        if options.verbose or wrong:
            print(result.stdout.decode(errors="replace") + result.stderr.decode(errors="replace"))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
