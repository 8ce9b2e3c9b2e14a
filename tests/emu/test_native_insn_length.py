"""insn_length: against capstone on the code of this machine's libraries and on random bytes, and against the engine.

The count of a block left in its middle rests on it, so where an encoding is not valid the engine's view counts.
"""

import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

import capstone
import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from emu import native
from emu.cpu import RIP
from emu.exits import BudgetSpent, CpuException
from emu.paging import FOUR_LEVEL, PAE, PagingMode
from emu.x86 import PhysAddr
from tests.emu.rig import RW, RWX, Rig

LIBRARIES: Final = [
    path
    for name in (
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/x86_64-linux-gnu/libm.so.6",
        "/lib/x86_64-linux-gnu/libcrypto.so.3",
        "/lib/i386-linux-gnu/libc.so.6",
        "/lib32/libc.so.6",
        "/lib32/ld-linux.so.2",
        "/bin/busybox",
    )
    if (path := Path(name)).exists()
]
MODES: Final = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
LEGACY_PREFIXES: Final = frozenset(b"\x66\x67\xf0\xf2\xf3\x2e\x36\x3e\x26\x64\x65")
STRINGS: Final = frozenset(b"\xa4\xa5\xa6\xa7\xaa\xab\xac\xad\xae\xaf")
_library: Final = native.load()


def length(code: bytes, bits: int) -> int:
    """insn_length of *code*."""
    return int(_library.insn_length(code, len(code), bits))


def opcode_offset(code: bytes, bits: int) -> int:
    """Where the prefixes end."""
    at = 0
    while at < len(code) - 1 and (code[at] in LEGACY_PREFIXES or (bits == 64 and code[at] & 0xF0 == 0x40)):
        at += 1
    return at


def decoder(bits: int) -> Any:
    """Capstone."""
    factory: Any = capstone.Cs
    return factory(capstone.CS_ARCH_X86, MODES[bits])


DECODERS: Final = {bits: decoder(bits) for bits in MODES}


def beyond_the_engine(code: bytes, bits: int) -> bool:
    """Encodings that capstone decodes and that raise #UD in the engine whatever their length, or are no such thing."""
    at = opcode_offset(code, bits)
    op, next_ = code[at], code[at + 1 : at + 2] or b"\0"
    if op == 0x62 and (bits == 64 or next_[0] >= 0xC0):
        return True  # EVEX: AVX-512 (otherwise BOUND)
    if op == 0x8F and next_[0] & 0x1F >= 8:
        return True  # XOP (otherwise POP)
    # In 64-bit code the engine is an AMD: 66 in front of a near branch cuts the distance to 16 bits.
    amd = bits == 64 and 0x66 in code[:at]
    if op != 0x0F:
        return amd and op in b"\xe8\xe9"
    if next_[0] in {0xB9, 0xFF}:
        return True  # UD1, UD0: with ModRM or without, as one likes
    if next_[0] == 0x78:
        return True  # EXTRQ and INSERTQ, which capstone calls VMREAD behind some prefixes
    return amd and next_[0] & 0xF0 == 0x80


@pytest.mark.parametrize(
    "path", LIBRARIES, ids=lambda path: path.name if path.parent.name != "lib32" else f"{path.name}-32"
)
def test_all_code_of_a_library_has_the_length_that_capstone_says(path: Path) -> None:
    with path.open("rb") as file:
        elf = ELFFile(file)
        bits = elf.elfclass
        text = elf.get_section_by_name(".text")
        assert text is not None
        code: bytes = text.data()
    at, number, wrong = 0, 0, Counter[str]()
    while at < len(code):
        end = at
        for address, size, mnemonic, _ in DECODERS[bits].disasm_lite(code[at:], at):
            end = address + size
            number += 1
            raw = code[address:end]
            if _library.insn_length(raw, size, bits) != size and not beyond_the_engine(raw, bits):
                wrong[f"{mnemonic} {raw.hex()}"] += 1
        at = max(end, at + 1)

    assert number > 10_000
    assert not wrong, wrong.most_common(5)


def random_code(rng: random.Random) -> bytes:
    """Sixteen bytes, the opcode maps hit about equally."""
    code = bytearray(rng.randbytes(16))
    kind = rng.randrange(8)
    if kind == 0:
        code[0] = 0x0F
    elif kind == 1:
        code[0] = rng.choice(b"\x66\xf2\xf3\x48\x4c\x41\x67")
    elif kind == 2:
        code[:2] = bytes([rng.choice(b"\x66\xf2\xf3"), 0x0F])
    elif kind == 3:
        code[:2] = bytes([0x0F, rng.choice(b"\x38\x3a")])
    elif kind == 4:
        code[:3] = bytes([0x66, 0x0F, rng.choice(b"\x38\x3a")])
    return bytes(code)


def check_against_capstone(code: bytes, bits: int) -> None:
    decoded = next(DECODERS[bits].disasm_lite(code, 0, 1), None)
    if decoded is not None and not beyond_the_engine(code, bits):
        assert length(code, bits) == decoded[1], f"{code.hex()}: {decoded[2]} {decoded[3]}"


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_random_bytes_have_the_length_that_capstone_says(bits: int) -> None:
    rng = random.Random(bits)
    for _ in range(40_000):
        check_against_capstone(random_code(rng), bits)


@given(st.binary(min_size=1, max_size=15), st.sampled_from([16, 32, 64]))
def test_any_bytes_have_the_length_that_capstone_says(code: bytes, bits: int) -> None:
    check_against_capstone(code, bits)


@given(st.binary(max_size=20), st.sampled_from([16, 32, 64]))
def test_an_instruction_that_is_cut_off_has_no_length(code: bytes, bits: int) -> None:
    """And one that is not has the same length whatever follows."""
    got = length(code, bits)

    assert 0 <= got <= len(code)
    for size in range(got):
        assert length(code[:size], bits) == 0
    if got:
        assert length(code + b"\x90" * 8, bits) == got


def is_branch(code: bytes, bits: int) -> bool:
    """Execution need not go on behind it."""
    at = opcode_offset(code, bits)
    op, next_ = code[at], code[at + 1]
    if op in b"\xc4\xc5":
        return True  # the engine knows conditional jumps with a VEX prefix
    if op & 0xF0 == 0x70 or 0xE0 <= op <= 0xE3 or op in b"\xe8\xe9\xeb\xea\x9a\xc2\xc3\xca\xcb\xcf":
        return True
    return (op == 0x0F and next_ & 0xF0 == 0x80) or (op == 0xFF and next_ >> 3 & 7 in {2, 3, 4, 5}) or op in STRINGS


@pytest.mark.parametrize(("mode", "bits"), [(FOUR_LEVEL, 64), (FOUR_LEVEL, 32), (PAE, 32)])
def test_what_the_engine_executes_has_the_length_by_which_it_goes_on(mode: PagingMode, bits: int) -> None:
    """Random bytes, one step each; most of them run, as all registers point to memory."""
    code_page, data = 0x40_0000, 0x60_0000
    it = Rig(mode, bits)
    frame = it.code(code_page, b"\x90" * 64, flags=RWX)
    for page in range(16):
        it.map(data + page * 4096, None, RW)
    context = it.cpu.save()
    rng = random.Random(bits)
    executed = 0
    for _ in range(6000):
        code = random_code(rng)
        it.ram.write(PhysAddr(frame + 32), code)
        it.changed(frame)
        it.cpu.restore(context)
        it.cpu.set_root(it.root)
        for index in range(16):
            it.cpu.regs[index] = data + 0x4000 + index * 0x100
        it.cpu.regs[RIP] = code_page + 32
        match it.cpu.step():
            case BudgetSpent() | CpuException(software=True):
                if not is_branch(code, bits):
                    executed += 1
                    assert length(code, bits) == it.cpu.regs[RIP] - (code_page + 32), code.hex()
    it.close()
    assert executed > 2000
