"""What a trace says ran is what stepping says ran: every instruction, in its order, whatever interrupts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu.cpu import RCX, RDI, RIP
from emu.exits import PageFault, Syscall
from emu.paging import FOUR_LEVEL, PagingMode
from emu.trace import BlockCode, CpuTrace, FlowError, Piece, split_blocks, unpack_flow
from emu.x86 import PAGE_SIZE
from tests.emu.random_code import CODE, DATA, Program
from tests.emu.rig import RW, Rig, rig
from tests.emu.test_native_counting import FREE, IDS, MACHINES, Outcome, Runner, always, cycle

Instructions = list[tuple[int, int]]
"""(instruction count, address) of each."""


class Collector:
    """Takes pieces as they come, and spells them out."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def fetch(self, trace: CpuTrace) -> None:
        if (piece := trace.fetch()) is not None:
            self.pieces.append(piece)

    def blocks(self) -> BlockCode:
        every = [piece.new_blocks for piece in self.pieces]
        names = ("address", "size", "icount", "bits")
        columns = {name: np.concatenate([getattr(blocks, name) for blocks in every]) for name in names}
        return BlockCode(**columns, code=b"".join(blocks.code for blocks in every))

    def rows(self) -> Iterator[tuple[int, int, int, int]]:
        """(instruction count, block, retired, tag) of each block."""
        counts = self.blocks().icount
        for piece in self.pieces:
            flow, end = unpack_flow(piece.data, piece.start, piece.rows, counts)
            yield from zip(
                *(column.tolist() for column in (flow.icount, flow.block, flow.retired, flow.tag)), strict=True
            )
            assert end <= piece.end

    def instructions(self) -> Instructions:
        blocks = self.blocks()
        offsets = split_blocks(blocks).astype(np.uint64)
        first = np.concatenate([[0], np.cumsum(blocks.icount)])
        found = []
        for icount, block, retired, _ in self.rows():
            start, address = int(first[block]), int(blocks.address[block])
            found += [(icount + n, address + int(offsets[start + n])) for n in range(retired)]
        return found


@contextmanager
def traced(it: Rig, *, limit: int = 1 << 20) -> Iterator[Collector]:
    collector = Collector()
    trace = it.cpu.start_trace(collector.fetch, limit=limit)
    try:
        yield collector
        collector.fetch(trace)
    finally:
        trace.stop()


class Stepper:
    """A runner whose steps are written down."""

    def __init__(self, machine: Runner) -> None:
        self.machine = machine
        self.instructions: Instructions = []

    def run(self, program: Program) -> Outcome:
        cpu = self.machine.rig.cpu
        step = cpu.step
        start = cpu.icount

        def noted() -> Any:
            before, rip = cpu.icount, cpu.regs[RIP]
            exit_ = step()
            self.instructions += [(n - start, rip) for n in range(before, cpu.icount)]
            return exit_

        cpu.step = noted  # type: ignore[method-assign]
        try:
            return self.machine.run(program, always(0))
        finally:
            del cpu.step


_machines: dict[tuple[str, int], Runner] = {}


def machine_for(mode: PagingMode, bits: int) -> Runner:
    if (mode.name, bits) not in _machines:
        _machines[mode.name, bits] = Runner(mode, bits)
    return _machines[mode.name, bits]


def trace_of(machine: Runner, program: Program, budgets: Any, *, limit: int = 1 << 20) -> tuple[Outcome, Instructions]:
    start = machine.rig.cpu.icount
    with traced(machine.rig, limit=limit) as collector:
        outcome = machine.run(program, budgets)
    return outcome, [(icount - start, address) for icount, address in collector.instructions()]


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=IDS)
@pytest.mark.parametrize("seed", range(100, 106))
def test_the_traced_instructions_of_a_random_program_are_those_of_its_steps(
    mode: PagingMode, bits: int, seed: int
) -> None:
    program = Program(seed)
    machine = machine_for(mode, bits)
    stepper = Stepper(machine)
    stepped = stepper.run(program)

    for budgets in (always(FREE), always(1), always(37), cycle([0, 0, 0, 5, 1000]), always(0)):
        outcome, instructions = trace_of(machine, program, budgets)

        assert outcome == stepped
        assert instructions == stepper.instructions


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 32),
    budgets=st.lists(st.one_of(st.integers(0, 30), st.integers(1, 10**6)), min_size=1, max_size=12).filter(any),
    machine=st.sampled_from(MACHINES),
    limit=st.sampled_from((1, 100, 1 << 20)),
)
def test_slices_steps_and_full_rings_change_neither_the_run_nor_the_trace(
    seed: int, budgets: list[int], machine: tuple[PagingMode, int], limit: int
) -> None:
    program = Program(seed, nr_blocks=12, fuel=40)
    it = machine_for(*machine)
    stepper = Stepper(it)
    stepped = stepper.run(program)

    assert trace_of(it, program, cycle(budgets), limit=limit) == (stepped, stepper.instructions)


def test_without_a_trace_nothing_is_noted_and_blocks_count_themselves_again() -> None:
    with rig() as it:
        it.code(CODE, LOOP)
        with traced(it):
            it.run(CODE)
        before = it.cpu.nr_inlined
        assert it.cpu.trace is None

        assert it.run(CODE) == it.run(CODE)
        assert it.cpu.nr_inlined > before


LOOP = bytes.fromhex("b988130000 01c8 ffc9 75fa cd80")
"""Mov ecx, 5000; l: add eax, ecx; dec ecx; jnz l; int 0x80."""


@pytest.mark.parametrize(("mode", "bits"), [*MACHINES, (FOUR_LEVEL, 32)])
@pytest.mark.parametrize("inlining", [True, False])
def test_a_loop_takes_hardly_any_bytes(mode: PagingMode, bits: int, inlining: bool) -> None:
    with rig(mode, bits) as it:
        it.code(CODE, LOOP)
        it.cpu.set_inlining(on=inlining)
        with traced(it) as collector:
            it.run(CODE)

        assert sum(len(piece.data) for piece in collector.pieces) < 60
        assert len(collector.instructions()) == 1 + 3 * 5000 + 1


@pytest.mark.parametrize("budget", [FREE, 1, 0])
def test_each_turn_of_a_rep_is_an_instruction(budget: int) -> None:
    """Nop; rep stosb: so many turns, and one that finds the counter at zero; the fault in its middle is not one."""
    with rig() as it:
        it.code(CODE, b"\x90\xf3\xaa\xcd\x80")
        it.map(DATA, None, RW)
        cpu = it.cpu
        cpu.regs[RIP], cpu.regs[RCX], cpu.regs[RDI] = CODE, 200, DATA + PAGE_SIZE - 100
        with traced(it) as collector:
            while not isinstance(exit_ := cpu.run(budget) if budget else cpu.step(), Syscall):
                if isinstance(exit_, PageFault):
                    it.map(DATA + PAGE_SIZE, None, RW)

        addresses = [address for _, address in collector.instructions()]
        assert addresses == [CODE] + [CODE + 1] * 201 + [CODE + 3]


def test_an_instruction_that_the_kernel_executes_is_in_the_trace() -> None:
    with rig() as it:
        it.code(CODE, b"\x90\xf4\x90\xcd\x80")  # nop; hlt, which faults; nop
        with traced(it) as collector:
            it.run(CODE)
            it.cpu.regs[RIP] += 1
            it.cpu.icount += 1
            it.cpu.run(FREE)

        assert [address - CODE for _, address in collector.instructions()] == [0, 1, 2, 3]
        assert [icount for icount, _ in collector.instructions()] == [0, 1, 2, 3]


def test_code_that_changes_is_in_the_trace_as_it_was_when_it_ran() -> None:
    """The same address, first `mov eax, imm32`, then five nops; the host changed it."""
    with rig() as it:
        frame = it.code(CODE, b"\xb8\x01\x00\x00\x00\xcd\x80")
        it.code(CODE + PAGE_SIZE, LOOP)
        it.run(CODE + PAGE_SIZE)
        with traced(it) as collector:
            it.run(CODE)
            it.ram.write(frame, b"\x90" * 5)
            it.changed(frame)
            it.run(CODE)
            it.run(CODE)

        assert [address - CODE for _, address in collector.instructions()] == [0, 5, *range(6), *range(6)]
        assert collector.blocks().code == b"\xb8\x01\x00\x00\x00\xcd\x80" + b"\x90" * 5 + b"\xcd\x80"


@pytest.mark.parametrize("budget", [FREE, 1, 0])
def test_only_blocks_in_the_ranges_are_kept_and_the_count_goes_on(budget: int) -> None:
    with rig() as it:
        it.code(CODE, b"\x90\xe9\xfa\x0f\x00\x00")  # nop; jmp to the next page
        it.code(CODE + PAGE_SIZE, b"\x90\x90\xcd\x80")
        it.cpu.regs[RIP] = CODE
        collector = Collector()
        trace = it.cpu.start_trace(collector.fetch)
        trace.set_ranges([(0, 1), (CODE + PAGE_SIZE, CODE + PAGE_SIZE + 1)])
        while not isinstance(it.cpu.run(budget) if budget else it.cpu.step(), Syscall):
            pass
        kept = [(2, CODE + PAGE_SIZE), (3, CODE + PAGE_SIZE + 1), (4, CODE + PAGE_SIZE + 2)]
        trace.set_ranges([])
        it.run(CODE)
        trace.set_ranges(None)
        it.run(CODE + PAGE_SIZE)
        collector.fetch(trace)

        # A step is a block of its own.
        assert collector.instructions()[:-3] == (kept if budget else kept[:1])
        assert [icount for icount, _ in collector.instructions()][-3:] == [10, 11, 12]


def test_each_block_belongs_to_the_task_in_the_cpu_and_unwanted_tasks_leave_a_gap() -> None:
    with rig() as it:
        it.code(CODE, b"\x90\xcd\x80")
        collector = Collector()
        trace = it.cpu.start_trace(collector.fetch)
        for tag, on in ((7, True), (8, False), (9, True), (9, True), (7, True)):
            trace.set_task(tag, on=on)
            it.run(CODE)
        collector.fetch(trace)

        assert [(icount, tag) for icount, _, _, tag in collector.rows()] == [(0, 7), (4, 9), (6, 9), (8, 7)]


def packed_run(code: bytes = LOOP) -> tuple[Piece, BlockCode]:
    with rig() as it:
        it.code(CODE, code)
        with traced(it) as collector:
            it.run(CODE)
        return collector.pieces[0], collector.blocks()


@pytest.mark.parametrize("rows", [0, 1, 4999, 5002, 1 << 24, (1 << 24) + 1, -1])
def test_a_piece_with_another_number_of_blocks_is_refused(rows: int) -> None:
    piece, blocks = packed_run()
    with pytest.raises(FlowError):
        unpack_flow(piece.data, piece.start, rows, blocks.icount)


def test_damaged_pieces_are_refused_or_read_but_never_crash() -> None:
    piece, blocks = packed_run(Program(3).code)
    flow, end = unpack_flow(piece.data, piece.start, piece.rows, blocks.icount)
    refused = 0
    for at in range(len(piece.data)):
        for damaged in (
            piece.data[:at],
            piece.data[:at] + bytes([piece.data[at] ^ 1 << at % 8]) + piece.data[at + 1 :],
            piece.data[:at] + b"\xff" * 12 + piece.data[at:],
        ):
            try:
                unpack_flow(damaged, piece.start, piece.rows, blocks.icount)
            except FlowError:
                refused += 1
    assert refused > len(piece.data)
    assert unpack_flow(piece.data, piece.start, piece.rows, blocks.icount)[1] == end
    with pytest.raises(FlowError):
        unpack_flow(piece.data, piece.start, piece.rows, blocks.icount[: int(flow.block.max())])


@pytest.mark.parametrize("change", ["icount", "size"])
def test_blocks_whose_code_is_another_are_refused(change: str) -> None:
    _, blocks = packed_run()
    columns = {name: getattr(blocks, name).copy() for name in ("address", "size", "icount", "bits")}
    columns[change][0] += 9
    with pytest.raises(FlowError):
        split_blocks(BlockCode(**columns, code=blocks.code))
