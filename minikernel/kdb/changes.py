"""Commands about what became different in time: last-write, pt-diff."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from emu.watch import WRITE, WatchKind
from emu.x86 import PAGE_SIZE, PTE_P
from minikernel.events import SchedProcessFork
from minikernel.kdb import back
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.lookout import Memory, memory_of
from minikernel.kdb.machine import Position
from minikernel.kdb.searchback import Write, last_write
from minikernel.kdb.watching import reads_of
from minikernel.mm.pgtable import pte_pfn
from minikernel.report.words import entry_flags, plural

if TYPE_CHECKING:
    from emu.paging import PagingMode
    from minikernel.kdb.session import Session

_GROUP: Final = "time"
_MOST_LINES: Final = 200
_MOST_BYTES: Final = 1 << 20
_SHOWN: Final = 16  # bytes of a value

Entries = dict[int, int]
"""Page-table entries that are not empty, by the address they map."""


# ---- who wrote this


@command("last-write ADDRESS [SIZE]", "lw", group=_GROUP)
def last_write_(session: "Session", arguments: str) -> None:
    """Who wrote this memory last, and when: the task and its instruction, or what the kernel was doing.

    ADDRESS or a symbol means the word there, *(TYPE*)ADDRESS more or less of it, SIZE so many bytes.  Memory that a
    process has from its parent was written by the parent.  The program stays where it is: `goto` leads there.
    """
    address, size = _memory(session, arguments)
    tgid, before = session.task.tgid, session.machine.position
    session.print(f"{address:#x} {session.name_of(address)}, {plural(size, 'byte')}:".replace(" ,", ","))
    while True:
        memory = Memory(WatchKind.LINEAR, address, size, WRITE, tgid)
        write = last_write(session, before, memory)
        if write is not None and (write.touch.old or write.touch.new):
            parent = _parent(session, tgid) if not write.touch.old else None
            if parent is None:
                _tell(session, write, session.machine.icount)
                return
        else:
            parent = _parent(session, tgid)
        if parent is None:
            session.print("  It was not written since the program was loaded.")
            return
        ppid, icount = parent
        session.print(f"  process {tgid} has it from process {ppid}, which forked it at instruction {icount:,};")
        tgid, before = ppid, Position(icount, 0)


def _memory(session: "Session", arguments: str) -> tuple[int, int]:
    """Address and size in bytes."""
    if not arguments:
        raise CommandError("last-write wants an address.")
    words = arguments.rsplit(maxsplit=1)
    if len(words) == 2 and words[1].isdecimal():
        address, size = session.evaluate(words[0]), int(words[1])
    else:
        value, parts = reads_of(session, arguments)
        address, size = parts[-1] if parts else (value, session.word)
    address &= session.task.abi.mask
    if not 0 < size <= _MOST_BYTES:
        raise CommandError(f"last-write looks at 1 to {_MOST_BYTES:,} bytes.")
    if len(session.read(address, size)) < size:
        raise CommandError(f"Cannot access memory at address {address:#x}")
    return address, size


def _parent(session: "Session", tgid: int) -> tuple[int, int] | None:
    """The process that forked process *tgid*, and the instruction count then; None: that is not known any more."""
    tasks = session.kernel.tasks
    for icount, pid, event in reversed(session.events):
        if isinstance(event, SchedProcessFork) and event.child_pid == tgid:
            parent = tasks[pid].tgid if pid in tasks else event.parent_pid
            return (parent, icount) if parent != tgid else None
    return None


def _tell(session: "Session", write: Write, now: int) -> None:
    touch = write.touch
    who = f"task {touch.pid} ({write.task})" if write.task else f"task {touch.pid}"
    ago = now - touch.icount
    when = (
        f"instruction {touch.icount:,}, {ago:,} before this one" if ago else f"instruction {touch.icount:,}, just now"
    )
    if touch.by == "kernel":
        where = f", in {touch.where}" if touch.where else ""
        session.print(f"  written by the kernel{write.occasion}{where}, for {who}")
    else:
        session.print(f"  written by {who}: {write.place}")
        session.print(f"  {touch.pc:#x}: {write.insn}")
    session.print(f"  at {when} (goto {max(touch.icount - 1, 0)} is in front of it)")
    session.print(f"  {_value(touch.old)} became {_value(touch.new)}")
    session.tell(
        by=touch.by, task=touch.pid, pc=touch.pc, place=write.place, instruction=write.insn, icount=touch.icount,
        old=touch.old.hex(), new=touch.new.hex(), kernel_function=touch.where,
    )  # fmt: skip


def _value(data: bytes) -> str:
    """Small ones as numbers."""
    if not data:
        return "nothing"
    if len(data) <= 8:
        return f"{int.from_bytes(data, 'little'):#x}"
    return data[:_SHOWN].hex(" ") + (" ..." if len(data) > _SHOWN else "")


# ---- what became of the page tables


@command("pt-diff FROM [TO]", group=_GROUP)
def pt_diff(session: "Session", arguments: str) -> None:
    """How the page tables of the current process differ between two places of the run; without TO, from then to now.

    Places are written as for `goto`: ICOUNT, +N, -N, event N, start.
    """
    places = _places(session, arguments)
    tgid = session.task.tgid
    mode = session.mm.pgtable.mode
    first, second = (_entries_at(session, place, tgid) for place in places)
    lines = list(_differences(first, second, mode))
    for line in lines[:_MOST_LINES]:
        session.print(line)
    if len(lines) > _MOST_LINES:
        session.print(f"... and {len(lines) - _MOST_LINES:,} more.")
    if not lines:
        session.print("The page tables are the same.")


def _places(session: "Session", arguments: str) -> tuple["back.Place | None", "back.Place | None"]:
    """The two places; None: the present."""
    words = arguments.replace("event ", "event=").split()
    if not 1 <= len(words) <= 2:
        raise CommandError("pt-diff wants one place or two: ICOUNT, +N, -N, event N, start.")
    first, *rest = (back.place_of(session, word.replace("event=", "event ")) for word in words)
    return first, rest[0] if rest else None


def _entries_at(session: "Session", place: "back.Place | None", tgid: int) -> Entries:
    """The entries of process *tgid* at *place*.

    Raises:
        CommandError: it did not exist there.
    """
    if place is None:
        found = _entries(tgid, session)
    else:
        timeline = back.timeline_of(session)
        before = [each for each in timeline.points if place.is_ahead(each.position, each.events)]
        if not before:
            raise CommandError(back.NO_HISTORY)
        found = timeline.scout(before[-1], partial(_reach_and_read, place, tgid))
    if found is None:
        raise CommandError(f"Process {tgid} has no memory there.")
    return found


def _reach_and_read(place: "back.Place", tgid: int, session: "Session") -> Entries | None:
    place.reach(session)
    return _entries(tgid, session)


def _entries(tgid: int, session: "Session") -> Entries | None:
    mm = memory_of(session.kernel, tgid)
    if mm is None:
        return None
    return {int(address): pte for address, pte in mm.pgtable.entries(0, mm.layout.task_size) if pte}


def _differences(first: Entries, second: Entries, mode: "PagingMode") -> Iterator[str]:
    """What differs, in words; neighbours with the same words are one line."""
    start, end, told = 0, 0, ""
    for address in sorted(first.keys() | second.keys()):
        words = _difference(first.get(address, 0), second.get(address, 0), mode)
        if words and words == told and address == end:
            end += PAGE_SIZE
            continue
        if told:
            yield _line(start, end, told)
        start, end, told = address, address + PAGE_SIZE, words
    if told:
        yield _line(start, end, told)


def _line(start: int, end: int, words: str) -> str:
    pages = (end - start) // PAGE_SIZE
    return f"{start:#x}{f'-{end:#x} ({pages} pages)' if pages > 1 else ''}  {words}"


def _difference(old: int, new: int, mode: "PagingMode") -> str:
    """What became of one entry; empty: it is the same."""
    if old == new:
        return ""
    before, after = _state(old, mode), _state(new, mode)
    if not old:
        return f"mapped: {after}"
    if not new:
        return f"unmapped; it was {before}"
    if old & new & PTE_P and pte_pfn(old) != pte_pfn(new):
        return f"another frame: {before}, now {after}"
    return f"{before}, now {after}"


def _state(pte: int, mode: "PagingMode") -> str:
    """An entry in words; frames are not named, for neighbours to be alike."""
    if pte & PTE_P:
        return entry_flags(pte, mode)
    return "in swap" if pte else "empty"
