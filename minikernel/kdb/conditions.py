"""What stands behind a location: ``thread PID``, and ``if CONDITION``, where a point stops the program at all."""

import re
from typing import TYPE_CHECKING

from minikernel.kdb.command import CommandError
from minikernel.kdb.locals import is_local_somewhere

if TYPE_CHECKING:
    from minikernel.kdb.session import Session


def split_if(arguments: str) -> tuple[str, str]:
    """``WHAT if CONDITION``."""
    match = re.search(r"(?:^|\s)if(?:\s+|(?=\())", arguments)
    if match is None:
        return arguments.strip(), ""
    return arguments[: match.start()].strip(), arguments[match.end() :].strip()


def split_thread(session: "Session", text: str) -> tuple[str, int]:
    """``LOCATION thread PID``; 0: every task.

    Raises:
        CommandError: there is no such task.
    """
    match = re.search(r"(?:^|\s)(?:thread|task)\s+(\S+)$", text)
    if match is None:
        return text, 0
    pid = session.evaluate(match[1])
    if pid not in session.kernel.tasks:
        raise CommandError(f"Unknown thread {match[1]}.")
    return text[: match.start()].strip(), pid


def _waits(session: "Session", message: str) -> bool:
    """Whether the mistake is only that a variable of another function is not to be seen from here."""
    name = re.match(r"No symbol (\w+) in", message)
    return name is not None and is_local_somewhere(session, name[1])


def checked(session: "Session", condition: str) -> str:
    """*condition*, if it can be evaluated here: most mistakes are found before the program runs.

    Raises:
        CommandError.
    """
    if condition:
        try:
            session.evaluate(condition)
        except CommandError as error:
            if session.is_running and "access memory" not in str(error) and not _waits(session, str(error)):
                raise
    return condition
