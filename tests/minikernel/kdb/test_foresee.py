"""What is foreseen of an access is what the kernel then decides: every fault that a program takes, foretold."""

from pathlib import Path

from minikernel.boot import System
from minikernel.events import Event, FaultKind, MmFaultFailed, MmFaultResolved, PageFaultUser
from minikernel.report.foresee import Foreseen, foresee
from tests.minikernel.kdb.test_machine import config, nowhere


def test_every_fault_of_a_program_was_foreseen(story: Path) -> None:
    wrong: list[tuple[Event, Foreseen]] = []
    kinds: set[FaultKind | int] = set()
    foreseen: list[Foreseen] = []

    with nowhere(), System(config(story, arguments=(b"fault",))) as system:
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
    assert wrong == []
    assert {
        FaultKind.ANON,
        FaultKind.FILE_READ,
        FaultKind.FILE_COW,
        FaultKind.COW_COPY,
        FaultKind.COW_REUSE,
        11,
    } <= kinds
