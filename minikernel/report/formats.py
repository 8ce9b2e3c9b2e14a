"""Numbers and texts as gdb's ``x`` and ``print`` show them.  Source: gdb's manual, "Output Formats" and "Memory"."""

import math
import struct
from typing import Final

LETTERS: Final = "xduotcafsiz"
PER_LINE: Final = {1: 8, 2: 8, 4: 4, 8: 2, 16: 1}
"""How many units of so many bytes ``x`` puts on a line."""

_ESCAPES: Final = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 27: r"\033"}
_FLOATS: Final = {2: ("<e", ".5g"), 4: ("<f", ".9g"), 8: ("<d", ".17g")}  # digits that tell two values apart


def character(byte: int, quote: str) -> str:
    """One byte of a text between *quote* signs, as C would write it."""
    char = chr(byte)
    if char in {quote, "\\"}:
        return "\\" + char
    if 32 <= byte < 127:
        return char
    return _ESCAPES.get(byte, f"\\{byte:03o}")


def quoted(text: bytes) -> str:
    """A string in double quotes."""
    return '"' + "".join(character(byte, '"') for byte in text) + '"'


def floating(data: bytes) -> str:
    """A floating-point number of 2, 4 or 8 bytes."""
    code, digits = _FLOATS[len(data)]
    (value,) = struct.unpack(code, data)
    return float_words(value, digits, int.from_bytes(data, "little"), len(data))


def float_words(value: float, digits: str, raw: int, size: int) -> str:
    """*value*, whose bits are *raw*, in as many *digits* as it needs."""
    if math.isnan(value):
        fraction = {2: 10, 4: 23, 8: 52}[size]
        sign = "-" if raw >> (8 * size - 1) else ""
        return f"{sign}nan({raw & ((1 << fraction) - 1):#x})"
    return f"{value:{digits}}"


def integer(value: int, letter: str, size: int) -> str:
    """A number of *size* bytes as *letter*, one of x d u o t c z, wants it."""
    value &= (1 << 8 * size) - 1
    signed = value - (1 << 8 * size) if value >> (8 * size - 1) else value
    match letter:
        case "d":
            return str(signed)
        case "u":
            return str(value)
        case "o":
            return f"0{value:o}" if value else "0"
        case "t":
            return f"{value:b}"
        case "c":
            byte = value & 0xFF
            return f"{byte - 256 if byte > 127 else byte} '{character(byte, chr(39))}'"
        case "z":
            return f"0x{value:0{2 * size}x}"
    return f"{value:#x}"


def unit(data: bytes, letter: str) -> str:
    """One unit of memory as ``x`` shows it: hexadecimal and binary numbers keep their zeroes."""
    value = int.from_bytes(data, "little")
    if letter == "f" and len(data) in _FLOATS:
        return floating(data)
    if letter == "t":
        return f"{value:0{8 * len(data)}b}"
    return integer(value, "z" if letter == "x" else letter, len(data))


def hexdump_rows(data: bytes, width: int = 16) -> list[tuple[int, str, str]]:
    """Rows of *width* bytes: the offset, the bytes in two halves, and the characters that can be shown."""
    rows = []
    for at in range(0, len(data), width):
        row = data[at : at + width]
        halves = [row[: width // 2].hex(" "), row[width // 2 :].hex(" ")]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        rows.append((at, "  ".join(halves).ljust(3 * width), text))
    return rows
