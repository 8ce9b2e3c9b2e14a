"""Numbers and texts as gdb shows them: the expected ones were printed by GNU gdb 13.1 for the same bytes."""

import struct

import pytest

from minikernel.report.formats import floating, hexdump_rows, integer, quoted, unit


@pytest.mark.parametrize(
    ("letter", "shown"),
    [
        ("x", "0x00 0x01 0x0a 0x41 0xc8 0x1b 0xff 0x5c"),
        ("d", "0 1 10 65 -56 27 -1 92"),
        ("u", "0 1 10 65 200 27 255 92"),
        ("o", "0 01 012 0101 0310 033 0377 0134"),
        ("t", "00000000 00000001 00001010 01000001 11001000 00011011 11111111 01011100"),
        ("c", r"0 '\000' 1 '\001' 10 '\n' 65 'A' -56 '\310' 27 '\033' -1 '\377' 92 '\\'"),
    ],
)
def test_bytes(letter: str, shown: str) -> None:
    data = bytes([0, 1, 10, 65, 200, 27, 255, 92])
    assert " ".join(unit(data[at : at + 1], letter) for at in range(8)) == shown


def test_words_of_every_size() -> None:
    assert unit(b"\xff\xff\xff\xff", "d") == "-1"
    assert unit(b"\1\0\0\0", "x") == "0x00000001"
    assert unit(b"\xff\xff", "o") == "0177777"
    assert integer(-1, "x", 4) == "0xffffffff"
    assert integer(8, "o", 8) == "010"
    assert integer(10, "t", 8) == "1010"
    assert integer(200, "c", 1) == r"-56 '\310'"
    assert integer(39, "c", 1) == r"39 '\''"
    assert integer(5, "z", 4) == "0x00000005"


@pytest.mark.parametrize(
    ("code", "value", "shown"),
    [
        ("<d", 3.14, "3.1400000000000001"),
        ("<d", 1e300, "1.0000000000000001e+300"),
        ("<f", 3.14, "3.1400001"),
        ("<f", 1.0, "1"),
        ("<f", -0.0, "-0"),
        ("<f", float("inf"), "inf"),
        ("<d", float("-inf"), "-inf"),
        ("<e", 1.5, "1.5"),
    ],
)
def test_floating_point(code: str, value: float, shown: str) -> None:
    assert floating(struct.pack(code, value)) == shown


def test_what_is_not_a_number() -> None:
    assert floating(bytes.fromhex("0000c07f")) == "nan(0x400000)"
    assert floating(bytes.fromhex("000000000000f8ff")) == "-nan(0x8000000000000)"


def test_strings() -> None:
    assert quoted(b'hi "there"\n\33\\ \x80x') == r'"hi \"there\"\n\033\\ \200x"'


def test_a_hexdump_has_the_last_row_as_wide_as_the_others() -> None:
    rows = hexdump_rows(b"0123456789abcdef\n\x7f!")
    assert rows[0] == (0, "30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66", "0123456789abcdef")
    assert rows[1] == (16, "0a 7f 21".ljust(48), "..!")
