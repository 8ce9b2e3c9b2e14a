"""The vDSO's call-frame information: how unwinders, the guest's own and debuggers', get out of its functions.

Linux: the .cfi directives of arch/x86/entry/vdso/vdso32/{system_call,sigreturn}.S.  Format: LSB core 5.0, 10.6.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Final

from minikernel.abi.abi import Abi

_HEADER: Final = Struct("<BBBBiI")
_PAIR: Final = Struct("<ii")
_ENCODINGS: Final = (1, 0x1B, 0x03, 0x3B)  # version; pcrel, udata4, datarel: all of four bytes
_PCREL_SDATA4: Final = 0x1B
_ADVANCE, _OFFSET, _RESTORE, _DEF_CFA, _DEF_CFA_OFFSET, _DEF_CFA_EXPRESSION, _EXPRESSION = (
    *(0x40, 0x80, 0xC0, 0x0C, 0x0E, 0x0F, 0x10),
)
_OP_BREG_ESP, _OP_DEREF = 0x74, 0x06
_EAX, _ECX, _EDX, _EBX, _ESP, _EBP, _ESI, _EDI, _EIP = range(9)
# struct sigcontext of i386: where each register is.
_SIGCONTEXT: Final = {_EDI: 16, _ESI: 20, _EBP: 24, _EBX: 32, _EDX: 36, _ECX: 40, _EAX: 44, _EIP: 56}
_SIGCONTEXT_ESP: Final = 28
_SIGINFO_SIZE: Final = 128
_UC_MCONTEXT: Final = 20  # in struct ucontext
_RT_CONTEXT: Final = 3 * 4 + _SIGINFO_SIZE + _UC_MCONTEXT  # from ESP behind the return address


@dataclass(frozen=True, slots=True)
class _Function:
    """Code of the vDSO: where, how long, its call-frame instructions, and whether signal handlers return to it."""

    start: int
    size: int
    instructions: bytes
    signal: bool = False


def _functions(abi: Abi, sizes: Mapping[str, tuple[int, int]]) -> list[_Function]:
    """The functions by name -> (offset, bytes), with the instructions that describe them."""
    found = []
    for name, (start, size) in sizes.items():
        match name:
            case "__kernel_vsyscall":
                made = _Function(start, size, _vsyscall())
            case "__kernel_sigreturn":
                # Unwinders look in front of a return address, which this is: the byte before belongs to it.  The first
                # instruction pops the signal's number.
                code = _context(4) + bytes((_ADVANCE | 2,)) + _context(0)
                made = _Function(start - 1, size + 1, code, signal=True)
            case "__kernel_rt_sigreturn":
                made = _Function(start - 1, size + 1, _context(_RT_CONTEXT), signal=True)
            case _:
                made = _Function(start, size, b"" if abi.word == 8 else _with_ebx(size))
        found.append(made)
    return found


def _vsyscall() -> bytes:
    """Three pushes, of one byte each; the pops begin at 9."""
    pushes = b"".join(
        bytes((_ADVANCE | 1, _DEF_CFA_OFFSET, 4 * slot, _OFFSET | register, slot))
        for slot, register in ((2, _ECX), (3, _EDX), (4, _EBP))
    )
    pops = b"".join(
        bytes((_ADVANCE | step, _DEF_CFA_OFFSET, cfa, _RESTORE | register))
        for step, cfa, register in ((7, 12, _EBP), (1, 8, _EDX), (1, 4, _ECX))
    )
    return pushes + pops


def _with_ebx(size: int) -> bytes:
    """EBX is pushed first and popped in front of RET."""
    pushed = bytes((_ADVANCE | 1, _DEF_CFA_OFFSET, 8, _OFFSET | _EBX, 2))
    return pushed + bytes((_ADVANCE | size - 2, _DEF_CFA_OFFSET, 4, _RESTORE | _EBX))


def _context(at: int) -> bytes:
    """The registers are in a struct sigcontext *at* bytes above ESP."""
    rules = _uleb_block(_DEF_CFA_EXPRESSION, _sleb(at + _SIGCONTEXT_ESP), bytes((_OP_DEREF,)))
    for register, offset in _SIGCONTEXT.items():
        rules += _uleb_block(_EXPRESSION, _sleb(at + offset), b"", register)
    return rules


def _uleb_block(instruction: int, offset: bytes, more: bytes, *registers: int) -> bytes:
    """An instruction whose operand is the expression ESP + *offset*, and *more*."""
    expression = bytes((_OP_BREG_ESP,)) + offset + more
    return bytes((instruction, *registers, len(expression))) + expression


def _sleb(number: int) -> bytes:
    """A signed LEB128 of a positive number."""
    out = b""
    while number >= 0x40:
        out += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return out + bytes((number,))


def eh_frame(abi: Abi, sizes: Mapping[str, tuple[int, int]], at: int) -> tuple[bytes, int]:
    """.eh_frame_hdr and, behind it, .eh_frame of functions by name -> (offset, bytes); and the header's size.

    They are to be *at* that offset of the object, a multiple of four.
    """
    listed = sorted(_functions(abi, sizes), key=lambda function: function.start)
    header_size = _HEADER.size + _PAIR.size * len(listed)
    body, places = b"", []
    cies: dict[bool, int] = {}
    for function in listed:
        if function.signal not in cies:
            cies[function.signal] = len(body)
            body += _cie(abi, signal=function.signal)
        here = at + header_size + len(body)
        places.append(_PAIR.pack(function.start - at, here - at))
        head = Struct("<IiI").pack(len(body) + 4 - cies[function.signal], function.start - here - 8, function.size)
        body += _entry(head + b"\0" + function.instructions)
    body += bytes(4)
    header = _HEADER.pack(*_ENCODINGS, header_size - 4, len(listed))
    return header + b"".join(places) + body, header_size


def _cie(abi: Abi, *, signal: bool) -> bytes:
    """At a function's entry the return address is at the stack pointer."""
    word, sp, ip = (8, 7, 16) if abi.word == 8 else (4, _ESP, _EIP)
    augmentation = b"zRS\0" if signal else b"zR\0"
    fixed = bytes((1, -word & 0x7F, ip, 1, _PCREL_SDATA4, _DEF_CFA, sp, word, _OFFSET | ip, 1))
    return _entry(Struct("<IB").pack(0, 1) + augmentation + fixed)


def _entry(body: bytes) -> bytes:
    """A CIE or FDE, its length before it, padded to four bytes with DW_CFA_nop."""
    padded = body + bytes(-len(body) % 4)
    return Struct("<I").pack(len(padded)) + padded
