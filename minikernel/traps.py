"""Exceptions other than page faults: which signal, which si_code, which address.

Linux: arch/x86/kernel/traps.c (exc_divide_error, exc_debug, exc_int3, exc_invalid_op, exc_general_protection,
exc_alignment_check, math_error), arch/x86/kernel/fpu/core.c (fpu__exception_code).
"""

from typing import Final

from emu.cpu import RAX, RCX, RDX, RIP
from emu.exits import CpuException
from emu.x86 import (
    VEC_AC,
    VEC_BP,
    VEC_BR,
    VEC_DB,
    VEC_DE,
    VEC_GP,
    VEC_MF,
    VEC_NP,
    VEC_OF,
    VEC_SS,
    VEC_TS,
    VEC_UD,
    VEC_XM,
    VirtAddr,
)
from minikernel.abi import signal as s
from minikernel.abi.errno import LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user
from minikernel.task.task import Task

_USER_INTERRUPTS: Final = frozenset({VEC_BP, VEC_OF})  # gates that CPL 3 may call, besides 0x80
_RDTSC: Final = b"\x0f\x31"
_RDTSCP: Final = b"\x0f\x01\xf9"
_FPU_CODES: Final = (  # status bit, si_code: in the order of fpu__exception_code
    (0x01, s.FPE_FLTINV),
    (0x04, s.FPE_FLTDIV),
    (0x08, s.FPE_FLTOVF),
    (0x12, s.FPE_FLTUND),
    (0x20, s.FPE_FLTRES),
)


def exception_signal(kernel: Kernel, task: Task, exception: CpuException) -> Siginfo | None:
    """The signal for *exception*; None if the kernel has served it and the program goes on."""
    regs = kernel.cpu.regs
    vector, error_code = exception.vector, exception.error_code
    if exception.software and vector not in _USER_INTERRUPTS:
        # The gate's DPL is 0: #GP at the instruction, with the gate's number as error code.
        regs[RIP] -= 2
        vector, error_code = VEC_GP, vector << 3 | 2
    task.trap_nr, task.error_code = vector, error_code
    ip = regs[RIP]
    if vector == VEC_DE:
        return Siginfo(s.SIGFPE, s.FPE_INTDIV, addr=ip)
    if vector == VEC_DB:
        return Siginfo(s.SIGTRAP, s.TRAP_TRACE, addr=ip)
    if vector == VEC_BP:
        return Siginfo(s.SIGTRAP, s.SI_KERNEL)
    if vector in {VEC_OF, VEC_BR, VEC_TS}:
        return Siginfo(s.SIGSEGV, s.SI_KERNEL)
    if vector == VEC_UD:
        return Siginfo(s.SIGILL, s.ILL_ILLOPN, addr=ip)
    if vector in {VEC_NP, VEC_SS}:
        return Siginfo(s.SIGBUS, s.SI_KERNEL)
    if vector == VEC_AC:
        return Siginfo(s.SIGBUS, s.BUS_ADRALN, addr=ip)
    if vector in {VEC_MF, VEC_XM}:
        code = _fpu_code(kernel, vector)
        return Siginfo(s.SIGFPE, code, addr=ip) if code else None
    assert vector == VEC_GP, f"exception_signal: vector {vector} from user mode"
    if _emulate_rdtsc(kernel, task):
        return None
    return Siginfo(s.SIGSEGV, s.SI_KERNEL)


def _fpu_code(kernel: Kernel, vector: int) -> int:
    """si_code of the first unmasked exception; 0 if there is none any more."""
    image = kernel.cpu.fxsave()
    if vector == VEC_MF:
        control, status = int.from_bytes(image[0:2], "little"), int.from_bytes(image[2:4], "little")
        pending = status & ~control
    else:
        mxcsr = int.from_bytes(image[24:28], "little")
        pending = mxcsr & ~(mxcsr >> 7)
    return next((code for bits, code in _FPU_CODES if pending & bits), 0)


def _emulate_rdtsc(kernel: Kernel, task: Task) -> bool:
    """RDTSC and RDTSCP fault at CPL 3 (CR4.TSD), so that the virtual clock answers: one tick a nanosecond."""
    cpu = kernel.cpu
    regs = cpu.regs
    try:
        code = copy_from_user(task.mm, VirtAddr(regs[RIP]), 2)
        if code == _RDTSCP[:2]:
            code = copy_from_user(task.mm, VirtAddr(regs[RIP]), 3)
    except LinuxError:
        return False
    if code not in {_RDTSC, _RDTSCP}:
        return False
    now = kernel.clock.now_ns()
    regs[RAX], regs[RDX] = now & 0xFFFF_FFFF, now >> 32 & 0xFFFF_FFFF
    if code == _RDTSCP:
        regs[RCX] = 0  # the number of the processor
    regs[RIP] += len(code)
    cpu.icount += 1
    return True
