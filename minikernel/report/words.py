"""Bits in words: error codes, page-table entries, rights, RFLAGS, signal codes, sizes.

Sources: SDM vol. 3A, 4.7 (error code) and 4.5.4 (entries); SDM vol. 1, 3.4.3 (RFLAGS);
include/uapi/asm-generic/siginfo.h (si_code).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from emu.paging import PagingMode, WalkStep
from emu.x86 import (
    FLAG_AC,
    FLAG_AF,
    FLAG_CF,
    FLAG_DF,
    FLAG_ID,
    FLAG_IF,
    FLAG_NT,
    FLAG_OF,
    FLAG_PF,
    FLAG_RF,
    FLAG_SF,
    FLAG_TF,
    FLAG_ZF,
    PAGE_SHIFT,
    PF_I,
    PF_P,
    PF_RSVD,
    PF_U,
    PF_W,
    PTE_A,
    PTE_D,
    PTE_G,
    PTE_P,
    PTE_PS,
    PTE_RW,
    PTE_US,
    PTE_XD,
)
from minikernel.abi import signal as s
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.swap_entry import entry_area, entry_offset
from minikernel.mm.vma import VM_SHARED

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

_ERROR_BITS: Final = (  # bit, name, meaning if 0, meaning if 1
    (PF_P, "P", "an entry of the walk is not present", "the page is present, its rights forbid the access"),
    (PF_W, "W", "a read", "a write"),
    (PF_U, "U", "by the kernel", "by the program"),
    (PF_RSVD, "RSVD", "no reserved bit is set", "an entry has a reserved bit set"),
    (PF_I, "I", "of data", "a fetch of an instruction"),
)
_ENTRY_BITS: Final = (
    (PTE_P, "present"),
    (PTE_RW, "writable"),
    (PTE_US, "user"),
    (PTE_A, "accessed"),
    (PTE_D, "dirty"),
    (PTE_G, "global"),
    (PTE_XD, "no-execute"),
)
_RFLAGS: Final = (
    (FLAG_CF, "CF"), (FLAG_PF, "PF"), (FLAG_AF, "AF"), (FLAG_ZF, "ZF"), (FLAG_SF, "SF"), (FLAG_TF, "TF"),
    (FLAG_IF, "IF"), (FLAG_DF, "DF"), (FLAG_OF, "OF"), (FLAG_NT, "NT"), (FLAG_RF, "RF"), (FLAG_AC, "AC"),
    (FLAG_ID, "ID"),
)  # fmt: skip
_CODES: Final[Mapping[tuple[int, int], tuple[str, str]]] = {
    (s.SIGSEGV, s.SEGV_MAPERR): ("SEGV_MAPERR", "no mapping there"),
    (s.SIGSEGV, s.SEGV_ACCERR): ("SEGV_ACCERR", "the mapping forbids it"),
    (s.SIGSEGV, s.SEGV_PKUERR): ("SEGV_PKUERR", "protection key"),
    (s.SIGBUS, s.BUS_ADRALN): ("BUS_ADRALN", "not aligned"),
    (s.SIGBUS, s.BUS_ADRERR): ("BUS_ADRERR", "no page there"),
    (s.SIGBUS, s.BUS_OBJERR): ("BUS_OBJERR", "hardware error"),
    (s.SIGILL, s.ILL_ILLOPC): ("ILL_ILLOPC", "illegal opcode"),
    (s.SIGILL, s.ILL_ILLOPN): ("ILL_ILLOPN", "illegal operand"),
    (s.SIGILL, s.ILL_PRVOPC): ("ILL_PRVOPC", "privileged opcode"),
    (s.SIGFPE, s.FPE_INTDIV): ("FPE_INTDIV", "integer division by zero, or its result does not fit"),
    (s.SIGFPE, s.FPE_INTOVF): ("FPE_INTOVF", "integer overflow"),
    (s.SIGFPE, s.FPE_FLTDIV): ("FPE_FLTDIV", "floating-point division by zero"),
    (s.SIGFPE, s.FPE_FLTOVF): ("FPE_FLTOVF", "floating-point overflow"),
    (s.SIGFPE, s.FPE_FLTUND): ("FPE_FLTUND", "floating-point underflow"),
    (s.SIGFPE, s.FPE_FLTRES): ("FPE_FLTRES", "floating-point result not exact"),
    (s.SIGFPE, s.FPE_FLTINV): ("FPE_FLTINV", "invalid floating-point operation"),
    (s.SIGTRAP, s.TRAP_BRKPT): ("TRAP_BRKPT", "breakpoint"),
    (s.SIGTRAP, s.TRAP_TRACE): ("TRAP_TRACE", "single step"),
    (s.SIGTRAP, s.TRAP_HWBKPT): ("TRAP_HWBKPT", "hardware breakpoint"),
    (s.SIGSYS, s.SYS_SECCOMP): ("SYS_SECCOMP", "refused by seccomp"),
}
_GENERAL_CODES: Final[Mapping[int, tuple[str, str]]] = {
    s.SI_USER: ("SI_USER", "sent with kill(2)"),
    s.SI_KERNEL: ("SI_KERNEL", "sent by the kernel"),
    s.SI_QUEUE: ("SI_QUEUE", "sent with sigqueue(3)"),
    s.SI_TIMER: ("SI_TIMER", "a timer expired"),
    s.SI_TKILL: ("SI_TKILL", "sent with tgkill(2), as raise(3) and abort(3) do"),
}
_UNITS: Final = (
    (1 << 60, "EiB"),
    (1 << 50, "PiB"),
    (1 << 40, "TiB"),
    (1 << 30, "GiB"),
    (1 << 20, "MiB"),
    (1 << 10, "KiB"),
)


def access_word(error_code: int) -> str:
    """``read``, ``write`` or ``fetch``."""
    return "fetch" if error_code & PF_I else "write" if error_code & PF_W else "read"


def error_code_bits(error_code: int, *, has_nx: bool = True) -> list[tuple[str, str]]:
    """Each bit of a page fault's error code as (``P=0``, what that means), lowest first.

    Without NX in the paging mode the last one says nothing.
    """
    bits = [
        (f"{name}={int(bool(error_code & bit))}", one if error_code & bit else zero)
        for bit, name, zero, one in _ERROR_BITS
    ]
    return bits if has_nx else [*bits[:-1], (bits[-1][0], "says nothing: without NX a fetch looks like a read")]


def error_code_words(error_code: int) -> str:
    """The error code in one sentence."""
    who = "the program" if error_code & PF_U else "the kernel"
    if error_code & PF_RSVD:
        why = "an entry has a reserved bit set"
    elif error_code & PF_P:
        why = "the page is present, its rights forbid it"
    else:
        why = "no page is present"
    return f"{access_word(error_code)} by {who}; {why}"


def entry_words(step: WalkStep, mode: PagingMode) -> str:
    """What a paging-structure entry says: its flags, and where it leads."""
    raw = step.raw
    if not raw:
        return "empty: not present"
    if not raw & PTE_P:
        return f"not present; the kernel's: in swap, area {entry_area(raw)}, slot {entry_offset(raw):,}"
    flags = entry_flags(raw, mode, leaf=step.leaf, rights=step.level.has_rights)
    if step.reserved:
        return f"{flags}; reserved bits {step.reserved:#x} are set"
    target = step.page_address(mode)
    if not step.leaf:
        return f"-> table in frame {target >> PAGE_SHIFT:#x}  {flags}"
    size = f" of {size_words(1 << step.level.shift)}" if raw & PTE_PS and step.level.shift > PAGE_SHIFT else ""
    return f"-> frame {target >> PAGE_SHIFT:#x}{size}  {flags}"


def entry_flags(raw: int, mode: PagingMode, *, leaf: bool = True, rights: bool = True) -> str:
    """The flags of a present entry in words; *rights*: the level has R/W, U/S and XD at all."""
    if not rights:
        return "present"
    words = []
    for bit, word in _ENTRY_BITS:
        if bit & (PTE_D | PTE_G) and not leaf:
            continue
        if raw & bit and (bit != PTE_XD or mode.has_nx):
            words.append(word)
        elif bit == PTE_RW:
            words.append("read-only")
        elif bit == PTE_US:
            words.append("supervisor")
    if leaf and raw & PTE_SPECIAL:
        words.append("special")
    return " ".join(words)


def slot_words(node: "Node", entry: int) -> str:
    """``slot 12 of /dev/swap0``."""
    area = node.swap.areas[entry_area(entry)]
    name = area.name.decode(errors="backslashreplace") if area is not None else "swap"
    return f"slot {entry_offset(entry):,} of {name}"


def rights(flags: int) -> str:
    """VM_* as the second column of /proc/PID/maps."""
    letters = "".join(letter if flags >> bit & 1 else "-" for bit, letter in enumerate("rwx"))
    return letters + ("s" if flags & VM_SHARED else "p")


def rflags_words(value: int) -> str:
    """The flags that are set, by their names."""
    return " ".join(name for bit, name in _RFLAGS if value & bit)


def si_code_words(sig: int, code: int) -> tuple[str, str]:
    """Name and meaning of si_code *code* of signal *sig*."""
    known = _CODES.get((sig, code)) or _GENERAL_CODES.get(code)
    return known if known is not None else (f"si_code {code}", "sent by a program")


def size_words(size: int) -> str:
    """*size* in bytes, KiB, MiB or GiB; exact where it is a whole number of them."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size // unit} {name}" if size % unit == 0 else f"{size / unit:.1f} {name}"
    return "1 byte" if size == 1 else f"{size} bytes"


def plural(count: int, noun: str) -> str:
    """``1 page``, ``2 pages``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
