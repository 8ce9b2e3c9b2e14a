"""What a pause of the machine means: which of the user's points it concerns, and what is to be said about that."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.cpu import RIP, RSP
from minikernel.abi import signal as s
from minikernel.kdb import blocks, signals, watching
from minikernel.kdb import points as p
from minikernel.kdb.command import CommandError
from minikernel.kdb.formatting import formatted
from minikernel.kdb.lookout import Lookout
from minikernel.kdb.machine import Pause, Why

if TYPE_CHECKING:
    from minikernel.kdb.session import Session


@dataclass(frozen=True, slots=True)
class Stop:
    """A reason to stop: a point, or (None) a signal or the end of a watched frame; *words* are lines to show."""

    words: str
    point: p.Point | None = None


def arm(session: "Session", addresses: set[int]) -> None:
    """Have the machine pause at *addresses*, and for every point that is enabled."""
    wanted = set(addresses)
    wanted |= {point.address for point in session.breakpoints if point.enabled and point.address is not None}
    watchpoints = watching.watchpoints(session)
    wanted |= {point.frame.pc for point in watchpoints if point.frame is not None and not point.stays}
    session.machine.arm(wanted)
    memories = [memory for point in watchpoints for memory in point.memories]
    signals.arm(session)
    machine = session.machine
    if machine.lookout is None and memories:
        machine.lookout = Lookout(session.kernel)
    if machine.lookout is not None and list(machine.lookout.watched) != list(dict.fromkeys(memories)):
        machine.lookout.watch(memories)
        if not memories:
            machine.lookout = None


def look_again(session: "Session") -> None:
    """The user lets the program go on: what was changed by hand is no news."""
    if session.machine.lookout is not None:
        session.machine.lookout.look_again()


def stops_of(session: "Session", pause: Pause) -> list[Stop]:
    """Why the program should stop at this *pause*: nothing, if it is not to.  Counts the hits of points."""
    match pause.why:
        case Why.BREAK | Why.STEPPED:
            return _frames_ended(session) + _at_breakpoints(session)
        case Why.ASKED:
            return _caught(session)
        case Why.WATCHED:
            return _watched(session)
        case Why.COUNTED:
            return at_count(session)
        case _:
            return []


def announce(session: "Session", stops: list[Stop]) -> None:
    """Say it, and note what the points want to be executed."""
    if stops:
        blocks.stopped(session, [stop.point for stop in stops])
    for stop in stops:
        if not session.workbench.hushed:
            session.print(stop.words)


def counts(session: "Session", point: p.Point) -> bool:
    """A hit of *point*: whether it is for this task, its condition holds, and it is not one to go by."""
    task = session.kernel.current
    if point.thread and (task is None or task.pid != point.thread):
        return False
    if point.condition:
        try:
            if isinstance(point, p.Watchpoint) and point.frame is not None:
                holds = watching.holds(session, point)
            else:
                holds = bool(session.evaluate(point.condition))
            if not holds:
                return False
        except CommandError as error:
            session.print(f"Error in testing condition for breakpoint {point.number}:\n{error}")
    point.hits += 1
    if point.ignore:
        point.ignore -= 1
        return False
    if point.temporary:
        del session.points[point.number]
    elif point.enabled_for:
        point.enabled_for -= 1
        point.enabled = point.enabled_for > 0
    elif point.once:
        point.enabled = False
    return True


def is_alive(session: "Session") -> bool:
    """Whether there is a program to stand in."""
    task = session.kernel.current
    return task is not None and task.has_mm and session.kernel.exit_code is None


def _here(session: "Session") -> str:
    return session.place_words(session.registers()[RIP])


def _at_breakpoints(session: "Session") -> list[Stop]:
    """The breakpoints that the task in the CPU stands in front of."""
    task = session.kernel.current
    if task is None or not task.has_mm:
        return []
    pc = session.kernel.cpu.regs[RIP] & task.abi.mask
    here = [b for b in session.breakpoints if b.enabled and b.address == pc and b.applies_to(task.tgid, task.mm)]
    found = []
    for point in here:
        if not counts(session, point):
            continue
        if point.format:
            _print_formatted(session, point)
            continue
        kind = "Temporary breakpoint" if point.temporary else "Breakpoint"
        found.append(Stop(f"\n{kind} {point.number}, {session.place_words(pc)}", point))
    return found


def _print_formatted(session: "Session", point: p.Breakpoint) -> None:
    """What a dprintf does."""
    try:
        session.write(formatted(session, point.format))
    except CommandError as error:
        session.print(f"Error in dprintf {point.number}: {error}")


def at_count(session: "Session") -> list[Stop]:
    """The points that are about the number of instructions that have been executed by now."""
    found = []
    for point in list(session.points.values()):
        due = isinstance(point, p.Countpoint) and point.enabled and point.count == session.machine.icount
        if due and counts(session, point):
            kind = "Temporary breakpoint" if point.temporary else "Breakpoint"
            words = f"\n{kind} {point.number}, behind instruction {session.machine.icount:,}"
            found.append(Stop(words, point))
    return _with_place(session, found)


def next_count(session: "Session") -> int | None:
    """The next number of instructions that somebody wants to stop at."""
    ahead = [
        point.count
        for point in session.points.values()
        if isinstance(point, p.Countpoint) and point.enabled and point.count > session.machine.icount
    ]
    return min(ahead, default=None)


def _caught(session: "Session") -> list[Stop]:
    """What the kernel has told that is worth a stop."""
    caught, session.caught = session.caught, []
    if session.maps_changed:
        session.resolve()
    found = []
    for point, words in caught:
        if point is None:
            description = s.DESCRIPTIONS.get(s.NAMES.index(words), words) if words in s.NAMES else words
            text = f"\nProgram received signal {words}, {description}."
            if signals.stops(session, words):
                found.append(Stop(text))
            else:
                session.print(text)
        elif point.number in session.points and counts(session, point):
            found.append(Stop(f"\nCatchpoint {point.number} ({words})", point))
    return _with_place(session, found)


def _with_place(session: "Session", found: list[Stop]) -> list[Stop]:
    """The last of them says where the program is, too."""
    if found and is_alive(session):
        last = found.pop()
        found.append(Stop(f"{last.words}\n{_here(session)}", last.point))
    return found


def _watched(session: "Session") -> list[Stop]:
    """The watchpoints whose memory was touched so that they care."""
    lookout = session.machine.lookout
    if lookout is None:
        return []
    found = []
    for point in watching.watchpoints(session):
        touches = [touch for touch in lookout.touches if touch.memory in point.memories]
        words = watching.report(session, point, touches)
        if words is not None and counts(session, point):
            found.append(Stop(f"\n{point.title}\n\n{words}", point))
    return _with_place(session, found)


def _frames_ended(session: "Session") -> list[Stop]:
    """The watchpoints whose function has just returned: they go."""
    task = session.kernel.current
    if task is None or not task.has_mm:
        return []
    pc, sp = (session.kernel.cpu.regs[index] & task.abi.mask for index in (RIP, RSP))
    found = []
    for point in watching.watchpoints(session):
        end = point.frame
        if end is not None and not point.stays and (end.pid, end.pc) == (task.pid, pc) and sp >= end.cfa:
            del session.points[point.number]
            why = "deleted because the program has left the block in\nwhich its expression is valid."
            found.append(Stop(f"\nWatchpoint {point.number} {why}"))
    return _with_place(session, found)
