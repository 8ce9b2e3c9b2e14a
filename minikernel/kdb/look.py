"""Commands that look at the program: print, x, info registers, disassemble, backtrace, info sharedlibrary."""

import re
from typing import TYPE_CHECKING, Final

from emu.cpu import GPR_NAMES, RIP
from minikernel.kdb.command import CommandError, command
from minikernel.mm.vma import VM_EXEC
from minikernel.report.peek import peek
from minikernel.report.place import locate
from minikernel.report.words import rflags_words

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "program"
_FORMAT: Final = re.compile(r"/(\d{0,7})([a-z]*)$")
_SIZES: Final = {"b": 1, "h": 2, "w": 4, "g": 8}
_MAX_STRING: Final = 200
_MAX_COUNT: Final = 100_000


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
        elif char in "xduotcasi" and not letter:
            letter = char
        else:
            raise CommandError(f'Undefined output format "{match[2]}".')
    count = int(match[1] or 1)
    if count > _MAX_COUNT:
        raise CommandError(f"{count} is too many.")
    return count, letter, size, rest.strip()


def _formatted(session: "Session", value: int, letter: str, size: int) -> str:
    """A number of *size* bytes as *letter* wants it."""
    value &= (1 << 8 * size) - 1
    signed = value - (1 << 8 * size) if value >> (8 * size - 1) else value
    match letter:
        case "d":
            return str(signed)
        case "u":
            return str(value)
        case "o":
            return f"0{value:o}"
        case "t":
            return f"{value:b}"
        case "c":
            byte = value & 0xFF
            return f"{byte} {chr(byte)!r}" if 32 <= byte < 127 else f"{byte} '\\{byte:03o}'"
        case "a":
            name = session.name_of(value)
            return f"{value:#x} {name}".rstrip()
    return f"{value:#x}"


@command("print [/FORMAT] EXPR", "p", "inspect", group=_GROUP)
def print_(session: "Session", arguments: str) -> None:
    """Evaluate an expression: print [/x|d|u|o|t|c|a] EXPR.

    Numbers, $registers, symbols (their addresses), C's operators, *ADDR, *(u8*)ADDR, (char)EXPR, phys(ADDR),
    pfn(ADDR).  The result is kept as $1, $2, ...; $ is the last.
    """
    _, letter, size, text = split_format(arguments)
    if letter in {"i", "s"}:
        raise CommandError(f'Format letter "{letter}" is meaningless in "print" command.')
    value = session.evaluate(text)
    session.values.append(value & (1 << 64) - 1)
    shown = _formatted(session, value, letter, size or 8) if letter else _plain(session, value)
    session.print(f"${len(session.values)} = {shown}")


def _plain(session: "Session", value: int) -> str:
    """Small numbers in decimal; others as addresses, with a name where there is one."""
    if value < 1 << 16:
        return str(value)
    return f"{value:#x} {session.name_of(value)}".rstrip()


@command("x [/FORMAT] [EXPR]", group=_GROUP)
def x(session: "Session", arguments: str) -> None:
    """Show memory: x/COUNT FORMAT SIZE EXPR, as in x/4xg $sp, x/8i $pc, x/s 0x402000.

    Formats: x d u o t c a, i (instructions), s (strings).  Sizes: b h w g (1, 2, 4, 8 bytes).  Without EXPR it goes on
    where it ended.  Reading touches nothing: no page is brought in by it.
    """
    count, letter, size, text = split_format(arguments)
    if not text and session.next_address is None:
        raise CommandError("Argument required (starting display address).")
    if not arguments.startswith("/"):
        letter, size = session.x_format
    session.x_format = letter, size
    address = session.evaluate(text) & session.task.abi.mask if text else session.next_address or 0
    if letter == "i":
        session.next_address = _show_code(session, address, count)
    elif letter == "s":
        session.next_address = _show_strings(session, address, count)
    else:
        size = size or (1 if letter == "c" else session.word if letter == "a" else 4)
        session.next_address = _show_units(session, address, count, letter or "x", size)


def _show_units(session: "Session", address: int, count: int, letter: str, size: int) -> int:
    per_line = 1 if letter == "a" else {1: 8, 2: 8, 4: 4, 8: 2}[size]
    data = session.read(address, count * size)
    for at in range(0, count * size, per_line * size):
        row = data[at : min(at + per_line * size, count * size)]
        units = [row[n : n + size] for n in range(0, len(row) - size + 1, size)]
        if not units:
            raise CommandError(f"Cannot access memory at address {address + at:#x}")
        words = []
        for unit in units:
            value = int.from_bytes(unit, "little")
            padded = f"0x{value:0{2 * size}x}"
            words.append(padded if letter == "x" else _formatted(session, value, letter, size))
        name = session.name_of(address + at)
        session.print("\t".join([f"{address + at:#x}{' ' + name if name else ''}:", *words]))
    return address + count * size


def _show_code(session: "Session", address: int, count: int) -> int:
    insns = session.disassemble(address, count)
    if not insns:
        raise CommandError(f"Cannot access memory at address {address:#x}")
    pc = session.registers()[RIP]
    for insn in insns:
        arrow = "=>" if insn.address == pc else "  "
        session.print(f"{arrow} {insn.address:#x} {session.name_of(insn.address)}:\t{_insn_text(session, insn.text)}")
    return insns[-1].address + insns[-1].size


def _insn_text(session: "Session", text: str) -> str:
    """An instruction, with the name of where a direct branch goes."""
    mnemonic, _, operand = text.partition(" ")
    if (mnemonic.startswith("j") or mnemonic == "call") and operand.startswith("0x"):
        return f"{text} {session.name_of(int(operand, 16))}".rstrip()
    return text


def _show_strings(session: "Session", address: int, count: int) -> int:
    for _ in range(count):
        data = session.read(address, _MAX_STRING)
        if not data:
            raise CommandError(f"Cannot access memory at address {address:#x}")
        text, end, _ = data.partition(b"\0")
        shown = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text)
        name = session.name_of(address)
        session.print(f'{address:#x}{" " + name if name else ""}:\t"{shown}"{"" if end else "..."}')
        address += len(text) + len(end)
    return address


@command("info registers [REGISTER...]", "info r", "info all-registers", group=_GROUP)
def info_registers(session: "Session", arguments: str) -> None:
    """The integer registers, flags and segments; with names, only those.

    Of a task that is not in the CPU: the general registers that it will go on with.
    """
    wide = session.word == 8
    names = [*GPR_NAMES, "rip", "rflags"] if wide else [*("e" + name[1:] for name in GPR_NAMES[:8]), "eip", "eflags"]
    names += ["cs", "ss", "ds", "es", "fs", "gs", *(["fs_base", "gs_base"] if wide else [])]
    chosen = [name.removeprefix("$") for name in arguments.split()] or names
    for name in chosen:
        value = session.register(name)
        if value is None:
            if arguments:
                raise CommandError(f"Invalid register `{name}'")
            continue
        session.print(f"{name:<15}{value:<#19x}{_register_words(session, name, value)}")


def _register_words(session: "Session", name: str, value: int) -> str:
    if name.endswith("flags"):
        return f"[ {rflags_words(value)} ]"
    if name in {"rip", "eip", "pc"}:
        return f"{value:#x} {session.name_of(value)}"
    signed = value - (1 << 8 * session.word) if value >> (8 * session.word - 1) == 1 else value
    return f"{signed} {session.name_of(value)}".rstrip() if value > 0xFFFF else str(signed)


@command("disassemble [FUNCTION]", "disas", group=_GROUP)
def disassemble(session: "Session", arguments: str) -> None:
    """The instructions of the function around the program counter, or of FUNCTION or an address."""
    pc = session.evaluate(arguments) if arguments else session.registers()[RIP]
    found = session.explainer.symbols.find(session.mm, pc)
    if found is None or found.symbol is None:
        raise CommandError("No function contains specified address.  x/8i $pc shows instructions anywhere.")
    start = pc - found.symbol.offset
    end = start + (found.size or 256)
    session.print(f"Dump of assembler code for function {found.symbol.name}:")
    here = session.registers()[RIP]
    for insn in session.disassemble(start, end - start):
        if insn.address >= end:
            break
        arrow = "=>" if insn.address == here else "  "
        text = _insn_text(session, insn.text)
        session.print(f"{arrow} {insn.address:#x} <+{insn.address - start}>:\t{text}")
    session.print("End of assembler dump.")


@command("backtrace [N]", "bt", "where", group=_GROUP)
def backtrace(session: "Session", arguments: str) -> None:
    """Who called whom, the innermost first; with N, that many.

    By return addresses and frame pointers.  A frame marked `?` was found by searching the stack for the address behind
    a call, where a function keeps no frame pointer; frames between it and the one above may be missing.
    """
    limit = session.evaluate(arguments) if arguments else 1000
    for frame in session.frames()[:limit]:
        mark = "?" if frame.guessed else " "
        words = session.place_words(frame.pc)
        if frame.level:  # a return address: the line of the call is the one in front of it
            place = locate(session.mm, session.explainer.symbols, frame.pc - 1)
            shown = locate(session.mm, session.explainer.symbols, frame.pc)
            if place.line is not None and shown.line is not None:
                words = words.replace(str(shown.line), str(place.line))
        elif words.startswith("0x") and " in " in words and frame.level:
            words = words.partition(" in ")[2]
        session.print(f"#{frame.level:<2}{mark}{words}")


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


@command("find TEXT|NUMBER", "search", group=_GROUP)
def find_(session: "Session", arguments: str) -> None:
    """Search the task's memory for a text in quotes, or for a number as a word: find "hello" | find 0x1234."""
    if len(arguments) >= 3 and arguments[0] == arguments[-1] == '"':
        needle = arguments[1:-1].encode()
    else:
        needle = (session.evaluate(arguments) & session.task.abi.mask).to_bytes(session.word, "little")
    found = 0
    for vma in session.mm.vmas.items:
        data = peek(session.mm, vma.start, vma.end - vma.start)
        at = data.find(needle)
        while at >= 0 and found < 100:
            found += 1
            session.print(f"{vma.start + at:#x} {session.name_of(vma.start + at)}".rstrip())
            at = data.find(needle, at + 1)
    session.print(f"{found} pattern{'s' if found != 1 else ''} found.")
