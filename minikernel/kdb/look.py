"""Commands that look at the program: info sharedlibrary, info symbol."""

from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import command
from minikernel.mm.vma import VM_EXEC
from minikernel.report.place import locate

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "program"


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
