"""Names and lines of real executables, and of damaged ones."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest.builder import Target, build_all, programs, targets
from minikernel.abi.abi import I386, X86_64
from minikernel.abi.mman import MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import install_special_mapping
from minikernel.report.symbols import Symbols
from minikernel.task.vdso import Vdso
from tests.minikernel.mm.touch import BASE, Machine, Store, map_fixed

PAGE = 4096


def target(name: str, arch: str, variant: str = "") -> Target:
    """A guest program to build."""
    return next(
        found
        for found in targets(programs())
        if found.program.name == name and found.arch == arch and variant in {"", found.variant}
    )


HELLO = target("start/hello64", "x86-64")
WANTED = [
    HELLO,
    target("start/tour", "x86-64"),
    target("start/tour", "i386"),
    target("start/hello", "x86-64", "dynamic"),
]


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    build_all(WANTED)


def segments(path: Path) -> list[tuple[int, int, int, int, int]]:
    """Offset, address, size in the file, size in memory and rights of each PT_LOAD, as readelf has them."""
    text = subprocess.run(["readelf", "-lW", str(path)], capture_output=True, check=True, text=True).stdout
    found = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["LOAD"]:
            offset, vaddr, _, filesz, memsz = (int(word, 16) for word in words[1:6])
            rights = "".join(words[6:-1])
            prot = PROT_READ | PROT_WRITE * ("W" in rights) | PROT_EXEC * ("E" in rights)
            found.append((offset, vaddr, filesz, memsz, prot))
    return found


def load(path: Path, bias: int = 0) -> tuple[MmStruct, Symbols]:
    """Map *path* as the kernel's loader would."""
    machine = Machine()
    mm = machine.mm()
    file = machine.file(store=Store(path.read_bytes()))
    for offset, vaddr, filesz, memsz, prot in segments(path):
        start = bias + vaddr & -PAGE
        pages = -(-(vaddr % PAGE + filesz) // PAGE)
        map_fixed(mm, start, pages, prot, MAP_PRIVATE, file, offset // PAGE)
        rest = -(-(vaddr % PAGE + memsz) // PAGE) - pages
        if rest > 0:
            map_fixed(mm, start + pages * PAGE, rest)
    return mm, Symbols()


needs_binutils = pytest.mark.skipif(not shutil.which("readelf"), reason="binutils are not installed")


def line_rows(path: Path) -> dict[int, str]:
    """Address -> FILE:LINE of the last row for it.  (addr2line takes the unit's file where a row names none.)"""
    command = ["readelf", "-W", "--debug-dump=decodedline", str(path)]
    rows: dict[int, str] = {}
    for line in subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines():
        words = line.split()
        if len(words) >= 3 and words[2].startswith("0x"):
            rows[int(words[2], 16)] = f"{words[0]}:{words[1]}"
    return rows


@needs_binutils
@pytest.mark.parametrize(("wanted", "bias"), [(1, 0), (2, 0), (3, 0x5555_0000_0000)], ids=["64", "32", "pie"])
def test_lines_are_those_of_readelf(wanted: int, bias: int) -> None:
    path = WANTED[wanted].path
    mm, symbols = load(path, bias)
    rows = line_rows(path)
    assert len(rows) > 3
    for address, expected in rows.items():
        found = symbols.find(mm, bias + address)
        if expected.endswith(":-"):
            continue  # the end of a sequence
        assert found is not None
        assert found.vaddr == address
        assert str(found.line) == expected, hex(address)


@needs_binutils
def test_symbols_are_those_of_nm() -> None:
    path = WANTED[1].path
    mm, symbols = load(path)
    text = subprocess.run(["nm", "-S", str(path)], capture_output=True, check=True, text=True).stdout
    checked = 0
    names: dict[int, set[str]] = {}
    rows = [line.split() for line in text.splitlines()]
    sized = [row for row in rows if len(row) == 4 and row[2] in "TtDdRrBbWVi"]
    for row in sized:
        names.setdefault(int(row[0], 16), set()).add(row[3])
    for row in sized:
        found = symbols.find(mm, int(row[0], 16))
        if found is None:
            continue
        assert found.symbol is not None
        assert found.symbol.offset == 0
        assert found.symbol.name in names[int(row[0], 16)]
        checked += 1
    assert checked > 500


@needs_binutils
def test_variable_without_bytes_in_the_file_is_found() -> None:
    """.bss: anonymous memory right behind the file's mapping."""
    path = WANTED[1].path
    mm, symbols = load(path)
    text = subprocess.run(["nm", str(path)], capture_output=True, check=True, text=True).stdout
    rows = [line.split() for line in text.splitlines()]
    places = [
        symbols.find(mm, int(row[0], 16)) for row in rows if row[1] in "Bb" and row[2] != "_end" and row[0][-6] != "0"
    ]
    assert sum(place is not None and place.section == ".bss" for place in places) > 50
    assert all(place is not None and place.vma.mapping is not None for place in places)
    data = next(row for row in segments(path) if row[3] > row[2])
    assert symbols.find(mm, data[1] + data[3] + PAGE) is None


def test_looking_reads_no_page_into_the_cache() -> None:
    machine = Machine()
    mm = machine.mm()
    file = machine.file(store=Store(HELLO.path.read_bytes()))
    map_fixed(mm, BASE, 1, PROT_READ, MAP_PRIVATE, file)
    found = Symbols().find(mm, BASE)
    assert found is not None
    assert file.cache.nr_pages == 0


@pytest.mark.parametrize("abi", [X86_64, I386], ids=lambda abi: abi.name)
def test_vdso_knows_its_functions(abi: object) -> None:
    machine = Machine()
    mm = machine.mm()
    vdso = Vdso(X86_64 if abi is X86_64 else I386)
    frame = machine.node.alloc_page()
    assert frame is not None
    install_special_mapping(mm, BASE, [frame], PROT_READ | PROT_EXEC, "[vdso]")
    symbols = Symbols({vdso.abi: (vdso, frame)})
    name, offset = next(iter(vdso.symbols.items()))
    found = symbols.find(mm, BASE + offset + 1)
    assert found is not None
    assert str(found.symbol) == f"{name}+0x1"
    start = symbols.find(mm, BASE)
    assert start is not None
    assert start.symbol is None


def test_what_is_no_executable_says_nothing() -> None:
    machine = Machine()
    mm = machine.mm()
    for data in (b"", b"#!/bin/sh\n" * 20, b"\x7fELF", b"\x7fELF" + bytes(60)):
        map_fixed(mm, BASE, 1, PROT_READ, MAP_PRIVATE, machine.file(store=Store(data)))
        assert Symbols().find(mm, BASE + 5) is None
    assert Symbols().find(mm, BASE + 64 * PAGE) is None
    map_fixed(mm, BASE, 2)
    assert Symbols().find(mm, BASE) is None


def test_broken_disk_says_nothing() -> None:
    machine = Machine()
    mm = machine.mm()
    store = Store(HELLO.path.read_bytes())
    store.fail = True
    map_fixed(mm, BASE, 1, PROT_READ, MAP_PRIVATE, machine.file(store=store))
    assert Symbols().find(mm, BASE + 5) is None


@settings(max_examples=150)
@given(st.data())
def test_damaged_executables_are_never_an_error(data: st.DataObject) -> None:
    """The headers, the section table and the rest, with some bytes changed and the end cut off."""
    good = bytearray(HELLO.path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        near_header = data.draw(st.booleans())
        at = data.draw(st.integers(0, 400 if near_header else len(good) - 1))
        good[at] = data.draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))
    cut = bytes(good[: data.draw(st.just(len(good)) | st.integers(0, len(good)))])
    machine = Machine(ram=4 << 20)
    mm = machine.mm()
    file = machine.file(store=Store(cut))
    map_fixed(mm, BASE, 4, PROT_READ | PROT_EXEC, MAP_PRIVATE, file)
    symbols = Symbols()
    for address in (BASE, BASE + 0x1000, BASE + 0x1010, BASE + 3 * PAGE):
        found = symbols.find(mm, address)
        if found is not None:
            assert found.line is None or found.line.line
