"""What a function returns, and where: System V ABI, AMD64 3.2.3 and i386 2.2.3."""

from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import CommandError
from minikernel.kdb.registers import fpu
from minikernel.kdb.values import Value
from minikernel.report.dwarf.ctypes import (
    VOID,
    Array,
    Base,
    CType,
    Enumeration,
    Pointer,
    Struct,
    Void,
    size_of,
    strip,
)
from minikernel.report.dwarf.cursor import DamagedError

if TYPE_CHECKING:
    from minikernel.kdb.locals import Spot
    from minikernel.kdb.session import Session
    from minikernel.report.dwarf.dies import Die

_RAX: Final = 0
_RDX: Final = 2
_INTEGER, _SSE, _MEMORY, _X87 = "integer", "sse", "memory", "x87"


def returned(session: "Session", kind: CType) -> Value | None:
    """The value of *kind* that a function has just returned; None if there is none."""
    base = strip(kind)
    if isinstance(base, Void):
        return None
    registers = session.registers()
    size = size_of(base)
    classes = classify(base) if session.word == 8 else _classify32(base)
    if classes == [_MEMORY]:
        return Value(kind, address=registers[_RAX])  # where the caller had wanted it
    if classes == [_X87]:
        return Value(kind, data=_float_from_st0(session, size))
    general = [registers[_RAX], registers[_RDX]]
    vector = [fpu(session).xmm[0], fpu(session).xmm[1]] if _SSE in classes else []
    data = b""
    for each in classes:
        if each == _INTEGER:
            data += general.pop(0).to_bytes(session.word, "little")
        else:
            data += vector.pop(0)[:8]
    return Value(kind, data=data[:size])


def _float_from_st0(session: "Session", size: int) -> bytes:
    """ST(0), rounded to the type."""
    from minikernel.kdb.values import floating
    from minikernel.report.dwarf.cvalues import float_of

    raw = fpu(session).st(0)
    if size >= 10:
        return raw[:10].ljust(size, b"\0")
    data = floating(float_of(raw)).data or b""
    if size == 8:
        return data
    from struct import pack

    return pack("<f", float_of(raw))


def classify(kind: CType) -> list[str]:
    """The class of each eightbyte: where AMD64's convention returns a value."""
    size = size_of(kind)
    if size > 16:
        base = strip(kind)
        return [_MEMORY] if isinstance(base, Struct | Array) else [_X87]
    classes = [""] * max((size + 7) // 8, 1)
    if not _merge(kind, 0, classes):
        return [_X87] if isinstance(strip(kind), Base) else [_MEMORY]
    return [each or _SSE for each in classes]


def _merge(kind: CType, offset: int, classes: list[str]) -> bool:
    """Enter what lies at *offset*; False if it makes the whole go to memory."""
    base = strip(kind)
    if isinstance(base, Struct):
        return all(
            _merge(field.type, offset + (field.bit // 8 if field.bits else field.offset), classes)
            for field in base.fields
        )
    if isinstance(base, Array):
        size = size_of(base.element)
        return all(_merge(base.element, offset + at * size, classes) for at in range(base.count or 0))
    if isinstance(base, Base) and base.kind in {"float", "complex"}:
        if base.size > 8:
            return False
        classes[offset // 8] = classes[offset // 8] or _SSE
        return True
    if isinstance(base, Base | Pointer | Enumeration):
        for at in range(offset // 8, (offset + size_of(base) + 7) // 8):
            classes[min(at, len(classes) - 1)] = _INTEGER
    return True


def _classify32(kind: CType) -> list[str]:
    """i386: numbers in EAX and EDX, floating point on the x87's stack, structs in memory."""
    base = strip(kind)
    if isinstance(base, Struct | Array):
        return [_MEMORY]
    if isinstance(base, Base) and base.kind == "float":
        return [_X87]
    return [_INTEGER] * (2 if size_of(base) > 4 else 1)


def show_returned(session: "Session", spot: "Spot | None", function: "Die | None") -> None:
    """Show what the function that has just returned gave back, and keep it as a value."""
    from minikernel.kdb.values import ExprError, to_integer
    from minikernel.kdb.variables import keep, value_words

    if spot is None or function is None:
        number = session.registers()[_RAX]
        session.values.append(number)
        session.print(f"Value returned (in {'rax' if session.word == 8 else 'eax'}): {number:#x} ({number})")
        return
    try:
        value = returned(session, spot.program.types.of(function.type))
        if value is None:
            return
        words = value_words(session, value)
        number = to_integer(value, session) if isinstance(strip(value.type or VOID), Base | Enumeration) else 0
        keep(session, value, number)
    except (ExprError, DamagedError, CommandError) as error:
        session.print(f"Value returned cannot be shown: {error}.")
        return
    session.print(f"Value returned is ${len(session.values)} = {words}")
    session.tell(value=number, text=words)
