"""Tables of plain values: a row is a mapping, a column says how its value is shown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minikernel.report.paint import PLAIN, Paint


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the *key* of its values, its *title*, and how a value becomes text."""

    key: str
    title: str
    right: bool = False
    form: Callable[[Any], str] = str
    width: int = 0  # at least


def table_lines(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], paint: Paint = PLAIN) -> Iterator[str]:
    """The title line and one line a row; columns are as wide as they must be.  None shows as nothing."""
    cells = [["" if row[it.key] is None else it.form(row[it.key]) for it in columns] for row in rows]
    texts = [[it.title for it in columns], *cells]
    widths = [max(it.width, *(len(line[at]) for line in texts)) for at, it in enumerate(columns)]
    for number, line in enumerate(texts):
        shown = [
            text.rjust(width) if it.right else text.ljust(width)
            for text, width, it in zip(line, widths, columns, strict=True)
        ]
        text = " ".join(shown).rstrip()
        yield text if number else paint(text, "bold")


def hexadecimal(value: int) -> str:
    """``0x1f``."""
    return f"{value:#x}"


def grouped(value: int) -> str:
    """``1,234,567``."""
    return f"{value:,}"
