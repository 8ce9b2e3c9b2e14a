"""Guest programs for the debugger, built once."""

import functools
import subprocess
import tempfile
from pathlib import Path

import pytest

from guest.toolchain import ARCHES, compiler_for

HERE = Path(__file__).parent
FLAGS = ("-O0", "-g", "-fno-omit-frame-pointer", "-fno-stack-protector", "-static", "-no-pie", "-fno-pie", "-pthread")


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def build(arch: str, name: str) -> Path:
    """The program *name*.c of this directory."""
    out = Path(_folder().name) / f"{name}.{arch}"
    command = [*compiler_for(arch).command, *FLAGS, "-o", str(out), str(HERE / f"{name}.c")]
    subprocess.run(command, check=True, capture_output=True)
    return out


def build_bare(folder: Path, source: str, arch: str = "x86-64") -> str:
    """An assembly *source* without a library, as a program in *folder*."""
    (folder / "it.S").write_text(source)
    flags = ("-static", "-nostdlib", "-nostartfiles", "-no-pie")
    command = [*compiler_for(arch).command, *flags, "-o", str(folder / "it"), str(folder / "it.S")]
    subprocess.run(command, check=True, capture_output=True)
    return str(folder / "it")


@pytest.fixture(params=ARCHES)
def arch(request: pytest.FixtureRequest) -> str:
    """Both architectures."""
    return str(request.param)


@pytest.fixture
def story(arch: str) -> Path:
    """story.c: functions that call each other, a table that is written, a child, a fault."""
    return build(arch, "story")
