"""Watchpoints: which memory an expression is about, what became of it, and the commands watch, rwatch, awatch."""

import re
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from emu.cpu import RSP
from emu.watch import READ, WRITE, WatchKind
from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_P
from minikernel.abi.signal import signal_name
from minikernel.events import Event, MmFaultResolved, SignalDeliver, SysExit, call_name
from minikernel.kdb import points as p
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.conditions import checked, split_if
from minikernel.kdb.expr import evaluate_value
from minikernel.kdb.locals import find_local
from minikernel.kdb.lookout import Touch, entry_of, memory_of
from minikernel.kdb.values import ExprError, Value, load
from minikernel.kdb.variables import value_words
from minikernel.report.dwarf.ctypes import name_of
from minikernel.report.peek import peek
from minikernel.report.words import entry_flags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minikernel.kdb.session import Session

_GROUP: Final = "stops"
_MOST: Final = 1 << 20  # bytes in a watchpoint
_MOST_FRAMES: Final = 256  # that are looked through for one
_RED_ZONE: Final = 128  # bytes below the stack pointer that belong to a function (System V ABI, AMD64, 3.2.2)
_SHOWN: Final = 8  # bytes of a large memory that are shown at once


def watchpoints(session: "Session") -> list[p.Watchpoint]:
    """Those that may stop the program."""
    return [point for point in session.points.values() if isinstance(point, p.Watchpoint) and point.enabled]


# ---- what an expression is about


class _Recorder:
    """A session as a scope of expressions, that remembers which memory was read, and for which variables."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self.reads: list[tuple[int, int]] = []
        self.is_local = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def variable(self, name: str) -> Value | None:
        """As the session's."""
        value = self._session.variable(name)
        view = self._session.view
        spot = view.spot(view.selected)
        if value is not None and spot is not None and find_local(spot, name) is not None:
            if value.register is not None:
                raise ExprError(f"{name} is in a register: only memory is watched.")
            self.is_local = self.is_local or is_on_stack(self._session, value.address)
        return value

    def read(self, address: int, size: int) -> bytes:
        """As the session's."""
        self.reads.append((address, size))
        return self._session.read(address, size)


def is_on_stack(session: "Session", address: int | None) -> bool:
    """Whether *address* is in the chosen frame of the task."""
    low = session.registers()[RSP] - _RED_ZONE
    return address is not None and low <= address < session.view.selected.cfa


class Examined(NamedTuple):
    """An expression's *value*, the memory that it reads (addresses and sizes, in that order), and what it is about."""

    value: Value
    parts: tuple[tuple[int, int], ...]
    is_local: bool  # of the chosen frame
    seen: p.Seen | None  # None: a pointer on the way leads nowhere, so far


def examine(session: "Session", text: str) -> Examined:
    """Evaluate *text* and watch that.

    Raises:
        CommandError.
    """
    recorder: Any = _Recorder(session)
    try:
        value = evaluate_value(text, recorder)
        if value.type is None:
            seen = p.Seen(value.number, str(value.number))
        else:
            data = load(value, recorder)
            seen = p.Seen(data, value_words(session, replace(value, data=data, field=None)))
    except ExprError as error:
        parts = tuple(part for part in dict.fromkeys(recorder.reads) if len(session.read(*part)) == part[1])
        if not parts or "access memory" not in str(error):
            raise CommandError(str(error)) from None
        return Examined(Value(), parts, recorder.is_local, None)
    return Examined(value, tuple(dict.fromkeys(recorder.reads)), recorder.is_local, seen)


def reads_of(session: "Session", text: str) -> tuple[int, tuple[tuple[int, int], ...]]:
    """The value of an expression as a number, and the memory that it reads.

    Raises:
        CommandError.
    """
    found = examine(session, text)
    if found.seen is None:
        raise CommandError(f"Cannot access memory that `{text}` is about.")
    key = found.seen.key
    return (key if isinstance(key, int) else int.from_bytes(key, "little")), found.parts


@contextmanager
def _standing_in(session: "Session", point: p.Watchpoint) -> "Iterator[bool]":
    """Meanwhile commands are about the task, and the frame, that *point* is about; False: there is none."""
    kept = session.selected
    if session.kernel.current is None or session.kernel.current.tgid != point.tgid:
        tasks = session.kernel.tasks.values()
        session.selected = next((task for task in tasks if task.tgid == point.tgid and task.has_mm), None)
    if point.frame is not None:
        session.selected = session.kernel.tasks.get(point.frame.pid)
    try:
        yield (
            session.is_running
            and (session.selected or session.kernel.current) is not None
            and _in_frame(session, point)
        )
    finally:
        session.selected = kept
        session.view.forget()


def holds(session: "Session", point: p.Watchpoint) -> bool:
    """Whether its condition holds, in the frame that it is about.

    Raises:
        CommandError.
    """
    with _standing_in(session, point) as there:
        return there and bool(session.evaluate(point.condition))


def _in_frame(session: "Session", point: p.Watchpoint) -> bool:
    """Choose the frame of *point*; whether there is one."""
    if point.frame is None:
        return True
    for level in range(_MOST_FRAMES):
        frame = session.view.at(level)
        if frame is None:
            return False
        if frame.cfa == point.frame.cfa:
            session.view.select(level)
            return True
    return False


def value_of(session: "Session", point: p.Watchpoint) -> p.Seen | None:
    """Its value now; None: there is none, or it is too large to be one number."""
    if point.expression:
        with _standing_in(session, point) as there:
            if not there:
                return None
            try:
                found = examine(session, point.expression)
            except CommandError:
                return None
            point.parts = found.parts
            return found.seen
    address, size = point.parts[0]
    if size > _SHOWN and point.kind is not WatchKind.ENTRY:
        return None
    number = _number_at(session, point, address, size)
    return p.Seen(number, _shown(session, point, number)) if number is not None else None


def _number_at(session: "Session", point: p.Watchpoint, address: int, size: int) -> int | None:
    if point.kind is WatchKind.PHYSICAL:
        return int.from_bytes(session.kernel.physmem.ram[address : address + size], "little")
    mm = memory_of(session.kernel, point.tgid)
    if mm is None:
        return None
    if point.kind is WatchKind.ENTRY:
        return int.from_bytes(entry_of(mm, address)[1], "little")
    data = peek(mm, address, size)
    return int.from_bytes(data, "little") if len(data) == size else None


# ---- what became of it


def report(session: "Session", point: p.Watchpoint, touches: list[Touch]) -> str | None:
    """What to say about these *touches* of its memory; None: they do not matter to it."""
    if not touches:
        return None
    old, new = point.old, value_of(session, point)
    if new is None and point.frame is not None:
        return None  # a function that it calls is just being entered or left
    point.old = new
    changed = old != new or (new is None and any(touch.old != touch.new for touch in touches))
    if not changed and point.access == WRITE:
        return None
    if changed and point.access != READ:
        touch = next((touch for touch in touches if touch.access == WRITE), touches[0])
        pieces = _pieces(touch)
        before, after = (_words(session, point, *pair) for pair in zip((old, new), pieces, strict=True))
        lines = [f"Old value = {before}", f"New value = {after}"]
    else:
        touch = touches[0]
        lines = [f"Value = {_words(session, point, new, _pieces(touch)[1])}"]
    who = _who(session, point, touch)
    return "\n".join([*lines, who] if who else lines)


def _words(session: "Session", point: p.Watchpoint, seen: p.Seen | None, piece: int) -> str:
    """A value in words; *piece* is what to show of a memory that is no one number."""
    if seen is not None:
        return seen.words
    large = not point.expression and point.kind is not WatchKind.ENTRY and point.parts[0][1] > _SHOWN
    return _shown(session, point, piece) if large or point.frame is not None else "<no memory>"


def _pieces(touch: Touch) -> tuple[int, int]:
    """Of a large memory, what changed: up to eight bytes from the first that did, or what was accessed."""
    at = next((i for i, (a, b) in enumerate(zip(touch.old, touch.new, strict=False)) if a != b), None)
    if at is None:
        at = max(touch.address - touch.memory.address, 0) if touch.memory.kind is WatchKind.LINEAR else 0
    cut = slice(at, at + _SHOWN)
    return int.from_bytes(touch.old[cut], "little"), int.from_bytes(touch.new[cut], "little")


def _shown(session: "Session", point: p.Watchpoint, value: int) -> str:
    if point.kind is WatchKind.ENTRY:
        mode = session.kernel.cpu.mode
        words = entry_flags(value, mode) if value & PTE_P else "not present" if value else "empty"
        return f"{value:#x} ({words})"
    return str(value) if value < 1 << 31 else f"{value:#x}"


def _who(session: "Session", point: p.Watchpoint, touch: Touch) -> str:
    """Who touched it, where that is not the instruction just executed, in its own memory."""
    if touch.by == "kernel":
        where = f", {touch.where}" if touch.where else ""
        return f"(by the kernel{occasion(session, touch)}{where})"
    if touch.by == "walk":
        return f"(by the page walk for {touch.address:#x})"
    task = session.kernel.tasks.get(touch.pid)
    if task is None or task.tgid != point.tgid:  # all of RAM is somebody else's, too
        return f"(by task {touch.pid} at {touch.pc:#x} {session.name_of(touch.pc)}, through {touch.address:#x})"
    return ""


def occasion(session: "Session", touch: Touch) -> str:
    """What the kernel was doing: the last thing that it told at this instruction."""
    for icount, _, event in reversed(session.events):
        if icount != touch.icount:
            break
        words = _words_of(event)
        if words:
            return f" {words}"
    return ""


def _words_of(event: Event) -> str:
    match event:
        case SysExit():
            return f"in {call_name(event.abi, event.nr)}"
        case MmFaultResolved():
            return f"serving a page fault at {event.address:#x} ({event.kind.value})"
        case SignalDeliver():
            return f"delivering {signal_name(event.sig)}"
    return ""


# ---- commands


@command("watch [-l] EXPR|phys ADDRESS [SIZE]|frame PFN|pte ADDRESS", group=_GROUP)
def watch(session: "Session", arguments: str) -> None:
    """Stop when memory is changed: by an instruction, or by the kernel for the program.

    EXPR                  the value of an expression: all memory that it reads is watched.  A plain address means the
                          word there, *(TYPE*)ADDRESS more or less of it.  `if CONDITION` may stand behind it
    -l EXPR               the memory that EXPR names now, whatever becomes of its parts
    phys ADDRESS [SIZE]   physical memory, whoever reaches it by whatever address
    frame PFN             a frame of it
    pte ADDRESS           the page-table entry for ADDRESS: changes by the kernel, and of its accessed and dirty bits

    The program runs at full speed meanwhile; only accesses to the same page take longer.  A variable of a function is
    watched until that returns.
    """
    _watch(session, arguments, WRITE)


@command("rwatch [-l] EXPR|phys ADDRESS [SIZE]|frame PFN", group=_GROUP)
def rwatch(session: "Session", arguments: str) -> None:
    """Stop when memory is read, also by the kernel for the program.  The arguments are those of watch."""
    _watch(session, arguments, READ)


@command("awatch [-l] EXPR|phys ADDRESS [SIZE]|frame PFN", group=_GROUP)
def awatch(session: "Session", arguments: str) -> None:
    """Stop when memory is read or written, changed or not.  The arguments are those of watch."""
    _watch(session, arguments, READ | WRITE)


def _watch(session: "Session", arguments: str, access: int) -> None:
    text, condition = split_if(arguments)
    if not text:
        raise CommandError("Argument required (expression to compute).")
    word, _, rest = text.partition(" ")
    if word in {"phys", "frame", "pte"} and rest:
        point = _of_machine(session, word, rest.strip(), access)
    else:
        point = _of_expression(session, text, access)
    if sum(size for _, size in point.parts) > _MOST:
        raise CommandError(f"That is more than {_MOST:,} bytes.")
    point.condition = checked(session, condition)
    point.old = value_of(session, point)
    session.add(point)
    session.print(point.title)


def _of_machine(session: "Session", word: str, rest: str, access: int) -> p.Watchpoint:
    """Physical memory, or an entry."""
    tgid, kind = 0, WatchKind.PHYSICAL
    if word == "pte":
        if access & READ:
            raise CommandError("An entry is read at each walk: only its changes can be watched.")
        kind, tgid = WatchKind.ENTRY, session.task.tgid
        address, size = session.evaluate(rest) & session.task.abi.mask, 0
    elif word == "frame":
        address, size = session.evaluate(rest) << PAGE_SHIFT, PAGE_SIZE
    else:
        place, _, length = rest.partition(" ")
        address, size = session.evaluate(place), session.evaluate(length) if length else session.word
    if kind is WatchKind.PHYSICAL and not (size > 0 and 0 <= address <= session.kernel.physmem.size - size):
        raise CommandError(f"RAM has {session.kernel.physmem.size:#x} bytes: there is no {rest} in it.")
    return p.Watchpoint(
        number=session.next_number, what=f"{word} {rest}", kind=kind, access=access, tgid=tgid, parts=((address, size),)
    )


def _of_expression(session: "Session", text: str, access: int) -> p.Watchpoint:
    """The memory that an expression reads."""
    fixed, named = False, text
    for flag in ("-location ", "-l "):
        if text.startswith(flag):
            fixed, text = True, text.removeprefix(flag).strip()
            named = f"-location {text}"
    found = examine(session, text)
    by_register = _has_register(session, text)
    parts, expression = found.parts, text
    if not parts and found.value.type is not None:
        raise CommandError(f"Cannot watch constant value `{text}'.")
    if not parts:  # a plain address, of nothing that has a type: the word there
        parts, expression = ((found.value.number & session.task.abi.mask, session.word),), ""
    elif fixed or by_register:
        # Registers are others at the next look: what was read last is what was meant.
        parts, expression = parts[-1:], _fixed(session, text, found)
    for address, size in parts:
        if len(session.read(address, size)) < size:
            raise CommandError(f"Cannot access memory at address {address:#x}")
    frame = None
    if not fixed and (found.is_local or by_register):
        frame = _frame_of(session, parts, local=found.is_local)
    return p.Watchpoint(
        number=session.next_number, what=named, kind=WatchKind.LINEAR, access=access, tgid=session.task.tgid,
        parts=parts, expression=expression, frame=frame,
    )  # fmt: skip


def _has_register(session: "Session", text: str) -> bool:
    """Whether the expression names a register, and not only the user's own variables."""
    return any(name not in session.workbench.variables for name in re.findall(r"\$([A-Za-z]\w*)", text))


def _fixed(session: "Session", text: str, found: Examined) -> str:
    """An expression for the same memory whatever becomes of what led there; empty: the bytes themselves."""
    address, kind = found.value.address, found.value.type
    if address is None or kind is None or found.value.field is not None:
        return ""
    again = f"*({name_of(kind)} *) {address:#x}"
    try:
        return again if examine(session, again).parts == found.parts[-1:] else ""
    except CommandError:  # a type that has no name to call it by: a variable's own will do
        return text if re.fullmatch(r"[A-Za-z_]\w*", text) and not found.is_local else ""


def _frame_of(session: "Session", parts: tuple[tuple[int, int], ...], *, local: bool) -> p.FrameEnd | None:
    """How the function returns that the expression is about: the chosen frame's, or the one that holds the memory."""
    view = session.view
    low = session.registers()[RSP] - _RED_ZONE
    for level in range(view.selected.level if local else 0, _MOST_FRAMES):
        frame = view.at(level)
        caller = view.physical_caller(frame) if frame is not None else None
        if frame is None or caller is None:
            return None
        if local or any(low <= address < frame.cfa for address, _ in parts):
            return p.FrameEnd(session.task.pid, caller.pc, frame.cfa)
    return None
