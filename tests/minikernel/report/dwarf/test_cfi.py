"""Call-frame information of real files, compared with what readelf makes of it; of damaged ones; of the vDSO."""

import io
import re
import subprocess
from pathlib import Path

import pytest
from elftools.dwarf.callframe import FDE, CallFrameInfo
from elftools.dwarf.structs import DWARFStructs
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from guest.toolchain import ARCHES
from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.report.dwarf.cfi import Blob, CallFrames
from minikernel.report.dwarf.cursor import DamagedError
from minikernel.task.vdso import Vdso
from tests.minikernel.kdb.conftest import build

REGISTERS = {
    8: dict(zip(("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp"), range(8), strict=True)),
    4: dict(zip(("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"), range(8), strict=True)),
}


def section(elf: ELFFile, name: str) -> Blob:
    found = elf.get_section_by_name(name)
    return Blob(found["sh_addr"], found.data()) if found is not None else Blob(0, b"")


def frames_of(path: Path, *, header: bool) -> CallFrames:
    with path.open("rb") as file:
        elf = ELFFile(file)
        index = section(elf, ".eh_frame_hdr") if header else Blob(0, b"")
        return CallFrames(elf.elfclass // 8, section(elf, ".eh_frame"), index, b"")


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("header", [True, False], ids=["by header", "by scan"])
def test_every_row_is_as_readelf_says(arch: str, header: bool) -> None:
    path = build(arch, "calls", level="-O2", kind="static")
    frames = frames_of(path, header=header)
    registers = REGISTERS[8 if arch == "x86-64" else 4]
    text = subprocess.run(["readelf", "-wF", str(path)], capture_output=True, check=True, text=True).stdout
    start, rows = 0, 0
    for line in text.splitlines():
        if "FDE" in line:
            start = int(line.partition("pc=")[2].partition("..")[0], 16)
            continue
        if "CIE" in line:
            start = 0
        match = re.match(r"([0-9a-f]{8,16}) (?:(\w+)\+(\d+)|(exp)) ", line)
        if match is None or not start:
            continue
        vaddr = int(match[1], 16)
        fde = frames.find(start)
        assert fde is not None, line
        row = fde.row(vaddr)
        assert row.start == vaddr
        if match[4]:
            assert row.cfa_expression
        elif match[2] in registers:
            assert (row.cfa_register, row.cfa_offset) == (registers[match[2]], int(match[3]))
        rows += 1
    assert rows > 5000


@pytest.mark.parametrize("abi", [X86_64, I386], ids=["x86-64", "i386"])
def test_the_vdso_describes_each_of_its_functions(abi: Abi) -> None:
    vdso = Vdso(abi)
    data = section(ELFFile(io.BytesIO(vdso.image)), ".eh_frame").data
    structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=abi.word)
    info = CallFrameInfo(io.BytesIO(data), len(data), vdso.eh_frame, structs, for_eh_frame=True)
    fdes = {fde.header["initial_location"]: fde for fde in info.get_entries() if isinstance(fde, FDE)}
    signals = {"__kernel_sigreturn", "__kernel_rt_sigreturn"}
    starts = {offset - (name in signals) for name, offset in vdso.symbols.items()}
    assert set(fdes) == starts
    header = Blob(vdso.eh_frame_hdr, vdso.image[vdso.eh_frame_hdr : vdso.eh_frame])
    frames = CallFrames(abi.word, Blob(vdso.eh_frame, data), header, b"")
    for name, offset in vdso.symbols.items():
        ours = frames.find(offset)
        assert ours is not None
        assert ours.cie.signal is (name in signals)
        theirs = fdes[ours.start].get_decoded().table
        assert [row["pc"] for row in theirs] == [ours.row(row["pc"]).start for row in theirs]


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.data())
def test_damaged_information_is_refused_or_read_but_never_hurts(data: st.DataObject) -> None:
    vdso = Vdso(I386)
    eh_frame = bytearray(vdso.image[vdso.eh_frame :])
    header = bytearray(vdso.image[vdso.eh_frame_hdr : vdso.eh_frame])
    for damaged in (eh_frame, header):
        for _ in range(data.draw(st.integers(0, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(eh_frame)))
    frames = CallFrames(4, Blob(vdso.eh_frame, bytes(eh_frame[:cut])), Blob(vdso.eh_frame_hdr, bytes(header)), b"")
    for offset in vdso.symbols.values():
        found = frames.find(offset)
        try:
            if found is not None:
                found.row(offset + 3)
        except DamagedError:
            continue
