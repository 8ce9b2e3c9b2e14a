"""Guest programs for the debugger, built once."""

import functools
import subprocess
import tempfile
from pathlib import Path

import pytest

from guest.toolchain import ARCHES, compiler_for

HERE = Path(__file__).parent
FLAGS = ("-g", "-fno-stack-protector", "-pthread")
FRAME_POINTERS = ("-fno-omit-frame-pointer", "-no-pie", "-fno-pie")
KINDS = {"static": ("-static",), "dynamic": ("-Wl,-z,lazy",)}


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def build(arch: str, name: str, level: str = "", kind: str = "static") -> Path:
    """The program *name*.c of this directory; with frame pointers and at a fixed address if no *level* is given."""
    out = Path(_folder().name) / f"{name}.{arch}{level}.{kind}"
    compiler = compiler_for(arch)
    if kind == "dynamic" and compiler.libc != "glibc":
        pytest.skip("dynamic programs are linked with this machine's own glibc")
    flags = (*FLAGS, *KINDS[kind], *((level,) if level else ("-O0", *FRAME_POINTERS)))
    command = [*compiler.command, *flags, "-o", str(out), str(HERE / f"{name}.c")]
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
