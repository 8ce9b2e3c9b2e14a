"""Watchpoints: which memory an expression is about, what became of it, and the commands watch, rwatch, awatch."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from emu.cpu import RSP
from emu.watch import READ, WRITE, WatchKind
from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_P
from minikernel.abi.signal import signal_name
from minikernel.events import Event, MmFaultResolved, SignalDeliver, SysExit, call_name
from minikernel.kdb import points as p
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.conditions import checked, split_if
from minikernel.kdb.expr import ExprError, evaluate
from minikernel.kdb.lookout import Touch, entry_of, memory_of
from minikernel.report.peek import peek
from minikernel.report.words import entry_flags

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "stops"
_MOST: Final = 1 << 20  # bytes in a watchpoint
_RED_ZONE: Final = 128  # bytes below the stack pointer that belong to a function (System V ABI, AMD64, 3.2.2)
_SHOWN: Final = 8  # bytes of a large memory that are shown at once


def watchpoints(session: "Session") -> list[p.Watchpoint]:
    """Those that may stop the program."""
    return [point for point in session.points.values() if isinstance(point, p.Watchpoint) and point.enabled]


# ---- what an expression is about


class _Recorder:
    """A session as a scope of expressions, that remembers which memory was read."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self.reads: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def read(self, address: int, size: int) -> bytes:
        """As the session's."""
        self.reads.append((address, size))
        return self._session.read(address, size)


def reads_of(session: "Session", text: str) -> tuple[int, tuple[tuple[int, int], ...]]:
    """The value of the expression, and the memory that it reads: addresses and sizes, in that order.

    Raises:
        CommandError.
    """
    recorder: Any = _Recorder(session)
    try:
        value = evaluate(text, recorder)
    except ExprError as error:
        raise CommandError(str(error)) from None
    return value, tuple(dict.fromkeys(recorder.reads))


def _in_process(session: "Session", point: p.Watchpoint) -> int | None:
    """The value of its expression as its process sees it; what it reads may be other memory now."""
    kept = session.selected
    if session.kernel.current is None or session.kernel.current.tgid != point.tgid:
        session.selected = next(
            (task for task in session.kernel.tasks.values() if task.tgid == point.tgid and task.has_mm), None
        )
        if session.selected is None:
            return None
    try:
        value, point.parts = reads_of(session, point.expression)
    except CommandError:
        return None
    finally:
        session.selected = kept
    return value


def value_of(session: "Session", point: p.Watchpoint) -> int | None:
    """Its value now; None: there is none, or it is too large to be one number."""
    if point.expression:
        return _in_process(session, point)
    address, size = point.parts[0]
    if size > _SHOWN and point.kind is not WatchKind.ENTRY:
        return None
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
    point.old = new
    changed = old != new or (new is None and any(touch.old != touch.new for touch in touches))
    if not changed and point.access == WRITE:
        return None
    if changed and point.access != READ:
        touch = next((touch for touch in touches if touch.access == WRITE), touches[0])
        before, after = (old, new) if old is not None or new is not None else _pieces(touch)
        lines = [f"Old value = {_shown(session, point, before)}", f"New value = {_shown(session, point, after)}"]
    else:
        touch = touches[0]
        value = new if new is not None else _pieces(touch)[1]
        lines = [f"Value = {_shown(session, point, value)}"]
    who = _who(session, point, touch)
    return "\n".join([*lines, who] if who else lines)


def _pieces(touch: Touch) -> tuple[int, int]:
    """Of a large memory, what changed: up to eight bytes from the first that did, or what was accessed."""
    at = next((i for i, (a, b) in enumerate(zip(touch.old, touch.new, strict=False)) if a != b), None)
    if at is None:
        at = max(touch.address - touch.memory.address, 0) if touch.memory.kind is WatchKind.LINEAR else 0
    cut = slice(at, at + _SHOWN)
    return int.from_bytes(touch.old[cut], "little"), int.from_bytes(touch.new[cut], "little")


def _shown(session: "Session", point: p.Watchpoint, value: int | None) -> str:
    if value is None:
        return "<no memory>"
    if point.kind is WatchKind.ENTRY:
        mode = session.kernel.cpu.mode
        words = entry_flags(value, mode) if value & PTE_P else "not present" if value else "empty"
        return f"{value:#x} ({words})"
    if point.expression or value < 1 << 31:
        return str(value)
    return f"{value:#x}"


def _who(session: "Session", point: p.Watchpoint, touch: Touch) -> str:
    """Who touched it, where that is not the instruction just executed, in its own memory."""
    if touch.by == "kernel":
        where = f", {touch.where}" if touch.where else ""
        return f"(by the kernel{occasion(session, touch)}{where})"
    if touch.by == "walk":
        return f"(by the page walk for {touch.address:#x})"
    if point.kind is WatchKind.PHYSICAL:
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

    EXPR                  the value of an expression: all memory that it reads is watched.  A plain address or symbol
                          means the word there, *(TYPE*)ADDRESS more or less of it.  `if CONDITION` may stand behind it
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
    value, parts = reads_of(session, text)
    expression = text
    if not parts:  # a plain address: the word there
        parts, expression = ((value & session.task.abi.mask, session.word),), ""
    elif fixed or "$" in text:
        # Registers are others at the next look: what was read last is what was meant.
        parts, expression = parts[-1:], ""
    for address, size in parts:
        if len(session.read(address, size)) < size:
            raise CommandError(f"Cannot access memory at address {address:#x}")
    return p.Watchpoint(
        number=session.next_number, what=named, kind=WatchKind.LINEAR, access=access, tgid=session.task.tgid,
        parts=parts, expression=expression, frame=None if fixed else _frame_of(session, text, parts),
    )  # fmt: skip


def _frame_of(session: "Session", text: str, parts: tuple[tuple[int, int], ...]) -> p.FrameEnd | None:
    """How the function returns whose frame the expression is about, if it is about one."""
    if "$" not in text:
        return None
    low = session.registers()[RSP] - _RED_ZONE
    for frame, caller in pairwise(session.frames()):
        if any(low <= address < frame.cfa for address, _ in parts):
            return p.FrameEnd(session.task.pid, caller.pc, frame.cfa)
    return None
