"""The last time that something happened before a moment: copies of the past are run forward, the newest first.

Each stretch between two checkpoints is run by a copy of the first, with what is looked for switched on, up to the
second; what was found last in the newest stretch that has anything is what was looked for.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from emu.cpu import RIP, RSP
from minikernel.kdb import points as p
from minikernel.kdb import watching
from minikernel.kdb.back import timeline_of
from minikernel.kdb.lookout import Lookout, Memory, Touch
from minikernel.kdb.machine import Mark, Pause, Position, Why
from minikernel.kdb.stopping import arm, is_alive, stops_of

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

T = TypeVar("T")

_END: Final = frozenset({Why.COUNTED, Why.EXITED, Why.STUCK})


class Hit(NamedTuple):
    """A stop: where, by which points (none: a signal), and what is said about it, without the place."""

    position: Position
    numbers: tuple[int, ...]
    words: str
    writer: int  # of a watchpoint's stop: the task whose instruction is just over; 0: it is no such stop


class Write(NamedTuple):
    """Memory was written: the *touch*, the position behind it, and who that was, in words."""

    touch: Touch
    position: Position
    place: str
    insn: str
    task: str
    occasion: str  # of the kernel's writes: what it was doing


def search(session: "Session", before: Position, scan: Callable[..., "list[T]"]) -> list[T]:
    """What *scan*, a picklable function (end, whether the end counts, session), finds in the last stretch that has any.

    Raises:
        CommandError: Ctrl-C.
    """
    timeline = timeline_of(session)
    end, inclusive = before, False
    for checkpoint in reversed([each for each in timeline.points if each.position < before]):
        found: list[T] = timeline.scout(checkpoint, partial(scan, end, inclusive))
        if found:
            return found
        end, inclusive = checkpoint.position, True
    return []


# ---- stops


def last_stop(session: "Session", before: Position) -> Hit | None:
    """The last stop before *before*, by the points as they are; ignore counts are used up on the way back."""
    ignored = {point.number: point.ignore for point in session.points.values()}
    end = before
    while hits := search(session, end, partial(_scan_stops, 1 + sum(ignored.values()))):
        for hit in reversed(hits):
            wanted = not hit.numbers
            for number in hit.numbers:
                wanted |= not ignored.get(number)
                ignored[number] = max(ignored.get(number, 0) - 1, 0)
            if wanted:
                for number, left in ignored.items():
                    session.points[number].ignore = left
                return hit
        end = hits[0].position
    return None


def _scan_stops(most: int, end: Position, inclusive: bool, session: "Session") -> list[Hit]:
    """The last *most* stops up to *end*."""
    machine = session.machine
    for point in session.points.values():
        point.ignore = 0
        if isinstance(point, p.Watchpoint):
            point.stays = True
            point.old = watching.value_of(session, point)
    hits: deque[Hit] = deque(maxlen=most)
    broke_at: tuple[int, int, int] | None = None
    fresh = True
    while True:
        arm(session, set())
        pause = machine.run(to=end, here_counts=fresh)
        fresh = False
        if pause.why in _END:
            if pause.why is Why.COUNTED:
                hits.extend(_pending(session, inclusive=inclusive))
            return list(hits)
        if pause.why is Why.BREAK:
            if broke_at == machine.place:
                continue
            broke_at = machine.place
        hits.extend(_hit(session, pause))
        fresh = pause.why in {Why.ASKED, Why.WATCHED}  # a breakpoint here has not been looked at


def _hit(session: "Session", pause: Pause) -> list[Hit]:
    machine = session.machine
    touches = machine.lookout.touches if machine.lookout is not None else []
    writer = touches[0].pid if pause.why is Why.WATCHED and touches else 0
    stops = stops_of(session, pause)
    if not stops:
        return []
    words = "\n".join(stop.words for stop in stops)
    if pause.why is Why.WATCHED and is_alive(session):
        words = words.removesuffix("\n" + session.place_words(session.registers()[RIP]))
    met = [stop.point for stop in stops if stop.point is not None]
    for point in met:  # a temporary one is gone only from where it is met first
        session.points[point.number] = point
    numbers = tuple(point.number for point in met)
    return [Hit(machine.position, numbers, words, writer)]


def _pending(session: "Session", *, inclusive: bool) -> list[Hit]:
    """Stops at the very end of a stretch, for which the machine has not paused yet.

    Where that is the present (not *inclusive*), events have been told there; but a write that is just over is undone
    when we go back.
    """
    hits = _hit(session, Pause(Why.ASKED)) if session.caught and inclusive else []
    lookout = session.machine.lookout
    return hits + (_hit(session, Pause(Why.WATCHED)) if lookout is not None and lookout.touches else [])


# ---- places


def last_at(session: "Session", before: Position, addresses: set[int], pid: int, sp: int) -> Mark | None:
    """The last time before *before* that task *pid* was in front of one of *addresses* with SP at *sp*."""
    found: list[Mark] = search(session, before, partial(_scan_places, frozenset(addresses), pid, sp))
    return found[-1] if found else None


def _scan_places(
    addresses: frozenset[int], pid: int, sp: int, end: Position, inclusive: bool, session: "Session"
) -> list[Mark]:
    del inclusive  # one that stands at the end of a stretch is found at the beginning of the next
    machine, regs = session.machine, session.kernel.cpu.regs
    machine.undisturbed = True
    machine.arm(set(addresses))
    found: list[Mark] = []
    fresh = True
    while machine.run(to=end, here_counts=fresh).why is Why.BREAK:
        fresh = False
        task = session.kernel.current
        if task is not None and task.pid == pid and regs[RSP] & task.abi.mask == sp:
            found = [Mark(machine.position, pid, regs[RIP] & task.abi.mask, sp)]
    return found


# ---- writes


def last_write(session: "Session", before: Position, memory: Memory) -> Write | None:
    """The last time before *before* that *memory* was written, whoever did it."""
    found: list[Write] = search(session, before, partial(_scan_writes, memory))
    return found[-1] if found else None


def _scan_writes(memory: Memory, end: Position, inclusive: bool, session: "Session") -> list[Write]:
    del inclusive  # a write that is over at the end was before it
    machine = session.machine
    machine.undisturbed = True
    lookout = machine.lookout = Lookout(session.kernel)
    lookout.watch([memory])
    found: list[Write] = []
    while True:
        pause = machine.run(to=end)
        if pause.why is Why.WATCHED or (pause.why is Why.COUNTED and lookout.touches):
            found = [_told(session, lookout.touches[-1])]
        if pause.why in _END:
            return found


def _told(session: "Session", touch: Touch) -> Write:
    """*touch*, which is just over, with words about it that only this moment knows."""
    task = session.kernel.current
    place = insn = name = ""
    if task is not None and task.has_mm:
        name = task.comm.decode(errors="backslashreplace")
        if touch.pc:
            place = session.place_words(touch.pc)
            insns = session.disassemble(touch.pc, 1)
            insn = insns[0].text if insns else ""
    return Write(touch, session.machine.position, place, insn, name, watching.occasion(session, touch))
