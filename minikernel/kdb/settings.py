"""What the user may set about the debugger itself: ``set``, ``show``.

Both sides of the prompt heed the same lines: the machine's lays tables out, the terminal's pages them.
"""

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import CommandError, command

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "settings"
_DEFAULT_WIDTH: Final = 80
_DEFAULT_HEIGHT: Final = 24
_MAX: Final = 10_000
_SWITCH: Final = {"on": True, "1": True, "yes": True, "off": False, "0": False, "no": False, "": True}


@dataclass(slots=True)
class Settings:
    """The values.  *width* and *height*: None is the terminal's own, 0 is without a limit."""

    width: int | None = None
    height: int | None = None
    pagination: bool = True
    json: bool = False
    panes: list[str] = field(default_factory=lambda: ["regs", "source", "code", "stack", "trace"])
    stop_context: bool = False

    def heed(self, line: str) -> None:
        """Follow *line* if it is one of the commands below, and a good one; whoever executes it complains."""
        words = line.split()
        if len(words) < 2 or words[0] != "set":
            return
        name, value = words[1], " ".join(words[2:])
        try:
            if name in {"width", "height"}:
                setattr(self, name, size_of(value))
            elif name == "pagination":
                self.pagination = switch_of(value)
        except CommandError:
            return

    def columns(self) -> int:
        """How wide the screen is now."""
        return self.width if self.width is not None else _terminal()[0]

    def lines(self) -> int:
        """How high it is."""
        return self.height if self.height is not None else _terminal()[1]


def _terminal() -> tuple[int, int]:
    """The terminal's size, asked each time as windows change; 80 x 24 where there is none."""
    try:
        width, height = os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)
    except (OSError, ValueError):
        return _DEFAULT_WIDTH, _DEFAULT_HEIGHT
    return width or _DEFAULT_WIDTH, height or _DEFAULT_HEIGHT


def size_of(text: str) -> int | None:
    """A number of columns or lines; 0 and ``unlimited`` are without a limit, ``auto`` is the terminal's.

    Raises:
        CommandError.
    """
    if text == "auto":
        return None
    if text == "unlimited":
        return 0
    if not text.isdecimal() or int(text[:8]) > _MAX:
        raise CommandError(f"A number up to {_MAX:,}, `unlimited` or `auto`, please.")
    return int(text)


def switch_of(text: str) -> bool:
    """``on`` or ``off``.

    Raises:
        CommandError.
    """
    if text not in _SWITCH:
        raise CommandError('"on" or "off" expected.')
    return _SWITCH[text]


@command("set width N|unlimited|auto", group=_GROUP)
def set_width(session: "Session", arguments: str) -> None:
    """How many columns the screen has: a number, `unlimited`, or `auto`, the terminal's own."""
    session.settings.width = size_of(arguments)


@command("set height N|unlimited|auto", group=_GROUP)
def set_height(session: "Session", arguments: str) -> None:
    """After how many lines the output pauses: a number, `unlimited`, or `auto`, as many as the terminal has."""
    session.settings.height = size_of(arguments)


@command("set pagination on|off", group=_GROUP)
def set_pagination(session: "Session", arguments: str) -> None:
    """Whether output that is longer than the screen pauses with `--Type <RET> for more--`."""
    session.settings.pagination = switch_of(arguments)


@command("set json on|off", group=_GROUP)
def set_json(session: "Session", arguments: str) -> None:
    """Whether every command answers with one JSON object on a line, as `--json` has it from the start.

    docs/debugger.md describes the object.
    """
    session.settings.json = switch_of(arguments)


def _shown_size(size: int | None, now: int) -> str:
    return f"{now} (the terminal's)" if size is None else str(size) if size else "unlimited"


@command("show [SETTING]", group=_GROUP)
def show(session: "Session", arguments: str) -> None:
    """The settings: width, height, pagination, json, context, stop-context; with SETTING, that one."""
    it = session.settings
    rows = {
        "width": _shown_size(it.width, it.columns()),
        "height": _shown_size(it.height, it.lines()),
        "pagination": "on" if it.pagination else "off",
        "json": "on" if it.json else "off",
        "context": " ".join(it.panes),
        "stop-context": "on" if it.stop_context else "off",
    }
    if arguments and arguments not in rows:
        raise CommandError(f"No setting {arguments}: there are {', '.join(rows)}.")
    chosen = {name: value for name, value in rows.items() if arguments in {"", name}}
    session.pairs(chosen)
