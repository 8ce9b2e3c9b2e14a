"""Who called whom: by return addresses, frame pointers, and, where a function keeps none, by looking for a CALL.

DWARF's call-frame information is not read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from minikernel.mm.vma import VM_EXEC
from minikernel.report.peek import peek

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct

_MAX_FRAMES: Final = 256
_SCAN_WORDS: Final = 256
_PUSHES: Final = (b"\x55", b"\xf3\x0f\x1e\xfa\x55", b"\xf3\x0f\x1e\xfb\x55")  # push rbp, behind ENDBR64 or ENDBR32
_RETURNS: Final = (b"\xc3", b"\xf3\xc3", b"\xc2")


@dataclass(frozen=True, slots=True)
class Frame:
    """One function that has not returned.  *sp* is the stack pointer behind its return address: its CFA."""

    level: int
    pc: int
    cfa: int  # 0: not known, for it is the last
    guessed: bool = False  # found by searching the stack, so frames may be missing in between


Entry = Callable[[int], int | None]
"""The first address of the function that contains an address; None: not known."""


def unwind(mm: "MmStruct", word: int, pc: int, sp: int, fp: int, entry: Entry, outermost: int | None) -> list[Frame]:
    """The frames of a task that stands at *pc*, the innermost first; the function at *outermost* has no caller."""
    frames: list[Frame] = []
    guessed = False
    while len(frames) < _MAX_FRAMES:
        found = _caller(mm, word, pc, sp, fp, entry, innermost=not frames)
        if found is None or (entry(pc) == outermost is not None):
            frames.append(Frame(len(frames), pc, 0, guessed))
            break
        slot, fp, now_guessed = found
        frames.append(Frame(len(frames), pc, slot + word, guessed))
        pc, sp, guessed = _word(mm, slot, word) or 0, slot + word, now_guessed
    return frames


def _caller(
    mm: "MmStruct", word: int, pc: int, sp: int, fp: int, entry: Entry, *, innermost: bool
) -> tuple[int, int, bool] | None:
    """Where the return address lies, the caller's frame pointer, and whether that was only a guess."""
    start = entry(pc)
    if innermost and start is not None:
        before = peek(mm, start, pc - start) if pc - start <= 5 else b"?"
        if not before or before in {b"\xf3\x0f\x1e\xfa", b"\xf3\x0f\x1e\xfb"} or peek(mm, pc, 2).startswith(_RETURNS):
            return (sp, fp, False) if is_return(mm, _word(mm, sp, word)) else None
        if before in _PUSHES:
            saved = _word(mm, sp, word)
            return (sp + word, saved or 0, False) if is_return(mm, _word(mm, sp + word, word)) else None
    if sp <= fp < sp + (1 << 20) and start is not None and peek(mm, start, 5).startswith(_PUSHES):
        saved, target = _word(mm, fp, word), _word(mm, fp + word, word)
        if is_return(mm, target):
            return fp + word, saved or 0, False
    return _search(mm, word, sp, fp, start)


def _search(mm: "MmStruct", word: int, sp: int, fp: int, start: int | None) -> tuple[int, int, bool] | None:
    """The nearest word above *sp* that points behind a CALL; one whose target is *start* comes first."""
    first = None
    for slot in range(sp, sp + _SCAN_WORDS * word, word):
        value = _word(mm, slot, word)
        if value is None:
            break
        if not is_return(mm, value):
            continue
        if start is not None and _target(mm, value, word) == start:
            return slot, fp, True
        first = first or slot
    return (first, fp, True) if first is not None else None


def _word(mm: "MmStruct", address: int, word: int) -> int | None:
    data = peek(mm, address, word)
    return int.from_bytes(data, "little") if len(data) == word else None


def _target(mm: "MmStruct", value: int, word: int) -> int | None:
    """Where the direct CALL in front of *value* went."""
    code = peek(mm, value - 5, 5)
    if code[:1] != b"\xe8":
        return None
    return value + int.from_bytes(code[1:], "little", signed=True) & ((1 << 8 * word) - 1)


def is_return(mm: "MmStruct", value: int | None) -> bool:
    """Whether *value* points behind a CALL: E8 and four bytes, or FF /2 of any length."""
    if value is None:
        return False
    vma = mm.vmas.find(value)
    if vma is None or not vma.flags & VM_EXEC:
        return False
    code = peek(mm, value - 7, 7)
    if len(code) < 7:
        return False
    return code[2] == 0xE8 or any(code[7 - n] == 0xFF and code[8 - n] >> 3 & 7 == 2 for n in (2, 3, 4, 6, 7))
