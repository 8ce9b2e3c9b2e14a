"""The x86-64 signal frame.  Linux: arch/x86/include/asm/sigframe.h (struct rt_sigframe), signal_64.c.

sp ->  pretcode        8  return address: the restorer
       uc_flags, uc_link, uc_stack    8 + 8 + 24
       uc_mcontext   256  struct sigcontext
       uc_sigmask      8
       info          128  siginfo_t
       ...
       fpstate       512  FXSAVE image, 64-byte aligned
"""

from struct import Struct
from typing import Final

from emu.cpu import RAX, RDI, RDX, RIP, RSI, RSP
from emu.x86 import VirtAddr
from minikernel.abi.abi import X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.signal import SA_RESTORER, SignalStack, stack_size, unpack_stack
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.task.frame_common import FrameRequest
from minikernel.task.task import Task

RED_ZONE: Final = 128
FXSAVE_SIZE: Final = 512
_UC_SIGCONTEXT_SS: Final = 2
_UC_STRICT_RESTORE_SS: Final = 4
_HEADER: Final = Struct("<QQQ")  # pretcode, uc_flags, uc_link
# r8..r15 di si bp bx dx ax cx sp ip flags, cs gs fs ss, err trapno oldmask cr2, fpstate, reserved
_SIGCONTEXT: Final = Struct("<18Q4H4QQ64x")
_REGISTERS: Final = Struct("<17Q")
_UC_OFFSET: Final = 8
_STACK_OFFSET: Final = 24
_SIGCONTEXT_OFFSET: Final = 48
_SIGMASK_OFFSET: Final = _SIGCONTEXT_OFFSET + _SIGCONTEXT.size
_INFO_OFFSET: Final = _SIGMASK_OFFSET + 8
FRAME_SIZE: Final = _INFO_OFFSET + 128


def build(request: FrameRequest) -> None:
    """Write the frame and point the registers at the handler.  Errors: EFAULT; nothing has changed then."""
    task, action = request.task, request.action
    if not action.flags & SA_RESTORER:
        raise LinuxError(Errno.EFAULT, "a 64-bit handler needs SA_RESTORER")
    cpu = task.kernel.cpu
    regs = cpu.regs
    fpstate = (request.sp - FXSAVE_SIZE) & ~63
    frame = ((fpstate - FRAME_SIZE) & ~15) - 8
    request.check(frame)
    stack = task.sigstack
    ax, cx, dx, bx, sp, bp, si, di, r8, r9, r10, r11, r12, r13, r14, r15, ip = regs.tolist()
    mcontext = _SIGCONTEXT.pack(
        *(r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp),
        ip,
        cpu.rflags,
        cpu.segment("cs"),
        0,  # gs and fs: Linux stores nothing there
        0,
        cpu.segment("ss"),
        task.error_code,
        task.trap_nr,
        request.mask,
        task.cr2,
        fpstate,
    )
    data = b"".join(
        (
            _HEADER.pack(action.restorer, _UC_SIGCONTEXT_SS | _UC_STRICT_RESTORE_SS, 0),
            stack.pack(X86_64),
            mcontext,
            request.mask.to_bytes(8, "little"),
            request.info.pack(X86_64),
        )
    )
    copy_to_user(task.mm, VirtAddr(fpstate), cpu.fxsave())
    copy_to_user(task.mm, VirtAddr(frame), data)
    regs[RDI] = request.info.signo
    regs[RSI] = frame + _INFO_OFFSET
    regs[RDX] = frame + _UC_OFFSET
    regs[RAX] = 0
    regs[RSP] = frame
    regs[RIP] = action.handler


def restore(task: Task, changeable_flags: int) -> tuple[int, SignalStack]:
    """Load the registers from the frame below the stack pointer: the mask and the signal stack it names.

    Errors: EFAULT.
    """
    cpu = task.kernel.cpu
    regs = cpu.regs
    frame = regs[RSP] - 8
    data = copy_from_user(task.mm, VirtAddr(frame), _INFO_OFFSET)
    values = _SIGCONTEXT.unpack_from(data, _SIGCONTEXT_OFFSET)
    mask = int.from_bytes(data[_SIGMASK_OFFSET : _SIGMASK_OFFSET + 8], "little")
    stack = unpack_stack(X86_64, data[_STACK_OFFSET : _STACK_OFFSET + stack_size(X86_64)])
    fpstate = values[26]
    image = copy_from_user(task.mm, VirtAddr(fpstate), FXSAVE_SIZE) if fpstate else None
    task.kernel.user_mode.set_code_selector(values[18] | 3)
    r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip = values[:17]
    in_cpu_order = _REGISTERS.pack(ax, cx, dx, bx, sp, bp, si, di, r8, r9, r10, r11, r12, r13, r14, r15, ip)
    regs[:] = memoryview(in_cpu_order).cast("Q")
    flags = cpu.rflags
    if (flags ^ values[17]) & changeable_flags:
        cpu.rflags = (flags & ~changeable_flags) | (values[17] & changeable_flags)
    cpu.fxrstor(image if image is not None else task.kernel.user_mode.init_fpstate)
    return mask, stack
