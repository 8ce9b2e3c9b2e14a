"""Commands that look at the program: print, backtrace, info sharedlibrary, info symbol."""

import re
from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import CommandError, command
from minikernel.kdb.examine import number_words, split_format
from minikernel.kdb.registers import wide_register
from minikernel.mm.vma import VM_EXEC
from minikernel.report.formats import floating
from minikernel.report.place import locate

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "program"
_WIDE: Final = re.compile(r"\$(xmm\d+|st\d|mxcsr|fctrl|fstat|ftag|fop|fip|fdp|cr[0234]|efer)")


@command("print [/FORMAT] EXPR", "p", "inspect", group=_GROUP)
def print_(session: "Session", arguments: str) -> None:
    """Evaluate an expression: print [/x|d|u|o|t|c|a] EXPR.

    Numbers, $registers, symbols (their addresses), C's operators, *ADDR, *(u8*)ADDR, (char)EXPR, phys(ADDR),
    pfn(ADDR).  The result is kept as $1, $2, ...; $ is the last.
    """
    _, letter, size, text = split_format(arguments)
    if letter in {"i", "s"}:
        raise CommandError(f'Format letter "{letter}" is meaningless in "print" command.')
    wide = wide_register(session, text[1:]) if _WIDE.fullmatch(text) else None
    value = wide[0] if wide is not None else session.evaluate(text)
    session.values.append(value & (1 << 64) - 1)
    shown = _formatted(session, value, letter, size or 8) if letter else _plain(session, value)
    if wide is not None and not letter:
        shown = wide[1]
    session.print(f"${len(session.values)} = {shown}")
    session.tell(value=value)


def _formatted(session: "Session", value: int, letter: str, size: int) -> str:
    """A number as *letter* wants it."""
    if letter == "f":
        return floating((value & (1 << 8 * size) - 1).to_bytes(size, "little")) if size in {4, 8} else str(value)
    return number_words(session, value, letter, size)


def _plain(session: "Session", value: int) -> str:
    """Small numbers in decimal; others as addresses, with a name where there is one."""
    if value < 1 << 16:
        return str(value)
    return f"{value:#x} {session.name_of(value)}".rstrip()


@command("info sharedlibrary", "info dll", group=_GROUP)
def info_sharedlibrary(session: "Session", arguments: str) -> None:
    """The files whose code is mapped, with the addresses of it, and whether they name their functions."""
    del arguments
    mm = session.mm
    exe = mm.exe_file.mapping if mm.exe_file is not None else None
    rows = [vma for vma in mm.vmas.items if vma.file is not None and vma.flags & VM_EXEC and vma.mapping is not exe]
    if not rows:
        session.print("No shared libraries loaded at this time.")
        return
    digits = 2 + 2 * session.word
    session.print(f"{'From':<{digits}}  {'To':<{digits}}  {'Syms':<5} Object")
    names = session.explainer.symbols
    for vma in rows:
        assert vma.file is not None, "info_sharedlibrary: a file was asked for"
        known = any(names.find(mm, at) is not None and _named(session, at) for at in range(vma.start, vma.end, 4096))
        path = vma.file.path.decode(errors="backslashreplace")
        session.print(f"{vma.start:#0{digits}x}  {vma.end:#0{digits}x}  {'Yes' if known else 'No':<5} {path}")


def _named(session: "Session", address: int) -> bool:
    found = session.explainer.symbols.find(session.mm, address)
    return found is not None and found.symbol is not None


@command("info symbol ADDRESS", group=_GROUP)
def info_symbol(session: "Session", arguments: str) -> None:
    """What is at an address: the symbol, its section, its source line, its mapping."""
    address = session.evaluate(arguments)
    place = locate(session.mm, session.explainer.symbols, address)
    if place.symbol is None:
        session.print(f"No symbol matches {arguments}: {place.short}.")
        return
    line = f", {place.line}" if place.line is not None else ""
    session.print(f"{place.symbol} in {place.short}{line}")
