"""Commands that go by source lines: step and next."""

from typing import TYPE_CHECKING, Final

from emu.cpu import RIP, RSP
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.control import count_of
from minikernel.kdb.going import Goal, at_breakpoint, go_on, step_once
from minikernel.report.place import locate

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "running"
_Line = tuple[str, int, str]
"""File, line, function."""


@command("step [N]", "s", group=_GROUP)
def step(session: "Session", arguments: str) -> None:
    """Run to another source line, N times; into functions that have line numbers, over those that have none."""
    _step_lines(session, arguments, into=True)


@command("next [N]", "n", group=_GROUP)
def next_(session: "Session", arguments: str) -> None:
    """Run to another source line, N times; functions that are called run to their end."""
    _step_lines(session, arguments, into=False)


def _step_lines(session: "Session", arguments: str, *, into: bool) -> None:
    for _ in range(count_of(session, arguments)):
        if not _step_line(session, into=into):
            break
    else:
        session.print(session.place_words(session.registers()[RIP]))
    kernel = session.kernel
    if kernel.exit_code is None and kernel.current is not None and kernel.current.has_mm:
        session.show_position()


def _line(session: "Session") -> _Line | None:
    place = locate(session.mm, session.explainer.symbols, session.registers()[RIP])
    if place.line is None:
        return None
    return place.line.file, place.line.line, place.symbol.name if place.symbol is not None else ""


def _step_line(session: "Session", *, into: bool) -> bool:
    """Leave the line that the program is in; False if something else stopped it."""
    start = _line(session)
    if start is None:
        raise CommandError("Cannot find bounds of current function: no line numbers here.  stepi and nexti work.")
    while True:
        regs, task = session.registers(), session.task
        insns = session.disassemble(regs[RIP], 1)
        back = Goal(regs[RIP] + insns[0].size, task, regs[RSP]) if insns and insns[0].mnemonic == "call" else None
        if back is not None and not into:
            if not go_on(session, goals=(back,)):
                return False
        else:
            if not step_once(session):
                return False
            if session.kernel.current is not None and at_breakpoint(session):
                return False
            if back is not None and _line(session) is None and not go_on(session, goals=(back,)):
                return False
        # Back in a caller without line numbers the line is left, too.
        if _line(session) != start:
            return True
