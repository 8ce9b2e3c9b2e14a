"""Why ``Cpu.run`` comes back: every kind of exit, in every paging mode, on hand-made page tables."""

from collections.abc import Iterator

import pytest

from emu.cpu import R11, RAX, RBX, RCX, RDI, RDX, RIP, RSP
from emu.exits import BudgetSpent, CpuException, PageFault, Syscall, SyscallInsn
from emu.x86 import (
    FLAG_OF,
    FLAG_TF,
    PAGE_SIZE,
    PF_I,
    PF_P,
    PF_RSVD,
    PF_U,
    PF_W,
    PTE_A,
    PTE_D,
    PTE_P,
    PTE_RW,
    PTE_XD,
    VEC_BP,
    VEC_BR,
    VEC_DB,
    VEC_DE,
    VEC_GP,
    VEC_MF,
    VEC_OF,
    VEC_UD,
    VirtAddr,
)
from tests.emu.rig import MACHINE_IDS, MACHINES, RO, RW, RX, Rig, rig

CODE = 0x0040_0000
DATA = 0x0060_0000
STACK = 0x0070_0000
FREE = 1 << 40
INT80 = b"\xcd\x80"
LOAD = b"\x8a\x07"  # mov al, [edi]
STORE = b"\x88\x07"  # mov [edi], al
KERNEL_RW = PTE_P | PTE_RW


@pytest.fixture(params=MACHINES, ids=MACHINE_IDS)
def it(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with rig(*request.param) as made:
        yield made


@pytest.fixture
def legacy(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """32-bit code on the 64-bit machine."""
    with rig(bits=32) as made:
        yield made


# -- system calls and the budget


def test_int_0x80_comes_back_behind_it(it: Rig) -> None:
    it.code(CODE, b"\x90" + INT80)

    assert it.run(CODE) == Syscall(SyscallInsn.INT80)
    assert (it.cpu.regs[RIP], it.cpu.icount) == (CODE + 3, 2)


def test_sysenter_comes_back_behind_it(it: Rig) -> None:
    it.code(CODE, b"\x0f\x34")

    assert it.run(CODE) == Syscall(SyscallInsn.SYSENTER)
    assert (it.cpu.regs[RIP], it.cpu.icount) == (CODE + 2, 1)


def test_syscall_leaves_the_return_address_in_rcx_and_the_flags_in_r11() -> None:
    with rig() as it:
        it.code(CODE, b"\xf9\x0f\x05")  # stc
        it.cpu.regs[RCX] = it.cpu.regs[R11] = 0x55

        assert it.run(CODE) == Syscall(SyscallInsn.SYSCALL)
        assert it.cpu.regs[RIP] == it.cpu.regs[RCX] == CODE + 3
        assert it.cpu.regs[R11] == it.cpu.rflags == 0x203


def test_syscall_in_32_bit_code_is_invalid_and_changes_nothing(it: Rig) -> None:
    """As on Intel's processors, with a prefix or without."""
    if it.bits == 64:
        it.begin(32)
    for code in (b"\x0f\x05", b"\x66\x0f\x05"):
        it.code(CODE, code)
        it.cpu.regs[RCX] = 0x55

        assert it.run(CODE) == CpuException(VEC_UD, 0)
        assert (it.cpu.regs[RIP], it.cpu.regs[RCX], it.cpu.icount) == (CODE, 0x55, 0)
        it.changed(it.code(CODE, b"\x90"))


def test_the_budget_ends_a_run_in_front_of_a_block(it: Rig) -> None:
    it.code(CODE, b"\xff\xc0\xeb\xfc" if it.bits == 64 else b"\x40\x90\xeb\xfc")  # inc eax; jmp back
    per_turn = 2 if it.bits == 64 else 3

    assert it.run(CODE, budget=1) == BudgetSpent()
    assert (it.cpu.regs[RAX], it.cpu.regs[RIP], it.cpu.icount) == (1, CODE, per_turn)
    assert it.cpu.run(100 * per_turn) == BudgetSpent()
    assert (it.cpu.regs[RAX], it.cpu.icount) == (101, 101 * per_turn)


# -- page faults


def test_a_missing_page_is_told_with_address_and_kind_of_access(it: Rig) -> None:
    it.code(CODE, LOAD + INT80)
    it.code(CODE + PAGE_SIZE, STORE + INT80)
    it.cpu.regs[RDI] = DATA + 0x123

    assert it.run(CODE) == PageFault(VirtAddr(DATA + 0x123), PF_U)
    assert it.cpu.regs[RIP] == CODE
    assert it.run(CODE + PAGE_SIZE) == PageFault(VirtAddr(DATA + 0x123), PF_U | PF_W)
    assert it.run(DATA) == PageFault(VirtAddr(DATA), PF_U | (PF_I if it.mode.has_nx else 0))
    assert it.cpu.regs[RIP] == DATA
    assert it.cpu.icount == 0


def test_protection_is_told_apart_from_absence(it: Rig) -> None:
    it.code(CODE, LOAD + INT80)
    it.code(CODE + PAGE_SIZE, STORE + INT80)
    it.map(DATA, None, RO)
    it.map(DATA + PAGE_SIZE, None, KERNEL_RW)
    it.map(STACK, None, RW)

    it.cpu.regs[RDI] = DATA
    assert isinstance(it.run(CODE), Syscall)
    assert it.run(CODE + PAGE_SIZE) == PageFault(VirtAddr(DATA), PF_U | PF_W | PF_P)
    it.cpu.regs[RDI] = DATA + PAGE_SIZE
    assert it.run(CODE) == PageFault(VirtAddr(DATA + PAGE_SIZE), PF_U | PF_P)
    assert it.run(CODE + PAGE_SIZE) == PageFault(VirtAddr(DATA + PAGE_SIZE), PF_U | PF_W | PF_P)
    if it.mode.has_nx:
        assert it.run(STACK) == PageFault(VirtAddr(STACK), PF_U | PF_I | PF_P)


def test_the_kernels_pages_are_there_and_forbidden(it: Rig) -> None:
    """The GDT's page is mapped in every root, for the supervisor."""
    it.code(CODE, LOAD + INT80)
    it.cpu.regs[RDI] = 0x1000

    assert it.run(CODE) == PageFault(VirtAddr(0x1000), PF_U | PF_P)


def test_a_reserved_bit_is_told() -> None:
    with rig() as it:
        it.code(CODE, LOAD + INT80)
        it.map(DATA, None, RW)
        it.view[it.entry(DATA)] |= 1 << 45
        it.cpu.regs[RDI] = DATA

        assert it.run(CODE) == PageFault(VirtAddr(DATA), PF_U | PF_P | PF_RSVD)


def test_the_cpu_sets_accessed_and_dirty(it: Rig) -> None:
    it.code(CODE, LOAD + INT80)
    it.code(CODE + PAGE_SIZE, STORE + INT80)
    it.map(DATA, None, RW)
    it.cpu.regs[RDI] = DATA

    it.run(CODE)
    assert it.view[it.entry(DATA)] & (PTE_A | PTE_D) == PTE_A
    it.run(CODE + PAGE_SIZE)
    assert it.view[it.entry(DATA)] & (PTE_A | PTE_D) == PTE_A | PTE_D


def test_trap_1_any_number_of_faults_in_a_row(it: Rig) -> None:
    """The engine would deliver the second as vector 8 and end the run at the third."""
    it.code(CODE, STORE + INT80)
    for page in range(20):
        it.cpu.regs[RDI] = DATA + page * PAGE_SIZE
        assert it.run(CODE) == PageFault(VirtAddr(DATA + page * PAGE_SIZE), PF_U | PF_W)
        assert it.run(CODE) == PageFault(VirtAddr(DATA + page * PAGE_SIZE), PF_U | PF_W), "not served: again"
        it.map(DATA + page * PAGE_SIZE, None, RW)
        assert it.cpu.run(FREE) == Syscall(SyscallInsn.INT80), "no flush is needed for a page that appears"


def test_trap_1_faults_and_other_exceptions_mix(it: Rig) -> None:
    it.code(CODE, LOAD + b"\x0f\x0b")
    it.cpu.regs[RDI] = DATA
    for _ in range(3):
        assert it.run(CODE) == PageFault(VirtAddr(DATA), PF_U)
        assert it.run(CODE + 2) == CpuException(VEC_UD, 0)


def test_trap_2_a_call_through_a_null_pointer_faults_at_address_zero(it: Rig) -> None:
    """There is no stop address that it could meet."""
    it.code(CODE, b"\x31\xc0\xff\xd0")  # xor eax, eax; call eax
    it.map(STACK - PAGE_SIZE, None, RW)

    assert it.run(CODE, rsp=STACK) == PageFault(VirtAddr(0), PF_U | (PF_I if it.mode.has_nx else 0))
    assert (it.cpu.regs[RIP], it.cpu.icount) == (0, 2)
    assert it.cpu.regs[RSP] == STACK - it.bits // 8


def test_code_at_address_zero_runs(it: Rig) -> None:
    it.code(0, b"\xb0\x07" + INT80)

    assert isinstance(it.run(0), Syscall)
    assert it.cpu.regs[RAX] == 7


def test_a_push_into_a_missing_page_leaves_the_stack_pointer(it: Rig) -> None:
    it.code(CODE, b"\x50" + INT80)

    assert it.run(CODE, rsp=STACK) == PageFault(VirtAddr(STACK - it.bits // 8), PF_U | PF_W)
    assert it.cpu.regs[RSP] == STACK


# -- other exceptions


@pytest.mark.parametrize(
    ("code", "vector", "error_code", "software", "rip"),
    [
        (b"\x31\xc9\xf7\xf1", VEC_DE, 0, False, 2),  # xor ecx, ecx; div ecx
        (b"\xcc", VEC_BP, 0, True, 1),
        (b"\xcd\x03", VEC_BP, 0, True, 2),
        (b"\x0f\x0b", VEC_UD, 0, False, 0),
        (b"\x66\xff\xff", VEC_UD, 0, False, 0),
        (b"\xf4", VEC_GP, 0, False, 0),  # hlt
        (b"\xfa", VEC_GP, 0, False, 0),  # cli
        (b"\x0f\x20\xd8", VEC_GP, 0, False, 0),  # mov eax, cr3
        (b"\x0f\x32", VEC_GP, 0, False, 0),  # rdmsr
        (b"\x0f\x31", VEC_GP, 0, False, 0),  # rdtsc: CR4.TSD
        (b"\x0f\x01\xf9", VEC_GP, 0, False, 0),  # rdtscp
        (b"\xb8\x34\x12\x00\x00\x8e\xd8", VEC_GP, 0x1234, False, 5),  # mov ds, 0x1234: behind the table
        (b"\xcd\x0d", VEC_GP, 0, True, 2),  # int 13: the hardware would fault; the kernel finds out
        (b"\xcd\x0e", 14, 0, True, 2),  # and this is no page fault
        (b"\xcd\x08", 8, 0, True, 2),
        (b"\xcd\xff", 255, 0, True, 2),
    ],
)
def test_exceptions_carry_vector_error_code_and_where_they_are(
    it: Rig, code: bytes, vector: int, error_code: int, software: bool, rip: int
) -> None:
    it.code(CODE, code)

    for _ in range(2):
        exit_ = it.run(CODE)
        assert isinstance(exit_, CpuException)
        assert (exit_.vector, exit_.software, it.cpu.regs[RIP] - CODE) == (vector, software, rip)
        assert software or exit_.error_code == error_code & ~3


def test_overflow_and_bound_of_32_bit_code(legacy: Rig) -> None:
    it = legacy
    it.code(CODE, b"\xce\x62\x07")  # into; bound eax, [edi]
    it.map(DATA, None, RW)
    it.cpu.rflags |= FLAG_OF
    it.cpu.regs[RAX], it.cpu.regs[RDI] = 5, DATA

    assert it.run(CODE) == CpuException(VEC_OF, 0, software=True)
    assert it.cpu.regs[RIP] == CODE + 1
    assert it.run(CODE + 1) == CpuException(VEC_BR, 0)
    assert it.cpu.regs[RIP] == CODE + 1


def test_the_trap_flag_of_the_guest_traps_behind_each_instruction(it: Rig) -> None:
    it.code(CODE, b"\x90\x90" + INT80)
    it.cpu.rflags |= FLAG_TF

    assert it.run(CODE) == CpuException(VEC_DB, 0)
    assert (it.cpu.regs[RIP], it.cpu.icount) == (CODE + 1, 1)
    assert it.cpu.run(FREE) == CpuException(VEC_DB, 0)
    assert it.cpu.run(FREE) == Syscall(SyscallInsn.INT80)


def test_an_unmasked_x87_exception_comes_at_the_next_x87_instruction(it: Rig) -> None:
    """fldcw [edi] with all unmasked; fld1; fldz; fdivp; then fwait."""
    it.code(CODE, b"\xd9\x2f\xd9\xe8\xd9\xee\xde\xf9\x90\x9b")
    frame = it.map(DATA, None, RW)
    it.ram.write(frame, b"\x40\x03")
    it.cpu.regs[RDI] = DATA

    assert it.run(CODE) == CpuException(VEC_MF, 0)
    assert it.cpu.regs[RIP] == CODE + 9


def test_an_address_that_is_not_canonical_is_a_general_protection_fault() -> None:
    with rig() as it:
        it.code(CODE, b"\x48\x8b\x07" + INT80)
        it.cpu.regs[RDI] = 1 << 47

        assert it.run(CODE) == CpuException(VEC_GP, 0)
        assert it.run(1 << 62) == CpuException(VEC_GP, 0)


@pytest.mark.parametrize(
    "code",
    [b"\xec", b"\xed", b"\xe4\x60", b"\xee", b"\xef", b"\xe6\x60", b"\x6c", b"\x6e", b"\xf3\x6c"],
    ids=["in al,dx", "in eax,dx", "in al,i", "out dx,al", "out dx,eax", "out i,al", "insb", "outsb", "rep insb"],
)
def test_port_instructions_are_refused_and_what_follows_leaves_no_trace(it: Rig, code: bytes) -> None:
    """The engine runs the block to its end, with a store, a push and another fault in it."""
    behind = b"\xbb\x01\x00\x00\x00\x88\x07\x53\xdd\xd8\x66\x0f\xef\xc0\x0f\x0b"
    it.code(CODE, b"\x90" + code + behind)
    frame = it.map(DATA, None, RW)
    stack = it.map(STACK - PAGE_SIZE, None, RW)
    for index, value in ((RDI, DATA), (6, DATA), (RAX, 0x11), (RCX, 1), (RDX, 0x60), (RBX, 0x22)):
        it.cpu.regs[index] = value
    fpu, flags = it.cpu.fxsave(), it.cpu.rflags

    for _ in range(2):
        assert it.run(CODE, rsp=STACK) == CpuException(VEC_GP, 0)
        assert it.cpu.regs[RIP] == CODE + 1
    assert it.cpu.icount == 2
    assert (it.cpu.regs[RBX], it.cpu.regs[RSP], it.cpu.regs[RAX]) == (0x22, STACK, 0x11)
    assert (it.cpu.fxsave(), it.cpu.rflags) == (fpu, flags)
    assert it.ram.read(frame, PAGE_SIZE) == it.ram.read(stack, PAGE_SIZE) == bytes(PAGE_SIZE)
    assert not it.view[it.entry(STACK - PAGE_SIZE)] & PTE_A
    it.cpu.regs[RDI] = DATA
    it.changed(it.code(CODE, STORE + INT80))
    assert isinstance(it.run(CODE), Syscall), "and memory is there again"


def test_data_is_not_executable_where_the_mode_has_nx(it: Rig) -> None:
    it.code(DATA, INT80, flags=RW)

    exit_ = it.run(DATA)

    if it.mode.has_nx:
        assert exit_ == PageFault(VirtAddr(DATA), PF_U | PF_P | PF_I)
        it.view[it.entry(DATA)] &= ~PTE_XD
        assert isinstance(it.run(DATA), Syscall), "more rights need no flush"
    else:
        assert isinstance(exit_, Syscall)


def test_fewer_rights_need_a_flush(it: Rig) -> None:
    it.code(CODE, STORE + INT80)
    it.map(DATA, None, RW)
    it.cpu.regs[RDI] = DATA
    assert isinstance(it.run(CODE), Syscall)
    it.view[it.entry(DATA)] = 0

    assert isinstance(it.run(CODE), Syscall), "still in the TLB"
    it.cpu.flush_tlb()
    assert it.run(CODE) == PageFault(VirtAddr(DATA), PF_U | PF_W)


def test_reads_of_code_go_through_the_same_tables(it: Rig) -> None:
    it.code(CODE, LOAD + INT80, flags=RX)
    it.cpu.regs[RDI] = CODE

    assert isinstance(it.run(CODE), Syscall)
    assert it.cpu.regs[RAX] == LOAD[0]
