"""A machine that is paused, stepped and watched runs exactly as one that is left alone."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from emu.cpu import RIP
from minikernel.boot import System
from minikernel.config import Config
from minikernel.kdb.machine import Machine, Pause, Why
from tests.minikernel.kdb.conftest import build


@contextmanager
def nowhere() -> Iterator[None]:
    """The guest asks for fstat of its output, and has the answer in memory: a pipe would have changed its times."""
    kept = [os.dup(fd) for fd in range(3)]
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    try:
        yield
    finally:
        for fd, copy in enumerate(kept):
            os.dup2(copy, fd)
            os.close(copy)
        os.close(null)


def config(program: Path, *, slice_: int = 2_000_000, arguments: tuple[bytes, ...] = ()) -> Config:
    return Config(argv=(bytes(program), *arguments), env=(b"LANG=C",), ram=16 << 20, slice=slice_)


@contextmanager
def machine(program: Path, *, slice_: int = 2_000_000) -> Iterator[Machine]:
    with nowhere(), System(config(program, slice_=slice_)) as system:
        system.exec_init()
        yield Machine(system)
    system.kernel.cpu.close()


def left(it: Machine) -> tuple[object, ...]:
    """All that a run leaves."""
    kernel = it.kernel
    return (
        kernel.exit_code,
        kernel.cpu.icount,
        kernel.nr_switches,
        kernel.nr_syscalls,
        hashlib.sha256(kernel.physmem.ram).hexdigest(),
    )


def free(program: Path, slice_: int = 2_000_000) -> tuple[object, ...]:
    with machine(program, slice_=slice_) as it:
        it.system.run()
        return left(it)


def drive(program: Path, how: Callable[[Machine], Pause], slice_: int = 2_000_000) -> tuple[object, ...]:
    with machine(program, slice_=slice_) as it:
        while how(it).why is not Why.EXITED:
            pass
        return left(it)


@pytest.mark.parametrize("slice_", [997, 2_000_000])
def test_a_run_in_the_debugger_is_the_free_run(story: Path, slice_: int) -> None:
    expected = free(story, slice_)

    assert drive(story, lambda it: it.run(), slice_) == expected


@pytest.mark.parametrize("slice_", [997, 2_000_000])
def test_a_run_that_is_stopped_every_so_often_is_the_free_run(story: Path, slice_: int) -> None:
    expected = free(story, slice_)

    assert drive(story, lambda it: it.run(until=it.icount + 1777), slice_) == expected


@pytest.mark.slow
@pytest.mark.parametrize("slice_", [97, 2_000_000])
def test_a_run_by_single_steps_is_the_free_run(story: Path, slice_: int) -> None:
    expected = free(story, slice_)

    assert drive(story, lambda it: it.step(), slice_) == expected


def test_a_count_is_met_exactly(story: Path) -> None:
    with machine(story) as it:
        for target in (1, 2, 1000, 5000, 5001):
            assert it.run(until=target).why is Why.COUNTED
            assert it.icount == target


def test_a_step_is_one_instruction(story: Path) -> None:
    with machine(story) as it:
        for count in range(1, 200):
            assert it.step() == Pause(Why.STEPPED)
            assert it.icount == count


def test_a_breakpoint_is_met_each_time_and_changes_nothing(story: Path) -> None:
    expected = free(story)
    with machine(story) as it:
        it.run(until=3000)
        here = it.kernel.cpu.regs[RIP]
    with machine(story) as it:
        it.arm({here})
        counts = []
        while it.run().why is Why.BREAK:
            assert it.kernel.cpu.regs[RIP] == here
            counts.append(it.icount)
        assert 3000 in counts
        assert counts == sorted(set(counts))
        assert left(it) == expected


def test_a_run_is_stopped_from_outside(story: Path) -> None:
    with machine(story) as it:
        it.interrupt()
        assert it.run().why is Why.INTERRUPTED
        assert it.run().why is Why.EXITED
        assert it.run().why is Why.EXITED


@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_an_i386_machine_pauses_as_exactly(paging: str) -> None:
    program = build("i386", "story")
    ends = []
    for every in (None, 333):
        settings = replace(config(program, slice_=997), cpu="i386", paging=paging)
        with nowhere(), System(settings) as system:
            system.exec_init()
            it = Machine(system)
            while it.run(until=it.icount + every if every else None).why is not Why.EXITED:
                pass
            ends.append(left(it))
        system.kernel.cpu.close()
    assert ends[0] == ends[1]
