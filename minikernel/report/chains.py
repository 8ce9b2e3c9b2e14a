"""Where a word leads: a pointer to a pointer to a text, as pwndbg's telescope follows it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT
from minikernel.mm.vma import VM_EXEC, VM_WRITE
from minikernel.report.formats import quoted
from minikernel.report.paint import PLAIN, Paint
from minikernel.report.peek import peek
from minikernel.report.place import locate

if TYPE_CHECKING:
    from emu.disasm import Instruction
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.report.symbols import Symbols

_MAX_LINKS: Final = 6
_MIN_TEXT: Final = 4  # characters that must be printable to be taken for a text
_MAX_TEXT: Final = 48
_SMALL: Final = 1 << PAGE_SHIFT

_COLOURS: Final = {"code": "red", "stack": "yellow", "heap": "blue", "data": "magenta", "text": "green"}


@dataclass(frozen=True, slots=True)
class Link:
    """One value of a chain, and what it is: *kind* is code, stack, heap, data, text or number."""

    value: int
    kind: str
    name: str  # <main+4>, [stack], "" for a number
    shown: str  # the instruction or the text there, for the end of a chain; otherwise ""


def chain(
    mm: "MmStruct",
    symbols: "Symbols",
    value: int,
    word: int,
    disassemble: "Callable[[int, int], list[Instruction]]",
) -> list[Link]:
    """*value*, what it points to, what that points to ...; it ends with code, a text, a number, or where it began."""
    links: list[Link] = []
    seen: set[int] = set()
    while len(links) < _MAX_LINKS and value not in seen:
        seen.add(value)
        link = _link(mm, symbols, value, disassemble)
        if link.kind == "number":
            text = _word_text(value, word) if links else ""
            links.append(Link(value, "text" if text else "number", "", text))
            break
        links.append(link)
        data = peek(mm, value, word)
        if link.shown or len(data) < word:
            break
        value = int.from_bytes(data, "little")
    return links


def _link(
    mm: "MmStruct", symbols: "Symbols", value: int, disassemble: "Callable[[int, int], list[Instruction]]"
) -> Link:
    """What *value* is, seen as an address."""
    vma = mm.vmas.find(value)
    if value < _SMALL or vma is None:
        return Link(value, "number", "", "")
    place = locate(mm, symbols, value)
    name = f"<{place.symbol}>" if place.symbol is not None else f"<{place.short}>"
    if vma.flags & VM_EXEC:
        insns = disassemble(value, 1)
        return Link(value, "code", name, insns[0].text if insns else "")
    text = text_at(mm, value)
    kind = "stack" if "[stack]" in place.name else "heap" if place.name == "[heap]" else "data"
    if kind == "data" and not vma.flags & VM_WRITE:
        kind = "data"
    return Link(value, kind, name, quoted(text) if text else "")


def text_at(mm: "MmStruct", address: int) -> bytes:
    """The beginning of the text at *address*; nothing if it does not look like one."""
    data = peek(mm, address, _MAX_TEXT)
    text = data.partition(b"\0")[0]
    printable = bool(text) and all(32 <= byte < 127 or byte in b"\t\n\r" for byte in text)
    return text if printable and len(text) >= _MIN_TEXT else b""


def _word_text(value: int, word: int) -> str:
    """A word that is nothing but characters, in quotes."""
    raw = value.to_bytes(word, "little").rstrip(b"\0")
    return quoted(raw) if len(raw) >= _MIN_TEXT and all(32 <= byte < 127 for byte in raw) else ""


def chain_words(links: Sequence[Link], paint: Paint = PLAIN) -> str:
    """``0x7ffe.. <[stack]> -> 0x401136 <main+4> (mov eax, 0)``."""
    words = []
    for link in links:
        colour = _COLOURS.get(link.kind)
        text = f"{link.value:#x} {link.name}".rstrip()
        text = paint(text, colour) if colour is not None else text
        words.append(f"{text} {link.shown}" if link.kind == "text" or link.shown.startswith('"') else
                     f"{text} ({link.shown})" if link.shown else text)  # fmt: skip
    return " -> ".join(words)
