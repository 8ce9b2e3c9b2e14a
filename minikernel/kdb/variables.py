"""Commands about the program's variables and types: print, info locals, info args, ptype, whatis, set var, display."""

import re
from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import CommandError, command
from minikernel.kdb.examine import number_words, split_format
from minikernel.kdb.expr import ExprError, evaluate_value, parse_type
from minikernel.kdb.locals import Spot, locals_of, parameters_of, value_of
from minikernel.kdb.registers import wide_register
from minikernel.kdb.values import Value, is_number, load, to_integer
from minikernel.report.dwarf.ctypes import (
    Base,
    CType,
    Function,
    Typedef,
    expand,
    is_signed,
    name_of,
    strip,
)
from minikernel.report.dwarf.cvalues import Memory, format_character, format_value
from minikernel.report.dwarf.dies import Die
from minikernel.report.dwarf.ops import UnavailableError
from minikernel.report.formats import floating

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.kdb.unwind import Frame

_GROUP: Final = "program"
_WIDE: Final = re.compile(r"\$(xmm\d+|st\d|mxcsr|fctrl|fstat|ftag|fop|fip|fdp|cr[0234]|efer)")
_ASSIGN: Final = re.compile(r"(?<![=!<>])=(?!=)")


# ---- words for values


def memory_of(session: "Session", letter: str = "", size: int = 0) -> Memory:
    """What formatting may ask for; with a *letter*, numbers are written as it says."""

    def scalar(data: bytes, kind: CType) -> str:
        return _lettered(session, data, kind, letter, size)

    return Memory(session.read, lambda address: _symbol_words(session, address), scalar if letter else None)


def _symbol_words(session: "Session", address: int) -> str:
    """``<main+4>`` for code, and for variables outside of functions."""
    found = session.explainer.symbols.find(session.mm, address)
    symbol = found.symbol if found is not None else None
    if symbol is None:
        return ""
    return f"<{symbol.name}+{symbol.offset}>" if symbol.offset else f"<{symbol.name}>"


def _lettered(session: "Session", data: bytes, kind: CType, letter: str, size: int) -> str:
    base = strip(kind)
    if isinstance(base, Base) and base.kind == "float":
        if letter == "f":
            return format_value(data, kind, memory_of(session))
        size = size or len(data)
    number = int.from_bytes(data, "little")
    if letter == "f":
        return floating(data) if len(data) in {4, 8} else str(number)
    if letter == "c":
        number &= 0xFF
        shown = number - 256 if number > 127 and is_signed(kind) else number
        return f"{shown} {format_character(number)}"
    return number_words(session, number, letter, size or len(data))


def value_words(session: "Session", value: Value, letter: str = "", size: int = 0, *, top: bool = True) -> str:
    """A value as ``print`` shows it.

    Raises:
        ExprError.
    """
    kind = value.type
    if kind is None:
        return number_words(session, value.number, letter, size or 8) if letter else plain_words(session, value.number)
    base = strip(kind)
    if isinstance(base, Function):
        address = value.address or 0
        return f"{{{name_of(kind)}}} {address:#x} {_symbol_words(session, address)}".rstrip()
    return format_value(load(value, session), kind, memory_of(session, letter, size), top=top)


def plain_words(session: "Session", value: int) -> str:
    """A number without a type: small ones in decimal; others as addresses, with a name where there is one."""
    if value < 1 << 16:
        return str(value)
    if value > (1 << 64) - (1 << 16):
        return str(value - (1 << 64))
    return f"{value:#x} {session.name_of(value)}".rstrip()


def variable_words(session: "Session", die: Die, spot: Spot, frame: "Frame", *, brief: bool = False) -> str:
    """The value of a variable as a list shows it; *brief* leaves structs and arrays out."""
    try:
        value = value_of(session, die, spot, frame)
        if brief and value.type is not None and not is_number(value.type):
            return "..."
        return value_words(session, value, top=False)
    except UnavailableError as error:
        return str(error)
    except ExprError as error:
        return f"<error: {error}>"


def argument_words(session: "Session", spot: Spot | None, frame: "Frame") -> str:
    """``n=3, name=0x402010 "x"``: the arguments of a frame; structs and arrays are left out."""
    if spot is None:
        return ""
    return ", ".join(
        f"{die.name}={variable_words(session, die, spot, frame, brief=True)}" for die in parameters_of(spot)
    )


# ---- commands


@command("print [/FORMAT] EXPR", "p", "inspect", group=_GROUP)
def print_(session: "Session", arguments: str) -> None:
    """Evaluate an expression: print [/x|d|u|o|t|c|a|f|z|s] EXPR.

    Variables of the chosen frame and of the program by their C types: print *list->next, print argv[1],
    print values[2]@3, print (struct node *)$rdi, print sizeof buffer, print &table.  Numbers, $registers, symbols
    without a description (their addresses), C's operators, *(u8*)ADDR, phys(ADDR), pfn(ADDR).  The result is kept as
    $1, $2, ...; $ is the last.
    """
    _, letter, size, text = split_format(arguments)
    if letter == "i":
        raise CommandError(f'Format letter "{letter}" is meaningless in "print" command.')
    wide = wide_register(session, text[1:]) if _WIDE.fullmatch(text) else None
    if wide is not None:
        shown, number = (wide[1] if not letter else number_words(session, wide[0], letter, size or 8)), wide[0]
        session.values.append(number & (1 << 64) - 1)
    else:
        try:
            value = evaluate_value(text, session)
            shown, number = value_words(session, value, "" if letter == "s" else letter, size), _number(session, value)
        except ExprError as error:
            raise CommandError(str(error)) from None
        keep(session, value, number)
    session.print(f"${len(session.values)} = {shown}")
    session.tell(value=number, text=shown)


def _number(session: "Session", value: Value) -> int:
    try:
        return to_integer(value, session)
    except ExprError:
        return 0  # a struct that is nowhere in memory


def keep(session: "Session", value: Value, number: int) -> None:
    """Make *value* the next of $1, $2, ...; it stays what it was."""
    session.values.append(number & (1 << 64) - 1)
    kind = value.type
    if kind is None:
        return
    data = None if isinstance(strip(kind), Function) else load(value, session)
    session.shown_values[len(session.values)] = Value(kind, data=data, address=value.address)


def _spot(session: "Session") -> "tuple[Spot, Frame]":
    frame = session.view.selected
    spot = session.view.spot(frame)
    if spot is None or spot.function is None:
        raise CommandError("No symbol table info available.")
    return spot, frame


@command("info locals", group=_GROUP)
def info_locals(session: "Session", arguments: str) -> None:
    """The local variables of the chosen frame, those of the innermost block first."""
    del arguments
    spot, frame = _spot(session)
    found = [die for block in locals_of(spot) for die in block]
    for die in found:
        words = variable_words(session, die, spot, frame)
        session.print(f"{die.name} = {words}")
        session.tell_more("variables", [{"name": die.name, "value": words}])
    if not found:
        session.print("No locals.")


@command("info args", group=_GROUP)
def info_args(session: "Session", arguments: str) -> None:
    """The arguments of the chosen frame's function."""
    del arguments
    spot, frame = _spot(session)
    found = parameters_of(spot)
    for die in found:
        words = variable_words(session, die, spot, frame)
        session.print(f"{die.name} = {words}")
        session.tell_more("variables", [{"name": die.name, "value": words}])
    if not found:
        session.print("No arguments.")


def _type_of(session: "Session", text: str) -> tuple[CType, bool]:
    """The type that *text* names or has, and whether it names one."""
    if not text:
        raise CommandError("The history is empty." if not session.values else "An expression or a type, please.")
    try:
        named = parse_type(text, session)
        if named is not None:
            return named, True
        kind = evaluate_value(text, session).type
    except ExprError as error:
        raise CommandError(str(error)) from None
    return kind if kind is not None else Base("long", 8), False


@command("ptype EXPR|TYPE", group=_GROUP)
def ptype(session: "Session", arguments: str) -> None:
    """What a type is made of: ptype struct node | ptype list | ptype size_t."""
    session.print(f"type = {expand(_type_of(session, arguments)[0])}")


@command("whatis EXPR|TYPE", group=_GROUP)
def whatis(session: "Session", arguments: str) -> None:
    """The type of an expression by its name; of a typedef, what it stands for."""
    kind, named = _type_of(session, arguments)
    session.print(f"type = {name_of(kind.target if named and isinstance(kind, Typedef) else kind)}")


@command("set var EXPR", "set variable", group=_GROUP)
def set_var(session: "Session", arguments: str) -> None:
    """Change a variable, memory or a register: set var count = 3 | set var *(u8*)0x402000 = 65 | set var $rax = 0.

    The run goes on with what was set: it is another than the program would have had by itself, and its past begins
    here, as far as going back is concerned.
    """
    match = _ASSIGN.search(arguments)
    if match is None:
        raise CommandError("set var wants VARIABLE = EXPR.")
    from minikernel.kdb.setting import assign, assign_register

    left, right = arguments[: match.start()].strip(), arguments[match.end() :].strip()
    try:
        value = evaluate_value(right, session)
        if left.startswith("$") and left[1:].isidentifier():
            assign_register(session, left[1:], to_integer(value, session))
        else:
            assign(session, evaluate_value(left, session), value)
    except ExprError as error:
        raise CommandError(str(error)) from None
    session.view.forget()


@command("display [/FORMAT] [EXPR]", group=_GROUP)
def display(session: "Session", arguments: str) -> None:
    """Show an expression at every stop, beginning now: display/x $rax | display list->value.

    Without an expression it shows all that there are.
    """
    if not arguments:
        show_displays(session)
        return
    split_format(arguments)
    number = max(session.displays, default=0) + 1
    session.displays[number] = arguments
    _show_display(session, number, arguments)


def show_displays(session: "Session") -> None:
    """What ``display`` wants to be seen at a stop; an expression that means nothing there is left out."""
    for number, arguments in session.displays.items():
        _show_display(session, number, arguments)


def _show_display(session: "Session", number: int, arguments: str) -> None:
    _, letter, size, text = split_format(arguments)
    shown = f"/{letter} {text}" if letter else text
    try:
        if letter in {"i", "s"}:
            session.print(f"{number}: x{arguments}")
            session.execute(f"x{arguments}")
            return
        session.print(f"{number}: {shown} = {value_words(session, evaluate_value(text, session), letter, size)}")
    except ExprError:
        return


@command("undisplay [N...]", "delete display", group=_GROUP)
def undisplay(session: "Session", arguments: str) -> None:
    """Forget expressions of `display` by their numbers; without numbers, all."""
    wanted = arguments.split() or [str(number) for number in session.displays]
    for word in wanted:
        if not word.isdecimal() or int(word[:8]) not in session.displays:
            raise CommandError(f"No display number {word}.")
        del session.displays[int(word)]


@command("info display", group=_GROUP)
def info_display(session: "Session", arguments: str) -> None:
    """The expressions that are shown at every stop."""
    del arguments
    if not session.displays:
        session.print("There are no auto-display expressions now.")
        return
    session.print("Auto-display expressions now in effect:")
    for number, text in session.displays.items():
        session.print(f"{number}:   {text}")
