"""Commands about points that there are: delete, enable, disable, condition, ignore, info breakpoints."""

from typing import TYPE_CHECKING, Final

from minikernel.kdb import points as p
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.conditions import checked
from minikernel.kdb.watching import value_of
from minikernel.report.words import plural

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "stops"


def _point(session: "Session", word: str) -> p.Point:
    """The point with a number, or the number that a variable holds.

    Raises:
        CommandError.
    """
    known = word.startswith("$") or (word.isdecimal() and len(word) < 8)
    number = session.evaluate(word) if known else 0
    if number not in session.points:
        raise CommandError(f"No breakpoint number {word or '?'}.")
    return session.points[number]


def _numbers(session: "Session", arguments: str) -> list[int]:
    """The numbers given, and ranges of them; all without any."""
    if not arguments:
        return list(session.points)
    found: dict[int, None] = {}
    for word in arguments.split():
        first, dash, last = word.partition("-")
        if dash and first.isdecimal() and last.isdecimal():
            span = [number for number in session.points if int(first[:8]) <= number <= int(last[:8])]
            if not span:
                raise CommandError(f"No breakpoint number {word}.")
            found.update(dict.fromkeys(span))
        else:
            found[_point(session, word).number] = None
    return list(found)


@command("delete [POINT...]", "d", group=_GROUP)
def delete(session: "Session", arguments: str) -> None:
    """Delete breakpoints, watchpoints and catchpoints by their numbers, or ranges N-M; without numbers, all."""
    for number in _numbers(session, arguments.removeprefix("breakpoints").strip()):
        del session.points[number]


def _enable(session: "Session", arguments: str, *, once: bool = False, temporary: bool = False, times: int = 0) -> None:
    for number in _numbers(session, arguments):
        point = session.points[number]
        point.enabled, point.enabled_for = True, times
        point.once = once or times > 0 or point.once
        point.temporary = temporary or point.temporary
        if isinstance(point, p.Watchpoint):
            point.old = value_of(session, point)


@command("enable [POINT...]", "en", group=_GROUP)
def enable(session: "Session", arguments: str) -> None:
    """Let points stop the program again."""
    _enable(session, arguments)


@command("enable once [POINT...]", group=_GROUP)
def enable_once(session: "Session", arguments: str) -> None:
    """Let points stop the program once; then they are disabled."""
    _enable(session, arguments, once=True)


@command("enable delete [POINT...]", group=_GROUP)
def enable_delete(session: "Session", arguments: str) -> None:
    """Let points stop the program once; then they are deleted."""
    _enable(session, arguments, temporary=True)


@command("enable count COUNT POINT...", group=_GROUP)
def enable_count(session: "Session", arguments: str) -> None:
    """Let points stop the program COUNT times; then they are disabled."""
    word, _, rest = arguments.partition(" ")
    if not word:
        raise CommandError("Argument required (hit count).")
    times = session.evaluate(word)
    if times < 1:
        raise CommandError("A count is 1 at least.")
    _enable(session, rest.strip(), times=times)


@command("disable [POINT...]", "dis", group=_GROUP)
def disable(session: "Session", arguments: str) -> None:
    """Keep points, but let them stop nothing."""
    for number in _numbers(session, arguments):
        session.points[number].enabled = False


@command("condition POINT [EXPR]", "cond", group=_GROUP)
def condition(session: "Session", arguments: str) -> None:
    """Stop at point N only where EXPR is not 0; without EXPR, always."""
    word, _, text = arguments.partition(" ")
    point = _point(session, word)
    point.condition = checked(session, text.strip())
    if not point.condition:
        session.print(f"Breakpoint {point.number} now unconditional.")


@command("ignore POINT COUNT", group=_GROUP)
def ignore(session: "Session", arguments: str) -> None:
    """Go by point N the next COUNT times."""
    word, _, text = arguments.partition(" ")
    point = _point(session, word)
    if not text.strip():
        raise CommandError("Second argument (specified ignore-count) is missing.")
    point.ignore = max(session.evaluate(text), 0)
    if point.ignore == 0:
        session.print(f"Will stop next time breakpoint {point.number} is reached.")
    else:
        crossings = "crossing" if point.ignore == 1 else f"{point.ignore} crossings"
        session.print(f"Will ignore next {crossings} of breakpoint {point.number}.")


@command("info breakpoints [POINT...]", "info break", "info b", group=_GROUP)
def info_breakpoints(session: "Session", arguments: str) -> None:
    """Everything that stops the program, with how often it was met."""
    _list(session, [session.points[number] for number in _numbers(session, arguments)], "breakpoints or watchpoints")


@command("info watchpoints [POINT...]", group=_GROUP)
def info_watchpoints(session: "Session", arguments: str) -> None:
    """The watchpoints, with how often they were met."""
    chosen = [session.points[number] for number in _numbers(session, arguments)]
    _list(session, [point for point in chosen if isinstance(point, p.Watchpoint)], "watchpoints")


def _list(session: "Session", points: list[p.Point], nothing: str) -> None:
    if not points:
        session.print(f"No {nothing}.")
    else:
        digits = 2 + 2 * session.word if session.is_running else 18
        session.print(f"{'Num':<8}{'Type':<15}Disp Enb {'Address':<{digits}} What")
        for point in points:
            _show(session, point, digits)
    session.tell(points=[_told(point) for point in points])


def _show(session: "Session", point: p.Point, digits: int) -> None:
    """A point's rows, as gdb lays them out."""
    place, what = "", point.what
    if isinstance(point, p.Breakpoint):
        place = f"{point.address:#0{digits}x}" if point.address is not None else "<PENDING>"
        what = _where(session, point)
    enabled = "y" if point.enabled else "n"
    row = f"{point.number:<8}{point.type:<14} {point.disposition:<4} {enabled:<3} {place:<{digits}} {what}"
    session.print(row.rstrip())
    if point.condition:
        session.print(f"\tstop only if {point.condition}")
    if point.thread:
        session.print(f"\tstop only in thread {point.thread}")
    if point.hits:
        noun = "catchpoint" if point.type == "catchpoint" else "breakpoint"
        session.print(f"\t{noun} already hit {plural(point.hits, 'time')}")
    if point.ignore:
        session.print(f"\tignore next {plural(point.ignore, 'hit')}")
    if point.enabled_for:
        session.print(f"\tdisable after {plural(point.enabled_for, 'more hit')}")
    if isinstance(point, p.Breakpoint) and point.format:
        session.print(f"        printf {point.format}")
    for line in point.commands:
        session.print(f"        {line}")


def _where(session: "Session", point: p.Breakpoint) -> str:
    """``in main at story.c:12``; the text that it was made of where there is no more to say."""
    if point.address is None or not session.is_running:
        return point.what
    words = session.place_words(point.address).partition(" in ")[2].replace(" ()", "", 1)
    return f"in {words}" if words and not words.startswith("??") else point.what


def _told(point: p.Point) -> dict[str, object]:
    return {
        "number": point.number, "type": point.type, "disposition": point.disposition, "enabled": point.enabled,
        "address": point.address if isinstance(point, p.Breakpoint) else None, "what": point.what,
        "condition": point.condition, "hits": point.hits, "ignore": point.ignore, "commands": point.commands,
    }  # fmt: skip
