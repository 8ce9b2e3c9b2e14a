"""Trap 5: what the TLB keeps, and what flushes it.

Facts of Unicorn, one test each; the traps have the numbers of "Quirks" in emu/README.md.
"""

import pytest
from unicorn import unicorn_const as const
from unicorn import x86_const as reg

from emu.paging import PAE
from emu.physmem import PhysMem
from emu.x86 import PF_P, PF_U, PF_W, VEC_PF, PhysAddr
from tests.emu.lab import CODE, CODE_FRAME, DATA, DATA_FRAME, DONE, LOAD_AL, RO, RW, RX, Lab

UNMAPPED = 0x70_0000


def read(lab: Lab, address: int = DATA) -> int:
    """What the guest reads at *address*; LOAD_AL is at CODE."""
    assert lab.call(CODE, rdi=address, rax=0).vector == DONE
    return lab["rax"]


@pytest.fixture
def tlb() -> Lab:
    """Two pages of data, 0x11 and 0x22; the first is in the TLB."""
    lab = Lab()
    lab.put_code(CODE_FRAME, LOAD_AL)
    lab.put(DATA_FRAME, b"\x11")
    lab.put(DATA_FRAME + 0x1000, b"\x22")
    assert read(lab) == 0x11
    return lab


def test_trap_5_the_binding_has_no_tlb_flush_but_the_library_has(tlb: Lab) -> None:
    assert not hasattr(tlb.uc, "ctl_flush_tlb")
    tlb.map(DATA, DATA_FRAME + 0x1000, RW)
    assert read(tlb) == 0x11

    tlb.uc.ctl(const.UC_CTL_TLB_FLUSH, const.UC_CTL_IO_WRITE)

    assert read(tlb) == 0x22


def test_trap_5_writing_cr3_flushes_although_it_does_not_change(tlb: Lab) -> None:
    tlb.map(DATA, DATA_FRAME + 0x1000, RW)

    tlb.set_root(tlb.root)

    assert read(tlb) == 0x22


def test_trap_5_restoring_a_context_does_not_flush_even_with_another_cr3(tlb: Lab) -> None:
    there = tlb.uc.context_save()
    other = tlb.new_table()
    tlb.map_page(other, CODE, CODE_FRAME, RX)
    tlb.map_page(other, DATA, DATA_FRAME + 0x1000, RW)
    tlb.set_root(other)
    assert read(tlb) == 0x22

    tlb.uc.context_restore(there)

    assert tlb.uc.reg_read(reg.UC_X86_REG_CR3) == tlb.root
    assert read(tlb) == 0x22, "the other space's TLB entry"
    tlb.set_root(tlb.root)
    assert read(tlb) == 0x11


def test_trap_5_a_page_that_becomes_present_needs_no_flush() -> None:
    lab = Lab()
    lab.put_code(CODE_FRAME, LOAD_AL)
    assert lab.call(CODE, rdi=UNMAPPED).vector == VEC_PF

    lab.map(UNMAPPED, DATA_FRAME, RO)

    assert lab.call(CODE, rdi=UNMAPPED).vector == DONE


def test_trap_5_a_page_that_becomes_writable_after_its_fault_needs_no_flush() -> None:
    lab = Lab()
    lab.map(DATA, DATA_FRAME, RO)
    assert lab.store(DATA, 1).error_code == PF_P | PF_W | PF_U

    lab.map(DATA, DATA_FRAME, RW)

    assert lab.store(DATA, 1).vector == DONE


@pytest.mark.parametrize("entry", [0, DATA_FRAME | RO, DATA_FRAME | RW], ids=["unmap", "read-only", "clean"])
def test_trap_5_a_downgrade_needs_a_flush(entry: int) -> None:
    lab = Lab()
    where = lab.map(DATA, DATA_FRAME, RW)
    assert lab.store(DATA, 1).vector == DONE

    lab.change(where, entry, flush=False)
    assert lab.store(DATA, 2).vector == DONE, "the TLB still allows it"
    assert lab.ram.view64[where >> 3] == entry, "and sets no bit"

    lab.set_root(lab.root)
    clean = entry == DATA_FRAME | RW
    assert (lab.store(DATA, 3).vector == DONE) == clean
    assert (lab.ram.view64[where >> 3] == entry) == (not clean)


def test_cr3_holds_64_bits_in_the_64_bit_engine_and_32_in_the_other() -> None:
    lab = Lab()
    high = PhysMem(4 << 20)
    lab.uc.mem_map_ptr(1 << 32, high.size, const.UC_PROT_ALL, high.address)
    high.write(PhysAddr(0), lab.ram.read(PhysAddr(lab.root), 0x1000))
    lab.set_root(1 << 32)
    assert lab.result() == 1

    classic = Lab(PAE)
    classic.set_root(1 << 32 | classic.root)
    assert classic.uc.reg_read(reg.UC_X86_REG_CR3) == classic.root


def test_pdptes_of_pae_are_read_at_each_walk() -> None:
    """Hardware loads the four of them with CR3 and keeps them (SDM vol. 3A, 4.4.1)."""
    lab = Lab(PAE)
    lab.put_code(CODE_FRAME, LOAD_AL)
    far = 0xC000_0000
    assert lab.call(CODE, edi=far).vector == VEC_PF

    lab.map(far, DATA_FRAME, RO)

    assert lab.call(CODE, edi=far).vector == DONE
