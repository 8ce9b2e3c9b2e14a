"""The count of retired instructions: the same however a program is run, and the same as an independent count."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unicorn import UC_HOOK_CODE
from unicorn import x86_const as reg

from emu.cpu import RAX, RBX, RCX, RDI, RDX, RIP, RSI, RSP
from emu.exits import BudgetSpent, CpuException, CpuExit, PageFault, Syscall, SyscallInsn
from emu.paging import FOUR_LEVEL, PAE, TWO_LEVEL, PagingMode
from emu.x86 import FLAG_TF, PAGE_SIZE, VEC_DB, VEC_PF, PhysAddr
from tests.emu.bare import Bare
from tests.emu.random_code import CALL, CODE, DATA, END, NR_DATA_PAGES, STACK, Program
from tests.emu.rig import RW, RWX, Rig, rig

MACHINES = [(FOUR_LEVEL, 64), (FOUR_LEVEL, 32), (PAE, 32), (TWO_LEVEL, 32)]
IDS = [f"{mode.name}-{bits}" for mode, bits in MACHINES]
_CODE_PAGES = 16
FREE = 1 << 40
INT80 = Syscall(SyscallInsn.INT80)


@dataclass(frozen=True)
class Outcome:
    """What a run left behind."""

    icount: int
    calls: tuple[int, ...]  # the count at each system call
    registers: tuple[int, ...]
    memory: bytes


class Runner:
    """Runs programs in a rig, each in an address space of its own whose data pages are mapped when they fault."""

    def __init__(self, mode: PagingMode, bits: int) -> None:
        self.rig = Rig(mode, bits, size=64 << 20)
        self.bits = bits

    def load(self, program: Program) -> tuple[PhysAddr, dict[int, PhysAddr]]:
        """A new address space with the code and a stack."""
        root = self.rig.new_root()
        code = program.code.ljust(_CODE_PAGES * PAGE_SIZE, b"\x90")[: max(len(program.code), PAGE_SIZE)]
        self.rig.code(CODE, code, flags=RWX, root=root)
        self.rig.map(STACK - PAGE_SIZE, None, RW, root=root)
        self.rig.begin(self.bits, root)
        self.rig.cpu.regs[RIP] = CODE
        self.rig.cpu.regs[RSP] = STACK - 0x100
        return root, {}

    def finish(self, root: PhysAddr, mapped: dict[int, PhysAddr], budgets: Any) -> Outcome:
        """Run to the end; *budgets* gives the size of each slice, 0 for a step."""
        cpu = self.rig.cpu
        start, calls = cpu.icount, []
        while True:
            budget = next(budgets)
            match cpu.run(budget) if budget else cpu.step():
                case BudgetSpent():
                    continue
                case PageFault(address=address, error_code=code):
                    page = address & -PAGE_SIZE
                    assert DATA <= page < DATA + NR_DATA_PAGES * PAGE_SIZE, f"{address:#x} {code:#x} {cpu.regs[RIP]:#x}"
                    assert page not in mapped
                    mapped[page] = self.rig.map(page, None, RW, root=root)
                case Syscall():
                    calls.append(cpu.icount - start)
                    if cpu.regs[RAX] == END:
                        break
                    assert cpu.regs[RAX] == CALL
                case other:
                    pytest.fail(f"{other} at {cpu.regs[RIP]:#x}")
        memory = b"".join(
            self.rig.ram.read(mapped[page], PAGE_SIZE) if (page := DATA + i * PAGE_SIZE) in mapped else bytes(PAGE_SIZE)
            for i in range(NR_DATA_PAGES)
        )
        registers = tuple(cpu.regs[i] for i in (RAX, RBX, RDX, RSP))
        return Outcome(cpu.icount - start, tuple(calls), registers, memory)

    def run(self, program: Program, budgets: Any) -> Outcome:
        next_frame = self.rig._next_frame
        root, mapped = self.load(program)
        outcome = self.finish(root, mapped, budgets)
        # The frames serve the next run; what was translated from them must go.
        frames = range(next_frame, self.rig._next_frame, PAGE_SIZE)
        self.rig.changed(*(PhysAddr(frame) for frame in frames))
        for frame in frames:
            self.rig.ram.zero(PhysAddr(frame))
        self.rig._next_frame = next_frame
        return outcome


def always(budget: int) -> Any:
    while True:
        yield budget


def cycle(budgets: list[int]) -> Any:
    while True:
        yield from budgets


def independent(program: Program, mode: PagingMode, bits: int) -> tuple[int, tuple[int, ...], bytes]:
    """The program on a bare engine with a code hook, everything mapped beforehand: count, registers, memory."""
    bare = Bare(mode, size=16 << 20, bits=bits)
    root = bare.new_table()
    for index in range(-(-len(program.code) // PAGE_SIZE)):
        bare.map_page(root, CODE + index * PAGE_SIZE, 0x10_0000 + index * PAGE_SIZE, RWX)
    for index in range(NR_DATA_PAGES):
        bare.map_page(root, DATA + index * PAGE_SIZE, 0x20_0000 + index * PAGE_SIZE, RWX)
    bare.map_page(root, STACK - PAGE_SIZE, 0x30_0000, RWX)
    for page in (0x1000, 0x2000, 0x3000):
        bare.map_page(root, page, page, RWX)
    bare.put(0x10_0000, program.code)
    bare.set_root(root)
    count, last = 0, -1

    def on_code(_uc: Any, address: int, _size: int, _data: Any) -> None:
        """A store into its own block runs twice: given up, and again in a block of its own.  Only REPs repeat."""
        nonlocal count, last
        repeats = bare.ram.view8[address - CODE + 0x10_0000] in {0xF2, 0xF3}
        count += address != last or repeats
        last = address

    bare.hook(UC_HOOK_CODE, on_code)
    bare.uc.reg_write(bare.sp, STACK - 0x100)
    for register in (reg.UC_X86_REG_EAX, reg.UC_X86_REG_EBX, reg.UC_X86_REG_EDX, reg.UC_X86_REG_ECX):
        bare.uc.reg_write(register, 0)
    rip = CODE
    while True:
        stop = bare.run(rip)
        assert stop.vector == 0x80, stop
        rip = stop.rip
        if bare.uc.reg_read(reg.UC_X86_REG_EAX) == END:
            break
    names = ("rax", "rbx", "rdx", "rsp") if bits == 64 else ("eax", "ebx", "edx", "esp")
    registers = tuple(bare.uc.reg_read(getattr(reg, f"UC_X86_REG_{name.upper()}")) for name in names)
    return count, registers, bare.ram.read(PhysAddr(0x20_0000), NR_DATA_PAGES * PAGE_SIZE)


_runners: dict[tuple[str, int], Runner] = {}


def runner(mode: PagingMode, bits: int) -> Runner:
    """One rig for each machine: its table of blocks sees all programs, which all start at the same address."""
    if (mode.name, bits) not in _runners:
        _runners[mode.name, bits] = Runner(mode, bits)
    return _runners[mode.name, bits]


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=IDS)
@pytest.mark.parametrize("seed", range(8))
def test_free_sliced_and_stepped_runs_count_the_same_as_a_code_hook(mode: PagingMode, bits: int, seed: int) -> None:
    program = Program(seed)
    machine = runner(mode, bits)

    free = machine.run(program, always(FREE))

    assert machine.run(program, always(1)) == free
    assert machine.run(program, always(37)) == free
    assert machine.run(program, always(0)) == free
    assert machine.run(program, cycle([0, 0, 0, 5, 1000])) == free
    assert (free.icount, free.registers, free.memory) == independent(program, mode, bits)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 32),
    budgets=st.lists(st.one_of(st.integers(0, 30), st.integers(1, 10**6)), min_size=1, max_size=12).filter(any),
    machine=st.sampled_from(MACHINES),
)
def test_slices_of_any_size_and_steps_between_them_change_nothing(
    seed: int, budgets: list[int], machine: tuple[PagingMode, int]
) -> None:
    program = Program(seed, nr_blocks=12, fuel=40)

    free = runner(*machine).run(program, always(FREE))

    assert runner(*machine).run(program, cycle(budgets)) == free


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=IDS)
def test_blocks_of_equal_address_and_size_in_two_address_spaces_are_told_apart(mode: PagingMode, bits: int) -> None:
    """Four nops and a jump, or one instruction of four bytes and a jump; neither is translated again."""
    with rig(mode, bits) as it:
        many, one = it.root, it.new_root()
        jump = b"\xeb\x00\xcd\x80"
        it.code(CODE, b"\x90\x90\x90\x90" + jump, root=many)
        it.code(CODE, b"\x8d\x74\x26\x00" + jump, root=one)  # lea esi, [esi + 0]

        for root, expected in ((many, 6), (one, 3), (many, 6), (one, 3), (one, 3), (many, 6)):
            it.cpu.set_root(root)
            before = it.cpu.icount
            assert isinstance(it.run(CODE), Syscall)
            assert it.cpu.icount - before == expected


def counts(it: Rig, rip: int, budgets: Any, *, rcx: int = 0, rdi: int = 0) -> tuple[int, CpuExit]:
    """Instructions from *rip* to the first exit that is not the budget's, and that exit."""
    cpu = it.cpu
    cpu.regs[RIP], cpu.regs[RCX], cpu.regs[RDI], cpu.regs[RSI] = rip, rcx, rdi, rdi
    before = cpu.icount
    while isinstance(exit_ := cpu.run(budget) if (budget := next(budgets)) else cpu.step(), BudgetSpent):
        pass
    return cpu.icount - before, exit_


WAYS = (FREE, 1, 0)


@pytest.mark.parametrize("budget", WAYS)
@pytest.mark.parametrize(
    ("code", "rcx", "expected"),
    [
        (b"\xf3\xa4", 0, 1),  # rep movsb: an iteration, and one to find the counter at zero
        (b"\xf3\xa4", 1, 2),
        (b"\xf3\xa4", 5, 6),
        (b"\xf3\xac", 3, 4),
        (b"\x90\xf3\xab\x90", 3, 6),
        (b"\xf3\xa6", 3, 4),  # repe cmpsb of a place with itself: ends by the counter
        (b"\xf2\xa6", 3, 1),  # repne: ends by the flag
        (b"\xf2\xa6", 1, 1),
        (b"\xf3\xa6", 1, 2),
    ],
)
def test_rep_counts_its_iterations_and_one_more_for_the_end(budget: int, code: bytes, rcx: int, expected: int) -> None:
    with rig() as it:
        it.code(CODE, code + b"\xcd\x80")
        it.map(DATA, None, RW)

        assert counts(it, CODE, always(budget), rcx=rcx, rdi=DATA) == (expected + 1, INT80)


@pytest.mark.parametrize("budget", WAYS)
def test_a_rep_that_stores_over_its_own_block_counts_every_iteration_once(budget: int) -> None:
    """Nops, REP STOSB over them: each iteration gives the block up."""
    with rig() as it:
        it.code(CODE, b"\x90\x90\x90\x90\x90\xf3\xaa\xcd\x80", flags=RWX)
        it.cpu.regs[RAX] = 0x90

        assert counts(it, CODE, always(budget), rcx=4, rdi=CODE) == (5 + 4 + 1 + 1, INT80)
        assert counts(it, CODE, always(budget), rcx=4, rdi=CODE + 1) == (5 + 4 + 1 + 1, INT80)
        assert counts(it, CODE + 5, always(budget), rcx=3, rdi=CODE) == (3 + 1 + 1, INT80)


@pytest.mark.parametrize("budget", WAYS)
def test_a_rep_store_that_changes_the_rep_counts_what_is_executed(budget: int) -> None:
    """The third iteration makes STOSB a NOP with a prefix."""
    with rig() as it:
        frame = it.code(CODE, b"\x90\x90\xf3\xaa\x90\xcd\x80", flags=RWX)
        it.cpu.regs[RAX] = 0x90

        assert counts(it, CODE, always(budget), rcx=100, rdi=CODE + 1) == (2 + 3 + 1 + 1 + 1, INT80)
        assert it.ram.read(PhysAddr(frame + 1), 4) == b"\x90\x90\x90\x90"


@pytest.mark.parametrize("budget", WAYS)
def test_a_call_whose_return_address_lands_in_its_own_block_counts_once(budget: int) -> None:
    with rig() as it:
        it.code(CODE, b"\x90" * 8 + b"\xe8\x00\x00\x00\x00\xcd\x80", flags=RWX)
        it.cpu.regs[RSP] = CODE + 8

        assert counts(it, CODE, always(budget)) == (8 + 1 + 1, INT80)


@pytest.mark.parametrize("budget", [1, 0])
def test_a_jump_to_itself_counts_each_turn(budget: int) -> None:
    with rig() as it:
        it.code(CODE, b"\x90\xeb\xfe")
        it.cpu.regs[RIP] = CODE
        for _ in range(10):
            assert it.cpu.run(budget) == BudgetSpent() if budget else it.cpu.step() == BudgetSpent()

        assert it.cpu.icount == (11 if budget else 10)  # the first block is two instructions
        assert it.run(CODE, budget=100) == BudgetSpent()
        assert it.cpu.icount == (111 if budget else 110)


@pytest.mark.parametrize("budget", WAYS)
@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=IDS)
def test_a_block_that_reaches_into_a_missing_page_runs_up_to_it(mode: PagingMode, bits: int, budget: int) -> None:
    """Hardware executes what is there; the fault is at the instruction that crosses, whatever the engine translates."""
    with rig(mode, bits) as it:
        at = CODE + PAGE_SIZE - 4
        it.code(at, b"\x90\x90\x90\xb8")
        it.map(DATA, None, RW)

        retired, exit_ = counts(it, at, always(budget))

        assert (retired, it.cpu.regs[RIP]) == (3, at + 3)
        assert isinstance(exit_, PageFault)
        assert exit_.address == CODE + PAGE_SIZE
        it.code(CODE + PAGE_SIZE, b"\x78\x56\x34\x12\xcd\x80")
        assert counts(it, at + 3, always(budget)) == (2, INT80)
        assert it.cpu.regs[RAX] == 0x1234_5678


@pytest.mark.parametrize("budget", WAYS)
def test_a_fault_in_the_middle_of_a_block_counts_what_was_retired(budget: int) -> None:
    with rig() as it:
        it.code(CODE, b"\x90\x90\x88\x07\x90\xcd\x80")  # nop; nop; mov [rdi], al; nop
        retired, exit_ = counts(it, CODE, always(budget), rdi=DATA)
        assert (retired, it.cpu.regs[RIP], type(exit_)) == (2, CODE + 2, PageFault)

        it.map(DATA, None, RW)

        assert counts(it, CODE + 2, always(budget), rdi=DATA) == (3, INT80)


@pytest.mark.parametrize("budget", WAYS)
@pytest.mark.parametrize(
    ("code", "retired", "rip"),
    [
        (b"\x90\x0f\x0b", 1, 1),  # ud2
        (b"\x90\xcc", 2, 2),  # int3 is a trap
        (b"\x90\xcd\x20", 2, 3),
        (b"\x90\xf4\x90", 1, 1),  # hlt
        (b"\x90\xec\x90", 1, 1),  # in al, dx
        (b"\x90\xf7\xf1\x90", 1, 1),  # div ecx = 0
    ],
)
def test_exceptions_count_what_was_retired(budget: int, code: bytes, retired: int, rip: int) -> None:
    with rig() as it:
        it.code(CODE, code)

        got, exit_ = counts(it, CODE, always(budget))

        assert isinstance(exit_, CpuException)
        assert (got, it.cpu.regs[RIP] - CODE) == (retired, rip)


# -- stepping


PUSHF_POP_RAX = b"\x9c\x58"


@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=IDS)
def test_a_step_does_not_show_its_trap_flag(mode: PagingMode, bits: int) -> None:
    """Not in what PUSHF stores, nor in RFLAGS after a step, nor in R11 after a system call, nor behind a load of SS."""
    with rig(mode, bits) as it:
        it.code(CODE, PUSHF_POP_RAX + b"\x8c\xd1\x8e\xd1" + PUSHF_POP_RAX + b"\x9c\x9d\xcd\x80")
        it.map(STACK - PAGE_SIZE, None, RW)
        it.cpu.regs[RIP], it.cpu.regs[RSP] = CODE, STACK
        for number in range(1, 9):
            assert it.cpu.step() == BudgetSpent()
            assert not it.cpu.rflags & FLAG_TF
            assert it.cpu.icount == number
            assert not it.cpu.regs[RAX] & FLAG_TF
        assert it.cpu.step() == INT80


def test_a_step_over_syscall_does_not_show_its_trap_flag() -> None:
    with rig() as it:
        it.code(CODE, b"\x0f\x05")
        it.cpu.regs[RIP] = CODE

        assert isinstance(it.cpu.step(), Syscall)
        assert it.cpu.regs[11] == it.cpu.rflags
        assert not it.cpu.regs[11] & FLAG_TF


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=IDS)
def test_a_trap_flag_of_the_guest_traps_as_on_hardware(mode: PagingMode, bits: int, stepped: bool) -> None:
    """POPF sets it: the first trap comes behind the next instruction, then behind each; PUSHF shows it.

    The POPF that clears it is the last to trap.
    """
    with rig(mode, bits) as it:
        setting = b"\x9c\x58\x0d\x00\x01\x00\x00\x50\x9d"  # pushf; pop eax; or eax, TF; push eax; popf
        clearing = b"\x0f\xba\xf0\x08\x50\x9d"  # btr eax, 8; push eax; popf
        it.code(CODE, setting + b"\x90\x90\x9c\x58\xf3\xaa" + clearing + b"\x90\xcd\x80")
        it.map(STACK - PAGE_SIZE, None, RW)
        it.map(DATA, None, RW)
        it.cpu.regs[RIP], it.cpu.regs[RSP], it.cpu.regs[RCX], it.cpu.regs[RDI] = CODE, STACK, 3, DATA
        traps = []
        while True:
            exit_ = it.cpu.step() if stepped else it.cpu.run(FREE)
            if isinstance(exit_, Syscall):
                break
            if isinstance(exit_, CpuException):
                assert exit_.vector == VEC_DB
                traps.append((it.cpu.regs[RIP] - CODE, it.cpu.icount, it.cpu.regs[RAX] & FLAG_TF))

        assert [(rip, icount) for rip, icount, _ in traps] == [
            (10, 6), (11, 7), (12, 8), (13, 9), (13, 10), (13, 11), (15, 12), (19, 13), (20, 14), (21, 15)
        ]  # fmt: skip
        assert traps[3][2] == FLAG_TF
        assert not it.cpu.rflags & FLAG_TF


@pytest.mark.parametrize("code", [b"\x8e\xd0", b"\x66\x8e\xd0"])
def test_one_step_is_one_load_of_ss(code: bytes) -> None:
    """The processor would hold the trap back for one more instruction: here a system call, a REP, a jump."""
    with rig() as it:
        it.code(CODE, b"\x8c\xd0" + code + b"\xcd\x80")
        it.cpu.regs[RIP] = CODE
        assert [it.cpu.step() for _ in range(3)] == [BudgetSpent(), BudgetSpent(), INT80]
        assert it.cpu.icount == 3
        for rcx, expected in ((0, 1), (1, 1), (2, 2)):  # here the engine does not look at the counter again
            it.map(DATA, None, RW)
            it.code(CODE + PAGE_SIZE, b"\x8c\xd0" + code + b"\xf3\xaa\xcd\x80")
            for budget in WAYS:
                assert counts(it, CODE + PAGE_SIZE, always(budget), rcx=rcx, rdi=DATA)[0] == 3 + expected


def test_a_load_of_ss_that_faults_is_not_counted() -> None:
    with rig() as it:
        it.code(CODE, b"\x8e\xd0\x90\xcd\x80")
        it.cpu.regs[RAX] = 0x1234
        for budget in WAYS:
            retired, exit_ = counts(it, CODE, always(budget))
            assert isinstance(exit_, CpuException)
            assert (retired, it.cpu.regs[RIP]) == (0, CODE)


def test_steps_leave_translations_alone() -> None:
    """Code that the host changed unseen stays as translated: neither steps nor the way back flush anything."""
    with rig() as it:
        frame = it.code(CODE, b"\xb8\x01\x00\x00\x00\xcd\x80")
        it.code(CODE + PAGE_SIZE, b"\x90" * 20)
        it.run(CODE)
        it.ram.write(PhysAddr(frame + 1), b"\x02")
        it.cpu.regs[RIP] = CODE + PAGE_SIZE
        for _ in range(10):
            assert it.cpu.step() == BudgetSpent()

        it.run(CODE)
        assert it.cpu.regs[RAX] == 1, "flushed: steps are slow now, and so is what comes after"
        it.changed(frame)
        it.run(CODE)
        assert it.cpu.regs[RAX] == 2


def test_several_faults_in_a_row_while_stepping() -> None:
    """Trap 1, in steps."""
    with rig() as it:
        it.code(CODE, b"\x88\x07\xcd\x80")
        it.cpu.regs[RIP], it.cpu.regs[RDI] = CODE, DATA
        for _ in range(5):
            exit_ = it.cpu.step()
            assert exit_ == PageFault(exit_.address if isinstance(exit_, PageFault) else VEC_PF, 6)  # type: ignore[arg-type]
        assert it.cpu.icount == 0
