"""The crash report: what killed a program, where and why, on one screen.

Written for the moment before the kernel takes the process apart.  Nothing here may fail or change anything, however
broken the state: an unmapped instruction, a garbage stack, a damaged file.
"""

from struct import Struct
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from emu.cpu import GPR_NAMES, RIP, RSP
from emu.x86 import PF_I, PF_W, VEC_AC, VEC_BP, VEC_DB, VEC_DE, VEC_GP, VEC_PF, VEC_UD, VirtAddr
from minikernel.abi import signal as s
from minikernel.abi.siginfo import Layout
from minikernel.mm.vma import VM_EXEC
from minikernel.report.blame import blame
from minikernel.report.peek import peek
from minikernel.report.place import locate, neighbour_words
from minikernel.report.symbols import Symbols
from minikernel.report.words import access_word, error_code_words, rflags_words, rights, si_code_words

if TYPE_CHECKING:
    from emu.disasm import Instruction
    from minikernel.abi.siginfo import Siginfo
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.report.place import Place
    from minikernel.task.task import Task

_CODE_BEFORE: Final = 2048  # bytes that we disassemble to find the instructions before
_NR_BEFORE: Final = 3
_NR_AFTER: Final = 3
_MAX_INSN: Final = 15  # bytes
_SHOWN_BYTES: Final = 8
_WIDTH: Final = 100
_STACK_WORDS: Final = 64
_NR_CALLERS: Final = 4
_REGS: Final = Struct("<17Q")  # a saved context begins with them
_CANONICAL: Final = frozenset({0, (1 << 17) - 1})  # bits 63:47 of an address
_BITS32: Final = 0xFFFF_FFFF

Row = tuple[str, str]


def crash_report(kernel: "Kernel", task: "Task", info: "Siginfo") -> str:
    """What the signal *info*, which is about to kill *task*, is about: some twenty lines."""
    name = s.signal_name(info.signo)
    title = f"minikernel: {task.comm.decode(errors='backslashreplace')} (process {task.pid}) was killed by {name}"
    description = s.DESCRIPTIONS.get(info.signo)
    title += f" ({description})" if description else ""
    rows = [("what", _what(info))]
    if task.has_mm:
        rows += _Report(kernel, task, info).rows()
    lines = [title]
    for label, words in rows:
        first, *more = wrap(words, _WIDTH, drop_whitespace=False) if label == "why" else (words,)
        lines.append(f"  {label:<6} {first}".rstrip())
        lines += [f"         {words.strip()}" for words in more]
    return "\n".join(lines) + "\n"


def _what(info: "Siginfo") -> str:
    """The signal's code in words, and who sent it or which address it is about."""
    code, meaning = si_code_words(info.signo, info.code)
    match info.layout:
        case Layout.FAULT:
            return f"{meaning} ({code}), address {info.addr:#x}"
        case Layout.KILL | Layout.RT if info.code != s.SI_KERNEL:
            return f"{meaning} ({code}), by process {info.pid} of user {info.uid}"
        case _:
            return f"{meaning} ({code})"


class _Report:
    """The rows about a process that still has its memory."""

    def __init__(self, kernel: "Kernel", task: "Task", info: "Siginfo") -> None:
        self._kernel = kernel
        self._task = task
        self._info = info
        self._mm: MmStruct = task.mm
        self._is_current = kernel.current is task
        self._regs = tuple(kernel.cpu.regs) if self._is_current else saved_registers(task)
        self._mask = task.abi.mask
        self._ip = self._regs[RIP] & self._mask
        self._symbols = Symbols(kernel.vdso)
        self._code = locate(self._mm, self._symbols, self._ip)

    def rows(self) -> list[Row]:
        """Label and words."""
        return [("where", self._where()), *self._why(), *self._instructions(), *self._registers(), *self._callers()]

    def _where(self) -> str:
        code = self._code
        if code.vma is None:
            return f"{self._ip:#x}, where nothing is mapped"
        words = f"{self._ip:#x} {code.symbol}" if code.symbol is not None else f"{self._ip:#x}"
        words += f", {code.line}" if code.line is not None else ""
        return f"{words}; {code.exact} in {rights(code.vma.flags)} {code.name}"

    # ---- why

    def _why(self) -> list[Row]:
        info, trap = self._info, self._task.trap_nr
        if info.layout is not Layout.FAULT and info.code != s.SI_KERNEL:
            if info.signo != s.SIGABRT:
                return []
            return [
                ("why", "the program gave itself up: abort(3), a failed assertion, or damage that its C library found")
            ]
        if info.signo in {s.SIGSEGV, s.SIGBUS} and trap == VEC_PF and info.layout is Layout.FAULT:
            return self._why_page_fault(info.addr, info.code)
        if info.signo == s.SIGSEGV and trap == VEC_GP:
            return [("why", self._why_general_protection())]
        if info.signo == s.SIGSEGV and info.code == s.SI_KERNEL:
            return self._why_no_frame()
        words = self._why_trap(info.signo, trap)
        return [("why", words)] if words else []

    def _why_trap(self, sig: int, trap: int) -> str:
        """The exceptions that need no more than a sentence."""
        if (sig, trap) == (s.SIGFPE, VEC_DE):
            return self._why_division()
        if (sig, trap) == (s.SIGILL, VEC_UD):
            return f"the bytes {peek(self._mm, self._ip, 8).hex(' ')} begin with no instruction of this CPU"
        if (sig, trap) == (s.SIGTRAP, VEC_BP):
            return f"a breakpoint (int3) right before {self._ip:#x}"
        if (sig, trap) == (s.SIGTRAP, VEC_DB):
            return "a single step: the program set the trap flag"
        if (sig, trap) == (s.SIGBUS, VEC_AC):
            return "an address that is no multiple of its operand's size, while alignment checks are on"
        return ""

    def _why_division(self) -> str:
        """#DE: by zero, or too large a quotient, told by the divisor if that is a register."""
        insn = self._instruction_at_ip()
        name = insn.op_str if insn is not None else ""
        value = self._register(name)
        if value is None:
            return "an integer was divided by zero, or the quotient does not fit its register"
        if not value:
            return f"division by zero: {name} is 0"
        return f"the quotient of a division by {name}, which is {value:#x}, does not fit its register"

    def _register(self, name: str) -> int | None:
        """The value of a 64-bit or 32-bit general register; None for any other operand."""
        for index, full in enumerate(GPR_NAMES):
            if name == full:
                return self._regs[index]
            if name in {f"{full}d", f"e{full[1:]}"}:
                return self._regs[index] & _BITS32
        return None

    def _why_no_frame(self) -> list[Row]:
        """A SIGSEGV of the kernel's own making, most often because a handler could not be called."""
        sp = self._regs[RSP] & self._mask
        rows = [("why", f"a signal frame could not be written to, or read from, the stack at {sp:#x}")]
        if self._task.trap_nr == VEC_PF:
            rows += [("", words) for _, words in self._why_page_fault(self._task.cr2, s.SEGV_MAPERR)]
        return rows

    def _why_page_fault(self, address: int, code: int) -> list[Row]:
        """The access, the rule that forbids it, and what is near."""
        task, mm = self._task, self._mm
        error_code = task.error_code
        place = locate(mm, self._symbols, address)
        if address == self._ip and not error_code & PF_W:
            error_code |= PF_I  # without NX in the paging mode the hardware does not say so
        rows = [("why", blame(mm, place, error_code, self._info.signo, code))]
        # The kernel's half is reported as present, whatever is there: nothing leaks (do_user_addr_fault).
        known = address < mm.layout.task_size
        words = error_code_words(error_code) if known else f"{access_word(error_code)} by the program"
        rows.append(("access", f"{words} (error code {task.error_code:#x}, CR2 {address:#x})"))
        if place.vma is None:
            rows += [("near", neighbour_words(place.below, "below")), ("", neighbour_words(place.above, "above"))]
        else:
            rows.append(("near", _mapping_words(place)))
        return rows

    def _why_general_protection(self) -> str:
        """#GP gives no address; a register that is no canonical address is the usual reason."""
        words = "general protection fault: a privileged instruction, a bad segment, or"
        if self._task.abi.word == 4:
            return f"{words} a limit that was exceeded"
        wild = [name for name, value in zip(GPR_NAMES, self._regs, strict=False) if value >> 47 not in _CANONICAL]
        if not wild:
            return f"{words} an address that is not canonical"
        return f"general protection fault; no canonical address: {', '.join(wild)}"

    # ---- state

    def _instructions(self) -> list[Row]:
        """The instruction and its neighbours, as far as they can be read."""
        after = self._disassemble(self._ip, _MAX_INSN * (_NR_AFTER + 1))[: _NR_AFTER + 1]
        if not after:
            return [("code", f"no instruction at {self._ip:#x} can be read")]
        lines = [f"   {_insn_words(insn)}" for insn in self._before()]
        lines += [f"{'=> ' if insn.address == self._ip else '   '}{_insn_words(insn)}" for insn in after]
        return [("code" if not index else "", words) for index, words in enumerate(lines)]

    def _disassemble(self, start: int, size: int) -> "list[Instruction]":
        from emu.disasm import disassemble

        bits = self._kernel.cpu.code_bits if self._is_current else self._task.abi.word * 8
        return disassemble(peek(self._mm, start, size), VirtAddr(start), bits=bits)

    def _instruction_at_ip(self) -> "Instruction | None":
        return next(iter(self._disassemble(self._ip, _MAX_INSN)), None)

    def _before(self) -> "list[Instruction]":
        """The last instructions before, if the function's start is known and decoding arrives at ours."""
        symbol = self._code.symbol
        if symbol is None or not 0 < symbol.offset <= _CODE_BEFORE:
            return []
        insns = self._disassemble(self._ip - symbol.offset, symbol.offset)
        whole = insns and insns[-1].address + insns[-1].size == self._ip and all(insn.is_valid for insn in insns)
        return insns[-_NR_BEFORE:] if whole else []

    def _registers(self) -> list[Row]:
        """General registers, flags and segments."""
        cpu, word = self._kernel.cpu, self._task.abi.word
        names = GPR_NAMES if word == 8 else tuple("e" + name[1:] for name in GPR_NAMES[:8])
        cells = [f"{name:<3} {value & self._mask:0{word * 2}x}" for name, value in zip(names, self._regs, strict=False)]
        rows = [("regs" if not at else "", "  ".join(cells[at : at + 4])) for at in range(0, len(cells), 4)]
        if not self._is_current:
            return rows
        ip, flags = ("rip", "rflags") if word == 8 else ("eip", "eflags")
        rows.append(("", f"{ip} {self._ip:0{word * 2}x}  {flags} {cpu.rflags:#x} [{rflags_words(cpu.rflags)}]"))
        segments = "  ".join(f"{name} {cpu.segment(name):#x}" for name in ("cs", "ss", "ds", "es", "fs", "gs"))
        bases = f"  fs_base {cpu.fs_base:#x}  gs_base {cpu.gs_base:#x}" if cpu.long_mode else ""
        return [*rows, ("", segments + bases)]

    def _callers(self) -> list[Row]:
        """Words right above SP that point behind a CALL: who called, or once called and was not overwritten."""
        abi = self._task.abi
        stack = peek(self._mm, self._regs[RSP] & self._mask, _STACK_WORDS * abi.word)
        found: list[str] = []
        for value in abi.unpack_words(stack):
            words = _return_words(self._mm, self._symbols, value)
            if words and words not in found:
                found.append(words)
        return [("stack", f"has return addresses to {', '.join(found[:_NR_CALLERS])}")] if found else []


def _return_words(mm: "MmStruct", symbols: Symbols, value: int) -> str:
    """The place *value* points to, if that is behind a CALL in a function with a name; otherwise ""."""
    vma = mm.vmas.find(value)
    if vma is None or not vma.flags & VM_EXEC or not _behind_call(peek(mm, value - 7, 7)):
        return ""
    place = locate(mm, symbols, value)
    if place.symbol is None or not place.symbol.offset:
        return ""
    return f"{place.symbol} ({place.line})" if place.line is not None else str(place.symbol)


def _behind_call(before: bytes) -> bool:
    """The seven bytes *before* end with a CALL: E8 and four bytes, or FF /2 of any length."""
    if len(before) < 7:
        return False
    return before[2] == 0xE8 or any(before[7 - n] == 0xFF and before[8 - n] >> 3 & 7 == 2 for n in (2, 3, 4, 6, 7))


def _mapping_words(place: "Place") -> str:
    assert place.vma is not None, "_mapping_words: nothing is mapped there"
    return f"{place.short} in {place.vma.start:#x}-{place.vma.end:#x} {rights(place.vma.flags)} {place.name}"


def saved_registers(task: "Task") -> tuple[int, ...]:
    """The registers of a task that is not in the CPU."""
    if len(task.context) < _REGS.size:
        return (0,) * 17
    return _REGS.unpack_from(task.context)


def _insn_words(insn: "Instruction") -> str:
    code = insn.bytes.hex(" ") if insn.size <= _SHOWN_BYTES else insn.bytes[: _SHOWN_BYTES - 1].hex(" ") + " .."
    return f"{insn.address:#x}: {code:<{3 * _SHOWN_BYTES}}{insn.text}"
