"""What the emulated processor can do and says it can, and what of the binding is slow or missing.

Facts of Unicorn, one test each; the traps have the numbers of "Quirks" in emu/README.md.
"""

import ctypes
import signal
import sys
from typing import Any

import numpy as np
import pytest
from unicorn import UC_HOOK_BLOCK, UC_HOOK_INSN
from unicorn import unicorn_const as const
from unicorn import x86_const as reg
from unicorn.unicorn_py3.unicorn import uclib

from emu.x86 import VEC_UD
from tests.emu.lab import CODE, CODE_FRAME, DATA, DONE, RETURN_1, Lab

CR4_FSGSBASE = 1 << 16


def cpuid(lab: Lab, leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX, EDX."""
    assert lab.execute(b"\x0f\xa2", rax=leaf, rcx=subleaf).vector == DONE
    return lab["eax"], lab["ebx"], lab["ecx"], lab["edx"]


def test_default_processor_is_a_haswell_without_avx() -> None:
    lab = Lab()
    _, _, ecx, edx = cpuid(lab, 1)
    _, ebx7, ecx7, edx7 = cpuid(lab, 7)

    assert lab.uc.ctl_get_cpu_model() == reg.UC_CPU_X86_HASWELL
    assert (ecx, edx) == (0xC6D8_2203, 0x078B_FBFD)
    assert (ebx7, ecx7, edx7) == (0x389, 0, 0)
    assert cpuid(lab, 0x8000_0001)[2:] == (0x21, 0x2810_0800)


def test_trap_13_cpuid_offers_what_must_be_masked() -> None:
    """XSAVE without OSXSAVE, RDRAND, HYPERVISOR; FSGSBASE although CR4 does not allow it; leaf 0xd is filled."""
    lab = Lab()
    ecx = cpuid(lab, 1)[2]

    assert [bit for bit in (26, 27, 28, 29, 30, 31) if ecx >> bit & 1] == [26, 30, 31]
    assert cpuid(lab, 7)[1] & 1
    assert cpuid(lab, 0xD)[:3] == (7, 0x240, 0x340)


def test_forty_physical_address_bits() -> None:
    """As emu.paging has it."""
    assert cpuid(Lab(), 0x8000_0008)[0] == 0x3028


WORKING = {
    "cmpxchg16b": "480fc70f",
    "popcnt": "f30fb8c1",
    "crc32": "f20f38f0c1",
    "pcmpestri": "660f3a61c100",
    "pshufb": "0f3800c1",
    "aesenc": "660f38dcc1",
    "pclmul": "660f3a44c100",
    "andn": "c4e270f2c2",
    "pdep": "c4e273f5c1",
    "mulx": "c4e273f6c1",
    "movbe": "0f38f007",
    "lzcnt": "f30fbdc1",
    "tzcnt": "f30fbcc1",
    "rdtscp": "0f01f9",
    "clflush": "0fae3f",
    "prefetchw": "0f0d0f",
    "endbr64": "f30f1efa",
    "rdrand": "0fc7f0",
    "rdseed": "0fc7f8",
    "vzeroupper": "c5f877",
}
MISSING = {
    "rdfsbase": "f3480faec0",
    "adcx": "660f38f6c1",
    "sha1nexte": "0f38c8c1",
    "xsave": "0fae27",
    "xgetbv": "0f01d0",
    "clflushopt": "660fae3f",
    "vaddps ymm": "c5f458c2",
    "vpaddd ymm": "c5f5fec2",
}


@pytest.mark.parametrize("name", WORKING)
def test_instruction_works(name: str) -> None:
    assert Lab().execute(bytes.fromhex(WORKING[name]), rdi=DATA).vector == DONE


@pytest.mark.parametrize("name", MISSING)
def test_instruction_is_an_invalid_opcode(name: str) -> None:
    assert Lab().execute(bytes.fromhex(MISSING[name]), rdi=DATA).vector == VEC_UD


def test_fsgsbase_works_when_cr4_allows_it() -> None:
    assert Lab(cr4=CR4_FSGSBASE).execute(bytes.fromhex(MISSING["rdfsbase"])).vector == DONE


def test_trap_13_avx_of_128_bits_runs_as_sse_with_a_wrong_result() -> None:
    """`vaddps xmm0, xmm1, xmm2` adds xmm2 to xmm0: worse than #UD, so CPUID must not offer AVX."""
    lab = Lab()
    one, two = 0x3F80_0000, 0x4000_0000
    for register, value in ((reg.UC_X86_REG_XMM0, 0), (reg.UC_X86_REG_XMM1, one), (reg.UC_X86_REG_XMM2, two)):
        lab.uc.reg_write(register, value)

    assert lab.execute(bytes.fromhex("c5f058c2")).vector == DONE
    assert lab.uc.reg_read(reg.UC_X86_REG_XMM0) == two


def test_cpuid_can_be_answered_by_a_hook() -> None:
    """Returning 1 skips the instruction, 0 lets the engine overwrite the answer.  RIP is at it meanwhile."""
    for answered in (1, 0):
        lab = Lab()
        asked: list[int] = []

        def on_cpuid(uc: Any, _: object, lab: Lab = lab, answered: int = answered, asked: list[int] = asked) -> int:
            asked.append(uc.reg_read(lab.ip))
            uc.reg_write(reg.UC_X86_REG_RAX, 0x1234)
            return answered

        lab.hook(UC_HOOK_INSN, on_cpuid, aux1=reg.UC_X86_INS_CPUID)
        eax = cpuid(lab, 0)[0]

        assert asked == [CODE]
        assert (eax == 0x1234) == bool(answered)


def raw_hook(lab: Lab, insn: str, callback: Any) -> int:
    """Hook an instruction past the binding; the library's status."""
    handle = ctypes.c_size_t()
    number = ctypes.c_int(getattr(reg, f"UC_X86_INS_{insn}"))
    pointer = ctypes.cast(callback, ctypes.c_void_p)
    everywhere = (ctypes.c_uint64(1), ctypes.c_uint64(0))
    status: int = uclib.uc_hook_add(lab.uc._uch, ctypes.byref(handle), UC_HOOK_INSN, pointer, None, *everywhere, number)
    return status


INSN_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p)


def test_instructions_that_can_be_hooked() -> None:
    lab = Lab()
    callback = INSN_CALLBACK(lambda _uc, _data: 0)
    hookable = ("CPUID", "RDTSC", "RDTSCP", "SYSCALL", "SYSENTER", "IN", "OUT")

    assert {raw_hook(lab, insn, callback) for insn in hookable} == {const.UC_ERR_OK}
    others = ("RDRAND", "XGETBV", "HLT", "INT1", "RDPMC")
    assert {raw_hook(lab, insn, callback) for insn in others} == {const.UC_ERR_HOOK}


@pytest.mark.parametrize(("insn", "code"), [("RDTSC", "0f31"), ("RDTSCP", "0f01f9")])
def test_the_time_can_be_answered_by_a_hook(insn: str, code: str) -> None:
    """Which the binding does not offer."""
    lab = Lab()

    def on_rdtsc(_uc: object, _data: object) -> int:
        lab.uc.reg_write(reg.UC_X86_REG_RAX, 0x77)
        return 1

    callback = INSN_CALLBACK(on_rdtsc)
    raw_hook(lab, insn, callback)

    assert lab.execute(bytes.fromhex(code)).vector == DONE
    assert lab["rax"] == 0x77


def test_a_stop_in_an_instruction_hook_takes_effect_at_the_end_of_the_block() -> None:
    """The `int 0x80` behind the `in` still runs; only system calls end a block by themselves."""
    lab = Lab()

    def on_in(uc: Any, _port: int, _size: int, _data: object) -> int:
        uc.emu_stop()
        return 0

    lab.hook(UC_HOOK_INSN, on_in, aux1=reg.UC_X86_INS_IN)

    assert lab.execute(b"\xe4\x60\x90").rip == CODE + 5


# --- traps 9, 14 and 16: the binding ---


def test_trap_9_the_library_can_be_called_directly() -> None:
    """What the binding's reg_read does in 1.3 us is one call with a pointer, and a batch is one call, too."""
    lab = Lab()
    lab.result()
    ids = (ctypes.c_int * 2)(reg.UC_X86_REG_RAX, reg.UC_X86_REG_RIP)
    values = (ctypes.c_uint64 * 2)()
    pointers = (ctypes.c_void_p * 2)(*(ctypes.addressof(values) + 8 * index for index in range(2)))

    assert uclib.uc_emu_start(lab.uc._uch, CODE, 0, 0, 0) == const.UC_ERR_OK
    assert uclib.uc_reg_read_batch(lab.uc._uch, ids, pointers, 2) == const.UC_ERR_OK
    assert list(values) == [lab["rax"], lab["rip"]]


def test_trap_14_an_exception_in_a_raw_callback_does_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """ctypes reports and drops it; the run goes on.  (The binding's own wrapper stores it.)"""
    lab = Lab()
    reported: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reported.append(report.exc_value))

    def on_block(*_: object) -> None:
        raise RuntimeError("lost")

    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)(on_block)
    handle = ctypes.c_size_t()
    everywhere = (ctypes.c_uint64(1), ctypes.c_uint64(0))
    pointer = ctypes.cast(callback, ctypes.c_void_p)
    uclib.uc_hook_add(lab.uc._uch, ctypes.byref(handle), UC_HOOK_BLOCK, pointer, None, *everywhere)
    lab.uc.ctl_flush_tb()

    assert lab.result() == 1
    assert [str(exception) for exception in reported] == ["lost"]


def test_trap_14_signals_are_not_seen_inside_emu_start() -> None:
    """A handler that stops the engine runs when the guest is through with 80 million instructions."""
    lab = Lab()
    calls: list[int] = []

    def on_alarm(_number: int, _frame: object) -> None:
        calls.append(lab["ecx"])
        lab.uc.emu_stop()

    previous = signal.signal(signal.SIGALRM, on_alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        stop = lab.execute(bytes.fromhex("b9005a6202 ffc9 75fc"))  # mov ecx, 40,000,000; dec ecx; jnz
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)

    assert (stop.vector, calls) == (DONE, [0])


def test_trap_16_a_memoryview_gives_ints_and_numpy_its_own_scalars() -> None:
    """Which have to be converted, and cost more than twice the time."""
    lab = Lab()
    lab.put(CODE_FRAME, RETURN_1)

    assert type(lab.ram.view64[CODE_FRAME >> 3]) is int
    assert type(np.frombuffer(lab.ram.view8, np.uint64)[CODE_FRAME >> 3]) is np.uint64
