"""Guest programs for gdb, and gdb itself."""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from guest.builder import ROOT
from guest.toolchain import ARCHES, compiler_for, system_compiler

HERE = Path(__file__).parent
KINDS = {
    "static": ("-static", "-no-pie", "-fno-pie"),
    "dynamic": ("-no-pie", "-fno-pie"),
    "pie": ("-pie", "-fPIE"),
}
FLAGS = ("-O0", "-g", "-fno-stack-protector", "-pthread")
HAVE_GDB = shutil.which("gdb") is not None or "CI" in os.environ  # where it has to be, it is not looked for
PATIENCE = 120.0  # seconds


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def build(arch: str, name: str, kind: str = "static") -> Path:
    """The program *name*.c of this directory."""
    out = Path(_folder().name) / f"{name}.{kind}.{arch}"
    compiler = compiler_for(arch) if kind == "static" else system_compiler(arch)
    assert compiler is not None, "dynamic programs are built by the system's compiler"
    command = [*compiler.command, *FLAGS, *KINDS[kind], "-o", str(out), str(HERE / f"{name}.c")]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture(params=ARCHES)
def arch(request: pytest.FixtureRequest) -> str:
    """Both architectures."""
    return str(request.param)


def minikernel(*options: str) -> list[str]:
    """The command line of a run of ours, without the program."""
    return [sys.executable, "-m", "minikernel", "run", *options]


def gdb(program: Path, *commands: str, arguments: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> str:
    """What Debian's gdb says while it drives *program* on our machine; the program's own output is not in it."""
    words = [*minikernel("--ram", "32M", *options, "--gdb", "-", "--"), str(program), *arguments]
    errors = Path(_folder().name) / "stderr"
    pipe = f"target remote | exec {' '.join(words)} 2>{errors}"
    return run_gdb(pipe, *commands)


def run_gdb(*commands: str) -> str:
    """What gdb prints in batch mode; the libraries are the host's own, as the machine sees the host's tree."""
    settings = ("set pagination off", "set confirm off", "set width 0", "set debuginfod enabled off", "set sysroot /")
    script = [word for command in (*settings, *commands) for word in ("-ex", command)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
    done = subprocess.run(
        ["gdb", "-nx", "-batch", *script], capture_output=True, text=True, timeout=PATIENCE, check=False,
        env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout + done.stderr


def program_output() -> str:
    """What the program of the last ``gdb`` wrote, with what minikernel had to say."""
    return (Path(_folder().name) / "stderr").read_text()


def lines_with(text: str, *words: str) -> list[str]:
    """The lines of *text* that contain one of *words*."""
    return [line for line in text.splitlines() if any(word in line for word in words)]
