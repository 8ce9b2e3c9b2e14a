"""Commands of several lines, each up to its ``end``: commands, define, document, if, while; and what points execute.

Lines come one by one, from a prompt or a file.  From the first to its ``end`` they are collected; then the command is
executed with them.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import BY_WORD, CommandError, command, find
from minikernel.kdb.workbench import Block, Defined

if TYPE_CHECKING:
    from collections.abc import Iterable

    from minikernel.kdb.points import Point
    from minikernel.kdb.session import Session

_GROUP: Final = "settings"
_OPENERS: Final = ("if", "while", "commands", "define", "document")
_MOST_CALLS: Final = 64
_LITERAL: Final = ("document",)  # what looks like a block in there is text


class LoopEnd(Exception):  # noqa: N818 - no error
    """``loop_break`` (*again* is False) or ``loop_continue``."""

    def __init__(self, *, again: bool) -> None:
        super().__init__(again)
        self.again = again


# ---- collecting


def _begin(session: "Session", line: str) -> None:
    """Collect lines for *line*, which is being executed."""
    session.workbench.block = Block(line)


def feed(session: "Session", line: str) -> bool:
    """A line for the block that is being collected; its ``end`` executes it."""
    block = session.workbench.block
    assert block is not None, "feed: nothing is being collected"
    word = line.partition(" ")[0]
    opener = block.line.partition(" ")[0]
    if word == "end":
        if not block.depth:
            session.workbench.block = None
            session.line = block.line
            done = session.perform(lambda it: _finish(it, block))
            return follow_up(session) and done
        block.depth -= 1
    elif word in _OPENERS and opener not in _LITERAL and (word != "define" or opener == "define"):
        block.depth += 1
    block.lines.append(line)
    return True


def _finish(session: "Session", block: Block) -> None:
    """All lines of the block are there.  Raises CommandError."""
    word, _, rest = block.line.partition(" ")
    rest = rest.strip()
    match word:
        case "commands":
            for point in _points(session, rest):
                point.commands = list(block.lines)
        case "define":
            old = session.workbench.defined.get(rest)
            session.workbench.defined[rest] = Defined(list(block.lines), old.help if old else "User-defined.")
        case "document":
            session.workbench.defined[rest].help = "\n".join(block.lines)
        case "if":
            _if(session, rest, block.lines)
        case _:
            _while(session, rest, block.lines)


def _halves(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands before ``else`` and behind it."""
    depth = 0
    for index, line in enumerate(lines):
        word = line.partition(" ")[0]
        depth += (word in _OPENERS) - (word == "end")
        if word == "else" and not depth:
            return list(lines[:index]), list(lines[index + 1 :])
    return list(lines), []


def _if(session: "Session", condition: str, lines: list[str]) -> None:
    yes, no = _halves(lines)
    execute_all(session, yes if session.evaluate(condition) else no)


def _while(session: "Session", condition: str, lines: list[str]) -> None:
    work = session.workbench
    work.loops += 1
    goings = work.goings
    try:
        while session.evaluate(condition) and not session.done:
            if session.machine.was_interrupted:
                session.machine.forget_interrupt()
                raise CommandError("Quit")
            try:
                execute_all(session, lines)
            except LoopEnd as end:
                if not end.again:
                    break
            if work.following and work.goings != goings:
                break  # the program has gone on: what else the point wanted is void
    finally:
        work.loops -= 1


def execute_all(session: "Session", lines: "Iterable[str]") -> None:
    """Execute *lines*; the first that cannot be done ends it.

    Raises:
        CommandError: one could not be done; what was wrong has been said.
    """
    work = session.workbench
    goings = work.goings
    for line in lines:
        if session.done or (work.following and work.goings != goings):
            return
        if not session.execute(line):
            raise CommandError(f"(in `{line.strip()}`)")


# ---- what points execute


def stopped(session: "Session", points: "Iterable[Point | None]") -> None:
    """The program has stopped because of *points*: what they want to be executed is next."""
    work = session.workbench
    known = [point for point in points if point is not None]
    work.stopped_at = [point.number for point in known]
    work.pending = [point.commands for point in known if point.commands]
    work.hushed = any(commands[0] == "silent" for commands in work.pending)
    if "hook-stop" in work.defined and not work.hushed:
        work.pending.insert(0, work.defined["hook-stop"].lines)


def going(session: "Session") -> None:
    """The program goes on: what was to be executed at the last stop is void."""
    work = session.workbench
    work.goings += 1
    work.pending, work.stopped_at = [], []
    work.hushed = False


def follow_up(session: "Session") -> bool:
    """Execute what points want; False if something could not be done."""
    work = session.workbench
    if work.following or not work.pending or work.block is not None:
        return True
    work.following = True
    try:
        while work.pending and not session.done:
            lines = work.pending.pop(0)
            for line in lines[1:] if lines[0] == "silent" else lines:
                goings = work.goings
                if not session.execute(line):
                    work.pending = []
                    work.block = None
                    return False
                if work.goings != goings:
                    break
        return True
    finally:
        work.following = False


# ---- commands that the user has defined


def run_defined(session: "Session", line: str) -> bool:
    """Execute a command of the user's; False: *line* begins with none.

    Raises:
        CommandError.
    """
    name, _, rest = line.partition(" ")
    work = session.workbench
    defined = work.defined.get(name)
    if defined is None:
        return False
    if work.calls >= _MOST_CALLS:
        raise CommandError("Max user call depth exceeded -- command aborted.")
    arguments = _arguments(rest)
    work.calls += 1
    try:
        execute_all(session, [_with_arguments(each, arguments) for each in defined.lines])
    finally:
        work.calls -= 1
    return True


def _arguments(text: str) -> list[str]:
    """Words; blanks in quotes are no ends."""
    return re.findall(r"(?:\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[^\s\"'])+", text)


def _with_arguments(line: str, arguments: list[str]) -> str:
    """*line* with $arg0, $arg1 ... $argc and $* filled in."""

    def argument(match: re.Match[str]) -> str:
        if match[1] == "c":
            return str(len(arguments))
        index = int(match[1])
        return arguments[index] if index < len(arguments) else match[0]

    return re.sub(r"\$arg(c\b|\d{1,3}\b)", argument, line).replace("$*", " ".join(arguments))


def _points(session: "Session", words: str) -> "list[Point]":
    """The points that ``commands`` is about: those named, or the last one."""
    if not words:
        if session.last_number not in session.points:
            raise CommandError("No breakpoints specified.")
        return [session.points[session.last_number]]
    found = []
    for word in words.split():
        number = session.evaluate(word)
        if number not in session.points:
            raise CommandError(f"No breakpoint number {word}.")
        found.append(session.points[number])
    return found


# ---- commands


@command("commands [POINT...]", group="stops")
def commands(session: "Session", arguments: str) -> None:
    """Say what is executed when a point stops the program: the lines up to `end`.  Without a number, the last point's.

    `silent` as the first line keeps the stop itself untold.  A command that lets the program go on ends the list.
    """
    _points(session, arguments)
    _begin(session, f"commands {arguments}".strip())


@command("define NAME", group=_GROUP)
def define(session: "Session", arguments: str) -> None:
    """Make a command of the lines up to `end`.  $arg0, $arg1 ... are its arguments, $argc how many there are, $* all.

    The command hook-stop is executed whenever the program stops.
    """
    if not re.fullmatch(r"[A-Za-z_][\w.-]*", arguments):
        raise CommandError("Argument required (name of command to define).")
    if arguments in BY_WORD:
        raise CommandError(f"`{arguments}` is one of the debugger's own commands.")
    _begin(session, f"define {arguments}")


@command("document NAME", group=_GROUP)
def document(session: "Session", arguments: str) -> None:
    """Say what a command of your own does, for `help`: the lines up to `end`."""
    if arguments not in session.workbench.defined:
        raise CommandError(f"You have defined no command `{arguments}`.")
    _begin(session, f"document {arguments}")


@command("if EXPR", group=_GROUP)
def if_(session: "Session", arguments: str) -> None:
    """Execute the lines up to `else` or `end` where EXPR is not 0, those behind `else` otherwise."""
    _opened(session, "if", arguments)


@command("while EXPR", group=_GROUP)
def while_(session: "Session", arguments: str) -> None:
    """Execute the lines up to `end` as long as EXPR is not 0.  loop_break leaves, loop_continue begins anew."""
    _opened(session, "while", arguments)


def _opened(session: "Session", word: str, arguments: str) -> None:
    if not arguments:
        raise CommandError("if/while commands require arguments.")
    _begin(session, f"{word} {arguments}")


@command("loop_break", group=_GROUP)
def loop_break(session: "Session", arguments: str) -> None:
    """Leave the `while` that this stands in."""
    _end_loop(session, arguments, again=False)


@command("loop_continue", group=_GROUP)
def loop_continue(session: "Session", arguments: str) -> None:
    """Begin the next turn of the `while` that this stands in."""
    _end_loop(session, arguments, again=True)


def _end_loop(session: "Session", arguments: str, *, again: bool) -> None:
    if arguments or not session.workbench.loops:
        raise CommandError("That stands in a `while`, and takes no arguments.")
    raise LoopEnd(again=again)


@command("show user [NAME]", group=_GROUP)
def show_user(session: "Session", arguments: str) -> None:
    """The commands that you have defined, with their lines."""
    defined = session.workbench.defined
    if arguments and arguments not in defined:
        raise CommandError("Not a user command.")
    for name in [arguments] if arguments else list(defined):
        session.print(f'User command "{name}":')
        for line in defined[name].lines:
            session.print(f"  {line}")
        session.print()


@command("show convenience", "show values", group=_GROUP)
def show_convenience(session: "Session", arguments: str) -> None:
    """The variables that you have set."""
    del arguments
    for name, value in session.workbench.variables.items():
        session.print(f"${name} = {value}")


@command("set $NAME = EXPR", group=_GROUP)
def set_(session: "Session", arguments: str) -> None:
    """Set a variable of yours, for use in expressions: set $NAME = EXPR.  `set SETTING` is about the debugger."""
    match = re.fullmatch(r"(?:var(?:iable)?\s+)?\$([A-Za-z_]\w*)\s*=\s*(.+)", arguments)
    if match is None:
        raise CommandError("set wants $NAME = EXPR, or a setting's name: see `show`.")
    name = match[1]
    if name not in session.workbench.variables and session.register(name) is not None:
        raise CommandError(f"${name} is a register: the program's state is not changed.")
    session.workbench.variables[name] = session.evaluate(match[2])


@command('printf "FORMAT"[,EXPR...]', group=_GROUP)
def printf(session: "Session", arguments: str) -> None:
    r"""Print a text with values in it: printf "x = %d\n",EXPR,...  %d %u %x %o %c %s %p, with widths as in C."""
    from minikernel.kdb.formatting import formatted

    session.write(formatted(session, arguments))


@command("shell COMMAND", "!", "make", group=_GROUP)
def shell(session: "Session", arguments: str) -> None:
    """Refused: a script for this debugger can do nothing to the host.  Another terminal can."""
    del session, arguments
    raise CommandError("The debugger runs no commands of the host: scripts that you are given are safe to execute.")


def is_open(line: str) -> bool:
    """Whether *line* begins a block."""
    try:
        return find(line)[0].name in _OPENERS
    except CommandError:
        return False
