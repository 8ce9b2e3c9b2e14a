"""Going on until something stops the program, and saying what it was."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.cpu import RIP, RSP
from minikernel.abi import signal as s
from minikernel.kdb import blocks
from minikernel.kdb.machine import Pause, Why
from minikernel.kdb.stopping import announce, arm, look_again, next_count, stops_of
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
    before, start = session.kernel.current, machine.icount
    look_again(session)
    while True:
        _arm(session, goals)
        due = next_count(session)
        last = min((each for each in (until, due) if each is not None), default=None)
        pause = machine.run(until=last)
        arrived = pause.why is Why.COUNTED and machine.icount == until
        if arrived or (pause.why in {Why.BREAK, Why.STEPPED} and _at_goal(session, goals)):
            _tell_switch(session, before)
            return True
        if pause.why in {Why.EXITED, Why.STUCK}:
            tell_end(session, pause)
            return False
        stops = stops_of(session, pause)
        if not stops and pause.why in {Why.ASKED, Why.WATCHED, Why.COUNTED} and machine.icount != start:
            # A run does not stop where it stands already, and this one comes from elsewhere.
            stops = stops_of(session, Pause(Why.BREAK))
        announce(session, stops)
        if pause.why is Why.INTERRUPTED:
            session.print("\nProgram received signal SIGINT, Interrupt.")
        if stops or pause.why in {Why.SWITCHED, Why.INTERRUPTED}:
            break
    _tell_switch(session, before)
    return False


def step_once(session: "Session") -> bool:
    """One instruction of the current task; False if something stopped it, which has been printed."""
    look_again(session)
    _arm(session, ())
    task = session.task
    pause = session.machine.step()
    if pause.why in {Why.EXITED, Why.STUCK}:
        tell_end(session, pause)
        return False
    if pause.why is Why.INTERRUPTED:
        session.print("\nProgram received signal SIGINT, Interrupt.")
        return False
    if pause.why in {Why.ASKED, Why.WATCHED}:
        stops = stops_of(session, pause)
        announce(session, stops)
        if stops:
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
        stops = stops_of(session, pause)
        announce(session, stops)
        if stops:
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


def _arm(session: "Session", goals: tuple[Goal, ...]) -> None:
    """Have the machine stop at the goals and points."""
    blocks.going(session)
    session.flush()
    session.selected = None
    arm(session, {goal.address for goal in goals})


def _at_goal(session: "Session", goals: tuple[Goal, ...]) -> bool:
    kernel = session.kernel
    regs = kernel.cpu.regs
    return any(
        goal.address == regs[RIP] and goal.task is kernel.current and regs[RSP] & goal.task.abi.mask >= goal.sp
        for goal in goals
    )


def at_breakpoint(session: "Session") -> bool:
    """Whether a breakpoint wants to stop here; says so."""
    stops = stops_of(session, Pause(Why.BREAK))
    announce(session, stops)
    return bool(stops)


def _tell_switch(session: "Session", before: "Task | None") -> None:
    after = session.kernel.current
    if after is not None and after is not before and not session.workbench.hushed:
        session.print(f"[Switching to process {after.tgid}, thread {after.pid}]")
