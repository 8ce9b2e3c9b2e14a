"""What a line of the system call table is: a name, a handler, how far it goes, and a note.

Apart from ``table`` so that the modules of handlers need not import the table that imports them.
"""

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

Result: TypeAlias = int | Coroutine[Any, Any, int]
"""What a handler gives: the return value (never negative for an error: that is a LinuxError), or, for a call
that may block, a coroutine that ends with it."""
Handler: TypeAlias = Callable[..., Result]


class Support(Enum):
    """How much of the call is there."""

    FULL = "full"  # what Linux does on a machine like ours
    PARTIAL = "partial"  # the note says what is missing
    ABSENT = "absent"  # -ENOSYS


class Entry(NamedTuple):
    """One line of the table.  *abi*: the only ABI in which this name means this handler; None: both."""

    name: str
    handler: Handler | None
    support: Support
    note: str = ""
    abi: str | None = None


def full(name: str, handler: Handler, note: str = "", *, abi: str | None = None) -> Entry:
    """A call that does what Linux does."""
    return Entry(name, handler, Support.FULL, note, abi)


def partial(name: str, handler: Handler, note: str, *, abi: str | None = None) -> Entry:
    """A call of which *note* says what is missing."""
    return Entry(name, handler, Support.PARTIAL, note, abi)


def absent(name: str, note: str, *, abi: str | None = None) -> Entry:
    """A call that answers -ENOSYS on purpose; *note* says why, or what programs do then."""
    return Entry(name, None, Support.ABSENT, note, abi)
