"""Builds the guest programs: C and assembly, for both architectures, in the variants that a source asks for.

Every ``guest/TOPIC/NAME.c`` or ``.S`` becomes ``guest/build/ARCH/TOPIC/NAME`` (and ``NAME.VARIANT``).  Lines
``// guest: key=value ...`` in a source say what is special about it:

    arch=x86-64|i386            only for this one (default: both)
    variants=static,dynamic     of static, static-pie, dynamic, bare (default: static; bare, without libc, for .S)
    cflags=... libs=...         more words for the compiler (quoted where there are several)
    args=... env=... stdin=...  how to run it
    stderr=compare|ignore       whether the error output is part of the result (default: compare)
    machines=4level,pae,2level  the machines whose kernel answers as this one's does (default: all)
    limit="REASON"              what the CPU emulator does otherwise, and why; the test is expected to fail
    libc=glibc                  what needs this libc (zig brings musl)
    ram=SIZE swap=SIZE          of the machine it runs on (default: 256M, none)
    oracle=none                 not for this machine's own Linux: a test of its own says what is right
    needs=nx                    what the classic two-level page tables cannot do

``python -m guest.builder [--arch ARCH] [--only TOPIC/NAME] [--bench]`` builds what is out of date.
"""

import argparse
import fcntl
import os
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from guest.toolchain import ARCHES, compiler_for

ROOT: Final = Path(__file__).resolve().parent.parent
GUEST: Final = ROOT / "guest"
OUTPUT: Final = GUEST / "build"

TOPICS: Final = (
    "start",
    "fault",
    "mm",
    "code",
    "signal",
    "signal2",
    "cpu",
    "files",
    "io",
    "time",
    "abi",
    "stress",
    "process",
    "thread",
    "pressure",
    "ipc",
    "net",
    "tty",
)
# -w: the programs do wrong things on purpose, and every compiler has its own idea of which.
FLAGS: Final = (
    "-std=gnu11",
    "-O1",
    "-g",
    "-w",
    "-fno-strict-aliasing",
    "-D_GNU_SOURCE",
    "-D_LARGEFILE64_SOURCE",
    f"-I{GUEST / 'lib'}",
)
VARIANT_FLAGS: Final = {
    "static": ("-static", "-no-pie", "-fno-pie"),
    "static-pie": ("-static-pie", "-fPIE"),
    "dynamic": ("-pie", "-fPIE"),
    "bare": ("-static", "-nostdlib", "-nostartfiles", "-no-pie", "-fno-pie", "-fno-stack-protector"),
}
# zig brings musl, whose dynamic loader this machine does not have.
VARIANTS_OF_LIBC: Final = {"glibc": frozenset(VARIANT_FLAGS), "musl": frozenset({"static", "bare"})}
KEYS: Final = frozenset(
    [
        "needs",
        "ram",
        "swap",
        "oracle",
        "machines",
        "limit",
        "arch",
        "variants",
        "cflags",
        "libs",
        "args",
        "env",
        "stdin",
        "stderr",
        "libc",
    ]
)


@dataclass(frozen=True, slots=True)
class Program:
    """One source file, with what its header says about it."""

    source: Path
    options: dict[str, str] = field(hash=False)

    @property
    def name(self) -> str:
        """As in ``mm/mremap``."""
        return f"{self.source.parent.name}/{self.source.stem}"

    @property
    def arches(self) -> tuple[str, ...]:
        """The architectures it is written for."""
        return tuple(self.options["arch"].split(",")) if "arch" in self.options else ARCHES

    @property
    def variants(self) -> tuple[str, ...]:
        """The ways to link it."""
        default = "bare" if self.source.suffix == ".S" else "static"
        return tuple(self.options.get("variants", default).split(","))

    @property
    def has_oracle(self) -> bool:
        """It may run on this machine's own Linux, whose answer is the right one."""
        return self.options.get("oracle") != "none"

    @property
    def memory(self) -> tuple[str, ...]:
        """Options of ``minikernel run`` for the memory that it wants."""
        return tuple(word for key in ("ram", "swap") if key in self.options for word in (f"--{key}", self.options[key]))

    def words(self, key: str) -> list[str]:
        """The value of *key*, cut as a shell would."""
        return shlex.split(self.options.get(key, ""))


@dataclass(frozen=True, slots=True)
class Target:
    """One executable to build."""

    program: Program
    arch: str
    variant: str

    @property
    def path(self) -> Path:
        """Where the executable goes; the first variant is the one without a suffix."""
        suffix = "" if self.variant == self.program.variants[0] else f".{self.variant}"
        return OUTPUT / self.arch / (self.program.name + suffix)

    @property
    def id(self) -> str:
        """As in ``i386/start/hello.dynamic``."""
        return str(self.path.relative_to(OUTPUT))


def read_program(source: Path) -> Program:
    """The program of a source file.

    Raises:
        ValueError: its header has a word that is no ``key=value`` of the list above.
    """
    options: dict[str, str] = {}
    for line in source.read_text(encoding="utf-8").splitlines():
        if not line.startswith("// guest:"):
            continue
        for word in shlex.split(line.removeprefix("// guest:")):
            key, equals, value = word.partition("=")
            if not equals or key not in KEYS:
                raise ValueError(f"{source}: {word!r} is not a word of a guest header")
            options[key] = value
    return Program(source, options)


def programs(topics: Iterable[str] = TOPICS) -> list[Program]:
    """All guest programs of some topics, by name."""
    sources = [path for topic in topics for path in (GUEST / topic).iterdir() if path.suffix in {".c", ".S"}]
    return [read_program(path) for path in sorted(sources)]


def targets(found: Iterable[Program], arches: Iterable[str] = ARCHES) -> Iterator[Target]:
    """The executables of some programs that this machine's compilers can make."""
    for arch in arches:
        libc = compiler_for(arch).libc
        for program in found:
            if arch not in program.arches or program.options.get("libc", libc) != libc:
                continue
            for variant in program.variants:
                if variant in VARIANTS_OF_LIBC[libc]:
                    yield Target(program, arch, variant)


def build(target: Target) -> str | None:
    """Compile *target* unless it is newer than its source; the compiler's complaint, if any."""
    program = target.program
    inputs = [program.source, *(GUEST / "lib").iterdir(), Path(__file__)]
    path = target.path
    if path.exists() and path.stat().st_mtime >= max(item.stat().st_mtime for item in inputs):
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    command = [
        *compiler_for(target.arch).command,
        *FLAGS,
        *VARIANT_FLAGS[target.variant],
        *program.words("cflags"),
        *("-o", str(partial), str(program.source)),
        *program.words("libs"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=GUEST)  # noqa: S603  # made above
    if done.returncode:
        return f"{target.id}: {shlex.join(command)}\n{done.stderr}"
    partial.replace(path)
    return None


def try_build(wanted: Iterable[Target]) -> dict[str, str]:
    """Compile all *wanted* that are out of date, on all cores, one builder at a time; the complaints by target."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    wanted = list(wanted)
    with (OUTPUT / ".lock").open("w") as lock, ThreadPoolExecutor(os.cpu_count()) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answers = pool.map(build, wanted)
        return {target.id: complaint for target, complaint in zip(wanted, answers, strict=True) if complaint}


def build_all(wanted: Iterable[Target]) -> None:
    """Compile all *wanted* that are out of date.

    Raises:
        SystemExit: some do not compile; the message says which and why.
    """
    complaints = try_build(wanted)
    if complaints:
        shown = "\n".join(list(complaints.values())[:3])
        raise SystemExit(f"{shown}\n{len(complaints)} guest programs do not compile: {' '.join(complaints)}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Build the guest programs.")
    parser.add_argument("--arch", choices=ARCHES, action="append", help="only this architecture")
    parser.add_argument("--only", metavar="TOPIC/NAME", action="append", help="only this program")
    parser.add_argument("--bench", action="store_true", help="the programs of the benchmark instead of the tests'")
    options = parser.parse_args()
    found = programs(("bench",) if options.bench else TOPICS)
    if options.only:
        found = [program for program in found if program.name in options.only]
        if len(found) != len(options.only):
            raise SystemExit(f"no such guest program among {', '.join(options.only)}")
    build_all(targets(found, options.arch or ARCHES))


if __name__ == "__main__":
    main()
