"""The client's points in the machine: having it stop at them, and which of them a stop is about."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from emu.watch import READ, WRITE, WatchKind
from minikernel.gdb.client import PointKind
from minikernel.gdb.stops import TRAP_BRKPT, TRAP_HWBKPT, Stop
from minikernel.kdb.lookout import Lookout, Memory, Touch

if TYPE_CHECKING:
    from minikernel.gdb.client import Client, Inferior, Point
    from minikernel.kdb.machine import Machine
    from minikernel.task.task import Task

_ACCESS: Final = {PointKind.WRITE: WRITE, PointKind.READ: READ, PointKind.ACCESS: READ | WRITE}
_WORDS: Final = {PointKind.WRITE: "watch", PointKind.READ: "rwatch", PointKind.ACCESS: "awatch"}


def set_points(machine: "Machine", client: "Client") -> None:
    """Have *machine* stop at every point of *client*, and at no other."""
    points = [(one.pid, point) for one in client.inferiors.values() for point in sorted(one.points)]
    machine.arm({point.address for _, point in points if point.kind.is_code})
    _watch(machine, (_memory(pid, point) for pid, point in points if not point.kind.is_code))


def clear_points(machine: "Machine") -> None:
    """Have it stop at none."""
    machine.arm(set())
    _watch(machine, ())


def _watch(machine: "Machine", memories: Iterable[Memory]) -> None:
    wanted = tuple(dict.fromkeys(memories))
    if machine.lookout is None and wanted:
        machine.lookout = Lookout(machine.kernel)
    if machine.lookout is not None and machine.lookout.watched != wanted:
        machine.lookout.watch(wanted)
    if not wanted:
        machine.lookout = None


def _memory(pid: int, point: "Point") -> Memory:
    """What a watchpoint of process *pid* watches."""
    return Memory(WatchKind.LINEAR, point.address, point.size, _ACCESS[point.kind], pid)


def code_point(inferior: "Inferior", address: int) -> "Point | None":
    """The breakpoint at *address*."""
    return min((p for p in inferior.points if p.kind.is_code and p.address == address), default=None)


def touched_points(machine: "Machine", client: "Client", touches: list[Touch]) -> list[Stop]:
    """The stops that touches of watched memory mean: one for each point, by whom it was touched first."""
    stops, reported = [], set()
    for touch in touches:
        inferior, task = client.inferiors.get(touch.memory.tgid), machine.kernel.tasks.get(touch.pid)
        if inferior is None:
            continue
        # By somebody whom the client does not know, as the kernel for another process: any thread stands for it.
        leader = machine.kernel.tasks.get(inferior.pid)
        mine = leader.process.threads if leader is not None else []
        if task not in mine:
            task = next(iter(mine), None)
        for point in sorted(inferior.points):
            watched = not point.kind.is_code and _memory(inferior.pid, point) == touch.memory
            if watched and point not in reported and task is not None:
                reported.add(point)
                reason = f"{_WORDS[point.kind]}:{max(touch.address, point.address):x};"
                stops.append(Stop(inferior.pid, task.pid, reason=reason, code=TRAP_HWBKPT))
    return stops


def point_stop(task: "Task", point: "Point") -> Stop:
    """The stop of *task* at breakpoint *point*."""
    if point.kind.value:
        return Stop(task.tgid, task.pid, reason="hwbreak:;", code=TRAP_HWBKPT)
    return Stop(task.tgid, task.pid, reason="swbreak:;", code=TRAP_BRKPT)
