"""Runs for the tests of blocks, instructions and accesses: recorded, and stepped for comparison."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from emu.cpu import RIP
from emu.exits import BudgetSpent, CpuExit
from guest.builder import Target, build_all, programs, targets
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Tracer
from minikernel.trace.outside import RecordingOutside
from minikernel.trace.record import Recorder
from minikernel.trace.select import Selection
from tests.minikernel.machine import streams

MACHINES: dict[str, dict[str, Any]] = {
    "x86-64": {},
    "pae": {"cpu": "i386", "paging": "pae"},
    "2level": {"cpu": "i386", "paging": "2level"},
}
"""Fields of Config by the machine's name."""


def guest_program(name: str, arch: str) -> Path:
    """The executable of guest/NAME for *arch*, built if need be."""
    topic, stem = name.split("/")
    chosen = [program for program in programs([topic]) if program.source.stem == stem]
    found: list[Target] = list(targets(chosen, [arch]))[:1]
    build_all(found)
    return found[0].path


@contextlib.contextmanager
def booted(program: str | Path, *args: str, **machine: Any) -> Iterator[tuple[System, RecordingOutside]]:
    """A machine whose standard streams are pipes, with no program yet."""
    argv = tuple(os.fsencode(str(word)) for word in (program, *args))
    config = Config(argv=argv, env=(b"PATH=/usr/bin:/bin",), root=b"/", cwd=b"/", **machine)
    with streams(b""):
        outside = RecordingOutside(config)
        with System(config, Tracer(), outside=outside) as system:
            yield system, outside
    system.kernel.cpu.close()


def record(
    path: Path, level: str, program: Path, *args: str, selection: Selection | None = None, **machine: Any
) -> int:
    """Write the trace *path*; the instruction count at the end."""
    with booted(program, *args, **machine) as (system, outside):
        kernel = system.kernel
        recorder = Recorder(kernel, outside, level=level, selection=selection)
        kernel.tracer.sink = recorder.sink
        system.exec_init()
        recorder.start(str(path), kernel.config.argv[0])
        system.run(recorder.run_cpu)
        recorder.finish(0)
        assert recorder.failure is None
        return kernel.cpu.icount


Step = Callable[[System, int, int], None]
"""Called after each step with what ran: (machine, instruction count before it, its address)."""


def step_through(program: Path, *args: str, look: Step, **machine: Any) -> int:
    """Run *program* one instruction at a time; the instruction count at the end."""
    with booted(program, *args, **machine) as (system, _):
        cpu = system.kernel.cpu
        system.exec_init()

        def steps(budget: int) -> CpuExit:
            end = cpu.icount + budget
            while True:
                before, rip = cpu.icount, cpu.regs[RIP]
                exit_ = cpu.step()
                if cpu.icount > before:
                    look(system, before, rip)
                if not isinstance(exit_, BudgetSpent) or cpu.icount >= end:
                    return exit_

        system.run(steps)
        return cpu.icount
