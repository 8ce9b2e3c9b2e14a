"""The i386 signal frames.  Linux: arch/x86/include/asm/sigframe.h (sigframe_ia32, rt_sigframe_ia32), signal_32.c.

    plain: pretcode, sig, sigcontext (88), unused fpstate (624), extramask, retcode (8)
    rt:    pretcode, sig, &info, &uc, siginfo (128), ucontext (116), retcode (8)

Above either lies the floating point state: 112 bytes in FSAVE's layout, then 512 in FXSAVE's, 64-byte aligned.
"""

from functools import lru_cache
from struct import Struct
from typing import Final

from emu.cpu import RAX, RBP, RBX, RCX, RDI, RDX, RIP, RSI, RSP
from emu.x86 import VirtAddr
from minikernel.abi.abi import I386
from minikernel.abi.signal import SA_RESTORER, SA_SIGINFO, SignalStack, unpack_stack
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.task.frame_common import FrameRequest
from minikernel.task.sigframe64 import FXSAVE_SIZE
from minikernel.task.task import Task

FSAVE_SIZE: Final = 112
# gs fs es ds (16 bits in 32), di si bp sp bx dx cx ax, trapno err ip, cs, flags, sp_at_signal, ss, fpstate,
# oldmask, cr2
_SIGCONTEXT: Final = Struct("<22I")
_ORDER: Final = (RDI, RSI, RBP, RSP, RBX, RDX, RCX, RAX)
_SEGMENTS: Final = ("gs", "fs", "es", "ds")
_FPSTATE_UNUSED: Final = 624
_HEAD: Final = Struct("<2I")
_RT_HEAD: Final = Struct("<4I")
_FRAME_SIZE: Final = 8 + _SIGCONTEXT.size + _FPSTATE_UNUSED + 4 + 8
_UCONTEXT_SIZE: Final = 4 + 4 + 12 + _SIGCONTEXT.size + 8
_RT_INFO: Final = 16
_RT_UC: Final = _RT_INFO + 128
_RT_FRAME_SIZE: Final = _RT_UC + _UCONTEXT_SIZE + 8
_RETCODE: Final = bytes.fromhex("58b877000000cd80")  # pop eax; mov eax, __NR_sigreturn; int 0x80
_RT_RETCODE: Final = bytes.fromhex("b8ad000000cd8000")  # mov eax, __NR_rt_sigreturn; int 0x80


def build(request: FrameRequest) -> None:
    """Write the frame and point the registers at the handler.  Errors: EFAULT; nothing has changed then."""
    task, action = request.task, request.action
    cpu, user_mode = task.kernel.cpu, task.kernel.user_mode
    rt = bool(action.flags & SA_SIGINFO)
    image = cpu.fxsave()
    fxstate = (request.sp - FXSAVE_SIZE) & ~63
    fpstate = fxstate - FSAVE_SIZE
    size = _RT_FRAME_SIZE if rt else _FRAME_SIZE
    frame = ((fpstate - size + 4) & ~15) - 4
    request.check(frame)
    if action.flags & SA_RESTORER:
        pretcode = action.restorer
    else:
        pretcode = task.kernel.vdso_symbol(task, "__kernel_rt_sigreturn" if rt else "__kernel_sigreturn")
    data_segments = tuple(cpu.segment(name) for name in _SEGMENTS)
    mcontext = _mcontext(task, request.mask, fpstate, data_segments)
    if rt:
        head = _RT_HEAD.pack(pretcode, request.info.signo, frame + _RT_INFO, frame + _RT_UC)
        ucontext = bytes(8) + task.sigstack.pack(I386) + mcontext + request.mask.to_bytes(8, "little")
        data = head + request.info.pack(I386) + ucontext + _RT_RETCODE
    else:
        extramask = (request.mask >> 32).to_bytes(4, "little")
        head = _HEAD.pack(pretcode, request.info.signo)
        data = head + mcontext + bytes(_FPSTATE_UNUSED) + extramask + _RETCODE
    copy_to_user(task.mm, VirtAddr(fpstate), fsave_from_fxsave(image) + image)
    copy_to_user(task.mm, VirtAddr(frame), data)
    user_mode.set_code_selector(user_mode.gdt.user_cs32)
    for name, selector in zip(_SEGMENTS[2:], data_segments[2:], strict=True):
        if selector != user_mode.gdt.user_ds:
            cpu.load_segment(name, user_mode.gdt.user_ds)
    regs = cpu.regs
    regs[RAX] = request.info.signo
    regs[RDX] = frame + _RT_INFO if rt else 0
    regs[RCX] = frame + _RT_UC if rt else 0
    regs[RSP] = frame
    regs[RIP] = action.handler


def _mcontext(task: Task, mask: int, fpstate: int, data_segments: tuple[int, ...]) -> bytes:
    cpu = task.kernel.cpu
    regs = [value & 0xFFFF_FFFF for value in cpu.regs]
    return _SIGCONTEXT.pack(
        *data_segments,
        *[regs[index] for index in _ORDER],
        task.trap_nr,
        task.error_code & 0xFFFF_FFFF,
        regs[RIP],
        cpu.segment("cs"),
        cpu.rflags & 0xFFFF_FFFF,
        regs[RSP],
        cpu.segment("ss"),
        fpstate,
        mask & 0xFFFF_FFFF,
        task.cr2 & 0xFFFF_FFFF,
    )


def restore(task: Task, changeable_flags: int) -> int:
    """Load the registers from a plain frame: the mask it names.  Errors: EFAULT."""
    frame = (task.kernel.cpu.regs[RSP] - 8) & 0xFFFF_FFFF
    data = copy_from_user(task.mm, VirtAddr(frame), _FRAME_SIZE - 8)
    low: int = _SIGCONTEXT.unpack_from(data, 8)[20]
    _load(task, data[8:], changeable_flags)
    return low | int.from_bytes(data[-4:], "little") << 32


def restore_rt(task: Task, changeable_flags: int) -> tuple[int, SignalStack]:
    """Load the registers from an rt frame: the mask and the signal stack it names.  Errors: EFAULT."""
    frame = (task.kernel.cpu.regs[RSP] - 4) & 0xFFFF_FFFF
    data = copy_from_user(task.mm, VirtAddr(frame + _RT_UC), _UCONTEXT_SIZE)
    _load(task, data[20:], changeable_flags)
    return int.from_bytes(data[-8:], "little"), unpack_stack(I386, data[8:20])


def _load(task: Task, data: bytes, changeable_flags: int) -> None:
    cpu = task.kernel.cpu
    values = _SIGCONTEXT.unpack_from(data)
    fpstate = values[19]
    image = None
    if fpstate:
        saved = copy_from_user(task.mm, VirtAddr(fpstate), FSAVE_SIZE + FXSAVE_SIZE)
        image = fxsave_with_fsave(saved[FSAVE_SIZE:], saved[:FSAVE_SIZE])
    user_mode = task.kernel.user_mode
    user_mode.set_code_selector(values[15] & 0xFFFF | 3)
    for name, word in zip(_SEGMENTS, values, strict=False):
        selector = word & 0xFFFF
        user_mode.load_segment(name, selector if selector <= 3 else selector | 3)  # fixup_rpl
    regs = cpu.regs
    for index, value in zip(_ORDER, values[4:], strict=False):
        regs[index] = value
    regs[RIP] = values[14]
    flags = cpu.rflags
    if (flags ^ values[16]) & changeable_flags:
        cpu.rflags = (flags & ~changeable_flags) | (values[16] & changeable_flags)
    cpu.fxrstor(image if image is not None else user_mode.init_fpstate)


_FSAVE_HEAD: Final = Struct("<7I")


@lru_cache(maxsize=32)  # the x87 state rarely changes between two signals
def fsave_from_fxsave(image: bytes) -> bytes:
    """An FXSAVE *image* as the 112 bytes of struct _fpstate_32's head (convert_from_fxsr, fpu/regset.c)."""
    fcw, fsw = int.from_bytes(image[0:2], "little"), int.from_bytes(image[2:4], "little")
    head = _FSAVE_HEAD.pack(
        fcw | 0xFFFF_0000,
        fsw | 0xFFFF_0000,
        _full_tags(image) | 0xFFFF_0000,
        int.from_bytes(image[8:12], "little"),
        int.from_bytes(image[12:14], "little") | int.from_bytes(image[6:8], "little") << 16,
        int.from_bytes(image[16:20], "little"),
        int.from_bytes(image[20:22], "little"),
    )
    registers = b"".join(image[32 + 16 * i : 42 + 16 * i] for i in range(8))
    return head + registers + fsw.to_bytes(4, "little")  # status, and magic 0: FXSAVE data follows


@lru_cache(maxsize=32)
def fxsave_with_fsave(image: bytes, fsave: bytes) -> bytes:
    """FXSAVE *image* with the x87 part taken from *fsave*, which handlers may have edited (convert_to_fxsr)."""
    fcw, fsw, tags, *_ = _FSAVE_HEAD.unpack_from(fsave)
    abridged = 0
    for i in range(8):
        if tags >> 2 * i & 3 != 3:
            abridged |= 1 << i
    out = bytearray(image)
    out[0:2] = (fcw & 0xFFFF).to_bytes(2, "little")
    out[2:4] = (fsw & 0xFFFF).to_bytes(2, "little")
    out[4] = abridged
    for i in range(8):
        out[32 + 16 * i : 42 + 16 * i] = fsave[28 + 10 * i : 38 + 10 * i]
    return bytes(out)


def _full_tags(image: bytes) -> int:
    """The 16-bit tag word that FSAVE stores, worked out from the registers (twd_fxsr_to_i387)."""
    top = image[3] >> 3 & 7
    tags = 0
    for physical in range(8):
        register = image[32 + 16 * ((physical - top) & 7) :][:10]
        exponent = int.from_bytes(register[8:10], "little") & 0x7FFF
        mantissa = int.from_bytes(register[:8], "little")
        if not image[4] >> physical & 1:
            tag = 3  # empty
        elif exponent == 0x7FFF:
            tag = 2  # special
        elif exponent == 0:
            tag = 1 if mantissa == 0 else 2  # zero, or special
        else:
            tag = 0 if mantissa >> 63 else 2  # valid, or special
        tags |= tag << 2 * physical
    return tags
