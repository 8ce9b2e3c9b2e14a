"""The prompt: a line editor where a person sits at a terminal, plain lines everywhere else.

It knows the machine as a ``FrontEnd`` only, which is in another process.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Final, Protocol

# The commands announce themselves.
from minikernel.kdb import (
    blocks,
    breaks,
    catching,
    changes,
    code,
    context,
    control,
    coring,
    examine,
    explaining,
    frames,
    happened,
    helping,
    inside,
    lines,
    look,
    memory,
    physical,
    pressure,
    process_info,
    registers,
    reverse,
    scripting,
    searching,
    settings,
    signals,
    source,
    spaces,
    stops,
    tasks,
    travel,
    variables,
    watching,
)
from minikernel.kdb.command import CommandError, find, put_in_order

if TYPE_CHECKING:
    from minikernel.kdb.pager import Pager

__all__ = ["ROOMS", "Interrupts", "interact", "run_script"]

ROOMS: Final = (
    control,
    lines,
    breaks,
    watching,
    catching,
    signals,
    stops,
    variables,
    source,
    travel,
    reverse,
    changes,
    look,
    frames,
    registers,
    examine,
    code,
    context,
    searching,
    process_info,
    coring,
    tasks,
    spaces,
    explaining,
    physical,
    inside,
    memory,
    pressure,
    happened,
    settings,
    scripting,
    blocks,
    helping,
)
put_in_order([room.__name__ for room in ROOMS])
_PROMPT: Final = "(kdb) "
_MORE: Final = ">"  # inside a command of several lines
_REPEATS: Final = frozenset(
    {"stepi", "nexti", "step", "next", "continue", "x", "until", "hexdump", "telescope"}
    | {"reverse-stepi", "reverse-nexti", "reverse-step", "reverse-next", "reverse-continue"}
)
_GOES_ON: Final = frozenset({"x", "hexdump", "telescope"})  # without arguments: where the last one ended


class Debugger(Protocol):
    """Who executes commands: a session, or the front end of one in another process."""

    done: bool

    def execute(self, line: str) -> bool:
        """Run the command *line*; False if it could not be done, which one line has said."""
        ...


class FrontEnd(Debugger, Protocol):
    """What the prompt needs."""

    more: bool

    def complete(self, text: str) -> tuple[int, list[str]]:
        """What may follow *text*: how many of its last characters are replaced, and by which words."""
        ...

    def interrupt(self) -> None:
        """Stop what is being executed."""
        ...


def run_script(debugger: Debugger, lines: Iterable[str]) -> bool:
    """Execute *lines* until one fails or leaves the debugger; whether all could be done."""
    for line in lines:
        if debugger.done:
            break
        if not debugger.execute(line):
            return False
    return True


class Interrupts:
    """What Ctrl-C does: at the prompt the line is given up, otherwise the machine pauses.  A handler of SIGINT."""

    def __init__(self, front: FrontEnd) -> None:
        self._front = front
        self.at_prompt = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Ctrl-C was pressed."""
        if self.at_prompt:
            raise KeyboardInterrupt
        self._front.interrupt()


def interact(front: FrontEnd, interrupts: Interrupts, pager: "Pager") -> None:
    """Read and execute commands until ``quit`` or the end of the input."""
    read = _reader(front)
    repeat = ""
    while not front.done:
        interrupts.at_prompt = True
        try:
            line = read().strip() or ("" if front.more else repeat)
        except KeyboardInterrupt:
            print("Quit", flush=True)
            continue
        except EOFError:
            print(flush=True)
            break
        finally:
            interrupts.at_prompt = False
        pager.begin()
        pager.settings.heed(line)
        front.execute(line)
        repeat = repeated(line)


def repeated(line: str) -> str:
    """What an empty line means after *line*: the same again, or nothing."""
    try:
        found, _ = find(line)
    except CommandError:
        return ""
    if found.name not in _REPEATS:
        return ""
    return found.name if found.name in _GOES_ON else line


def _reader(front: FrontEnd) -> Callable[[], str]:
    """How to get a line: the editor where somebody sits at a terminal that can move its cursor."""
    if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from minikernel.kdb.editor import line_editor

        read = line_editor(front.complete)
        return lambda: read(_prompt(front))
    return lambda: ask(_prompt(front)) if sys.stdin.isatty() else input()


def _prompt(front: FrontEnd) -> str:
    return _MORE if front.more else _PROMPT


def ask(prompt: str) -> str:
    """A line from a terminal, without any help.  While it waits, Ctrl-C gives the line up.

    Raises:
        KeyboardInterrupt.  EOFError.
    """
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input(prompt)
    finally:
        signal.signal(signal.SIGINT, handler)
