"""Expressions of the debugger's prompt."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikernel.kdb.expr import ExprError, evaluate
from minikernel.kdb.values import Value
from minikernel.report.dwarf.ctypes import CType

MEMORY = bytes(range(0xF0, 0x100)) + (0x1004).to_bytes(8, "little")


class Names:
    """Two registers, one symbol, and MEMORY at 0x1000."""

    word = 8

    def register(self, name: str) -> int | None:
        return {"rax": 5, "sp": 0x1010}.get(name)

    def symbol(self, name: str) -> int | None:
        return {"table": 0x1000}.get(name)

    def variable(self, name: str) -> Value | None:
        return None

    def type_named(self, name: str) -> CType | None:
        return None

    def history(self, name: str) -> Value | None:
        return None

    def read(self, address: int, size: int) -> bytes:
        return MEMORY[address - 0x1000 :][:size] if address >= 0x1000 else b""

    def physical(self, address: int) -> int | None:
        return 0x5000 + (address & 0xFFF) if address >= 0x1000 else None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("0x10 - 1", 15),
        ("1 << 4 | 1", 17),
        ("$rax", 5),
        ("$rax==5 && $rax!=4", 1),
        ("table + 4", 0x1004),
        ("&table", 0x1000),
        ("*(u8*)table", 0xF0),
        ("*(char*)table", -16),
        ("*(unsigned short *)(table+2)", 0xF3F2),
        ("*(int*)table < 0", 1),
        ("*$sp", 0x1004),
        ("*(u8*)*$sp", 0xF4),
        ("**(u8**)$sp", 0xF4),
        ("(u8)0x1ff", 0xFF),
        ("(char)255", -1),
        ("'a'", 97),
        ("'\\n'", 10),
        ("-1", (1 << 64) - 1),
        ("~0 >> 60", 15),
        ("!0", 1),
        ("pfn(table)", 5),
        ("phys(table + 8) & 0xff", 8),
        ("7 / 2 + 7 % 2", 4),
    ],
)
def test_values(text: str, value: int) -> None:
    assert evaluate(text, Names()) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing"),
        ("1 +", "ends too early"),
        ("(1", "ends too early"),
        ("1 2", "junk"),
        ("$nothing", "No register or variable"),
        ("nowhere", "No symbol nowhere"),
        ("*0", "Cannot access memory at address 0x0"),
        ("1 / 0", "Division by zero"),
        ("1 << 64", "shift"),
        ("pfn(0)", "no page"),
        ("1 ; 2", "what is"),
        ("(" * 100 + "1", "too deeply"),
        (")", "does not belong"),
    ],
)
def test_mistakes_are_told_in_a_line(text: str, message: str) -> None:
    with pytest.raises(ExprError, match=message):
        evaluate(text, Names())


@given(st.text(alphabet="0123456789abc$rx*()+-/%&|^~!<>= 'u8", max_size=30))
def test_no_text_does_worse_than_a_mistake(text: str) -> None:
    with contextlib.suppress(ExprError):
        evaluate(text, Names())
