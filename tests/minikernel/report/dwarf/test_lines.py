"""Line-number programs, assembled by hand; the real ones are compared with addr2line in test_end_to_end.py."""

from hypothesis import given
from hypothesis import strategies as st

from minikernel.report.dwarf.lines import LineTable, SourceLine, line_table

OPCODE_BASE = 13
STANDARD = bytes((0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1))
PROGRAM = (
    bytes((0, 9, 2)) + (0x1000).to_bytes(8, "little")  # set_address
    + bytes((3, 4, 1))  # advance_line 4: line 5; copy
    + bytes((OPCODE_BASE + 14 * 2 + 5 + 1,))  # special: address + 2, line + 1
    + bytes((4, 2, 2, 0x10, 1))  # set_file 2; advance_pc 16; copy
    + bytes((3, 0x7F, 8, 1))  # advance_line -1; const_add_pc (17); copy
    + bytes((9, 0x00, 0x01, 1))  # fixed_advance_pc 256; copy
    + bytes((12, 3))  # set_isa, which is stepped over
    + bytes((2, 1, 0, 1, 1))  # advance_pc 1; end_sequence
)  # fmt: skip


def unit(version: int, tables: bytes, program: bytes = PROGRAM) -> bytes:
    """A unit of .debug_line."""
    early = bytes((1, 1) if version >= 4 else (1,))
    header = early + bytes((1, 256 - 5, 14, OPCODE_BASE)) + STANDARD + tables
    sizes = bytes((8, 0)) if version == 5 else b""
    body = version.to_bytes(2, "little") + sizes + len(header).to_bytes(4, "little") + header + program
    return len(body).to_bytes(4, "little") + body


TABLES_4 = b"/usr/include\0\0" + b"first.c\0\0\0\0" + b"second.h\0\1\0\0" + b"\0"
TABLES_5 = (
    bytes((1, 1, 0x1F, 1)) + (0).to_bytes(4, "little")  # one directory, line_strp
    + bytes((3, 1, 0x1F, 2, 0x0B, 5, 0x1E, 3))  # three files: line_strp, data1, data16
    + b"".join((at.to_bytes(4, "little") + b"\0" + bytes(16)) for at in (5, 5, 13))
)  # fmt: skip
LINE_STR = b"/src\0first.c\0second.h\0"
EXPECTED = {
    0xFFF: None,
    0x1000: SourceLine("first.c", 5),
    0x1001: SourceLine("first.c", 5),
    0x1002: SourceLine("first.c", 6),
    0x1012: SourceLine("second.h", 6),
    0x1023: SourceLine("second.h", 5),
    0x1123: SourceLine("second.h", 5),
    0x1124: None,
}


def found(table: LineTable) -> dict[int, SourceLine | None]:
    return {address: table.find(address) for address in EXPECTED}


def test_version_4() -> None:
    assert found(line_table(unit(4, TABLES_4), b"", b"")) == EXPECTED


def test_version_5() -> None:
    assert found(line_table(unit(5, TABLES_5), LINE_STR, b"")) == EXPECTED


def test_versions_2_and_3() -> None:
    for version in (2, 3):
        assert found(line_table(unit(version, TABLES_4), b"", b"")) == EXPECTED


def test_units_follow_each_other_and_unknown_versions_are_stepped_over() -> None:
    assert found(line_table(unit(9, TABLES_4) + unit(4, TABLES_4), b"", b"")) == EXPECTED


def test_directories_are_left_out() -> None:
    tables = b"\0" + b"/a/b/first.c\0\0\0\0" + b"second.h\0\1\0\0" + b"\0"
    assert found(line_table(unit(4, tables), b"", b"")) == EXPECTED


def test_code_that_the_linker_left_out_has_no_lines() -> None:
    """Its sequences start at address 0."""
    program = PROGRAM.replace((0x1000).to_bytes(8, "little"), bytes(8))
    assert line_table(unit(4, TABLES_4, program), b"", b"").find(0) is None


def test_file_numbers_beyond_the_table_are_marked() -> None:
    assert line_table(unit(4, b"\0\0"), b"", b"").find(0x1000) == SourceLine("?", 5)


def test_more_entries_than_bytes_are_refused_at_once() -> None:
    tables = bytes((0,)) + b"\xff" * 9 + b"\x01"  # no format, and 2**64 directories
    assert line_table(unit(5, tables), b"", b"").find(0x1000) is None


@given(st.data())
def test_damage_is_never_an_error(data: st.DataObject) -> None:
    good = bytearray(unit(5, TABLES_5) + unit(4, TABLES_4))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    line_table(bytes(good[: data.draw(st.integers(0, len(good)))]), LINE_STR, b"").find(0x1000)


@given(st.binary(max_size=200))
def test_noise_is_never_an_error(noise: bytes) -> None:
    line_table(noise, noise, noise).find(0x1000)
