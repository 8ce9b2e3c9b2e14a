"""REP MOVS and REP STOS in bulk: the same memory, registers and counts as one element at a time."""

import random

import pytest

from emu.cpu import RAX, RCX, RDI, RIP, RSI
from emu.exits import BudgetSpent, CpuException, PageFault
from emu.paging import FOUR_LEVEL, PAE, TWO_LEVEL, PagingMode
from emu.x86 import PAGE_SIZE, VEC_BP, PhysAddr, VirtAddr
from tests.emu.rig import RW, Rig

CODE, DATA, PAGES = 0x40_0000, 0x50_0000, 4
KINDS = {"movsb": "f3a4", "movsw": "66f3a5", "movsd": "f3a5", "stosb": "f3aa", "stosw": "66f3ab", "stosd": "f3ab"}
MACHINES = [(FOUR_LEVEL, 64), (FOUR_LEVEL, 32), (PAE, 32), (TWO_LEVEL, 32)]


class Machine:
    """One rig with *PAGES* pages of data, mapped when they fault."""

    def __init__(self, mode: PagingMode, bits: int, *, bulk: bool) -> None:
        self.rig = Rig(mode, bits)
        self.bits = bits
        self.rig.cpu.set_inlining(on=bulk)

    def run(self, code: bytes, registers: dict[int, int], content: bytes, slices: int) -> tuple[object, ...]:
        """What a run of *code* leaves: count, registers, memory, and where it faulted."""
        rig, cpu = self.rig, self.rig.cpu
        root = rig.new_root()
        rig.code(VirtAddr(CODE), code + b"\xcc", root=root)
        frames = [rig.frame() for _ in range(PAGES)]
        for index, frame in enumerate(frames):
            rig.ram.write(PhysAddr(frame), content[index * PAGE_SIZE : (index + 1) * PAGE_SIZE])
        rig.begin(self.bits, root)
        for register, value in registers.items():
            cpu.regs[register] = value
        cpu.regs[RIP] = CODE
        start, faults = cpu.icount, []
        while True:
            match cpu.run(slices):
                case BudgetSpent():
                    continue
                case PageFault(address=address):
                    page = address & -PAGE_SIZE
                    if not DATA <= page < DATA + PAGES * PAGE_SIZE:
                        break
                    faults.append((address, cpu.icount - start))
                    rig.map(page, frames[(page - DATA) // PAGE_SIZE], RW, root=root)
                case CpuException(vector=vector):
                    assert vector == VEC_BP
                    break
                case other:
                    pytest.fail(f"{other}")
        memory = b"".join(rig.ram.read(PhysAddr(frame), PAGE_SIZE) for frame in frames)
        return cpu.icount - start, tuple(cpu.regs[i] for i in (RCX, RSI, RDI)), memory, tuple(faults)


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=lambda value: getattr(value, "name", value))
def test_bulk_is_element_by_element(mode: PagingMode, bits: int) -> None:
    """Random places, overlaps, lengths and slices, over page ends and off the mapped memory."""
    draw = random.Random(7)
    for kind in [*KINDS, "movsq", "stosq"][: 8 if bits == 64 else 6]:
        code = bytes.fromhex(KINDS.get(kind) or {"movsq": "f348a5", "stosq": "f348ab"}[kind])
        one, many = Machine(mode, bits, bulk=False), Machine(mode, bits, bulk=True)
        try:
            for _ in range(8):
                target = DATA + draw.randrange(PAGES * PAGE_SIZE)
                source = draw.choice([target + draw.randrange(-40, 40), DATA + draw.randrange(PAGES * PAGE_SIZE)])
                registers = {
                    RAX: draw.getrandbits(bits),
                    RCX: draw.choice([0, 1, 9, 10, draw.randrange(9000)]),
                    RSI: min(max(source, DATA), DATA + PAGES * PAGE_SIZE - 1),
                    RDI: target,
                }
                content = draw.randbytes(PAGES * PAGE_SIZE)
                slices = draw.choice([1, 9, 100, 4096, 1 << 40])

                assert many.run(code, registers, content, slices) == one.run(code, registers, content, 1 << 40)
        finally:
            one.rig.close()
            many.rig.close()


@pytest.mark.parametrize("prefix", ["std", "gs", "addr32"])
def test_what_is_not_plain_is_left_to_the_engine(prefix: str) -> None:
    code = {"std": b"\xfd\xf3\xa4\xfc", "gs": b"\x65\xf3\xa4", "addr32": b"\x67\xf3\xa4"}[prefix]
    registers = {RCX: 3000, RSI: DATA + 9000, RDI: DATA + 12000}
    content = bytes(range(256)) * 64
    one, many = Machine(FOUR_LEVEL, 64, bulk=False), Machine(FOUR_LEVEL, 64, bulk=True)
    try:
        assert many.run(code, registers, content, 500) == one.run(code, registers, content, 1 << 40)
    finally:
        one.rig.close()
        many.rig.close()
