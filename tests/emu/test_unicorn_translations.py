"""What happens to translated code: hooks, counting, stale translations.

Facts of Unicorn, one test each; the traps have the numbers of "Quirks" in emu/README.md.
"""

import pytest
from unicorn import UC_HOOK_CODE, UC_HOOK_EDGE_GENERATED, UC_HOOK_MEM_WRITE
from unicorn import x86_const as reg

from emu.paging import TWO_LEVEL
from emu.x86 import PTE_ADDR, VEC_DF, VEC_PF
from tests.emu.bare import IDENTITY
from tests.emu.lab import (
    CODE,
    CODE_FRAME,
    DATA,
    DATA_FRAME,
    DONE,
    LOAD_AL,
    RETURN_1,
    RW,
    RWX,
    RX,
    STORE_FRAME,
    Lab,
)

ALIAS = 0x50_0000  # a second address of CODE_FRAME
IMMEDIATE = CODE_FRAME + 1  # what RETURN_1 returns
FOUR_BLOCKS = bytes.fromhex("90 eb00 90 eb00 90 eb00")  # nop; jmp +0 ...: eight instructions with int 0x80
LOOP = bytes.fromhex("b9 03000000 ffc9 75fc")  # mov ecx, 3; dec ecx; jnz


# --- trap 4: hooks and cached translations ---


def test_trap_4_a_new_hook_does_not_see_old_translations() -> None:
    lab = Lab()
    lab.result()
    seen: list[int] = []
    lab.hook(UC_HOOK_CODE, lambda _uc, address, _size, _data: seen.append(address))
    lab.result()
    assert not seen

    lab.uc.ctl_flush_tb()
    lab.result()
    assert seen == [CODE, CODE + 5]


def test_trap_4_the_first_step_must_follow_a_flush() -> None:
    lab = Lab()
    lab.result()
    assert lab.call(CODE, count=1).vector == DONE, "ran on to the end"

    lab.uc.ctl_flush_tb()
    assert lab.call(CODE, count=1).rip == CODE + 5
    assert lab.call(CODE + 5, count=1).vector == DONE


def test_trap_4_a_step_that_faults_leaves_rip() -> None:
    lab = Lab()
    lab.put_code(CODE_FRAME, b"\x90" + LOAD_AL)

    stop = lab.call(CODE + 1, count=1, rdi=0)

    assert (stop.vector, stop.rip) == (VEC_PF, CODE + 1)


def test_trap_4_going_back_to_a_free_run_flushes_everything() -> None:
    """As the hook that counts is deleted; going over to steps flushes nothing."""
    lab = Lab()
    translated: list[int] = []
    lab.hook(UC_HOOK_EDGE_GENERATED, lambda _uc, block, _previous, _data: translated.append(block.pc))
    lab.put_code(CODE_FRAME, FOUR_BLOCKS + b"\xcd\x80")
    counts = []
    for count in (0, 0, 1, 0, 0):
        translated.clear()
        lab.call(CODE, count=count)
        counts.append(len(translated))

    assert counts == [4, 0, 0, 4, 0]


def test_trap_4_deleting_a_hook_translates_its_addresses_and_arms_trap_1() -> None:
    """Also the hook of count=1: a free run in another address space after a step loses its first #PF to vector 8."""
    lab = Lab()
    lab.call(CODE, count=1)
    other = lab.new_table()
    lab.map_page(other, 0xC0_0000, STORE_FRAME, RX)
    lab.set_root(other)

    assert lab.call(0xC0_0000, rdi=0x10).vector == VEC_DF
    assert lab.call(0xC0_0000, rdi=0x10).vector == VEC_PF

    lab = Lab()
    handle = lab.hook(UC_HOOK_CODE, lambda *_: None)
    lab.uc.ctl_flush_tb()
    lab.result()
    lab.set_root(other)
    lab.uc.hook_del(handle)
    assert lab.forget_exception() == VEC_PF


# --- trap 6: stale translations ---


@pytest.mark.parametrize("by_host", [True, False], ids=["store by the host", "uc.mem_write"])
def test_trap_6_a_host_write_is_not_seen(*, by_host: bool) -> None:
    lab = Lab()
    assert lab.result() == 1
    if by_host:
        lab.put(IMMEDIATE, b"\x02")
    else:
        lab.uc.mem_write(IMMEDIATE, b"\x02")
    assert lab.result() == 1
    lab.set_root(lab.root)
    assert lab.result() == 1, "a TLB flush does not help"

    lab.uc.ctl_remove_cache(CODE, CODE + 0x1000)
    assert lab.result() == 2


def test_trap_6_flush_tb_drops_everything() -> None:
    lab = Lab()
    lab.result()

    lab.put_code(CODE_FRAME, b"\xb8\x03")

    assert lab.result() == 3


def test_trap_6_a_change_of_the_pte_drops_nothing() -> None:
    """A host write, the page made NX and executable again, with flushes: still the old code."""
    lab = Lab()
    lab.result()
    lab.change(lab.code_entry, CODE_FRAME | RW)
    lab.put(IMMEDIATE, b"\x02")
    lab.change(lab.code_entry, CODE_FRAME | RX)

    assert lab.result() == 1


def test_trap_6_out_remove_cache_through_the_identity_root() -> None:
    """Another address of the frame will do: translations are found by frame.  Several frames in one call, too."""
    lab = Lab()
    lab.map(ALIAS, CODE_FRAME + 0x2000, RX)
    lab.put(CODE_FRAME + 0x2000, RETURN_1)
    assert lab.result() == 1
    assert lab.call(ALIAS).vector == DONE
    lab.put(IMMEDIATE, b"\x02")
    lab.put(IMMEDIATE + 0x2000, b"\x03")

    lab.set_root(IDENTITY)
    lab.uc.ctl_remove_cache(CODE_FRAME, CODE_FRAME + 0x3000)
    lab.set_root(lab.root)

    assert lab.result() == 2
    lab.call(ALIAS)
    assert lab["eax"] == 3


def test_trap_6_a_block_over_a_page_boundary_belongs_to_both_frames() -> None:
    lab = Lab()
    second = CODE_FRAME + 0x5000
    lab.map(CODE + 0x5000, CODE_FRAME + 0x2000, RX)
    lab.map(CODE + 0x6000, second, RX)
    lab.put(CODE_FRAME + 0x2FFE, RETURN_1[:2])
    lab.put(second, RETURN_1[2:])
    lab.call(CODE + 0x5FFE)
    assert lab["eax"] == 1
    lab.put(second, b"\x01")

    lab.set_root(IDENTITY)
    lab.uc.ctl_remove_cache(second, second + 1)
    lab.set_root(lab.root)

    lab.call(CODE + 0x5FFE)
    assert lab["eax"] == 0x101


def test_trap_6_remove_cache_of_an_unmapped_address_does_nothing_and_arms_trap_1() -> None:
    """No error; CR2 changes."""
    lab = Lab()
    lab.result()
    lab.put(IMMEDIATE, b"\x02")
    assert lab.forget_exception() == -1

    lab.uc.ctl_remove_cache(CODE_FRAME, CODE_FRAME + 0x1000)

    assert lab.forget_exception() == VEC_PF
    assert lab.uc.reg_read(reg.UC_X86_REG_CR2) == CODE_FRAME
    assert lab.result() == 1


def test_guest_stores_to_its_own_code_are_seen() -> None:
    """Even to the next instruction of the same block."""
    lab = Lab()
    lab.change(lab.code_entry, CODE_FRAME | RWX)
    for value in (7, 8, 9):
        assert lab.store(CODE + 1, value).vector == DONE
        assert lab.result() == value

    lab.put_code(CODE_FRAME, bytes.fromhex("c6 05 01000000 05") + RETURN_1)  # mov byte [rip + 1], 5
    assert lab.result() == 5


def test_mprotect_to_writable_and_back_is_safe() -> None:
    """RX, RW with NX, stores, RX: with a TLB flush at each change nothing goes stale."""
    lab = Lab()
    for value in (7, 8):
        lab.result()
        lab.change(lab.code_entry, CODE_FRAME | RW)
        assert lab.call(CODE).vector == VEC_PF
        lab.store(CODE + 1, 99)
        lab.store(CODE + 1, value)
        lab.change(lab.code_entry, CODE_FRAME | RX)
        assert lab.result() == value


def test_stores_through_an_nx_alias_are_seen_once_per_tlb_entry() -> None:
    """The entry made while the frame has translations reports one store, then becomes a fast one and tells no more."""
    lab = Lab()
    lab.map(ALIAS, CODE_FRAME, RW)
    results = []
    for value in (7, 8):
        lab.result()
        lab.store(ALIAS + 1, value)
        results.append(lab.result())
    assert results == [7, 7]

    lab = Lab()
    lab.map(ALIAS, CODE_FRAME, RW)
    lab.store(ALIAS + 1, 2)
    assert lab.result() == 2
    lab.store(ALIAS + 1, 3)
    assert lab.result() == 2, "the alias was in the TLB before the translation was made"

    lab.result()
    lab.set_root(lab.root)
    lab.store(ALIAS + 1, 4)
    assert lab.result() == 4, "a flush between translation and store helps"


# --- trap 7: stores to pages whose PTE is executable never leave the slow path ---


def test_trap_7_stores_through_an_executable_pte_are_always_checked() -> None:
    """The reason for their price (12 times), and what makes an executable alias safe."""
    lab = Lab()
    lab.map(ALIAS, CODE_FRAME, RWX)
    lab.store(ALIAS + 1, 2)
    for value in (3, 4, 5):
        assert lab.result() == value - 1
        lab.store(ALIAS + 1, value)
        assert lab.result() == value


def test_trap_7_two_level_pages_are_all_executable() -> None:
    """So the classic tables pay that price for every store."""
    lab = Lab(TWO_LEVEL)
    lab.map(DATA, CODE_FRAME, RW)

    assert lab.call(DATA).vector == DONE


# --- traps 12 and 15: physical addresses ---


def test_trap_12_memory_hooks_see_physical_addresses() -> None:
    lab = Lab()
    seen: list[int] = []
    lab.hook(UC_HOOK_MEM_WRITE, lambda _uc, _access, address, _size, _value, _data: seen.append(address))
    lab.uc.ctl_flush_tb()

    lab.store(DATA, 1)

    assert seen == [DATA_FRAME]


def test_trap_15_mem_read_and_mem_write_are_physical() -> None:
    lab = Lab()
    lab.uc.mem_write(DATA_FRAME, b"frame")

    assert lab.uc.mem_read(DATA_FRAME, 5) == b"frame"
    assert lab.ram.view64[lab.code_entry >> 3] & PTE_ADDR == CODE_FRAME
    assert bytes(lab.uc.mem_read(DATA, 5)) != b"frame"
