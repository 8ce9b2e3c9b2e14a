"""The package's own build: setuptools, plus the native part as a plain shared library.

A PEP 517 and PEP 660 backend that wraps ``setuptools.build_meta``.  ``emu/native/*.c`` becomes
``emu/native/libemunative.so`` in front of every wheel and editable install.  The library has no ``Python.h`` in it
and is not linked with Unicorn (it opens that at run time), so one wheel serves every Python 3; from Unicorn it needs
the headers, which lie in Unicorn's own wheel.  A machine without a C compiler gets one from PyPI: ``ziglang``.

``python packaging/backend.py`` builds the library in place and does nothing when it is newer than its sources.
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from setuptools import build_meta

ROOT: Final = Path(__file__).resolve().parent.parent
NATIVE: Final = ROOT / "emu" / "native"
LIBRARY: Final = NATIVE / "libemunative.so"
PLATFORM: Final = "linux_x86_64"
FLAGS: Final = (
    *("-O2", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"),
    *("-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"),
)
# zig cc adds its own undefined-behaviour traps and takes the build machine's CPU and libc unless told otherwise.
ZIG_FLAGS: Final = ("-target", "x86_64-linux-gnu.2.28", "-mcpu=x86_64_v2", "-fno-sanitize=undefined")

Settings = Mapping[str, Any] | None


def system_compiler() -> list[str] | None:
    """The command of this machine's C compiler: ``$CC``, else cc, gcc or clang; None without one."""
    chosen = os.environ.get("CC")
    if chosen:
        command = shlex.split(chosen)
        return command if shutil.which(command[0]) else None
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path:
            return [path]
    return None


def zig_compiler() -> list[str] | None:
    """The command of the C compiler inside the ``ziglang`` package; None if that is not installed."""
    if importlib.util.find_spec("ziglang") is None:
        return None
    return [sys.executable, "-m", "ziglang", "cc", *ZIG_FLAGS]


def unicorn_include() -> Path:
    """The directory that holds ``unicorn/unicorn.h``, inside Unicorn's wheel."""
    spec = importlib.util.find_spec("unicorn")
    if spec is None or spec.origin is None:
        raise SystemExit("native build: the package unicorn, whose headers are needed, is not installed")
    include = Path(spec.origin).parent / "include"
    if not (include / "unicorn" / "unicorn.h").is_file():
        raise SystemExit(f"native build: no unicorn/unicorn.h under {include}")
    return include


def sources() -> list[Path]:
    """The C files of the native part, in the order of their names."""
    found = sorted(NATIVE.glob("*.c"))
    if not found:
        raise SystemExit(f"native build: no C file in {NATIVE}")
    return found


def build_native() -> Path:
    """Compile ``emu/native/*.c`` into the library beside them, if it is older than any source; its path."""
    files = sources()
    inputs = [*files, *NATIVE.glob("*.h"), Path(__file__)]
    if LIBRARY.exists() and LIBRARY.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        return LIBRARY
    compiler = system_compiler() or zig_compiler()
    if compiler is None:
        raise SystemExit("native build: no C compiler; install gcc or clang, set CC, or `pip install ziglang`")
    # Built beside and renamed: a running emulator keeps the library that it has mapped.
    new = LIBRARY.with_name(f".{LIBRARY.name}.{os.getpid()}.so")
    command = [*compiler, *FLAGS, f"-I{unicorn_include()}", "-o", str(new), *map(str, files), "-ldl"]
    print("native build:", shlex.join(command), flush=True)
    try:
        subprocess.run(command, check=True, cwd=ROOT)  # noqa: S603  # the command is made above
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"native build: the compiler failed with status {error.returncode}") from error
    else:
        new.replace(LIBRARY)
    finally:
        new.unlink(missing_ok=True)
    return LIBRARY


def _compiler_requirements() -> list[str]:
    """What must be installed for a C compiler to exist."""
    return [] if system_compiler() else ["ziglang>=0.13"]


def _with_platform(settings: Settings) -> dict[str, Any]:
    """*settings* with the wheel tagged for the platform that the library in it runs on."""
    merged = dict(settings or {})
    options = merged.get("--build-option", [])
    options = shlex.split(options) if isinstance(options, str) else list(options)
    merged["--build-option"] = [*options, f"--plat-name={PLATFORM}"]
    return merged


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """PEP 517: what the build of a wheel needs beside ``build-system.requires``."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_compiler_requirements()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """PEP 660: what an editable install needs beside ``build-system.requires``."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_compiler_requirements()]


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    """PEP 517: a source archive carries the C files as they are and needs no compiler."""
    return list(build_meta.get_requires_for_build_sdist(config_settings))


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Settings = None) -> str:
    """PEP 517: the metadata are setuptools' own."""
    return str(build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings))


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Settings = None) -> str:
    """PEP 660: the metadata are setuptools' own."""
    return str(build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings))


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """PEP 517: build the library, then a wheel tagged py3-none-linux_x86_64 around it; its file name."""
    build_native()
    return str(build_meta.build_wheel(wheel_directory, _with_platform(config_settings), metadata_directory))


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """PEP 660: build the library in place, then the wheel that points here; its file name."""
    build_native()
    return str(build_meta.build_editable(wheel_directory, config_settings, metadata_directory))


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """PEP 517: the source archive; its file name."""
    return str(build_meta.build_sdist(sdist_directory, config_settings))


if __name__ == "__main__":
    build_native()
