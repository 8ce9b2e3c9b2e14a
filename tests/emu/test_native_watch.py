"""Watchpoints: the CPU stops behind what touches watched memory, and goes as if nobody were watching."""

import random
from typing import Any

import pytest

from emu.cpu import RAX, RBX, RCX, RDI, RIP, RSI, RSP
from emu.exits import BudgetSpent, PageFault
from emu.paging import FOUR_LEVEL, TWO_LEVEL, PagingMode
from emu.trace import CpuTrace
from emu.watch import READ, WRITE, Watch, WatchKind
from emu.x86 import PAGE_SIZE, PTE_A, PTE_D, PhysAddr
from tests.emu.random_code import CODE, DATA, NR_DATA_PAGES, STACK, Program
from tests.emu.rig import MACHINE_IDS, MACHINES, RW, RWX, RX, Rig, rig
from tests.emu.test_native_counting import FREE, IDS, INT80, Runner, always, cycle
from tests.emu.test_native_counting import MACHINES as COUNTED

AT, HERE = 0x40_0000, 0x50_0000
BOTH = READ | WRITE


def code(*pieces: str) -> bytes:
    """The instructions, and `int 0x80` behind them."""
    return bytes.fromhex("".join(pieces) + "cd80")


STORE = {1: "8807", 2: "668907", 4: "8907", 8: "488907"}  # mov [rdi], al ax eax rax
LOAD = {1: "8a1f", 2: "668b1f", 4: "8b1f", 8: "488b1f"}  # mov bl bx ebx rbx, [rdi]


def start(it: Rig, bits: int, instructions: bytes) -> PhysAddr:
    """Ready to run *instructions*: RDI = HERE, where a page of data is, RAX = 7; the page's frame."""
    it.code(AT, instructions, flags=RX)
    frame = it.map(HERE, None, RW)
    it.begin(bits)
    for register, value in ((RIP, AT), (RDI, HERE), (RAX, 7), (RSP, HERE + 0x800)):
        it.cpu.regs[register] = value
    return frame


def stops(it: Rig, *, step: bool = False) -> list[tuple[int, int, int, int, int, int]]:
    """Run to the end: for each hit the count, RIP behind, and the hit's access, address, size and old value."""
    found: list[tuple[int, int, int, int, int, int]] = []
    begun = it.cpu.icount
    while True:
        end = it.cpu.step() if step else it.cpu.run(FREE)
        found += [
            (it.cpu.icount - begun, it.cpu.regs[RIP], hit.access, hit.address, hit.size, hit.old) for hit in it.cpu.hits
        ]
        if end != BudgetSpent():
            assert end == INT80
            return found


def linear(it: Rig, address: int, size: int, access: int = BOTH) -> Watch:
    return Watch(WatchKind.LINEAR, address, size, access, it.cpu.root)


@pytest.mark.parametrize("step", [False, True], ids=["run", "step"])
@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=MACHINE_IDS)
def test_every_width_is_seen_behind_the_instruction(mode: PagingMode, bits: int, step: bool) -> None:
    for size in (1, 2, 4, 8)[: 4 if bits == 64 else 3]:
        with rig(mode, bits) as it:
            start(it, bits, code("90", STORE[size], "90", LOAD[size], "90"))
            it.cpu.set_watches([linear(it, HERE, 8)])
            behind_store = AT + 1 + len(STORE[size]) // 2
            behind_load = behind_store + 1 + len(LOAD[size]) // 2

            assert stops(it, step=step) == [
                (2, behind_store, WRITE, HERE, size, 0),
                (4, behind_load, READ, HERE, size, 7),
            ]
            assert it.cpu.icount == 6


def test_an_access_kind_that_is_not_watched_goes_by() -> None:
    for access in (READ, WRITE):
        with rig() as it:
            start(it, 64, code(STORE[4], LOAD[4]))
            it.cpu.set_watches([linear(it, HERE, 4, access)])
            assert [stop[2] for stop in stops(it)] == [access]


def test_neighbouring_bytes_are_not_watched() -> None:
    with rig() as it:
        start(it, 64, code("884701", LOAD[1], "884703"))  # mov [rdi + 1], al; mov bl, [rdi]; mov [rdi + 3], al
        it.cpu.set_watches([linear(it, HERE + 2, 1)])
        assert stops(it) == []
        assert it.cpu.icount == 4


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=MACHINE_IDS)
def test_a_store_across_two_pages_is_seen_on_either_side(mode: PagingMode, bits: int) -> None:
    for watched in (HERE + PAGE_SIZE - 1, HERE + PAGE_SIZE):
        with rig(mode, bits) as it:
            start(it, bits, code("8987fe0f0000"))  # mov [rdi + 0xffe], eax
            it.map(HERE + PAGE_SIZE, None, RW)
            it.cpu.set_watches([linear(it, watched, 1, WRITE)])
            found = stops(it)
            assert found
            assert {stop[0] for stop in found} == {1}
            assert any(stop[3] <= watched < stop[3] + stop[4] for stop in found)


def test_an_unaligned_store_beside_a_watched_byte_is_none_to_it() -> None:
    with rig() as it:
        start(it, 64, code("894703"))  # mov [rdi + 3], eax: bytes 3 to 6
        it.cpu.set_watches([linear(it, HERE + 2, 1, WRITE), linear(it, HERE + 7, 1, WRITE)])
        assert stops(it) == []


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=MACHINE_IDS)
def test_an_unaligned_store_is_one_access_that_is_done_once(mode: PagingMode, bits: int) -> None:
    """Also of an instruction that reads first: it must not read what its own first try has stored."""
    with rig(mode, bits) as it:
        frame = start(it, bits, code("014703"))  # add [rdi + 3], eax
        it.ram.write(PhysAddr(frame + 3), b"\xff\xff\xff\0")
        it.cpu.set_watches([linear(it, HERE + 5, 1, WRITE)])
        assert stops(it) == [(1, AT + 3, WRITE, HERE + 3, 4, 0xFFFFFF)]
        assert it.ram.read(PhysAddr(frame + 3), 4) == (0xFFFFFF + 7).to_bytes(4, "little")


def test_what_reads_and_writes_at_once_shows_both() -> None:
    for instruction in ("ff07", "f00107", "8707", "f0480fc107"):  # inc, lock add, xchg, lock xadd
        with rig() as it:
            start(it, 64, code(instruction))
            it.cpu.set_watches([linear(it, HERE, 8)])
            assert [(stop[0], stop[2]) for stop in stops(it)] == [(1, READ), (1, WRITE)]


def test_pushes_and_calls_write_the_stack() -> None:
    with rig() as it:
        start(it, 64, code("50", "e800000000", "5b", "5b"))  # push rax; call +0; pop rbx; pop rbx
        it.cpu.set_watches([linear(it, HERE + 0x7F0, 16)])
        assert [(stop[0], stop[2], stop[3] - HERE) for stop in stops(it)] == [
            (1, WRITE, 0x7F8),
            (2, WRITE, 0x7F0),
            (3, READ, 0x7F0),
            (4, READ, 0x7F8),
        ]


@pytest.mark.parametrize("bulk", [False, True], ids=["plain", "bulk"])
@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=MACHINE_IDS)
def test_a_repeated_store_stops_at_the_element(mode: PagingMode, bits: int, bulk: bool) -> None:
    """Also where many elements are done at once."""
    with rig(mode, bits) as it:
        start(it, bits, code("f3aa"))
        it.cpu.set_inlining(on=bulk)
        it.cpu.regs[RCX] = 100
        it.cpu.set_watches([linear(it, HERE + 60, 2, WRITE)])
        found = []
        while it.cpu.run(FREE) == BudgetSpent():
            assert it.cpu.hit_pc == AT
            found.append((it.cpu.icount, it.cpu.regs[RCX], it.cpu.regs[RDI] - HERE, it.cpu.regs[RIP]))
        assert found == [(61, 39, 61, AT), (62, 38, 62, AT)]
        assert it.cpu.icount == 102
        assert it.ram.read(PhysAddr(it.view[it.entry(HERE)] & 0xFFFF_F000), 101) == b"\7" * 100 + b"\0"


def test_a_repeated_copy_is_seen_at_its_source_and_its_target() -> None:
    with rig() as it:
        start(it, 64, code("f3a5"))  # rep movsd
        it.cpu.regs[RCX], it.cpu.regs[RSI] = 50, HERE + 0x400
        it.cpu.set_watches([linear(it, HERE + 0x400 + 4 * 20, 4, READ), linear(it, HERE + 4 * 30, 1, WRITE)])
        assert [(stop[0], stop[2], stop[3] - HERE) for stop in stops(it)] == [(21, READ, 0x450), (31, WRITE, 0x78)]


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=MACHINE_IDS)
def test_physical_memory_is_watched_under_every_name(mode: PagingMode, bits: int) -> None:
    with rig(mode, bits) as it:
        frame = start(it, bits, code(STORE[4], "898700100000"))  # ...; mov [rdi + 0x1000], eax
        it.map(HERE + PAGE_SIZE, frame, RW)
        it.cpu.set_watches([Watch(WatchKind.PHYSICAL, frame, 4, WRITE)])
        assert [(stop[0], stop[3] - HERE) for stop in stops(it)] == [(1, 0), (2, PAGE_SIZE)]


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=MACHINE_IDS)
def test_a_linear_watch_is_for_one_address_space(mode: PagingMode, bits: int) -> None:
    with rig(mode, bits) as it:
        start(it, bits, code(STORE[4]))
        other = it.new_root()
        it.code(AT, code(STORE[4]), flags=RX, root=other)
        it.map(HERE, None, RW, root=other)
        it.cpu.set_watches([linear(it, HERE, 4)])
        assert len(stops(it)) == 1
        it.begin(bits, other)
        it.cpu.regs[RIP], it.cpu.regs[RDI] = AT, HERE
        assert stops(it) == []


def test_an_access_that_faults_is_none_until_it_is_done() -> None:
    with rig() as it:
        start(it, 64, code("898700100000"))  # mov [rdi + 0x1000], eax
        it.cpu.set_watches([linear(it, HERE + PAGE_SIZE, 4)])
        assert isinstance(it.cpu.run(FREE), PageFault)
        assert it.cpu.hits == []
        assert it.cpu.icount == 0
        it.map(HERE + PAGE_SIZE, None, RW)
        assert [stop[:3] for stop in stops(it)] == [(1, AT + 6, WRITE)]


def test_an_instruction_that_touches_and_then_faults_is_seen_once() -> None:
    """movs reads first; its store faults."""
    with rig() as it:
        start(it, 64, code("a5"))
        it.cpu.regs[RSI], it.cpu.regs[RDI] = HERE, HERE + PAGE_SIZE
        it.cpu.set_watches([linear(it, HERE, 4)])
        assert isinstance(it.cpu.run(FREE), PageFault)
        assert it.cpu.hits == []
        it.map(HERE + PAGE_SIZE, None, RW)
        assert [stop[:3] for stop in stops(it)] == [(1, AT + 1, READ)]


def test_what_is_translated_and_in_the_tlb_already_learns_of_a_watch() -> None:
    with rig() as it:
        start(it, 64, code(STORE[4]))
        for _ in range(3):
            assert it.cpu.run(FREE) == INT80
            it.cpu.regs[RIP] = AT
        it.cpu.set_watches([linear(it, HERE, 4)])
        assert len(stops(it)) == 1
        it.cpu.set_watches([])
        it.cpu.regs[RIP] = AT
        assert stops(it) == []


def test_code_pages_can_be_watched() -> None:
    """A store into the block that executes it, over the next instruction: it is seen, and takes effect."""
    with rig() as it:
        start(it, 64, code("884704", "b301"))  # mov [rdi + 4], al; mov bl, 1
        it.map(AT, PhysAddr(it.view[it.entry(AT)] & 0xFFFF_F000), RWX)
        it.cpu.regs[RDI] = AT
        it.cpu.set_watches([linear(it, AT, 16, WRITE)])
        assert [(stop[0], stop[3] - AT) for stop in stops(it)] == [(1, 4)]
        assert it.cpu.regs[RBX] == 7


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=MACHINE_IDS)
def test_the_bits_that_a_walk_sets_are_seen(mode: PagingMode, bits: int) -> None:
    with rig(mode, bits) as it:
        start(it, bits, code("90", LOAD[4], "90", STORE[4], STORE[4]))
        scale = it.mode.entry_size
        entry = it.entry(HERE)
        it.cpu.set_watches([Watch(WatchKind.ENTRY, entry * scale, scale, WRITE)])
        begun = it.cpu.icount
        seen = []
        while it.cpu.run(FREE) == BudgetSpent():
            assert [(hit.access, hit.address) for hit in it.cpu.hits] == [(WRITE, HERE)]
            seen.append((it.cpu.icount - begun, it.view[entry] & (PTE_A | PTE_D), it.cpu.hits[0].old & (PTE_A | PTE_D)))
        assert seen == [(2, PTE_A, 0), (4, PTE_A | PTE_D, PTE_A)]
        assert it.cpu.icount - begun == 6


def test_the_walk_for_a_fetch_stops_in_front_of_the_code() -> None:
    with rig() as it:
        start(it, 64, code("e9fb0f0000"))  # jmp AT + 0x1000
        it.code(AT + PAGE_SIZE, code("90"), flags=RX)
        entry = it.entry(AT + PAGE_SIZE)
        it.cpu.set_watches([Watch(WatchKind.ENTRY, entry * 8, 8, WRITE)])
        assert it.cpu.run(FREE) == BudgetSpent()
        assert [hit.address for hit in it.cpu.hits] == [AT + PAGE_SIZE]
        assert (it.cpu.icount, it.cpu.regs[RIP], it.cpu.hit_pc) == (1, AT + PAGE_SIZE, None)
        assert it.cpu.run(FREE) == INT80
        assert it.cpu.icount == 3


class Watched(Runner):
    """Runs programs with watches at random places: data, stack, and the code itself."""

    def __init__(self, mode: PagingMode, bits: int, seed: int) -> None:
        super().__init__(mode, bits)
        self.random = random.Random(seed)
        self.nr_hits = 0

    def load(self, program: Program) -> tuple[PhysAddr, dict[int, PhysAddr]]:
        root, mapped = super().load(program)
        rng = self.random
        watches = [
            Watch(WatchKind.LINEAR, DATA + rng.randrange(NR_DATA_PAGES * PAGE_SIZE), 1 << rng.randrange(9), BOTH, root)
            for _ in range(8)
        ]
        watches.append(Watch(WatchKind.LINEAR, STACK - 0x110, 0x20, rng.choice((READ, WRITE)), root))
        watches.append(Watch(WatchKind.LINEAR, CODE + rng.randrange(len(program.code)), 64, WRITE, root))
        frame = self.rig.view[self.rig.entry(STACK - PAGE_SIZE, root=root)] & 0xFFFF_F000
        watches.append(Watch(WatchKind.PHYSICAL, frame + 0xE00, 0x100, BOTH))
        watches.append(Watch(WatchKind.ENTRY, self.rig.entry(DATA, root=root) * self.rig.mode.entry_size, 4, WRITE))
        self.rig.cpu.set_watches(watches)
        return root, mapped

    def finish(self, root: PhysAddr, mapped: dict[int, PhysAddr], budgets: Any) -> Any:
        outcome = super().finish(root, mapped, self._counting(budgets))
        self.rig.cpu.set_watches([])
        return outcome

    def _counting(self, budgets: Any) -> Any:
        for budget in budgets:
            self.nr_hits += bool(self.rig.cpu.hits)
            yield budget


@pytest.mark.parametrize(("mode", "bits"), COUNTED, ids=IDS)
@pytest.mark.parametrize("seed", range(6))
def test_random_programs_with_watches_end_as_without(mode: PagingMode, bits: int, seed: int) -> None:
    """The same counts at every system call, registers and memory, freely run, in slices and stepped."""
    program = Program(seed)
    plain = Runner(mode, bits)
    free = plain.run(program, always(FREE))
    plain.rig.close()
    machine = Watched(mode, bits, seed)

    assert machine.run(program, always(FREE)) == free
    assert machine.run(program, cycle([FREE, 17, 0])) == free
    assert machine.nr_hits
    machine.rig.close()


def test_hits_are_the_same_freely_run_and_stepped() -> None:
    for mode, bits in ((FOUR_LEVEL, 64), (TWO_LEVEL, 32)):
        with rig(mode, bits) as it:
            text = code("b905000000", STORE[4], LOAD[1], "ff07", "83e901", "75f5")
            found = []
            for step in (False, True):
                start(it, bits, text)
                it.cpu.set_watches([linear(it, HERE, 4)])
                found.append(stops(it, step=step))
            assert found[0] == found[1]
            assert len(found[0]) > 4


@pytest.mark.parametrize("accesses", [False, True], ids=["blocks", "accesses"])
@pytest.mark.parametrize(("mode", "bits"), COUNTED, ids=IDS)
def test_a_watched_run_may_be_traced(mode: PagingMode, bits: int, accesses: bool) -> None:
    """``fetch`` asserts that the blocks noted add up to the instruction count."""
    program = Program(11)
    plain = Runner(mode, bits)
    free = plain.run(program, always(FREE))
    plain.rig.close()
    machine = Watched(mode, bits, 11)

    def drop(full: CpuTrace) -> None:
        full.fetch()

    trace = machine.rig.cpu.start_trace(drop, limit=1 << 12, accesses=accesses)
    assert machine.run(program, cycle([FREE, 17, 0])) == free
    trace.fetch()
    trace.stop()
    assert machine.nr_hits
    machine.rig.close()
