"""The line editor: history with search, completion, colours.  prompt_toolkit's, which is loaded for a person only.

<TAB>       completes as far as there is one way only, then lists the ways
<Up>        the last line that begins as this one does
Ctrl-R      searches the history
"""

import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.shortcuts import CompleteStyle

from minikernel.report.paint import Paint

_HISTORY: Final = "~/.minikernel_history"
_UNFINISHED: Final = ("/", "(")

Complete = Callable[[str], tuple[int, list[str]]]


class Words(Completer):
    """Asks the machine's side what may follow."""

    def __init__(self, complete: Complete) -> None:
        self._complete = complete

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """The candidates at the cursor."""
        del complete_event
        start, words = self._complete(document.text_before_cursor)
        for word in words:
            alone = len(words) == 1 and not word.endswith(_UNFINISHED)
            yield Completion(word + " " if alone else word, start_position=-start)


def line_editor(complete: Complete) -> Callable[[str], str]:
    """A function that shows a prompt and gives the line that is typed.

    It raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C.
    """
    session: PromptSession[str] = PromptSession(
        history=_history(),
        completer=Words(complete),
        complete_style=CompleteStyle.READLINE_LIKE,
        complete_while_typing=False,
        enable_history_search=True,
    )
    paint = Paint(sys.stdout)

    def read(prompt: str) -> str:
        # The editor's event loop takes SIGINT and the wakeup descriptor, which tells the machine of the host's signals.
        wakeup, handler = signal.set_wakeup_fd(-1), signal.getsignal(signal.SIGINT)
        try:
            return session.prompt(ANSI(paint(prompt.rstrip(), "bold", "cyan") + " "), handle_sigint=False)
        finally:
            signal.signal(signal.SIGINT, handler)
            signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)

    return read


def _history() -> History:
    """The lines of all sessions; of this one alone where they cannot be kept."""
    path = Path(_HISTORY).expanduser()
    try:
        with path.open("ab"):
            return FileHistory(str(path))
    except OSError:
        return InMemoryHistory()
