"""The frames of a task: which there are, which of them commands are about, and the commands that show and choose them.

A frame is chosen until the program goes on; then it is the innermost again.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from emu.cpu import GPR_NAMES, RIP, RSP
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.locals import Spot, spots
from minikernel.kdb.unwind import Frame, Registers, Unwinder
from minikernel.report.place import Place, locate

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "program"
_PAST: Final = "-past-main"


class View:
    """The frames of the task that commands are about, found as far as they are asked for."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._key: object = None
        self._frames: list[Frame] = []
        self._rest: Iterator[Frame] = iter(())
        self._level = 0
        self._spots: dict[int, list[Spot]] = {}  # by depth
        self._last: int | None = None  # the level of main, where a backtrace ends unless it is told to go past it

    def forget(self) -> None:
        """Memory or registers have been changed: look again, at the innermost frame."""
        self._key = None

    def _fresh(self) -> None:
        """Begin anew if the program has gone on, or another task was chosen."""
        session = self._session
        task, registers = session.task, session.registers()
        key = session.machine, session.machine.icount, task, task.mm, registers
        if key != self._key:
            self._key = key
            self._frames, self._level, self._last = [], 0, None
            self._spots = {}
            symbols = session.explainer.symbols
            self._rest = Unwinder(task.mm, task.abi, symbols, session.symbol("_start")).frames(registers)

    def at(self, level: int, *, past_main: bool = False) -> Frame | None:
        """Frame number *level*; None if there are not so many, up to main or at all."""
        self._fresh()
        while len(self._frames) <= level and (past_main or self._last is None):
            frame = next(self._rest, None)
            if frame is None:
                break
            self._expand(frame)
        beyond = self._last is not None and level > self._last and not past_main
        return self._frames[level] if not beyond and level < len(self._frames) else None

    def _expand(self, frame: Frame) -> None:
        """Add a frame, and one for each function that was compiled into its."""
        depth = frame.level
        self._spots[depth] = found = spots(self._session, frame.lookup) if not frame.signal else []
        for inline in range(max(len(found), 1)):
            level = len(self._frames)
            self._frames.append(replace(frame, level=level, inline=inline, depth=depth))
            if self._last is None and self._is_main(self._frames[-1]):
                self._last = level

    def spot(self, frame: Frame) -> Spot | None:
        """What the program says about the code that *frame* is in."""
        found = self._spots.get(frame.depth, [])
        return found[frame.inline] if frame.inline < len(found) else None

    def physical_caller(self, frame: Frame) -> Frame | None:
        """The frame of the function that called the one *frame* is compiled into."""
        level = frame.level + 1
        while (caller := self.at(level, past_main=True)) is not None and caller.depth == frame.depth:
            level += 1
        return caller

    def first(self, count: int) -> list[Frame]:
        """The innermost frames, *count* at most."""
        found: list[Frame] = []
        while len(found) < count and (frame := self.at(len(found))) is not None:
            found.append(frame)
        return found

    def _is_main(self, frame: Frame) -> bool:
        return self.function_name(frame) == "main"

    def entry(self, pc: int) -> int | None:
        """The first address of the function that contains *pc*."""
        session = self._session
        return Unwinder(session.mm, session.task.abi, session.explainer.symbols).entry(pc)

    def function_name(self, frame: Frame) -> str:
        """The function that *frame* is in; "" if it has no name."""
        spot = self.spot(frame)
        if spot is not None and spot.function is not None and spot.function.name:
            return spot.function.name
        found = self._session.explainer.symbols.find(self._session.mm, frame.lookup)
        return found.symbol.name if found is not None and found.symbol is not None else ""

    @property
    def selected(self) -> Frame:
        """The frame that commands are about."""
        self._fresh()
        frame = self.at(self._level)
        assert frame is not None, "View.selected: there is always the innermost"
        return frame

    def select(self, level: int) -> Frame:
        """Make commands be about frame *level*.

        Raises:
            CommandError.
        """
        frame = self.at(level) if level >= 0 else None
        if frame is None:
            raise CommandError(f"No frame at level {level}.")
        self._level = level
        return frame

    def registers(self) -> Registers:
        """The registers of the chosen frame: for a caller what they will be when the frames below have returned."""
        session = self._session
        self._fresh()
        return self.selected.registers if self._level else session.registers()


def frame_cfa(session: "Session", level: int = 0) -> int:
    """The canonical address of a frame, which no other frame of the task has at the same time; 0: not known."""
    frame = session.view.at(level)
    return frame.cfa if frame is not None else 0


def place_of(session: "Session", frame: Frame) -> Place:
    """Where the frame is: for a caller, at its call."""
    return locate(session.mm, session.explainer.symbols, frame.lookup)


def is_library(session: "Session", place: Place) -> bool:
    """Whether the place is in a file other than the program's own."""
    exe = session.mm.exe_file
    mapping = place.vma.mapping if place.vma is not None else None
    return mapping is not None and (exe is None or mapping is not exe.mapping)


def frame_words(session: "Session", frame: Frame) -> str:
    """``#1  0x401156 in middle (n=4) at story.c:20``, as gdb says it; `?` marks a guess."""
    mark = "?" if frame.guessed else " "
    if frame.signal:
        return f"#{frame.level:<2}{mark}<signal handler called>"
    return f"#{frame.level:<2}{mark}{location_words(session, frame)}"


def location_words(session: "Session", frame: Frame) -> str:
    """The same without the number; without the address where a line begins."""
    from minikernel.kdb.variables import argument_words

    view = session.view
    spot, place = view.spot(frame), place_of(session, frame)
    words = f"{view.function_name(frame) or '??'} ({argument_words(session, spot, frame)})"
    if not at_line_start(session, frame):
        words = f"{frame.pc:#0{2 * session.word + 2}x} in {words}"
    if spot is not None and spot.line is not None:
        words += f" at {spot.line}"
    elif is_library(session, place):
        words += f" from {place.name}"
    return words


def at_line_start(session: "Session", frame: Frame) -> bool:
    """Whether the frame is where a line begins, or where a function that was compiled into it does."""
    spot = session.view.spot(frame)
    if frame.inline:
        return spot is not None and spot.line is not None
    if spot is None or not frame.exact:
        return False
    stretch = spot.image.lines.stretch(spot.vaddr)
    return stretch is not None and stretch.start == spot.vaddr


@command("backtrace [-past-main] [N]", "bt", "where", group=_GROUP)
def backtrace(session: "Session", arguments: str) -> None:
    """Who called whom, the innermost first; with N, that many; with -N, the outermost N.

    By the call-frame information of the program and its libraries, through signal handlers, up to main; -past-main
    shows what called main, too.  A frame marked `?` was found by searching the stack for the address behind a call,
    where there is no such information; frames between it and the one before may be missing.
    """
    past_main = arguments.startswith(_PAST)
    text = arguments.removeprefix(_PAST).strip()
    limit = _signed(session, text) if text else 0
    frames: list[Frame] = []
    while (frame := session.view.at(len(frames), past_main=past_main)) is not None:
        if 0 < limit <= len(frames):
            break
        frames.append(frame)
    for each in frames[limit:] if limit < 0 else frames:
        session.print(frame_words(session, each))
        session.tell_more("frames", [_values(session, each)])
    if 0 < limit <= len(frames) and session.view.at(len(frames), past_main=past_main) is not None:
        session.print("(More stack frames follow...)")


def _values(session: "Session", frame: Frame) -> dict[str, object]:
    """A frame for ``--json``."""
    spot = session.view.spot(frame)
    line = spot.line if spot is not None else None
    return {
        "level": frame.level,
        "pc": frame.pc,
        "cfa": frame.cfa,
        "function": session.view.function_name(frame) or None,
        "file": line.file if line is not None else None,
        "line": line.line if line is not None else None,
        "signal": frame.signal,
        "found": frame.found.name.lower(),
    }


@command("frame [N|function NAME]", "f", "select-frame", group=_GROUP)
def frame_(session: "Session", arguments: str) -> None:
    """Show the chosen frame, or choose another: frame N | frame function NAME.

    Registers, locals and expressions are those of the chosen frame, until the program goes on.
    """
    word, _, name = arguments.partition(" ")
    if word == "function":
        session.view.select(_level_of(session, name.strip()))
    elif arguments:
        session.view.select(_signed(session, arguments.removeprefix("level").strip()))
    _show_selected(session)


def _show_selected(session: "Session") -> None:
    from minikernel.kdb.source import show_frame_line

    frame = session.view.selected
    session.print(frame_words(session, frame))
    show_frame_line(session, frame)


def _level_of(session: "Session", name: str) -> int:
    level = 0
    while (frame := session.view.at(level)) is not None:
        if session.view.function_name(frame) == name:
            return level
        level += 1
    raise CommandError(f'No frame for function "{name}".')


@command("up [N]", group=_GROUP)
def up(session: "Session", arguments: str) -> None:
    """Choose the caller of the chosen frame, or the one N frames out."""
    _move(session, _signed(session, arguments) if arguments else 1)


@command("down [N]", group=_GROUP)
def down(session: "Session", arguments: str) -> None:
    """Choose the frame that the chosen one called, or the one N frames in."""
    _move(session, -_signed(session, arguments) if arguments else -1)


def _signed(session: "Session", text: str) -> int:
    number = session.evaluate(text)
    return number - (1 << 64) if number >> 63 else number


def _move(session: "Session", steps: int) -> None:
    """Choose a frame *steps* further out; as far as there are."""
    view = session.view
    start = view.selected.level
    level = min(start, max(start + steps, 0))
    while level < start + steps and view.at(level + 1) is not None:
        level += 1
    if level == start and steps:
        where = "Initial frame selected; you can't go up."
        raise CommandError(where if steps > 0 else "Bottom (innermost) frame selected; you can't go down.")
    view.select(level)
    _show_selected(session)


@command("info frame", group=_GROUP)
def info_frame(session: "Session", arguments: str) -> None:
    """The chosen frame: its address, where it returns to, and where its caller's registers are saved."""
    del arguments
    view = session.view
    frame = view.selected
    names = [*GPR_NAMES, "rip"] if session.word == 8 else [f"e{name[1:]}" for name in (*GPR_NAMES[:8], "rip")]
    spot, name = view.spot(frame), view.function_name(frame)
    session.print(f"Stack level {frame.level}, frame at {frame.cfa:#x}:")
    where = f" in {name}" if name else ""
    where += f" ({spot.line})" if spot is not None and spot.line is not None else ""
    caller = view.physical_caller(frame)
    saved = f"; saved {names[RIP if session.word == 8 else 8]} = {caller.pc:#x}" if caller is not None else ""
    session.print(f" {names[-1]} = {frame.pc:#x}{where}{saved}")
    outer = view.at(frame.level + 1, past_main=True)
    if outer is not None and outer.depth == frame.depth:
        session.print(f" inlined into frame {outer.level}")
    if caller is None:
        session.print(" Outermost frame.")
    else:
        session.print(f" called by frame at {caller.cfa:#x}")
    if frame.level:
        session.print(f" found by: {frame.found.value}")
    inner = view.at(frame.level - 1) if frame.level else None
    if inner is not None:
        session.print(f" caller of frame at {inner.cfa:#x}")
    if caller is not None and RSP not in frame.saved:
        session.print(f" Previous frame's sp is {caller.registers[RSP] or 0:#x}")
    if frame.saved:
        session.print(" Saved registers:")
        words = [f"{name} at {frame.saved[at]:#x}" for at, name in _numbered(names) if at in frame.saved]
        session.print("  " + ", ".join(words))


def _numbered(names: list[str]) -> list[tuple[int, str]]:
    """The registers by our numbers: RIP is always 16."""
    return [*enumerate(names[:-1]), (RIP, names[-1])]
