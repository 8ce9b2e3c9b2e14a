"""Source lines: the line-number programs of .debug_line, versions 2 to 5.  DWARF 5, 6.2.

Decoded here rather than by elftools because files are the guest's: every loop is bounded by the bytes there are.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from minikernel.report.dwarf.cursor import Cursor, DamagedError

_LNS_COPY, _LNS_ADVANCE_PC, _LNS_ADVANCE_LINE, _LNS_SET_FILE = 1, 2, 3, 4
_LNS_NEGATE_STMT, _LNS_CONST_ADD_PC, _LNS_FIXED_ADVANCE_PC = 6, 8, 9
_LNE_END_SEQUENCE, _LNE_SET_ADDRESS, _LNE_SET_DISCRIMINATOR = 1, 2, 4
_LNCT_PATH: Final = 1
_LNCT_DIRECTORY: Final = 2
_FORM_SIZES: Final = {0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1, 0x1E: 16}  # data2, data4, data8, data1, data16
_FORM_STRING, _FORM_UDATA, _FORM_BLOCK = 0x08, 0x0F, 0x09
_FORM_STRP, _FORM_LINE_STRP = 0x0E, 0x1F

Row = tuple[int, int, str, int, bool]
"""(address, 0 for the end of a sequence and 1 otherwise, path, line, whether a statement begins)."""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of source code; *file* without its directory."""

    file: str
    line: int
    path: str = field(default="", compare=False)  # of the file, as the compiler saw it

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Stretch:
    """The code of one row: from *start* to the next row; *statement* says whether a statement begins there."""

    start: int
    end: int
    line: SourceLine
    statement: bool


class LineTable:
    """The rows of all programs of a file, by address."""

    def __init__(self, rows: list[Row], files: dict[int, tuple[int, list[str]]] | None = None) -> None:
        # Ends before starts; rows for one address stay in their order, for the last of them counts.
        self._rows = sorted(rows, key=lambda row: row[:2])
        self._starts = [row[0] for row in self._rows]
        self._files = files or {}

    def find(self, address: int) -> SourceLine | None:
        """The line that the instruction at *address* comes from."""
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        _, inside, path, line, _ = self._rows[at]
        return _source_line(path, line) if inside and line else None

    def stretch(self, address: int) -> Stretch | None:
        """The code around *address* that comes from one line."""
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        start, inside, path, line, _ = self._rows[at]
        if not inside or not line or at + 1 >= len(self._rows):
            return None
        first = bisect_left(self._starts, start)
        # Several rows for one address: one of the line that counts is enough to make it a statement.
        statement = any(row[4] and row[1] and row[3] == line for row in self._rows[first : at + 1])
        return Stretch(start, self._starts[at + 1], _source_line(path, line), statement)

    def addresses(self, file: str, line: int) -> list[int]:
        """Where statements of *line* of *file* begin: once for each run of rows that name it, ascending."""
        found = []
        before = False
        for address, inside, path, number, statement in self._rows:
            here = bool(inside) and number == line and is_called(path, file) and (statement or before)
            if here and not before:
                found.append(address)
            before = here
        return found

    def lines(self, file: str) -> list[int]:
        """The lines of *file* at which a statement begins, ascending."""
        return sorted({row[3] for row in self._rows if row[1] and row[3] and row[4] and is_called(row[2], file)})

    def paths(self) -> list[str]:
        """The files that have code, each once."""
        return sorted({row[2] for row in self._rows if row[1]})

    def file(self, program: int, number: int) -> str:
        """File *number* of the program at offset *program* of the section; "" if there is none."""
        first, paths = self._files.get(program, (0, []))
        return paths[number - first] if first <= number < first + len(paths) else ""


def is_called(path: str, file: str) -> bool:
    """Whether *file*, as a person writes it, may mean *path*."""
    return path == file or path.endswith(f"/{file}")


def _source_line(path: str, line: int) -> SourceLine:
    return SourceLine(path.rsplit("/", 1)[-1], line, path)


def line_table(
    program: bytes, line_str: bytes, strings: bytes, directories: Mapping[int, str] | None = None
) -> LineTable:
    """Decode .debug_line with the strings of .debug_line_str and .debug_str; what is damaged is left out.

    *directories* is where each program's unit was compiled, by the program's offset; version 5 says it itself.
    """
    rows: list[Row] = []
    files: dict[int, tuple[int, list[str]]] = {}
    at = 0
    while at < len(program):
        try:
            here = (directories or {}).get(at, "")
            start, (at, first, paths) = at, _decode_unit(Cursor(program, at), line_str, strings, rows, here)
            files[start] = first, paths
        except DamagedError:
            break
    return LineTable(rows, files)


@dataclass(slots=True)
class _Header:
    """What a program needs of its header."""

    min_length: int
    line_base: int
    line_range: int
    opcode_base: int
    arguments: bytes  # of the standard opcodes, from opcode 1: how many each has
    default_statement: bool
    files: list[str]
    first_file: int  # the number of files[0]


def _decode_unit(
    cursor: Cursor, line_str: bytes, strings: bytes, rows: list[Row], here: str
) -> tuple[int, int, list[str]]:
    """Add the rows of the program at *cursor* to *rows*; where the next one is, and its files from which number on."""
    length, offset_size = cursor.length()
    end = cursor.pos + length
    if length < 8 or end > len(cursor.data):
        raise DamagedError("a unit beyond the section")
    cursor.end = end
    version = cursor.number(2)
    if not 2 <= version <= 5:
        return end, 0, []
    if version == 5:
        cursor.take(2)  # sizes of addresses and segment selectors
    header_length = cursor.number(offset_size)
    start = cursor.pos + header_length
    if start > end:
        raise DamagedError("a header beyond its unit")
    min_length = cursor.u8()
    if version >= 4:
        cursor.take(1)  # VLIW: x86 is none
    default_statement = bool(cursor.u8())
    line_base = (cursor.u8() ^ 0x80) - 0x80
    line_range, opcode_base = cursor.u8(), cursor.u8()
    if not line_range or not opcode_base:
        raise DamagedError("a header that cannot be")
    at = cursor.take(opcode_base - 1)
    arguments = cursor.data[at : cursor.pos]
    if version == 5:
        directories = [name for name, _ in _entries(cursor, line_str, strings, offset_size)]
        listed = _entries(cursor, line_str, strings, offset_size)
    else:
        directories, listed = [here], []
        while name := cursor.string():
            directories.append(name)
        while name := cursor.string():
            listed.append((name, cursor.uleb()))
            cursor.uleb()
            cursor.uleb()
    paths = [_joined(name, directory, directories) for name, directory in listed]
    cursor.pos = start
    first = int(version < 5)
    header = _Header(
        min_length, line_base, line_range, opcode_base, arguments, default_statement, paths, first
    )  # fmt: skip
    _run(cursor, header, rows)
    return end, first, paths


def _joined(name: str, directory: int, directories: list[str]) -> str:
    """The whole path of a file in one of the directories, of which the first is where the compiler was run."""
    path = name
    if not path.startswith("/") and directory < len(directories):
        path = f"{directories[directory]}/{path}" if directories[directory] else path
    if not path.startswith("/") and directories and directories[0]:
        path = f"{directories[0]}/{path}"
    return path


def _entries(cursor: Cursor, line_str: bytes, strings: bytes, offset_size: int) -> list[tuple[str, int]]:
    """The paths of a directory or file table of version 5, with the numbers of their directories."""
    formats = [(cursor.uleb(), cursor.uleb()) for _ in range(cursor.u8())]
    count = cursor.uleb()
    if count > cursor.end - cursor.pos:
        raise DamagedError("more entries than bytes")
    found = []
    for _ in range(count):
        name, directory = "", 0
        for content, form in formats:
            text, number = _form(cursor, form, line_str, strings, offset_size)
            if content == _LNCT_PATH:
                name = text
            elif content == _LNCT_DIRECTORY:
                directory = number
        found.append((name, directory))
    return found


def _form(cursor: Cursor, form: int, line_str: bytes, strings: bytes, offset_size: int) -> tuple[str, int]:
    """Step over a value: the text or the number that it is."""
    if form in {_FORM_LINE_STRP, _FORM_STRP}:
        offset = cursor.number(offset_size)
        table = line_str if form == _FORM_LINE_STRP else strings
        return Cursor(table, min(offset, len(table))).string(), 0
    if form == _FORM_STRING:
        return cursor.string(), 0
    if form == _FORM_UDATA:
        return "", cursor.uleb()
    if form == _FORM_BLOCK:
        cursor.take(cursor.uleb())
    elif form in _FORM_SIZES:
        return "", cursor.number(_FORM_SIZES[form])
    else:
        raise DamagedError(f"a form {form:#x} that no line table has")
    return "", 0


def _run(cursor: Cursor, header: _Header, rows: list[Row]) -> None:
    """Execute the program; a sequence that starts at address 0 belongs to code the linker left out."""
    min_length, line_base, line_range = header.min_length, header.line_base, header.line_range
    opcode_base = header.opcode_base
    names = header.files
    first = header.first_file
    const_add = (255 - opcode_base) // line_range * min_length
    sequence: list[Row] = []
    address, file, line = 0, 1, 1
    statement = header.default_statement
    # A line that is in several blocks has discriminators; gdb takes its rows that follow each other for one.
    several, discriminator, last = False, 0, (0, 0)

    def append(inside: int) -> None:
        nonlocal discriminator, last
        if not inside or (file, line) != last or not several:
            name = names[file - first] if first <= file < first + len(names) else "?"
            sequence.append((address, inside, name, line, statement))
            last = (file, line) if inside else (0, 0)
        discriminator = 0

    while cursor.pos < cursor.end:
        opcode = cursor.u8()
        if opcode >= opcode_base:
            step, advance = divmod(opcode - opcode_base, line_range)
            address += step * min_length
            line += line_base + advance
            if line_base + advance:
                several = bool(discriminator)
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
                statement = header.default_statement
            elif extended == _LNE_SET_ADDRESS:
                address = int.from_bytes(cursor.data[at + 1 : at + size], "little")
            elif extended == _LNE_SET_DISCRIMINATOR:
                discriminator = Cursor(cursor.data, at + 1, at + size).uleb()
                several = several or bool(discriminator)
        elif opcode == _LNS_COPY:
            append(1)
        elif opcode == _LNS_ADVANCE_PC:
            address += cursor.uleb() * min_length
        elif opcode == _LNS_ADVANCE_LINE:
            delta = cursor.sleb()
            line += delta
            if delta:
                several = bool(discriminator)
        elif opcode == _LNS_NEGATE_STMT:
            statement = not statement
        elif opcode == _LNS_SET_FILE:
            file = cursor.uleb()
        elif opcode == _LNS_CONST_ADD_PC:
            address += const_add
        elif opcode == _LNS_FIXED_ADVANCE_PC:
            address += cursor.number(2)
        else:
            for _ in range(header.arguments[opcode - 1]):
                cursor.uleb()
