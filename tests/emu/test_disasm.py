"""Machine code as text."""

import subprocess
import sys

import pytest

from emu.disasm import MAX_INSN_LENGTH, Instruction, Load, disassemble, instruction_length, loads
from emu.x86 import VirtAddr

BASE = VirtAddr(0x40_1000)


def test_instructions_follow_each_other() -> None:
    assert disassemble(b"\x55\x48\x89\xe5\x0f\x05", BASE, bits=64) == [
        Instruction(BASE, 1, b"\x55", "push", "rbp"),
        Instruction(VirtAddr(BASE + 1), 3, b"\x48\x89\xe5", "mov", "rbp, rsp"),
        Instruction(VirtAddr(BASE + 4), 2, b"\x0f\x05", "syscall", ""),
    ]


@pytest.mark.parametrize(("bits", "texts"), [
    (64, ["inc rax"]),
    (32, ["dec eax", "inc eax"]),
    (16, ["dec ax", "inc ax"]),
])  # fmt: skip
def test_code_size_decides(bits: int, texts: list[str]) -> None:
    assert [insn.text for insn in disassemble(b"\x48\xff\xc0", BASE, bits=bits)] == texts


def test_branches_show_their_target() -> None:
    assert disassemble(b"\xe8\x00\x00\x00\x00", BASE, bits=64)[0].text == "call 0x401005"


def test_upper_half_addresses_are_not_negative() -> None:
    top = VirtAddr(0xFFFF_FFFF_FF60_0000)

    insn = disassemble(b"\xeb\xfe", top, bits=64)[0]

    assert (insn.address, insn.op_str) == (top, "0xffffffffff600000")


def test_count_limits() -> None:
    assert len(disassemble(b"\x90" * 8, BASE, bits=64, count=3)) == 3
    assert len(disassemble(b"\x90" * 8, BASE, bits=64)) == 8


def test_a_byte_that_is_no_instruction_is_shown_as_a_byte() -> None:
    code = b"\x90\x06\x90"  # push es does not exist in 64-bit code

    insns = disassemble(code, BASE, bits=64)

    assert [insn.text for insn in insns] == ["nop", ".byte 0x06", "nop"]
    assert [insn.is_valid for insn in insns] == [True, False, True]
    assert [insn.text for insn in disassemble(code, BASE, bits=64, count=2)] == ["nop", ".byte 0x06"]


def test_a_cut_instruction_is_bytes() -> None:
    assert [insn.text for insn in disassemble(b"\x90\xe8\x01", BASE, bits=64)] == ["nop", ".byte 0xe8", ".byte 0x01"]


def test_nothing_to_show() -> None:
    assert disassemble(b"", BASE, bits=64) == []


def test_every_byte_is_shown_once() -> None:
    code = bytes(range(256)) * 4

    for bits in (16, 32, 64):
        insns = disassemble(code, BASE, bits=bits)
        assert b"".join(insn.bytes for insn in insns) == code
        addresses = [insn.address for insn in insns]
        assert addresses == sorted(addresses)
        assert all(insn.size == len(insn.bytes) <= MAX_INSN_LENGTH for insn in insns)


@pytest.mark.parametrize(("code", "length"), [
    (b"\x90", 1),
    (b"\x48\xb8" + bytes(8), 10),
    (b"\x48\xb8" + bytes(7), 0),
    (b"\x06", 0),
    (b"", 0),
    (b"\x66" * 14 + b"\x90", 15),
])  # fmt: skip
def test_instruction_length(code: bytes, length: int) -> None:
    assert instruction_length(code, bits=64) == length


def test_unknown_code_size_is_our_bug() -> None:
    with pytest.raises(AssertionError, match="no 8-bit code"):
        disassemble(b"\x90", BASE, bits=8)


def test_importing_the_module_does_not_import_capstone() -> None:
    """A plain run shows no instruction and must start fast."""
    script = "import sys, emu.disasm; sys.exit('capstone' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_loads_are_the_operands_that_are_read() -> None:
    at = VirtAddr(0x1000)
    [load] = loads(bytes.fromhex("8b448b08"), at, bits=64)  # mov eax, [rbx + rcx * 4 + 8]
    assert load == Load(4, "", "rbx", "rcx", 4, 8, is_stable=True)
    [load] = loads(bytes.fromhex("488b00"), at, bits=64)  # mov rax, [rax]
    assert (load.size, load.base, load.is_stable) == (8, "rax", False)
    [load] = loads(bytes.fromhex("8b0510000000"), at, bits=64)  # mov eax, [rip + 16]
    assert (load.base, load.displacement) == ("rip", 16)
    [load] = loads(bytes.fromhex("65a110000000"), at, bits=32)  # mov eax, gs:[16]
    assert (load.segment, load.base, load.displacement) == ("gs", "", 16)
    assert loads(bytes.fromhex("8903"), at, bits=64) == []  # mov [rbx], eax
    assert loads(b"\x0f", at, bits=64) == []
