"""Exceptions become the signals that the host sends for them: number, code, address, and what the frame will say."""

from collections.abc import Iterator
from typing import Final

import pytest

from emu.cpu import RAX, RCX, RDX, RIP
from emu.exits import CpuException
from emu.x86 import (
    VEC_AC,
    VEC_BP,
    VEC_BR,
    VEC_DB,
    VEC_DE,
    VEC_GP,
    VEC_MF,
    VEC_NP,
    VEC_OF,
    VEC_SS,
    VEC_TS,
    VEC_UD,
    VEC_XM,
)
from minikernel.abi import signal as s
from minikernel.abi.abi import X86_64
from minikernel.task.exec import do_execve
from minikernel.traps import exception_signal
from tests.minikernel.task.programs import BASE, Machine, program

ENTRY: Final = BASE[X86_64] + 0x1000


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("root"))
    yield made
    made.close()


def load(machine: Machine, code: bytes = b"\x90") -> None:
    do_execve(machine.task, machine.write(f"p{code.hex()}", program(X86_64, code)), [b"x"], [])


def told(machine: Machine, exception: CpuException) -> tuple[int, int, int] | None:
    """(signal, code, address) of *exception* at the program's entry; None if it was served."""
    info = exception_signal(machine.kernel, machine.task, exception)
    return (info.signo, info.code, info.addr) if info else None


@pytest.mark.parametrize(
    ("vector", "software", "expected"),
    [
        (VEC_DE, False, (s.SIGFPE, s.FPE_INTDIV, ENTRY)),
        (VEC_DB, False, (s.SIGTRAP, s.TRAP_TRACE, ENTRY)),
        (VEC_BP, True, (s.SIGTRAP, s.SI_KERNEL, 0)),
        (VEC_OF, True, (s.SIGSEGV, s.SI_KERNEL, 0)),
        (VEC_BR, False, (s.SIGSEGV, s.SI_KERNEL, 0)),
        (VEC_UD, False, (s.SIGILL, s.ILL_ILLOPN, ENTRY)),
        (VEC_NP, False, (s.SIGBUS, s.SI_KERNEL, 0)),
        (VEC_SS, False, (s.SIGBUS, s.SI_KERNEL, 0)),
        (VEC_AC, False, (s.SIGBUS, s.BUS_ADRALN, ENTRY)),
        (VEC_GP, False, (s.SIGSEGV, s.SI_KERNEL, 0)),
        (VEC_TS, False, (s.SIGSEGV, s.SI_KERNEL, 0)),  # iret with NT set, in 32-bit code
    ],
)
def test_each_vector_has_its_signal(
    machine: Machine, vector: int, software: bool, expected: tuple[int, int, int]
) -> None:
    load(machine)

    assert told(machine, CpuException(vector, 0, software)) == expected
    assert (machine.task.trap_nr, machine.task.error_code) == (vector, 0)
    assert machine.kernel.cpu.regs[RIP] == ENTRY


@pytest.mark.parametrize("vector", [0, 1, 2, 5, 6, 8, 13, 14, 0x20, 0x81, 0xFF])
def test_an_interrupt_that_programs_may_not_call_is_a_protection_fault_at_the_instruction(
    machine: Machine, vector: int
) -> None:
    """The error code names the gate: SDM vol. 3A, 6.13."""
    load(machine)
    machine.kernel.cpu.regs[RIP] = ENTRY + 2

    assert told(machine, CpuException(vector, 0, software=True)) == (s.SIGSEGV, s.SI_KERNEL, 0)
    assert machine.kernel.cpu.regs[RIP] == ENTRY
    assert (machine.task.trap_nr, machine.task.error_code) == (VEC_GP, vector << 3 | 2)


def fpu(machine: Machine, *, control: int = 0x37F, status: int = 0, mxcsr: int = 0x1F80) -> None:
    image = bytearray(machine.kernel.user_mode.init_fpstate)
    image[0:2], image[2:4] = control.to_bytes(2, "little"), status.to_bytes(2, "little")
    image[24:28] = mxcsr.to_bytes(4, "little")
    machine.kernel.cpu.fxrstor(bytes(image))


@pytest.mark.parametrize(
    ("bit", "code"),
    [(0, s.FPE_FLTINV), (1, s.FPE_FLTUND), (2, s.FPE_FLTDIV), (3, s.FPE_FLTOVF), (4, s.FPE_FLTUND), (5, s.FPE_FLTRES)],
)
def test_floating_point_exceptions_have_codes(machine: Machine, bit: int, code: int) -> None:
    load(machine)
    fpu(machine, control=0x37F & ~(1 << bit), status=1 << bit)
    assert told(machine, CpuException(VEC_MF, 0)) == (s.SIGFPE, code, ENTRY)

    fpu(machine, mxcsr=(0x1F80 & ~(0x80 << bit)) | 1 << bit)
    assert told(machine, CpuException(VEC_XM, 0)) == (s.SIGFPE, code, ENTRY)


def test_masked_floating_point_exceptions_are_none(machine: Machine) -> None:
    load(machine)
    fpu(machine, status=0x3F)

    assert told(machine, CpuException(VEC_MF, 0)) is None


def test_of_two_unmasked_exceptions_the_first_in_linuxs_order_counts(machine: Machine) -> None:
    load(machine)
    fpu(machine, control=0x340, status=0x24)

    assert told(machine, CpuException(VEC_MF, 0)) == (s.SIGFPE, s.FPE_FLTDIV, ENTRY)


@pytest.mark.parametrize(("code", "processor"), [(b"\x0f\x31", 0x77), (b"\x0f\x01\xf9", 0)], ids=["rdtsc", "rdtscp"])
def test_the_time_stamp_counter_is_the_virtual_clock(machine: Machine, code: bytes, processor: int) -> None:
    """It counts as an instruction, and the next one reads more."""
    load(machine, code)
    cpu = machine.kernel.cpu
    cpu.regs[RCX] = 0x77
    cpu.icount = 0x1_2345_6789
    now = machine.kernel.clock.now_ns()

    assert told(machine, CpuException(VEC_GP, 0)) is None
    assert (cpu.regs[RDX] << 32 | cpu.regs[RAX]) == now
    assert (cpu.regs[RIP], cpu.regs[RCX]) == (ENTRY + len(code), processor)
    assert cpu.icount == 0x1_2345_678A


@pytest.mark.parametrize("code", [b"\xf4", b"\x0f\x01\xd8", b"\x0f\x32"])
def test_other_privileged_instructions_are_not_served(machine: Machine, code: bytes) -> None:
    load(machine, code)

    assert told(machine, CpuException(VEC_GP, 0)) == (s.SIGSEGV, s.SI_KERNEL, 0)


def test_a_fault_whose_instruction_cannot_be_read_is_not_served(machine: Machine) -> None:
    """A jump to an address that is not canonical."""
    load(machine)
    machine.kernel.cpu.regs[RIP] = 1 << 62

    assert told(machine, CpuException(VEC_GP, 0)) == (s.SIGSEGV, s.SI_KERNEL, 0)


def test_a_vector_that_user_mode_cannot_raise_is_our_bug(machine: Machine) -> None:
    load(machine)
    with pytest.raises(AssertionError, match="vector 8"):
        exception_signal(machine.kernel, machine.task, CpuException(8, 0))
