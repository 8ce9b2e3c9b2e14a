"""Expressions at the prompt: numbers, registers, symbols, C's operators, casts by size.

A symbol is its address, ``*`` reads memory, ``(u8*)`` or ``(int*)`` says how much of it.  ``phys(A)`` and ``pfn(A)``
are the physical address and the frame behind a virtual one.  All arithmetic is in 64 bits and wraps.
"""

import re
from dataclasses import dataclass
from typing import Final, Protocol

_MASK: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|\d+)|(?P<char>'(?:\\.|[^'\\])')|(?P<register>\$\w*)|(?P<name>[A-Za-z_.][\w.@]*)"
    r"|(?P<op><<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>()]))"
)
_LEVELS: Final = (("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"),
                  ("+", "-"), ("*", "/", "%"))  # fmt: skip
_ESCAPES: Final = {"n": 10, "t": 9, "r": 13, "0": 0, "\\": 92, "'": 39}
_MAX_DEPTH: Final = 64
_MAX_DIGITS: Final = 20


class ExprError(ValueError):
    """The expression cannot be evaluated; one line says why."""


class Scope(Protocol):
    """What names mean."""

    @property
    def word(self) -> int:
        """Bytes of an address."""
        ...

    def register(self, name: str) -> int | None:
        """The register or variable *name*, without its dollar sign; None: there is none."""
        ...

    def symbol(self, name: str) -> int | None:
        """The address of *name*; None: there is none."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Memory; shorter than *size* where it ends."""
        ...

    def physical(self, address: int) -> int | None:
        """The physical address behind *address*; None: no page is present."""
        ...


@dataclass(frozen=True, slots=True)
class _Type:
    """An integer of *size* bytes, or a pointer to one behind *stars*."""

    size: int
    signed: bool
    stars: int = 0


@dataclass(frozen=True, slots=True)
class _Value:
    """A number; *type* is what a cast or the memory said it is."""

    number: int
    type: _Type | None = None


def evaluate(text: str, scope: Scope) -> int:
    """The value of *text*: signed if a type says so, otherwise from 0 to 2**64 - 1.

    Raises:
        ExprError.
    """
    parser = _Parser(_tokens(text), scope)
    value = parser.binary(0)
    if parser.at < len(parser.tokens):
        raise ExprError(f"a junk `{parser.tokens[parser.at][1]}` in the expression")
    return value.number


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    stripped = text.rstrip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if match is None:
            raise ExprError(f"what is `{stripped[at:].strip()[:12]}`?")
        assert match.lastgroup is not None, "_tokens: every alternative has a name"
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    if not tokens:
        raise ExprError("an expression is missing")
    return tokens


def _wrap(number: int, kind: _Type | None) -> int:
    """*number* as *kind* can hold it."""
    if kind is None or kind.stars:
        return number & _MASK
    bits = 8 * kind.size
    number &= (1 << bits) - 1
    return number - (1 << bits) if kind.signed and number >> (bits - 1) else number


class _Parser:
    """Precedence climbing over the tokens."""

    def __init__(self, tokens: list[tuple[str, str]], scope: Scope) -> None:
        self.tokens = tokens
        self.at = 0
        self._scope = scope
        self._depth = 0

    def _peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) and self.tokens[self.at][0] == "op" else ""

    def _take(self) -> tuple[str, str]:
        if self.at >= len(self.tokens):
            raise ExprError("the expression ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def binary(self, level: int) -> _Value:
        """Operators of *level* and those that bind tighter."""
        if level == len(_LEVELS):
            return self._unary()
        left = self.binary(level + 1)
        while self._peek() in _LEVELS[level]:
            op = self._take()[1]
            right = self.binary(level + 1)
            kind = left.type if left.type is not None and left.type.stars and op in {"+", "-"} else None
            left = _Value(_wrap(_apply(op, left.number, right.number), kind), kind)
        return left

    def _unary(self) -> _Value:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ExprError("the expression is nested too deeply")
        try:
            return self._prefix()
        finally:
            self._depth -= 1

    def _prefix(self) -> _Value:
        op = self._peek()
        if op == "(" and (kind := self._cast()) is not None:
            return _Value(_wrap(self._unary().number, kind), kind)
        if op in {"-", "~", "!", "*", "&", "+"}:
            self._take()
            value = self._unary()
            if op == "*":
                return self._dereference(value)
            if op == "&":
                return value  # a symbol is its address already
            number = {"-": -value.number, "~": ~value.number, "!": int(not value.number), "+": value.number}[op]
            return _Value(_wrap(number, None))
        return self._primary()

    def _dereference(self, value: _Value) -> _Value:
        kind = value.type
        if kind is None or not kind.stars:
            target = _Type(self._scope.word, signed=False)
        else:
            target = _Type(kind.size, kind.signed, kind.stars - 1)
        size = self._scope.word if target.stars else target.size
        address = value.number & ((1 << 8 * self._scope.word) - 1)
        data = self._scope.read(address, size)
        if len(data) < size:
            raise ExprError(f"Cannot access memory at address {address:#x}")
        return _Value(_wrap(int.from_bytes(data, "little"), target), target)

    def _primary(self) -> _Value:
        kind, text = self._take()
        if kind == "number" and len(text) > _MAX_DIGITS:
            raise ExprError("Numeric constant too large.")
        if kind == "number":
            return _Value(int(text, 16 if text[:2] in {"0x", "0X"} else 10) & _MASK)
        if kind == "char":
            return _Value(_ESCAPES.get(text[2], ord(text[2]) & 0xFF) if text[1] == "\\" else ord(text[1]))
        if kind == "register":
            return _Value(self._named(self._scope.register(text[1:]), "register or variable", text))
        if text == "(":
            value = self.binary(0)
            if self._take()[1] != ")":
                raise ExprError("a `)` is missing")
            return value
        if kind == "op":
            raise ExprError(f"`{text}` does not belong there")
        if text in {"phys", "pfn"} and self._peek() == "(":
            phys = self._scope.physical(self._unary().number)
            if phys is None:
                raise ExprError("no page is present there")
            return _Value(phys if text == "phys" else phys >> 12)
        return _Value(self._named(self._scope.symbol(text), "symbol", text))

    @staticmethod
    def _named(value: int | None, what: str, name: str) -> int:
        if value is None:
            raise ExprError(f"No {what} {name} in current context.")
        return value & _MASK

    def _cast(self) -> _Type | None:
        """The type in parentheses here, if there is one; the tokens are taken then."""
        end, words, stars = self.at + 1, [], 0
        while end < len(self.tokens) and self.tokens[end][0] == "name":
            words.append(self.tokens[end][1])
            end += 1
        while end < len(self.tokens) and self.tokens[end][1] == "*":
            stars += 1
            end += 1
        kind = self._type(words)
        if kind is None or end >= len(self.tokens) or self.tokens[end][1] != ")":
            return None
        self.at = end + 1
        return _Type(kind.size, kind.signed, stars)

    def _type(self, words: list[str]) -> _Type | None:
        """The integer type that *words* name."""
        if len(words) == 1 and (match := re.fullmatch(r"([iu])(8|16|32|64)|(u?)int(8|16|32|64)_t", words[0])):
            return _Type(int(match[2] or match[4]) // 8, signed=match[1] == "i" or (match[1] is None and not match[3]))
        names = sorted(words)
        signed = "unsigned" not in names
        if not signed:
            names.remove("unsigned")
        sizes = {("char",): 1, ("short",): 2, ("int",): 4, (): 4, ("long",): self._scope.word, ("long", "long"): 8}
        size = sizes.get(tuple(names)) if words else None
        return _Type(size, signed) if size is not None else None


def _signed(number: int) -> int:
    number &= _MASK
    return number - (1 << 64) if number & _SIGN else number


def _apply(op: str, left: int, right: int) -> int:
    """C's binary operators; comparisons are unsigned unless a side is negative."""
    match op:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/" | "%":
            if not right:
                raise ExprError("Division by zero")
            quotient = abs(left) // abs(right)
            quotient = -quotient if (left < 0) != (right < 0) else quotient
            return quotient if op == "/" else left - quotient * right
        case "<<" | ">>":
            if not 0 <= right < 64:
                raise ExprError("a shift by more than 63")
            return left << right if op == "<<" else left >> right
        case "&":
            return left & right
        case "|":
            return left | right
        case "^":
            return left ^ right
        case "&&":
            return int(bool(left) and bool(right))
        case "||":
            return int(bool(left) or bool(right))
        case _:
            return int(_compare(op, left, right))


def _compare(op: str, left: int, right: int) -> bool:
    if left < 0 or right < 0:
        left, right = _signed(left), _signed(right)
    match op:
        case "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left >= right
