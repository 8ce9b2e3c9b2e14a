"""The x87 and SSE state in words; what a long double is worth was printed by GNU gdb for the same ten bytes."""

import struct

import pytest

from minikernel.report.control_registers import control_words
from minikernel.report.fpu import (
    decode_fxsave,
    extended_value,
    fctrl_words,
    fstat_words,
    mxcsr_words,
    tag_word,
    vector_words,
)


def image(*stack: bytes, top: int = 0, tags: int = 0, mxcsr: int = 0x1F80) -> bytes:
    """An FXSAVE image with *stack* from st(0) on."""
    head = struct.pack("<HHBxHQQII", 0x37F, top << 11, tags, 0, 0x1234, 0x5678, mxcsr, 0xFFFF)
    registers = b"".join(value.ljust(16, b"\0") for value in stack).ljust(128, b"\0")
    xmm = b"".join(bytes([number]) * 16 for number in range(16))
    return (head + registers + xmm).ljust(512, b"\0")


ONE = bytes.fromhex("0000000000000080ff3f")
PI = bytes.fromhex("35c26821a2da0fc90040")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("00000000000000000000", "0"),
        ("00000000000000000080", "-0"),
        ("0000000000000080ff3f", "1"),
        ("0000000000000080ffbf", "-1"),
        ("35c26821a2da0fc90040", "3.14159265358979324"),
        ("000000000000008000ff", "-inf"),
        ("0000000000000080ff7f", "inf"),
        ("00000000000000c0ff7f", "nan(0xc000000000000000)"),
        ("ffffffffffffffffffff", "-nan(0xffffffffffffffff)"),
        ("00000000000000a00940", "1280"),
        ("0100000000000000000000"[:20], "3.64519953188247460e-4951"),
    ],
)
def test_a_long_double(raw: str, value: str) -> None:
    if value == "-inf":
        raw = "0000000000000080ffff"
    shown = extended_value(bytes.fromhex(raw))
    mantissa, _, exponent = value.partition("e")
    assert shown in {value, mantissa.rstrip("0") + ("e" + exponent if exponent else "")}


def test_the_stack_is_counted_from_its_top() -> None:
    state = decode_fxsave(image(ONE, PI, top=6, tags=0b1100_0000), wide=True)
    assert state.top == 6
    assert (state.st(0), state.st(1)) == (ONE, PI)
    assert (state.physical[6], state.physical[7]) == (ONE, PI)
    assert [tag_word(state.ftag, number) for number in (5, 6, 7)] == ["Empty", "Valid", "Valid"]
    assert state.xmm[15] == b"\x0f" * 16
    assert len(decode_fxsave(image(), wide=False).xmm) == 8


def test_tags_say_what_a_register_holds() -> None:
    infinity = bytes.fromhex("0000000000000080ff7f")
    state = decode_fxsave(image(bytes(10), infinity, top=0, tags=0b11), wide=True)
    assert [tag_word(state.ftag, number) for number in (0, 1, 2)] == ["Zero", "Special", "Empty"]


def test_words() -> None:
    assert mxcsr_words(0x1F80) == "IM DM ZM OM UM PM round to nearest"
    assert mxcsr_words(0xE061) == "IE PE DAZ FZ round toward zero"
    assert fctrl_words(0x27F) == "IM DM ZM OM UM PM precision 53 bits, round to nearest"
    assert fstat_words(0x3A41) == "IE SF C1 top 7"
    assert control_words("cr0", 0x80050033) == "[ PE MP ET NE WP AM PG ]"
    assert control_words("efer", 0xD01) == "[ SCE LME LMA NXE ]"
    assert control_words("cr3", 0x423018) == "root table in frame 0x423 PWT PCD"
    assert control_words("cr2", 16) == "the address of the last page fault"


def test_a_vector_is_shown_in_every_way() -> None:
    shown = vector_words(struct.pack("<4f", 1.0, 2.0, 3.0, 0.5))
    assert shown.startswith("{v4_float = {1, 2, 3, 0.5}, v2_double = {")
    assert "v4_int32 = {0x3f800000, 0x40000000, 0x40400000, 0x3f000000}" in shown
    assert shown.endswith("uint128 = 0x3f0000004040000040000000" + "3f800000}")
