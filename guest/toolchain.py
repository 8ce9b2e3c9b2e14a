"""The C compilers of the guest programs: the system's where it can link for an architecture, else zig's.

``python guest/toolchain.py`` exits with 1 when ``ziglang`` is wanted: some architecture has no compiler.
"""

import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ARCHES: Final = ("x86-64", "i386")
MACHINE_FLAG: Final = {"x86-64": "-m64", "i386": "-m32"}
ZIG_TARGET: Final = {"x86-64": "x86_64-linux-musl", "i386": "x86-linux-musl"}


@dataclass(frozen=True, slots=True)
class Compiler:
    """A command that compiles and links C for one architecture; *libc* is what it links with."""

    command: tuple[str, ...]
    libc: str  # "glibc" or "musl"


def _links(command: tuple[str, ...]) -> bool:
    """Whether *command* makes an executable, which needs headers, start files and libc of the architecture."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text('#include <stdio.h>\nint main(void) { return puts(""); }\n', encoding="ascii")
        built = [
            subprocess.run(  # noqa: S603  # a compiler that this machine offers
                [*command, *kind, "-o", f"{folder}/probe", str(source)], capture_output=True, check=False
            ).returncode
            for kind in ((), ("-static",))
        ]
        return not any(built)


@functools.cache
def system_compiler(arch: str) -> Compiler | None:
    """The machine's own compiler for *arch*; None if it cannot link there, as without gcc-multilib."""
    for name in (*shlex.split(os.environ.get("CC", "")), "gcc", "cc", "clang"):
        path = shutil.which(name)
        if path and _links((path, MACHINE_FLAG[arch])):
            return Compiler((path, MACHINE_FLAG[arch]), "glibc")
    return None


@functools.cache
def compiler_for(arch: str) -> Compiler:
    """The compiler to use for *arch*.

    Raises:
        SystemExit: there is neither a system compiler nor the package ``ziglang``.
    """
    found = system_compiler(arch)
    if found:
        return found
    if importlib.util.find_spec("ziglang") is None:
        raise SystemExit(f"no C compiler for {arch}: install gcc-multilib and libc6-dev-i386, or `pip install ziglang`")
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", ZIG_TARGET[arch], "-fno-sanitize=undefined")
    return Compiler(zig, "musl")


if __name__ == "__main__":
    sys.exit(not all(system_compiler(arch) for arch in ARCHES))
