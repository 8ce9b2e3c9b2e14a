"""Source lines: the line-number programs of .debug_line, versions 2 to 5.  DWARF 5, 6.2.

Decoded here rather than by elftools because files are the guest's: every loop is bounded by the bytes there are.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from minikernel.report.dwarf.cursor import Cursor, DamagedError

_LNS_COPY, _LNS_ADVANCE_PC, _LNS_ADVANCE_LINE, _LNS_SET_FILE = 1, 2, 3, 4
_LNS_CONST_ADD_PC, _LNS_FIXED_ADVANCE_PC = 8, 9
_LNE_END_SEQUENCE, _LNE_SET_ADDRESS = 1, 2
_LNCT_PATH: Final = 1
_FORM_SIZES: Final = {0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1, 0x1E: 16}  # data2, data4, data8, data1, data16
_FORM_STRING, _FORM_UDATA, _FORM_BLOCK = 0x08, 0x0F, 0x09
_FORM_STRP, _FORM_LINE_STRP = 0x0E, 0x1F

Row = tuple[int, int, str, int]
"""(address, 0 for the end of a sequence and 1 otherwise, file, line)."""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of source code; *file* without its directory."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class LineTable:
    """The rows of all programs of a file, by address."""

    def __init__(self, rows: list[Row]) -> None:
        # Ends before starts; rows for one address stay in their order, for the last of them counts.
        self._rows = sorted(rows, key=lambda row: row[:2])
        self._starts = [row[0] for row in self._rows]

    def find(self, address: int) -> SourceLine | None:
        """The line that the instruction at *address* comes from."""
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        _, inside, file, line = self._rows[at]
        return SourceLine(file, line) if inside and line else None

    def addresses(self, file: str, line: int) -> list[int]:
        """Where the code of *line* of *file* begins: once for each run of rows that name it, ascending."""
        found = []
        before = False
        for address, inside, name, number in self._rows:
            here = bool(inside) and name == file and number == line
            if here and not before:
                found.append(address)
            before = here
        return found


def line_table(program: bytes, line_str: bytes, strings: bytes) -> LineTable:
    """Decode .debug_line with the strings of .debug_line_str and .debug_str; what is damaged is left out."""
    rows: list[Row] = []
    at = 0
    while at < len(program):
        try:
            at = _decode_unit(Cursor(program, at), line_str, strings, rows)
        except DamagedError:
            break
    return LineTable(rows)


@dataclass(slots=True)
class _Header:
    """What a program needs of its header."""

    min_length: int
    line_base: int
    line_range: int
    opcode_base: int
    arguments: bytes  # of the standard opcodes, from opcode 1: how many each has
    files: list[str]
    first_file: int  # the number of files[0]


def _decode_unit(cursor: Cursor, line_str: bytes, strings: bytes, rows: list[Row]) -> int:
    """Add the rows of the program at *cursor* to *rows*; where the next one is."""
    length, offset_size = cursor.length()
    end = cursor.pos + length
    if length < 8 or end > len(cursor.data):
        raise DamagedError("a unit beyond the section")
    cursor.end = end
    version = cursor.number(2)
    if not 2 <= version <= 5:
        return end
    if version == 5:
        cursor.take(2)  # sizes of addresses and segment selectors
    header_length = cursor.number(offset_size)
    start = cursor.pos + header_length
    if start > end:
        raise DamagedError("a header beyond its unit")
    min_length = cursor.u8()
    if version >= 4:
        cursor.take(1)  # VLIW: x86 is none
    cursor.take(1)  # default_is_stmt
    line_base = (cursor.u8() ^ 0x80) - 0x80
    line_range, opcode_base = cursor.u8(), cursor.u8()
    if not line_range or not opcode_base:
        raise DamagedError("a header that cannot be")
    at = cursor.take(opcode_base - 1)
    arguments = cursor.data[at : cursor.pos]
    if version == 5:
        _entries(cursor, line_str, strings, offset_size)  # directories
        files = _entries(cursor, line_str, strings, offset_size)
    else:
        while cursor.string():
            pass
        files = []
        while name := cursor.string():
            files.append(name)
            for _ in range(3):
                cursor.uleb()
    cursor.pos = start
    _run(cursor, _Header(min_length, line_base, line_range, opcode_base, arguments, files, int(version < 5)), rows)
    return end


def _entries(cursor: Cursor, line_str: bytes, strings: bytes, offset_size: int) -> list[str]:
    """The paths of a directory or file table of version 5."""
    formats = [(cursor.uleb(), cursor.uleb()) for _ in range(cursor.u8())]
    count = cursor.uleb()
    if count > cursor.end - cursor.pos:
        raise DamagedError("more entries than bytes")
    names = []
    for _ in range(count):
        name = ""
        for content, form in formats:
            value = _form(cursor, form, line_str, strings, offset_size)
            if content == _LNCT_PATH:
                name = value
        names.append(name)
    return names


def _form(cursor: Cursor, form: int, line_str: bytes, strings: bytes, offset_size: int) -> str:
    """Step over a value; the text if it is one."""
    if form in {_FORM_LINE_STRP, _FORM_STRP}:
        offset = cursor.number(offset_size)
        table = line_str if form == _FORM_LINE_STRP else strings
        return Cursor(table, min(offset, len(table))).string()
    if form == _FORM_STRING:
        return cursor.string()
    if form == _FORM_UDATA:
        cursor.uleb()
    elif form == _FORM_BLOCK:
        cursor.take(cursor.uleb())
    elif form in _FORM_SIZES:
        cursor.take(_FORM_SIZES[form])
    else:
        raise DamagedError(f"a form {form:#x} that no line table has")
    return ""


def _run(cursor: Cursor, header: _Header, rows: list[Row]) -> None:
    """Execute the program; a sequence that starts at address 0 belongs to code the linker left out."""
    min_length, line_base, line_range = header.min_length, header.line_base, header.line_range
    opcode_base = header.opcode_base
    names = [name.rsplit("/", 1)[-1] for name in header.files]
    first = header.first_file
    const_add = (255 - opcode_base) // line_range * min_length
    sequence: list[Row] = []
    address, file, line = 0, 1, 1

    def append(inside: int) -> None:
        name = names[file - first] if first <= file < first + len(names) else "?"
        sequence.append((address, inside, name, line))

    while cursor.pos < cursor.end:
        opcode = cursor.u8()
        if opcode >= opcode_base:
            step, advance = divmod(opcode - opcode_base, line_range)
            address += step * min_length
            line += line_base + advance
            append(1)
        elif opcode == 0:
            size = cursor.uleb()
            at = cursor.take(size)
            extended = cursor.data[at] if size else 0
            if extended == _LNE_END_SEQUENCE:
                append(0)
                if sequence[0][0]:
                    rows += sequence
                sequence = []
                address, file, line = 0, 1, 1
            elif extended == _LNE_SET_ADDRESS:
                address = int.from_bytes(cursor.data[at + 1 : at + size], "little")
        elif opcode == _LNS_COPY:
            append(1)
        elif opcode == _LNS_ADVANCE_PC:
            address += cursor.uleb() * min_length
        elif opcode == _LNS_ADVANCE_LINE:
            line += cursor.sleb()
        elif opcode == _LNS_SET_FILE:
            file = cursor.uleb()
        elif opcode == _LNS_CONST_ADD_PC:
            address += const_add
        elif opcode == _LNS_FIXED_ADVANCE_PC:
            address += cursor.number(2)
        else:
            for _ in range(header.arguments[opcode - 1]):
                cursor.uleb()
