"""The source: finding its files on the host, the line where the program stands, and the commands that show more.

The paths are those that the compiler wrote down; a file that has moved is looked for in the places of ``directory``.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import CommandError, command
from minikernel.kdb.frames import at_line_start, frame_cfa, location_words
from minikernel.report.dwarf import names as n
from minikernel.report.dwarf.ctypes import declare
from minikernel.report.dwarf.cursor import DamagedError
from minikernel.report.dwarf.dies import Die, Kind
from minikernel.report.dwarf.lines import is_called
from minikernel.report.dwarf.program import Program

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.kdb.unwind import Frame
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.report.image import Image
    from minikernel.report.symbols import Symbols

_GROUP: Final = "program"
_LINES: Final = 10
_MAX_FILE: Final = 16 << 20  # bytes
_MAX_LINES: Final = 10_000
_MAX_NAMES: Final = 1000


class Sources:
    """The files that have been read, and where to look for others."""

    def __init__(self) -> None:
        self.directories: list[str] = []
        self._read: dict[str, list[str] | None] = {}
        self.listed: tuple[str, int, int] | None = None  # what ``list`` has shown: path, first and last line

    def find(self, path: str) -> Path | None:
        """The file on the host that the compiler called *path*."""
        base = path.rsplit("/", 1)[-1]
        candidates = [Path(path)] if path.startswith("/") else []
        for directory in self.directories:
            candidates += [Path(directory) / path.lstrip("/"), Path(directory) / base]
        for candidate in candidates:
            try:
                if candidate.is_file() and candidate.stat().st_size <= _MAX_FILE:
                    return candidate
            except OSError:
                continue
        return None

    def lines(self, path: str) -> list[str] | None:
        """The lines of a file; None if it is not found."""
        if path not in self._read:
            found = self.find(path)
            try:
                data = found.read_bytes() if found is not None else None
            except OSError:
                data = None
            text = data.decode(errors="backslashreplace") if data is not None else None
            self._read[path] = text.splitlines() if text is not None else None
        return self._read[path]

    def look_in(self, directories: list[str]) -> None:
        """Look there from now on."""
        self.directories = directories
        self._read.clear()


def line_words(session: "Session", path: str, line: int) -> str:
    """``12<tab>    return counter;``, or that the file is not there."""
    lines = session.sources.lines(path)
    if lines is None:
        return f"{line}\t{path.rsplit('/', 1)[-1]}: No such file or directory."
    if line > len(lines):
        return f"{line}\tin {path.rsplit('/', 1)[-1]}"
    return f"{line}\t{lines[line - 1]}"


def show_frame_line(session: "Session", frame: "Frame", *, located: bool = True) -> bool:
    """Show the source line of a frame; whether that says all: a statement begins there, and its text is known.

    *located*: the address has been shown already.
    """
    spot = session.view.spot(frame)
    if spot is None or spot.line is None:
        return False
    session.sources.listed = None
    exact = at_line_start(session, frame)
    prefix = "" if exact or located else f"{frame.pc:#0{2 * session.word + 2}x}\t"
    session.print(prefix + line_words(session, spot.line.path, spot.line.line))
    return (exact or frame.level > 0) and session.sources.lines(spot.line.path) is not None


def frame_mark(session: "Session") -> tuple[int, str] | None:
    """What tells whether the program is in another frame than before; None: it has ended."""
    if not alive(session):
        return None
    return frame_cfa(session), session.view.function_name(session.view.first(1)[0])


def alive(session: "Session") -> bool:
    """Whether there is a program to show."""
    current = session.kernel.current
    return session.kernel.exit_code is None and current is not None and current.has_mm


def show_arrival(session: "Session", before: tuple[int, str] | None, *, reached: bool) -> None:
    """Where a step has led: the function, if it is another one, and the line.  Not *reached*: that has been said."""
    if not alive(session):
        return
    another = frame_mark(session) != before
    if reached and another:
        session.print(location_words(session, session.view.first(1)[0]))
    session.show_position(located=another or not reached)


# ---- list


@command("list [LOCATION|FIRST,LAST|-]", "l", group=_GROUP)
def list_(session: "Session", arguments: str) -> None:
    """Show source lines: ten around the program, around LOCATION (LINE, FUNCTION, FILE:LINE), or from FIRST to LAST.

    Again without arguments it goes on; `list -` shows the lines before.
    """
    sources = session.sources
    if arguments == "-":
        path, first, _ = sources.listed or _here(session)
        if first <= 1:
            raise CommandError(f"Already at the start of {path.rsplit('/', 1)[-1]}.")
        _show_lines(session, path, max(first - _LINES, 1), first - 1)
    elif "," in arguments:
        begin, _, end = (part.strip() for part in arguments.partition(","))
        if begin:
            path, first = line_of_location(session, begin)
            last = line_of_location(session, end)[1] if end else first + _LINES - 1
        else:
            path, last = line_of_location(session, end)
            first = max(last - _LINES + 1, 1)
        _show_lines(session, path, first, last)
    elif arguments:
        path, line = line_of_location(session, arguments)
        first = max(line - 5, 1)
        _show_lines(session, path, first, first + _LINES - 1)
    elif sources.listed is not None:
        path, _, last = sources.listed
        _show_lines(session, path, last + 1, last + _LINES)
    else:
        path, line, _ = _here(session)
        first = max(line - 5, 1)
        _show_lines(session, path, first, first + _LINES - 1)


def _here(session: "Session") -> tuple[str, int, int]:
    """The line of the chosen frame; main's where there is none."""
    spot = session.view.spot(session.view.selected)
    if spot is not None and spot.line is not None:
        return spot.line.path, spot.line.line, spot.line.line
    try:
        path, line = line_of_location(session, "main")
    except CommandError:
        raise CommandError("No symbol table is loaded: no line numbers here.") from None
    return path, line, line


def line_of_location(session: "Session", location: str) -> tuple[str, int]:
    """The path and line that LINE, FUNCTION, FILE:LINE, FILE:FUNCTION or *ADDRESS mean.

    Raises:
        CommandError.
    """
    file, _, rest = location.rpartition(":")
    if rest.isdecimal() and len(rest) < 8:
        path = _path_called(session, file) if file else (session.sources.listed or _here(session))[0]
        return path, int(rest)
    if location.startswith("*"):
        line = _line_at(session, session.evaluate(location[1:]))
    else:
        line = next((found for found in _function_lines(session, rest) if not file or is_called(found[0], file)), None)
    if line is None:
        raise CommandError(f'Function "{location}" not defined.')
    return line


def _line_at(session: "Session", address: int) -> tuple[str, int] | None:
    found = session.explainer.symbols.find(session.mm, address)
    line = found.line if found is not None else None
    return (line.path, line.line) if line is not None else None


def _function_lines(session: "Session", name: str) -> list[tuple[str, int]]:
    """Where the code of functions called *name* begins."""
    found = []
    for image, _ in session.explainer.symbols.images(session.mm):
        for die in image.program.index.functions.get(name, []):
            line = image.line(die.entry_pc or 0)
            if line is not None:
                found.append((line.path, line.line))
    return found


def file_of(image: "Image", die: Die) -> str:
    """The path of the file that declares *die*."""
    program = die.unit.root.own(n.AT_stmt_list)
    return image.lines.file(program.number if program is not None else 0, die.number(n.AT_decl_file))


def _path_called(session: "Session", file: str) -> str:
    for image, _ in session.explainer.symbols.images(session.mm):
        for path in image.lines.paths():
            if is_called(path, file):
                return path
    raise CommandError(f"No source file named {file}.")


def _show_lines(session: "Session", path: str, first: int, last: int) -> None:
    lines = session.sources.lines(path)
    base = path.rsplit("/", 1)[-1]
    if lines is None:
        raise CommandError(f"{first}\t{path}: No such file or directory.  `directory DIR` says where it is.")
    if first > len(lines):
        raise CommandError(f'Line number {first} out of range; "{base}" has {len(lines)} lines.')
    last = min(last, len(lines), first + _MAX_LINES)
    for number in range(first, last + 1):
        session.print(f"{number}\t{lines[number - 1]}")
    session.sources.listed = path, first, last
    session.tell(file=path, first=first, lines=lines[first - 1 : last])


@command("directory [DIR...]", "dir", group=_GROUP)
def directory(session: "Session", arguments: str) -> None:
    """Look for source files in DIR, too; without one, only where the compiler found them."""
    added = arguments.replace(":", " ").split()
    session.sources.look_in([*added, *session.sources.directories] if added else [])
    session.print(f"Source directories searched: {':'.join([*session.sources.directories, '$cdir'])}")


# ---- info


@command("info source", group=_GROUP)
def info_source(session: "Session", arguments: str) -> None:
    """The source file of the chosen frame: where it was compiled, where it is, by which compiler."""
    del arguments
    spot = session.view.spot(session.view.selected)
    if spot is None or spot.line is None or spot.function is None:
        raise CommandError("No current source file.")
    unit = spot.function.unit
    path = spot.line.path
    session.print(f"Current source file is {unit.root.name or path}")
    session.print(f"Compilation directory is {unit.root.text(n.AT_comp_dir)}")
    found = session.sources.find(path)
    if found is not None:
        session.print(f"Located in {found}")
        session.print(f"Contains {len(session.sources.lines(path) or [])} lines.")
    else:
        session.print(f"{path}: No such file or directory.")
    session.print(f"Producer is {unit.root.text(n.AT_producer)}.")
    session.print(f"Compiled with DWARF {unit.version} debugging format.")


@command("info line [LOCATION]", group=_GROUP)
def info_line(session: "Session", arguments: str) -> None:
    """Where the code of a line begins and ends: info line 12 | FUNCTION | FILE:LINE | *ADDRESS."""
    if arguments.startswith("*"):
        address = session.evaluate(arguments[1:])
        found = session.explainer.symbols.find(session.mm, address)
        stretch = found.image.lines.stretch(found.vaddr) if found is not None and found.image is not None else None
        if found is None or stretch is None:
            raise CommandError(f"No line number information available for address {address:#x}")
        bias = address - found.vaddr
        _tell_stretch(
            session, stretch.line.file, stretch.line.line, (bias + stretch.start, bias + stretch.end), address
        )
        return
    path, line = line_of_location(session, arguments) if arguments else _here(session)[:2]
    for image, bias in session.explainer.symbols.images(session.mm):
        lines = [number for number in image.lines.lines(path) if number >= line]
        if not lines:
            continue
        start = image.lines.addresses(path, lines[0])[0]
        base = path.rsplit("/", 1)[-1]
        if lines[0] != line:
            address = bias + start
            session.print(
                f'Line {line} of "{base}" is at address {address:#x} {session.name_of(address)} but contains no code.'
            )
            return
        stretch = image.lines.stretch(start)
        end = stretch.end if stretch is not None else start
        _tell_stretch(session, base, line, (bias + start, bias + end), None)
        return
    raise CommandError(f'Line number {line} is out of range for "{path.rsplit("/", 1)[-1]}".')


def _tell_stretch(session: "Session", file: str, line: int, place: tuple[int, int], address: int | None) -> None:
    start, end = place
    if address is not None and address != start:
        session.print(f'Line {line} of "{file}" starts at address {start:#x} {session.name_of(start)} and ends at '
                      f'{end:#x} {session.name_of(end)}.'.replace(" .", "."))  # fmt: skip
        session.print(f"{address:#x} is in it.")
    else:
        words = f'Line {line} of "{file}" starts at address {start:#x} {session.name_of(start)} and ends at {end:#x}'
        session.print(f"{words} {session.name_of(end)}.".replace(" .", "."))
    session.tell(file=file, line=line, start=start, end=end)


@command("info address NAME", group=_GROUP)
def info_address(session: "Session", arguments: str) -> None:
    """Where a variable or function is, seen from the chosen frame."""
    from minikernel.kdb.expr import ExprError
    from minikernel.kdb.locals import find_local, lookup
    from minikernel.report.dwarf.ctypes import Function, strip

    view = session.view
    spot = view.spot(view.selected)
    local = find_local(spot, arguments) if spot is not None else None
    try:
        value = lookup(session, arguments)
    except ExprError as error:
        raise CommandError(f'Symbol "{arguments}" has no address here: {error}.') from None
    if value is None:
        address = session.symbol(arguments)
        if address is None:
            raise CommandError(f'No symbol "{arguments}" in current context.')
        session.print(f'Symbol "{arguments}" is at {address:#x} in a file compiled without debugging.')
        return
    if value.type is not None and isinstance(strip(value.type), Function):
        words = f"a function at address {value.address or 0:#x}"
    elif value.address is None:
        words = "a variable in a register" if value.register is not None else "constant"
    else:
        words = f"{'a variable' if local is not None else 'static storage'} at address {value.address:#x}"
    session.print(f'Symbol "{arguments}" is {words}.')


@command("info functions [REGEX]", group=_GROUP)
def info_functions(session: "Session", arguments: str) -> None:
    """The functions whose names match, by their files, with their types; then those without a description."""
    _info_names(session, arguments, functions=True)


@command("info variables [REGEX]", group=_GROUP)
def info_variables(session: "Session", arguments: str) -> None:
    """The variables outside of functions whose names match, by their files, with their types."""
    _info_names(session, arguments, functions=False)


def _info_names(session: "Session", text: str, *, functions: bool) -> None:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise CommandError(f"Invalid regexp: {error}.") from None
    what = "functions" if functions else "variables"
    session.print(f'All {what} matching regular expression "{text}":' if text else f"All defined {what}:")
    described: set[str] = set()
    files: dict[str, list[tuple[int, str]]] = {}
    for image, _ in session.explainer.symbols.images(session.mm):
        index = image.program.index
        for name, dies in (index.functions if functions else index.variables).items():
            described.add(name)
            if pattern.search(name):
                for die in dies:
                    words = _declaration(image, die, name, functions=functions)
                    files.setdefault(file_of(image, die), []).append((die.number(n.AT_decl_line), words))
    for path in sorted(files):
        session.print(f"\nFile {path.rsplit('/', 1)[-1]}:")
        for line, words in sorted(files[path])[:_MAX_NAMES]:
            session.print(f"{line}:\t{words}")
    _others(session, pattern, described, functions=functions)


def _declaration(image: "Image", die: Die, name: str, *, functions: bool) -> str:
    try:
        types = image.program.types
        kind = types.function(die) if functions else types.of(die.type)
        static = "" if die.flag(n.AT_external) else "static "
    except DamagedError:
        return f"{name};"
    return f"{static}{declare(kind, name)};"


def _others(session: "Session", pattern: re.Pattern[str], described: set[str], *, functions: bool) -> None:
    rows: list[tuple[int, str]] = []
    for image, bias in session.explainer.symbols.images(session.mm):
        for name in image.names:
            if name not in described and pattern.search(name):
                rows += [(bias + at, name) for at in image.values(name) if image.is_code(at) is functions]
    if rows:
        session.print("\nNon-debugging symbols:")
    for address, name in sorted(rows)[:_MAX_NAMES]:
        session.print(f"{address:#0{2 * session.word + 2}x}  {name}")
    if len(rows) > _MAX_NAMES:
        session.print(f"... and {len(rows) - _MAX_NAMES:,} more.")


def body_at(symbols: "Symbols", mm: "MmStruct", address: int) -> int:
    """Where the body of the function at *address* begins, behind what sets its frame up; *address* if that is unknown.

    gdb: symtab.c, skip_prologue_sal.  With location lists the compiler says where variables are from the first
    instruction on, so nothing need be skipped.
    """
    found = symbols.find(mm, address)
    if found is None or found.image is None:
        return address
    scopes = found.image.program.scopes(found.vaddr)
    if not scopes or scopes[0].entry_pc != found.vaddr or has_location_lists(found.image.program, scopes[0]):
        return address
    stretch = found.image.lines.stretch(found.vaddr)
    if stretch is None or not scopes[0].contains(stretch.end):
        return address
    return address - found.vaddr + stretch.end


def has_location_lists(program: Program, function: Die) -> bool:
    """Whether the unit of *function* was compiled with them, that is, optimised."""
    if not program.debug.section(".debug_loclists") and not program.debug.section(".debug_loc"):
        return False
    for _, _, die in function.unit.functions():
        pending = list(die.children)
        while pending:
            each = pending.pop()
            location = each.own(n.AT_location)
            if location is not None and location.kind is not Kind.BLOCK:
                return True
            if each.tag in {n.TAG_lexical_block, n.TAG_inlined_subroutine}:
                pending += each.children
    return False
