"""Whole runs: the same run every time, whatever the length of a slice; and what a machine refuses to be."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from emu.cpu import Cpu
from emu.exits import BudgetSpent, CpuExit
from guest.toolchain import compiler_for
from minikernel.abi.abi import I386, X86_64
from minikernel.boot import System, machine_layout
from minikernel.config import Config
from minikernel.entry import Deadlock, InstructionLimit
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LAYOUT
from tests.minikernel.task.programs import program

# It writes without stdio, which would look at the host's file behind standard output: its times differ.
_BUSY: Final = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int alarms;
static volatile unsigned long at_alarm[64], turn;

static void on_alarm(int sig)
{
    (void)sig;
    if (alarms < 64) at_alarm[alarms] = turn;
    alarms++;
}

#define say(...) write(1, text, (unsigned long)snprintf(text, sizeof text, __VA_ARGS__))

int main(void)
{
    struct itimerval every = {{0, 500}, {0, 300}};
    unsigned long hash = 1469598103934665603ull;
    struct timespec now;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    char *blocks[50], text[200];
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    for (turn = 0; turn < 20000; turn++) {
        if (turn < 50) memset(blocks[turn] = malloc(20000 + turn * 100), (int)turn, 20000);
        hash = (hash ^ (unsigned long)blocks[turn % 50 < turn ? turn % 50 : 0][turn % 20000]) * 1099511628211ull;
        if (turn % 1000 == 0) hash ^= (unsigned long)read(0, text, 0);
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    say("%lx %d %ld.%09ld %p\n", hash, alarms, (long)now.tv_sec, now.tv_nsec, (void *)blocks[49]);
    for (int i = 0; i < alarms && i < 64; i++) say("%lu ", at_alarm[i]);
    for (int i = 0; i < 16; i++) say("%02x", ((unsigned char *)getauxval(AT_RANDOM))[i]);
    say("\n");
    return 7;
}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest's root directory with one busy program for each ABI."""
    folder = tmp_path_factory.mktemp("root")
    source = folder / "busy.c"
    source.write_text(_BUSY)
    for arch in ("x86-64", "i386"):
        command = [*compiler_for(arch).command, "-O1", "-static", "-w", "-o", str(folder / arch), str(source)]
        subprocess.run(command, check=True)
    for abi in (X86_64, I386):
        (folder / f"exit-{abi.name}").write_bytes(program(abi))
        (folder / f"exit-{abi.name}").chmod(0o755)
    return folder


def config(root: Path, name: str, **options: object) -> Config:
    return Config(argv=(b"/" + name.encode(),), root=bytes(root), ram=64 << 20, **options)  # type: ignore[arg-type]


def step_by_step(cpu: Cpu) -> Callable[[int], CpuExit]:
    """What ``cpu.run`` does, one instruction at a time."""

    def run(budget: int) -> CpuExit:
        end = cpu.icount + budget
        while isinstance(exit_ := cpu.step(), BudgetSpent) and cpu.icount < end:
            pass
        return exit_

    return run


def run(capfd: pytest.CaptureFixture[str], config: Config, *, stepped: bool = False) -> tuple[int, str, int, str]:
    """Exit code, output, instructions and a hash of all RAM."""
    system = System(config)
    if stepped:
        system.kernel.cpu.run = step_by_step(system.kernel.cpu)  # type: ignore[assignment,method-assign]  # this one
    with system:
        system.exec_init()
        code = system.run()
    kernel = system.kernel
    digest = hashlib.sha256(kernel.physmem.view8).hexdigest()
    result = code, capfd.readouterr().out, kernel.cpu.icount, digest
    kernel.cpu.close()
    return result


@pytest.mark.parametrize(
    ("name", "options"),
    [("x86-64", {}), ("i386", {}), ("i386", {"cpu": "i386"}), ("i386", {"cpu": "i386", "paging": "2level"})],
    ids=["x86-64", "i386 on x86-64", "i386 with PAE", "i386 with 2 levels"],
)
def test_the_same_machine_runs_the_same(
    root: Path, capfd: pytest.CaptureFixture[str], name: str, options: dict[str, object]
) -> None:
    """To the last byte of RAM."""
    first = run(capfd, config(root, name, **options))

    assert first[0] == 7 << 8
    assert first[1].split()[1] > "1", "alarms came"
    assert run(capfd, config(root, name, **options)) == first


@pytest.mark.parametrize("name", ["x86-64", "i386"])
def test_slices_of_any_length_change_nothing_that_one_task_sees(
    root: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """Not even where its alarms interrupt it."""
    expected = run(capfd, config(root, name))

    for length in (499, 10_007, 1 << 40):
        assert run(capfd, config(root, name, slice=length)) == expected
    stepped = run(capfd, config(root, name), stepped=True)
    assert stepped[0] == expected[0]
    # Timers expire at the end of a block when it runs free, and at the instruction when it is stepped.
    assert stepped[1].split()[:2] == expected[1].split()[:2]


def test_another_seed_draws_other_numbers(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = (run(capfd, config(root, "x86-64", seed=seed)) for seed in (1, 2))

    assert first[1].split()[-1] != second[1].split()[-1]
    assert first[1].split()[:2] == second[1].split()[:2]
    assert first[3] != second[3]


@pytest.mark.parametrize(
    ("abi", "options", "count"),
    [(X86_64, {}, 3), (I386, {}, 3), (I386, {"cpu": "i386"}, 3), (I386, {"cpu": "i386", "paging": "2level"}, 3)],
)
def test_three_instructions_are_counted_as_three(
    root: Path, capfd: pytest.CaptureFixture[str], abi: object, options: dict[str, object], count: int
) -> None:
    """mov, xor and the system call, from the first instruction of the program."""
    name = "exit-x86-64" if abi is X86_64 else "exit-i386"

    code, _, icount, _ = run(capfd, config(root, name, **options))

    assert (code, icount) == (0, count)


def test_a_run_ends_at_its_limit_of_instructions(root: Path) -> None:
    system = System(config(root, "x86-64", max_instructions=100_000))
    with system:
        system.exec_init()
        with pytest.raises(InstructionLimit, match="100000"):
            system.run()
    assert 100_000 <= system.kernel.cpu.icount < 100_600, "it stops at the end of a block"
    system.kernel.cpu.close()


def test_a_task_that_nothing_can_wake_is_a_deadlock(root: Path) -> None:
    pause = root / "pause"
    pause.write_bytes(program(X86_64, b"\xb8\x22\x00\x00\x00\x0f\x05"))
    pause.chmod(0o755)
    system = System(config(root, "pause"))
    with system:
        system.exec_init()
        with pytest.raises(Deadlock, match="sleep"):
            system.run()
    system.kernel.cpu.close()


def test_the_books_balance_when_the_power_goes(root: Path) -> None:
    """All that is left are the kernel's own frames and the files' pages."""
    system = System(config(root, "x86-64"))
    with system:
        system.exec_init()
        free = system.kernel.node.nr_free
        system.power_off()
        assert system.kernel.node.nr_free > free
        assert not system.kernel.tasks
    system.kernel.cpu.close()


def test_two_machines_do_not_know_of_each_other(root: Path) -> None:
    one, other = (System(config(root, name)) for name in ("exit-x86-64", "exit-i386"))
    with one, other:
        one.exec_init()
        other.exec_init()
        assert (other.run(), one.run()) == (0, 0)
        assert one.kernel.cpu.icount == other.kernel.cpu.icount == 3
    one.kernel.cpu.close()
    other.kernel.cpu.close()


@pytest.mark.parametrize("ram", [0, 4095, (4 << 20) - 4096, (3 << 30) + 4096])
def test_ram_that_cannot_be_is_refused(root: Path, ram: int) -> None:
    with pytest.raises(ValueError, match="RAM must be"):
        System(Config(argv=(b"/x",), root=bytes(root), ram=ram))


def test_each_machine_has_its_memory_map() -> None:
    def layout(**options: str) -> object:
        return machine_layout(Config(argv=(b"/x",), **options))  # type: ignore[arg-type]

    assert layout() is layout(paging="2level") is X86_64_LAYOUT
    assert layout(cpu="i386") is I386_PAE_LAYOUT
    assert layout(cpu="i386", paging="2level") is I386_2LEVEL_LAYOUT
