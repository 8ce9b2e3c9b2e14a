"""The page at the end of the address space where old 64-bit programs call gettimeofday, time and getcpu.

Nothing is mapped there: the fault of the jump is answered as the call would, and returned from (vsyscall=xonly).
Linux: arch/x86/entry/vsyscall/vsyscall_64.c (emulate_vsyscall).
"""

from collections.abc import Callable
from typing import Final

from emu.cpu import RAX, RDI, RIP, RSI, RSP
from emu.x86 import PF_U, PF_W, VirtAddr
from minikernel.abi import signal as s
from minikernel.abi.abi import X86_64
from minikernel.abi.errno import LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.vsyscall import VSYSCALL_ADDR
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import get_user
from minikernel.syscalls.ident import sys_getcpu
from minikernel.syscalls.time import sys_gettimeofday, sys_time
from minikernel.task.signal import force_signal
from minikernel.task.task import Task

_SLOT_MASK: Final = 0xC00  # 1 KiB for each of the three
_MASK64: Final = (1 << 64) - 1

# What each calls, and how many bytes it may write at RDI and RSI.
_CALLS: Final[tuple[tuple[Callable[[Kernel, Task, int, int], int], int, int], ...]] = (
    (sys_gettimeofday, 16, 8),
    (lambda kernel, task, tloc, _: sys_time(kernel, task, tloc), 8, 0),
    (lambda kernel, task, cpu, node: sys_getcpu(kernel, task, cpu, node, 0), 4, 4),
)


def emulate_vsyscall(kernel: Kernel, task: Task, address: int, error_code: int) -> bool:
    """Serve a fault in the page, or send the SIGSEGV it deserves; False: it was no jump into it."""
    regs = kernel.cpu.regs
    if error_code & (PF_W | PF_U) != PF_U or address != regs[RIP] or task.abi is not X86_64:
        return False
    slot = (address & _SLOT_MASK) >> 10
    if address & ~_SLOT_MASK != VSYSCALL_ADDR or slot >= len(_CALLS):
        force_signal(task, Siginfo(s.SIGSEGV, s.SI_KERNEL))
        return True
    call, *sizes = _CALLS[slot]
    pointers = regs[RDI], regs[RSI]
    task.in_call = X86_64
    try:
        caller = get_user(task.mm, VirtAddr(regs[RSP]), 8)
        for pointer, size in zip(pointers, sizes, strict=True):
            if size and pointer > X86_64.task_size - size:
                task.trap_nr, task.error_code, task.cr2 = 14, PF_U | PF_W, pointer
                force_signal(task, Siginfo(s.SIGSEGV, s.SEGV_MAPERR, addr=pointer))
                return True
        result = call(kernel, task, *pointers)
    except LinuxError:
        force_signal(task, Siginfo(s.SIGSEGV, s.SI_KERNEL))
        return True
    regs[RAX] = result & _MASK64
    regs[RIP] = caller
    regs[RSP] += 8
    return True
