"""What the kernel does for small programs, event by event: golden/*.trace, to be read by a person.

``pytest tests/golden --update-traces`` writes them anew.  Whoever changes one says why in the commit.
The programs are assembled without a linker (elf64.inc), so that every machine has the same bytes of them.
"""

import io
import subprocess
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from guest.toolchain import compiler_for
from minikernel.events import FaultKind
from minikernel.testing import Guest, GuestRun

HERE = Path(__file__).parent
SIGSEGV, SIGTERM = 11, 15


def build(name: str, folder: Path, arch: str) -> None:
    """Assemble NAME.S into the executable *folder*/NAME."""
    target = folder / "a.o"
    source = HERE / f"{name}.S"
    command = [*compiler_for(arch).command, "-c", "-Wa,-I" + str(HERE), "-o", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    elf = ELFFile(io.BytesIO(target.read_bytes()))
    target.unlink()
    program = folder / name
    text = elf.get_section_by_name(".text")
    assert text is not None
    program.write_bytes(text.data())
    program.chmod(0o755)


def run(guest: Guest, name: str, folder: Path, arch: str = "x86-64", **machine: Any) -> GuestRun:
    """Build NAME.S, and run it in a tree that has nothing else."""
    tree = folder / "tree"
    tree.mkdir()
    build(name, tree, arch)
    return guest.run(f"/{name}", root=tree, ram=16 << 20, env={}, uid=1000, gid=1000, groups=(), **machine)


def kinds(done: GuestRun) -> list[FaultKind]:
    """The branches that the faults at user addresses took."""
    return [fault.kind for fault in done.faults if fault.kind is not None]


@pytest.mark.golden_trace("fork_cow.trace")
def test_fork_shares_pages_until_somebody_writes(guest: Guest, tmp_path: Path) -> None:
    done = run(guest, "fork_cow", tmp_path)

    assert done.status == 2
    assert FaultKind.COW_COPY in kinds(done)
    assert FaultKind.COW_REUSE in kinds(done)
    assert [call.name for call in done.syscalls] == ["fork", "wait4", "exit_group", "exit_group"]


@pytest.mark.golden_trace("fork_cow32.trace")
def test_fork_on_the_i386_with_two_levels_of_tables(guest: Guest, tmp_path: Path) -> None:
    done = run(guest, "fork_cow32", tmp_path, "i386", cpu="i386", paging="2level")

    assert done.status == 2
    assert {FaultKind.FILE_COW, FaultKind.COW_COPY, FaultKind.COW_REUSE} <= set(kinds(done))
    assert [call.name for call in done.syscalls] == ["fork", "waitpid", "exit_group", "exit_group"]


@pytest.mark.golden_trace("mmap.trace")
def test_anonymous_memory(guest: Guest, tmp_path: Path) -> None:
    done = run(guest, "mmap", tmp_path)

    assert done.status == 128 + SIGSEGV
    assert FaultKind.ZERO_PAGE in kinds(done)
    assert [call.ret for call in done.syscalls[1:]] == [0, 0, 0]


@pytest.mark.golden_trace("swap.trace")
def test_pages_go_to_swap_and_come_back(guest: Guest, tmp_path: Path) -> None:
    done = run(guest, "swap", tmp_path, swap=1 << 20)

    assert done.status == 3
    assert kinds(done).count(FaultKind.SWAP_IN) == 3
    assert len(done.named("mm_swap_out")) == 3


@pytest.mark.golden_trace("signal.trace")
def test_a_handler_repairs_and_a_signal_kills(guest: Guest, tmp_path: Path) -> None:
    done = run(guest, "signal", tmp_path)

    assert done.status == 128 + SIGTERM
    assert [call.name for call in done.syscalls] == ["rt_sigaction", "mmap", "rt_sigreturn", "getpid", "kill"]
