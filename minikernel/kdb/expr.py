"""Expressions at the prompt: C's, over numbers, registers, symbols, and the variables and types of the program.

A variable that the program describes has its C type: ``p->next``, ``a[i].x``, ``*argv@argc``, ``(struct node *)$rax``,
``sizeof x``.  A symbol without a description is its address, ``*`` of it reads a word, ``(u8*)`` or ``(int*)`` says how
much.  ``phys(A)`` and ``pfn(A)`` are the physical address and the frame behind a virtual one.
"""

import re
from typing import Final, Protocol

from minikernel.kdb.own_types import own_type
from minikernel.kdb.values import (
    CHAR,
    INT,
    ExprError,
    Value,
    add,
    address_of,
    arithmetic,
    cast,
    dereference,
    element,
    floating,
    member,
    plain,
    to_integer,
    typed,
    unary,
)
from minikernel.report.dwarf.ctypes import Array, Base, CType, Pointer, size_of

__all__ = ["ExprError", "Scope", "evaluate", "evaluate_value", "parse_type"]

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>(?:0[xX][0-9a-fA-F]+|\d+)[uUlL]*(?![\w.])|\d+\.\d*(?:[eE][-+]?\d+)?|\d+)|(?P<char>'(?:\\.|[^'\\])')|(?P<register>\$\w*)"
    r"|(?P<name>[A-Za-z_.][\w.@]*)"
    r"|(?P<op>->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>()\[\]@]))"
)
_LEVELS: Final = (("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"),
                  ("@",), ("+", "-"), ("*", "/", "%"))  # fmt: skip
_PRECEDENCE: Final = {op: level for level, ops in enumerate(_LEVELS) for op in ops}
_ESCAPES: Final = {"n": 10, "t": 9, "r": 13, "0": 0, "\\": 92, "'": 39}
_KEYWORDS: Final = frozenset({"struct", "union", "enum", "class"})
_QUALIFIERS: Final = frozenset({"const", "volatile", "restrict"})
_MAX_DEPTH: Final = 64
_MAX_DIGITS: Final = 20


class Scope(Protocol):
    """What names mean."""

    @property
    def word(self) -> int:
        """Bytes of an address."""
        ...

    def register(self, name: str) -> int | None:
        """The register or value *name*, without its dollar sign; None: there is none."""
        ...

    def symbol(self, name: str) -> int | None:
        """The address of *name*; None: there is none."""
        ...

    def variable(self, name: str) -> Value | None:
        """The variable or function *name* that the program describes, seen from the chosen frame.

        Raises:
            ExprError: it has no value there.
        """
        ...

    def type_named(self, name: str) -> CType | None:
        """The type *name* (``struct node``, ``size_t``) of the program."""
        ...

    def history(self, name: str) -> Value | None:
        """The value that ``print`` has called *name*, if it has a type."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Memory; shorter than *size* where it ends."""
        ...

    def physical(self, address: int) -> int | None:
        """The physical address behind *address*; None: no page is present."""
        ...


def evaluate(text: str, scope: Scope) -> int:
    """The value of *text* as an integer: signed if a type says so, otherwise from 0 to 2**64 - 1.

    Raises:
        ExprError.
    """
    return to_integer(evaluate_value(text, scope), scope)


def evaluate_value(text: str, scope: Scope) -> Value:
    """The value of *text*.

    Raises:
        ExprError.
    """
    parser = _Parser(_tokens(text), scope)
    value = parser.binary(0)
    if parser.at < len(parser.tokens):
        raise ExprError(f"a junk `{parser.tokens[parser.at][1]}` in the expression")
    return value


def parse_type(text: str, scope: Scope) -> CType | None:
    """The type that *text* names; None if it names none."""
    try:
        parser = _Parser(_tokens(text), scope)
    except ExprError:
        return None
    kind = parser.type_name()
    return kind if parser.at == len(parser.tokens) else None


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

    def _expect(self, op: str) -> None:
        if self._take()[1] != op:
            raise ExprError(f"a `{op}` is missing")

    def binary(self, level: int) -> Value:
        """Operators of *level* and those that bind tighter."""
        left = self._unary()
        while (own := _PRECEDENCE.get(self._peek(), -1)) >= level:
            op = self._take()[1]
            left = self._join(op, left, self.binary(own + 1))
        return left

    def _join(self, op: str, left: Value, right: Value) -> Value:
        if op == "@":
            return self._row(left, right)
        if op in {"+", "-"}:
            return add(left, right, self._scope, 1 if op == "+" else -1)
        return arithmetic(op, left, right, self._scope)

    def _row(self, first: Value, count: Value) -> Value:
        """``FIRST@COUNT``, as in gdb: an array that begins with a value in memory."""
        number = to_integer(count, self._scope)
        if first.type is None or first.address is None:
            raise ExprError("Only values in memory can be extended with '@'.")
        if not 0 < number < 1 << 24:
            raise ExprError("Invalid number of repetitions.")
        return Value(Array(first.type, number), address=first.address)

    def _unary(self) -> Value:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ExprError("the expression is nested too deeply")
        try:
            return self._prefix()
        finally:
            self._depth -= 1

    def _prefix(self) -> Value:
        op = self._peek()
        if op == "(" and (kind := self._cast()) is not None:
            return cast(self._unary(), kind, self._scope)
        if op in {"-", "~", "!", "*", "&", "+"}:
            self._take()
            value = self._unary()
            if op == "*":
                return dereference(value, self._scope)
            return address_of(value, self._scope) if op == "&" else unary(op, value, self._scope)
        if self.at < len(self.tokens) and self.tokens[self.at] == ("name", "sizeof"):
            return self._sizeof()
        return self._postfix(self._primary())

    def _sizeof(self) -> Value:
        self._take()
        kind = self._cast() if self._peek() == "(" else None
        if kind is None:
            value = self._unary()
            kind = value.type or Base("long", 8)
        return typed(size_of(kind), Base("unsigned long", self._scope.word, signed=False))

    def _postfix(self, value: Value) -> Value:
        while self.at < len(self.tokens):
            group, text = self.tokens[self.at]
            if text == "[":
                self._take()
                index = self.binary(0)
                self._expect("]")
                value = element(value, index, self._scope)
            elif text == "->":
                self._take()
                group, text = self._take()
                if group != "name":
                    raise ExprError("a member's name is missing")
                value = self._members(value, text)
            elif group == "name" and text.startswith("."):
                self._take()
                value = self._members(value, text[1:])
            else:
                break
        return value

    def _members(self, value: Value, path: str) -> Value:
        """``a.b.c`` of a value; an `@` behind it is another operator."""
        path, at, rest = path.partition("@")
        if at:
            self.tokens[self.at : self.at] = [("op", "@"), *(_tokens(rest) if rest else [])]
        for name in path.split("."):
            if not name:
                raise ExprError("a member's name is missing")
            value = member(value, name, self._scope)
        return value

    def _primary(self) -> Value:
        kind, text = self._take()
        if kind == "number":
            return self._number(text)
        if kind == "char":
            return typed(_ESCAPES.get(text[2], ord(text[2]) & 0xFF) if text[1] == "\\" else ord(text[1]), CHAR)
        if kind == "register":
            return self._scope.history(text[1:]) or self._named(
                self._scope.register(text[1:]), "register or variable", text
            )
        if text == "(":
            value = self.binary(0)
            self._expect(")")
            return value
        if kind == "op":
            raise ExprError(f"`{text}` does not belong there")
        if text in {"phys", "pfn"} and self._peek() == "(":
            phys = self._scope.physical(to_integer(self._unary(), self._scope))
            if phys is None:
                raise ExprError("no page is present there")
            return plain(phys if text == "phys" else phys >> 12)
        return self._name(text)

    def _number(self, text: str) -> Value:
        if "." in text:
            return floating(float(text))
        if len(text) > _MAX_DIGITS:
            raise ExprError("Numeric constant too large.")
        digits = text.rstrip("uUlL")
        number = int(digits, 16 if digits[:2] in {"0x", "0X"} else 10)
        if digits == text:
            return plain(number)
        suffix = text[len(digits) :].lower()
        words = ["unsigned"] * ("u" in suffix) + ["long"] * min(suffix.count("l"), 2) or ["int"]
        return typed(number, own_type(words, self._scope.word) or INT)

    def _name(self, text: str) -> Value:
        """A variable, and members of it; otherwise a symbol, whose name may have dots."""
        scope = self._scope
        name, dot, path = text.partition(".")
        name, at, rest = name.partition("@")
        value = scope.variable(name) if name else None
        if value is not None:
            if at:
                self.tokens[self.at : self.at] = [("op", "@"), *(_tokens(rest + dot + path) if rest else [])]
                return value
            return self._members(value, path) if dot else value
        return self._named(scope.symbol(text), "symbol", text)

    @staticmethod
    def _named(value: int | None, what: str, name: str) -> Value:
        if value is None:
            raise ExprError(f"No {what} {name} in current context.")
        return plain(value)

    # ---- types

    def _cast(self) -> CType | None:
        """The type in parentheses here, if there is one; the tokens are taken then."""
        start = self.at
        self.at += 1
        kind = self.type_name()
        if kind is not None and self.at < len(self.tokens) and self.tokens[self.at][1] == ")":
            self.at += 1
            return kind
        self.at = start
        return None

    def type_name(self) -> CType | None:
        """The type that is named here, with its stars and brackets; None if there is none."""
        words = []
        while self.at < len(self.tokens) and self.tokens[self.at][0] == "name":
            words.append(self.tokens[self.at][1])
            self.at += 1
        kind = self._base_type([word for word in words if word not in _QUALIFIERS])
        if kind is None:
            return None
        while self.at < len(self.tokens) and self.tokens[self.at][1] in {"*", *_QUALIFIERS}:
            if self.tokens[self.at][1] == "*":
                kind = _pointer(kind, self._scope.word)
            self.at += 1
        counts = []
        while self._peek() == "[" and [token[0] for token in self.tokens[self.at + 1 : self.at + 3]] == [
            "number",
            "op",
        ]:
            counts.append(int(self.tokens[self.at + 1][1], 0))
            self.at += 3
        for count in reversed(counts):
            kind = Array(kind, count)
        return kind

    def _base_type(self, words: list[str]) -> CType | None:
        """The type that *words* name without stars: the program's own, or one of C's."""
        if not words:
            return None
        if len(words) == 2 and words[0] in _KEYWORDS:
            found = self._scope.type_named(" ".join(words))
            if found is None:
                raise ExprError(f"No {words[0]} type named {words[1]}.")
            return found
        if len(words) == 1:
            if self._scope.variable(words[0]) is not None:
                return None
            found = self._scope.type_named(words[0])
            if found is not None:
                return found
        return own_type(words, self._scope.word)


def _pointer(kind: CType, word: int) -> CType:
    return Pointer(lambda: kind, word)
