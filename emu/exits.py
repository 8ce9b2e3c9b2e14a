"""Why the CPU stopped, as data.

``Cpu.run`` returns one of these.  The kernel decides what each means; the machine does not.
Syscall and budget exits carry nothing but their kind (the arguments are in the registers), so one
instance of each serves the whole run: a null system call allocates nothing here.
"""

from enum import Enum

from msgspec import Struct

from emu.x86 import PF_I, PF_P, PF_U, PF_W, VirtAddr


class SyscallInsn(Enum):
    """The instruction that asked for the kernel."""

    SYSCALL = "syscall"  # 64-bit; RIP points behind the instruction
    INT80 = "int 0x80"  # RIP points behind the instruction
    SYSENTER = "sysenter"  # RIP points behind the instruction; the ABI says where to return to


class Syscall(Struct, frozen=True):
    """The guest executed a system call instruction."""

    insn: SyscallInsn


class PageFault(Struct):
    """Vector 14.  *address* is CR2; *error_code* is the word the hardware pushes (SDM vol. 3A, 4.7)."""

    address: VirtAddr
    error_code: int

    @property
    def is_present(self) -> bool:
        """A protection violation on a present page; otherwise some level was not present."""
        return bool(self.error_code & PF_P)

    @property
    def is_write(self) -> bool:
        """The access was a write."""
        return bool(self.error_code & PF_W)

    @property
    def is_user(self) -> bool:
        """The access was made at CPL 3."""
        return bool(self.error_code & PF_U)

    @property
    def is_fetch(self) -> bool:
        """The access was an instruction fetch."""
        return bool(self.error_code & PF_I)


class CpuException(Struct, frozen=True):
    """Any other exception.  RIP is at the instruction for faults, behind it for #BP, #OF and ``int n``."""

    vector: int
    error_code: int
    software: bool = False  # raised by ``int n``, ``int3`` or ``into``


class BudgetSpent(Struct, frozen=True):
    """The instruction budget ran out at a block boundary."""


CpuExit = PageFault | Syscall | CpuException | BudgetSpent
