"""Commands about what stops the program: break, tbreak, catch, condition, ignore, delete, handle."""

from typing import TYPE_CHECKING, Final

from minikernel.abi.signal import NAMES
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.kdb import points as p
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.conditions import checked, split_if
from minikernel.kdb.watching import value_of

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "stops"


def _break(session: "Session", arguments: str, *, temporary: bool) -> None:
    location, condition = split_if(arguments)
    if not location:
        location = f"*{session.registers()[16]:#x}"
    address = session.locate(location)
    number = session.next_number
    point = p.Breakpoint(
        number=number, what=location, temporary=temporary, condition=checked(session, condition), address=None
    )
    kind = "Temporary breakpoint" if temporary else "Breakpoint"
    if address is None:
        session.print(f'Function "{location}" not defined.  {kind} {number} waits for it to be mapped.')
    else:
        point.place_in(session.task.tgid, session.mm, address)
        session.print(f"{kind} {number} at {address:#x} {session.name_of(address)}".rstrip())
    session.add(point)


@command("break LOCATION [if CONDITION]", "b", "br", group=_GROUP)
def break_(session: "Session", arguments: str) -> None:
    """Stop in front of LOCATION: FUNCTION, FILE:LINE, *ADDRESS; without one, here.

    It holds in every process that maps the same page of the same file there.  What is not mapped yet is waited for.
    A breakpoint that is not reached costs the run nothing.
    """
    _break(session, arguments, temporary=False)


@command("tbreak LOCATION [if CONDITION]", "tb", group=_GROUP)
def tbreak(session: "Session", arguments: str) -> None:
    """As break, but it is deleted when it has stopped the program."""
    _break(session, arguments, temporary=True)


@command("catch WHAT [SYSCALL|SIGNAL|KIND|EVENT...]", group=_GROUP)
def catch(session: "Session", arguments: str) -> None:
    """Stop when the kernel does something: catch syscall|signal|fault|exec|fork|exit|event [NAMES...].

    syscall read write     a call, and its return; without names, any
    signal SIGSEGV         a signal is sent or delivered
    fault KIND             a page fault has been served, or has failed: minor major segv bus oom, zero_page anon
                           file_read file_cow file_shared cow_copy cow_reuse swap_in spurious code
    event NAME             any event by its name, as `events` shows it
    """
    kind, *names = arguments.split()[:32] or [""]
    if kind not in p.CATCHES:
        raise CommandError(f"catch wants one of: {', '.join(p.CATCHES)}.")
    if names and kind in {"exec", "fork", "exit"}:
        raise CommandError(f"catch {kind} takes no names.")
    if kind == "event" and not names:
        raise CommandError("catch event wants the names of events.")
    known = {
        "syscall": {name for numbers in NUMBERS.values() for name in numbers},
        "signal": {*NAMES, *(name.removeprefix("SIG") for name in NAMES)},
        "fault": set(p.FAULT_WORDS),
    }.get(kind)
    for name in names:
        if known is not None and name not in known and not name.isdecimal():
            raise CommandError(f"Unknown {kind} name '{name}'.")
    point = p.Catchpoint(number=session.next_number, what=arguments, kind=kind, only=frozenset(names))
    session.add(point)
    session.print(f"Catchpoint {point.number} ({arguments})")


@command("delete [POINT...]", "d", group=_GROUP)
def delete(session: "Session", arguments: str) -> None:
    """Delete breakpoints, watchpoints and catchpoints by their numbers; without numbers, all."""
    for number in _numbers(session, arguments):
        del session.points[number]


@command("enable [POINT...]", "en", group=_GROUP)
def enable(session: "Session", arguments: str) -> None:
    """Let points stop the program again."""
    for number in _numbers(session, arguments):
        point = session.points[number]
        point.enabled = True
        if isinstance(point, p.Watchpoint):
            point.old = value_of(session, point)


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
    point.ignore = max(session.evaluate(text), 0)
    session.print(f"Will ignore next {point.ignore} crossings of breakpoint {point.number}.")


@command("info breakpoints", "info break", "info b", "info watchpoints", group=_GROUP)
def info_breakpoints(session: "Session", arguments: str) -> None:
    """Everything that stops the program, with how often it was met."""
    del arguments
    if not session.points:
        session.print("No breakpoints, watchpoints or catchpoints.")
        return
    session.print(f"{'Num':<4}{'Type':<16}{'Disp':<5}{'Enb':<4}What")
    for point in session.points.values():
        disposition = "del" if point.temporary else "keep"
        enabled = "y" if point.enabled else "n"
        kind = point.type if isinstance(point, p.Watchpoint) else type(point).__name__.lower()
        session.print(f"{point.number:<4}{kind:<16}{disposition:<5}{enabled:<4}{_what(point)}")
        if point.condition:
            session.print(f"\tstop only if {point.condition}")
        if point.hits:
            session.print(f"\talready hit {point.hits} time{'s' if point.hits > 1 else ''}")
        if point.ignore:
            session.print(f"\tignore next {point.ignore} hits")


def _what(point: p.Point) -> str:
    if isinstance(point, p.Breakpoint):
        return f"{point.address:#x} {point.what}" if point.address is not None else f"<PENDING> {point.what}"
    return point.what


@command("handle SIGNAL stop|nostop", group=_GROUP)
def handle(session: "Session", arguments: str) -> None:
    """Whether SIGNAL stops the program when it is sent.  The program gets it in any case."""
    words = arguments.split()
    if len(words) != 2 or words[0] not in NAMES or words[1] not in {"stop", "nostop"}:
        raise CommandError("handle wants a signal's name and `stop` or `nostop`.")
    session.stopping[words[0]] = words[1] == "stop"
    session.print(f"{words[0]}: {words[1]}")


def _point(session: "Session", word: str) -> p.Point:
    number = int(word) if word.isdecimal() and len(word) < 8 else 0
    if number not in session.points:
        raise CommandError(f"No breakpoint number {word or '?'}.")
    return session.points[number]


def _numbers(session: "Session", arguments: str) -> list[int]:
    """The numbers given, all without any."""
    if not arguments:
        return list(session.points)
    return [_point(session, word).number for word in dict.fromkeys(arguments.split())]
