"""The prompt: a line editor where a person sits at a terminal, plain lines everywhere else."""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol

# The commands announce themselves.
from minikernel.kdb import control, helping, inside, lines, look, memory, pressure, stops
from minikernel.kdb.command import COMMANDS, CommandError, find

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

__all__ = ["ROOMS", "Interrupts", "complete", "interact", "run_script"]

ROOMS: Final = (control, lines, stops, look, inside, memory, pressure, helping)
_PROMPT: Final = "(kdb) "
_REPEATS: Final = frozenset({"stepi", "nexti", "step", "next", "continue", "x", "until"})
_HISTORY: Final = "~/.minikernel_history"
_MAX_COMPLETIONS: Final = 500


class Debugger(Protocol):
    """Who executes commands: a session, or the front end of one in another process."""

    done: bool

    def execute(self, line: str) -> bool:
        """Run the command *line*; False if it could not be done, which one line has said."""
        ...


class FrontEnd(Debugger, Protocol):
    """What the prompt needs."""

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


def interact(front: FrontEnd, interrupts: Interrupts) -> None:
    """Read and execute commands until ``quit`` or the end of the input."""
    read = _reader(front)
    repeat = ""
    while not front.done:
        interrupts.at_prompt = True
        try:
            line = read()
        except KeyboardInterrupt:
            print("Quit", flush=True)
            continue
        except EOFError:
            print(flush=True)
            break
        finally:
            interrupts.at_prompt = False
        repeat = _execute(front, line.strip() or repeat)


def _execute(front: FrontEnd, line: str) -> str:
    """One line of a person; what an empty one means next."""
    front.execute(line)
    try:
        found, _ = find(line)
    except CommandError:
        return ""
    if found.name not in _REPEATS:
        return ""
    return "x" if found.name == "x" else line


def _reader(front: FrontEnd) -> Callable[[], str]:
    """How to get a line: prompt_toolkit's editor if it is installed and a terminal is there."""
    if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        try:
            return _line_editor(front)
        except ModuleNotFoundError:
            pass
    return lambda: input(_PROMPT if sys.stdin.isatty() else "")


def _line_editor(front: FrontEnd) -> Callable[[], str]:
    """The editor, with history and completion.

    Raises:
        ModuleNotFoundError: prompt_toolkit is not installed.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.history import FileHistory

    class Words(Completer):
        """Commands, then symbols."""

        def get_completions(self, document: Any, complete_event: Any) -> Iterable[Completion]:
            del complete_event
            start, words = front.complete(document.text_before_cursor)
            return [Completion(word, start_position=-start) for word in words]

    editor: PromptSession[str] = PromptSession(
        history=FileHistory(str(Path(_HISTORY).expanduser())), completer=Words(), complete_while_typing=False
    )

    def read() -> str:
        handler = signal.getsignal(signal.SIGINT)  # the editor's event loop takes it
        try:
            return editor.prompt(_PROMPT, handle_sigint=False)
        finally:
            signal.signal(signal.SIGINT, handler)

    return read


def complete(session: "Session", text: str) -> tuple[int, list[str]]:
    """What may follow *text*: how many of its last characters are replaced, and by which words."""
    stripped = text.lstrip()
    names = [name for name in COMMANDS if name.startswith(stripped)]
    if names and stripped != "info":
        return len(stripped), sorted(names)
    word = stripped.replace("*", " ").replace("(", " ").replace("+", " ").split(" ")[-1]
    if not word or word.startswith("$"):
        return 0, []
    try:
        symbols = session.explainer.symbols.names(session.mm)
    except CommandError:
        return 0, []
    return len(word), sorted(name for name in symbols if name.startswith(word))[:_MAX_COMPLETIONS]
