r"""A pytest plugin: run a guest program in a test, and pin down what it does by a golden trace.

    def test_hello(guest):
        run = guest.run("./hello", "world")
        assert run.status == 0 and run.stdout == b"hello, world\n"
        assert [call.name for call in run.syscalls][-1] == "exit_group"

    @pytest.mark.golden_trace  # golden/test_fork.trace beside the test; --update-traces writes it
    def test_fork(guest):
        guest.run("./fork", root="build")

Runs are deterministic: the streams are the same pipes every time, the environment is empty but for PATH and LANG,
the clock is virtual.  More: docs/testing.md.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

# Nothing of the kernel is imported before a test asks for it: pytest loads this module in every run.
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from minikernel.api import Fault, Machine, Occurrence, Syscall
    from minikernel.events import Event

_MARK: Final = "golden_trace"
_CONTEXT: Final = 3  # equal lines to show before the first that is not


@dataclass(frozen=True, slots=True)
class GuestRun:
    """What came of one run."""

    status: int  # as the shell's $?: 128 + N when signal N killed it
    stdout: bytes
    stderr: bytes
    events: list[Occurrence]  # (instruction count, pid, event) in their order
    faults: list[Fault]  # how each page fault ended
    machine: Machine = field(repr=False, compare=False)  # closed, so it has neither tasks nor memory

    def text(self) -> str:
        """The events as ``minikernel show`` prints them."""
        from minikernel.trace.text import line

        return "".join(line(told) + "\n" for told in self.events)

    def named(self, name: str) -> list[Event]:
        """The events called *name*."""
        return [event for _, _, event in self.events if event.name == name]

    @property
    def peak_memory(self) -> int:
        """Bytes: the most that the first process had in RAM at one time."""
        return self.machine.peak_memory

    @property
    def syscalls(self) -> list[Syscall]:
        """The system calls in the order of their starts."""
        from minikernel.api.views import calls_of

        return calls_of(self.events)


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
        with self.machine(program, *args, stdin=stdin, env=env, root=root, cwd=cwd, **machine) as booted:
            status = booted.run()
        assert status is not None, "Guest.run: somebody stopped the machine"
        done = GuestRun(status, booted.stdout, booted.stderr, booted.events, booted.faults, booted)
        self.runs.append(done)
        return done

    def machine(self, program: str | Path, *args: str, **machine: Any) -> Machine:
        """A machine with *program* in front of its first instruction, to be stopped and looked at (docs/api.md)."""
        from minikernel.api import Machine

        return Machine(program, *args, **machine)

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
        fresh = golden.with_name(
            f".{golden.name}.{os.getpid()}"
        )  # tests in other processes see the old file, or the new
        fresh.write_text(now, encoding="utf-8")
        fresh.replace(golden)
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
