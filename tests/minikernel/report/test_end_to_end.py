"""The reports of real programs on the emulated CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from guest.builder import ROOT, Target, build_all, programs, targets
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import FaultKind, MmFaultFailed, MmFaultResolved
from minikernel.report.sinks import Recorder, combine
from tests.minikernel.report.auditor import Auditor

TARGETS = {found.id: found for found in targets(programs())}
NAMES = ("start/tour", "fault/cow_zero", "fault/segv", "fault/sigbus", "fault/stack_growth", "fault/private_file",
         "fault/shared_file", "fault/guard_gap", "mm/mremap", "code/jit_toggle")  # fmt: skip
MACHINES: dict[str, tuple[tuple[str, str], ...]] = {
    "x86-64": (("x86-64", "pae"),),
    "i386": (("x86-64", "pae"), ("i386", "pae"), ("i386", "2level")),
}


def cases() -> list[ParameterSet]:
    """(target, machine, paging)."""
    return [
        pytest.param(TARGETS[f"{arch}/{name}"], cpu, paging, id=f"{arch}-{cpu}-{paging}-{name}")
        for arch, machines in MACHINES.items()
        for name in NAMES
        if f"{arch}/{name}" in TARGETS
        for cpu, paging in machines
    ]


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    wanted = ("fault/", "start/", "mm/mremap", "code/jit_toggle")
    build_all([found for found in TARGETS.values() if found.program.name.startswith(wanted)])


class Explained:
    """A run, its events and its explanations."""

    def __init__(
        self, target: Target, cwd: Path, *, cpu: str = "x86-64", paging: str = "pae", explain: bool = True
    ) -> None:
        argv = (os.fsencode(target.path),)
        config = Config(argv=argv, env=(b"LANG=C",), cwd=os.fsencode(cwd), cpu=cpu, paging=paging, ram=64 << 20)
        self.recorder = Recorder()
        with System(config) as system:
            kernel = system.kernel
            self.auditor = Auditor(kernel)
            kernel.tracer.sink = combine(self.recorder, self.auditor) if explain else self.recorder
            system.exec_init()
            self.code = system.run()
            self.icount = kernel.cpu.icount


@pytest.mark.slow
@pytest.mark.parametrize(("target", "cpu", "paging"), cases())
def test_every_fault_is_explained(target: Target, cpu: str, paging: str, tmp_path: Path) -> None:
    """As it was foreseen, and by a function of our tree; `make explain-all` does the same with all guest programs."""
    run = Explained(target, tmp_path, cpu=cpu, paging=paging)
    ends = [
        event
        for _, _, event in run.recorder.events
        if isinstance(event, MmFaultFailed)
        or (isinstance(event, MmFaultResolved) and event.kind is not FaultKind.STACK_GROWTH)
    ]
    assert len(run.auditor.stories) == len(ends) > 5
    assert run.auditor.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("id_", ["x86-64/start/tour", "i386/fault/private_file", "x86-64/start/hello.dynamic"])
def test_explaining_changes_nothing(id_: str, tmp_path: Path) -> None:
    """Not an event, not a frame, not an instruction."""
    explained = Explained(TARGETS[id_], tmp_path)
    plain = Explained(TARGETS[id_], tmp_path, explain=False)
    assert explained.recorder.text() == plain.recorder.text()
    assert (explained.code, explained.icount) == (plain.code, plain.icount)


def command(tmp_path: Path, id_: str, *options: str) -> subprocess.CompletedProcess[str]:
    """``minikernel run`` as a user would call it."""
    words = [sys.executable, "-m", "minikernel", "run", *options, "--", str(TARGETS[id_].path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["x86-64", "i386"])
@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("fatal_segv", 139, ["SEGV_MAPERR", "a NULL pointer plus 16", "main+", "fatal_segv.c:9"]),
        ("fatal_null_call", 139, ["jumped to 0x0", "nothing is mapped", "main+", "fatal_null_call.c"]),
        ("fatal_fpe", 136, ["FPE_INTDIV", "division by zero", "idiv"]),
        ("fatal_ill", 132, ["ILL_ILLOPN", "0f 0b", "ud2"]),
        ("fatal_stack", 139, ["stack overflow", "limit of 1 MiB", "forever+"]),
        ("fatal_trap", 133, ["int3", "fatal_trap.c"]),
        ("fatal_bus", 135, ["SI_TKILL", "raise"]),
    ],
)
def test_crash_report(name: str, status: int, words: list[str], arch: str, tmp_path: Path) -> None:
    done = command(tmp_path, f"{arch}/fault/{name}")
    assert done.returncode == status
    assert "was killed by" in done.stderr
    assert [word for word in words if word not in done.stderr] == []
    assert ("eax " if arch == "i386" else "rax ") in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 30


@pytest.mark.slow
def test_signal_that_dumps_no_core_makes_no_report(tmp_path: Path) -> None:
    done = command(tmp_path, "x86-64/fault/fatal_term")
    assert (done.returncode, done.stderr) == (143, "")


@pytest.mark.slow
def test_stats_as_text_and_as_json(tmp_path: Path) -> None:
    done = command(tmp_path, "x86-64/start/tour", "--stats")
    assert "page faults" in done.stderr
    file = tmp_path / "stats.json"
    command(tmp_path, "x86-64/start/tour", f"--stats={file}")
    figures = json.loads(file.read_bytes())
    assert figures["faults"]["failed"] == {"SIGBUS": 1, "SIGSEGV": 2}
    assert figures["instructions"] > 1000
    assert figures["pages"]["peak_rss"] > 10
    assert figures["exits"] == 1


@pytest.mark.slow
def test_explain_prints_a_line_for_each_fault(tmp_path: Path) -> None:
    done = command(tmp_path, "x86-64/start/tour", "--explain")
    lines = done.stderr.splitlines()
    assert lines[0].split()[0] == "#"
    assert any("poke guest.h" in line and "new page, for the zero page" in line for line in lines)
    assert "\x1b" not in done.stderr
