"""Commands for scripts: source, echo."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import CommandError, command

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "settings"
_MAX_DEPTH: Final = 16
_ESCAPES: Final = {"n": "\n", "t": "\t", "\\": "\\", '"': '"'}


@command("source FILE", group=_GROUP)
def source(session: "Session", arguments: str) -> None:
    """Execute the commands in FILE, one on a line; the first that cannot be done ends it.  `#` begins a comment."""
    lines = lines_of(arguments, session.depth)
    session.depth += 1
    try:
        for number, line in enumerate(lines, 1):
            if session.done:
                return
            if not session.execute(line):
                raise CommandError(f"{arguments}:{number}: Error in sourced command file.")
    finally:
        session.depth -= 1


def lines_of(arguments: str, depth: int) -> list[str]:
    """The lines of the file that ``source`` is given, when *depth* files execute each other already.

    Raises:
        CommandError.
    """
    if not arguments:
        raise CommandError("source wants a file name.")
    try:
        lines = Path(arguments).expanduser().read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise CommandError(f"{arguments}: {error.strerror}.") from None
    except (ValueError, RuntimeError):  # a NUL in the name; a home that nobody has
        raise CommandError(f"{arguments!r} is no file name.") from None
    if depth >= _MAX_DEPTH:
        raise CommandError(f"{arguments}: {_MAX_DEPTH} files execute each other already.")
    return lines


@command("echo TEXT", group=_GROUP)
def echo(session: "Session", arguments: str) -> None:
    r"""Show TEXT, in which \n, \t and \\ mean what they mean in C; unlike gdb's, it always ends the line."""
    pieces = arguments.split("\\")
    text = pieces[0]
    at = 1
    while at < len(pieces):
        piece = pieces[at]
        if not piece and at + 1 < len(pieces):  # two backslashes
            text += "\\" + pieces[at + 1]
            at += 2
            continue
        text += _ESCAPES.get(piece[:1], piece[:1]) + piece[1:]
        at += 1
    session.print(text)
