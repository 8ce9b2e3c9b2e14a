"""The way into user mode, once per boot, and the pristine CPU states that programs start from.

The CPU leaves ring 0 for good: it executes one interrupt return for each kind of user code, and the states it
arrives in are kept.  A new program begins with a copy of one; a task switch restores a saved one.

Linux: arch/x86/kernel/process_64.c (start_thread), arch/x86/kernel/tls.c, arch/x86/kernel/fpu/init.c.
"""

from typing import Final

from emu.cpu import Context, Cpu
from emu.x86 import FLAG_FIXED, FLAG_IF, PhysAddr, VirtAddr, pfn_to_phys
from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.errno import Errno, LinuxError
from minikernel.arch.segments import I386_GDT, NR_TLS, X86_64_GDT, GdtLayout
from minikernel.mm.kernel_half import KernelHalf

_IRET_OFFSET: Final = 0x800  # in the entry frame; the GDT is at its start
_FRAME_OFFSET: Final = 0x900
_IRETQ: Final = b"\x48\xcf"
_IRETD: Final = b"\xcf"
_EMPTY_TLS: Final = (0,) * NR_TLS

# FXSAVE image of a new program: FCW 0x37f, no register in use, MXCSR 0x1f80.
INIT_FPSTATE: Final = b"\x7f\x03" + bytes(22) + b"\x80\x1f\x00\x00" + b"\xff\xff\x00\x00" + bytes(480)


class UserMode:
    """The GDT in the kernel's entry frame, and the first user state of each ABI."""

    __slots__ = ("_cpu", "_gdt_phys", "_tls", "gdt", "pristine")

    def __init__(self, cpu: Cpu, kernel_half: KernelHalf, root: PhysAddr) -> None:
        """Turn paging on with *root*, whose kernel half is *kernel_half*'s, and enter ring 3."""
        self._cpu = cpu
        self.gdt: GdtLayout = X86_64_GDT if cpu.long_mode else I386_GDT
        self._gdt_phys = pfn_to_phys(kernel_half.entry_pfn)
        self._tls: tuple[int, ...] = _EMPTY_TLS
        self._write_tables()
        cpu.start_paging(root)
        cpu.load_gdt(kernel_half.entry_address, self.gdt.size * 8 - 1)
        cpu.set_sysenter_cs(self.gdt.kernel_cs)
        ring0 = cpu.save()
        self.pristine: dict[Abi, Context] = {}
        if self.gdt.user_cs64 is not None:
            self.pristine[X86_64] = self._enter(root, ring0, kernel_half.entry_address, self.gdt.user_cs64)
        self.pristine[I386] = self._enter(root, ring0, kernel_half.entry_address, self.gdt.user_cs32)

    def _write_tables(self) -> None:
        physmem = self._cpu.physmem
        for index, descriptor in self.gdt.entries:
            physmem.view64[(self._gdt_phys >> 3) + index] = descriptor
        physmem.write(PhysAddr(self._gdt_phys + _IRET_OFFSET), _IRETQ if self._cpu.long_mode else _IRETD)

    def _enter(self, root: PhysAddr, ring0: Context, entry: VirtAddr, cs: int) -> Context:
        """The state behind an interrupt return to *cs*: registers zero, data segments as a new program has them."""
        cpu = self._cpu
        cpu.restore(ring0)
        cpu.set_root(root)
        if not cpu.long_mode:
            cpu.load_segment("ss", self.gdt.kernel_ds)  # out of reset the stack is a 16-bit one
        word = 8 if cpu.long_mode else 4
        frame = (0, cs, FLAG_FIXED | FLAG_IF, 0, self.gdt.user_ds)
        data = b"".join(value.to_bytes(word, "little") for value in frame)
        cpu.physmem.write(PhysAddr(self._gdt_phys + _FRAME_OFFSET), data)
        cpu.load_segment("ss", self.gdt.kernel_ds)  # the engine starts with a 16-bit stack, which cuts ESP
        cpu.enter_user(VirtAddr(entry + _IRET_OFFSET), VirtAddr(entry + _FRAME_OFFSET))
        data_segment = 0 if cs == self.gdt.user_cs64 else self.gdt.user_ds
        for name in ("ds", "es"):
            cpu.load_segment(name, data_segment)
        for name in ("fs", "gs"):
            cpu.load_segment(name, 0)
        for index in range(16 if cpu.long_mode else 8):
            cpu.regs[index] = 0
        cpu.fxrstor(INIT_FPSTATE)
        return cpu.save()

    def code_selector(self, abi: Abi) -> int:
        """CS of user code of *abi*."""
        if abi is I386:
            return self.gdt.user_cs32
        assert self.gdt.user_cs64 is not None, "code_selector: no 64-bit code on this machine"
        return self.gdt.user_cs64

    @property
    def init_fpstate(self) -> bytes:
        """The FXSAVE image of a new program."""
        return INIT_FPSTATE

    def set_code_selector(self, selector: int) -> None:
        """Go on in the code segment *selector*, keeping every other register.

        Errors:
            EFAULT: it is not one of the user code segments (Linux: the return to user mode faults).
        """
        cpu = self._cpu
        if selector == cpu.segment("cs"):
            return
        abi = {self.gdt.user_cs64: X86_64, self.gdt.user_cs32: I386}.get(selector)
        if abi is None or abi not in self.pristine:
            raise LinuxError(Errno.EFAULT, f"{selector:#x} is no user code segment")
        regs, flags, fpstate = list(cpu.regs), cpu.rflags, cpu.fxsave()
        segments = {name: cpu.segment(name) for name in ("ds", "es", "fs", "gs")}
        bases = (cpu.fs_base, cpu.gs_base) if cpu.long_mode else (0, 0)
        root = cpu.root
        cpu.restore(self.pristine[abi])
        cpu.set_root(root)
        for index, value in enumerate(regs):
            cpu.regs[index] = value
        cpu.rflags = flags
        cpu.fxrstor(fpstate)
        for name, value in segments.items():
            self.load_segment(name, value)
        if cpu.long_mode:
            cpu.fs_base, cpu.gs_base = bases

    def load_segment(self, name: str, selector: int) -> None:
        """Load a data segment register; one that the CPU refuses leaves it empty (Linux: loadsegment)."""
        if not self._cpu.load_segment(name, selector):
            self._cpu.load_segment(name, 0)

    def load_tls(self, tls: tuple[int, ...]) -> None:
        """Put a task's TLS descriptors into the GDT (Linux: load_TLS).  Loaded segments keep the old ones."""
        if tls == self._tls:
            return
        first = (self._gdt_phys >> 3) + self.gdt.tls_min
        for index, descriptor in enumerate(tls):
            self._cpu.physmem.view64[first + index] = descriptor
        self._tls = tls
