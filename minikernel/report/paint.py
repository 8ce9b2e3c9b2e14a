"""Colour for terminals: ANSI escapes where a person looks, plain text everywhere else."""

import os
from typing import Final, TextIO

_CODES: Final = {
    "dim": "2",
    "bold": "1",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}


class Paint:
    """Paints text, if *stream* is a terminal and NO_COLOR (no-color.org) is not set."""

    def __init__(self, stream: TextIO | None) -> None:
        colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.on = stream is not None and stream.isatty() and colours

    def __call__(self, text: str, *colours: str) -> str:
        """*text* in *colours*."""
        if not self.on or not colours:
            return text
        return f"\x1b[{';'.join(_CODES[colour] for colour in colours)}m{text}\x1b[0m"


PLAIN: Final = Paint(None)
"""Leaves text as it is."""
