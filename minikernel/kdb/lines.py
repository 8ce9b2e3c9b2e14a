"""Commands that go by source lines: step, next, until, advance, finish.

As gdb steps (infrun.c, process_event_stop_test): instruction by instruction until a statement of another line begins.
What is called runs to its return, unless ``step`` finds lines there.  A frame is known by its canonical address, so
recursion, signal handlers, longjmp and other threads do not confuse it.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from emu.cpu import RIP, RSP
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.control import count_of
from minikernel.kdb.frames import frame_cfa, location_words
from minikernel.kdb.going import Goal, go_on, step_once
from minikernel.kdb.locals import spots
from minikernel.kdb.machine import Pause, Why
from minikernel.kdb.source import alive, body_at, frame_mark, show_arrival
from minikernel.kdb.stopping import announce, stops_of
from minikernel.kdb.stubs import stub_target

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.report.dwarf.lines import Stretch
    from minikernel.task.task import Task

_GROUP: Final = "running"
_JUMPS: Final = ("longjmp", "_longjmp", "siglongjmp", "__longjmp_chk")
_MAX_JUMP: Final = 500  # instructions from longjmp's entry to where it leads


def line_of(session: "Session", pc: int) -> "Stretch | None":
    """The stretch of code around *pc* that comes from one line, in memory's addresses; None without line numbers."""
    found = session.explainer.symbols.find(session.mm, pc)
    stretch = found.image.lines.stretch(found.vaddr) if found is not None and found.image is not None else None
    if found is None or stretch is None:
        return None
    bias = pc - found.vaddr
    return replace(stretch, start=stretch.start + bias, end=stretch.end + bias)


def is_statement(session: "Session", pc: int) -> bool:
    """Whether a statement begins at *pc*."""
    stretch = line_of(session, pc)
    return stretch is not None and stretch.start == pc and stretch.statement


@dataclass(slots=True)
class _Walk:
    """A step that is being done: the frame it goes through, and the line that it is to leave."""

    task: "Task"
    cfa: int
    line: tuple[str, int]
    depth: int  # inlined functions around the program
    into: bool
    low: int = 0  # code that belongs to the line as well: for ``until`` all of the function before it
    high: int = 0


@command("step [N]", "s", group=_GROUP)
def step(session: "Session", arguments: str) -> None:
    """Run to the beginning of another source line, N times.

    It enters functions that have line numbers, through the PLT too, and goes over those that have none.
    """
    _steps(session, arguments, into=True)


@command("next [N]", "n", group=_GROUP)
def next_(session: "Session", arguments: str) -> None:
    """Run to the beginning of another source line, N times; functions that are called run to their end."""
    _steps(session, arguments, into=False)


def _steps(session: "Session", arguments: str, *, into: bool) -> None:
    before = frame_mark(session)
    reached = all(_step_line(session, into=into) for _ in range(count_of(session, arguments)))
    show_arrival(session, before, reached=reached)


def _step_line(session: "Session", *, into: bool, whole: bool = False) -> bool:
    """Leave the line that the program is in; False if something else stopped it.  *whole*: and all lines before it."""
    registers = session.registers()
    stretch = line_of(session, registers[RIP])
    if stretch is None:
        return _step_out(session)
    inside = spots(session, registers[RIP])
    line = (inside[0].line.path, inside[0].line.line) if inside and inside[0].line is not None else ("", 0)
    walk = _Walk(session.task, frame_cfa(session), line, len(inside), into)
    if whole:
        walk.low, walk.high = session.view.entry(registers[RIP]) or 0, stretch.end
    while True:
        arrived = _advance(session, walk)
        if arrived is not None:
            return arrived
        if _has_left(session, walk):
            return True


def _step_out(session: "Session") -> bool:
    """Run to the caller of a function without line numbers."""
    frame, caller = session.view.first(1)[0], session.view.at(1)
    name = session.view.function_name(frame)
    if caller is None:
        raise CommandError("Cannot find bounds of current function: no line numbers here.  stepi and nexti work.")
    session.print(f"Single stepping until exit from function {name or '??'},\nwhich has no line number information.")
    if not go_on(session, goals=(Goal(caller.pc, session.task, frame.cfa),)):
        return False
    stretch = line_of(session, session.registers()[RIP])
    if stretch is None or stretch.start == session.registers()[RIP]:
        return True
    return _step_line(session, into=False)


def _advance(session: "Session", walk: _Walk) -> bool | None:
    """One instruction, or a function as a whole; True: `step` has entered a function; False: something else stopped."""
    before = session.registers()
    insns = session.disassemble(before[RIP], 1)
    size = insns[0].size if insns else 0
    if insns and insns[0].mnemonic.endswith("call"):
        back = Goal(before[RIP] + size, walk.task, before[RSP])
        if not walk.into:
            return None if run_over(session, back) else False
        if not _one(session):
            return False
        return _enter(session, walk, back)
    if not _one(session):
        return False
    after = session.registers()
    moved = after[RSP] - before[RSP]
    if after[RIP] != before[RIP] + size and not -64 <= moved <= 1 << 16 and not _over_handler(session, walk):
        return False
    return None


def _one(session: "Session") -> bool:
    """One instruction; False if something has stopped the program."""
    if not step_once(session):
        return False
    stops = stops_of(session, Pause(Why.BREAK))
    announce(session, stops)
    return not stops


def _over_handler(session: "Session", walk: _Walk) -> bool:
    """If a signal's handler has begun, run to where it returns to."""
    signal, interrupted = session.view.at(1), session.view.at(2)
    if signal is None or interrupted is None or not signal.signal:
        return True
    return go_on(session, goals=(Goal(interrupted.pc, walk.task, interrupted.registers[RSP] or 0),))


def _enter(session: "Session", walk: _Walk, back: Goal) -> bool | None:
    """A function has been called: stop behind its prologue if it has lines, otherwise run to its return."""
    target = session.registers()[RIP]
    if line_of(session, target) is None:
        target = stub_target(session, target) or target
    if line_of(session, target) is None:
        return None if run_over(session, back) else False
    goal = Goal(body_at(session.explainer.symbols, session.mm, target), walk.task)
    if session.registers()[RIP] == goal.address:
        return True
    if not go_on(session, goals=(goal, back)):
        return False
    return True if session.registers()[RIP] == goal.address else None


def run_over(session: "Session", back: Goal) -> bool:
    """Run until a call has returned to *back*, or longjmp has led to its caller or further out."""
    symbols = session.explainer.symbols
    doors = {at for name in _JUMPS for at in symbols.addresses(session.mm, name)}
    while True:
        if not go_on(session, goals=(back, *(Goal(door, back.task) for door in sorted(doors)))):
            return False
        registers = session.registers()
        if registers[RIP] not in doors:
            return True
        landed = _through_jump(session, registers[RSP])
        if landed is None:
            return False
        if landed >= back.sp:
            return True


def _through_jump(session: "Session", sp: int) -> int | None:
    """From longjmp's entry to where it leads: the stack pointer there; None if something else stopped."""
    for _ in range(_MAX_JUMP):
        insns = session.disassemble(session.registers()[RIP], 1)
        jumps = bool(insns) and insns[0].mnemonic == "jmp"
        if not _one(session):
            return None
        if jumps and session.registers()[RSP] > sp:
            return session.registers()[RSP]
    return 0


def _has_left(session: "Session", walk: _Walk) -> bool:
    """Whether the program stands where a step ends; what a step has left behind is noted in *walk*."""
    registers = session.registers()
    pc = registers[RIP]
    returned = bool(walk.cfa) and registers[RSP] >= walk.cfa
    stretch = line_of(session, pc)
    if stretch is None:
        if returned or not walk.cfa:
            return True
        # A jump to a function without lines instead of a call and a return: out of it into our caller.
        caller = session.view.physical_caller(session.view.first(1)[0])
        if caller is None or not run_over(session, Goal(caller.pc, walk.task, walk.cfa)):
            return True
        return _has_left(session, walk)
    if not returned and walk.low <= pc < walk.high:
        return False
    inside = spots(session, pc)
    line = (stretch.line.path, stretch.line.line)
    if pc == stretch.start and line != walk.line:
        if len(inside) > walk.depth and not walk.into and not returned:
            return False  # a function that was compiled into this one: `next` goes through it
        if stretch.statement:
            return True
        if not returned:
            return False
    if returned:
        walk.cfa, walk.depth = frame_cfa(session), len(inside)
    if len(inside) <= walk.depth:
        walk.line = line
    return False


# ---- until, advance, finish


@command("until [LOCATION]", "u", group=_GROUP)
def until(session: "Session", arguments: str) -> None:
    """Without LOCATION: as next, but never back to a line before, so that a loop is run to its end.

    until FUNCTION | LINE | FILE:LINE | *ADDRESS runs until LOCATION is reached, or the current function returns.
    until @COUNT runs to that number of instructions since boot, @+N that many more.
    """
    if not arguments:
        before = frame_mark(session)
        show_arrival(session, before, reached=_step_line(session, into=False, whole=True))
        return
    if arguments.startswith("@"):
        _until_count(session, arguments[1:])
        return
    advance(session, arguments)


def _until_count(session: "Session", text: str) -> None:
    target = session.evaluate(text.removeprefix("+")) + (session.machine.icount if text[:1] == "+" else 0)
    if target < session.machine.icount:
        raise CommandError(f"{session.machine.icount:,} instructions have been run: that point is past.")
    go_on(session, until=target)
    if alive(session):
        session.show_position()


@command("advance LOCATION", group=_GROUP)
def advance(session: "Session", arguments: str) -> None:
    """Run until LOCATION is reached, or the current function returns."""
    if not arguments:
        raise CommandError("Argument required (a location).")
    from minikernel.kdb.breaks import address_of

    address = address_of(session, arguments)
    if address is None:
        raise CommandError(f'Function "{arguments}" not defined.')
    frame, caller = session.view.selected, session.view.physical_caller(session.view.selected)
    goals = [Goal(address, session.task)]
    if caller is not None and frame.cfa:
        goals.append(Goal(caller.pc, session.task, frame.cfa))
    if go_on(session, goals=tuple(goals)) and alive(session):
        session.print(location_words(session, session.view.first(1)[0]))
    if alive(session):
        session.show_position()


@command("finish", "fin", group=_GROUP)
def finish(session: "Session", arguments: str) -> None:
    """Run until the chosen frame's function returns, and show what it returns."""
    if arguments:
        raise CommandError("This command takes no arguments.")
    view = session.view
    frame, caller = view.selected, view.at(view.selected.level + 1)
    if caller is None:
        raise CommandError('"finish" not meaningful in the outermost frame.')
    session.print(f"Run till exit from #{frame.level}  {location_words(session, frame)}")
    if caller.depth == frame.depth:
        reached = _out_of_inlined(session, frame.inline)
    else:
        reached = run_over(session, Goal(caller.pc, session.task, frame.cfa))
    spot = view.spot(frame) if alive(session) else None
    function = spot.physical if spot is not None and caller.depth != frame.depth else None
    if not alive(session):
        return
    if reached:
        session.print(location_words(session, view.first(1)[0]))
    session.show_position()
    if reached and caller.depth != frame.depth:
        from minikernel.kdb.returning import show_returned

        show_returned(session, spot, function)


def _out_of_inlined(session: "Session", inline: int) -> bool:
    """Run until the program is no longer in a function that was compiled into another."""
    frame = session.view.first(1)[0]
    walk = _Walk(session.task, frame.cfa, ("", 0), 0, into=False)
    outside = len(spots(session, frame.lookup)) - inline - 1
    while len(spots(session, session.registers()[RIP])) > outside:
        if _advance(session, walk) is not None:
            return False
        if walk.cfa and session.registers()[RSP] >= walk.cfa:
            break
    return True
