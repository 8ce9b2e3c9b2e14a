"""The prompt: a line editor where a person sits at a terminal, plain lines everywhere else."""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

# The commands announce themselves.
from minikernel.kdb import control, helping, inside, lines, look, pressure, stops
from minikernel.kdb.command import COMMANDS, CommandError, find

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

__all__ = ["ROOMS", "Interrupts", "complete", "interact", "run_script"]

ROOMS: Final = (control, lines, stops, look, inside, pressure, helping)
_PROMPT: Final = "(kdb) "
_REPEATS: Final = frozenset({"stepi", "nexti", "step", "next", "continue", "x", "until"})
_HISTORY: Final = "~/.minikernel_history"
_MAX_COMPLETIONS: Final = 500


def run_script(session: "Session", lines: Iterable[str]) -> bool:
    """Execute *lines* until one fails or leaves the debugger; whether all could be done."""
    for line in lines:
        if session.done:
            break
        if not session.execute(line):
            return False
    return True


class Interrupts:
    """What Ctrl-C does: at the prompt the line is given up, otherwise the machine pauses.  A handler of SIGINT."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.at_prompt = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Ctrl-C was pressed."""
        if self.session is None or self.at_prompt:
            raise KeyboardInterrupt
        self.session.machine.interrupt()


def interact(session: "Session", interrupts: Interrupts) -> None:
    """Read and execute commands until ``quit`` or the end of the input."""
    read = _reader(session)
    while not session.done:
        interrupts.at_prompt = True
        try:
            line = read()
        except KeyboardInterrupt:
            session.print("Quit")
            continue
        except EOFError:
            session.print()
            break
        finally:
            interrupts.at_prompt = False
        _execute(session, line)


def _execute(session: "Session", line: str) -> None:
    """One line of a person; an empty one repeats the last, where that makes sense."""
    line = line.strip() or session.repeat
    session.repeat = ""
    session.machine.forget_interrupt()
    session.execute(line)
    try:
        found, _ = find(line)
    except CommandError:
        return
    if found.name in _REPEATS:
        session.repeat = "x" if found.name == "x" else line


def _reader(session: "Session") -> Callable[[], str]:
    """How to get a line: prompt_toolkit's editor if it is installed and a terminal is there."""
    if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        try:
            return _line_editor(session)
        except ModuleNotFoundError:
            pass
    return lambda: input(_PROMPT if sys.stdin.isatty() else "")


def _line_editor(session: "Session") -> Callable[[], str]:
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
            start, words = complete(session, document.text_before_cursor)
            return [Completion(word, start_position=-start) for word in words]

    editor: PromptSession[str] = PromptSession(
        history=FileHistory(str(Path(_HISTORY).expanduser())), completer=Words(), complete_while_typing=False
    )

    def read() -> str:
        # The editor's event loop takes SIGINT and the wakeup descriptor, which tells the machine of the host's signals.
        wakeup, handler = signal.set_wakeup_fd(-1), signal.getsignal(signal.SIGINT)
        try:
            return editor.prompt(_PROMPT, handle_sigint=False)
        finally:
            signal.signal(signal.SIGINT, handler)
            signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)

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
