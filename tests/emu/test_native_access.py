"""Every load and store is in the trace: where, how much, what; as the engine's own hooks tell it, and as RAM shows."""

from typing import Any

import pytest
from unicorn import UC_HOOK_CODE, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE, UC_MEM_WRITE
from unicorn import x86_const as reg

from emu.cpu import RAX, RCX, RDI, RIP, RSI, RSP
from emu.exits import BudgetSpent, PageFault, Syscall
from emu.paging import PagingMode
from emu.trace import FlowError, Memory, Piece, unpack_accesses
from emu.x86 import PAGE_SIZE, PhysAddr
from tests.emu.bare import Bare
from tests.emu.random_code import CODE, DATA, END, NR_DATA_PAGES, STACK, Program
from tests.emu.rig import RW, RWX, Rig, rig
from tests.emu.test_native_counting import FREE, IDS, MACHINES, always, cycle
from tests.emu.test_native_trace import Collector, machine_for

Access = tuple[int, int, int, int, bool]
"""(instruction count, address, bytes, value, is a store)."""

_CODE_FRAME, _DATA_FRAME, _STACK_FRAME = 0x10_0000, 0x20_0000, 0x30_0000
_WHERE = ((_CODE_FRAME, CODE), (_DATA_FRAME, DATA), (_STACK_FRAME, STACK - PAGE_SIZE))


def hooked(program: Program, mode: PagingMode, bits: int) -> list[Access]:
    """What hooks on every instruction and access of a bare engine see."""
    bare = Bare(mode, bits=bits)
    root = bare.new_table()
    for page in range(16):
        bare.map_page(root, CODE + page * PAGE_SIZE, _CODE_FRAME + page * PAGE_SIZE, RWX)
    writable = RW if mode.has_nx else RWX
    for page in range(NR_DATA_PAGES):
        bare.map_page(root, DATA + page * PAGE_SIZE, _DATA_FRAME + page * PAGE_SIZE, writable)
    bare.map_page(root, STACK - PAGE_SIZE, _STACK_FRAME, writable)
    for page in (0x1000, 0x2000, 0x3000):
        bare.map_page(root, page, page, RWX)
    bare.put(_CODE_FRAME, program.code)
    bare.set_root(root)
    found: list[Access] = []
    count, last = 0, -1

    def on_code(_uc: Any, address: int, _size: int, _data: Any) -> None:
        """A store into its own block runs twice: given up, and again in a block of its own.  Only REPs repeat."""
        nonlocal count, last
        if address != last or bare.ram.view8[address - CODE + _CODE_FRAME] in {0xF2, 0xF3}:
            count += 1
        else:
            while found and found[-1][0] == count - 1:
                found.pop()
        last = address

    def on_access(_uc: Any, kind: int, phys: int, size: int, value: int, _data: Any) -> None:
        if phys < _CODE_FRAME:
            return  # a descriptor
        if kind != UC_MEM_WRITE:
            value = int.from_bytes(bare.ram.read(PhysAddr(phys), size), "little")
        frame, address = next(pair for pair in reversed(_WHERE) if phys >= pair[0])
        found.append((count - 1, phys - frame + address, size, value & (1 << 8 * size) - 1, kind == UC_MEM_WRITE))

    bare.hook(UC_HOOK_CODE, on_code)
    bare.hook(UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, on_access)
    bare.uc.reg_write(bare.sp, STACK - 0x100)
    for register in (reg.UC_X86_REG_EAX, reg.UC_X86_REG_EBX, reg.UC_X86_REG_EDX, reg.UC_X86_REG_ECX):
        bare.uc.reg_write(register, 0)
    rip = CODE
    while True:
        stop = bare.run(rip)
        assert stop.vector == 0x80, stop
        rip = stop.rip
        if bare.uc.reg_read(reg.UC_X86_REG_EAX) == END:
            return found


def unpack(pieces: list[Piece]) -> list[Memory]:
    return [
        unpack_accesses(b"".join(p.access_columns), [len(c) for c in p.access_columns], p.start, p.accesses)
        for p in pieces
    ]


def rows(pieces: list[Piece], start: int = 0) -> list[Access]:
    return [
        (icount - start, address, size, value, bool(store))
        for memory in unpack(pieces)
        for icount, address, size, value, store in zip(
            *(c.tolist() for c in (memory.icount, memory.address, memory.size, memory.value, memory.store)), strict=True
        )
    ]


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=IDS)
@pytest.mark.parametrize("seed", range(200, 204))
def test_the_accesses_of_a_random_program_are_those_that_hooks_see(mode: PagingMode, bits: int, seed: int) -> None:
    """Faults, REP, code that changes itself, system calls; in slices, steps, and with a ring that is always full."""
    program = Program(seed)
    machine = machine_for(mode, bits)
    plain = machine.run(program, always(FREE))
    expected = hooked(program, mode, bits)

    for budgets, limit in ((always(FREE), 1 << 20), (always(37), 1), (always(0), 1), (cycle([0, 0, 5, 1000]), 300)):
        collector = Collector()
        start = machine.rig.cpu.icount
        trace = machine.rig.cpu.start_trace(collector.fetch, limit=limit, accesses=True)
        outcome = machine.run(program, budgets)
        collector.fetch(trace)
        trace.stop()

        assert outcome == plain
        assert rows(collector.pieces, start) == expected


def accesses(it: Rig, code: bytes, *, budget: int = FREE, **registers: int) -> list[tuple[int, int, int, bool]]:
    """(address, bytes, value, is a store) of what *code* does, run at CODE."""
    it.code(CODE, code + b"\xcd\x80")
    names = {"rax": RAX, "rcx": RCX, "rdi": RDI, "rsi": RSI, "rsp": RSP}
    for name, value in registers.items():
        it.cpu.regs[names[name]] = value
    collector = Collector()
    it.cpu.regs[RIP] = CODE
    trace = it.cpu.start_trace(collector.fetch, accesses=True)
    while not isinstance(exit_ := it.cpu.run(budget) if budget else it.cpu.step(), Syscall):
        assert isinstance(exit_, BudgetSpent), exit_
    collector.fetch(trace)
    trace.stop()
    return [row[1:] for row in rows(collector.pieces)]


ONES = 0x1111_1111_1111_1111


@pytest.mark.parametrize("budget", [FREE, 1, 0])
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (b"\x48\x89\x07", [(0, 8, ONES, True)]),  # mov [rdi], rax
        (b"\x89\x47\x03", [(3, 4, ONES & 0xFFFF_FFFF, True)]),  # not aligned
        (b"\x48\x89\x87\xfd\x0f\x00\x00", [(0xFFD, 8, ONES, True)]),  # over the edge of a page
        (b"\x48\x8b\x87\xfd\x0f\x00\x00", [(0xFFD, 8, 0, False)]),
        (b"\x48\x01\x07", [(0, 8, 0, False), (0, 8, ONES, True)]),  # add [rdi], rax
        (b"\xf0\x48\x0f\xc1\x07", [(0, 8, 0, False), (0, 8, ONES, True)]),  # lock xadd
        (b"\x0f\x29\x07", [(0, 8, 0, True), (8, 8, 0, True)]),  # movaps [rdi], xmm0
        (b"\xd9\xe8\xdb\x3f", [(0, 8, 1 << 63, True), (8, 2, 0x3FFF, True)]),  # fld1; fstp tbyte [rdi]
        (b"\xd9\xe8\xdb\x7f\x01", [(1, 8, 1 << 63, True), (9, 2, 0x3FFF, True)]),  # the same, not aligned
        (b"\x0f\xc7\x0f", [(0, 8, 0, False), (0, 8, 0, True)]),  # cmpxchg8b: stores what it found
        (b"\x66\x0f\x3a\x14\x07\x00", [(0, 1, 0, True)]),  # pextrb
        (b"\x0f\x38\xf1\x07", [(0, 4, ONES & 0xFFFF_FFFF, True)]),  # movbe
        (b"\xaa\xab", [(0, 1, 0x11, True), (1, 4, ONES & 0xFFFF_FFFF, True)]),  # stosb; stosd
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else "",
)
def test_accesses_are_told_as_the_engine_makes_them(
    budget: int, code: bytes, expected: list[tuple[int, int, int, bool]]
) -> None:
    with rig() as it:
        it.map(DATA, None, RW)
        it.map(DATA + PAGE_SIZE, None, RW)
        found = accesses(it, code, budget=budget, rax=ONES, rdi=DATA)

        assert found == [(DATA + offset, *rest) for offset, *rest in expected]


@pytest.mark.parametrize("budget", [FREE, 0])
def test_a_pushed_flag_is_not_that_of_our_step(budget: int) -> None:
    with rig() as it:
        it.map(STACK - PAGE_SIZE, None, RW)
        ((address, size, value, store),) = accesses(it, b"\x9c", budget=budget, rsp=STACK)

        assert (address, size, store) == (STACK - 8, 8, True)
        assert not value & 0x100


def test_physical_addresses_are_those_of_the_page_tables() -> None:
    """Two addresses of one frame, and the first again in another frame."""
    with rig() as it:
        frame = it.map(DATA, None, RW)
        it.map(DATA + PAGE_SIZE, frame, RW)
        it.code(CODE, b"\x88\x07\x88\x87\x00\x10\x00\x00\xcd\x80")  # mov [rdi], al; mov [rdi + 4096], al
        it.cpu.regs[RDI] = DATA + 5
        collector = Collector()
        trace = it.cpu.start_trace(collector.fetch, accesses=True)
        it.run(CODE)
        other = it.map(DATA, None, RW)
        it.cpu.flush_tlb()
        it.run(CODE)
        collector.fetch(trace)
        trace.stop()

        assert [phys for memory in unpack(collector.pieces) for phys in memory.physical.tolist()] == [
            frame + 5, frame + 5, other + 5, frame + 5
        ]  # fmt: skip


def test_an_instruction_that_faults_after_its_load_has_done_nothing() -> None:
    """Push [rdi] with no stack: the load is made, the store is not, and both again once there is one."""
    with rig() as it:
        it.map(DATA, None, RW)
        it.code(CODE, b"\x90\xff\x37\xcd\x80")
        it.cpu.regs[RDI], it.cpu.regs[RSP], it.cpu.regs[RIP] = DATA, STACK, CODE
        collector = Collector()
        trace = it.cpu.start_trace(collector.fetch, accesses=True)
        assert isinstance(it.cpu.run(FREE), PageFault)
        it.map(STACK - PAGE_SIZE, None, RW)
        assert isinstance(it.cpu.run(FREE), Syscall)
        collector.fetch(trace)
        trace.stop()

        assert rows(collector.pieces) == [(1, DATA, 8, 0, False), (1, STACK - 8, 8, 0, True)]


def test_places_keep_code_and_what_it_touches_and_data_and_who_touches_it() -> None:
    with rig() as it:
        it.map(DATA, None, RW)
        it.code(CODE, b"\x88\x07\xe9\xf9\x0f\x00\x00")  # mov [rdi], al; jmp to the next page
        it.code(CODE + PAGE_SIZE, b"\x88\x47\x01\x8a\x47\x02\xcd\x80")  # mov [rdi + 1], al; mov al, [rdi + 2]
        it.cpu.regs[RDI] = DATA
        found = []
        for ranges in ([(DATA + 2, DATA + 3)], [(CODE, CODE + 1)], [(DATA + 9, DATA + 10)]):
            collector = Collector()
            trace = it.cpu.start_trace(collector.fetch, accesses=True)
            trace.set_ranges(ranges)
            it.run(CODE)
            collector.fetch(trace)
            trace.stop()
            found.append(
                (
                    [address - DATA for _, address, *_ in rows(collector.pieces)],
                    [p for _, p in collector.instructions()],
                )
            )

        second = [CODE + PAGE_SIZE, CODE + PAGE_SIZE + 3, CODE + PAGE_SIZE + 6]
        assert found == [([2], second), ([0], [CODE, CODE + 2]), ([], [])]


def test_after_a_trace_the_machine_is_as_before_and_other_machines_are_not_noted() -> None:
    with rig() as traced, rig() as other:
        for it in (traced, other):
            it.map(DATA, None, RW)
            it.code(CODE, b"\x88\x07\xcd\x80")
            it.cpu.regs[RDI] = DATA
        collector = Collector()
        trace = traced.cpu.start_trace(collector.fetch, accesses=True)
        other.run(CODE)
        traced.run(CODE)
        second = Collector()
        beside = other.cpu.start_trace(second.fetch, accesses=True)
        other.run(CODE)
        collector.fetch(trace)
        trace.stop()
        traced.run(CODE)
        other.run(CODE)
        second.fetch(beside)
        beside.stop()
        other.run(CODE)

        assert len(rows(collector.pieces)) == 1
        assert len(rows(second.pieces)) == 2


def test_damaged_accesses_are_refused_or_read_but_never_crash() -> None:
    with rig() as it:
        it.map(DATA, None, RW)
        collector = Collector()
        it.code(CODE, b"\xb9\x20\x00\x00\x00\x88\x04\x0f\x8a\x07\xe2\xf9\xcd\x80")  # a loop that stores and loads
        it.cpu.regs[RDI] = DATA
        trace = it.cpu.start_trace(collector.fetch, accesses=True)
        it.run(CODE)
        collector.fetch(trace)
        trace.stop()
    (piece,) = collector.pieces
    data, sizes = b"".join(piece.access_columns), [len(column) for column in piece.access_columns]
    assert len(unpack_accesses(data, sizes, 0, piece.accesses)) == 64
    refused = 0
    for at in range(len(data)):
        for damaged in (data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :], data[:at] + b"\xff" + data[at + 1 :]):
            try:
                unpack_accesses(damaged, sizes, 0, piece.accesses)
            except FlowError:
                refused += 1
    assert refused
    for wrong in (63, 65, 0, -1, 1 << 25):
        with pytest.raises(FlowError):
            unpack_accesses(data, sizes, 0, wrong)
    for column in range(5):
        shifted = [size - (i == column) + (i == (column + 1) % 5) for i, size in enumerate(sizes)]
        if min(shifted) >= 0:
            with pytest.raises(FlowError):
                unpack_accesses(data, shifted, 0, piece.accesses)
