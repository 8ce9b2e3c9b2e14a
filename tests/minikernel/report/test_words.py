"""Bits in words."""

import pytest

from emu.paging import FOUR_LEVEL, PAE, TWO_LEVEL, walk_steps
from emu.physmem import PhysMem
from emu.x86 import PF_I, PF_P, PF_RSVD, PF_U, PF_W, PTE_A, PTE_P, PTE_PS, PTE_RW, PTE_US, PTE_XD, PhysAddr, VirtAddr
from minikernel.abi import signal as s
from minikernel.mm.vma import VM_EXEC, VM_READ, VM_SHARED, VM_WRITE
from minikernel.report.words import (
    entry_words,
    error_code_bits,
    error_code_words,
    plural,
    rflags_words,
    rights,
    si_code_words,
    size_words,
)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "read by the kernel; no page is present"),
        (PF_U | PF_W, "write by the program; no page is present"),
        (PF_U | PF_P | PF_I, "fetch by the program; the page is present, its rights forbid it"),
        (PF_U | PF_P | PF_RSVD, "read by the program; an entry has a reserved bit set"),
    ],
)
def test_error_code(code: int, words: str) -> None:
    assert error_code_words(code) == words


def test_every_bit_of_the_error_code_is_named() -> None:
    assert [bit for bit, _ in error_code_bits(0x17)] == ["P=1", "W=1", "U=1", "RSVD=0", "I=1"]
    assert "without NX" in error_code_bits(4, has_nx=False)[-1][1]


def words_of(mode: object, *entries: int) -> list[str]:
    """The walk of address 0 through tables that hold *entries*, in words."""
    chosen = {"two": TWO_LEVEL, "pae": PAE, "four": FOUR_LEVEL}[str(mode)]
    physmem = PhysMem(4 << 20)
    for depth, entry in enumerate(entries):
        physmem.write(PhysAddr((depth + 1) << 12), entry.to_bytes(chosen.entry_size, "little"))
    return [entry_words(step, chosen) for step in walk_steps(physmem, chosen, PhysAddr(0x1000), VirtAddr(0))]


TABLE = PTE_P | PTE_RW | PTE_US | PTE_A


def test_entries_of_a_walk() -> None:
    shown = words_of("four", 0x2000 | TABLE, 0x3000 | TABLE, 0x4000 | TABLE, 0x9000 | PTE_P | PTE_XD)
    assert shown == [
        *(f"-> table in frame {frame}  present writable user accessed" for frame in ("0x2", "0x3", "0x4")),
        "-> frame 0x9  present read-only supervisor no-execute",
    ]


def test_absent_entries() -> None:
    assert words_of("two", 0) == ["empty: not present"]
    assert words_of("two", 0x5000)[0] == "not present; the kernel's: in swap, area 0, slot 80"


def test_large_page() -> None:
    assert words_of("two", 0x40_0000 | TABLE | PTE_PS) == [
        "-> frame 0x400 of 4 MiB  present writable user accessed"
    ]  # fmt: skip


def test_reserved_bits() -> None:
    assert words_of("pae", 0x2000 | PTE_P | 1 << 62)[0].endswith("reserved bits 0x4000000000000000 are set")


def test_pdpte_of_pae_has_no_rights() -> None:
    assert words_of("pae", 0x2000 | PTE_P, 0)[0] == "-> table in frame 0x2  present"


def test_rights_and_flags() -> None:
    assert rights(VM_READ | VM_WRITE) == "rw-p"
    assert rights(VM_READ | VM_EXEC | VM_SHARED) == "r-xs"
    assert rflags_words(0x246) == "PF ZF IF"


def test_signal_codes() -> None:
    assert si_code_words(s.SIGSEGV, s.SEGV_MAPERR) == ("SEGV_MAPERR", "no mapping there")
    assert si_code_words(s.SIGTERM, s.SI_USER)[0] == "SI_USER"
    assert si_code_words(s.SIGTERM, -77) == ("si_code -77", "sent by a program")


def test_sizes() -> None:
    assert [size_words(size) for size in (0, 1, 1023, 4096, 5000, 3 << 30, 1 << 50)] == [
        "0 bytes", "1 byte", "1023 bytes", "4 KiB", "4.9 KiB", "3 GiB", "1 PiB",
    ]  # fmt: skip
    assert (plural(1, "page"), plural(1200, "page")) == ("1 page", "1,200 pages")
