"""A bare Unicorn engine with real paging, for tests that ask what the emulated hardware does.

No policy and no kernel: RAM, a GDT, an identity root, CPL 3, and ``run`` that says why it stopped.  It knows the
traps of this Unicorn only as far as it must: no ``until`` (trap 2), `old_exception` reset after every exception
(trap 1), CPL 3 entered by ``iretq`` (trap 3).
"""

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from unicorn import UC_ARCH_X86, UC_HOOK_INSN_INVALID, UC_HOOK_INTR, UC_MODE_32, UC_MODE_64
from unicorn import x86_const as reg
from unicorn.unicorn_const import UC_PROT_ALL
from unicorn.unicorn_py3.unicorn import Uc, UcError

from emu.paging import PagingMode
from emu.physmem import PhysMem
from emu.x86 import (
    CR0_ET,
    CR0_MP,
    CR0_NE,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    CR4_PAE,
    CR4_PGE,
    CR4_PSE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    PAGE_SIZE,
    PTE_ADDR,
    PTE_P,
    PTE_PS,
    PTE_RW,
    PTE_US,
    VEC_UD,
    PhysAddr,
)

ENGINE: Final[Any] = Uc  # the binding has no types
EngineError: Final = UcError

MSR_EFER: Final = 0xC000_0080
ERROR_CODE_OFFSET: Final = 5424  # in the blob of uc_context_save
IS_INT_OFFSET: Final = 5428
OLD_EXCEPTION_OFFSET: Final = 5536

GDT: Final = 0x1000
ENTRY: Final = 0x2000  # iretq; its landing place, at CPL 3, is `int 0x80`
LANDING: Final = 0x2010
ENTRY_STACK: Final = 0x3000
IDENTITY: Final = 0x4000  # tables that map all RAM to itself, user, writable, executable
FREE: Final = 0x10000  # from here on RAM belongs to the test

KERNEL_CS: Final = 0x10
KERNEL_DS: Final = 0x18
USER32_CS: Final = 0x23
USER_DS: Final = 0x2B
USER64_CS: Final = 0x33
KERNEL32_CS: Final = 0x38
_FLAT: Final = 0x000F_0000_0000_FFFF  # base 0, limit 4 GiB
_GDT: Final = (
    0,
    0,
    _FLAT | 0xA09B << 40,  # 0x10 kernel code, 64-bit
    _FLAT | 0xC093 << 40,  # 0x18 kernel data
    _FLAT | 0xC0FB << 40,  # 0x23 user code, 32-bit
    _FLAT | 0xC0F3 << 40,  # 0x2b user data
    _FLAT | 0xA0FB << 40,  # 0x33 user code, 64-bit
    _FLAT | 0xC09B << 40,  # 0x38 kernel code, 32-bit
)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why ``run`` came back: the vector the hook saw (-1: none, somebody stopped the engine)."""

    vector: int
    error_code: int
    is_int: int
    cr2: int
    rip: int


class Bare:
    """One engine in *mode* at CPL 3, on the identity root."""

    def __init__(
        self,
        mode: PagingMode,
        *,
        size: int = 16 << 20,
        nxe: bool = True,
        wp: bool = True,
        bits: int = 0,
        cr4: int = 0,
        cpu: int | None = None,
    ) -> None:
        self.mode = mode
        self.long = mode.va_bits > 32
        self.bits = bits or (64 if self.long else 32)
        self.ip, self.sp = (
            (reg.UC_X86_REG_RIP, reg.UC_X86_REG_RSP) if self.long else (reg.UC_X86_REG_EIP, reg.UC_X86_REG_ESP)
        )
        self.ram = PhysMem(size)
        self.uc: Any = ENGINE(UC_ARCH_X86, UC_MODE_64 if self.long else UC_MODE_32, cpu)
        self.uc.mem_map_ptr(0, size, UC_PROT_ALL, self.ram.address)
        self.uc.ctl_exits_enabled(True)
        self.vectors: list[int] = []
        self.hook(UC_HOOK_INTR, self._on_interrupt)
        self.hook(UC_HOOK_INSN_INVALID, self._on_invalid)
        self._scratch = self.uc.context_save()
        self.blob = (ctypes.c_ubyte * self._scratch.size).from_address(self._scratch.context.value)
        self.next_table = size
        self._system_registers(nxe=nxe, wp=wp, cr4=cr4)
        self.ring0 = self.uc.context_save()
        self.enter_user(self.bits)

    def put(self, phys: int, data: bytes) -> None:
        """Write *data* to RAM as the host does: translations of it go stale (trap 6)."""
        self.ram.write(PhysAddr(phys), data)

    def put_code(self, phys: int, code: bytes) -> None:
        """Write code and drop every translation."""
        self.put(phys, code)
        self.uc.ctl_flush_tb()

    def hook(self, kind: int, callback: Callable[..., Any], **where: int) -> int:
        """Add a hook; its translations are the caller's business (trap 4)."""
        handle: int = self.uc.hook_add(kind, callback, **where)
        return handle

    def _on_interrupt(self, uc: Any, vector: int, _: object) -> None:
        self.vectors.append(vector)
        uc.emu_stop()

    def _on_invalid(self, uc: Any, _: object) -> bool:
        self.vectors.append(VEC_UD)
        uc.emu_stop()
        return True  # False would make emu_start fail

    def _system_registers(self, *, nxe: bool, wp: bool, cr4: int) -> None:
        uc = self.uc
        self.put(GDT, struct.pack("<8Q", *_GDT))
        self.build_identity()
        uc.reg_write(reg.UC_X86_REG_GDTR, (0, GDT, len(_GDT) * 8 - 1, 0))
        uc.msr_write(MSR_EFER, EFER_SCE | (EFER_LME | EFER_LMA if self.long else 0) | (EFER_NXE if nxe else 0))
        uc.reg_write(reg.UC_X86_REG_CR3, IDENTITY)
        pae = CR4_PAE if self.mode.entry_size == 8 else 0
        uc.reg_write(reg.UC_X86_REG_CR4, CR4_PSE | pae | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | cr4)
        uc.reg_write(reg.UC_X86_REG_CR0, CR0_PE | CR0_MP | CR0_ET | CR0_NE | (CR0_WP if wp else 0) | CR0_PG)
        if not self.long:
            uc.reg_write(reg.UC_X86_REG_CS, KERNEL32_CS)
            for segment in (reg.UC_X86_REG_SS, reg.UC_X86_REG_DS, reg.UC_X86_REG_ES):
                uc.reg_write(segment, KERNEL_DS)

    def build_identity(self) -> None:
        """Map RAM to itself with large pages, and nothing else."""
        view = self.ram.view64 if self.mode.entry_size == 8 else self.ram.view32
        scale = self.mode.entry_size
        rights = PTE_P | PTE_RW | PTE_US
        table = IDENTITY
        for level in self.mode.levels:
            if level.large_page and level.shift < 30:
                for index in range(-(-self.ram.size >> level.shift)):
                    view[table // scale + index] = index << level.shift | rights | PTE_PS
                return
            view[table // scale] = table + 0x1000 | (rights if level.has_rights else PTE_P)
            table += 0x1000

    def new_table(self) -> int:
        """A zeroed frame for a table, from the top of RAM downwards."""
        self.next_table -= PAGE_SIZE
        self.ram.zero(PhysAddr(self.next_table))
        return self.next_table

    def map_page(self, root: int, address: int, phys: int, flags: int) -> int:
        """Map 4 KiB at *address*; *flags* are the leaf's, upper levels allow everything.  Where the leaf lies."""
        view = self.ram.view64 if self.mode.entry_size == 8 else self.ram.view32
        table = root
        for level in self.mode.levels:
            entry = table + (address >> level.shift & (1 << level.bits) - 1) * self.mode.entry_size
            slot = entry // self.mode.entry_size
            if level is self.mode.levels[-1]:
                view[slot] = phys | flags
                return entry
            if not view[slot] & PTE_P:
                view[slot] = self.new_table() | (PTE_P | PTE_RW | PTE_US if level.has_rights else PTE_P)
            table = view[slot] & PTE_ADDR
        raise AssertionError("map_page: a mode has levels")

    def enter_user(self, bits: int) -> None:
        """Go to CPL 3 through iretq (trap 3), into 64-bit code or 32-bit code."""
        frame = (LANDING, USER64_CS if bits == 64 else USER32_CS, 0x202, ENTRY_STACK, USER_DS)
        self.put(ENTRY, b"\x48\xcf" if self.long else b"\xcf")
        self.put(LANDING, b"\xcd\x80")
        self.put(ENTRY_STACK, struct.pack("<5Q" if self.long else "<5I", *frame))
        self.uc.reg_write(self.sp, ENTRY_STACK)
        stop = self.run(ENTRY)
        assert stop.vector == 0x80, f"enter_user: {stop}"
        for segment in (reg.UC_X86_REG_DS, reg.UC_X86_REG_ES):
            self.uc.reg_write(segment, USER_DS)
        self.bits = bits

    def run(self, rip: int, *, count: int = 0) -> Stop:
        """Run from *rip* until something stops the engine; then make it ready for the next exception."""
        self.vectors.clear()
        try:
            self.uc.emu_start(rip, 0, count=count)
        finally:
            self.forget_exception()
        vector = self.vectors[0] if self.vectors else -1
        error_code, is_int = self.peek(ERROR_CODE_OFFSET), self.peek(IS_INT_OFFSET)
        return Stop(vector, error_code, is_int, self.uc.reg_read(reg.UC_X86_REG_CR2), self.uc.reg_read(self.ip))

    def forget_exception(self) -> int:
        """Reset `old_exception` (trap 1).  What it was."""
        self.uc.context_update(self._scratch)
        old = self.peek(OLD_EXCEPTION_OFFSET)
        ctypes.c_int.from_buffer(self.blob, OLD_EXCEPTION_OFFSET).value = -1
        self.uc.context_restore(self._scratch)
        return old

    def peek(self, offset: int) -> int:
        """A C int of the context saved last."""
        value: int = ctypes.c_int.from_buffer(self.blob, offset).value
        return value

    def set_root(self, root: int) -> None:
        """Write CR3, which also flushes the TLB (trap 5)."""
        self.uc.reg_write(reg.UC_X86_REG_CR3, root)
