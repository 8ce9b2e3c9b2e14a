"""Blocks that count themselves: the engine's calls are recognised and replaced, and nothing else changes."""

import pytest

from emu.cpu import RCX, RIP, RSP
from emu.exits import BudgetSpent, Syscall
from emu.paging import FOUR_LEVEL, PAE, TWO_LEVEL, PagingMode
from emu.x86 import VirtAddr
from tests.emu.rig import RW, Rig

# mov ecx, 5000; l: add eax, ecx; dec ecx; jnz l; int 0x80
LOOP = bytes.fromhex("b988130000 01c8 ffc9 75fa cd80")
LOOP_ICOUNT = 1 + 3 * 5000 + 1
PLACES = {  # where pc needs four bytes, a sign-extended word, and eight bytes in the engine's code
    "low": 0x40_0000,
    "above 2 GiB": 0x9000_0000,
    "above 4 GiB": 0x5555_5555_4000,
}


def run_loop(rig: Rig, place: int, slices: int) -> int:
    """Instructions that the loop retires at *place*, run in slices."""
    cpu = rig.cpu
    start = cpu.icount
    cpu.regs[RIP] = place
    while True:
        match cpu.run(slices):
            case Syscall():
                return cpu.icount - start
            case BudgetSpent():
                continue
            case other:
                pytest.fail(f"{other}")


@pytest.mark.parametrize(("mode", "bits"), [(FOUR_LEVEL, 64), (FOUR_LEVEL, 32), (PAE, 32), (TWO_LEVEL, 32)])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_loop_is_recognised_and_counted_the_same(mode: PagingMode, bits: int, place: int) -> None:
    """An engine that lays its calls out otherwise would show here: nothing would be inlined."""
    if bits == 32 and place >= 1 << 32:
        place = 0x7000_0000
    rig = Rig(mode, bits)
    try:
        root = rig.new_root()
        rig.code(VirtAddr(place), LOOP, root=root)
        stack = 0x1000_0000
        rig.map(stack, None, RW, root=root)
        rig.begin(bits, root)
        rig.cpu.regs[RSP] = stack + 0x800

        for slices in (1 << 40, 1, 7, 1000):
            assert run_loop(rig, place, slices) == LOOP_ICOUNT
        assert rig.cpu.nr_inlined >= 2
        assert rig.cpu.regs[RCX] == 0
    finally:
        rig.close()


def test_without_inlining_the_count_is_the_same() -> None:
    rig = Rig(FOUR_LEVEL, 64)
    try:
        root = rig.new_root()
        rig.code(VirtAddr(PLACES["low"]), LOOP, root=root)
        rig.begin(64, root)
        rig.cpu.set_inlining(on=False)

        assert run_loop(rig, PLACES["low"], 1 << 40) == LOOP_ICOUNT
        assert rig.cpu.nr_inlined == 0
    finally:
        rig.close()
