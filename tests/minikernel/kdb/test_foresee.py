"""What is foreseen of an access is what the kernel then decides: every fault that a program takes, foretold."""

from pathlib import Path

import pytest

from guest.builder import build_all, programs, targets
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Event, FaultKind, MmFaultFailed, MmFaultResolved, PageFaultUser
from minikernel.report.foresee import Foreseen, foresee
from tests.minikernel.kdb.test_machine import config, nowhere


def run(program: Config) -> tuple[set[FaultKind | int], list[tuple[Event, Foreseen]]]:
    """The kinds of faults that *program* takes, and those that were not foreseen."""
    wrong: list[tuple[Event, Foreseen]] = []
    kinds: set[FaultKind | int] = set()
    foreseen: list[Foreseen] = []

    with nowhere(), System(program) as system:
        kernel = system.kernel

        def hear(_icount: int, pid: int, event: Event) -> None:
            match event:
                case PageFaultUser(address, ip, error_code):
                    access = error_code & 2 or (0x10 if address == ip else error_code & 0x10)
                    foreseen.append(foresee(kernel.tasks[pid].mm, address, access))
                case MmFaultResolved(kind=kind) if foreseen:
                    kinds.add(kind)
                    if (told := foreseen.pop()).kind is not kind:
                        wrong.append((event, told))
                case MmFaultFailed(signal=signal, code=code) if foreseen:
                    kinds.add(signal)
                    if ((told := foreseen.pop()).signal, told.code) != (signal, code):
                        wrong.append((event, told))

        system.exec_init()
        kernel.tracer.sink = hear
        system.run()
    kernel.cpu.close()
    return kinds, wrong


def test_every_fault_of_a_program_was_foreseen(story: Path) -> None:
    kinds, wrong = run(config(story, arguments=(b"fault",)))
    assert wrong == []
    assert {
        FaultKind.ANON,
        FaultKind.FILE_READ,
        FaultKind.FILE_COW,
        FaultKind.COW_COPY,
        FaultKind.COW_REUSE,
        11,
    } <= kinds


@pytest.mark.slow
@pytest.mark.parametrize("name", ["huge.c", "huge_code.c", "hugetlb.c"])
def test_every_fault_on_huge_pages_was_foreseen(name: str, tmp_path: Path) -> None:
    target = next(one for one in targets(programs()) if one.arch == "x86-64" and one.program.source.name == name)
    build_all([target])
    pool = (("vm.nr_hugepages", "5"),)
    kinds, wrong = run(Config(argv=(bytes(target.path),), cwd=bytes(tmp_path), sysctls=pool))
    assert wrong == []
    assert FaultKind.HUGE_ANON in kinds
