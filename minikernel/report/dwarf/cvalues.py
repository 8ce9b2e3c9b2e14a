"""How C's values are written: gdb's words for the bytes of a type.  gdb: valprint.c, c-valprint.c, target-float.c."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final

from minikernel.report.dwarf.ctypes import (
    Array,
    Base,
    CType,
    Enumeration,
    Field,
    Function,
    Pointer,
    Struct,
    Typedef,
    Void,
    name_of,
    size_of,
    strip,
)

MAX_ELEMENTS: Final = 200
_REPEATS: Final = 10  # as many equal elements are written once
_MAX_DEPTH: Final = 20
_ESCAPES: Final = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}
_DIGITS: Final = {4: 9, 8: 17, 10: 21}  # of float, double and long double: as many as tell all of them apart
_EXACT: Final = Context(prec=20_000, Emax=999_999, Emin=-999_999)
_WIDE: Final = {"wchar_t": "L", "char16_t": "u", "char32_t": "U"}
_X87_BIAS: Final = 16383
_QUIET: Final = {4: (23, 8), 8: (52, 11)}  # bits of fraction and exponent


@dataclass(frozen=True, slots=True)
class Memory:
    """What pointers lead to: bytes, fewer where it ends; and ``<main+4>`` for an address in a symbol, or ""."""

    read: Callable[[int, int], bytes]
    symbol: Callable[[int], str]
    scalar: Callable[[bytes, CType], str] | None = None  # writes what is no struct and no array otherwise


def integer(data: bytes, kind: CType) -> int:
    """The number in *data*."""
    kind = strip(kind)
    signed = isinstance(kind, Base | Enumeration) and kind.signed
    return int.from_bytes(data, "little", signed=signed)


def bit_field(data: bytes, field: Field) -> bytes:
    """The value of a bit-field of the struct in *data*, as bytes of its type."""
    number = int.from_bytes(data, "little") >> field.bit & ((1 << field.bits) - 1)
    kind = strip(field.type)
    if isinstance(kind, Base | Enumeration) and kind.signed and number >> (field.bits - 1):
        number -= 1 << field.bits
    size = size_of(kind)
    return (number & (1 << 8 * size) - 1).to_bytes(size, "little")


def format_value(data: bytes, kind: CType, memory: Memory, *, top: bool = True, depth: int = 0) -> str:
    """*data* as a value of *kind*; *top* is the outermost, whose pointers show their type."""
    plain = strip(kind)
    if len(data) < size_of(plain) and not isinstance(plain, Void | Function):
        return "<error: Cannot access memory>"
    if memory.scalar is not None and isinstance(plain, Base | Enumeration | Pointer):
        return memory.scalar(data, kind)
    match plain:
        case Base():
            return _base(data, plain)
        case Enumeration():
            return _enumeration(integer(data, plain), plain)
        case Pointer():
            return _pointer(int.from_bytes(data, "little"), kind, plain, memory, top=top)
        case Struct() if depth < _MAX_DEPTH:
            return _struct(data, plain, memory, depth)
        case Array() if depth < _MAX_DEPTH:
            return _array(data, plain, memory, depth)
        case Void():
            return "void"
        case _:
            return "{...}"


def format_character(code: int) -> str:
    """``97 'a'`` without the number."""
    return f"'{_escaped(code & 0xFF, chr(39))}'"


def _escaped(code: int, quote: str) -> str:
    if chr(code) == quote or code == 0x5C:
        return f"\\{chr(code)}"
    return _ESCAPES.get(code) or (chr(code) if 32 <= code < 127 else f"\\{code:03o}")


def _base(data: bytes, kind: Base) -> str:
    if kind.kind == "float":
        return format_float(data[: kind.size])
    if kind.kind == "complex":
        half = kind.size // 2
        return f"{format_float(data[:half])} + {format_float(data[half : kind.size])}i"
    number = integer(data[: kind.size], kind)
    if kind.kind == "bool":
        return {0: "false", 1: "true"}.get(number, str(number))
    return f"{number} {format_character(number)}" if kind.kind == "char" else str(number)


def _enumeration(number: int, kind: Enumeration) -> str:
    for name, value in kind.values:
        if value == number:
            return name
    flags = all(value >= 0 and not value & (value - 1) for _, value in kind.values)
    if not flags or not kind.values:
        return str(number)
    if not number:
        return "0"
    known = [(name, value) for name, value in kind.values if value and number & value]
    rest = number & ~sum(value for _, value in known)
    words = [name for name, _ in known] + ([f"unknown: {rest:#x}"] if rest else [])
    return f"({' | '.join(words)})"


def _pointer(number: int, kind: CType, plain: Pointer, memory: Memory, *, top: bool) -> str:
    target = strip(plain.target)
    name = memory.symbol(number) if number else ""
    words = f"{number:#x}{' ' + name if name else ''}"
    if isinstance(target, Base) and target.kind == "char" and target.size == 1:
        return f"{words} {text_at(number, memory)}" if number else words
    return f"({name_of(kind)}) {words}" if top else words


def text_at(address: int, memory: Memory) -> str:
    """The string at *address* in quotes, as far as it is shown."""
    data = memory.read(address, MAX_ELEMENTS)
    text, end, _ = data.partition(b"\0")
    if not data:
        return f"<error: Cannot access memory at address {address:#x}>"
    words = format_text(text)
    if end:
        return words
    if len(data) < MAX_ELEMENTS:
        return f"{words}<error: Cannot access memory at address {address + len(data):#x}>"
    return f"{words}..."


def format_text(text: bytes) -> str:
    """Characters in quotes; long runs of one are written as `'a' <repeats 12 times>`."""
    parts: list[str] = []
    plain = ""
    at = 0
    while at < len(text):
        run = 1
        while at + run < len(text) and text[at + run] == text[at]:
            run += 1
        if run >= _REPEATS:
            if plain:
                parts.append(f'"{plain}"')
                plain = ""
            parts.append(f"{format_character(text[at])} <repeats {run} times>")
        else:
            plain += _escaped(text[at], '"') * run
        at += run
    if plain or not parts:
        parts.append(f'"{plain}"')
    return ", ".join(parts)


def _struct(data: bytes, kind: Struct, memory: Memory, depth: int) -> str:
    if not kind.complete:
        return "<incomplete type>"
    parts = []
    for field in kind.fields:
        value = bit_field(data, field) if field.bits else data[field.offset : field.offset + size_of(field.type)]
        words = format_value(value, field.type, memory, top=False, depth=depth + 1)
        parts.append(f"{field.name} = {words}" if field.name else words)
    return f"{{{', '.join(parts)}}}"


def _array(data: bytes, kind: Array, memory: Memory, depth: int) -> str:
    element = strip(kind.element)
    size = size_of(element)
    if isinstance(element, Base) and element.kind == "char" and size == 1 and memory.scalar is None:
        text = data[: kind.count or 0]
        more = len(text) > MAX_ELEMENTS
        shown = text[:MAX_ELEMENTS] if more else text.removesuffix(b"\0") if text[-1:] == b"\0" else text
        return format_text(shown) + ("..." if more else "")
    if not size:
        return "{}"
    if isinstance(kind.element, Typedef) and kind.element.name in _WIDE and memory.scalar is None:
        codes = [int.from_bytes(data[at : at + size], "little") for at in range(0, (kind.count or 0) * size, size)]
        return _wide_text(codes[:MAX_ELEMENTS], _WIDE[kind.element.name]) + ("..." if len(codes) > MAX_ELEMENTS else "")
    pieces = [data[at : at + size] for at in range(0, (kind.count or 0) * size, size)]
    return (
        f"{{{_elements(pieces, lambda piece: format_value(piece, kind.element, memory, top=False, depth=depth + 1))}}}"
    )


def _wide_text(codes: list[int], prefix: str) -> str:
    """Characters of several bytes; those beyond ASCII in octal."""
    if codes and not codes[-1]:
        codes = codes[:-1]
    return f'{prefix}"{"".join(_escaped(code, chr(34)) if code < 0x7F else f"{chr(92)}{code:o}" for code in codes)}"'


def _elements(pieces: Sequence[bytes], write: Callable[[bytes], str]) -> str:
    """The elements of an array, runs of equal ones as one, up to a limit."""
    words: list[str] = []
    at = shown = 0
    while at < len(pieces) and shown < MAX_ELEMENTS:
        run = 1
        while at + run < len(pieces) and pieces[at + run] == pieces[at]:
            run += 1
        text = write(pieces[at])
        if run >= _REPEATS:
            words.append(f"{text} <repeats {run} times>")
            shown += _REPEATS
        else:
            run = min(run, MAX_ELEMENTS - shown)
            words += [text] * run
            shown += run
        at += run
    return ", ".join(words) + ("..." if at < len(pieces) else "")


# ---- floating point


def float_of(data: bytes) -> float:
    """A float, double or long double as Python has it."""
    value = _exact(data)
    if isinstance(value, float):
        return value
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _exact(data: bytes) -> Decimal | float:
    """The exact value; Python's own for infinities, and for what is not a number."""
    size = min(10, len(data))
    number = int.from_bytes(data[:size], "little")
    if size == 10:
        fraction, exponent, sign = number & (1 << 64) - 1, number >> 64 & 0x7FFF, number >> 79
        special, scale = exponent == 0x7FFF, max(exponent, 1) - _X87_BIAS - 63
        if special and fraction & (1 << 63) - 1:
            return math.nan
    else:
        if size not in _QUIET:
            return math.nan
        bits, width = _QUIET[size]
        fraction, exponent, sign = number & (1 << bits) - 1, number >> bits & (1 << width) - 1, number >> bits + width
        special = exponent == (1 << width) - 1
        if special and fraction:
            return math.nan
        scale = max(exponent, 1) - ((1 << width - 1) - 1) - bits
        fraction |= bool(exponent) << bits
    if special:
        return -math.inf if sign else math.inf
    # 2**-n is 5**n with n decimal places: exact, however small.
    value = Decimal(fraction << scale) if scale >= 0 else Decimal(fraction * 5**-scale).scaleb(scale, _EXACT)
    return value.copy_negate() if sign else value


def format_float(data: bytes) -> str:
    """As C's %g with as many digits as the type needs."""
    value = _exact(data)
    size = min(10, len(data))
    if isinstance(value, float):
        sign = "-" if int.from_bytes(data[:size], "little") >> 8 * size - 1 else ""
        if math.isinf(value):
            return f"{sign}inf"
        bits = 63 if size == 10 else _QUIET.get(size, (0, 0))[0]
        payload = int.from_bytes(data[: 8 if size == 10 else size], "little") & (1 << (64 if size == 10 else bits)) - 1
        return f"{sign}nan({payload:#x})"
    return _general(value, _DIGITS[size])


def _general(value: Decimal, digits: int) -> str:
    """%.*g: fixed or with an exponent, without zeroes at the end."""
    if not value:
        return "-0" if value.is_signed() else "0"
    rounded = Context(prec=digits, Emax=999_999, Emin=-999_999).plus(value)
    exponent = rounded.adjusted()
    sign, figures, _ = rounded.as_tuple()
    text = "".join(map(str, figures)).rstrip("0") or "0"
    minus = "-" if sign else ""
    if not -5 < exponent < digits:
        rest = f".{text[1:]}" if len(text) > 1 else ""
        return f"{minus}{text[0]}{rest}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{minus}0.{'0' * (-exponent - 1)}{text}"
    whole = text[: exponent + 1].ljust(exponent + 1, "0")
    rest = text[exponent + 1 :]
    return f"{minus}{whole}{'.' + rest if rest else ''}"
