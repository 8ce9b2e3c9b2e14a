"""Commands that let the program run: run, continue, stepi, nexti, finish, until."""

from typing import TYPE_CHECKING, Final

from emu.cpu import RIP, RSP
from minikernel.abi.errno import LinuxError
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.going import Goal, go_on, step_once, tell_end
from minikernel.kdb.machine import Pause, Why
from minikernel.kdb.source import frame_mark, show_arrival

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "running"
_CALLS: Final = ("call", "rep")


def count_of(session: "Session", arguments: str) -> int:
    """A number of times: an expression, 1 without one."""
    return session.evaluate(arguments) if arguments else 1


@command("run", "r", group=_GROUP)
def run(session: "Session", arguments: str) -> None:
    """Run the program from its beginning.

    The same program, arguments and files give the same run, to the last instruction.  Breakpoints stay.
    """
    _no(arguments)
    starti(session, "", quiet=True)
    if _at_start(session):
        go_and_show(session)


@command("starti", group=_GROUP)
def _starti(session: "Session", arguments: str) -> None:
    """Start the program anew and stop in front of its first instruction."""
    _no(arguments)
    starti(session, "", quiet=False)


def starti(session: "Session", arguments: str, *, quiet: bool) -> None:
    """Boot anew unless that has just been done."""
    _no(arguments)
    if session.machine.icount or session.kernel.exit_code is not None:
        session.close()
        try:
            session.start()
        except (LinuxError, OSError) as error:
            session.done = True  # there is no machine any more to ask about
            raise CommandError(f"The program cannot be started again: {error}.") from None
    if not quiet:
        session.show_position()


def _at_start(session: "Session") -> bool:
    """Stop at once where a breakpoint is at the first instruction."""
    pc = session.registers()[RIP]
    return not any(point.enabled and point.address == pc for point in session.breakpoints) or _shown(session)


def _shown(session: "Session") -> bool:
    session.show_position()
    return False


@command("continue", "c", group=_GROUP)
def cont(session: "Session", arguments: str) -> None:
    """Go on until something stops the program: continue [N].

    With N, the points that have stopped it here are gone by N - 1 times.
    """
    times = session.evaluate(arguments) if arguments else 1
    for number in session.workbench.stopped_at if times > 1 else []:
        if number in session.points:
            session.points[number].ignore = times - 1
            crossings = "crossing" if times == 2 else f"{times - 1} crossings"
            session.print(f"Will ignore next {crossings} of breakpoint {number}.  Continuing.")
    go_and_show(session)


def go_and_show(session: "Session", *, goals: tuple[Goal, ...] = (), until: int | None = None) -> None:
    """Go on, and show where the program is then."""
    if session.kernel.exit_code is not None:
        raise CommandError("The program is not being run.")
    reached = go_on(session, goals=goals, until=until)
    if session.kernel.exit_code is not None:
        if reached:
            tell_end(session, Pause(Why.EXITED))
        return
    if session.kernel.current is not None and session.kernel.current.has_mm:
        session.show_position()


@command("stepi [N]", "si", group=_GROUP)
def stepi(session: "Session", arguments: str) -> None:
    """Run one instruction of the current task, or N.

    A system call is served inside its instruction.  If it blocks, the other tasks run until it has come back.
    """
    before, reached = frame_mark(session), True
    for _ in range(count_of(session, arguments)):
        session.task  # noqa: B018 - raises when the program has ended
        if not step_once(session):
            reached = False
            break
    show_arrival(session, before, reached=reached)


@command("nexti [N]", "ni", group=_GROUP)
def nexti(session: "Session", arguments: str) -> None:
    """Run one instruction, or N, but the whole of a function that is called, and of a repeated string instruction."""
    before, reached = frame_mark(session), True
    for _ in range(count_of(session, arguments)):
        regs = session.registers()
        insns = session.disassemble(regs[RIP], 1)
        if insns and insns[0].mnemonic.startswith(_CALLS):
            goal = Goal(regs[RIP] + insns[0].size, session.task, regs[RSP])
            reached = go_on(session, goals=(goal,))
        else:
            reached = step_once(session)
        if not reached:
            break
    show_arrival(session, before, reached=reached)


@command("kill", "k", group=_GROUP)
def kill(session: "Session", arguments: str) -> None:
    """Give the program up.  ``run`` starts it again."""
    _no(arguments)
    pid = session.task.tgid
    session.kernel.exit_code = 9
    session.print(f"[Inferior 1 (process {pid}) killed]")


@command("quit", "q", "exit", group=_GROUP)
def quit_(session: "Session", arguments: str) -> None:
    """Leave the debugger."""
    _no(arguments)
    session.done = True


def _no(arguments: str) -> None:
    if arguments:
        raise CommandError("This command takes no arguments.")
