"""A bare engine in an address space of its own, for the tests of facts: one line to map, one to run."""

from typing import Any, Final

from unicorn import x86_const as reg

from emu.paging import FOUR_LEVEL, PagingMode
from emu.x86 import PTE_P, PTE_RW, PTE_US, PTE_XD
from tests.emu.bare import Bare, Stop

RX: Final = PTE_P | PTE_US
RWX: Final = PTE_P | PTE_US | PTE_RW
RW: Final = RWX | PTE_XD
RO: Final = RX | PTE_XD
KERNEL_RW: Final = PTE_P | PTE_RW

INT80: Final = b"\xcd\x80"
DONE: Final = 0x80  # the vector that ends every piece of test code
CODE, CODE_FRAME = 0x40_0000, 0x10_0000
STORE, STORE_FRAME = 0x40_1000, 0x10_1000
DATA, DATA_FRAME = 0x60_0000, 0x20_0000  # eight pages
STACK: Final = DATA + 0x4000
RETURN_1: Final = b"\xb8\x01\x00\x00\x00" + INT80  # mov eax, 1; the immediate is the second byte
STORE_AL: Final = b"\x88\x07" + INT80  # mov [rdi], al
LOAD_AL: Final = b"\x8a\x07" + INT80  # mov al, [rdi]
REGISTERS: Final[dict[str, int]] = {name: getattr(reg, f"UC_X86_REG_{name.upper()}") for name in (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "rip"),
    *("eax", "ecx", "edx", "ebx", "esp", "esi", "edi", "eip"),
)}  # fmt: skip


class Lab(Bare):
    """CODE can be executed, STORE holds a store to [rdi], DATA is eight pages of data."""

    def __init__(self, mode: PagingMode = FOUR_LEVEL, **options: Any) -> None:
        super().__init__(mode, **options)
        self.root = self.new_table()
        self.set_root(self.root)
        self.code_entry = self.map(CODE, CODE_FRAME, RX)
        self.map(STORE, STORE_FRAME, RX)
        for offset in range(0, 0x8000, 0x1000):
            self.map(DATA + offset, DATA_FRAME + offset, RW)
        self.put(CODE_FRAME, RETURN_1)
        self.put(STORE_FRAME, STORE_AL)

    def map(self, address: int, phys: int, flags: int) -> int:
        """Map a page, without a flush.  Where the entry lies."""
        if not self.mode.has_nx:
            flags &= ~PTE_XD
        return self.map_page(self.root, address, phys, flags)

    def change(self, entry: int, value: int, *, flush: bool = True) -> None:
        """Write the page-table entry at *entry*."""
        view = self.ram.view64 if self.mode.entry_size == 8 else self.ram.view32
        view[entry // self.mode.entry_size] = value
        if flush:
            self.set_root(self.root)

    def call(self, address: int = CODE, *, count: int = 0, **registers: int) -> Stop:
        """Run at *address* with these registers."""
        for name, value in registers.items():
            self.uc.reg_write(REGISTERS[name], value)
        return self.run(address, count=count)

    def result(self) -> int:
        """AL after running the code at CODE."""
        stop = self.call(CODE, **{"rax" if self.long else "eax": 0})
        assert stop.vector == DONE, stop
        return self["eax"] & 0xFF

    def store(self, address: int, value: int) -> Stop:
        """Store the byte *value*, as the guest."""
        return self.call(STORE, rdi=address, rax=value)

    def execute(self, code: bytes, *, count: int = 0, **registers: int) -> Stop:
        """Run these bytes at CODE, behind them `int 0x80`."""
        self.put_code(CODE_FRAME, code + INT80)
        return self.call(CODE, count=count, **registers)

    def __getitem__(self, name: str) -> int:
        """A register by its name."""
        value: int = self.uc.reg_read(REGISTERS[name])
        return value
