"""Going on until something stops the program, and saying what it was."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.cpu import RIP, RSP
from minikernel.abi import signal as s
from minikernel.kdb import points as p
from minikernel.kdb.command import CommandError
from minikernel.kdb.machine import Pause, Why
from minikernel.report.peek import peek
from minikernel.task.task import TaskState

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.task.task import Task


@dataclass(frozen=True, slots=True)
class Goal:
    """Where finish, nexti and until stop: *task* at *address*, its stack pointer not below *sp*."""

    address: int
    task: "Task"
    sp: int = 0


def go_on(session: "Session", *, goals: tuple[Goal, ...] = (), until: int | None = None) -> bool:
    """Let the machine run until a point, a signal, a goal or its end; whether a goal or *until* was reached.

    What stopped it otherwise has been printed.
    """
    machine = session.machine
    before = session.kernel.current
    while True:
        stops = _arm(session, goals)
        watched = [point for point in session.points.values() if isinstance(point, p.Watchpoint) and point.enabled]
        pause = machine.run(until=until) if not watched else _run_watched(session, watched, stops, until)
        match pause.why:
            case Why.COUNTED:
                _tell_switch(session, before)
                return True
            case Why.BREAK | Why.STEPPED:
                if _at_goal(session, goals):
                    _tell_switch(session, before)
                    return True
                if at_breakpoint(session):
                    break
            case Why.ASKED:
                if _caught(session):
                    break
            case Why.SWITCHED:
                break
            case Why.INTERRUPTED:
                session.print("\nProgram received signal SIGINT, Interrupt.")
                break
            case Why.EXITED | Why.STUCK:
                tell_end(session, pause)
                return False
    _tell_switch(session, before)
    return False


def step_once(session: "Session") -> bool:
    """One instruction of the current task; False if something stopped it, which has been printed."""
    _arm(session, ())
    task = session.task
    pause = session.machine.step()
    if pause.why is Why.ASKED and not _caught(session):
        pause = Pause(Why.STEPPED)
    if pause.why in {Why.EXITED, Why.STUCK}:
        tell_end(session, pause)
        return False
    if pause.why is Why.INTERRUPTED:
        session.print("\nProgram received signal SIGINT, Interrupt.")
    if pause.why is not Why.STEPPED:
        return False
    watched = [point for point in session.points.values() if isinstance(point, p.Watchpoint) and point.enabled]
    if _watch_hit(session, watched):
        return False
    return task.state is TaskState.RUNNING or wait_for(session, task)


def wait_for(session: "Session", task: "Task") -> bool:
    """Let the others run until *task* is in the CPU again; False if something else stopped the machine."""
    while True:
        pause = session.machine.run_to_task(task)
        if pause.why is Why.SWITCHED:
            return task.has_mm
        if pause.why in {Why.EXITED, Why.STUCK}:
            tell_end(session, pause)
            return False
        if pause.why is Why.INTERRUPTED:
            session.print("\nProgram received signal SIGINT, Interrupt.")
            return False
        if (pause.why is Why.BREAK and at_breakpoint(session)) or (pause.why is Why.ASKED and _caught(session)):
            return False


def tell_end(session: "Session", pause: Pause) -> None:
    """The program has ended, or can never go on."""
    if pause.why is Why.STUCK:
        session.print(f"The machine cannot go on: {pause.text}.")
        return
    code = session.kernel.exit_code or 0
    pid = session.kernel.init.pid if session.kernel.init is not None else 0
    if code & 0x7F:
        name = s.signal_name(code & 0x7F)
        session.print(f"\nProgram terminated with signal {name}, {s.DESCRIPTIONS.get(code & 0x7F, name)}.")
        session.print("The program no longer exists.")
    elif code >> 8:
        session.print(f"[Inferior 1 (process {pid}) exited with code {code >> 8:02o}]")
    else:
        session.print(f"[Inferior 1 (process {pid}) exited normally]")


def _arm(session: "Session", goals: tuple[Goal, ...]) -> set[int]:
    """Have the machine stop at the goals and breakpoints; where they are."""
    session.flush()
    session.selected = None
    addresses = {goal.address for goal in goals}
    addresses |= {point.address for point in session.breakpoints if point.enabled and point.address is not None}
    session.machine.arm(addresses)
    return addresses


def _at_goal(session: "Session", goals: tuple[Goal, ...]) -> bool:
    kernel = session.kernel
    regs = kernel.cpu.regs
    return any(
        goal.address == regs[RIP] and goal.task is kernel.current and regs[RSP] & goal.task.abi.mask >= goal.sp
        for goal in goals
    )


def _counts(session: "Session", point: p.Point) -> bool:
    """A hit of *point*: whether its condition holds, and it is not one to go by."""
    if point.condition:
        try:
            if not session.evaluate(point.condition):
                return False
        except CommandError as error:
            session.print(f"Error in testing condition for breakpoint {point.number}:\n{error}")
    point.hits += 1
    if point.ignore:
        point.ignore -= 1
        return False
    if point.temporary:
        del session.points[point.number]
    return True


def at_breakpoint(session: "Session") -> bool:
    """Whether a breakpoint wants to stop here; says so."""
    task = session.kernel.current
    if task is None or not task.has_mm:
        return False
    pc = session.kernel.cpu.regs[RIP] & task.abi.mask
    here = [b for b in session.breakpoints if b.enabled and b.address == pc and b.applies_to(task.tgid, task.mm)]
    wanted = [point for point in here if _counts(session, point)]
    for point in wanted:
        kind = "Temporary breakpoint" if point.temporary else "Breakpoint"
        session.print(f"\n{kind} {point.number}, {session.place_words(pc)}")
    return bool(wanted)


def _caught(session: "Session") -> bool:
    """Whether what the kernel has told is worth a stop; says what it was."""
    caught, session.caught = session.caught, []
    if session.maps_changed:
        session.resolve()
    stop = False
    for point, words in caught:
        if point is None:
            description = s.DESCRIPTIONS.get(s.NAMES.index(words), words) if words in s.NAMES else words
            session.print(f"\nProgram received signal {words}, {description}.")
            stop = True
        elif point.number in session.points and _counts(session, point):
            session.print(f"\nCatchpoint {point.number} ({words})")
            stop = True
    if stop and _alive(session):
        session.print(session.place_words(session.registers()[RIP]))
    return stop


def _alive(session: "Session") -> bool:
    task = session.kernel.current
    return task is not None and task.has_mm and session.kernel.exit_code is None


def _tell_switch(session: "Session", before: "Task | None") -> None:
    after = session.kernel.current
    if after is not None and after is not before:
        session.print(f"[Switching to process {after.tgid}, thread {after.pid}]")


# ---- watching


def _run_watched(session: "Session", watched: list[p.Watchpoint], stops: set[int], until: int | None) -> Pause:
    """Step until a watched value changes, or until a run would pause."""
    machine = session.machine
    while True:
        if until is not None and machine.icount >= until:
            return Pause(Why.COUNTED)
        pause = machine.step()
        if pause.why is not Why.STEPPED:
            return pause
        if _watch_hit(session, watched):
            return Pause(Why.SWITCHED)
        if session.kernel.cpu.regs[RIP] in stops:
            return pause


def _watch_hit(session: "Session", watched: list[p.Watchpoint]) -> bool:
    """Whether a watched value has changed and its point wants to stop; says so."""
    stop = False
    for point in watched:
        mm = p.memory_of(session.kernel, point.tgid)
        new = peek(mm, point.address, point.size) if mm is not None else b""
        if new == point.old:
            continue
        old, point.old = point.old, new
        if _counts(session, point):
            stop = True
            session.print(f"\nWatchpoint {point.number}: {point.what}\n")
            session.print(f"Old value = {int.from_bytes(old, 'little')}")
            session.print(f"New value = {int.from_bytes(new, 'little')}" if new else "The memory is gone.")
    if stop and _alive(session):
        session.print(session.place_words(session.registers()[RIP]))
    return stop
