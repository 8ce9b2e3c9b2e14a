"""``... if CONDITION``: where a point stops the program at all."""

from typing import TYPE_CHECKING

from minikernel.kdb.command import CommandError

if TYPE_CHECKING:
    from minikernel.kdb.session import Session


def split_if(arguments: str) -> tuple[str, str]:
    """``WHAT if CONDITION``."""
    if arguments.startswith("if "):
        return "", arguments[3:].strip()
    what, _, condition = arguments.partition(" if ")
    return what.strip(), condition.strip()


def checked(session: "Session", condition: str) -> str:
    """*condition*, if it can be evaluated here: most mistakes are found before the program runs.

    Raises:
        CommandError.
    """
    if condition:
        try:
            session.evaluate(condition)
        except CommandError as error:
            if "access memory" not in str(error):
                raise
    return condition
