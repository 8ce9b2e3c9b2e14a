"""Registers as gdb counts them, and their values in a task, running or not.

Numbers and sizes are those of gdb's standard features (the gdb manual, "i386 Features"); the order within ``g`` is by
number.  A register is a slice of one of a few banks, each read and written as a whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.cpu import RAX, RIP
from emu.x86 import FLAG_AC, FLAG_DF, FLAG_OF, FLAG_TF
from minikernel.abi.abi import X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.task.task import NO_SYSCALL

if TYPE_CHECKING:
    from minikernel.abi.abi import Abi
    from minikernel.kdb.machine import Machine
    from minikernel.task.task import Task

_MASK32: Final = 0xFFFF_FFFF
# What a debugger may change (FLAG_MASK, arch/x86/kernel/ptrace.c): CF PF AF ZF SF, and these.
_CHANGEABLE: Final = 0xD5 | FLAG_TF | FLAG_DF | FLAG_OF | FLAG_AC
_SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs")
_NAMES64: Final = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15"
_INDEXES64: Final = (0, 3, 1, 2, 6, 7, 5, 4, *range(8, 16))
_NAMES32: Final = "eax ecx edx ebx esp ebp esi edi"
_FX_ST: Final = 32  # where an FXSAVE image has the x87 and the SSE registers
_FX_XMM: Final = 160
_FX_MXCSR: Final = 24


@dataclass(frozen=True, slots=True)
class Register:
    """One register: *bank* and *index* say where its value is, *kind* is its type in the target description."""

    number: int
    name: str
    bits: int
    kind: str
    feature: str
    bank: str
    index: int = 0

    @property
    def size(self) -> int:
        """Bytes of its value in a packet."""
        return self.bits // 8


def _layout(abi: "Abi") -> tuple[Register, ...]:
    """Every register of *abi*, in gdb's order."""
    wide = abi is X86_64
    word = 64 if wide else 32
    rows: list[tuple[str, int, str, str, str, int]] = []
    names = (_NAMES64 if wide else _NAMES32).split()
    for name, index in zip(names, _INDEXES64 if wide else range(8), strict=True):
        kind = "data_ptr" if name[1:] in {"bp", "sp"} else f"int{word}"
        rows.append((name, word, kind, "core", "general", index))
    rows.append(("rip" if wide else "eip", word, "code_ptr", "core", "general", RIP))
    rows.append(("eflags", 32, "i386_eflags", "core", "flags", 0))
    rows += [(name, 32, "int32", "core", "segment", index) for index, name in enumerate(_SEGMENTS)]
    rows += [(f"st{n}", 80, "i387_ext", "core", "st", n) for n in range(8)]
    control = ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"]
    rows += [(name, 32, "int", "core", "x87", index) for index, name in enumerate(control)]
    rows += [(f"xmm{n}", 128, "vec128", "sse", "xmm", n) for n in range(16 if wide else 8)]
    rows.append(("mxcsr", 32, "i386_mxcsr", "sse", "mxcsr", 0))
    rows.append(("orig_rax" if wide else "orig_eax", word, f"int{word}" if wide else "int", "linux", "orig", 0))
    if wide:
        rows += [(name, 64, "int", "segments", "base", index) for index, name in enumerate(("fs_base", "gs_base"))]
    return tuple(Register(number, *row) for number, row in enumerate(rows))


_LAYOUTS: Final[dict[str, tuple[Register, ...]]] = {}


def layout(abi: "Abi") -> tuple[Register, ...]:
    """The registers of a task of *abi*, by number."""
    if abi.name not in _LAYOUTS:
        _LAYOUTS[abi.name] = _layout(abi)
    return _LAYOUTS[abi.name]


def program_counter(abi: "Abi") -> Register:
    """RIP or EIP."""
    return next(register for register in layout(abi) if register.bank == "general" and register.index == RIP)


@contextmanager
def _in_cpu(task: "Task", *, change: bool) -> Iterator[None]:
    """The registers of *task* are in the CPU meanwhile; *change*: what is made of them there is kept."""
    kernel = task.kernel
    if kernel.current is task:
        yield
        return
    cpu, user_mode = kernel.cpu, kernel.user_mode
    mine = cpu.save()
    cpu.restore(task.context)
    user_mode.load_tls(task.tls)
    try:
        yield
        if change:
            task.context = cpu.save()
    finally:
        cpu.restore(mine)
        if kernel.current is not None:
            user_mode.load_tls(kernel.current.tls)


def is_readable(task: "Task") -> bool:
    """Whether *task* has registers: it runs a program, and is in the CPU or has been."""
    return task.has_mm and (task.kernel.current is task or bool(task.context))


def read_all(machine: "Machine", task: "Task") -> bytes:
    """All registers of *task*: what ``g`` shows."""
    return b"".join(read(machine, task, [register.number for register in layout(task.abi)]))


def read(machine: "Machine", task: "Task", numbers: list[int]) -> list[bytes]:
    """The values of some registers of *task*, in the target's byte order."""
    registers = layout(task.abi)
    with _in_cpu(task, change=False):
        banks = _Banks(machine, task)
        return [banks.value(registers[number]) for number in numbers]


def write(machine: "Machine", task: "Task", values: list[tuple[int, bytes]]) -> None:
    """Change registers of *task*, which sleeps in no call; those that keep their value are not touched.

    Errors:
        LinuxError: a value that the register cannot have.
    """
    registers = layout(task.abi)
    with _in_cpu(task, change=True):
        banks = _Banks(machine, task)
        for number, value in values:
            register = registers[number]
            if banks.value(register) != value:
                banks.set_value(register, int.from_bytes(value, "little"))
        banks.finish()
    if task.orig_ax != NO_SYSCALL and not machine.held_call(task):
        machine.leave_kernel_again(task)  # a call is to be made again, as when gdb's own call of a function is over


class _Banks:
    """The registers of the task in the CPU."""

    def __init__(self, machine: "Machine", task: "Task") -> None:
        self._task = task
        self._cpu = task.kernel.cpu
        self._at_call = machine.held_call(task)
        self._image: bytearray | None = None  # FXSAVE's
        self._image_changed = False

    @property
    def image(self) -> bytearray:
        """The x87 and SSE state."""
        if self._image is None:
            self._image = bytearray(self._cpu.fxsave())
        return self._image

    def value(self, register: Register) -> bytes:
        """In the target's byte order."""
        index = register.index
        if register.bank == "st":
            at = _FX_ST + 16 * index
            return bytes(self.image[at : at + 10])
        if register.bank == "xmm":
            at = _FX_XMM + 16 * index
            return bytes(self.image[at : at + 16])
        mask = (1 << register.bits) - 1
        return (self._number(register.bank, index) & mask).to_bytes(register.size, "little")

    def _number(self, bank: str, index: int) -> int:
        cpu = self._cpu
        match bank:
            case "general":
                # Within a call the kernel has its number, and RAX the answer so far, as ptrace shows it.
                if index == RAX and self._at_call:
                    return -int(Errno.ENOSYS)
                if index == RAX and self._task.blocked_call is not None:
                    return -int(Errno.ERESTARTSYS)
                return cpu.regs[index]
            case "flags":
                return cpu.rflags
            case "segment":
                return cpu.segment(_SEGMENTS[index])
            case "x87":
                return self._control(index)
            case "mxcsr":
                return int.from_bytes(self.image[_FX_MXCSR : _FX_MXCSR + 4], "little")
            case "orig":
                return cpu.regs[RAX] if self._at_call else self._task.orig_ax
            case _:
                return cpu.gs_base if index else cpu.fs_base

    def _control(self, index: int) -> int:
        image = self.image
        if index == 2:
            return full_tags(bytes(image))
        at = {0: 0, 1: 2, 7: 6}.get(index)  # the engine keeps no instruction and operand pointers: zero
        return int.from_bytes(image[at : at + 2], "little") if at is not None else 0

    def set_value(self, register: Register, number: int) -> None:
        """Change one register."""
        cpu, task, index = self._cpu, self._task, register.index
        match register.bank:
            case "general":
                if not (self._at_call and index == RAX):
                    cpu.regs[index] = number
            case "flags":
                cpu.rflags = cpu.rflags & ~_CHANGEABLE | number & _CHANGEABLE
            case "segment":
                self._set_segment(_SEGMENTS[index], number & 0xFFFF)
            case "orig":
                if self._at_call:
                    cpu.regs[RAX] = number
                else:
                    task.orig_ax = NO_SYSCALL if number & _MASK32 == _MASK32 else number & _MASK32
            case "base":
                if number >= task.mm.layout.task_size:
                    raise LinuxError(Errno.EIO, f"{number:#x} is no address of user space")
                if index:
                    cpu.gs_base = number
                else:
                    cpu.fs_base = number
            case bank:
                self._set_in_image(bank, index, number)

    def _set_segment(self, name: str, selector: int) -> None:
        user_mode = self._task.kernel.user_mode
        if name == "cs":
            user_mode.set_code_selector(selector)
        elif name == "ss" or (selector and selector & 3 != 3):
            raise LinuxError(Errno.EIO, f"{selector:#x} cannot be loaded into {name}")
        else:
            user_mode.load_segment(name, selector)

    def _set_in_image(self, bank: str, index: int, number: int) -> None:
        image = self.image
        self._image_changed = True
        match bank:
            case "st":
                image[_FX_ST + 16 * index : _FX_ST + 16 * index + 10] = number.to_bytes(10, "little")
            case "xmm":
                image[_FX_XMM + 16 * index : _FX_XMM + 16 * index + 16] = number.to_bytes(16, "little")
            case "mxcsr":
                image[_FX_MXCSR : _FX_MXCSR + 4] = (number & 0xFFFF).to_bytes(4, "little")
            case _ if index in {0, 1}:
                image[2 * index : 2 * index + 2] = (number & 0xFFFF).to_bytes(2, "little")
            case _ if index == 2:
                image[4] = sum(1 << n for n in range(8) if number >> 2 * n & 3 != 3)
            case _:
                self._image_changed = False  # pointers that the engine does not keep

    def finish(self) -> None:
        """Load what was changed in the image."""
        if self._image is not None and self._image_changed:
            self._cpu.fxrstor(bytes(self._image))


def full_tags(image: bytes) -> int:
    """The x87 tag word of an FXSAVE image, which has only a bit for each register (SDM vol. 1, 8.1.7 and 10.5.1)."""
    top = image[3] >> 3 & 7
    tags = 0
    for physical in range(8):
        tag = 3  # empty
        if image[4] >> physical & 1:
            at = _FX_ST + 16 * ((physical - top) & 7)
            mantissa = int.from_bytes(image[at : at + 8], "little")
            exponent = int.from_bytes(image[at + 8 : at + 10], "little") & 0x7FFF
            if exponent == 0x7FFF or (not exponent and mantissa) or (exponent and not mantissa >> 63):
                tag = 2  # special: infinity, NaN, denormal, unnormal
            else:
                tag = 1 if not exponent else 0
        tags |= tag << 2 * physical
    return tags
