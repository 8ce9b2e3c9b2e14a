"""Machine code as text.  The only file that imports capstone, and only when something is to be shown.

A disassembler answers people's questions (crash reports, the debugger, traces); nothing the guest does depends on it.
"""

from dataclasses import dataclass
from typing import Any, Final

from emu.x86 import VirtAddr

MAX_INSN_LENGTH: Final = 15  # bytes; SDM vol. 2A, 2.3.11

_decoders: dict[tuple[int, bool], Any] = {}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, or one byte that is none (mnemonic ``.byte``, as the GNU tools write it)."""

    address: VirtAddr
    size: int  # bytes
    bytes: bytes
    mnemonic: str
    op_str: str  # the operands, in Intel's syntax

    @property
    def text(self) -> str:
        """Mnemonic and operands."""
        return f"{self.mnemonic} {self.op_str}" if self.op_str else self.mnemonic

    @property
    def is_valid(self) -> bool:
        """Whether the bytes are an instruction at all."""
        return self.mnemonic != ".byte"


@dataclass(frozen=True, slots=True)
class Load:
    """A memory operand that an instruction reads: *size* bytes at segment : base + index * scale + displacement.

    Registers by their names, empty for none.  *is_stable*: the instruction writes none of them.
    """

    size: int
    segment: str
    base: str
    index: str
    scale: int
    displacement: int
    is_stable: bool


def loads(code: bytes, address: VirtAddr, *, bits: int) -> list[Load]:
    """The memory operands that the instruction at the beginning of *code* reads; not those that it implies."""
    import capstone

    insn: Any = next(_decoder(bits, detail=True).disasm(code, address, 1), None)
    if insn is None:
        return []
    written = {register for registers in insn.regs_access()[1:] for register in registers}
    return [
        Load(
            operand.size,
            insn.reg_name(operand.mem.segment) or "",
            insn.reg_name(operand.mem.base) or "",
            insn.reg_name(operand.mem.index) or "",
            operand.mem.scale,
            operand.mem.disp,
            not written & {operand.mem.base, operand.mem.index},
        )
        for operand in insn.operands
        if operand.type == capstone.x86.X86_OP_MEM and operand.access & capstone.CS_AC_READ
    ]


def disassemble(code: bytes, address: VirtAddr, *, bits: int, count: int = 0) -> list[Instruction]:
    """The first *count* instructions of *code* (0: all) as they stand at *address*, decoded as *bits*-bit code.

    A byte that starts no instruction is shown as ``.byte`` and the next one is tried; so is an instruction that *code*
    cuts off.  The addresses always add up: each instruction begins where the one before ends.
    """
    decoder = _decoder(bits)
    result: list[Instruction] = []
    offset = 0
    while offset < len(code) and (not count or len(result) < count):
        window = code[offset:]
        decoded = 0
        for insn_address, size, mnemonic, op_str in decoder.disasm_lite(
            window, address + offset, count - len(result) if count else 0
        ):
            raw = code[insn_address - address : insn_address - address + size]
            result.append(Instruction(VirtAddr(insn_address), size, raw, mnemonic, op_str))
            decoded += size
        offset += decoded
        if offset < len(code) and (not count or len(result) < count):
            byte = code[offset : offset + 1]
            result.append(Instruction(VirtAddr(address + offset), 1, byte, ".byte", f"0x{byte[0]:02x}"))
            offset += 1
    return result


def instruction_length(code: bytes, *, bits: int) -> int:
    """Length in bytes of the instruction that *code* begins with; 0 if it begins with none, or is cut off."""
    first = disassemble(code[:MAX_INSN_LENGTH], VirtAddr(0), bits=bits, count=1)
    return first[0].size if first and first[0].is_valid else 0


def _decoder(bits: int, *, detail: bool = False) -> Any:
    """Capstone's handle for a code size; made once, for it costs a millisecond."""
    assert bits in {16, 32, 64}, f"_decoder: there is no {bits}-bit code"
    if (bits, detail) not in _decoders:
        import capstone

        mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[bits]
        factory: Any = capstone.Cs  # capstone has no types
        decoder = factory(capstone.CS_ARCH_X86, mode)
        decoder.detail = detail  # the operands' parts, at ten times the price
        _decoders[bits, detail] = decoder
    return _decoders[bits, detail]
