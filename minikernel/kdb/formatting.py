r"""printf's formats: ``"x = %d\n",x`` as the commands printf and dprintf take it."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import CommandError

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_SPEC: Final = re.compile(r"%([-+ #0]*)(\d*)(?:\.(\d*))?(hh|h|ll|l|z|j|t)?([a-zA-Z%])")
_ESCAPE: Final = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}
_SIZES: Final = {"hh": 1, "h": 2, "": 4, "ll": 8, "j": 8}  # bytes; the others are a word
_MOST: Final = 4096  # bytes of a string
_MOST_WIDTH: Final = 1000


@dataclass(frozen=True, slots=True)
class Format:
    """A format and its arguments, as text."""

    text: str
    arguments: tuple[str, ...]


def unescape(text: str) -> str:
    """C's escapes."""

    def character(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 8))
        return chr(int(match[2], 16)) if match[2] else _ESCAPES.get(match[3], match[3])

    return _ESCAPE.sub(character, text)


def parse_format(text: str) -> Format:
    """``"FORMAT",EXPR,...``.

    Raises:
        CommandError: it is none, or has not as many arguments as it wants.
    """
    match = re.match(r'"((?:\\.|[^"\\])*)"\s*', text)
    if match is None:
        raise CommandError("Bad format string")
    rest = text[match.end() :]
    if rest and not rest.startswith(","):
        raise CommandError("Invalid argument syntax")
    arguments = _split(rest[1:]) if rest else []
    form = match[1]
    wanted = 0
    for spec in _SPEC.finditer(form):
        if spec[5] not in "diouxXcsp%":
            raise CommandError(f"Unrecognized format specifier '{spec[5]}' in printf")
        if int(spec[2] or 0) > _MOST_WIDTH or int(spec[3] or 0) > _MOST_WIDTH:
            raise CommandError("A width of more than a thousand.")
        wanted += spec[5] != "%"
    if "%" in _SPEC.sub("", form):
        raise CommandError("Incomplete format specifier at end of format string")
    if wanted != len(arguments):
        raise CommandError("Wrong number of arguments for specified format-string")
    return Format(form, tuple(arguments))


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no parentheses and no quotes."""
    pieces, depth, quote, current = [], 0, "", ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "([":
            depth += 1
        elif sign in ")]":
            depth -= 1
        elif sign == "," and not depth:
            pieces.append(current.strip())
            current = ""
            continue
        current += sign
    return [*pieces, current.strip()]


def formatted(session: "Session", text: str) -> str:
    """What printf would print for ``"FORMAT",EXPR,...``.

    Raises:
        CommandError.
    """
    form = parse_format(text)
    values = iter([session.evaluate(argument) for argument in form.arguments])
    out, at = "", 0
    for spec in _SPEC.finditer(form.text):
        out += unescape(form.text[at : spec.start()])
        at = spec.end()
        out += "%" if spec[5] == "%" else _one(session, spec, next(values))
    return out + unescape(form.text[at:])


def _one(session: "Session", spec: re.Match[str], value: int) -> str:
    flags, width, precision, length, kind = spec[1], spec[2], spec[3], spec[4] or "", spec[5]
    if kind == "s":
        text = _string(session, value)
        text = text if precision is None else text[: int(precision or 0)]
    elif kind == "c":
        text = chr(value & 0xFF)
    elif kind == "p":
        text = f"{value & session.task.abi.mask:#x}"
    else:
        text = _number(value, 8 * _SIZES.get(length, session.word), flags, precision, kind)
    fill = "0" if "0" in flags and "-" not in flags and kind not in "sc" and precision is None else " "
    if fill == "0" and text[:1] in {"-", "+"}:
        return text[0] + text[1:].rjust(int(width or 0) - 1, fill)
    return text.ljust(int(width or 0)) if "-" in flags else text.rjust(int(width or 0), fill)


def _number(value: int, bits: int, flags: str, precision: str | None, kind: str) -> str:
    value &= (1 << bits) - 1
    if kind in "di" and value >> (bits - 1):
        value -= 1 << bits
    digits = {"o": f"{abs(value):o}", "x": f"{abs(value):x}", "X": f"{abs(value):X}"}.get(kind, str(abs(value)))
    digits = digits.rjust(int(precision or 0), "0")
    if "#" in flags and kind in "xX" and value:
        digits = f"0{kind}{digits}"
    sign = "-" if value < 0 else "+" if "+" in flags and kind in "di" else " " if " " in flags and kind in "di" else ""
    return sign + digits


def _string(session: "Session", address: int) -> str:
    """The string at *address*.

    Raises:
        CommandError: nothing can be read there.
    """
    if not address:
        return "(null)"  # as gdb has it
    data = session.read(address & session.task.abi.mask, _MOST)
    if not data:
        raise CommandError(f"Cannot access memory at address {address:#x}")
    return data.partition(b"\0")[0].decode(errors="backslashreplace")
