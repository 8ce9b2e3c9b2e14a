"""Who called whom, and what each caller's registers were.

First by call-frame information, which says it for every instruction (report/dwarf/cfi.py); then, where a signal handler
returns to, by the context that the kernel has put on the stack.  Only where neither is there, by the frame pointer, or
by looking through the stack for an address behind a CALL: such frames are marked as guessed.

gdb: dwarf2/frame.c, amd64-linux-tdep.c and i386-linux-tdep.c (signal trampolines).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from emu.cpu import RIP, RSP
from minikernel.mm.vma import VM_EXEC
from minikernel.report.dwarf.cfi import Fde, How, Row, Rule
from minikernel.report.dwarf.cursor import DamagedError
from minikernel.report.dwarf.ops import UnavailableError, compute
from minikernel.report.peek import peek

if TYPE_CHECKING:
    from minikernel.abi.abi import Abi
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.report.symbols import Symbols

MAX_FRAMES: Final = 10_000
RBP: Final = 5
_SCAN_WORDS: Final = 256
_ENDBR: Final = (b"\xf3\x0f\x1e\xfa", b"\xf3\x0f\x1e\xfb")
_PUSHES: Final = (b"\x55", *(endbr + b"\x55" for endbr in _ENDBR))  # push rbp
# ret, rep ret, ret N; jmp *ADDRESS and jmp *N(%ebx), which are all of a stub of the PLT
_AT_ENTRY: Final = (b"\xc3", b"\xf3\xc3", b"\xc2", b"\xff\x25", b"\xff\xa3")
# Our place for each of DWARF's numbers; System V ABI: AMD64 figure 3.36 and i386 table 2.14.
DWARF_64: Final = (0, 2, 1, 3, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16)
DWARF_32: Final = (0, 1, 2, 3, 4, 5, 6, 7, 16)
# mov $__NR_rt_sigreturn, %rax; syscall, in two encodings.  pop %eax; mov $__NR_sigreturn, %eax; int $0x80.  The last
# without pop, for rt_sigreturn.
_SIGRETURN_64: Final = (bytes.fromhex("48c7c00f0000000f05"), bytes.fromhex("b80f0000000f05"))
_SIGRETURN_32: Final = bytes.fromhex("58b877000000cd80")
_RT_SIGRETURN_32: Final = bytes.fromhex("b8ad000000cd80")
# struct sigcontext: where each register is, in our order (arch/x86/include/uapi/asm/sigcontext.h), in words.
_GREGS_64: Final = (13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7, 16)
_GREGS_32: Final = (11, 10, 9, 8, 7, 6, 5, 4, None, None, None, None, None, None, None, None, 14)
_UC_MCONTEXT: Final = {8: 40, 4: 20}  # offset in struct ucontext

Registers = tuple[int | None, ...]
"""In the order of ``Cpu.regs``: sixteen of them, and RIP; None: not known."""


class Found(Enum):
    """How a frame was found."""

    STOPPED = "it is the one that runs"
    CFI = "call-frame information"
    SIGNAL = "the context of a signal"
    POINTER = "a frame pointer or return address"
    SEARCH = "a search through the stack"


@dataclass(frozen=True, slots=True)
class Frame:
    """One function that has not returned.  *cfa* is its caller's stack pointer behind the return address."""

    level: int
    pc: int
    cfa: int  # 0: not known, for it is the last
    registers: Registers = ()
    found: Found = Found.STOPPED
    exact: bool = True  # pc is the instruction itself, and not the one behind a call
    signal: bool = False  # the code that a signal handler returns to
    saved: dict[int, int] = field(default_factory=dict)  # our number of a register -> where the caller's value is
    kept: dict[int, int] = field(default_factory=dict)  # the same for this frame's own values, saved by what it called
    inline: int = 0  # functions that were compiled into this one, and in which the program is
    depth: int = 0  # frames below, without the inlined ones

    @property
    def guessed(self) -> bool:
        """Found by searching, so frames may be missing between it and the one before."""
        return self.found is Found.SEARCH

    @property
    def lookup(self) -> int:
        """An address inside the code that the frame is in: behind a call that never returns, another function is."""
        return self.pc if self.exact else self.pc - 1


@dataclass(frozen=True, slots=True)
class _Caller:
    """What undoing one frame gives."""

    cfa: int
    registers: Registers
    found: Found
    saved: dict[int, int]


class Unwinder:
    """Undoes the frames of tasks in one address space."""

    def __init__(self, mm: "MmStruct", abi: "Abi", symbols: "Symbols", outermost: int | None = None) -> None:
        """*outermost* is a function without a caller, should it have no call-frame information that says so."""
        self._mm = mm
        self._outermost = outermost
        self._symbols = symbols
        self._word = abi.word
        self._mask = abi.mask
        self._numbers = DWARF_64 if abi.word == 8 else DWARF_32

    def frames(self, registers: Registers) -> Iterator[Frame]:
        """The frames of a task with *registers*, the innermost first, as long as they can be found."""
        pc = registers[RIP] or 0
        found, exact = Found.STOPPED, True
        kept: dict[int, int] = {}
        for level in range(MAX_FRAMES):
            lookup = pc if exact else pc - 1
            signal = self.is_trampoline(pc, lookup)
            caller = self._caller(lookup, pc, registers, signal=signal, innermost=exact)
            next_pc = caller.registers[RIP] if caller is not None else None
            sp = registers[RSP]
            if caller is None or not next_pc or (not signal and sp is not None and caller.cfa <= sp):
                # A stack that does not grow towards its callers has been overwritten.
                yield Frame(level, pc, caller.cfa if caller else 0, registers, found, exact, signal, {}, kept)
                return
            yield Frame(level, pc, caller.cfa, registers, found, exact, signal, caller.saved, kept)
            kept = kept | caller.saved
            pc, registers, found, exact = next_pc, caller.registers, caller.found, signal

    def is_trampoline(self, pc: int, lookup: int) -> bool:
        """Whether *pc* is where a signal handler returns to: the file says so, or the code is the kernel's."""
        fde = self._fde(lookup)
        if fde is not None:
            return fde[0].cie.signal
        return self._sigreturn(pc) is not None

    def entry(self, pc: int) -> int | None:
        """The first address of the function that contains *pc*."""
        fde = self._fde(pc)
        if fde is not None:
            return fde[0].start + fde[1] & self._mask
        found = self._symbols.find(self._mm, pc)
        return pc - found.symbol.offset if found is not None and found.symbol is not None else None

    def _fde(self, address: int) -> tuple[Fde, int] | None:
        """The description of the code at *address*, and what to add to its addresses."""
        found = self._symbols.find(self._mm, address)
        if found is None or found.frames is None:
            return None
        fde = found.frames.find(found.vaddr)
        return (fde, address - found.vaddr) if fde is not None else None

    def _caller(self, lookup: int, pc: int, registers: Registers, *, signal: bool, innermost: bool) -> _Caller | None:
        fde = self._fde(lookup)
        if fde is not None:
            try:
                return self._by_cfi(fde[0], lookup - fde[1], fde[1], registers)
            except (DamagedError, UnavailableError):
                return None  # gdb stops there as well: what is above would be invented
        if signal:
            return self._by_context(pc, registers)
        return self._by_pointer(pc, registers, innermost=innermost)

    # ---- call-frame information

    def _by_cfi(self, fde: Fde, vaddr: int, bias: int, registers: Registers) -> _Caller | None:
        row = fde.row(vaddr)
        context = _Context(self, registers, bias)
        cfa = self._cfa(row, context)
        values = list(registers)
        values[RSP] = cfa
        saved: dict[int, int] = {}
        for number, rule in row.rules.items():
            if number < len(self._numbers):
                ours = self._numbers[number]
                values[ours] = self._apply(rule, ours, cfa, context, saved)
        target = fde.cie.return_register
        if target >= len(self._numbers) or target not in row.rules or row.rules[target].how is How.UNDEFINED:
            return None  # the outermost: _start and clone say so
        values[RIP] = values[self._numbers[target]]
        return _Caller(cfa, tuple(values), Found.CFI if not fde.cie.signal else Found.SIGNAL, saved)

    def _cfa(self, row: Row, context: "_Context") -> int:
        if row.cfa_expression:
            return compute(row.cfa_expression, context) & self._mask
        return context.register(row.cfa_register) + row.cfa_offset & self._mask

    def _apply(self, rule: Rule, ours: int, cfa: int, context: "_Context", saved: dict[int, int]) -> int | None:
        """The caller's value of a register."""
        match rule.how:
            case How.SAME:
                return context.registers[ours]
            case How.UNDEFINED:
                return None
            case How.VAL_OFFSET:
                return cfa + rule.operand & self._mask
            case How.REGISTER:
                return context.register(rule.operand)
            case How.VAL_EXPRESSION:
                return compute(rule.expression, context, (cfa,)) & self._mask
            case How.OFFSET:
                saved[ours] = cfa + rule.operand & self._mask
            case How.EXPRESSION:
                saved[ours] = compute(rule.expression, context, (cfa,)) & self._mask
        return self.load(saved[ours])

    def load(self, address: int) -> int | None:
        """The word at *address*."""
        data = peek(self._mm, address, self._word)
        return int.from_bytes(data, "little") if len(data) == self._word else None

    def read(self, address: int, size: int) -> bytes:
        """Memory."""
        return peek(self._mm, address, size)

    def number_of(self, dwarf: int) -> int:
        """Our place for DWARF's register number."""
        if dwarf >= len(self._numbers):
            raise UnavailableError("<not a general register>")
        return self._numbers[dwarf]

    @property
    def word(self) -> int:
        """Bytes of an address."""
        return self._word

    # ---- signal frames

    def _sigreturn(self, pc: int) -> tuple[int, bool] | None:
        """How many bytes of a trampoline lie in front of *pc*, and whether it is rt_sigreturn's; None: it is none."""
        codes = ((_SIGRETURN_32, False), (_RT_SIGRETURN_32, True))
        if self._word == 8:
            codes = tuple((code, True) for code in _SIGRETURN_64)  # type: ignore[assignment]  # both are pairs
        for code, rt in codes:
            for done in (0, *(at for at in (1, 5, 6, 7) if at < len(code))):
                if peek(self._mm, pc - done, len(code)) == code:
                    return done, rt
        return None

    def _by_context(self, pc: int, registers: Registers) -> _Caller | None:
        """The registers of what a signal interrupted, from the context at the stack pointer."""
        found, sp = self._sigreturn(pc), registers[RSP]
        if found is None or sp is None:
            return None
        done, rt = found
        word = self._word
        if word == 8:
            context: int | None = sp + _UC_MCONTEXT[8]
        elif rt:  # struct rt_sigframe: signal, &info, &context, ... behind the return address
            context = self.load(sp + 8)
            context = context + _UC_MCONTEXT[4] if context is not None else None
        else:  # struct sigframe: signal, context; the trampoline pops the signal
            context = sp if done else sp + 4
        if context is None:
            return None
        saved = {
            ours: context + word * slot
            for ours, slot in enumerate(_GREGS_64 if word == 8 else _GREGS_32)
            if slot is not None
        }
        values = [self.load(saved[ours]) if ours in saved else None for ours in range(17)]
        return _Caller(values[RSP] or 0, tuple(values), Found.SIGNAL, saved)

    # ---- without information

    def _by_pointer(self, pc: int, registers: Registers, *, innermost: bool) -> _Caller | None:
        """By the return address at the entry, the frame pointer behind the usual prologue, or a search."""
        sp, fp = registers[RSP], registers[RBP]
        if sp is None:
            return None
        start = self.entry(pc)
        if start is not None and start == self._outermost:
            return None
        word = self._word
        vma = self._mm.vmas.find(pc)
        if innermost and (vma is None or not vma.flags & VM_EXEC):  # a call to nowhere
            return self._returned(sp, registers, fp, Found.POINTER)
        if innermost and start is not None:
            before = peek(self._mm, start, pc - start) if pc - start <= 5 else b"?"
            if not before or before in _ENDBR or peek(self._mm, pc, 2).startswith(_AT_ENTRY):
                return self._returned(sp, registers, fp, Found.POINTER)
            if before in _PUSHES:
                return self._returned(sp + word, registers, self.load(sp), Found.POINTER, at_fp=sp)
        if fp is not None and sp <= fp < sp + (1 << 20):
            plain = start is not None and peek(self._mm, start, 5).startswith(_PUSHES)
            if plain and self.is_return(self.load(fp + word)):
                return self._returned(fp + word, registers, self.load(fp), Found.POINTER, at_fp=fp)
        slot = self._search(sp, start)
        return self._returned(slot, registers, fp, Found.SEARCH) if slot is not None else None

    def _returned(
        self, slot: int, registers: Registers, fp: int | None, found: Found, *, at_fp: int | None = None
    ) -> _Caller | None:
        """The caller whose return address is in *slot*."""
        target = self.load(slot)
        if not self.is_return(target):
            return None
        values = list(registers)
        values[RSP], values[RBP], values[RIP] = slot + self._word, fp, target
        saved = {RIP: slot} if at_fp is None else {RIP: slot, RBP: at_fp}
        return _Caller(slot + self._word, tuple(values), found, saved)

    def _search(self, sp: int, start: int | None) -> int | None:
        """The nearest word above *sp* that points behind a CALL; one whose target is *start* comes first."""
        first = None
        for slot in range(sp, sp + _SCAN_WORDS * self._word, self._word):
            value = self.load(slot)
            if value is None:
                break
            if not self.is_return(value):
                continue
            if start is not None and self._target(value) == start:
                return slot
            first = first or slot
        return first

    def _target(self, value: int) -> int | None:
        """Where the direct CALL in front of *value* went."""
        code = peek(self._mm, value - 5, 5)
        if code[:1] != b"\xe8":
            return None
        return value + int.from_bytes(code[1:], "little", signed=True) & self._mask

    def is_return(self, value: int | None) -> bool:
        """Whether *value* points behind a CALL: E8 and four bytes, or FF /2 of any length."""
        if value is None:
            return False
        vma = self._mm.vmas.find(value)
        if vma is None or not vma.flags & VM_EXEC:
            return False
        code = peek(self._mm, value - 7, 7)
        if len(code) < 7:
            return False
        return code[2] == 0xE8 or any(code[7 - n] == 0xFF and code[8 - n] >> 3 & 7 == 2 for n in (2, 3, 4, 6, 7))


class _Context:
    """What the expressions in call-frame information may ask for: registers and memory (dwarf/ops.py, Context)."""

    def __init__(self, unwinder: Unwinder, registers: Registers, bias: int) -> None:
        self._unwinder = unwinder
        self._bias = bias
        self.registers = registers
        self.word = unwinder.word
        self.read: Callable[[int, int], bytes] = unwinder.read

    def register(self, number: int) -> int:
        value = self.registers[self._unwinder.number_of(number)]
        if value is None:
            raise UnavailableError("<not saved>")
        return value

    def relocated(self, vaddr: int) -> int:
        return vaddr + self._bias

    def cfa(self) -> int:
        return self._none()

    def frame_base(self) -> int:
        return self._none()

    def indexed(self, index: int) -> int:
        return self._none(index)

    def tls(self, offset: int) -> int:
        return self._none(offset)

    def entry_value(self, expression: bytes) -> int:
        return self._none(expression)

    def called(self, offset: int) -> bytes:
        raise DamagedError(f"{offset}: call-frame information has no entries to call")

    def integer(self, offset: int) -> tuple[int, bool] | None:
        raise DamagedError(f"{offset}: call-frame information has no types")

    @staticmethod
    def _none(*what: object) -> int:
        raise DamagedError(f"{what}: not in call-frame information")
