"""The usual way to run a program on Unicorn, for comparison: flat memory, no page tables, hooks in Python.

usage: python -m bench.bare_unicorn PROGRAM [ARGS...]

Static programs of both architectures only, and the few system calls that they need to start, compute, read and print.
"""

import os
import struct
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from elftools.elf.elffile import ELFFile
from unicorn.unicorn import Uc
from unicorn.unicorn_const import UC_ARCH_X86, UC_HOOK_INSN, UC_HOOK_INTR, UC_MODE_32, UC_MODE_64
from unicorn.x86_const import (
    UC_X86_INS_SYSCALL,
    UC_X86_REG_CS,
    UC_X86_REG_DS,
    UC_X86_REG_EAX,
    UC_X86_REG_EBP,
    UC_X86_REG_EBX,
    UC_X86_REG_ECX,
    UC_X86_REG_EDI,
    UC_X86_REG_EDX,
    UC_X86_REG_ES,
    UC_X86_REG_ESI,
    UC_X86_REG_ESP,
    UC_X86_REG_FS_BASE,
    UC_X86_REG_GDTR,
    UC_X86_REG_R8,
    UC_X86_REG_R9,
    UC_X86_REG_R10,
    UC_X86_REG_RAX,
    UC_X86_REG_RDI,
    UC_X86_REG_RDX,
    UC_X86_REG_RSI,
    UC_X86_REG_RSP,
    UC_X86_REG_SS,
)

PAGE: Final = 4096
GDT: Final = 0x1000
STACK_TOP: Final = 0x7000_0000
STACK_SIZE: Final = 8 << 20
MAPPINGS: Final = 0x5000_0000
ENOSYS: Final = 38
ENOTTY: Final = 25
ARGUMENTS_64: Final = (UC_X86_REG_RDI, UC_X86_REG_RSI, UC_X86_REG_RDX, UC_X86_REG_R10, UC_X86_REG_R8, UC_X86_REG_R9)
ARGUMENTS_32: Final = (
    *(UC_X86_REG_EBX, UC_X86_REG_ECX, UC_X86_REG_EDX),
    *(UC_X86_REG_ESI, UC_X86_REG_EDI, UC_X86_REG_EBP),
)
# The names of the calls that are known, by number.
CALLS_64: Final = {
    0: "read",
    1: "write",
    3: "close",
    9: "mmap",
    11: "munmap",
    12: "brk",
    20: "writev",
    110: "getppid",
    158: "arch_prctl",
    218: "set_tid_address",
    231: "exit_group",
    257: "openat",
    10: "nothing",
    16: "ioctl",
    28: "nothing",
    262: "fstat",
    318: "getrandom",
}
CALLS_32: Final = {
    3: "read",
    4: "write",
    6: "close",
    45: "brk",
    64: "getppid",
    91: "munmap",
    146: "writev",
    192: "mmap",
    243: "set_thread_area",
    252: "exit_group",
    258: "set_tid_address",
    295: "openat",
    54: "ioctl",
    125: "nothing",
    219: "nothing",
    355: "getrandom",
    383: "fstat",
}


class Bare:
    """A program in flat memory, and its system calls as methods."""

    def __init__(self, path: str, args: list[str]) -> None:
        with open(path, "rb") as file:  # noqa: PTH123  # start-up time is measured here
            elf = ELFFile(file)
            self.wide = elf.elfclass == 64
            self.uc = Uc(UC_ARCH_X86, UC_MODE_64 if self.wide else UC_MODE_32)
            self.brk_now = 0
            for segment in elf.iter_segments("PT_LOAD"):
                start, end = segment["p_vaddr"] & -PAGE, segment["p_vaddr"] + segment["p_memsz"] + PAGE - 1 & -PAGE
                self.uc.mem_map(start, end - start)
                self.uc.mem_write(segment["p_vaddr"], segment.data())
                self.brk_now = max(self.brk_now, end)
            headers = {3: elf.header.e_phoff, 4: elf.header.e_phentsize, 5: elf.header.e_phnum, 9: elf.header.e_entry}
            headers[3] += next(s["p_vaddr"] - s["p_offset"] for s in elf.iter_segments("PT_LOAD"))
            self.entry = elf.header.e_entry
        self.next_mapping = MAPPINGS
        self.uc.mem_map(STACK_TOP - STACK_SIZE, STACK_SIZE)
        self._stack(args, headers)
        if self.wide:
            self.uc.hook_add(UC_HOOK_INSN, self._on_call, None, 1, 0, UC_X86_INS_SYSCALL)
        else:
            self._flat_segments()
            self.uc.hook_add(UC_HOOK_INTR, self._on_interrupt)

    def _stack(self, args: list[str], headers: dict[int, int]) -> None:
        """Arguments, no environment, and the auxiliary vector."""
        strings = STACK_TOP - PAGE
        random = strings
        self.uc.mem_write(strings, bytes(range(16)))
        strings += 16
        pointers = []
        for arg in args:
            pointers.append(strings)
            self.uc.mem_write(strings, os.fsencode(arg) + b"\0")
            strings += len(os.fsencode(arg)) + 1
        auxv = {6: PAGE, 25: random, 23: 0, **headers, 0: 0}
        words = [len(args), *pointers, 0, 0, *(word for pair in auxv.items() for word in pair)]
        stack = struct.pack(f"<{len(words)}{'Q' if self.wide else 'I'}", *words)
        pointer = STACK_TOP - 2 * PAGE - len(stack) & -16
        self.uc.mem_write(pointer, stack)
        self.uc.reg_write(UC_X86_REG_RSP if self.wide else UC_X86_REG_ESP, pointer)

    def _flat_segments(self) -> None:
        """A GDT with flat code and data, and room for the segment of TLS."""
        self.uc.mem_map(GDT, PAGE)
        self.uc.mem_write(GDT, struct.pack("<4Q", 0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0))
        self.uc.reg_write(UC_X86_REG_GDTR, (0, GDT, 31, 0))
        self.uc.reg_write(UC_X86_REG_CS, 8)
        for register in (UC_X86_REG_DS, UC_X86_REG_ES, UC_X86_REG_SS):
            self.uc.reg_write(register, 16)

    def _on_call(self, uc: Uc, _data: object) -> None:
        handler = self._handler(CALLS_64.get(uc.reg_read(UC_X86_REG_RAX), "absent"))
        arguments = [uc.reg_read(register) for register in ARGUMENTS_64]
        uc.reg_write(UC_X86_REG_RAX, handler(*arguments) & (1 << 64) - 1)

    def _on_interrupt(self, uc: Uc, number: int, _data: object) -> None:
        if number != 0x80:
            sys.exit(128 + 11)
        handler = self._handler(CALLS_32.get(uc.reg_read(UC_X86_REG_EAX), "absent"))
        arguments = [uc.reg_read(register) for register in ARGUMENTS_32]
        uc.reg_write(UC_X86_REG_EAX, handler(*arguments) & (1 << 32) - 1)

    def _handler(self, name: str) -> Callable[..., int]:
        handler: Callable[..., int] = getattr(self, f"_sys_{name}")
        return handler

    def _sys_absent(self, *_: int) -> int:
        return -ENOSYS

    def _sys_nothing(self, *_: int) -> int:
        return 0

    def _sys_ioctl(self, *_: int) -> int:
        return -ENOTTY

    def _sys_fstat(self, *_: int) -> int:
        return -ENOSYS

    def _sys_getppid(self, *_: int) -> int:
        return 1

    def _sys_set_tid_address(self, *_: int) -> int:
        return 1

    def _sys_getrandom(self, address: int, size: int, *_: int) -> int:
        self.uc.mem_write(address, bytes(size))
        return size

    def _sys_arch_prctl(self, code: int, address: int, *_: int) -> int:
        if code != 0x1002:  # ARCH_SET_FS
            return -22
        self.uc.reg_write(UC_X86_REG_FS_BASE, address)
        return 0

    def _sys_set_thread_area(self, address: int, *_: int) -> int:
        _entry, base = struct.unpack("<II", self.uc.mem_read(address, 8))
        low = 0xFFFF | (base & 0xFFFF) << 16
        high = base >> 16 & 0xFF | 0xF3 << 8 | 0xCF << 16 | base & 0xFF00_0000
        self.uc.mem_write(GDT + 24, struct.pack("<II", low, high))
        self.uc.mem_write(address, struct.pack("<I", 3))
        return 0

    def _sys_brk(self, address: int, *_: int) -> int:
        if address > self.brk_now:
            end = address + PAGE - 1 & -PAGE
            self.uc.mem_map(self.brk_now, end - self.brk_now)
            self.brk_now = end
        return self.brk_now

    def _sys_mmap(self, _address: int, size: int, *_: int) -> int:
        start = self.next_mapping
        size = size + PAGE - 1 & -PAGE
        self.uc.mem_map(start, size)
        self.next_mapping += size
        return start

    def _sys_munmap(self, address: int, size: int, *_: int) -> int:
        self.uc.mem_unmap(address, size + PAGE - 1 & -PAGE)
        return 0

    def _sys_openat(self, _directory: int, path: int, *_: int) -> int:
        name = bytes(self.uc.mem_read(path, 256)).split(b"\0")[0]
        return os.open(name, os.O_RDONLY)

    def _sys_close(self, fd: int, *_: int) -> int:
        os.close(fd)
        return 0

    def _sys_read(self, fd: int, address: int, size: int, *_: int) -> int:
        data = os.read(fd, size)
        self.uc.mem_write(address, data)
        return len(data)

    def _sys_write(self, fd: int, address: int, size: int, *_: int) -> int:
        return os.write(fd, self.uc.mem_read(address, size))

    def _sys_writev(self, fd: int, vector: int, count: int, *_: int) -> int:
        word = "Q" if self.wide else "I"
        size = struct.calcsize(f"<{2 * count}{word}")
        words = struct.unpack(f"<{2 * count}{word}", self.uc.mem_read(vector, size))
        return sum(self._sys_write(fd, words[i], words[i + 1]) for i in range(0, 2 * count, 2))

    def _sys_exit_group(self, status: int, *_: int) -> NoReturn:
        # sys.exit would only stop Unicorn once its own cleaning up is done.
        os._exit(status & 0xFF)

    def run(self) -> None:
        """Run the program; it ends this process."""
        self.uc.emu_start(self.entry, 0)


def main(argv: list[str]) -> Any:
    """The command line."""
    Bare(argv[0], argv).run()


if __name__ == "__main__":
    main(sys.argv[1:])
