"""Long output in a terminal: a screenful, then ``--Type <RET> for more``, as gdb does it."""

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from minikernel.kdb.settings import Settings

MORE: Final = "--Type <RET> for more, q to quit, c to continue without paging--"


class Pager:
    """Writes to a terminal; begins anew with every command.

    What ``q`` cuts off is written nowhere, but the command that prints it goes on to its end.
    """

    def __init__(self, settings: "Settings", write: "Callable[[str], object]", ask: "Callable[[str], str]") -> None:
        """*ask* shows its argument and gives the line that is typed; EOFError and KeyboardInterrupt are a ``q``."""
        self.settings = settings
        self._write = write
        self._ask = ask
        self._room: int | None = None  # lines until the next question; None: there is none
        self._silent = False
        self._column = 0

    def begin(self) -> None:
        """A new command."""
        it = self.settings
        self._room = max(it.lines() - 1, 1) if it.pagination and it.lines() else None
        self._silent = False
        self._column = 0

    def write(self, text: str) -> None:
        """Show *text*, a screenful at a time."""
        if self._silent:
            return
        if self._room is None:
            self._write(text)
            return
        for line in text.splitlines(keepends=True):
            if self._room is not None and self._room <= 0 and not self._column and not self._go_on():
                self._silent = True
                return
            self._write(line)
            self._count(line)

    def _count(self, line: str) -> None:
        """How many rows of the screen *line* has taken."""
        self._column += visible_length(line)
        if line.endswith("\n"):
            width = self.settings.columns() or self._column + 1
            if self._room is not None:
                self._room -= max(-(-self._column // width), 1)
            self._column = 0

    def _go_on(self) -> bool:
        """Ask; whether there is to be more."""
        try:
            answer = self._ask(MORE).strip().lower()
        except (EOFError, KeyboardInterrupt):
            answer = "q"
        if answer.startswith("q"):
            self._write("Quit\n")
            return False
        self._room = None if answer.startswith("c") else max(self.settings.lines() - 1, 1)
        return True


def visible_length(line: str) -> int:
    """Columns that *line* takes: neither the end of the line nor escape sequences for colours count."""
    length, inside = 0, False
    for char in line:
        if char == "\x1b":
            inside = True
        elif inside:
            inside = not char.isalpha()
        elif char == "\t":
            length += 8 - length % 8
        elif char != "\n":
            length += 1
    return length


def plain_pager(settings: "Settings", ask: "Callable[[str], str]") -> Pager:
    """A pager on standard output; without a terminal, or without one to type at, it never asks."""

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        settings.pagination = False
    return Pager(settings, write, ask)
