"""Values of expressions: numbers of the debugger's own, and values of C's types that lie somewhere; their arithmetic.

A number without a type has 64 bits and wraps, as addresses and registers do.  With a type, C's rules hold.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from struct import Struct as Packing
from typing import Final, Protocol

from minikernel.report.dwarf.ctypes import (
    VOID,
    Array,
    Base,
    CType,
    Enumeration,
    Field,
    Function,
    Pointer,
    Struct,
    Void,
    is_integer,
    is_signed,
    name_of,
    size_of,
    strip,
)
from minikernel.report.dwarf.cvalues import bit_field, float_of

MASK: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63
INT: Final = Base("int", 4)
LONG: Final = Base("long", 8)
_UNSIGNED: Final = Base("unsigned int", 4, signed=False)
_UNSIGNED_LONG: Final = Base("unsigned long", 8, signed=False)
DOUBLE: Final = Base("double", 8, "float")
CHAR: Final = Base("char", 1, "char")
_FLOATS: Final = {4: Packing("<f"), 8: Packing("<d")}
MAX_AGGREGATE: Final = 1 << 24  # bytes that are read at once


class ExprError(ValueError):
    """The expression cannot be evaluated; one line says why."""


class Reader(Protocol):
    """Where memory is read, and how long an address is."""

    @property
    def word(self) -> int:
        """Bytes of an address."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Memory; shorter than *size* where it ends."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A plain *number* if there is no *type*; otherwise *data*, or what is at *address*, of that type."""

    type: CType | None = None
    number: int = 0
    data: bytes | None = None
    address: int | None = None
    register: int | None = None  # our number of the register that holds it
    field: Field | None = None  # it is this bit-field of the struct at *address* or in *data*


def plain(number: int) -> Value:
    """A number without a type."""
    return Value(None, number & MASK)


def typed(number: int, kind: CType) -> Value:
    """A number with a type."""
    size = size_of(kind)
    if size > MAX_AGGREGATE:
        raise ExprError(f"value requires {size} bytes, which is more than is shown")
    return Value(kind, data=(number & (1 << 8 * size) - 1).to_bytes(size, "little"))


def floating(number: float) -> Value:
    """A double."""
    return Value(DOUBLE, data=_FLOATS[8].pack(number))


def pointer_to(address: int, kind: CType, word: int) -> Value:
    """A pointer."""
    return typed(address, Pointer(lambda: kind, word))


def load(value: Value, reader: Reader) -> bytes:
    """The bytes of a value that has a type.

    Raises:
        ExprError.
    """
    kind = value.type
    assert kind is not None, "load: a plain number has no bytes"
    if value.field is not None and value.field.bits:
        field = value.field
        first, end = field.bit // 8, (field.bit + field.bits + 7) // 8
        whole = (
            value.data if value.data is not None else bytes(first) + _read(reader, value.address, first, end - first)
        )
        return bit_field(whole, field)
    if value.data is not None:
        return value.data
    return _read(reader, value.address, 0, size_of(kind))


def _read(reader: Reader, address: int | None, offset: int, size: int) -> bytes:
    if address is None:
        raise ExprError("value is not in memory")
    if size > MAX_AGGREGATE:
        raise ExprError(f"value requires {size} bytes, which is more than is shown")
    at = address + offset & ((1 << 8 * reader.word) - 1)
    data = reader.read(at, size)
    if len(data) < size:
        raise ExprError(f"Cannot access memory at address {at + len(data) if data else at:#x}")
    return data


def scalar(value: Value, reader: Reader) -> int | float:
    """The number that a value is; of an array or function, its address."""
    kind = value.type
    if kind is None:
        return value.number
    base = strip(kind)
    if isinstance(base, Array | Function):
        if value.address is None:
            raise ExprError("Attempt to take address of value not located in memory.")
        return value.address
    if isinstance(base, Struct | Void):
        raise ExprError("a number is wanted, not a struct" if isinstance(base, Struct) else "void has no value")
    data = load(value, reader)
    if isinstance(base, Base) and base.kind in {"float", "complex"}:
        return float_of(data[: base.size])
    return int.from_bytes(data, "little", signed=is_signed(base))


def to_integer(value: Value, reader: Reader) -> int:
    """The same as an integer; a struct is its address, for commands that want one."""
    if value.type is not None and isinstance(strip(value.type), Struct) and value.address is not None:
        return value.address
    number = scalar(value, reader)
    if isinstance(number, float):
        return int(number) if abs(number) < float(1 << 64) else 0
    return number


def decayed(value: Value, reader: Reader) -> Value:
    """An array as the pointer to its first element, a function as the pointer to it; the rest as it is."""
    if value.type is None:
        return value
    base = strip(value.type)
    if isinstance(base, Array):
        return pointer_to(to_integer(value, reader), base.element, reader.word)
    if isinstance(base, Function):
        return pointer_to(to_integer(value, reader), value.type, reader.word)
    return value


# ---- places


def dereference(value: Value, reader: Reader) -> Value:
    """What a pointer points to; a number without a type points to a word."""
    value = decayed(value, reader)
    address = to_integer(value, reader) & ((1 << 8 * reader.word) - 1)
    target = strip(value.type) if value.type is not None else VOID
    if not isinstance(target, Pointer):
        word = Base("unsigned long", reader.word, signed=False)
        return plain(int.from_bytes(_read(reader, address, 0, word.size), "little"))
    kind = target.target
    if isinstance(strip(kind), Void):
        raise ExprError("Attempt to take contents of a non-pointer value.")
    return Value(kind, address=address)


def address_of(value: Value, reader: Reader) -> Value:
    """A pointer to a value that is in memory."""
    if value.type is None:
        return value  # a symbol without a type is its address already
    if value.address is None:
        if value.register is not None:
            raise ExprError("Attempt to take address of value not located in memory.")
        raise ExprError("Attempt to take address of value not located in memory.")
    if value.field is not None and value.field.bits:
        raise ExprError("Attempt to take address of a bit-field.")
    return pointer_to(value.address, value.type, reader.word)


def element(value: Value, index: Value, reader: Reader) -> Value:
    """C's *value*[*index*]."""
    base = strip(value.type) if value.type is not None else None
    number = to_integer(index, reader)
    if isinstance(base, Array) and value.address is None:
        size = size_of(base.element)
        data = load(value, reader)[number * size : (number + 1) * size] if number >= 0 else b""
        if len(data) < size:
            raise ExprError("no such vector element")
        return Value(base.element, data=data)
    return dereference(add(value, typed(number, LONG), reader), reader)


def member(value: Value, name: str, reader: Reader) -> Value:
    """C's *value*.*name*; through a pointer as well, as gdb has it."""
    base = strip(value.type) if value.type is not None else VOID
    if isinstance(base, Pointer):
        value = dereference(value, reader)
        base = strip(value.type or VOID)
    if not isinstance(base, Struct):
        words = name_of(value.type) if value.type is not None else "a number"
        raise ExprError(f"Attempt to extract a component of a value that is not a structure ({words}).")
    path = find_field(base, name)
    if not path:
        raise ExprError(f"There is no member named {name}.")
    for field in path:
        value = _field(value, field)
    return value


def find_field(kind: Struct, name: str, depth: int = 0) -> tuple[Field, ...]:
    """The way to a member, through structs without names; () if there is none."""
    for field in kind.fields:
        if field.name == name:
            return (field,)
        inner = strip(field.type)
        if not field.name and isinstance(inner, Struct) and depth < 16:
            below = find_field(inner, name, depth + 1)
            if below:
                return (field, *below)
    return ()


def _field(value: Value, field: Field) -> Value:
    if field.bits:
        return Value(field.type, data=value.data, address=value.address, field=field)
    if value.data is not None:
        return Value(field.type, data=value.data[field.offset : field.offset + size_of(field.type)])
    assert value.address is not None, "_field: a struct is in memory or has its bytes"
    return Value(field.type, address=value.address + field.offset)


# ---- arithmetic


def cast(value: Value, kind: CType, reader: Reader) -> Value:
    """*value* as *kind*."""
    base = strip(kind)
    if isinstance(base, Struct | Array | Function):
        if value.address is not None:
            return replace(value, type=kind, field=None, register=None)
        raise ExprError("Invalid cast.")
    if isinstance(base, Void):
        return Value(kind, data=b"")
    number = scalar(decayed(value, reader), reader)
    if isinstance(base, Base) and base.kind == "float":
        return _to_float(float(number), kind, base.size)
    whole = int(number) if abs(number) < float(1 << 64) * 2 else 0
    if isinstance(base, Base) and base.kind == "bool":
        whole = int(bool(number))
    return typed(whole, kind)


def _to_float(number: float, kind: CType, size: int) -> Value:
    if size not in _FLOATS:
        raise ExprError("long double can be shown, but not computed with.")
    try:
        return Value(kind, data=_FLOATS[size].pack(number))
    except OverflowError:
        return Value(kind, data=_FLOATS[size].pack(float("inf") if number > 0 else float("-inf")))


def add(left: Value, right: Value, reader: Reader, sign: int = 1) -> Value:
    """C's + or, with *sign* -1, -: pointers move by whole elements."""
    left, right = decayed(left, reader), decayed(right, reader)
    lkind, rkind = _pointer(left), _pointer(right)
    if lkind is None and rkind is not None and sign > 0:
        left, right, lkind, rkind = right, left, rkind, None
    if lkind is None:
        return arithmetic("+" if sign > 0 else "-", left, right, reader)
    size = max(size_of(lkind.target), 1)
    if rkind is not None:
        difference = to_integer(left, reader) - to_integer(right, reader)
        return typed(int(difference / size) if abs(difference) < 1 << 50 else difference // size, LONG)
    assert left.type is not None, "add: a pointer has a type"
    return typed(to_integer(left, reader) + sign * size * _signed(to_integer(right, reader)), left.type)


def _pointer(value: Value) -> Pointer | None:
    base = strip(value.type) if value.type is not None else None
    return base if isinstance(base, Pointer) else None


def _signed(number: int) -> int:
    number &= MASK
    return number - (1 << 64) if number & _SIGN else number


def arithmetic(op: str, left: Value, right: Value, reader: Reader) -> Value:
    """C's binary operators on numbers."""
    left, right = decayed(left, reader), decayed(right, reader)
    first, second = scalar(left, reader), scalar(right, reader)
    if isinstance(first, float) or isinstance(second, float):
        return _float_arithmetic(op, float(first), float(second))
    if left.type is None and right.type is None:
        number = _apply(op, first, second)
        return plain(number) if op not in _TRUTHS else plain(int(number))
    kind = _common(left, first, right, second)
    if op in {"<<", ">>"}:
        kind = _promoted(left, first)
    if op in _TRUTHS:
        return typed(_apply(op, _wrap(first, kind), _wrap(second, kind)), INT)
    if op in {"<<", ">>"}:
        return typed(_apply(op, _wrap(first, kind), second & MASK), kind)
    return typed(_apply(op, _wrap(first, kind), _wrap(second, kind)), kind)


_TRUTHS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "&&", "||"})


def _wrap(number: int, kind: CType) -> int:
    bits = 8 * size_of(kind)
    number &= (1 << bits) - 1
    return number - (1 << bits) if is_signed(kind) and number >> (bits - 1) else number


def _promoted(value: Value, number: int) -> CType:
    """The type in which C computes with *value*: int at least."""
    if value.type is None:
        number = _signed(number)
        return INT if -(1 << 31) <= number < 1 << 31 else LONG
    base = strip(value.type)
    if isinstance(base, Pointer):
        return _UNSIGNED_LONG if base.size == 8 else _UNSIGNED
    if not isinstance(base, Base | Enumeration) or size_of(base) < 4:
        return INT
    return base


def _common(left: Value, first: int, right: Value, second: int) -> CType:
    """The type in which C computes with both."""
    one, other = _promoted(left, first), _promoted(right, second)
    if size_of(one) != size_of(other):
        return one if size_of(one) > size_of(other) else other
    return other if is_signed(one) and not is_signed(other) else one


def _float_arithmetic(op: str, left: float, right: float) -> Value:
    if op in _TRUTHS:
        if op in {"&&", "||"}:
            return typed(_apply(op, int(bool(left)), int(bool(right))), INT)
        return typed(int(_COMPARE[op](left, right)), INT)
    try:
        match op:
            case "+":
                return floating(left + right)
            case "-":
                return floating(left - right)
            case "*":
                return floating(left * right)
            case "/":
                return floating(left / right)
    except (ZeroDivisionError, OverflowError):
        return floating(float("nan") if not left else float("inf") if (left > 0) == (right >= 0) else float("-inf"))
    raise ExprError("Argument to arithmetic operation not a number or boolean.")


def _divided(left: int, right: int) -> tuple[int, int]:
    """C's quotient and remainder: towards zero."""
    if not right:
        raise ExprError("Division by zero")
    quotient = abs(left) // abs(right)
    quotient = -quotient if (left < 0) != (right < 0) else quotient
    return quotient, left - quotient * right


def _apply(op: str, left: int, right: int) -> int:
    """The operators on integers; comparisons are unsigned unless a side is negative."""
    if op in {"<<", ">>"} and not 0 <= right < 64:
        raise ExprError("a shift by more than 63")
    if op in _COMPARE:
        if left < 0 or right < 0:
            left, right = _signed(left), _signed(right)
        return int(_COMPARE[op](left, right))
    return _INTEGER[op](left, right)


_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_INTEGER: Final[dict[str, Callable[[int, int], int]]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: _divided(left, right)[0],
    "%": lambda left, right: _divided(left, right)[1],
    "<<": lambda left, right: left << right,
    ">>": lambda left, right: left >> right,
    "&": lambda left, right: left & right,
    "|": lambda left, right: left | right,
    "^": lambda left, right: left ^ right,
    "&&": lambda left, right: int(bool(left) and bool(right)),
    "||": lambda left, right: int(bool(left) or bool(right)),
}


def unary(op: str, value: Value, reader: Reader) -> Value:
    """C's - ~ ! +."""
    value = decayed(value, reader)
    number = scalar(value, reader)
    if op == "!":
        return plain(int(not number)) if value.type is None else typed(int(not number), INT)
    if isinstance(number, float):
        if op == "~":
            raise ExprError("Argument to complement operation not an integer, boolean.")
        return floating(-number if op == "-" else number)
    result = {"-": -number, "~": ~number, "+": number}[op]
    return plain(result) if value.type is None else typed(result, _promoted(value, number))


def is_number(kind: CType) -> bool:
    """Whether a value of *kind* is one number: no struct, array or function."""
    return is_integer(kind) or isinstance(strip(kind), Base | Pointer)
