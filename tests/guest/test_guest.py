"""Every guest program does in the emulator what it does on this machine's own Linux.

One case for each program, architecture, way of linking and machine; a new file in ``guest/`` is a new case.  The native
run is the oracle: its output and its status (128+N after signal N) are what is expected, never what we believe.
"""

import functools
import os
import shlex
import sys
import tempfile
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from guest.builder import ROOT, Target, programs, targets, try_build
from guest.native import Result, guest_environment, run, run_natively

# The machines that run programs of an architecture: name, options of `minikernel run`.
MACHINES: dict[str, dict[str, tuple[str, ...]]] = {
    "x86-64": {"4level": ()},
    "i386": {
        "4level": (),
        "pae": ("--cpu", "i386", "--paging", "pae"),
        "2level": ("--cpu", "i386", "--paging", "2level"),
    },
}


def suits(target: Target, machine: str) -> bool:
    """Whether this host's answer is the right one for *machine*."""
    options = target.program.options
    if machine == "2level" and options.get("needs") == "nx":
        return False  # without NX there is nothing to fault on
    return machine in options.get("machines", machine).split(",")


def cases() -> list[ParameterSet]:
    """(target, machine's options) for all that can be built here."""
    found = []
    for target in targets(programs()):
        if not target.program.has_oracle:
            continue
        limit = target.program.options.get("limit")
        marks = [pytest.mark.xfail(reason=limit)] if limit else []
        for machine, options in MACHINES[target.arch].items():
            if suits(target, machine):
                found.append(pytest.param(target, options, id=f"{target.id}-{machine}", marks=marks))
    return found


@functools.cache
def natively(target: Target) -> Result:
    """The oracle's answer, asked once."""
    with tempfile.TemporaryDirectory() as folder:
        return run_natively(target, Path(folder))


@pytest.fixture(scope="session")
def complaints() -> dict[str, str]:
    """What the compiler says of the programs that it does not accept."""
    return try_build(targets(programs()))


def emulated(target: Target, options: tuple[str, ...], cwd: Path) -> Result:
    """Run *target* in the emulator with the environment that it has natively."""
    command = [
        *(sys.executable, "-m", "minikernel", "run", *options, *target.program.memory, "--clear-env"),
        *(word for name, value in guest_environment(target).items() for word in ("--env", f"{name}={value}")),
        *("--", str(target.path), *target.program.words("args")),
    ]
    print(shlex.join(command))
    return run(
        command,
        target,
        cwd,
        timeout=120,
        environment={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""},
    )


@pytest.mark.slow
@pytest.mark.parametrize(("target", "options"), cases())
def test_program_does_what_it_does_natively(
    target: Target, options: tuple[str, ...], complaints: dict[str, str], tmp_path: Path
) -> None:
    assert target.id not in complaints, complaints[target.id]
    expected = natively(target)
    result = emulated(target, options, tmp_path)
    assert result.stdout.decode().splitlines() == expected.stdout.decode().splitlines(), result.stderr.decode()
    assert result.stdout == expected.stdout
    assert result.status == expected.status, result.stderr.decode()
    if target.program.options.get("stderr") != "ignore":
        assert result.stderr.decode() == expected.stderr.decode()
    assert not list(tmp_path.iterdir()), "a write of the guest reached the host"
