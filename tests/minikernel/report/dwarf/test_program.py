"""Descriptions of a real program in both versions of the format, and of damaged ones."""

import functools
import random
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from guest.toolchain import ARCHES, compiler_for
from minikernel.report.dwarf.ctypes import Base, CType, Struct, declare, expand, name_of, size_of, strip
from minikernel.report.dwarf.cvalues import Memory, float_of, format_float, format_value
from minikernel.report.dwarf.program import Program
from tests.minikernel.kdb.conftest import HERE

_NOTHING = Memory(lambda _address, _size: b"", lambda _address: "")


@functools.cache
def linked(arch: str, version: int, level: str) -> dict[str, bytes]:
    """The debugging sections of data.c."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "data"
        flags = (f"-gdwarf-{version}", level, "-static", "-no-pie")
        command = [*compiler_for(arch).command, *flags, "-o", str(out), str(HERE / "data.c")]
        subprocess.run(command, check=True, capture_output=True)
        with out.open("rb") as file:
            sections = [each for each in ELFFile(file).iter_sections() if each.name.startswith(".debug")]
            return {section.name: section.data() for section in sections}


def program_of(found: dict[str, bytes], arch: str) -> Program:
    return Program(lambda name: found.get(name, b""), 8 if arch == "x86-64" else 4)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("version", [4, 5])
def test_both_versions_say_the_same(arch: str, version: int) -> None:
    program = program_of(linked(arch, version, "-O0"), arch)
    node = program.type_named("struct node")
    assert isinstance(node, Struct)
    assert [field.name for field in node.fields] == ["value", "next", "name"]
    assert size_of(node) == (24 if arch == "x86-64" else 16)
    assert program.type_named("size_t") is not None
    assert name_of(program.types.of(program.index.variables["operations"][0].type)) == "int (* const[2])(int, int)"
    look = program.function("look")
    assert look is not None
    assert declare(program.types.function(look), "look") == ("int look(struct all *, int, char, double, struct point)")
    assert [scope.name for scope in program.scopes((look.entry_pc or 0) + 40)] == ["look"]
    assert program.scopes(0) == []
    assert program.enumerator("BLUE") is not None
    assert {"matrix", "here", "count"} <= program.local_names
    [unit] = [unit for unit in program.debug.units if unit.root.name.endswith("data.c")]
    assert unit.version == version


def walk(program: Program) -> int:
    """Look at everything that there is."""
    looked = 0
    index = program.index
    for names in (index.types, index.variables, index.functions):
        for name in names:
            kind = program.type_named(name)
            if kind is not None:
                expand(kind)
                format_value(bytes(min(size_of(kind), 4096)), kind, _NOTHING)
            looked += 1
    program.directories()
    for vaddr in range(0x401000, 0x402000, 64):
        looked += len(program.scopes(vaddr))
    return looked + len(program.local_names)


@pytest.mark.slow
@pytest.mark.parametrize("version", [4, 5])
def test_damaged_descriptions_are_as_if_they_were_not_there(version: int) -> None:
    good = linked("x86-64", version, "-O2")
    assert walk(program_of(good, "x86-64")) > 50
    chance = random.Random(version)
    for _ in range(40):
        bad = {name: bytearray(data) for name, data in good.items()}
        for name in (".debug_info", ".debug_abbrev", chance.choice(sorted(bad))):
            for _ in range(chance.randrange(4)):
                bad[name][chance.randrange(len(bad[name]))] = chance.randrange(256)
        if chance.randrange(4) == 0:
            del bad[".debug_info"][chance.randrange(len(bad[".debug_info"])) :]
        walk(program_of({name: bytes(data) for name, data in bad.items()}, "x86-64"))


@given(st.floats(allow_nan=False))
def test_doubles_are_written_as_c_writes_them(value: float) -> None:
    data = struct.pack("<d", value)
    assert format_float(data) == f"{value:.17g}"
    assert float_of(data) == value


@given(st.floats(width=32, allow_nan=False))
def test_floats_too(value: float) -> None:
    assert format_float(struct.pack("<f", value)) == f"{value:.9g}"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bytes(7) + b"\x80\xff\x3f", "1"),
        (bytes(7) + b"\xc0\x00\xc0", "-3"),
        (bytes(10), "0"),
        (bytes(7) + b"\x80\xff\x7f", "inf"),
        (b"\xab\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xfd\x3f", "0.333333333333333333342"),
        (b"\x01" + bytes(9), "3.64519953188247460253e-4951"),
    ],
)
def test_long_doubles(data: bytes, text: str) -> None:
    assert format_float(data) == text


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.sampled_from([1, 2, 4, 8]), st.booleans())
def test_integers_wrap_as_their_type_does(number: int, size: int, signed: bool) -> None:
    kind: CType = Base("it", size, "int", signed)
    data = (number & (1 << 8 * size) - 1).to_bytes(size, "little")
    shown = int(format_value(data, kind, _NOTHING))
    assert (shown - number) % (1 << 8 * size) == 0
    assert shown in range(-(1 << 8 * size - 1), 1 << 8 * size - 1) if signed else shown in range(1 << 8 * size)
    assert strip(kind) is kind
