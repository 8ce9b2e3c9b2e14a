"""What the host answered, in the order in which it was asked: so that a run can be gone over again.

Where a journal is kept (``Vfs.keep_journal``), the guest's standard streams ask the host through it.  What is in it
already is given again without asking; from its end on the host is asked, and the answer noted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Answer(NamedTuple):
    """What came of one question: a value, or the errno of a failure."""

    what: str
    value: Any
    errno: int = 0


class Journal:
    """The answers so far; *next* is the one that is given next, and their number where the host is asked."""

    __slots__ = ("answers", "next")

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.next = 0

    def ask(self, what: str, host: Callable[[], T]) -> T:
        """The answer to question *what*, which *host* knows.

        Raises:
            OSError: as the host did.
        """
        if self.next < len(self.answers):
            answer = self.answers[self.next]
            assert answer.what == what, f"Journal.ask: {what} where {answer.what} was asked the first time"
            self.next += 1
            if answer.errno:
                raise OSError(answer.errno, "as the first time")
            value: T = answer.value
            return value
        try:
            value = host()
        except OSError as error:
            self._note(Answer(what, None, error.errno or 0))
            raise
        self._note(Answer(what, value))
        return value

    def _note(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.next += 1
