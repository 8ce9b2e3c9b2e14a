"""Exceptions: which ones the emulated processor raises at CPL 3, and what it leaves in RIP and the error word.

Facts of Unicorn, one test each; the traps have the numbers of "Quirks" in emu/README.md.
"""

import struct
from typing import Any

import pytest
from unicorn import UC_HOOK_INSN
from unicorn import x86_const as reg

from emu.x86 import (
    CR0_AM,
    CR4_TSD,
    FLAG_AC,
    FLAG_OF,
    FLAG_TF,
    VEC_BP,
    VEC_BR,
    VEC_DB,
    VEC_DE,
    VEC_GP,
    VEC_MF,
    VEC_OF,
    VEC_PF,
    VEC_UD,
    PhysAddr,
)
from tests.emu.bare import EngineError, Stop
from tests.emu.lab import CODE, DATA, DATA_FRAME, DONE, STACK, Lab

NON_CANONICAL = 1 << 63


def outcome(lab: Lab, code: str, *, flags: int = 0, **registers: int) -> tuple[int, int, int, int]:
    """(vector, error code, is_int, RIP behind CODE) of running these bytes."""
    lab.uc.reg_write(reg.UC_X86_REG_EFLAGS, 0x202 | flags)
    stop: Stop = lab.execute(bytes.fromhex(code), **registers)
    return stop.vector, stop.error_code, stop.is_int, stop.rip - CODE


# --- trap 11: #UD and `int n` ---


@pytest.mark.parametrize("code", [
    "0f0b",  # ud2
    "f1",  # int1: #DB on hardware
    "ce",  # into, not in 64-bit code
    "f090",  # lock nop
    "0f33",  # rdpmc
    "0f01c8",  # monitor
    "0f01c1",  # vmcall
    "f30fc7f8",  # rdpid
])  # fmt: skip
def test_trap_11_invalid_opcode_comes_through_its_own_hook(code: str) -> None:
    """RIP is at the instruction; the harness's hook returns True, which lets emu_start return normally."""
    lab = Lab()

    assert outcome(lab, "90" + code)[::3] == (VEC_UD, 1)


def test_trap_11_a_false_from_the_hook_is_an_error_of_emu_start() -> None:
    class Refusing(Lab):
        def _on_invalid(self, uc: object, _: object) -> bool:
            super()._on_invalid(uc, _)
            return False

    with pytest.raises(EngineError):
        Refusing().execute(b"\x0f\x0b")


@pytest.mark.parametrize("vector", [0x80, 0x81, 3, 8, 13, 14])
def test_trap_11_any_int_n_arrives_as_its_vector(vector: int) -> None:
    """Behind the instruction, with `exception_is_int`; no IDT is asked: hardware says #GP(8n + 2) for most."""
    assert outcome(Lab(), f"cd{vector:02x}") == (vector, 0, 1, 2)


def test_trap_11_int3_into_bound() -> None:
    assert outcome(Lab(), "cc") == (VEC_BP, 0, 1, 1)
    assert outcome(Lab(bits=32), "ce", flags=FLAG_OF) == (VEC_OF, 0, 1, 1)
    assert outcome(Lab(bits=32), "ce")[0] == DONE
    assert outcome(Lab(bits=32), "6207", eax=5, edi=DATA) == (VEC_BR, 0, 0, 0)
    assert outcome(Lab(bits=32), "6207", eax=0, edi=DATA)[0] == DONE


def test_division_by_zero() -> None:
    assert outcome(Lab(), "f7f1", rcx=0) == (VEC_DE, 0, 0, 0)


@pytest.mark.parametrize("code", [
    *("f4", "fa", "fb", "0f32", "0f30", "0f20c0", "0f21c0", "0f0117", "0f013f", "0f09", "0f06"),
    *("480f07", "0f35", "48cf", "0f01f8"),
])  # fmt: skip
def test_privileged_instructions_are_general_protection_faults(code: str) -> None:
    """hlt cli sti rdmsr wrmsr mov-cr mov-dr lgdt invlpg wbinvd clts sysret sysexit iretq swapgs."""
    assert outcome(Lab(), code, rdi=DATA, rsp=STACK, rcx=0) == (VEC_GP, 0, 0, 0)


@pytest.mark.parametrize("code", ["e460", "e660", "ec", "6c", "6e"])
def test_port_instructions_are_not_faults(code: str) -> None:
    """in, out, ins, outs run at CPL 3 with IOPL 0; hardware: #GP.  The kernel must hook them to refuse."""
    assert outcome(Lab(), code, rdi=DATA, rsi=DATA)[0] == DONE


@pytest.mark.parametrize("code", ["0f0107", "0f010f", "0f01e0", "0f00c8", "0f00c0", "0f02c1"])
def test_descriptor_tables_can_be_looked_at(code: str) -> None:
    """sgdt sidt smsw str sldt lar: there is no UMIP."""
    assert outcome(Lab(), code, rdi=DATA, rcx=0)[0] == DONE


def test_too_long_instruction() -> None:
    assert outcome(Lab(), "66" * 15 + "90") == (VEC_GP, 0, 0, 0)


@pytest.mark.parametrize(("code", "rip"), [("8a07", 0), ("8807", 0), ("58", 0), ("50", 0)])
def test_non_canonical_addresses_are_general_protection_faults(code: str, rip: int) -> None:
    """Stack accesses, too, where hardware says #SS."""
    assert outcome(Lab(), code, rdi=NON_CANONICAL, rsp=NON_CANONICAL) == (VEC_GP, 0, 0, rip)


def test_jump_to_a_non_canonical_address_faults_there() -> None:
    """Hardware faults at the jump."""
    stop = Lab().execute(b"\xff\xe7", rdi=NON_CANONICAL)

    assert (stop.vector, stop.rip) == (VEC_GP, NON_CANONICAL)


def test_bad_selector_is_in_the_error_code() -> None:
    lab = Lab()
    lab.map(0x1000, 0x1000, 3)  # the GDT

    assert outcome(lab, "8ed8", rax=0x18) == (VEC_GP, 0x18, 0, 0)
    assert outcome(lab, "8ed8", rax=0x50) == (VEC_GP, 0x50, 0, 0)
    assert outcome(lab, "8ed8", rax=0)[0] == DONE


# --- debugging ---


def test_trap_flag_steps() -> None:
    """#DB behind each instruction, TF still set."""
    lab = Lab()

    assert outcome(lab, "909090", flags=FLAG_TF) == (VEC_DB, 0, 0, 1)
    assert lab.call(CODE + 1).rip == CODE + 2
    assert lab.uc.reg_read(reg.UC_X86_REG_EFLAGS) & FLAG_TF


def test_popf_steps_the_instruction_behind_it() -> None:
    lab = Lab()
    lab.put(DATA_FRAME, struct.pack("<Q", 0x202 | FLAG_TF))

    assert outcome(lab, "9d9090", rsp=DATA) == (VEC_DB, 0, 0, 2)


# --- alignment and floating point ---


def test_alignment_is_never_checked() -> None:
    """Neither EFLAGS.AC with CR0.AM, nor movaps (#GP on hardware); fxsave is."""
    lab = Lab()
    lab.uc.reg_write(reg.UC_X86_REG_CR0, lab.uc.reg_read(reg.UC_X86_REG_CR0) | CR0_AM)

    assert outcome(lab, "8b07", flags=FLAG_AC, rdi=DATA + 1)[0] == DONE
    assert outcome(lab, "0f2807", rdi=DATA + 1)[0] == DONE
    assert outcome(lab, "0fae07", rdi=DATA + 1) == (VEC_GP, 0, 0, 0)


def test_fresh_engine_has_no_floating_point_environment() -> None:
    """FPCW and MXCSR are 0 and every x87 register counts as full: write 0x37f, 0x1f80, 0xffff before the first run."""
    lab = Lab()

    assert lab.uc.reg_read(reg.UC_X86_REG_FPCW) == 0
    assert lab.uc.reg_read(reg.UC_X86_REG_FPTAG) == 0x5555
    assert lab.uc.reg_read(reg.UC_X86_REG_MXCSR) == 0


def test_x87_exception_arrives_at_the_next_waiting_instruction() -> None:
    """fninit; fldcw [rdi] = 0x300; fld1; fldz; fdivp; fwait."""
    lab = Lab()
    lab.put(DATA_FRAME, b"\x00\x03")

    assert outcome(lab, "dbe3 d92f d9e8 d9ee def9 9b", rdi=DATA) == (VEC_MF, 0, 0, 10)


def test_sse_exceptions_are_never_raised_and_leave_no_flags() -> None:
    """ldmxcsr [rdi] = 0: all unmasked; 1 / 0; stmxcsr."""
    lab = Lab()
    lab.put(DATA_FRAME + 16, struct.pack("<4f", 1, 1, 1, 1))

    assert outcome(lab, "0fae17 0f284710 0f57c9 0f5ec1 0fae5f30", rdi=DATA)[0] == DONE
    assert lab.ram.view32[(DATA_FRAME + 0x30) >> 2] == 0


@pytest.mark.parametrize("code", ["0fae17", "0fae0f"])
def test_reserved_bits_of_mxcsr_are_not_checked(code: str) -> None:
    """ldmxcsr, fxrstor; hardware: #GP."""
    lab = Lab()
    lab.put(DATA_FRAME, b"\xff" * 512)

    assert outcome(lab, code, rdi=DATA)[0] == DONE


def test_fxsave_and_fxrstor_carry_the_whole_state() -> None:
    """fninit; fld1; fldpi; fxsave [rdi] ... fxrstor [rdi]; the library's registers are the physical ones."""
    lab = Lab()
    one, pi = (0x8000_0000_0000_0000, 0x3FFF), (0xC90F_DAA2_2168_C235, 0x4000)
    lab.uc.reg_write(reg.UC_X86_REG_XMM3, 0x1234)
    assert outcome(lab, "dbe3 d9e8 d9eb 0fae07", rdi=DATA)[0] == DONE
    assert (lab.uc.reg_read(reg.UC_X86_REG_FP7), lab.uc.reg_read(reg.UC_X86_REG_FP6)) == (one, pi)
    area = lab.ram.read(PhysAddr(DATA_FRAME), 512)
    fcw, fsw, ftw = struct.unpack_from("<HHB", area)
    assert (fcw, fsw >> 11 & 7, ftw) == (0x37F, 6, 0xC0)
    assert area[32:42] == struct.pack("<QH", *pi), "st(0)"
    assert area[48:58] == struct.pack("<QH", *one)
    assert area[160 + 48 : 160 + 56] == struct.pack("<Q", 0x1234)

    assert outcome(lab, "dbe3 0f57db 0fae0f", rdi=DATA)[0] == DONE
    assert lab.uc.reg_read(reg.UC_X86_REG_FP6) == pi
    assert lab.uc.reg_read(reg.UC_X86_REG_XMM3) == 0x1234


# --- system calls and time ---


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(("code", "insn"), [("0f05", reg.UC_X86_INS_SYSCALL), ("0f34", reg.UC_X86_INS_SYSENTER)])
def test_system_call_instructions_do_nothing_without_a_hook(code: str, insn: int, bits: int) -> None:
    lab = Lab(bits=bits)
    assert outcome(lab, code)[::3] == (DONE, 4)
    seen: list[int] = []

    def on_syscall(uc: Any, _: object) -> None:
        seen.append(uc.reg_read(lab.ip))
        uc.emu_stop()

    lab.hook(UC_HOOK_INSN, on_syscall, aux1=insn)

    stop = lab.execute(bytes.fromhex(code))

    assert seen == [CODE]
    assert (stop.vector, stop.rip) == (-1, CODE + 2), "RIP moves behind the instruction when the hook has returned"


def test_trap_10_a_system_call_hook_cannot_set_rip() -> None:
    """The instruction's length is added to what the hook wrote."""
    lab = Lab()

    def on_syscall(_uc: object, _: object) -> None:
        lab.uc.reg_write(reg.UC_X86_REG_RIP, CODE + 0x100)
        lab.uc.emu_stop()

    lab.hook(UC_HOOK_INSN, on_syscall, aux1=reg.UC_X86_INS_SYSCALL)

    assert lab.execute(b"\x0f\x05").rip != CODE + 0x100


@pytest.mark.parametrize("code", ["0f31", "0f01f9"])
def test_tsd_makes_reading_the_time_a_fault(code: str) -> None:
    """rdtsc and rdtscp; without CR4.TSD they read the host's clock."""
    assert outcome(Lab(cr4=CR4_TSD), code) == (VEC_GP, 0, 0, 0)
    assert outcome(Lab(), code)[0] == DONE


def test_faults_have_no_is_int() -> None:
    """So a #PF and `int 14` can be told apart."""
    assert outcome(Lab(), "8a07", rdi=0)[:3] == (VEC_PF, 4, 0)
