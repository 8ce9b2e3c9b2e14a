"""Random user programs that end by themselves, for tests of counting: the same bytes run as 32- and 64-bit code.

A program is a row of blocks.  Each pays one unit of fuel from EBP, does some work and branches; without fuel it ends
in ``int 0x80`` with EAX = END.  Registers: EAX, EBX, EDX hold values, ECX counts REPs, ESI and EDI are set where used.
"""

import random
import struct
from typing import Final

CODE: Final = 0x0040_0000  # up to four pages, writable and executable
DATA: Final = 0x0060_0000  # sixteen pages that fault at first
STACK: Final = 0x0070_0000  # the page above is not mapped, the one below is
NR_DATA_PAGES: Final = 16
END: Final = 0x0E0D
CALL: Final = 0x0CA1  # EAX of the system calls in between
_VALUES: Final = (0, 3, 2)  # eax, ebx, edx


class Program:
    """Code, and what to run it with.  *straight_bytes* pads blocks, so that code crosses pages."""

    def __init__(self, seed: int, *, nr_blocks: int = 24, fuel: int = 120, self_modifying: bool = True) -> None:
        self._random = random.Random(seed)
        self.fuel = fuel
        self._self_modifying = self_modifying
        self._patchable: list[int] = []  # offsets of immediates that may be overwritten
        self._fixups: list[tuple[int, int]] = []  # offset of a rel32, target block
        self._starts: list[int] = []
        self._code = bytearray(b"\xbd" + struct.pack("<I", fuel))  # mov ebp, fuel
        self._nr_blocks = nr_blocks
        for _ in range(nr_blocks):
            self._block()
        self._end = len(self._code)
        self._emit(b"\xb8" + struct.pack("<I", END) + b"\xcd\x80")
        for at, target in self._fixups:
            goal = self._starts[target] if target < nr_blocks else self._end
            self._code[at : at + 4] = struct.pack("<i", goal - (at + 4))
        self.code = bytes(self._code)

    def _emit(self, code: bytes) -> None:
        self._code += code

    def _jump(self, opcode: bytes, target: int) -> None:
        self._emit(opcode + bytes(4))
        self._fixups.append((len(self._code) - 4, target))

    def _block(self) -> None:
        rng = self._random
        self._starts.append(len(self._code))
        self._emit(b"\x83\xed\x01")  # sub ebp, 1
        self._jump(b"\x0f\x84", self._nr_blocks)  # jz end
        for _ in range(rng.randrange(1, 12)):
            rng.choice(self._WORK)(self)
        if rng.random() < 0.05:
            self._emit(b"\x8d\x76\x00" * rng.randrange(1, 500))  # lea esi, [esi]: a long straight line
        kind = rng.randrange(4)
        if kind == 0:
            self._jump(b"\x0f" + bytes([0x80 + rng.randrange(16)]), rng.randrange(self._nr_blocks))
        elif kind == 1:
            self._jump(b"\xe9", rng.randrange(self._nr_blocks))

    # -- work: each appends some instructions

    def _arithmetic(self) -> None:
        rng = self._random
        opcode = rng.choice((0x01, 0x29, 0x31, 0x21, 0x09, 0x39, 0x85, 0x11, 0x19))
        self._emit(bytes([opcode, 0xC0 | rng.choice(_VALUES) << 3 | rng.choice(_VALUES)]))

    def _immediate(self) -> None:
        """Mov or add of an immediate, which other code may overwrite."""
        rng = self._random
        register = rng.choice(_VALUES)
        value = struct.pack("<I", rng.getrandbits(32))
        self._emit(bytes([0xB8 + register]) if rng.random() < 0.5 else bytes([0x81, 0xC0 | register]))
        self._patchable.append(len(self._code))
        self._emit(value)

    def _data_address(self) -> int:
        rng = self._random
        if rng.random() < 0.2:
            return rng.randrange(1, NR_DATA_PAGES) * 0x1000 - rng.randrange(1, 4)  # over the edge of a page
        return rng.randrange(NR_DATA_PAGES * 0x1000 - 8)

    def _memory(self) -> None:
        """Mov edi, DATA; then a load or a store at [edi + disp32]."""
        rng = self._random
        opcode = rng.choice((0x89, 0x8B, 0x01, 0x03, 0x88, 0x8A))
        modrm = 0x80 | rng.choice((0, 3, 2)) << 3 | 7
        self._emit(b"\xbf" + struct.pack("<I", DATA) + bytes([opcode, modrm]) + struct.pack("<I", self._data_address()))

    def _rep(self) -> None:
        """A REP of up to 70 elements, often over pages that are not there yet."""
        rng = self._random
        opcode = rng.choice((0xA4, 0xA5, 0xAA, 0xAB, 0xAC, 0xA6, 0xA7, 0xAE, 0xAF))
        prefix = rng.choice((0xF2, 0xF3)) if opcode in {0xA6, 0xA7, 0xAE, 0xAF} else 0xF3
        source, target = (rng.randrange(NR_DATA_PAGES * 0x1000 - 300) for _ in range(2))
        count = rng.choice((0, 1, 2, rng.randrange(70)))
        self._emit(b"\xbe" + struct.pack("<I", DATA + source) + b"\xbf" + struct.pack("<I", DATA + target))
        self._emit(b"\xb9" + struct.pack("<I", count) + bytes([prefix, opcode]))

    def _stack(self) -> None:
        rng = self._random
        self._emit(bytes([0x50 + rng.choice(_VALUES), 0x58 + rng.choice(_VALUES)]))

    def _flags(self) -> None:
        """Pushf; pop eax, and back again."""
        self._emit(self._random.choice((b"\x9c\x58", b"\x9c\x9d", b"\x9c\x58\x50\x9d")))

    def _load_ss(self) -> None:
        """Mov eax, ss; mov ss, eax; and one that the inhibited trap falls upon."""
        self._emit(b"\x8c\xd0\x8e\xd0" + self._random.choice((b"", b"\x9c\x5a", b"\x90", b"\x01\xd8")))

    def _system_call(self) -> None:
        self._emit(b"\xb8" + struct.pack("<I", CALL) + b"\xcd\x80")

    def _store_into_code(self) -> None:
        """Mov esi, CODE; mov byte [esi + disp32], imm8: of an immediate nearby, in this block or another."""
        if not self._self_modifying or not self._patchable:
            return
        rng = self._random
        near = self._patchable[-3:] if rng.random() < 0.5 else self._patchable
        at = rng.choice(near) + rng.randrange(4)
        self._emit(b"\xbe" + struct.pack("<I", CODE))
        if rng.random() < 0.3:  # the very next instruction: mov edx, imm32
            at = len(self._code) + 7 + 1 + rng.randrange(4)
            self._emit(b"\xc6\x86" + struct.pack("<IB", at, rng.getrandbits(8)) + b"\xba" + bytes(4))
            self._patchable.append(len(self._code) - 4)
            return
        self._emit(b"\xc6\x86" + struct.pack("<IB", at, rng.getrandbits(8)))

    def _call(self) -> None:
        """Call over a word; pop what it pushed."""
        self._emit(b"\xe8\x02\x00\x00\x00\x90\x90\x5a")

    _WORK: Final = (
        *(_arithmetic,) * 6,
        *(_immediate,) * 3,
        *(_memory,) * 4,
        _rep,
        _stack,
        _flags,
        _load_ss,
        _system_call,
        *(_store_into_code,) * 3,
        _call,
    )
