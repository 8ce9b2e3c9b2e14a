"""Commands that go through time: reverse-stepi and its kin, goto, when, checkpoints."""

from functools import partial
from typing import TYPE_CHECKING, Final

from emu.cpu import RIP
from minikernel.kdb import back
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.control import count_of
from minikernel.kdb.stopping import is_alive
from minikernel.report.table import Column, grouped

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "time"
_COLUMNS: Final = (
    Column("number", "Num", right=True),
    Column("instruction", "Instruction", right=True, form=grouped),
    Column("services", "Services", right=True, form=grouped),
    Column("event", "Event", right=True, form=grouped),
    Column("pid", "Process", right=True),
    Column("kib", "Own KiB", right=True, form=grouped),
    Column("kept", "Kept", form=lambda kept: "yes" if kept else ""),
)


def show_here(session: "Session") -> None:
    """Where the program is now."""
    kernel = session.kernel
    if kernel.exit_code is not None:
        session.print("The program has ended here.")
    elif kernel.current is not None and kernel.current.has_mm:
        session.show_position()


def show_arrival(words: str, pid: int, session: "Session", *, place: bool = False) -> None:
    """Say *words*, and where the program is, *place*: by name; *pid* is the task that the user was with before."""
    task = session.kernel.current
    if words:
        session.print(words)
    if task is not None and pid and task.pid != pid:
        session.print(f"[Switching to process {task.tgid}, thread {task.pid}]")
    if place and is_alive(session):
        session.print(session.place_words(session.registers()[RIP]))
    show_here(session)


def go(session: "Session", target: back.Place | None, words: str = "", *, place: bool = False) -> None:
    """End a command at *target*, or at the beginning of the history, with *words*; *place*: say its name, too."""
    if target is None:
        target, words = back.beginning(session), f"\n{back.NO_HISTORY}"
    back.finish(session, target, partial(show_arrival, words, back.task_at(session), place=place))


@command("reverse-stepi [N]", "rsi", group=_GROUP)
def reverse_stepi(session: "Session", arguments: str) -> None:
    """Undo one instruction of the current task, or N, with all that the kernel did for it."""
    count = count_of(session, arguments)
    if count > 0:
        found = back.instruction_before(session, count)
        go(session, back.AtPosition(found) if found is not None else None)


@command("goto WHERE", group=_GROUP)
def goto(session: "Session", arguments: str) -> None:
    """Go to a place in the run, forward or back, past all breakpoints: goto ICOUNT | event N | start.

    ICOUNT is a number of instructions since boot, +N and -N that many from here.  event N stands behind event
    number N, as `events` and `when` count them.
    """
    if not arguments:
        raise CommandError("goto wants a place: ICOUNT, +N, -N, event N or start.")
    go(session, back.place_of(session, arguments))


@command("checkpoint", group=_GROUP)
def checkpoint(session: "Session", arguments: str) -> None:
    """Keep a copy of the machine as it is now; others are made, and thinned out, by themselves."""
    if arguments:
        raise CommandError("This command takes no arguments.")
    made = back.timeline_of(session).take(pinned=True)
    session.print(f"Checkpoint at instruction {made.position.icount:,}.")


@command("info checkpoints", group=_GROUP)
def info_checkpoints(session: "Session", arguments: str) -> None:
    """The copies of the machine that sleep in its past (and future), and the memory that each has to itself."""
    del arguments
    timeline = back.timeline_of(session)
    rows = [
        {
            "number": number,
            "instruction": each.position.icount,
            "services": each.position.services,
            "event": each.events,
            "pid": each.pid,
            "kib": back.private_kib(each.pid),
            "kept": each.pinned,
        }
        for number, each in enumerate(timeline.points)
    ]
    session.table(_COLUMNS, rows, key="checkpoints")


@command("delete checkpoint N", group=_GROUP)
def delete_checkpoint(session: "Session", arguments: str) -> None:
    """Let go of checkpoint number N of `info checkpoints`; the first, at the start of the run, stays."""
    timeline = back.timeline_of(session)
    number = session.evaluate(arguments) if arguments else -1
    if not 0 < number < len(timeline.points):
        raise CommandError(f"There is no checkpoint {arguments or '?'} to delete: see `info checkpoints`.")
    timeline.remove(timeline.points[number])


@command("save FILE", group=_GROUP)
def save(session: "Session", arguments: str) -> None:
    """Write this position of the run to FILE, with all that it needs: the program, its files, what it has read.

    `load FILE`, or `minikernel debug --load FILE`, goes on from it, also on another host.
    """
    _check_name(arguments)
    if session.keeper is None:
        raise CommandError("This session cannot be saved.")
    size = session.keeper.save(session, arguments)
    icount, services = session.machine.position
    session.print(f"Saved instruction {icount:,} ({services:,} services) in {arguments}: {size:,} bytes.")


@command("load FILE", group=_GROUP)
def load(session: "Session", arguments: str) -> None:
    """Go on from the position that was saved in FILE; this run is given up, the breakpoints stay.

    The program runs again up to there, on what the file holds, and must come to the same state.  From there on its
    input and output are this terminal's, and files that it has not asked for before are this host's.
    """
    _check_name(arguments)
    if session.keeper is None:
        raise CommandError("This session cannot load another.")
    session.keeper.load(session, arguments)
    show_here(session)


def _check_name(name: str) -> None:
    if not name or "\0" in name:
        raise CommandError(f"{name!r} is no file name." if name else "A file name is missing.")
