"""Changing what the program has: memory, through its page tables as a debugger's write on Linux, and registers."""

from typing import TYPE_CHECKING, Final

from emu.cpu import GPR_NAMES, RIP
from minikernel.abi.errno import LinuxError
from minikernel.kdb.poke import poke
from minikernel.kdb.values import ExprError, Value, cast, load

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_NAMES: Final = {name: index for index, name in enumerate(GPR_NAMES)}


def assign(session: "Session", target: Value, value: Value) -> None:
    """Store *value* where *target* is.

    Raises:
        ExprError.
    """
    if target.type is None:
        raise ExprError("No type says how much that is: set var *(TYPE*)ADDRESS = ... does.")
    data = load(cast(value, target.type, session), session)
    if target.field is not None and target.field.bits and target.address is not None:
        field = target.field
        first, end = field.bit // 8, (field.bit + field.bits + 7) // 8
        whole = int.from_bytes(session.read(target.address + first, end - first), "little")
        mask = (1 << field.bits) - 1 << field.bit - 8 * first
        bits = int.from_bytes(data, "little") << field.bit - 8 * first & mask
        data = (whole & ~mask | bits).to_bytes(end - first, "little")
        _store(session, target.address + first, data)
    elif target.address is not None:
        _store(session, target.address, data)
    elif target.register is not None:
        number = int.from_bytes(data, "little") & session.task.abi.mask
        _set_register(session, target.register, number)
    else:
        raise ExprError("Left operand of assignment is not an lvalue.")
    _end_past(session)


def _store(session: "Session", address: int, data: bytes) -> None:
    try:
        poke(session.mm, address, data)
    except LinuxError:
        raise ExprError(f"Cannot access memory at address {address:#x}") from None


def assign_register(session: "Session", name: str, number: int) -> None:
    """Change a general register, by its full or 32-bit name, or pc, sp, fp.

    Raises:
        ExprError.
    """
    full = {"pc": "rip", "sp": "rsp", "fp": "rbp", "eip": "rip"}.get(name, name)
    if session.word == 4 and full.startswith("e"):
        full = f"r{full[1:]}"
    index = RIP if full == "rip" else _NAMES.get(full)
    if index is None:
        raise ExprError(f"No general register {name}.")
    saved = session.view.selected.kept.get(index)
    if saved is not None:
        _store(session, saved, (number & session.task.abi.mask).to_bytes(session.word, "little"))
    else:
        _set_register(session, index, number)
    _end_past(session)


def _set_register(session: "Session", index: int, number: int) -> None:
    if session.view.selected.depth and index in {RIP, _NAMES["rsp"]}:
        raise ExprError("The program counter and stack pointer of a caller cannot be changed.")
    if session.kernel.current is not session.task or session.task.blocked_call is not None:
        raise ExprError("The task is not in the CPU: its registers cannot be changed.")
    session.kernel.cpu.regs[index] = number & session.task.abi.mask


def _end_past(session: "Session") -> None:
    """What was before cannot be run again to come here."""
    if session.timeline is not None:
        session.timeline.begin()
