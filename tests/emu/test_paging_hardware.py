"""The walker against the emulated hardware: random tables, random accesses, every mode.

An access of the walker and the same access of the processor start from the same RAM; afterwards the result and every
byte of every table must agree.  Seeded: the same cases each time.
"""

import random
from dataclasses import dataclass
from typing import Any, Final

import pytest
from unicorn import x86_const as reg

from emu.exits import PageFault
from emu.paging import FIVE_LEVEL, FOUR_LEVEL, PAE, TWO_LEVEL, Level, PagingMode, Translation, walk, walk_steps
from emu.x86 import (
    CR4_LA57,
    PAGE_SIZE,
    PF_I,
    PF_RSVD,
    PF_U,
    PF_W,
    PTE_A,
    PTE_ADDR,
    PTE_D,
    PTE_G,
    PTE_P,
    PTE_PCD,
    PTE_PS,
    PTE_PWT,
    PTE_RW,
    PTE_SOFT2,
    PTE_US,
    PTE_XD,
    VEC_GP,
    VEC_PF,
    PhysAddr,
    VirtAddr,
)
from tests.emu.bare import Bare, EngineError

ACCESSES: Final = 5000  # in every configuration
RAM: Final = 64 << 20
TABLES: Final = 0x10_0000  # the root; then one table a level, and from the end downwards those of the stubs
TABLES_END: Final = 0x11_0000
DATA: Final = 0x80_0000  # accesses below this could hit the tables: such cases are not run
CODE_PHYS: Final = 0x20_0000
CODE: Final = 0x1000_0000  # where all tables map the three stubs; its root slot is never randomized
READ, WRITE, FETCH = CODE, CODE + 0x100, CODE + 0x200
STUBS: Final = {READ: b"\x0f\xb6\x07\xcd\x80", WRITE: b"\x88\x07\xcd\x80", FETCH: b"\xff\xe7"}
DONE: Final = 0x80  # all of them end in int 0x80


@dataclass(frozen=True)
class Config:
    """A processor to compare with."""

    mode: PagingMode
    nxe: bool = True
    wp: bool = True
    bits: int = 0

    def __str__(self) -> str:
        bits = f" {self.bits}-bit code" if self.bits else ""
        return f"{self.mode.name}{'' if self.nxe else ' NXE=0'}{'' if self.wp else ' WP=0'}{bits}"


CONFIGS: Final = (
    Config(TWO_LEVEL),
    Config(TWO_LEVEL, wp=False),
    Config(TWO_LEVEL, nxe=False),
    Config(PAE),
    Config(PAE, nxe=False),
    Config(PAE, wp=False),
    Config(FOUR_LEVEL),
    Config(FOUR_LEVEL, nxe=False),
    Config(FOUR_LEVEL, wp=False),
    Config(FOUR_LEVEL, bits=32),
    Config(FIVE_LEVEL),
    Config(FIVE_LEVEL, nxe=False),
)


class Comparison:
    """One processor, its tables, and the walker."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.mode = config.mode
        self.va_bits = config.bits or config.mode.va_bits
        self.random = random.Random(str(config))
        cr4 = CR4_LA57 if self.mode is FIVE_LEVEL else 0
        self.bare = Bare(self.mode, size=RAM, nxe=config.nxe, wp=config.wp, bits=config.bits, cr4=cr4)
        self.bare.next_table = TABLES_END
        self.bare.map_page(TABLES, CODE, CODE_PHYS, PTE_P | PTE_US)
        for address, code in STUBS.items():
            self.bare.put_code(CODE_PHYS + address - CODE, code)
        walk(self.bare.ram, self.mode, PhysAddr(TABLES), VirtAddr(CODE), PF_I | PF_U)  # every access uses it: set A
        self.tables = [TABLES + PAGE_SIZE * n for n in range(len(self.mode.levels))]
        self.levels = self.mode.levels
        if config.bits == 32:  # 32-bit code sees one PML4E: start below it, in the stubs' table
            self.levels = self.levels[1:]
            self.tables = [self.bare.ram.view64[TABLES >> 3] & PTE_ADDR, *self.tables[2:]]
        self.contexts: dict[int, Any] = {}  # of CPL 0 and 3, with this root
        user = self.bare.uc.context_save()
        for privilege, context in ((0, self.bare.ring0), (PF_U, user)):
            self.bare.uc.context_restore(context)
            self.bare.set_root(TABLES)
            self.contexts[privilege] = self.bare.uc.context_save()
        self.outcomes: dict[str, int] = {}

    def random_entry(self, level: Level, child: int) -> int:
        """An entry that more often than not leads on to *child*, the next table (0: this is the last)."""
        rnd = self.random
        entry = PTE_P if rnd.random() < 0.95 else 0
        for bit, chance in (
            (PTE_RW, 0.8),
            (PTE_US, 0.8),
            (PTE_PWT | PTE_PCD, 0.3),
            (PTE_A, 0.5),
            (PTE_D, 0.4),
            (PTE_G, 0.3),
            (PTE_SOFT2, 0.3),
            (PTE_PS, 0.3 if level.large_page else 0.03),
            (PTE_XD, 0.15 if self.config.nxe else 0.03),
        ):
            if rnd.random() < chance:
                entry |= bit
        if child and not (level.large_page and entry & PTE_PS):
            entry |= child
        else:
            entry |= rnd.randrange(DATA, RAM, PAGE_SIZE) & (-1 << level.shift if rnd.random() < 0.9 else -1)
        if rnd.random() < 0.06:
            entry ^= 1 << rnd.randrange(12, 63)
        return entry & (PTE_XD - 1 if not level.has_rights and rnd.random() < 0.9 else -1)

    def new_path(self) -> VirtAddr:
        """Write random entries along the way of a random address.  The entries of earlier paths stay."""
        rnd = self.random
        view = self.bare.ram.view64 if self.mode.entry_size == 8 else self.bare.ram.view32
        limit = (1 << 8 * self.mode.entry_size) - 1
        address = 0
        for level, table, child in zip(self.levels, self.tables, [*self.tables[1:], 0], strict=True):
            index = rnd.randrange(1 << min(level.bits, self.va_bits - level.shift))
            if table == self.tables[0] and index == CODE >> level.shift:
                index += 1
            address |= index << level.shift
            view[table // self.mode.entry_size + index] = self.random_entry(level, child) & limit
        address |= rnd.randrange(PAGE_SIZE - 16)
        if self.va_bits > 32:
            if address >> self.va_bits - 1:
                address |= (1 << 64) - (1 << self.va_bits)
            if rnd.random() < 0.03:
                address ^= 1 << rnd.randrange(self.va_bits - 1, 64)
        return VirtAddr(address)

    def run(self) -> None:
        """Make ACCESSES accesses, some of them through the TLB entry that an earlier one left."""
        accesses = 0
        while accesses < ACCESSES:
            address = self.new_path()
            fresh = True
            for _ in range(self.random.randrange(1, 5)):
                accesses += 1
                access = self.random.choice((0, PF_W, PF_I)) | self.random.choice((0, PF_U, PF_U))
                if self.compare(address, access, flush=fresh or self.random.random() < 0.5):
                    fresh = False

    def compare(self, address: VirtAddr, access: int, *, flush: bool) -> bool:
        """One access; whether it was made."""
        ram = self.bare.ram
        steps = walk_steps(ram, self.mode, PhysAddr(TABLES), address, nxe=self.config.nxe)
        before = ram.ram[TABLES:TABLES_END]
        expected = walk(ram, self.mode, PhysAddr(TABLES), address, access, nxe=self.config.nxe, wp=self.config.wp)
        phys = expected.phys if isinstance(expected, Translation) else DATA
        after = ram.ram[TABLES:TABLES_END]
        ram.ram[TABLES:TABLES_END] = before
        if phys < DATA:
            self.count("not run")
            return False
        seen = self.access(address, access, expected, flush=flush)
        text = f"{self.config} {address:#x} access {access:#x}\n{expected}\n" + "\n".join(map(str, steps))
        assert seen == self.expectation(expected, access), text
        assert ram.ram[TABLES:TABLES_END] == after, f"other A or D bits than the walker's: {text}"
        return True

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def expectation(self, expected: object, access: int) -> tuple[str, int, int]:
        """What `access` should return."""
        if isinstance(expected, PageFault):
            self.count(f"#PF {expected.error_code:#x}")
            return "#PF", expected.address, expected.error_code
        if not isinstance(expected, Translation):
            self.count("#GP")
            return "#GP", 0, 0
        if expected.phys >= RAM:
            self.count("bus")
            return "bus", 0, 0
        self.count(f"{1 << expected.page_shift - 10} KiB")
        return "done", expected.phys, access & (PF_W | PF_I)

    def access(self, address: int, access: int, expected: object, *, flush: bool) -> tuple[str, int, int]:
        """Let the processor do it: (what happened, where, how)."""
        bare, uc = self.bare, self.bare.uc
        phys = expected.phys if isinstance(expected, Translation) and expected.phys < RAM else DATA
        token = self.random.randrange(1, 1 << 31)
        stub = FETCH if access & PF_I else WRITE if access & PF_W else READ
        uc.context_restore(self.contexts[access & PF_U])
        uc.reg_write(reg.UC_X86_REG_RDI if bare.long else reg.UC_X86_REG_EDI, address)
        uc.reg_write(reg.UC_X86_REG_EAX, token if access & PF_W else 0)
        if access & PF_I:
            bare.put_code(phys, b"\xb8" + token.to_bytes(4, "little") + b"\xcd\x80")  # mov eax, token; int 0x80
        else:
            bare.put(phys, bytes([token & 0xFF if not access & PF_W else ~token & 0xFF]))
        if flush:
            bare.set_root(TABLES)
        try:
            stop = bare.run(stub)
        except EngineError:
            return "bus", 0, 0
        if stop.vector == VEC_PF and not stop.is_int:
            return "#PF", stop.cr2, stop.error_code
        if stop.vector == VEC_GP:
            return "#GP", 0, stop.error_code
        assert stop.vector == DONE
        got = bare.ram.view8[phys] if access & PF_W else uc.reg_read(reg.UC_X86_REG_EAX)
        matches = got == (token if access & PF_I else token & 0xFF)
        return ("done" if matches else "elsewhere"), phys, access & (PF_W | PF_I)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_walker_and_processor_agree(config: Config) -> None:
    """Translation, CR2, error code, accessed and dirty bits; and the cases are not all of one kind."""
    comparison = Comparison(config)
    comparison.run()

    outcomes = comparison.outcomes
    sizes = {"4 KiB", *(f"{1 << level.shift - 10} KiB" for level in comparison.levels if level.large_page)}
    errors = {int(name.removeprefix("#PF "), 16) for name in outcomes if name.startswith("#PF")}
    assert sizes == {name for name in outcomes if name.endswith("KiB")}
    assert sum(outcomes[size] for size in sizes) > ACCESSES // 10
    assert any(error & PF_RSVD for error in errors)
    assert any(error & PF_I for error in errors) == (config.mode.has_nx and config.nxe)
    assert ("#GP" in outcomes) == (comparison.va_bits > 32)
    assert outcomes.get("not run", 0) < ACCESSES // 100
