"""``bs`` and ``bc``: back by one instruction, back to the last point before the present; gdb's ``reverse-*`` commands.

The run is gone over again in copies of the machine (kdb/checkpoints.py).  Backwards a breakpoint stops in front of its
instruction, as forwards; a watchpoint stops where the access has been undone.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from emu.cpu import RIP
from minikernel.gdb.points import clear_points, code_point, set_points, touched_points
from minikernel.gdb.resume import Control
from minikernel.gdb.stops import Stop
from minikernel.gdb.text import ANY
from minikernel.kdb import back
from minikernel.kdb.machine import Position, Why

if TYPE_CHECKING:
    from minikernel.gdb.client import Client
    from minikernel.kdb.session import Session

BEGINNING: Final = "replaylog:begin;"


@dataclass(frozen=True, slots=True)
class Found:
    """A stop in the past: where, of which thread, and why."""

    position: Position
    pid: int
    tid: int
    reason: str = ""


def is_possible(session: "Session") -> bool:
    """Whether this run can be gone over again."""
    return session.timeline is not None and session.timeline.why_not() is None


def instruction_back(session: "Session", client: "Client") -> Found | None:
    """Where the last instruction of the thread of Hc began; None: it has executed none since the history began.

    Raises:
        CommandError: the run cannot be gone over again; Ctrl-C.
    """
    tid = client.step.tid if client.step.tid > ANY else back.task_at(session)
    task = session.kernel.tasks.get(tid)
    steps = back.steps_before(session, session.machine.position, tid, 1)
    if not steps:
        return None
    mark = steps[-1]
    return Found(mark.position, task.tgid if task is not None else mark.pid, mark.pid)


def point_back(session: "Session", client: "Client") -> Found | None:
    """The last stop at a point of *client* before the present; None: there is none in the history.

    Raises:
        CommandError: as above.
    """
    timeline = back.timeline_of(session)
    end = session.machine.position
    while True:
        earlier = [each for each in timeline.points if each.position < end]
        if not earlier:
            return None
        found: Found | None = timeline.scout(earlier[-1], partial(_last_point, client, end))
        if found is not None:
            return _undone(found, session) if found.reason.startswith(("watch", "rwatch", "awatch")) else found
        end = earlier[-1].position


def _last_point(client: "Client", end: Position, session: "Session") -> Found | None:
    """Run from here to *end*, and tell the last stop at a point on the way."""
    machine = session.machine
    machine.undisturbed = True
    set_points(machine, client)
    here_counts = True
    last: Found | None = None
    while True:
        pause = machine.run(to=end, here_counts=here_counts)
        here_counts = False
        if machine.lookout is not None and (touched := touched_points(machine, client, machine.lookout.touches)):
            stop = touched[-1]
            last = Found(machine.position, stop.pid, stop.tid, stop.reason)
            machine.lookout.touches.clear()
        task = session.kernel.current
        if pause.why is Why.BREAK and task is not None and machine.position < end:
            inferior = client.inferiors.get(task.tgid)
            point = code_point(inferior, session.kernel.cpu.regs[RIP] & task.abi.mask) if inferior is not None else None
            if point is not None:
                last = Found(machine.position, task.tgid, task.pid, "hwbreak:;" if point.kind else "swbreak:;")
        if pause.why in {Why.COUNTED, Why.EXITED, Why.STUCK} or machine.position >= end:
            break
    clear_points(machine)
    return last


def _undone(found: Found, session: "Session") -> Found:
    """*found*, in front of the instruction that made the access."""
    steps = back.steps_before(session, found.position, found.tid, 1)
    return Found(steps[-1].position, found.pid, found.tid, found.reason) if steps else found


def beginning(session: "Session") -> Found:
    """The oldest position that can be gone back to."""
    task = session.kernel.current
    position = back.beginning(session).position
    return Found(position, task.tgid if task is not None else 0, task.pid if task is not None else 0, BEGINNING)


def as_stop(found: Found, control: Control) -> Stop:
    """*found*, where the machine is at it."""
    tid, pid = found.tid, found.pid
    if tid not in control.kernel.tasks and (task := control.someone()) is not None:
        tid, pid = task.pid, task.tgid
    return Stop(pid, tid, reason=found.reason)
