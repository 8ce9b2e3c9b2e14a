"""The steps and runs of control.py and lines.py, backwards; which place each leads to, and the commands.

A function that has returned is gone through backwards by way of its call: the last time that the caller stood at the
instruction in front of the return address, with the stack pointer that it has behind it.
"""

from functools import partial
from typing import TYPE_CHECKING, Final

from emu.cpu import RIP, RSP
from minikernel.kdb import back, blocks, travel
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.control import count_of
from minikernel.kdb.machine import Mark, Position
from minikernel.kdb.searchback import Hit, last_at, last_stop
from minikernel.report.place import locate

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "time"
_LONGEST_CALL: Final = 9  # bytes: a prefix or two, FF /2 with SIB and displacement
_MARKS: Final = 128  # instructions that are looked at one by one, at first
_MOST_MARKS: Final = 1 << 17
_Line = tuple[str, int, str]
"""File, line, function."""


# ---- where


def stop_before(session: "Session", before: Position) -> tuple[Position, Hit] | None:
    """The last stop before *before*, and its place: a watchpoint's is in front of the instruction that did it."""
    hit = last_stop(session, before)
    if hit is None:
        return None
    if hit.writer:
        steps = back.steps_before(session, hit.position, hit.writer, 1)
        if steps:
            return steps[-1].position, hit
    return hit.position, hit


def over_call(session: "Session", after: Mark) -> Mark | None:
    """In front of the call that returned to where *after* is; None: no call is found."""
    sites = call_sites(session, after.pc)
    return last_at(session, after.position, sites, after.pid, after.sp) if sites else None


def call_sites(session: "Session", pc: int) -> set[int]:
    """Where a call begins that returns to *pc*."""
    found = set()
    for size in range(2, _LONGEST_CALL + 1):
        insns = session.disassemble(pc - size, 1)
        if insns and insns[0].size == size and insns[0].mnemonic.endswith("call"):
            found.add(pc - size)
    return found


def next_before(session: "Session", here: Mark) -> Mark | None:
    """The instruction of the task before *here*, functions that were called and string instructions as one."""
    steps = back.steps_before(session, here.position, here.pid, 1)
    if not steps:
        return None
    last = steps[-1]
    mnemonic = _mnemonic(session, last.pc)
    if mnemonic.startswith("ret") and (call := over_call(session, here)) is not None:
        return call
    if mnemonic.startswith("rep") and last.pc != here.pc:
        return _first_turn(session, here, last.pc)
    return last


def _first_turn(session: "Session", here: Mark, pc: int) -> Mark | None:
    """Where the string instruction at *pc*, which ended at *here*, began."""
    count = _MARKS
    while True:
        steps = back.steps_before(session, here.position, here.pid, count)
        turns = 0
        while turns < len(steps) and steps[-1 - turns].pc == pc:
            turns += 1
        if turns < count or count > _MOST_MARKS:
            return steps[-turns]
        count *= 8


def _mnemonic(session: "Session", pc: int) -> str:
    insns = session.disassemble(pc, 1)
    return insns[0].mnemonic if insns else ""


def here(session: "Session") -> Mark:
    """The present, as the task in the CPU sees it.

    Raises:
        CommandError: the program has ended.
    """
    if session.kernel.current is None or session.kernel.exit_code is not None:
        raise CommandError("The program has ended here; reverse-stepi and reverse-continue go back from it.")
    task = session.kernel.current
    regs = session.kernel.cpu.regs
    return Mark(session.machine.position, task.pid, regs[RIP] & task.abi.mask, regs[RSP] & task.abi.mask)


# ---- by lines


def line_at(session: "Session", pc: int) -> _Line | None:
    """The source line of *pc*."""
    place = locate(session.mm, session.explainer.symbols, pc)
    if place.line is None:
        return None
    return place.line.file, place.line.line, place.symbol.name if place.symbol is not None else ""


def line_before(session: "Session", start: Mark, *, into: bool) -> Mark | None:
    """The beginning of the line that *start* is in, or, where it stands there, of the line executed before.

    *into*: functions with line numbers that were called count, too.  None: the history begins before.

    Raises:
        CommandError: there are no line numbers here.
    """
    if line_at(session, start.pc) is None:
        raise CommandError("Cannot find bounds of current function: no line numbers here.  reverse-stepi works.")
    walk = _Backwards(session, start, into=into)
    first = walk.step()
    if first is None:
        return None
    line = line_at(session, first.pc)
    at = first
    while (before := walk.step()) is not None:
        if line_at(session, before.pc) != line:
            break
        at = before
    return at


class _Backwards:
    """Goes back instruction by instruction through code with lines, over what was called."""

    def __init__(self, session: "Session", start: Mark, *, into: bool) -> None:
        self._session = session
        self._at = start
        self._into = into
        self._marks: list[Mark] = []
        self._kinds: dict[int, str] = {}

    def step(self) -> Mark | None:
        """The instruction before; None: there is none."""
        while True:
            mark = self._before()
            if mark is None:
                return None
            after, self._at = self._at, mark
            if mark.pc not in self._kinds:
                self._kinds[mark.pc] = _mnemonic(self._session, mark.pc)
            returned = self._kinds[mark.pc].startswith("ret")
            has_line = line_at(self._session, mark.pc) is not None
            if returned and not (self._into and has_line):
                call = over_call(self._session, after)
                if call is not None:
                    self._marks = []
                    self._at = mark = call
                    has_line = line_at(self._session, mark.pc) is not None
            if has_line:
                return mark

    def _before(self) -> Mark | None:
        if not self._marks:
            self._marks = back.steps_before(self._session, self._at.position, self._at.pid, _MARKS)
        return self._marks.pop() if self._marks else None


# ---- commands


def show_stop(hit: Hit, pid: int, session: "Session") -> None:
    """Say what stopped the program here, and count the hits."""
    met = [session.points[number] for number in hit.numbers if number in session.points]
    blocks.stopped(session, met)
    for point in met:
        point.hits += 1
        if point.temporary:
            del session.points[point.number]
    words = _backwards(hit.words) if hit.writer else hit.words
    session.print(words)
    if hit.writer and session.kernel.current is not None and session.kernel.current.has_mm:
        session.print(session.place_words(session.registers()[RIP]))
    travel.show_arrival("", pid, session)


def _backwards(words: str) -> str:
    """A watchpoint's words, going back: what was the new value is the old one now."""
    lines = words.splitlines()
    for at, line in enumerate(lines[:-1]):
        if line.startswith("Old value = ") and lines[at + 1].startswith("New value = "):
            old, new = line.removeprefix("Old value = "), lines[at + 1].removeprefix("New value = ")
            lines[at], lines[at + 1] = f"Old value = {new}", f"New value = {old}"
    return "\n".join(lines)


@command("reverse-continue [N]", "rc", group=_GROUP)
def reverse_continue(session: "Session", arguments: str) -> None:
    """Go back to the last stop, by breakpoints, watchpoints, catchpoints and signals as they are; or the Nth last.

    A watchpoint stops in front of the instruction that changed the value.  Where the program stands does not count.
    """
    count = count_of(session, arguments)
    position, hit = session.machine.position, None
    for _ in range(count):
        found = stop_before(session, position)
        if found is None:
            travel.go(session, None)
            return
        position, hit = found
    if hit is not None:
        back.finish(session, back.AtPosition(position), partial(show_stop, hit, back.task_at(session)))


@command("reverse-nexti [N]", "rni", group=_GROUP)
def reverse_nexti(session: "Session", arguments: str) -> None:
    """Undo one instruction, or N, but the whole of a function that was called, and of a repeated string instruction."""
    at: Mark | None = here(session)
    for _ in range(count_of(session, arguments)):
        if at is None:
            break
        at = next_before(session, at)
    travel.go(session, back.AtPosition(at.position) if at is not None else None)


@command("reverse-step [N]", "rs", group=_GROUP)
def reverse_step(session: "Session", arguments: str) -> None:
    """Go back to the beginning of the line before, N times; into functions that have line numbers, at their end."""
    _by_lines(session, arguments, into=True)


@command("reverse-next [N]", "rn", group=_GROUP)
def reverse_next(session: "Session", arguments: str) -> None:
    """Go back to the beginning of the line before, N times; functions that were called are gone over."""
    _by_lines(session, arguments, into=False)


def _by_lines(session: "Session", arguments: str, *, into: bool) -> None:
    at: Mark | None = here(session)
    for _ in range(count_of(session, arguments)):
        if at is None:
            break
        at = line_before(session, at, into=into)
    back_to = back.AtPosition(at.position) if at is not None else None
    travel.go(session, back_to, place=True)


@command("reverse-finish", "rfin", group=_GROUP)
def reverse_finish(session: "Session", arguments: str) -> None:
    """Go back to where the current function was called."""
    if arguments:
        raise CommandError("This command takes no arguments.")
    mark = here(session)
    frames = session.frames()
    if len(frames) < 2:
        raise CommandError('"reverse-finish" not meaningful in the outermost frame.')
    words = f"Run back to call of #0  {session.place_words(frames[0].pc)}"
    sites = call_sites(session, frames[1].pc)
    found = last_at(session, mark.position, sites, mark.pid, frames[0].cfa) if sites else None
    if found is None:
        raise CommandError("The call of this function is not found.")
    travel.go(session, back.AtPosition(found.position), words, place=True)
