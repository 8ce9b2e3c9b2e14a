"""Commands that set breakpoints: break and its kin, rbreak, dprintf, clear, save breakpoints."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from emu.cpu import RIP
from minikernel.kdb import points as p
from minikernel.kdb.catches import Catchpoint
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.conditions import checked, split_if, split_thread
from minikernel.kdb.control import run, starti
from minikernel.kdb.formatting import parse_format
from minikernel.mm.vma import VM_EXEC
from minikernel.report.place import locate

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "stops"
_MOST: Final = 1000  # breakpoints of one rbreak


def address_of(session: "Session", location: str) -> int | None:
    """The address of a location: LINE of the current file, FILE:FUNCTION, or what ``Session.locate`` takes.

    Raises:
        CommandError.
    """
    if location.isdecimal() and len(location) < 8:
        place = locate(session.mm, session.explainer.symbols, session.registers()[RIP])
        if place.line is None:
            raise CommandError("No line numbers here: FILE:LINE says which file is meant.")
        return session.locate(f"{place.line.file}:{location}")
    file, colon, function = location.rpartition(":")
    if colon and not location.startswith("*") and not function.isdecimal() and re.fullmatch(r"[\w.$@]+", function):
        return next(
            (
                each
                for each in session.explainer.symbols.addresses(session.mm, function)
                if _file_of(session, each) == file
            ),
            None,
        )
    return session.locate(location)


def _file_of(session: "Session", address: int) -> str:
    line = locate(session.mm, session.explainer.symbols, address).line
    return line.file.rpartition("/")[2] if line is not None else ""


def _break(session: "Session", arguments: str, *, temporary: bool = False, hardware: bool = False) -> None:
    text, condition = split_if(arguments)
    location, thread = split_thread(session, text)
    if location.startswith("@"):
        _break_at_count(session, location, condition, thread, temporary=temporary)
        return
    location = location or f"*{session.registers()[RIP]:#x}"  # without one, here
    _add(session, p.Breakpoint(
        number=session.next_number, what=location, temporary=temporary, condition=checked(session, condition),
        thread=thread, address=None, hardware=hardware,
    ))  # fmt: skip


def _add(session: "Session", point: p.Breakpoint) -> None:
    """Give it its place, and say where that is."""
    address = address_of(session, point.what) if session.is_running else None
    kind = "Dprintf" if point.format else "Hardware assisted breakpoint" if point.hardware else "Breakpoint"
    if point.temporary:
        kind = "Temporary breakpoint"
    if not session.is_running:
        session.print(f"{kind} {point.number} ({point.what}) pending.")
    elif address is None:
        session.print(f'Function "{point.what}" not defined.  {kind} {point.number} waits for it to be mapped.')
    else:
        point.place_in(session.task.tgid, session.mm, address)
        session.print(f"{kind} {point.number} at {address:#x} {session.name_of(address)}".rstrip())
    session.add(point)


def _break_at_count(session: "Session", location: str, condition: str, thread: int, *, temporary: bool) -> None:
    text = location[1:]
    relative = text.startswith("+")
    count = session.evaluate(text.removeprefix("+")) + (session.machine.icount if relative else 0)
    if count <= session.machine.icount:
        raise CommandError(f"{session.machine.icount:,} instructions have been run: that point is past.")
    point = p.Countpoint(
        number=session.next_number, what=f"@{count}", temporary=temporary, condition=checked(session, condition),
        thread=thread, count=count,
    )  # fmt: skip
    session.add(point)
    kind = "Temporary breakpoint" if temporary else "Breakpoint"
    session.print(f"{kind} {point.number} behind instruction {count:,}")


@command("break LOCATION [thread PID] [if CONDITION]", "b", "br", "brea", group=_GROUP)
def break_(session: "Session", arguments: str) -> None:
    """Stop in front of LOCATION: FUNCTION, FILE:LINE, LINE, FILE:FUNCTION, *ADDRESS, @COUNT; without one, here.

    It holds in every process that maps the same page of the same file there.  What is not mapped yet is waited for.
    A breakpoint that is not reached costs the run nothing.  @COUNT is behind that many instructions since boot, @+N
    that many more.
    """
    _break(session, arguments)


@command("tbreak LOCATION [thread PID] [if CONDITION]", "tb", "thbreak", group=_GROUP)
def tbreak(session: "Session", arguments: str) -> None:
    """As break, but it is deleted when it has stopped the program."""
    _break(session, arguments, temporary=True)


@command("hbreak LOCATION [thread PID] [if CONDITION]", group=_GROUP)
def hbreak(session: "Session", arguments: str) -> None:
    """As break: all breakpoints are the emulated hardware's, and there may be as many as you like."""
    _break(session, arguments, hardware=True)


@command("start", group="running")
def start(session: "Session", arguments: str) -> None:
    """Run the program from its beginning to `main`."""
    if arguments:
        raise CommandError("This command takes no arguments: the program's are the debugger's.")
    if session.machine.icount or not session.is_running:
        starti(session, "", quiet=True)
    _break(session, "main", temporary=True)
    run(session, "")


@command("rbreak REGEX", group=_GROUP)
def rbreak(session: "Session", arguments: str) -> None:
    """Set a breakpoint on every function of the program and its libraries whose name matches REGEX."""
    try:
        pattern = re.compile(arguments)
    except re.error as error:
        raise CommandError(f"Invalid regexp: {error}: {arguments}") from None
    mm, symbols = session.mm, session.explainer.symbols
    seen = {point.address for point in session.breakpoints}
    found = []
    for name in sorted(name for name in symbols.names(mm) if pattern.search(name)):
        for address in symbols.addresses(mm, name):
            vma = mm.vmas.find(address)
            if address not in seen and vma is not None and vma.flags & VM_EXEC:
                seen.add(address)
                found.append(name)
                break
    if len(found) > _MOST:
        raise CommandError(f"{len(found):,} functions match: that would be more than {_MOST:,} breakpoints.")
    for name in found:
        _add(session, p.Breakpoint(number=session.next_number, what=name, address=None))


@command('dprintf LOCATION,"FORMAT"[,EXPR...]', group=_GROUP)
def dprintf(session: "Session", arguments: str) -> None:
    """Print a text whenever LOCATION is reached, and go on: dprintf LOCATION,"FORMAT",EXPR,...

    The format is printf's.
    """
    location, comma, rest = arguments.partition(",")
    if not comma or not rest.strip():
        raise CommandError("Format string required.")
    parse_format(rest.strip())
    text, thread = split_thread(session, location.strip())
    _add(session, p.Breakpoint(
        number=session.next_number, what=text, thread=thread, address=None, format=rest.strip()
    ))  # fmt: skip


@command("clear [LOCATION]", "cl", group=_GROUP)
def clear(session: "Session", arguments: str) -> None:
    """Delete the breakpoints at LOCATION: FUNCTION, FILE:LINE, *ADDRESS; without one, where the program stands."""
    address = address_of(session, arguments) if arguments else session.registers()[RIP]
    found = [point.number for point in session.breakpoints if point.address == address and address is not None]
    if not found:
        raise CommandError(f"No breakpoint at {arguments or 'this line'}.")
    for number in found:
        del session.points[number]
    noun = "breakpoint" if len(found) == 1 else "breakpoints"
    session.print(f"Deleted {noun} {' '.join(map(str, found))}")


# ---- keeping them


def commands_for(point: p.Point) -> list[str]:
    """The commands that make *point* again."""
    condition = f" if {point.condition}" if point.condition else ""
    thread = f" thread {point.thread}" if point.thread else ""
    if isinstance(point, p.Watchpoint):
        word = {"hw watchpoint": "watch", "read watchpoint": "rwatch", "acc watchpoint": "awatch"}[point.type]
        lines = [f"{word} {point.what}{condition}"]
    elif isinstance(point, Catchpoint):
        lines = [f"{'tcatch' if point.temporary else 'catch'} {point.what}{condition}"]
    elif isinstance(point, p.Breakpoint) and point.format:
        lines = [f"dprintf {point.what}{thread},{point.format}"]
        lines += [f"condition $bpnum {point.condition}"] if point.condition else []
    else:
        hardware = isinstance(point, p.Breakpoint) and point.hardware
        word = "tbreak" if point.temporary else "hbreak" if hardware else "break"
        lines = [f"{word} {point.what}{thread}{condition}"]
    lines += [f"ignore $bpnum {point.ignore}"] if point.ignore else []
    lines += ["enable once $bpnum"] if point.once else []
    if point.commands:
        lines += ["commands", *(f"  {line}" for line in point.commands), "end"]
    return lines if point.enabled else [*lines, "disable $bpnum"]


@command("save breakpoints FILE", group=_GROUP)
def save_breakpoints(session: "Session", arguments: str) -> None:
    """Write the commands that make all points again to FILE, for `source`."""
    if not arguments:
        raise CommandError("Argument required (file name in which to save).")
    if not session.points:
        session.print("Nothing to save.")
        return
    lines = [line for point in session.points.values() for line in commands_for(point)]
    try:
        Path(arguments).expanduser().write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"Unable to open file '{arguments}' for saving ({error.strerror}).") from None
    except (ValueError, RuntimeError):  # a NUL in the name; a home that nobody has
        raise CommandError(f"{arguments!r} is no file name.") from None
    session.print(f"Saved to file '{arguments}'.")
