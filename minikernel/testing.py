r"""A pytest plugin: run a guest program in a test, and pin down what it does by a golden trace.

    def test_hello(guest):
        run = guest.run("./hello", "world")
        assert run.status == 0 and run.stdout == b"hello, world\n"
        assert [call.name for call in run.syscalls][-1] == "exit_group"

    @pytest.mark.golden_trace  # golden/test_fork.trace beside the test; --update-traces writes it
    def test_fork(guest):
        guest.run("./fork", root="build")

Runs are deterministic: the streams are the same pipes every time, the environment is empty but for PATH and LANG,
the clock is virtual.  More: docs/trace-format.md, README.md.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

# Nothing of the kernel is imported before a test asks for it: pytest loads this module in every run.
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from minikernel.config import Config
    from minikernel.events import Event, MmFaultFailed, MmFaultResolved
    from minikernel.fs.anon import DetachedFs
    from minikernel.fs.outside import Outside
    from minikernel.trace.codec import Told

_MARK: Final = "golden_trace"
_ENV: Final = {"PATH": "/usr/bin:/bin", "LANG": "C"}
_CONTEXT: Final = 3  # equal lines to show before the first that is not


@dataclass(frozen=True, slots=True)
class Syscall:
    """A system call of the run; *ret* None: it did not return."""

    pid: int
    name: str
    args: tuple[int, ...]
    ret: int | None


@dataclass(frozen=True, slots=True)
class GuestRun:
    """What came of one run."""

    status: int  # as the shell's $?: 128 + N when signal N killed it
    stdout: bytes
    stderr: bytes
    events: list[Told]  # (instruction count, pid, event) in their order

    def text(self) -> str:
        """The events as ``minikernel show`` prints them."""
        from minikernel.trace.text import line

        return "".join(line(told) + "\n" for told in self.events)

    def named(self, name: str) -> list[Event]:
        """The events called *name*."""
        return [event for _, _, event in self.events if event.name == name]

    @property
    def faults(self) -> list[MmFaultResolved | MmFaultFailed]:
        """How each page fault ended."""
        from minikernel.events import MmFaultFailed, MmFaultResolved

        return [event for _, _, event in self.events if isinstance(event, MmFaultResolved | MmFaultFailed)]

    @property
    def syscalls(self) -> list[Syscall]:
        """The system calls in the order of their starts."""
        from minikernel.events import SysEnter, SysExit, call_name

        found: list[Syscall] = []
        open_calls: dict[int, int] = {}
        for _, pid, event in self.events:
            if isinstance(event, SysEnter):
                open_calls[pid] = len(found)
                found.append(Syscall(pid, call_name(event.abi, event.nr), event.args, None))
            elif isinstance(event, SysExit) and pid in open_calls:
                at = open_calls.pop(pid)
                found[at] = Syscall(pid, found[at].name, found[at].args, event.ret)
        return found


class Guest:
    """Runs guest programs.  What a test gets by asking for ``guest``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._compiled = 0
        self.runs: list[GuestRun] = []

    def run(
        self,
        program: str | Path,
        *args: str,
        stdin: bytes = b"",
        env: dict[str, str] | None = None,
        root: str | Path = "/",
        cwd: str | Path = "/",
        **machine: Any,
    ) -> GuestRun:
        """Run *program* (a path in the guest) to its end; *machine*: more fields of minikernel.config.Config.

        Raises:
            LinuxError: it cannot be executed.
            Deadlock, InstructionLimit, KernelPanic, TimeLimit: it did not end by itself.
        """
        from minikernel.config import Config

        variables = _ENV if env is None else env
        config = Config(
            argv=tuple(os.fsencode(word) for word in (program, *args)),
            env=tuple(os.fsencode(f"{name}={value}") for name, value in variables.items()),
            root=os.fsencode(root),
            cwd=os.fsencode(cwd),
            **machine,
        )
        done = _run(config, stdin)
        self.runs.append(done)
        return done

    def compile(self, source: str, *flags: str, cc: Sequence[str] | None = None) -> Path:
        """The static program that the C text *source* becomes; *cc*: the compiler (default: $CC, or cc)."""
        self._compiled += 1
        program = self._folder / f"guest{self._compiled}"
        path = program.with_suffix(".c")
        path.write_text(source, encoding="utf-8")
        command = [*(cc or shlex.split(os.environ.get("CC", "cc"))), "-static", "-O1", "-g", "-o", str(program)]
        done = subprocess.run([*command, *flags, str(path)], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            pytest.fail(f"{shlex.join(command)} failed:\n{done.stderr}", pytrace=False)
        return program


def _run(config: Config, stdin: bytes) -> GuestRun:
    from minikernel.boot import System
    from minikernel.events import Tracer
    from minikernel.report.sinks import Recorder

    taps = {0: _Tap(stdin), 1: _Tap(), 2: _Tap()}
    recorder, tracer = Recorder(), Tracer()
    outside = _outside(config, taps)
    with closing(outside), System(config, tracer, outside=outside) as system:
        tracer.sink = recorder
        try:
            system.exec_init()
            code = system.run()
        finally:
            tracer.sink = None
    system.kernel.cpu.close()
    status = 128 + (code & 0x7F) if code & 0x7F else code >> 8
    return GuestRun(status, taps[1].output(), taps[2].output(), recorder.events)


class _Tap:
    """One of the guest's streams: *data* to read, and a place for what is written."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._written: list[bytes] = []

    def read(self, count: int, _host: Callable[[int], bytes]) -> bytes:
        """The next bytes."""
        data, self._data = self._data[:count], self._data[count:]
        return data

    def write(self, data: bytes, _host: Callable[[bytes], int]) -> int:
        """Everything is taken at once."""
        self._written.append(bytes(data))
        return len(data)

    @staticmethod
    def poll(_host: Callable[[], int]) -> int:
        """Always ready."""
        from minikernel.abi.poll import READABLE, WRITABLE

        return READABLE | WRITABLE

    @staticmethod
    def ioctl(request: int, data: bytes | int, host: Callable[[int, bytes | int], bytes]) -> bytes:
        """As a pipe of the host says."""
        return host(request, data)

    def output(self) -> bytes:
        """All that was written."""
        return b"".join(self._written)


def _outside(config: Config, taps: dict[int, _Tap]) -> Outside:
    """A host whose standard streams are *taps*; to the guest they are pipes that say the same in every run."""
    from minikernel.fs.hostio import HostInode
    from minikernel.fs.outside import Outside, Stream
    from minikernel.trace.outside import pin_streams

    class Streams(Outside):
        """Pipes of our own: nothing comes from our own descriptors 0, 1 and 2."""

        def __init__(self) -> None:
            super().__init__()
            self.ends: list[int] = []

        def streams(self, sb: DetachedFs) -> dict[int, Stream]:
            """Three pipes."""
            found = {}
            for fd, tap in taps.items():
                ends = os.pipe2(os.O_CLOEXEC)
                self.ends += ends
                inode = HostInode(sb, ends[min(fd, 1)])
                inode.tap = tap
                found[fd] = Stream(inode, inode.host_fd, os.O_WRONLY if fd else os.O_RDONLY)
            pin_streams(sb.dev, found, config.uid, config.gid)
            return found

        def close(self) -> None:
            """Close the pipes: after the machine."""
            for end in self.ends:
                os.close(end)

    return Streams()


# ---- pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-traces``."""
    group = parser.getgroup("minikernel")
    group.addoption("--update-traces", action="store_true", help="write golden traces instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    """The mark."""
    config.addinivalue_line("markers", f"{_MARK}(path=None): what the test's guest runs do is pinned down in a file")


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    """Runs guest programs on an emulated machine."""
    return Guest(tmp_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """After a test with a golden trace: compare."""
    result = yield
    mark = item.get_closest_marker(_MARK)
    if mark is not None:
        _check_golden(item, *mark.args, **mark.kwargs)
    return result


def _check_golden(item: pytest.Item, path: str | None = None) -> None:
    __tracebackhide__ = True
    runner = getattr(item, "funcargs", {}).get("guest")
    if not isinstance(runner, Guest) or not runner.runs:
        pytest.fail(f"a test with a {_MARK} runs a program with the fixture `guest`", pytrace=False)
    golden = item.path.parent / (path or f"golden/{item.name}.trace")
    now = "".join(run.text() for run in runner.runs)
    if item.config.getoption("update_traces"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(now, encoding="utf-8")
        return
    if not golden.exists():
        pytest.fail(f"{golden} is not there: --update-traces writes it", pytrace=False)
    difference = first_difference(golden.read_text(encoding="utf-8"), now)
    if difference:
        shown = os.path.relpath(golden, item.config.rootpath)
        pytest.fail(f"{shown}:{difference}\n--update-traces accepts what is now", pytrace=False)


def first_difference(golden: str, now: str) -> str:
    """``LINE: first divergence`` with what was there, is there now, and stands before; "" for equal texts."""
    if golden == now:
        return ""
    was, are = golden.splitlines(), now.splitlines()
    common = next(_unequal(was, are))
    before = [f"            {line}" for line in was[max(common - _CONTEXT, 0) : common]]
    ends = "(the trace is over)"
    lines = [
        *before,
        f"  golden    {was[common] if common < len(was) else ends}",
        f"  now       {are[common] if common < len(are) else ends}",
    ]
    return f"{common + 1}: first divergence ({len(was)} lines, now {len(are)})\n" + "\n".join(lines)


def _unequal(first: Sequence[str], second: Sequence[str]) -> Iterator[int]:
    """The indices at which two lists differ; behind the shorter at last."""
    for index, (ours, theirs) in enumerate(zip(first, second, strict=False)):
        if ours != theirs:
            yield index
    yield min(len(first), len(second))
