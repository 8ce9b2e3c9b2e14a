"""What the emulated processor does when it pages, faults and changes tasks: what emu/cpu.py is built around.

One test a fact, on a bare engine; an upgrade of Unicorn that changes a fact fails here, by name.  The numbers of the
traps are those of "Quirks" in emu/README.md.
"""

import ctypes
import mmap
import os

import pytest
from unicorn import UC_HOOK_EDGE_GENERATED
from unicorn import unicorn_const as const
from unicorn import x86_const as reg
from unicorn.unicorn_py3.unicorn import uclib

from emu.paging import FOUR_LEVEL, MODES, PAE, PagingMode
from emu.x86 import CR4_LA57, PF_I, PF_P, PF_U, PF_W, VEC_DF, VEC_PF
from tests.emu.bare import ERROR_CODE_OFFSET, OLD_EXCEPTION_OFFSET, USER32_CS, Bare, EngineError
from tests.emu.lab import (
    CODE,
    CODE_FRAME,
    DATA,
    DATA_FRAME,
    DONE,
    INT80,
    KERNEL_RW,
    LOAD_AL,
    RETURN_1,
    RO,
    RW,
    RX,
    STACK,
    Lab,
)

UNMAPPED = 0x70_0000
OTHER, OTHER_FRAME = 0x78_0000, 0x30_0000
INC_RAX = b"\x48\xff\xc0"  # in 32-bit code: dec eax; inc eax


# --- it works ---


def test_the_wheel_is_2_1_4() -> None:
    assert uclib.uc_version(None, None) == 0x0201_04FF


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_every_mode_pages_through_ram_at_cpl_3(mode: PagingMode) -> None:
    """Five-level paging too, with CR4.LA57; what it translates is compared in test_paging_hardware.py."""
    lab = Lab(mode, cr4=CR4_LA57 if mode.va_bits == 57 else 0)
    lab.put_code(CODE_FRAME, LOAD_AL)

    stop = lab.call(CODE, **{"rdi" if lab.long else "edi": UNMAPPED})

    assert (stop.vector, stop.cr2, stop.error_code, stop.rip) == (VEC_PF, UNMAPPED, PF_U, CODE)


def test_32_bit_and_64_bit_code_run_on_one_engine() -> None:
    """restore(ring 0), iretq: a context of each kind; ring 0 comes back, too (compare trap 3)."""
    lab = Lab()
    lab.put(CODE_FRAME, INC_RAX + INT80)
    contexts = {64: lab.uc.context_save()}
    lab.uc.context_restore(lab.ring0)
    lab.enter_user(32)
    contexts[32] = lab.uc.context_save()

    for bits, expected in ((32, 5), (64, 6), (32, 5)):
        lab.uc.context_restore(contexts[bits])
        lab.set_root(lab.root)
        assert lab.call(CODE, rax=5).vector == DONE
        assert lab["rax"] == expected
        lab.put_code(OTHER_FRAME, LOAD_AL)
        lab.map(OTHER, OTHER_FRAME, RX)
        lab.map(DATA, DATA_FRAME, KERNEL_RW)
        assert lab.call(OTHER, rdi=DATA).error_code == PF_P | PF_U, "and both at CPL 3"
    assert lab.uc.reg_read(reg.UC_X86_REG_CS) == USER32_CS


def test_six_address_spaces_share_one_engine() -> None:
    """Different code at one address, and the translations survive the switches."""
    lab = Lab()
    roots = []
    for number in range(6):
        root = lab.new_table()
        lab.map_page(root, CODE, OTHER_FRAME + number * 0x1000, RX)
        lab.put(OTHER_FRAME + number * 0x1000, b"\xb8" + bytes([number, 0, 0, 0]) + INT80)
        roots.append(root)
    translated: list[int] = []
    lab.hook(UC_HOOK_EDGE_GENERATED, lambda _uc, block, _previous, _data: translated.append(block.pc))
    lab.uc.ctl_flush_tb()

    for expected_translations in (6, 6, 6):
        for number, root in enumerate(roots):
            lab.set_root(root)
            assert lab.call(CODE).vector == DONE
            assert lab["eax"] == number
        assert len(translated) == expected_translations


def test_fork_copies_a_live_engine() -> None:
    lab = Lab()
    lab.store(DATA, 7)
    child = os.fork()
    if child == 0:
        status = 99
        try:
            lab.put_code(CODE_FRAME, LOAD_AL)
            lab.call(CODE, rdi=DATA)
            status = lab["rax"]
            lab.store(DATA, 9)
        finally:
            os._exit(status)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert lab.ram.view8[DATA_FRAME] == 7, "RAM is private: the child's store is its own"


def test_python_maps_anonymous_memory_shared_unless_told() -> None:
    memory = mmap.mmap(-1, 4096)
    child = os.fork()
    if child == 0:
        memory[0] = 1
        os._exit(0)
    os.waitpid(child, 0)

    assert memory[0] == 1


# --- trap 1: Unicorn never delivers through the IDT, so env->old_exception stays ---


def fault(lab: Lab) -> list[int]:
    """One #PF without the way out; the vectors the hook saw."""
    lab.vectors.clear()
    lab.uc.reg_write(reg.UC_X86_REG_RDI, UNMAPPED)
    lab.uc.emu_start(CODE, 0)
    return lab.vectors


def test_trap_1_second_page_fault_is_a_double_fault_and_the_third_is_silent() -> None:
    lab = Lab()
    lab.put_code(CODE_FRAME, LOAD_AL)

    assert list(fault(lab)) == [VEC_PF]
    assert list(fault(lab)) == [VEC_DF]
    try:
        third = list(fault(lab))
    except EngineError:
        third = []
    assert not set(third) & {VEC_PF, VEC_DF}


def test_trap_1_out_reset_old_exception_in_the_context() -> None:
    lab = Lab()
    lab.put_code(CODE_FRAME, LOAD_AL)

    for _ in range(5):
        assert fault(lab) == [VEC_PF]
        assert lab.forget_exception() == VEC_PF


@pytest.mark.parametrize("mode", [FOUR_LEVEL, PAE], ids=lambda mode: mode.name)
def test_trap_1_offsets_in_the_context_can_be_found(mode: PagingMode) -> None:
    """The words that a read fault and a write fault leave, in a blob of 5608 bytes on both kinds of engine."""
    lab = Lab(mode)
    size = lab.uc.context_save().size
    register = "rdi" if lab.long else "edi"
    assert size == 5608
    candidates = set(range(0, size, 4))
    for code, error in ((b"\x8a\x07", PF_U), (b"\x88\x07", PF_U | PF_W)):
        lab.execute(code, **{register: UNMAPPED})
        candidates &= {offset for offset in candidates if lab.peek(offset) == error}

    assert ERROR_CODE_OFFSET in candidates
    lab.execute(b"\x8a\x07", **{register: UNMAPPED})
    lab.uc.emu_start(CODE, 0)
    saved = lab.uc.context_save()
    blob = ctypes.string_at(saved.context, size)
    assert int.from_bytes(blob[OLD_EXCEPTION_OFFSET:][:4], "little") == VEC_PF


# --- trap 2: `until` ---


def test_trap_2_a_jump_to_until_stops_instead_of_running() -> None:
    lab = Lab()
    lab.uc.ctl_exits_enabled(False)
    lab.put_code(CODE_FRAME, b"\x90\x90\x90\xeb\x02\x90\x90" + RETURN_1)  # ... jmp to RETURN_1
    lab.vectors.clear()

    lab.uc.emu_start(CODE, CODE + 7)

    assert (lab["rip"], lab.vectors) == (CODE + 7, [])


def test_trap_2_the_end_of_a_run_translates_until_and_arms_trap_1() -> None:
    lab = Lab()
    lab.uc.ctl_exits_enabled(False)

    lab.uc.emu_start(CODE, UNMAPPED)

    assert lab.vectors[-1] == DONE
    assert lab.forget_exception() == VEC_PF
    assert lab.uc.reg_read(reg.UC_X86_REG_CR2) == UNMAPPED - 1


def test_trap_2_out_exits_without_any_exit() -> None:
    """No address stops the run, not even 0, and nothing is left behind."""
    lab = Lab()
    lab.execute(b"\x31\xc0\xff\xd0", rsp=STACK)  # xor eax, eax; call rax

    stop = lab.call(CODE, rsp=STACK)

    assert (stop.vector, stop.cr2, stop.rip, stop.error_code) == (VEC_PF, 0, 0, PF_U | PF_I)
    lab.put_code(CODE_FRAME, RETURN_1)
    assert lab.result() == 1
    assert lab.forget_exception() == -1


# --- trap 3: CPL 3 cannot be written, only entered ---


def test_trap_3_writing_cs_does_not_change_the_privilege() -> None:
    lab = Lab()
    lab.map(OTHER, OTHER_FRAME, KERNEL_RW)
    lab.put_code(CODE_FRAME, LOAD_AL)

    for selector in (0x10, 0x08, 0x33):
        lab.uc.reg_write(reg.UC_X86_REG_CS, selector)
        assert lab.call(CODE, rdi=OTHER).error_code == PF_P | PF_U, "still CPL 3"

    lab.uc.context_restore(lab.ring0)
    lab.uc.reg_write(reg.UC_X86_REG_CS, 0x33)
    lab.set_root(lab.root)
    assert lab.call(CODE, rdi=OTHER).vector == DONE, "still CPL 0"


def test_trap_3_segment_loads_read_the_gdt_through_the_page_tables_as_supervisor() -> None:
    """So every root must map the GDT; here none does."""
    lab = Lab()

    stop = lab.execute(b"\x8e\xe0", rax=0x2B)  # mov fs, eax

    assert (stop.vector, stop.error_code, stop.cr2) == (VEC_PF, 0, 0x1000 + 0x28)


# --- what a fault leaves behind ---


def test_a_store_over_a_page_boundary_writes_all_or_nothing() -> None:
    """CR2 is the first byte of the missing page."""
    lab = Lab()
    end = DATA + 0x8000

    stop = lab.execute(b"\x48\x89\x07", rdi=end - 4, rax=0x1122_3344_5566_7788)

    assert (stop.vector, stop.cr2, stop.error_code) == (VEC_PF, end, PF_U | PF_W)
    assert lab.ram.view32[(DATA_FRAME + 0x8000 - 4) >> 2] == 0


def test_rep_movs_faults_with_the_registers_of_the_failing_element() -> None:
    lab = Lab()
    end = DATA + 0x8000

    stop = lab.execute(b"\xf3\xa4", rsi=DATA, rdi=end - 8, rcx=16)

    assert (stop.vector, stop.cr2, stop.rip) == (VEC_PF, end, CODE)
    assert (lab["rcx"], lab["rdi"], lab["rsi"]) == (8, end, DATA + 8)


@pytest.mark.parametrize("code", ["0007", "fe07", "f0fe07", "8607", "0fb00f", "f00fb00f", "0fc007", "480fc70f"])
def test_read_modify_write_faults_as_a_read_first(code: str) -> None:
    """Hardware says W at once: a first touch by these costs us two faults, of the zero page and of its copy."""
    lab = Lab()

    assert lab.execute(bytes.fromhex(code), rdi=UNMAPPED).error_code == PF_U
    lab.map(UNMAPPED, OTHER_FRAME, RO)
    assert lab.execute(bytes.fromhex(code), rdi=UNMAPPED).error_code == PF_P | PF_U | PF_W


@pytest.mark.parametrize("code", ["8807", "aa", "0f9207", "0fae07", "50"])
def test_plain_stores_fault_as_a_write(code: str) -> None:
    lab = Lab()
    assert lab.execute(bytes.fromhex(code), rdi=UNMAPPED, rsp=UNMAPPED + 8).error_code == PF_U | PF_W


def test_an_address_beyond_ram_ends_the_run_with_an_error_of_unicorn() -> None:
    """No exception reaches the guest: page tables must never point there."""
    bare = Bare(FOUR_LEVEL)
    root = bare.new_table()
    bare.map_page(root, CODE, CODE_FRAME, RX)
    bare.map_page(root, DATA, bare.ram.size, RW)
    bare.put_code(CODE_FRAME, LOAD_AL)
    bare.set_root(root)
    bare.uc.reg_write(reg.UC_X86_REG_RDI, DATA)

    with pytest.raises(EngineError) as error:
        bare.run(CODE)

    assert error.value.errno == const.UC_ERR_READ_UNMAPPED
