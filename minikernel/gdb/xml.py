"""Text in XML documents."""

from typing import Final

_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}


def escape(text: bytes | str) -> str:
    """*text* as the value of an attribute or the content of an element; what XML cannot have becomes `?`."""
    shown = text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text
    return "".join(_ENTITIES.get(c, c) if c.isprintable() or c == "\t" else "?" for c in shown)
