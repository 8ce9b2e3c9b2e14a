"""Where a stub of the PLT leads: the function whose address its slot has, or is going to have."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_PREFIXES: Final = (b"\xf3\x0f\x1e\xfa", b"\xf3\x0f\x1e\xfb", b"\xf2")  # ENDBR64, ENDBR32, BND
_RBX: Final = 3


def stub_target(session: "Session", pc: int) -> int | None:
    """The function behind the stub at *pc*, which is ``jmp *SLOT``; None if there is none."""
    code = session.read(pc, 16)
    at = 0
    for prefix in _PREFIXES:
        if code.startswith(prefix, at):
            at += len(prefix)
    found = session.explainer.symbols.find(session.mm, pc)
    if found is None or found.image is None or not found.section.startswith((".plt", ".iplt")):
        return None
    mask = session.task.abi.mask
    displacement = int.from_bytes(code[at + 2 : at + 6], "little", signed=True)
    if code.startswith(b"\xff\x25", at):
        slot = pc + at + 6 + displacement if session.word == 8 else displacement
    elif code.startswith(b"\xff\xa3", at):
        slot = session.registers()[_RBX] + displacement
    else:
        return _second_stub(session, pc, found.image.slots_in_order)
    slot &= mask
    name = found.image.slots.get(slot - (pc - found.vaddr))
    target = int.from_bytes(session.read(slot, session.word), "little")
    behind = session.explainer.symbols.find(session.mm, target)
    if behind is not None and not behind.section.startswith(".plt"):
        return target
    return session.symbol(name) if name else None  # the slot is filled by the first call


def _second_stub(session: "Session", pc: int, names: list[str]) -> int | None:
    """With -z ibtplt a stub of .plt pushes the number of its slot, and jumps to the dynamic linker."""
    code = session.read(pc, 10)
    at = 4 if code[:4] in _PREFIXES else 0
    if code[at : at + 1] != b"\x68":
        return None
    number = int.from_bytes(code[at + 1 : at + 5], "little")
    number = number if session.word == 8 else number // 8
    return session.symbol(names[number]) if number < len(names) else None
