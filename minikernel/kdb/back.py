"""Going back: which position is meant, found by running copies of the past forward; nothing here prints.

gdb's words: to reverse-step is to undo instructions; to reverse-continue is to go to the last stop before the present.
Each function gives a position (``None``: there is none in this run) without moving the machine; ``go_to`` moves it.
"""

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from minikernel.kdb import blocks, wire
from minikernel.kdb.checkpoints import Then, Timeline
from minikernel.kdb.command import CommandError
from minikernel.kdb.machine import Mark, Position, Why

if TYPE_CHECKING:
    from collections.abc import Callable

    from minikernel.kdb.session import Session

NO_HISTORY: Final = "No more reverse-execution history."
_ANY: Final = 1 << 62  # services: the last position of an instruction count
_WINDOW: Final = 64  # instructions that are stepped to find the last few
_MOST_STEPPED: Final = 1 << 20


def timeline_of(session: "Session") -> Timeline:
    """The checkpoints of *session*.

    Raises:
        CommandError: this run cannot be gone over again.
    """
    timeline = session.timeline
    if timeline is None:
        raise CommandError("This session has no checkpoints: it is no process of its own.")
    reason = timeline.why_not()
    if reason is not None:
        raise CommandError(reason)
    return timeline


# ---- moving


class Place(Protocol):
    """Somewhere in the run."""

    def is_ahead(self, position: Position, events: int) -> bool:
        """Whether a machine at *position*, which has told *events* events, gets there by going forward, or is there."""
        ...

    def reach(self, session: "Session") -> None:
        """Go there, forward, past all points.  Raises CommandError: Ctrl-C."""
        ...


@dataclass(frozen=True, slots=True)
class AtPosition:
    """A position that this run has had."""

    position: Position

    def is_ahead(self, position: Position, events: int) -> bool:
        """See Place."""
        del events
        return self.position >= position

    def reach(self, session: "Session") -> None:
        """See Place."""
        pause = timeline_of(session).advance(self.position.icount, to=self.position)
        here = session.machine.position
        assert here == self.position, f"at {here} instead of {self.position}: {pause.why.value}"


@dataclass(frozen=True, slots=True)
class AtCount:
    """Behind so many instructions, or at the end of the run."""

    icount: int

    def is_ahead(self, position: Position, events: int) -> bool:
        """See Place."""
        del events
        return self.icount >= position.icount

    def reach(self, session: "Session") -> None:
        """See Place."""
        timeline_of(session).advance(self.icount, to=None)


@dataclass(frozen=True, slots=True)
class AtEvent:
    """Behind the service that told event *number*."""

    number: int

    def is_ahead(self, position: Position, events: int) -> bool:
        """See Place."""
        del position
        return self.number > events

    def reach(self, session: "Session") -> None:
        """See Place."""
        session.stop_at_event = self.number
        try:
            timeline_of(session).advance(None, to=None)
        finally:
            session.stop_at_event = 0


def go_to(session: "Session", place: Place, then: Then) -> Any:
    """Put the machine at *place*, and give what *then* gives there.

    Where another copy of the machine takes over this function does not return: the copy answers the request that is
    being served with what *then* gives.

    Raises:
        CommandError: Ctrl-C on the way; the machine is where it was, if it was to go back.
    """
    timeline = timeline_of(session)
    here = session.machine.position
    best = [each for each in timeline.points if place.is_ahead(each.position, each.events)]
    if not place.is_ahead(here, session.nr_events) or (best and best[-1].position > here):
        if not best:
            raise CommandError(NO_HISTORY)
        if session.executing and not _may_leave(session):
            raise CommandError("Time goes back at the prompt and in command files only, not inside other commands.")
        timeline.become(best[-1], place.reach, then)
    place.reach(session)
    return then(session)


def _may_leave(session: "Session") -> bool:
    """Nothing is to be done behind the command that is being executed, which another copy would not know of."""
    return session.at_prompt and session.executing == 1 and not session.workbench.following


def finish(session: "Session", place: Place, show: "Callable[[Session], None]") -> None:
    """End the command that is being executed at *place*, with what *show* prints there."""
    blocks.going(session)
    go_to(session, place, partial(_show, show))


def _show(show: "Callable[[Session], None]", session: "Session") -> wire.Executed:
    ok = session.perform(show)
    ok = blocks.follow_up(session) and ok
    return wire.Executed(ok, session.done)


def beginning(session: "Session") -> AtPosition:
    """The start of the history."""
    timeline = timeline_of(session)
    return AtPosition(timeline.points[0].position)


def place_of(session: "Session", text: str) -> Place:
    """What the user means by *text*: ICOUNT, +N, -N, event N or start.

    Raises:
        CommandError.
    """
    word, _, rest = text.partition(" ")
    if text == "start":
        return beginning(session)
    if word == "event" and rest:
        number = session.evaluate(rest)
        if number < 1:
            raise CommandError("Events are counted from 1.")
        return AtEvent(number)
    sign = {"+": 1, "-": -1}.get(text[:1])
    if sign is None:
        return AtCount(session.evaluate(text))
    target = session.machine.icount + sign * session.evaluate(text[1:])
    if target < 0:
        raise CommandError(NO_HISTORY)
    return AtCount(target)


def private_kib(pid: int) -> int:
    """KiB that process *pid* of ours has to itself; 0 where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:  # noqa: PTH123 - as elsewhere
            rows = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return 0
    return sum(int(rows.get(name, "0 kB").split()[0]) for name in ("Private_Clean", "Private_Dirty"))


# ---- one instruction back


def task_at(session: "Session") -> int:
    """Whose instructions are undone: the task in the CPU; 0, anybody's, where there is none."""
    task = session.kernel.current
    return task.pid if task is not None and session.kernel.exit_code is None else 0


def steps_before(session: "Session", end: Position, pid: int, count: int) -> list[Mark]:
    """Where the last *count* instructions of task *pid* (0: of all) before *end* began, or what there is of them."""
    timeline = timeline_of(session)
    last = session.machine.last_ran(pid) if pid else end.icount
    last = min(last, end.icount)
    window = _WINDOW + 2 * count
    while True:
        start = max(last - window, 0)
        checkpoint = timeline.before(Position(start, _ANY))
        steps: list[Mark] = timeline.scout(checkpoint, partial(_collect, start, last, end, pid, count))
        if len(steps) >= count or not start or window > _MOST_STEPPED:
            return steps
        window *= 16


def _collect(start: int, last: int, end: Position, pid: int, count: int, session: "Session") -> list[Mark]:
    """Step from instruction *start* to *last*, not beyond *end*; the last *count* steps of task *pid*."""
    machine = session.machine
    machine.undisturbed = True
    if start > machine.icount:
        machine.run(until=start)
    steps: deque[Mark] = deque(maxlen=count)
    while machine.position < end and machine.icount <= last:
        pause = machine.step()
        mark = machine.stepped
        if machine.position > end and (mark is None or machine.icount > end.icount):
            break
        if mark is not None and mark.position < end and pid in {0, mark.pid}:
            steps.append(mark)
        if pause.why in {Why.EXITED, Why.STUCK}:
            break
    return list(steps)


def instruction_before(session: "Session", count: int = 1) -> Position | None:
    """Where *count* instructions of the task in the CPU are undone; None: it has not executed so many."""
    if count > _MOST_STEPPED:
        raise CommandError(
            f"That is more than {_MOST_STEPPED:,} instructions; `goto -N` goes back over those of all tasks."
        )
    here = session.machine.position
    pid = task_at(session)
    steps = steps_before(session, here, pid, count)
    if not steps and pid:  # it has just been made: what came before is its parent's
        steps = steps_before(session, here, 0, count)
    return steps[0].position if len(steps) == count else None
