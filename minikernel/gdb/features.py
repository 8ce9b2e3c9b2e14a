"""The target description: which registers there are, for gdb.  Source: the gdb manual, "Target Description Format"."""

from typing import TYPE_CHECKING, Final

from minikernel.abi.abi import X86_64
from minikernel.gdb.registers import Register, layout

if TYPE_CHECKING:
    from minikernel.abi.abi import Abi

_EFLAGS: Final = (
    *(("CF", 0), ("", 1), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10), ("OF", 11)),
    *(("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21)),
)
_MXCSR: Final = (
    *(("IE", 0), ("DE", 1), ("ZE", 2), ("OE", 3), ("UE", 4), ("PE", 5), ("DAZ", 6)),
    *(("IM", 7), ("DM", 8), ("ZM", 9), ("OM", 10), ("UM", 11), ("PM", 12), ("FZ", 15)),
)
_VECTORS: Final = (
    *(("v4f", "ieee_single", 4, "v4_float"), ("v2d", "ieee_double", 2, "v2_double")),
    *(("v16i8", "int8", 16, "v16_int8"), ("v8i16", "int16", 8, "v8_int16")),
    *(("v4i32", "int32", 4, "v4_int32"), ("v2i64", "int64", 2, "v2_int64")),
)
_FEATURES: Final = ("core", "sse", "linux", "segments")


def target_xml(abi: "Abi") -> bytes:
    """The document ``target.xml`` of a process of *abi*."""
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', "<target>"]
    lines += [f"<architecture>{'i386:x86-64' if abi is X86_64 else 'i386'}</architecture>", "<osabi>GNU/Linux</osabi>"]
    registers = layout(abi)
    for feature in _FEATURES:
        members = [register for register in registers if register.feature == feature]
        if members:
            lines += [f'<feature name="org.gnu.gdb.i386.{feature}">', *_types(feature)]
            lines += [*(_reg(register) for register in members), "</feature>"]
    lines.append("</target>")
    return "\n".join(lines).encode()


def _types(feature: str) -> list[str]:
    if feature == "core":
        return _flags("i386_eflags", _EFLAGS)
    if feature != "sse":
        return []
    lines = [f'<vector id="{name}" type="{kind}" count="{count}"/>' for name, kind, count, _ in _VECTORS]
    lines.append('<union id="vec128">')
    lines += [f'<field name="{field}" type="{name}"/>' for name, _, _, field in _VECTORS]
    lines += ['<field name="uint128" type="uint128"/>', "</union>"]
    return lines + _flags("i386_mxcsr", _MXCSR)


def _flags(name: str, bits: tuple[tuple[str, int], ...]) -> list[str]:
    fields = [f'<field name="{field}" start="{bit}" end="{bit}"/>' for field, bit in bits]
    return [f'<flags id="{name}" size="4">', *fields, "</flags>"]


def _reg(register: Register) -> str:
    group = ' group="float"' if register.bank == "x87" else ""
    sizes = f'bitsize="{register.bits}" type="{register.kind}" regnum="{register.number}"'
    return f'<reg name="{register.name}" {sizes}{group}/>'
