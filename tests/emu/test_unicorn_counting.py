"""Counting instructions: budgets, steps, REP.

Facts of Unicorn, one test each; the traps have the numbers of "Quirks" in emu/README.md.
"""

from typing import Any

import pytest
from unicorn import UC_HOOK_BLOCK, UC_HOOK_CODE, UC_HOOK_EDGE_GENERATED

from tests.emu.lab import CODE, CODE_FRAME, DATA, DONE, Lab

LOOP = bytes.fromhex("b9 03000000 ffc9 75fc")  # mov ecx, 3; dec ecx; jnz


def count_blocks(lab: Lab, code: bytes, **registers: int) -> tuple[list[int], list[int], int]:
    """Addresses of blocks and of instructions of one run, and the sum of the blocks' instruction counts."""
    sizes: dict[tuple[int, int], int] = {}
    blocks: list[int] = []
    retired = 0

    def on_edge(_uc: Any, block: Any, _previous: Any, _data: Any) -> None:
        sizes[block.pc, block.size] = block.icount

    def on_block(_uc: Any, address: int, size: int, _data: Any) -> None:
        nonlocal retired
        blocks.append(address)
        retired += sizes[address, size]

    instructions: list[int] = []
    lab.hook(UC_HOOK_EDGE_GENERATED, on_edge)
    lab.hook(UC_HOOK_BLOCK, on_block)
    assert lab.execute(code, **registers).vector == DONE
    lab.hook(UC_HOOK_CODE, lambda _uc, address, _size, _data: instructions.append(address))
    free = list(blocks), retired
    assert lab.execute(code, **registers).vector == DONE
    return free[0], instructions, free[1]


def steps(lab: Lab, code: bytes, **registers: int) -> int:
    """How many count=1 steps *code* takes, with its int 0x80."""
    stop = lab.execute(code, count=1, **registers)
    number = 1
    while stop.vector != DONE:
        stop = lab.call(stop.rip, count=1)
        number += 1
    return number


def test_trap_8_edges_tell_the_instruction_count_of_each_block() -> None:
    blocks, instructions, retired = count_blocks(Lab(), LOOP)

    assert blocks == [CODE, CODE + 5, CODE + 5, CODE + 9]
    assert retired == len(instructions) == steps(Lab(), LOOP) == 8


def test_trap_8_count_is_exact() -> None:
    lab = Lab()
    lab.put_code(CODE_FRAME, LOOP + b"\xcd\x80")

    assert lab.call(CODE, count=4).rip == CODE + 7
    assert lab["ecx"] == 1


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_trap_8_a_stop_in_a_block_hook_stops_in_front_of_the_block(budget: int) -> None:
    """The same boundary each time."""
    lab = Lab()
    left = budget

    def on_block(uc: Any, _address: int, _size: int, _data: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            uc.emu_stop()

    lab.hook(UC_HOOK_BLOCK, on_block)
    seen = set()
    for _ in range(3):
        left = budget
        lab.put_code(CODE_FRAME, LOOP + b"\xcd\x80")
        seen.add((lab.call(CODE).rip, lab["ecx"]))

    assert seen == {{1: (CODE + 5, 2), 2: (CODE + 5, 1), 3: (CODE + 9, 0)}[budget]}


@pytest.mark.parametrize("code", [b"\xf3\xa4", b"\xf3\xaa", b"\x90\xf3\x48\xab\x90", b"\xf2\xae"], ids=bytes.hex)
@pytest.mark.parametrize("elements", [0, 1, 2, 10])
def test_rep_counts_one_instruction_an_element_and_one_for_the_end(code: bytes, elements: int) -> None:
    """The same number by blocks, by a code hook and by steps."""
    registers = {"rsi": DATA, "rdi": DATA + 0x800, "rcx": elements, "rax": 0x41}
    others = 3 if code[0] == 0x90 else 1

    _, instructions, retired = count_blocks(Lab(), code, **registers)

    assert retired == len(instructions) == steps(Lab(), code, **registers) == others + elements + 1


def test_rep_that_ends_by_the_flag_counts_its_elements_only() -> None:
    registers = {"rdi": DATA, "rcx": 10, "rax": 0x41}  # repe scasb: the first byte differs

    _, instructions, retired = count_blocks(Lab(), b"\xf3\xae", **registers)

    assert retired == len(instructions) == steps(Lab(), b"\xf3\xae", **registers) == 2
