"""Commands that look for bytes, and that copy memory to files and back: find, search, dump, restore."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT
from minikernel.abi.errno import LinuxError
from minikernel.kdb.command import CommandError, command
from minikernel.mm.uaccess import copy_to_user_partial
from minikernel.report.frames import describe
from minikernel.report.place import display_name
from minikernel.report.scan import find_in, find_physical

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minikernel.kdb.session import Session

_GROUP: Final = "program"
_SIZES: Final = {"b": 1, "h": 2, "w": 4, "g": 8}
_MAX_FOUND: Final = 100
_MAX_DUMP: Final = 1 << 30
_TEXT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "e": "\033"}


@command("search [/bhwgx] TEXT|EXPR [in NAME|phys]", group=_GROUP)
def search(session: "Session", arguments: str) -> None:
    r"""Search memory: search [/bhwgx] WHAT [in NAME | in START,END | in phys].

    WHAT is a text in quotes (with C's escapes), or a number: as long as an address, or with /b /h /w /g 1, 2, 4, 8
    bytes.  /x takes it as the bytes themselves: search /x 7f454c46.  NAME is a part of a mapping's name, as in
    `in libc`, `in [stack]`; phys is all of RAM, whoever has it: what is found is told by frame.
    Memory that was never touched, and so is all zeroes, is not searched.
    """
    what, _, place = arguments.rpartition(" in ")
    if not what or what.count('"') % 2:
        what, place = arguments, ""
    needle = _needle(session, what.strip())
    place = place.strip()
    if place == "phys":
        _show_physical(session, needle)
        return
    _show(session, _hits(session, needle, place))


def _needle(session: "Session", what: str) -> bytes:
    """The bytes that *what* stands for."""
    letter = ""
    if what.startswith("/"):
        word, _, what = what.partition(" ")
        letter, what = word[1:], what.strip()
        if letter not in {*_SIZES, "x"}:
            raise CommandError(f"`{word}` is no size: there are /b /h /w /g, and /x for bytes.")
    if not what:
        raise CommandError("search wants a text in quotes or a number.")
    match = _TEXT.fullmatch(what)
    if match is not None:
        needle = _unescaped(match[1]).encode("latin-1", errors="ignore") if "\\" in match[1] else match[1].encode()
    elif letter == "x":
        try:
            needle = bytes.fromhex(what.removeprefix("0x"))
        except ValueError:
            raise CommandError(f"`{what}` is no row of bytes in hexadecimal.") from None
    else:
        size = _SIZES.get(letter, session.word)
        needle = (session.evaluate(what) & (1 << 8 * size) - 1).to_bytes(size, "little")
    if not needle:
        raise CommandError("Nothing is everywhere.")
    return needle


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] == "x" and len(code) == 3:
            return chr(int(code[1:], 16))
        return chr(int(code, 8) & 0xFF) if code[0] in "01234567" else _ESCAPES.get(code, code)

    return _ESCAPE.sub(one, text)


def _hits(session: "Session", needle: bytes, place: str) -> "Iterator[int]":
    """Where *needle* is in the part of the address space that *place* names."""
    mm = session.mm
    if "," in place:
        first, _, second = place.partition(",")
        start = session.evaluate(first)
        end = start + session.evaluate(second[1:]) if second.startswith("+") else session.evaluate(second)
        return find_in(mm, needle, start, end)
    if not place:
        return find_in(mm, needle, 0, mm.layout.task_size)
    chosen = [vma for vma in mm.vmas.items if place in display_name(mm, vma)]
    if not chosen:
        raise CommandError(f"No mapping is called {place}: vmmap shows them.")
    return (hit for vma in chosen for hit in find_in(mm, needle, vma.start, vma.end))


def _show(session: "Session", hits: "Iterator[int]") -> None:
    found = 0
    for address in hits:
        found += 1
        if found > _MAX_FOUND:
            session.print(f"... and more: these were the first {_MAX_FOUND}.")
            return
        session.print(f"{address:#x} {session.name_of(address)}".rstrip())
        session.tell_more("addresses", [address])
    session.print(f"{found} pattern{'s' if found != 1 else ''} found.")


def _show_physical(session: "Session", needle: bytes) -> None:
    found = 0
    for phys in find_physical(session.kernel.physmem, needle):
        found += 1
        if found > _MAX_FOUND:
            session.print(f"... and more: these were the first {_MAX_FOUND}.")
            return
        session.print(f"{phys:#010x}  {describe(session.kernel, phys >> PAGE_SHIFT)}")
        session.tell_more("physical", [phys])
    session.print(f"{found} pattern{'s' if found != 1 else ''} found.")


@command("find [/bhwg] ADDRESS, ADDRESS|+LENGTH, EXPR...", group=_GROUP)
def find_(session: "Session", arguments: str) -> None:
    """Search memory as gdb does: find [/bhwg] START, +LENGTH | END, VALUE [, VALUE...].

    The values, texts in quotes or numbers, stand one behind the other.  `search` looks everywhere.
    """
    letter = ""
    if arguments.startswith("/"):
        word, _, arguments = arguments.partition(" ")
        letter = f"{word} "
    parts = [part.strip() for part in arguments.split(",")]
    if len(parts) < 3:
        if len(parts) == 1 and parts[0]:  # find "text": everywhere
            search(session, f"{letter}{parts[0]}")
            return
        raise CommandError("find wants START, END or +LENGTH, and values.")
    start = session.evaluate(parts[0]) & session.task.abi.mask
    end = start + session.evaluate(parts[1][1:]) if parts[1].startswith("+") else session.evaluate(parts[1])
    needle = b"".join(_needle(session, part if part.startswith('"') else f"{letter}{part}") for part in parts[2:])
    _show(session, find_in(session.mm, needle, start, end))


@command("dump memory FILE ADDRESS ADDRESS|+LENGTH", "dump binary memory", group=_GROUP)
def dump_memory(session: "Session", arguments: str) -> None:
    """Write memory to a file of the host: dump memory FILE START END | +LENGTH.

    Bytes as they are.  With `phys(ADDRESS)` in mind: the addresses are the program's; nothing is brought in by it.
    """
    name, start, end = _file_and_range(session, arguments)
    data = session.read(start, end - start)
    if len(data) < end - start:
        raise CommandError(f"Cannot access memory at address {start + len(data):#x}")
    try:
        Path(name).expanduser().write_bytes(data)
    except (OSError, ValueError) as error:
        raise CommandError(f"{name}: {getattr(error, 'strerror', None) or error}.") from None
    session.print(f"{len(data):,} bytes written to {name}")
    session.tell(bytes=len(data))


def _file_and_range(session: "Session", arguments: str) -> tuple[str, int, int]:
    words = arguments.split()
    if len(words) != 3:
        raise CommandError("dump memory wants a file name, a first address, and the one behind the last or +LENGTH.")
    start = session.evaluate(words[1]) & session.task.abi.mask
    end = start + session.evaluate(words[2][1:]) if words[2].startswith("+") else session.evaluate(words[2])
    if not start < end <= start + _MAX_DUMP:
        raise CommandError("The end lies behind the start, and at most 1 GiB.")
    return words[0], start, end


@command("restore FILE ADDRESS", group=_GROUP)
def restore(session: "Session", arguments: str) -> None:
    """Write a file of the host into memory: restore FILE ADDRESS.

    As the program itself would write there: pages are brought in and copied where they are shared, and nothing is
    written where it may not write.  The run is another one from here on: time goes back to here, and no further.
    """
    name, _, place = arguments.partition(" ")
    if not place.strip():
        raise CommandError("restore wants a file name and an address.")
    if place.strip().startswith("binary "):
        place = place.strip()[7:]
    address = session.evaluate(place) & session.task.abi.mask
    try:
        data = Path(name).expanduser().read_bytes()
    except (OSError, ValueError) as error:
        raise CommandError(f"{name}: {getattr(error, 'strerror', None) or error}.") from None
    if not data:
        raise CommandError(f"{name} is empty.")
    try:
        done = copy_to_user_partial(session.mm, address, data)
    except LinuxError:
        done = 0
    if session.timeline is not None:
        session.timeline.begin_here()
    if done < len(data):
        raise CommandError(f"{done:,} of {len(data):,} bytes written: nothing may be written at {address + done:#x}.")
    session.print(f"{done:,} bytes of {name} written to {address:#x}-{address + done:#x}")
    session.tell(bytes=done)
