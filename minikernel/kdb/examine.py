"""Commands that show memory: x, hexdump, telescope, xinfo."""

import re
from typing import TYPE_CHECKING, Final

from emu.cpu import RIP, RSP
from emu.x86 import PAGE_MASK, PAGE_SHIFT, VirtAddr
from minikernel.kdb.command import CommandError, command
from minikernel.report.chains import chain, chain_words
from minikernel.report.formats import LETTERS, PER_LINE, hexdump_rows, integer, quoted, unit
from minikernel.report.frames import describe, kernel_words, state_words
from minikernel.report.place import locate, neighbour_words
from minikernel.report.words import rights

if TYPE_CHECKING:
    from emu.disasm import Instruction
    from minikernel.kdb.session import Session

_GROUP: Final = "program"
_FORMAT: Final = re.compile(r"/(-?\d{0,7})([a-z]*)$")
_SIZES: Final = {"b": 1, "h": 2, "w": 4, "g": 8}
_MAX_STRING: Final = 200
_MAX_COUNT: Final = 100_000
_MAX_BACK: Final = 1 << 16  # bytes that are decoded to find the instructions in front of an address
_ROWS: Final = 8
_MAX_ROWS: Final = 4096  # a number up to that says how many, not where


def split_format(arguments: str) -> tuple[int, str, int, str]:
    """``/4xg EXPR`` as count, format letter, unit size in bytes (0: not said), and the rest.

    Raises:
        CommandError.
    """
    word, _, rest = arguments.partition(" ")
    if not word.startswith("/"):
        return 1, "", 0, arguments
    match = _FORMAT.match(word)
    if match is None:
        raise CommandError(f"`{word}` is no format: /COUNT FORMAT SIZE, as in /4xg.")
    letter, size = "", 0
    for char in match[2]:
        if char in _SIZES:
            size = _SIZES[char]
        elif char in LETTERS and not letter:
            letter = char
        else:
            raise CommandError(f'Undefined output format "{match[2]}".')
    count = int(match[1]) if match[1] not in {"", "-"} else 1
    if abs(count) > _MAX_COUNT:
        raise CommandError(f"{count} is too many.")
    return count, letter, size, rest.strip()


@command("x [/FORMAT] [EXPR]", group=_GROUP)
def x(session: "Session", arguments: str) -> None:
    """Show memory: x/COUNT FORMAT SIZE EXPR, as in x/4xg $sp, x/8i $pc, x/s 0x402000.

    Formats: x z (hexadecimal), d u (decimal), o t (octal, binary), f (floating point), c (characters), a (addresses
    with names), i (instructions), s (strings).  Sizes: b h w g (1, 2, 4, 8 bytes).  A negative COUNT shows what lies in
    front of the address.  Without EXPR it goes on where it ended.  Reading touches nothing: no page is brought in.
    """
    count, letter, size, text = split_format(arguments)
    if not text and session.next_address is None:
        raise CommandError("Argument required (starting display address).")
    if not letter:
        letter = session.x_format[0]
    if not size and letter not in "ais":
        size = session.x_format[1]
    address = session.evaluate(text) & session.task.abi.mask if text else session.next_address or 0
    if letter == "i":
        ends = _show_code(session, address, count)
    elif letter == "s":
        ends = _show_strings(session, address, count)
    else:
        if letter == "a":
            size = session.word
        elif letter == "f":
            size = size if size in {4, 8} else 8
        size = size or (1 if letter == "c" else 4)
        ends = _show_units(session, address, count, letter, size)
    session.x_format = letter, size
    session.next_address = ends


def _show_units(session: "Session", address: int, count: int, letter: str, size: int) -> int:
    """Units of *size* bytes; where the next ``x`` goes on: behind them, or again in front of them."""
    first = address if count >= 0 else max(address + count * size, 0)
    length = abs(count) * size
    data = session.read(first, length)
    step = PER_LINE[size] * size
    for at in range(0, length, step):
        row = data[at : min(at + step, length)]
        units = [row[n : n + size] for n in range(0, len(row) - size + 1, size)]
        if not units:
            raise CommandError(f"Cannot access memory at address {first + at:#x}")
        words = [
            _address_words(session, one) if letter == "a" else unit(one, letter) for one in units
        ]  # fmt: skip
        name = session.name_of(first + at)
        session.print("\t".join([f"{first + at:#x}{' ' + name if name else ''}:", *words]))
        session.tell_more("units", [int.from_bytes(one, "little") for one in units])
    session.tell(address=first, size=size)
    return address + length if count >= 0 else first


def _address_words(session: "Session", data: bytes) -> str:
    value = int.from_bytes(data, "little")
    return f"{value:#x} {session.name_of(value)}".rstrip()


def instructions_before(session: "Session", address: int, count: int) -> "list[Instruction]":
    """The last *count* instructions in front of *address*: decoded from the beginning of its function on.

    Where no function is known, from a few bytes before; that guess may begin in the middle of an instruction.
    """
    found = session.explainer.symbols.find(session.mm, address - 1)
    start = address - 16 * count
    if found is not None and found.symbol is not None and address - 1 - found.symbol.offset >= address - _MAX_BACK:
        start = address - 1 - found.symbol.offset
    insns = [insn for insn in session.disassemble(start, address - start) if insn.address < address]
    if insns and insns[0].address == start and len(insns) < count and start != address - 16 * count:
        insns = instructions_before(session, start, count - len(insns)) + insns
    return insns[-count:]


def _show_code(session: "Session", address: int, count: int) -> int:
    back = count < 0
    insns = instructions_before(session, address, -count) if back else session.disassemble(address, count)
    if not insns:
        raise CommandError(f"Cannot access memory at address {address:#x}")
    pc = session.registers()[RIP]
    for insn in insns:
        arrow = "=>" if insn.address == pc else "  "
        session.print(f"{arrow} {insn.address:#x} {session.name_of(insn.address)}:\t{insn_words(session, insn)}")
    session.tell(instructions=[{"address": one.address, "bytes": one.bytes.hex(), "text": one.text} for one in insns])
    return insns[0].address if back else insns[-1].address + insns[-1].size


def insn_words(session: "Session", insn: "Instruction") -> str:
    """An instruction, with the name of where a direct branch goes or an operand relative to RIP lies."""
    text = insn.text
    if (insn.mnemonic.startswith("j") or insn.mnemonic == "call") and insn.op_str.startswith("0x"):
        return f"{text} {session.name_of(int(insn.op_str, 16))}".rstrip()
    match = re.search(r"\[rip ([+-]) (0x[0-9a-f]+|\d+)\]", insn.op_str)
    if match is not None:
        distance = int(match[2], 0) * (1 if match[1] == "+" else -1)
        target = (insn.address + insn.size + distance) & session.task.abi.mask
        return f"{text}\t# {target:#x} {session.name_of(target)}".rstrip()
    return text


def _show_strings(session: "Session", address: int, count: int) -> int:
    if count < 0:
        address = first = _strings_before(session, address, -count)
    for _ in range(abs(count)):
        data = session.read(address, _MAX_STRING)
        if not data:
            raise CommandError(f"Cannot access memory at address {address:#x}")
        text, end, _ = data.partition(b"\0")
        name = session.name_of(address)
        session.print(f"{address:#x}{' ' + name if name else ''}:\t{quoted(text)}{'' if end else '...'}")
        session.tell_more("strings", [text.decode("latin-1")])
        address += len(text) + len(end)
    return address if count >= 0 else first


def _strings_before(session: "Session", address: int, count: int) -> int:
    """Where the last *count* strings in front of *address* begin."""
    page_start = max(address - count * _MAX_STRING, 0)
    data = session.read(page_start, address - page_start)
    while not data and page_start < address:  # part of it may not be mapped
        page_start = (page_start & PAGE_MASK ^ page_start) + PAGE_MASK + 1
        data = session.read(page_start, address - page_start) if page_start < address else b""
    at = len(data)
    for _ in range(count):
        at = data.rfind(b"\0", 0, max(at - 1, 0)) + 1
    return page_start + at


@command("xp [/FORMAT] PHYSICAL", group=_GROUP)
def xp(session: "Session", arguments: str) -> None:
    """Show physical memory: xp/COUNT FORMAT SIZE ADDRESS, as in xp/8xg $cr3; formats and sizes are those of x."""
    count, letter, size, text = split_format(arguments)
    if letter in {"i", "s"}:
        raise CommandError("xp shows units: x z d u o t c a f, of b h w g.")
    if not text or count <= 0:
        raise CommandError("xp wants a physical address: xp/4xg PHYSICAL.")
    address = session.evaluate(text)
    size = size or session.word
    physmem = session.kernel.physmem
    if not 0 <= address < physmem.size:
        raise CommandError(f"RAM ends at {physmem.size:#x}.")
    data = physmem.ram[address : min(address + count * size, physmem.size)]
    for at in range(0, len(data), PER_LINE[size] * size):
        row = data[at : at + PER_LINE[size] * size]
        units = [row[n : n + size] for n in range(0, len(row) - size + 1, size)]
        shown = [_address_words(session, one) if letter == "a" else unit(one, letter or "x") for one in units]
        session.print("\t".join([f"{address + at:#010x}:", *shown]))
        session.tell_more("units", [int.from_bytes(one, "little") for one in units])
    session.tell(physical=address, size=size)


@command("hexdump [ADDRESS] [COUNT]", "hd", group=_GROUP)
def hexdump(session: "Session", arguments: str) -> None:
    """Show bytes and characters, 16 to a line: hexdump [ADDRESS] [COUNT], without COUNT 64 bytes.

    Without ADDRESS it goes on where it ended.
    """
    address, count = _address_and_count(session, arguments, default=64)
    data = session.read(address, count)
    if not data:
        raise CommandError(f"Cannot access memory at address {address:#x}")
    digits = 2 + 2 * session.word
    for at, row, text in hexdump_rows(data):
        session.print(f"{address + at:#0{digits}x}  {row} |{text}|")
    session.tell(address=address, bytes=data.hex())
    session.next_address = address + len(data)


def _address_and_count(session: "Session", arguments: str, default: int) -> tuple[int, int]:
    """``EXPR [COUNT]``: a last word that is a number behind another word is the count."""
    text, _, last = arguments.rpartition(" ")
    count = default
    if text and last.isdecimal() and not text.rstrip().endswith(("+", "-", "*", "/", "&", "|", "(")):
        arguments, count = text, min(int(last[:7]), _MAX_COUNT)
    if not arguments and session.next_address is None:
        raise CommandError("An address is missing.")
    address = session.evaluate(arguments) if arguments else session.next_address or 0
    return address & session.task.abi.mask, count


@command("telescope [ADDRESS] [COUNT]", "tele", "stack", group=_GROUP)
def telescope(session: "Session", arguments: str) -> None:
    """Follow pointers: telescope [ADDRESS] [COUNT], word by word from ADDRESS on, at first the stack pointer.

    Each word is followed as long as it points somewhere: `->` is what a pointer points to.  Texts are shown as such,
    code as its instruction.  Registers that point to a word are named beside it.
    """
    if not arguments or (arguments.isdecimal() and 0 < int(arguments[:5]) <= _MAX_ROWS):
        address, count = session.registers()[RSP], int(arguments) if arguments else _ROWS
    else:
        address, count = _address_and_count(session, arguments, default=_ROWS)
    for text in telescope_rows(session, address, count):
        session.print(text)
    session.next_address = address + count * session.word


def telescope_rows(session: "Session", address: int, count: int) -> list[str]:
    """The words at *address*, each with what it leads to.

    Raises:
        CommandError: nothing is there.
    """
    word = session.word
    data = session.read(address, count * word)
    if len(data) < word:
        raise CommandError(f"Cannot access memory at address {address:#x}")
    from minikernel.kdb.registers import general_names

    regs = session.registers()
    pointing: dict[int, list[str]] = {}
    for name, value in zip(general_names(session), regs[: 16 if word == 8 else 8], strict=False):
        pointing.setdefault(value, []).append(name)
    rows = []
    for at in range(0, len(data) - word + 1, word):
        value = int.from_bytes(data[at : at + word], "little")
        links = chain(session.mm, session.explainer.symbols, value, word, session.disassemble)
        names = " ".join(pointing.get(address + at, []))
        rows.append(f"{at:04x}| {names:<8} {address + at:#x}: {chain_words(links, session.paint)}")
        told = {"address": address + at, "registers": pointing.get(address + at, []), "value": value}
        session.tell_more("words", [{**told, "chain": [one.value for one in links[1:]]}])
    return rows


@command("xinfo ADDRESS", group=_GROUP)
def xinfo(session: "Session", arguments: str) -> None:
    """Everything about an address: mapping, file offset, symbol, source line, page, frame; how far it is from what."""
    if not arguments:
        raise CommandError("An address is missing.")
    address = session.evaluate(arguments) & session.task.abi.mask
    mm = session.mm
    place = locate(mm, session.explainer.symbols, address)
    rows = {"address": f"{address:#x}"}
    if address >= mm.layout.task_size:
        physical = session.physical(address)
        rows["kernel"] = kernel_words(session.kernel, address)
        rows["page"] = describe(session.kernel, physical >> PAGE_SHIFT) if physical is not None else "none: not mapped"
    elif place.vma is None:
        rows |= {"mapping": "none", "below": neighbour_words(place.below, "below")}
        rows["above"] = neighbour_words(place.above, "above")
    else:
        vma = place.vma
        rows["mapping"] = (
            f"{vma.start:#x}-{vma.end:#x} {rights(vma.flags)} {place.name}, {address - vma.start:#x} into it"
        )
        if vma.mapping is not None:
            rows["file offset"] = f"{(vma.pgoff << PAGE_SHIFT) + address - vma.start:#x} of {vma.mapping.size:#x}"
        rows["page"] = state_words(session.kernel, mm, vma, VirtAddr(address & ~PAGE_MASK))
    if place.symbol is not None:
        rows["symbol"] = f"{place.symbol} ({place.exact})"
    if place.line is not None:
        rows["line"] = str(place.line)
    distance = address - session.registers()[RSP]
    if place.vma is not None and place.vma.start <= session.registers()[RSP] < place.vma.end:
        rows["stack pointer"] = f"{'+' if distance >= 0 else '-'}{abs(distance):#x}"
    data = session.read(address, session.word)
    if len(data) == session.word:
        links = chain(mm, session.explainer.symbols, int.from_bytes(data, "little"), session.word, session.disassemble)
        rows["word there"] = chain_words(links, session.paint)
    session.pairs(rows)


def number_words(session: "Session", value: int, letter: str, size: int) -> str:
    """A number of *size* bytes as *letter* wants it; ``a``: with the name of the place."""
    if letter == "a":
        value &= session.task.abi.mask
        return f"{value:#x} {session.name_of(value)}".rstrip()
    return integer(value, letter, size)
