"""Commands that show registers: general, flags, segments; x87 and SSE; control registers, EFER, MXCSR in words."""

from typing import TYPE_CHECKING, Final

from emu.cpu import GPR_NAMES
from minikernel.kdb.command import CommandError, command
from minikernel.report.control_registers import control_words
from minikernel.report.fpu import (
    Fpu,
    decode_fxsave,
    extended_value,
    fctrl_words,
    fstat_words,
    mxcsr_words,
    tag_word,
    vector_words,
)
from minikernel.report.words import rflags_words

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "program"
_SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs")
_CONTROL: Final = ("cr0", "cr2", "cr3", "cr4", "efer")
_FPU_WORDS: Final = ("fctrl", "fstat", "ftag", "fop", "fip", "fdp")
REGISTER_GROUPS: Final = ("general", "float", "vector", "system", "all")
_NUMBERED: Final = {"st": 8, "xmm": 16}


def general_names(session: "Session") -> list[str]:
    """What ``info registers`` shows by itself."""
    wide = session.word == 8
    names = [*GPR_NAMES, "rip", "rflags"] if wide else [*("e" + name[1:] for name in GPR_NAMES[:8]), "eip", "eflags"]
    return [*names, *_SEGMENTS, *(["fs_base", "gs_base"] if wide else [])]


def _groups(session: "Session") -> dict[str, list[str]]:
    """The registers by the names of gdb's groups."""
    general = general_names(session)
    floats = [*(f"st{number}" for number in range(8)), *_FPU_WORDS]
    vectors = [*(f"xmm{number}" for number in range(16 if session.word == 8 else 8)), "mxcsr"]
    return {
        "general": general,
        "float": floats,
        "vector": vectors,
        "system": list(_CONTROL),
        "all": [*general, *floats, *vectors, *_CONTROL],
    }


def fpu(session: "Session") -> Fpu:
    """The x87 and SSE state.

    Raises:
        CommandError: the task is not in the CPU.
    """
    if session.kernel.current is not session.task:
        raise CommandError("The task is not in the CPU: only its general registers are known.")
    return decode_fxsave(session.kernel.cpu.fxsave(), wide=session.word == 8)


def wide_register(session: "Session", name: str) -> tuple[int, str] | None:
    """The bits of a register that is no plain number, or no part of expressions, and how it is shown.

    None: *name* is none of those.
    """
    kind = name.rstrip("0123456789")
    number = int(name[len(kind) :] or -1)
    if kind in _NUMBERED and 0 <= number < (8 if kind == "st" or session.word == 4 else 16):
        state = fpu(session)
        raw = state.st(number) if kind == "st" else state.xmm[number]
        value = int.from_bytes(raw, "little")
        return value, f"{extended_value(raw):<18} (raw 0x{value:020x})" if kind == "st" else vector_words(raw)
    if name in _FPU_WORDS or name == "mxcsr":
        state = fpu(session)
        value = getattr(state, name)
        words = {"fctrl": fctrl_words, "fstat": fstat_words, "mxcsr": mxcsr_words}.get(name)
        return value, f"{value:<#18x} [ {words(value)} ]" if words is not None else f"{value:#x}"
    if name in _CONTROL:
        if session.kernel.current is not session.task:
            raise CommandError("The task is not in the CPU: only its general registers are known.")
        value = session.kernel.cpu.control_registers()[name]
        return value, f"{value:<#18x} {control_words(name, value)}"
    return None


@command("info registers [GROUP|REGISTER...]", "info r", group=_GROUP)
def info_registers(session: "Session", arguments: str) -> None:
    """The general registers, flags and segments; with names, those.

    GROUP is general, float (x87), vector (SSE), system (CR0, CR2, CR3, CR4, EFER) or all.  Flags are given in words: of
    MXCSR, E is an exception that has happened, M one that is masked.
    Of a task that is not in the CPU: the general registers that it will go on with.
    """
    groups = _groups(session)
    words = [word.removeprefix("$") for word in arguments.split()] or ["general"]
    for word in words:
        for name in groups.get(word, [word]):
            shown = wide_register(session, name)
            value = session.register(name) if shown is None else shown[0]
            if value is None:
                if word in groups:
                    continue  # of a task that is not in the CPU
                raise CommandError(f"Invalid register `{name}'")
            text = shown[1] if shown is not None else f"{value:<#18x} {_plain_words(session, name, value)}"
            session.print(f"{name:<14} {text}".rstrip())
            session.tell(**{name: value})


@command("info all-registers", group=_GROUP)
def info_all_registers(session: "Session", arguments: str) -> None:
    """Every register: general, x87, SSE, control registers and EFER."""
    del arguments
    info_registers(session, "all")


@command("info vector", group=_GROUP)
def info_vector(session: "Session", arguments: str) -> None:
    """The SSE registers and MXCSR."""
    del arguments
    info_registers(session, "vector")


@command("info float", group=_GROUP)
def info_float(session: "Session", arguments: str) -> None:
    """The x87 unit: its stack, tags, status and control words, and what it did last."""
    del arguments
    state = fpu(session)
    for number in range(7, -1, -1):
        raw = state.physical[number]
        arrow = "=>" if number == state.top else "  "
        tag = tag_word(state.ftag, number)
        value = f"  {extended_value(raw)}" if tag != "Empty" else ""
        session.print(f"{arrow}R{number}: {tag:<8}0x{int.from_bytes(raw, 'little'):020x}{value}")
    session.pairs({
        "Status word": f"{state.fstat:#06x}  {fstat_words(state.fstat)}",
        "Control word": f"{state.fctrl:#06x}  {fctrl_words(state.fctrl)}",
        "Tag word": f"{state.ftag:#06x}",
        "Instruction pointer": f"{state.fip:#x}",
        "Operand pointer": f"{state.fdp:#x}",
        "Opcode": f"{state.fop:#06x}",
    })  # fmt: skip


def _plain_words(session: "Session", name: str, value: int) -> str:
    if name.endswith("flags"):
        return f"[ {rflags_words(value)} ]"
    if name in {"rip", "eip", "pc"}:
        return f"{value:#x} {session.name_of(value)}"
    if name[1:] in {"sp", "bp"}:
        return f"{value:#x} {session.name_of(value)}".rstrip()
    signed = value - (1 << 8 * session.word) if value >> (8 * session.word - 1) == 1 else value
    return f"{signed} {session.name_of(value)}".rstrip() if value > 0xFFFF else str(signed)
