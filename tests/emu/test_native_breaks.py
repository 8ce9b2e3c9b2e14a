"""Breakpoints: the CPU stops in front of an address, with an exact count, and goes on as if nothing had been."""

import pytest

from emu.cpu import RAX, RBX, RIP
from emu.exits import BudgetSpent
from emu.paging import PagingMode
from emu.x86 import PAGE_SIZE, VirtAddr
from tests.emu.random_code import CODE, Program
from tests.emu.rig import MACHINE_IDS, MACHINES, RX, rig
from tests.emu.test_native_counting import FREE, IDS, INT80, Runner, always, cycle
from tests.emu.test_native_counting import MACHINES as COUNTED

AT = 0x40_0000
# mov eax, 0; L: add eax, 1; cmp eax, 5; jne L; mov ebx, eax; int 0x80
LOOP = bytes.fromhex("b800000000 83c001 83f805 75f8 89c3 cd80")


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=MACHINE_IDS)
def test_a_breakpoint_in_the_middle_of_a_block_stops_in_front_of_it(mode: PagingMode, bits: int) -> None:
    with rig(mode, bits) as it:
        it.code(AT, LOOP, flags=RX)
        it.begin(bits)
        it.cpu.regs[RIP] = AT
        it.cpu.set_break(VirtAddr(AT + 8), on=True)
        counts = []
        while it.cpu.run(FREE) == BudgetSpent():
            assert it.cpu.at_break
            it.cpu.at_break = False
            assert it.cpu.regs[RIP] == AT + 8
            counts.append((it.cpu.icount, it.cpu.regs[RAX]))
            assert it.cpu.step() == BudgetSpent()
        assert counts == [(2 + 3 * n, 1 + n) for n in range(5)]
        assert it.cpu.regs[RBX] == 5


def test_a_breakpoint_that_is_off_does_not_stop() -> None:
    with rig(*MACHINES[0]) as it:
        it.code(AT, LOOP, flags=RX)
        it.begin(64)
        it.cpu.regs[RIP] = AT
        it.cpu.set_break(VirtAddr(AT + 8), on=True)
        it.cpu.set_break(VirtAddr(AT + 8), on=False)
        assert it.cpu.run(FREE) == INT80
        assert it.cpu.icount == 1 + 3 * 5 + 2
        assert not it.cpu.at_break


def test_code_that_is_translated_already_learns_of_a_breakpoint() -> None:
    with rig(*MACHINES[0]) as it:
        it.code(AT, LOOP, flags=RX)
        it.begin(64)
        for _ in range(2):
            it.cpu.regs[RIP] = AT
            it.cpu.run(FREE)
        it.cpu.set_break(VirtAddr(AT + 13), on=True)
        it.cpu.regs[RIP] = AT
        it.cpu.run(FREE)
        assert it.cpu.at_break
        assert it.cpu.regs[RIP] == AT + 13


def test_flags_are_those_of_the_instruction_before() -> None:
    """The engine keeps flags lazily; a stop between CMP and JNE shows them computed."""
    with rig(*MACHINES[0]) as it:
        it.code(AT, LOOP, flags=RX)
        it.begin(64)
        it.cpu.regs[RIP] = AT
        it.cpu.set_break(VirtAddr(AT + 11), on=True)
        zero = []
        while it.cpu.run(FREE) == BudgetSpent():
            zero.append(bool(it.cpu.rflags & 0x40))
            it.cpu.step()
        assert zero == [False] * 4 + [True]


def test_a_breakpoint_in_a_block_that_reaches_into_a_missing_page_is_met() -> None:
    """Such a block is run by steps up to the fault; they do not go over the breakpoint."""
    code = b"\x90" * 7 + b"\xb8"
    start = AT + PAGE_SIZE - len(code)
    with rig(*MACHINES[0]) as it:
        it.code(start, code, flags=RX)
        it.begin(64)
        it.cpu.regs[RIP] = start
        it.cpu.set_break(VirtAddr(start + 3), on=True)
        assert it.cpu.run(FREE) == BudgetSpent()
        assert (it.cpu.at_break, it.cpu.regs[RIP], it.cpu.icount) == (True, start + 3, 3)


@pytest.mark.parametrize(("mode", "bits"), COUNTED, ids=IDS)
@pytest.mark.parametrize("seed", range(3))
def test_random_programs_with_breakpoints_everywhere_end_as_without(mode: PagingMode, bits: int, seed: int) -> None:
    program = Program(seed)
    machine = Runner(mode, bits)
    free = machine.run(program, always(FREE))

    for at in range(0, len(program.code), 37):
        machine.rig.cpu.set_break(VirtAddr(CODE + at), on=True)

    assert machine.run(program, cycle([FREE, 0])) == free
    machine.rig.close()
