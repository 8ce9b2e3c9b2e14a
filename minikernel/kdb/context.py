"""The command that shows where the program stands, all at once: registers, code, stack, callers."""

from typing import TYPE_CHECKING, Final

from emu.cpu import RIP, RSP
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.examine import insn_words, instructions_before, telescope_rows
from minikernel.kdb.frames import frame_words
from minikernel.kdb.registers import general_names
from minikernel.kdb.settings import switch_of
from minikernel.report.chains import chain, chain_words
from minikernel.report.words import rflags_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from minikernel.kdb.session import Session

_GROUP: Final = "program"
_BEFORE: Final = 3
_AFTER: Final = 7
_STACK: Final = 6
_LINES_BEFORE: Final = 4
_LINES_AFTER: Final = 4
_FRAMES: Final = 6


@command("context [PANE...]", "ctx", group=_GROUP)
def context(session: "Session", arguments: str) -> None:
    """Show where the program stands: regs, source, code, stack and trace, or the panes that are named.

    `set context regs code` chooses the panes, `set stop-context on` shows them whenever the program stops.  A register
    that has changed since they were shown last is marked with `*`.
    """
    names = arguments.split() or session.settings.panes
    for name in names:
        pane = PANES.get(name)
        if pane is None:
            raise CommandError(f"No pane {name}: there are {', '.join(PANES)}.")
        width = session.settings.columns() or 80
        session.print(session.paint(f"[ {name} ]".center(min(width, 100), "-"), "blue"))
        pane(session)


def _registers(session: "Session") -> None:
    regs = session.registers()
    names = general_names(session)[: 17 if session.word == 8 else 8]
    values = list(regs[: 17 if session.word == 8 else 8])
    if session.word == 4:
        names.append("eip")
        values.append(regs[RIP])
    before = session.shown_registers
    for name, value in zip(names, values, strict=True):
        links = chain(session.mm, session.explainer.symbols, value, session.word, session.disassemble)
        mark = "*" if before.get(name, value) != value else " "
        words = f"{mark}{name:<4} {chain_words(links, session.paint)}"
        session.print(words)
    flags = session.register("eflags")
    if flags is not None:
        session.print(f" flags {flags:#x} [ {rflags_words(flags)} ]")
    session.shown_registers = dict(zip(names, values, strict=True))
    session.tell(registers=dict(session.shown_registers))


def _source(session: "Session") -> None:
    """The lines around the one where the chosen frame stands; nothing where the program does not say, or has none."""
    spot = session.view.spot(session.view.selected)
    if spot is None or spot.line is None:
        session.print("no source line is known for this place")
        return
    path, line = spot.line.path, spot.line.line
    lines = session.sources.lines(path)
    if lines is None:
        session.print(f"{spot.line}: the file is not on this machine (`directory` says where to look)")
        return
    session.print(session.paint(f"{spot.line}", "cyan"))
    for number in range(max(line - _LINES_BEFORE, 1), min(line + _LINES_AFTER, len(lines)) + 1):
        text = f"{number:>5} {lines[number - 1]}".rstrip()
        session.print(session.paint(f"=> {text}", "bold") if number == line else f"   {text}")
    session.tell(file=path, line=line)


def _code(session: "Session") -> None:
    pc = session.registers()[RIP]
    after = session.disassemble(pc, _AFTER)
    if not after:
        session.print(f"   {pc:#x} cannot be read")
    for insn in [*(instructions_before(session, pc, _BEFORE) if after else []), *after]:
        text = f"{insn.address:#x} {session.name_of(insn.address):<18} {insn_words(session, insn)}"
        session.print(session.paint(f"=> {text}", "bold") if insn.address == pc else f"   {text}")
    session.tell(code=[{"address": one.address, "text": one.text} for one in after])


def _stack(session: "Session") -> None:
    try:
        rows = telescope_rows(session, session.registers()[RSP], _STACK)
    except CommandError as error:
        rows = [f"the stack pointer leads nowhere: {error}"]
    for text in rows:
        session.print(text)


def _trace(session: "Session") -> None:
    for frame in session.view.first(_FRAMES):
        session.print(frame_words(session, frame))


PANES: "Final[dict[str, Callable[[Session], None]]]" = {
    "regs": _registers,
    "source": _source,
    "code": _code,
    "stack": _stack,
    "trace": _trace,
}


@command("set context PANE...", group="settings")
def set_context(session: "Session", arguments: str) -> None:
    """Which panes `context` shows, in which order: regs, source, code, stack, trace."""
    names = arguments.split()
    unknown = [name for name in names if name not in PANES]
    if unknown or not names:
        raise CommandError(f"Panes, please: {', '.join(PANES)}.")
    session.settings.panes = names


@command("set stop-context on|off", group="settings")
def set_stop_context(session: "Session", arguments: str) -> None:
    """Whether every stop shows the panes of `context` instead of one line."""
    session.settings.stop_context = switch_of(arguments)
