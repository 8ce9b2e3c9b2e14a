"""What `make bench` measures: each workload as the command that each engine runs, for both architectures."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench import sockets
from guest.builder import OUTPUT, ROOT
from tests.debian.rootfs import ARCHES, missing_tools, rootfs

INPUTS: Final = ROOT / ".cache" / "bench"
# The emulator under test is this checkout, run as the installed command runs it.
MINIKERNEL: Final = (sys.executable, "-m", "minikernel", "run")
BARE: Final = (sys.executable, "-m", "bench.bare_unicorn")
QEMU: Final = {"x86-64": "qemu-x86_64", "i386": "qemu-i386"}

LUA: Final = """
local t = {}
for i = 1, 60000 do t[i] = (i * 7919) % 10007 .. "" end
table.sort(t)
local n = 0
for i = 1, 300000 do n = n + (i % 7) * #t[i % 1000 + 1] end
print(t[1], t[#t], n, #table.concat(t, ","))
"""
SQL: Final = """
create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 8000)
  insert into t select i, 'name' || (i * 7919 % 8009), i * 1.5 from n;
create index by_name on t(name);
select count(*), sum(value), min(name), max(name) from t;
select substr(name, 1, 6), count(*), avg(value) from t group by 1 order by 2 desc, 1 limit 5;
select count(*) from t a join t b on a.id = b.id * 2 where a.name < b.name;
"""
TASKS: Final = frozenset(
    (
        "fork_wait",
        "fork_exec",
        "fork_pressure",
        "task_switch",
        "pipe_round_trip",
        "futex_round_trip",
        "signal_return",
        "sleepers",
    )
)
SHELL_LOOP: Final = "i=0; while [ $i -lt 100 ]; do (:); i=$((i+1)); done; echo $i"


@dataclass(frozen=True, slots=True)
class Workload:
    """One program and its arguments; *count* system calls or faults, where a figure for one of them is asked."""

    name: str
    arch: str
    base: str  # the workload whose time is start-up
    commands: dict[str, tuple[str, ...]]  # by engine
    per: str = ""
    count: int = 0


def qemu(arch: str) -> tuple[str, ...]:
    """qemu-user for *arch*; empty where it is not installed."""
    for name in (QEMU[arch], f"{QEMU[arch]}-static"):
        if path := shutil.which(name):
            return (path,)
    return ()


def _guest(arch: str, name: str, *args: str, base: str = "hello", per: str = "", count: int = 0) -> Workload:
    """A program of guest/bench; those of several tasks are too much for bare Unicorn."""
    program = (str(OUTPUT / arch / "bench" / name), *args)
    commands = {"native": program, "minikernel": (*MINIKERNEL, "--", *program)}
    if qemu(arch):
        commands["qemu-user"] = (*qemu(arch), *program)
    if not name.endswith(".dynamic") and name not in TASKS | sockets.NAMES:
        commands["bare Unicorn"] = (*BARE, *program)
    return Workload(name, arch, base, commands, per, count)


def _pressed(arch: str, name: str, program: str, *args: str, per: str, count: int) -> Workload:
    """A program of guest/bench that our machine has too little memory for; the others have enough."""
    made = _guest(arch, program, *args, per=per, count=count)
    command = (*MINIKERNEL, "--ram", "16M", "--swap", "128M", "--", *made.commands["native"])
    commands = {engine: words for engine, words in made.commands.items() if engine != "bare Unicorn"}
    return Workload(name, arch, made.base, {**commands, "minikernel": command}, per, count)


def _debian(arch: str, name: str, path: str, *args: str, base: str) -> Workload:
    """A Debian program; natively started by its own loader, so that it finds its own libraries."""
    root = rootfs(arch)
    program = str(root / path)
    native: tuple[str, ...] = (program, *args)
    if base == "hello.dynamic":
        triplet = "x86_64-linux-gnu" if arch == "x86-64" else "i386-linux-gnu"
        loader = next((root / "usr" / "lib" / triplet).glob("ld-linux*"))
        native = (str(loader), "--library-path", str(root / "usr" / "lib" / triplet), *native)
    bind = ("--root", str(root), "--bind", f"{INPUTS}:{INPUTS}")
    commands = {"native": native, "minikernel": (*MINIKERNEL, *bind, "--", f"/{path}", *args)}
    if qemu(arch):
        commands["qemu-user"] = (*qemu(arch), "-L", str(root), program, *args)
    return Workload(name, arch, base, commands)


def workloads() -> Iterator[Workload]:
    """All of them, start-up first."""
    INPUTS.mkdir(parents=True, exist_ok=True)
    (INPUTS / "script.lua").write_text(LUA)
    (INPUTS / "4MiB").write_bytes(bytes(i * i >> 4 & 0xFF for i in range(1 << 16)) * 64)
    (INPUTS / "16MiB").write_bytes(bytes(i * i >> 4 & 0xFF for i in range(1 << 16)) * 256)
    debian = not missing_tools()
    for arch in ARCHES:
        yield _guest(arch, "hello", base="")
        yield _guest(arch, "hello.dynamic", base="")
        for name in ("integer_loop", "store_loop", "recursion", "memory_copy"):
            yield _guest(arch, name)
        yield _guest(arch, "first_touch", per="anonymous fault", count=64 << 20 >> 12)
        yield _guest(arch, "null_call", per="null system call", count=200_000)
        yield _guest(arch, "file_read", str(INPUTS / "16MiB"), per="4 KiB read", count=4096)
        yield _guest(arch, "fork_wait", per="fork, 64 writes, exit, wait", count=200)
        yield _guest(arch, "fork_exec", per="fork, exec, exit, wait", count=100)
        yield _guest(arch, "task_switch", per="task switch (sched_yield)", count=40_000)
        yield _guest(arch, "pipe_round_trip", per="pipe round trip", count=10_000)
        yield _guest(arch, "futex_round_trip", per="futex round trip", count=10_000)
        for socket in sockets.WORKLOADS:
            yield _guest(arch, socket.name, per=socket.per, count=socket.times)
        yield _guest(arch, "signal_return", per="signal and return", count=20_000)
        yield _pressed(arch, "overcommit_order", "overcommit", per="page, 4x overcommitted, in order", count=3 << 14)
        yield _pressed(
            arch, "overcommit_random", "overcommit", "random", per="page, 4x overcommitted, at random", count=3 << 14
        )
        yield _pressed(arch, "fork_pressure", "fork_pressure", per="fork of 20 MiB in 16", count=20)
        yield _guest(arch, "sleepers", per="process that sleeps", count=1000)
        if debian:
            yield _debian(arch, "shell_forks", "usr/bin/dash", "-c", SHELL_LOOP, base="hello.dynamic")
            yield _debian(arch, "sha256", "usr/bin/busybox", "sha256sum", str(INPUTS / "4MiB"), base="hello")
            yield _debian(arch, "lua", "usr/bin/lua5.4", str(INPUTS / "script.lua"), base="hello.dynamic")
            yield _debian(arch, "sqlite3", "usr/bin/sqlite3", ":memory:", SQL, base="hello.dynamic")
