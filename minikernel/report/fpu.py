"""The x87 and SSE state out of an FXSAVE image: values, control and status words in words.

Sources: SDM vol. 1, 8.1 (x87), 10.2.3 (MXCSR) and 10.5.1 (FXSAVE's layout).
"""

import struct
from dataclasses import dataclass
from typing import Final

from minikernel.report.formats import floating

_EXCEPTIONS: Final = ("I", "D", "Z", "O", "U", "P")
_MXCSR: Final = (
    *((1 << bit, f"{name}E") for bit, name in enumerate(_EXCEPTIONS)),
    (1 << 6, "DAZ"),
    *((1 << 7 + bit, f"{name}M") for bit, name in enumerate(_EXCEPTIONS)),
    (1 << 15, "FZ"),
)
_ROUNDING: Final = ("to nearest", "down", "up", "toward zero")
_PRECISION: Final = ("24 bits", "reserved", "53 bits", "64 bits")
_TAGS: Final = ("Valid", "Zero", "Special", "Empty")
_BIAS: Final = 16383
_VIEWS: Final = (("v4_float", "f", 4), ("v2_double", "d", 8), ("v16_int8", "x", 1), ("v8_int16", "x", 2),
                 ("v4_int32", "x", 4), ("v2_int64", "x", 8))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fpu:
    """FXSAVE's fields, decoded."""

    fctrl: int
    fstat: int
    ftag: int  # the full tag word: two bits a register
    fop: int
    fip: int
    fdp: int
    mxcsr: int
    physical: tuple[bytes, ...]  # R0-R7, ten bytes each
    xmm: tuple[bytes, ...]

    @property
    def top(self) -> int:
        """Which of R0-R7 is st(0)."""
        return self.fstat >> 11 & 7

    def st(self, number: int) -> bytes:
        """Ten bytes: the register that is *number* below the top."""
        return self.physical[(self.top + number) & 7]


def decode_fxsave(image: bytes, *, wide: bool) -> Fpu:
    """The state in *image*; *wide*: 64-bit code, with 16 registers and long pointers."""
    fctrl, fstat, short_tag, fop, fip, fdp, mxcsr = struct.unpack_from("<HHBxHQQI", image)
    top = fstat >> 11 & 7
    stack = [image[32 + 16 * n : 42 + 16 * n] for n in range(8)]
    physical = tuple(stack[(n - top) & 7] for n in range(8))
    tags = [_tag(physical[n]) if short_tag >> n & 1 else 3 for n in range(8)]
    xmm = tuple(image[160 + 16 * n : 176 + 16 * n] for n in range(16 if wide else 8))
    mask = (1 << 64 if wide else 1 << 32) - 1
    return Fpu(
        fctrl, fstat, sum(tag << 2 * n for n, tag in enumerate(tags)), fop, fip & mask, fdp & mask, mxcsr, physical, xmm
    )


def _tag(raw: bytes) -> int:
    """0 valid, 1 zero, 2 special (infinity, NaN, denormal): what FXSAVE leaves out."""
    mantissa, exponent = struct.unpack("<QH", raw)
    exponent &= 0x7FFF
    if not exponent and not mantissa:
        return 1
    return 0 if exponent not in {0, 0x7FFF} and mantissa >> 63 else 2


def extended_value(raw: bytes) -> str:
    """A ten-byte number in decimal, with 18 digits, as gdb shows a long double."""
    mantissa, word = struct.unpack("<QH", raw)
    sign = "-" if word >> 15 else ""
    exponent = word & 0x7FFF
    if exponent == 0x7FFF:
        fraction = mantissa & (1 << 63) - 1
        return f"{sign}inf" if not fraction else f"{sign}nan({mantissa:#x})"
    if not mantissa:
        return f"{sign}0"
    from decimal import Context, Decimal

    context = Context(prec=60, Emax=10_000, Emin=-10_000)
    power = max(exponent, 1) - _BIAS - 63
    value = context.multiply(Decimal(mantissa), context.power(Decimal(2), power))
    rounded = Context(prec=18, Emax=10_000, Emin=-10_000).plus(value).normalize()
    plain = -6 < rounded.adjusted() < 18
    text = f"{rounded:f}" if plain else f"{rounded:e}"
    return sign + text


def vector_words(raw: bytes) -> str:
    """Sixteen bytes as gdb's union: floats, doubles, and integers of every size."""
    parts = []
    for name, kind, size in _VIEWS:
        pieces = [raw[at : at + size] for at in range(0, 16, size)]
        shown = [_hex(piece) if kind == "x" else floating(piece) for piece in pieces]
        parts.append(f"{name} = {{{', '.join(shown)}}}")
    parts.append(f"uint128 = {_hex(raw)}")
    return "{" + ", ".join(parts) + "}"


def _hex(raw: bytes) -> str:
    return hex(int.from_bytes(raw, "little"))


def mxcsr_words(value: int) -> str:
    """The bits that are set: E an exception that has happened, M one that is masked."""
    words = [name for bit, name in _MXCSR if value & bit]
    return " ".join([*words, f"round {_ROUNDING[value >> 13 & 3]}"])


def fctrl_words(value: int) -> str:
    """The masked exceptions, precision and rounding of the x87 control word."""
    words = [f"{name}M" for bit, name in enumerate(_EXCEPTIONS) if value >> bit & 1]
    return " ".join([*words, f"precision {_PRECISION[value >> 8 & 3]},", f"round {_ROUNDING[value >> 10 & 3]}"])


def fstat_words(value: int) -> str:
    """The exceptions that have happened, the condition codes, and the top of the stack."""
    words = [f"{name}E" for bit, name in enumerate(_EXCEPTIONS) if value >> bit & 1]
    words += [name for bit, name in ((6, "SF"), (7, "ES"), (8, "C0"), (9, "C1"), (10, "C2"), (14, "C3"), (15, "B"))
              if value >> bit & 1]  # fmt: skip
    return " ".join([*words, f"top {value >> 11 & 7}"])


def tag_word(tags: int, number: int) -> str:
    """What the tag word says of physical register *number*."""
    return _TAGS[tags >> 2 * number & 3]
