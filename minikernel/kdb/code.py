"""The command that shows code: disassemble."""

from typing import TYPE_CHECKING, Final

from emu.cpu import RIP
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.examine import insn_words
from minikernel.kdb.source import line_words
from minikernel.report.place import locate

if TYPE_CHECKING:
    from emu.disasm import Instruction
    from minikernel.kdb.session import Session

_GROUP: Final = "program"
_MODIFIERS: Final = "rsm"
_UNKNOWN_SIZE: Final = 256  # bytes that are shown of a function whose size nobody says
_MAX_SIZE: Final = 1 << 20


@command("disassemble [/rs] [FUNCTION|EXPR,EXPR|EXPR,+LENGTH]", "disas", group=_GROUP)
def disassemble(session: "Session", arguments: str) -> None:
    """Show code: disassemble [/rs] [FUNCTION | ADDRESS | START,END | START,+LENGTH].

    Without arguments, the function around the program counter.  /r adds the raw bytes, /s the source lines.  `=>` is
    the next instruction; branches show the name of where they go, and whether that is forward or back in the function.
    """
    modifiers, arguments = _modifiers(arguments)
    start, end, title = _range(session, arguments)
    data = session.read(start, min(end - start, _MAX_SIZE))
    if not data:
        raise CommandError(f"Cannot access memory at address {start:#x}")
    insns = [insn for insn in session.disassemble(start, end - start) if insn.address < end]
    session.print(f"Dump of assembler code {title}:")
    _show(session, insns, modifiers, start if title.startswith("for") else None)
    session.print("End of assembler dump.")
    session.tell(instructions=[{"address": one.address, "bytes": one.bytes.hex(), "text": one.text} for one in insns])


def _modifiers(arguments: str) -> tuple[str, str]:
    word, _, rest = arguments.partition(" ")
    if not word.startswith("/"):
        return "", arguments
    wrong = [letter for letter in word[1:] if letter not in _MODIFIERS]
    if wrong or len(word) == 1:
        raise CommandError(f"`{word}` is no modifier: there are /r (raw bytes) and /s (source lines).")
    return word[1:], rest.strip()


def _range(session: "Session", arguments: str) -> tuple[int, int, str]:
    """The first byte, the one behind the last, and what to call it."""
    mask = session.task.abi.mask
    first, comma, second = arguments.partition(",")
    if comma:
        start = session.evaluate(first) & mask
        length = second.strip()
        end = start + session.evaluate(length[1:]) if length.startswith("+") else session.evaluate(length) & mask
        if end <= start:
            raise CommandError("The end of a range lies behind its start.")
        return start, end, f"from {start:#x} to {end:#x}"
    pc = session.evaluate(arguments) & mask if arguments else session.registers()[RIP]
    found = session.explainer.symbols.find(session.mm, pc)
    if found is None or found.symbol is None:
        raise CommandError("No function contains specified address.  x/8i $pc shows instructions anywhere.")
    start = pc - found.symbol.offset
    return start, start + (found.size or _UNKNOWN_SIZE), f"for function {found.symbol.name}"


def _show(session: "Session", insns: "list[Instruction]", modifiers: str, start: int | None) -> None:
    pc = session.registers()[RIP]
    digits = 2 * session.word
    line = None
    for insn in insns:
        if modifiers.strip("r"):
            now = locate(session.mm, session.explainer.symbols, insn.address).line
            if now is not None and now != line:
                if line is None or now.path != line.path:
                    session.print(session.paint(f"{now.file}:", "cyan"))
                session.print(line_words(session, now.path, now.line))
            line = now if now is not None else line
        arrow = "=> " if insn.address == pc else "   "
        offset = f"<+{insn.address - start}>" if start is not None else session.name_of(insn.address)
        raw = f"\t{insn.bytes.hex(' '):<24}" if "r" in modifiers else ""
        text = f"{arrow}0x{insn.address:0{digits}x} {offset}:{raw}\t{insn_words(session, insn)}"
        session.print(session.paint(text, "bold") if insn.address == pc else text)
