"""A Cpu in user mode on hand-made page tables: RAM, a GDT, address spaces, and a kernel of ten lines.

The counterpart of ``bare.py`` for tests of ``emu/cpu.py``: everything goes through ``Cpu``.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from emu.cpu import RIP, RSP, Context, Cpu
from emu.exits import CpuExit
from emu.paging import FIVE_LEVEL, FOUR_LEVEL, PAE, TWO_LEVEL, PagingMode
from emu.physmem import PhysMem
from emu.x86 import (
    FLAG_FIXED,
    FLAG_IF,
    PAGE_SIZE,
    PTE_ADDR,
    PTE_P,
    PTE_PS,
    PTE_RW,
    PTE_US,
    PTE_XD,
    Pfn,
    PhysAddr,
    VirtAddr,
)

RX: Final = PTE_P | PTE_US
RWX: Final = PTE_P | PTE_US | PTE_RW
RW: Final = RWX | PTE_XD
RO: Final = RX | PTE_XD

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
_GDT_PHYS: Final = 0x1000
_IRET: Final = 0x2000
_FRAME: Final = 0x3000
_FIRST_FREE: Final = 0x4000

MACHINES: Final = (
    (FOUR_LEVEL, 64),
    (FOUR_LEVEL, 32),
    (FIVE_LEVEL, 64),
    (PAE, 32),
    (TWO_LEVEL, 32),
)
"""(mode, bits of the user code)."""
MACHINE_IDS: Final = [f"{mode.name}-{bits}" for mode, bits in MACHINES]


class Rig:
    """One CPU at CPL 3, running *bits*-bit code, in an address space of its own (``root``)."""

    def __init__(self, mode: PagingMode = FOUR_LEVEL, bits: int = 64, *, size: int = 16 << 20) -> None:
        self.mode = mode
        self.bits = bits
        self.ram = PhysMem(size)
        self.view = self.ram.view64 if mode.entry_size == 8 else self.ram.view32
        self._next_frame = _FIRST_FREE
        self.identity_root = self._build_identity()
        self.root = self.new_root()
        self.cpu = Cpu(self.ram, mode)
        self._enter()

    def close(self) -> None:
        self.cpu.close()

    # -- memory

    def frame(self) -> PhysAddr:
        """A zeroed frame."""
        self._next_frame += PAGE_SIZE
        assert self._next_frame <= self.ram.size, "Rig.frame: no RAM left"
        return PhysAddr(self._next_frame - PAGE_SIZE)

    def new_root(self) -> PhysAddr:
        """An empty address space; only the entry pages are there, for the supervisor."""
        root = self.frame()
        self.map(_GDT_PHYS, PhysAddr(_GDT_PHYS), PTE_P | PTE_RW, root=root)
        self.map(_IRET, PhysAddr(_IRET), PTE_P, root=root)
        self.map(_FRAME, PhysAddr(_FRAME), PTE_P | PTE_RW, root=root)
        return root

    def map(self, address: int, phys: PhysAddr | None, flags: int, *, root: PhysAddr | None = None) -> PhysAddr:
        """Map the page of *address* to *phys* (None: a new frame); the leaf gets *flags*.  The frame.  No flush."""
        if phys is None:
            phys = self.frame()
        if not self.mode.has_nx:
            flags &= ~PTE_XD
        self.view[self.entry(address, root=root)] = phys | flags
        return phys

    def entry(self, address: int, *, root: PhysAddr | None = None) -> int:
        """Index of the leaf of *address* in ``view``; missing tables are made."""
        table = int(self.root if root is None else root)
        for level in self.mode.levels:
            slot = table // self.mode.entry_size + (address >> level.shift & (1 << level.bits) - 1)
            if level is self.mode.levels[-1]:
                break
            if not self.view[slot] & PTE_P:
                self.view[slot] = self.frame() | (RWX if level.has_rights else PTE_P)
            table = self.view[slot] & PTE_ADDR
        return slot

    def code(self, address: int, code: bytes, *, flags: int = RX, root: PhysAddr | None = None) -> PhysAddr:
        """Map new frames at the page of *address* and put *code* at *address*; the first frame."""
        first = address & -PAGE_SIZE
        frames = [self.map(page, None, flags, root=root) for page in range(first, address + len(code), PAGE_SIZE)]
        for index, page in enumerate(range(first, address + len(code), PAGE_SIZE)):
            low, high = max(page, address), min(page + PAGE_SIZE, address + len(code))
            self.ram.write(PhysAddr(frames[index] + low - page), code[low - address : high - address])
        return frames[0]

    def _build_identity(self) -> PhysAddr:
        """Map all RAM to itself, user and executable, as ``Cpu.invalidate_code`` wants it."""
        root = table = self.frame()
        for level in self.mode.levels:
            scale = self.mode.entry_size
            if level.large_page and level.shift < 30:
                for index in range(-(-self.ram.size >> level.shift)):
                    self.view[table // scale + index] = index << level.shift | RX | PTE_PS
                break
            below = self.frame()
            self.view[table // scale] = below | (RWX if level.has_rights else PTE_P)
            table = below
        return root

    # -- the CPU

    def _enter(self) -> None:
        cpu = self.cpu
        self.ram.write(PhysAddr(_GDT_PHYS), struct.pack("<8Q", *_GDT))
        self.ram.write(PhysAddr(_IRET), b"\x48\xcf" if cpu.long_mode else b"\xcf")
        cpu.start_paging(self.root)
        cpu.load_gdt(VirtAddr(_GDT_PHYS), len(_GDT) * 8 - 1)
        cpu.set_sysenter_cs(KERNEL_CS)
        ring0 = cpu.save()
        self.pristine: dict[int, Context] = {}
        for bits in (32, 64) if cpu.long_mode else (32,):
            cpu.restore(ring0)
            cpu.set_root(self.root)
            frame = (0, USER64_CS if bits == 64 else USER32_CS, FLAG_FIXED | FLAG_IF, 0, USER_DS)
            self.ram.write(PhysAddr(_FRAME), struct.pack("<5Q" if cpu.long_mode else "<5I", *frame))
            cpu.load_segment("ss", KERNEL_DS)
            cpu.enter_user(VirtAddr(_IRET), VirtAddr(_FRAME))
            for name in ("ds", "es"):
                cpu.load_segment(name, USER_DS)
            cpu.fxrstor(FRESH_FPU)
            self.pristine[bits] = cpu.save()
        self.begin(self.bits)

    def begin(self, bits: int, root: PhysAddr | None = None) -> None:
        """A new program of *bits*-bit code in *root*: registers zero."""
        self.cpu.restore(self.pristine[bits])
        self.cpu.set_root(self.root if root is None else root)
        for index in range(RIP + 1):
            self.cpu.regs[index] = 0
        self.bits = bits

    def run(self, rip: int, *, rsp: int | None = None, budget: int = 1 << 40) -> CpuExit:
        """Run from *rip*."""
        self.cpu.regs[RIP] = rip
        if rsp is not None:
            self.cpu.regs[RSP] = rsp
        return self.cpu.run(budget)

    def changed(self, *frames: PhysAddr) -> None:
        """The host wrote to code in *frames*."""
        self.cpu.invalidate_code(self.identity_root, [Pfn(frame >> 12) for frame in frames])


FRESH_FPU: Final = b"\x7f\x03" + bytes(22) + b"\x80\x1f\x00\x00" + b"\xff\xff\x00\x00" + bytes(480)


@contextmanager
def rig(mode: PagingMode = FOUR_LEVEL, bits: int = 64) -> Iterator[Rig]:
    """A rig that is closed again."""
    made = Rig(mode, bits)
    try:
        yield made
    finally:
        made.close()
