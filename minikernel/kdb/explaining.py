"""Commands that explain faults: explain, faults."""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_MASK, PF_I, PF_W
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.spaces import address_argument, pagewalk
from minikernel.report.explain import header, line
from minikernel.report.foresee import foresee
from minikernel.report.frames import kernel_words
from minikernel.report.place import locate, neighbour_words
from minikernel.report.words import rights

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.report.explanation import Explanation

_GROUP: Final = "kernel"
_DEFAULT_LINES: Final = 20


@command("explain [last | N | ADDRESS]", group=_GROUP)
def explain(session: "Session", arguments: str) -> None:
    """Why a fault happened and what the kernel decided: the last one, number N of the run, or at an address.

    CR2, the error code bit by bit, the walk entry by entry, the mapping or the nearest two, the decision, its reason,
    what it cost, and the function of our kernel that took it.
    For an ADDRESS: where it is, how it is mapped now, and what a read, a write and a fetch would lead to.
    """
    known = session.explanations
    if arguments in {"", "last"}:
        if not known:
            raise CommandError("There was no fault yet.")
        _show(session, known[-1])
        return
    number = int(arguments) if arguments.isdecimal() and len(arguments) < 10 else 0
    if not known or not 0 < number <= known[-1].number:
        _explain_address(session, address_argument(session, arguments))
        return
    at = number - known[0].number
    if at < 0:
        raise CommandError(
            f"Faults 1 to {known[0].number - 1:,} are too long ago to be kept: `goto` a place behind fault {number:,} "
            "and ask there."
        )
    _show(session, known[at])


def _show(session: "Session", story: "Explanation") -> None:
    session.print(story.text(session.paint).rstrip("\n"))
    session.tell(explanation=story.values())


def _explain_address(session: "Session", address: int) -> None:
    mm = session.mm
    place = locate(mm, session.explainer.symbols, address)
    name = f" {place.symbol}" if place.symbol is not None else ""
    session.print(f"{address:#x}: {place.short}{name}")
    if address >= mm.layout.task_size:
        session.print(f"  {kernel_words(session.kernel, address)}")
    elif place.vma is None:
        session.print(f"  {neighbour_words(place.below, 'below')}")
        session.print(f"  {neighbour_words(place.above, 'above')}")
    else:
        vma = place.vma
        session.print(f"  mapping {vma.start:#x}-{vma.end:#x} {rights(vma.flags)} {place.name}")
    pagewalk(session, hex(address))
    for word, access in (("read", 0), ("write", PF_W), ("fetch", PF_I)):
        coming = foresee(mm, address, access)
        by = f"  [{coming.decided_by}]" if coming.decided_by else ""
        session.print(f"  a {word:<6}{coming.words}{by}")
        kind = coming.kind.value if coming.kind is not None else None
        session.tell(**{word: {"kind": kind, "signal": coming.signal, "words": coming.words, "by": coming.decided_by}})
    page = address & ~PAGE_MASK
    past = [e for e in session.explanations if e.fault.address & ~PAGE_MASK == page and e.fault.root == mm.pgtable.root]
    for explanation in past[-3:]:
        then = explanation.fault.place.name or "no mapping"
        session.print(f"  fault {explanation.number} was here, in {then}: {explanation.access}, {explanation.short}")


@command("faults [N]", group=_GROUP)
def faults(session: "Session", arguments: str) -> None:
    """The last page faults of the run, one line each; with N, that many."""
    count = line_count(session, arguments)
    shown = session.explanations[-count:]
    if not shown:
        session.print("There was no fault yet.")
        return
    session.print(header())
    for explanation in shown:
        session.print(line(explanation, session.paint))
        session.tell_more("faults", [explanation.values()])


def line_count(session: "Session", arguments: str) -> int:
    """How many lines are wanted.

    Raises:
        CommandError.
    """
    count = session.evaluate(arguments) if arguments else _DEFAULT_LINES
    if not 0 < count < 1 << 20:
        raise CommandError("How many?  A number from 1 on.")
    return count
