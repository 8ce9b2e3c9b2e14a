"""The vDSO is an ELF object like any other: tools read it, its symbols are found, its code says what it should."""

import io
import struct

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from emu.disasm import disassemble
from emu.x86 import PAGE_SIZE, VirtAddr
from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.task.vdso import SYSENTER_RETURN, Vdso

ABIS = pytest.mark.parametrize("abi", [X86_64, I386], ids=["x86-64", "i386"])

I386_CALLS = NUMBERS["i386"]


def dynamic(abi: Abi) -> DynamicSegment:
    elf = ELFFile(io.BytesIO(Vdso(abi).image))
    return next(segment for segment in elf.iter_segments() if isinstance(segment, DynamicSegment))


def code(abi: Abi, name: str) -> list[str]:
    """The instructions of *name*, up to its padding."""
    vdso = Vdso(abi)
    symbol = next(symbol for symbol in dynamic(abi).iter_symbols() if symbol.name == name)
    at, size = symbol["st_value"], symbol["st_size"]
    return [insn.text for insn in disassemble(vdso.image[at : at + size], VirtAddr(at), bits=abi.word * 8)]


@ABIS
def test_the_image_is_a_position_independent_object_of_one_page(abi: Abi) -> None:
    vdso = Vdso(abi)
    elf = ELFFile(io.BytesIO(vdso.image))

    assert len(vdso.image) <= PAGE_SIZE
    assert (elf.elfclass, elf.header["e_type"]) == (abi.word * 8, "ET_DYN")
    assert elf.header["e_machine"] == ("EM_X86_64" if abi is X86_64 else "EM_386")
    load = elf.get_segment(0)
    assert (load["p_type"], load["p_vaddr"], load["p_filesz"]) == ("PT_LOAD", 0, len(vdso.image))


@ABIS
def test_it_carries_linuxs_name(abi: Abi) -> None:
    names = [getattr(tag, "soname", None) for tag in dynamic(abi).iter_tags("DT_SONAME")]

    assert names == ["linux-vdso.so.1" if abi is X86_64 else "linux-gate.so.1"]


@ABIS
def test_every_symbol_is_found_through_the_hash_table(abi: Abi) -> None:
    """As a dynamic linker does it: bucket, then the chain."""
    vdso, segment = Vdso(abi), dynamic(abi)
    table = next(segment.iter_tags("DT_HASH"))["d_ptr"]
    symbols = list(segment.iter_symbols())
    nr_buckets, nr_chain = struct.unpack_from("<II", vdso.image, table)
    buckets = struct.unpack_from(f"<{nr_buckets}I", vdso.image, table + 8)
    chain = struct.unpack_from(f"<{nr_chain}I", vdso.image, table + 8 + 4 * nr_buckets)
    assert nr_chain == len(vdso.symbols) + 1
    for name, offset in vdso.symbols.items():
        index = buckets[0]
        while index and symbols[index].name != name:
            index = chain[index]
        assert index, name
        assert symbols[index]["st_value"] == offset
        assert symbols[index]["st_info"] == {"bind": "STB_GLOBAL", "type": "STT_FUNC"}
        assert symbols[index]["st_shndx"] != "SHN_UNDEF"


@pytest.mark.parametrize("name", ["clock_gettime", "gettimeofday", "time", "getcpu", "clock_getres"])
def test_the_functions_of_x86_64_are_system_calls(name: str) -> None:
    number = NUMBERS["x86-64"][name]
    for symbol in (f"__vdso_{name}", name):
        assert code(X86_64, symbol) == [f"mov eax, {number:#x}", "syscall", "ret"]


def test_the_system_call_entry_of_i386_lands_behind_its_int_0x80() -> None:
    """SYSENTER comes back to the landing; a restarted call goes back two bytes, to the INT 0x80."""
    saves, restores = ["push ecx", "push edx", "push ebp"], ["pop ebp", "pop edx", "pop ecx"]
    assert code(I386, "__kernel_vsyscall") == [*saves, "mov ebp, esp", "sysenter", "int 0x80", *restores, "ret"]
    vdso = Vdso(I386)
    landing = vdso.symbols["__kernel_vsyscall"] + SYSENTER_RETURN
    assert vdso.image[landing - 2 : landing] == b"\xcd\x80"
    assert vdso.image[landing] == 0x5D


def test_the_trampolines_of_i386_return_from_signals() -> None:
    assert code(I386, "__kernel_sigreturn") == [
        "pop eax",
        f"mov eax, {I386_CALLS['sigreturn']:#x}",
        "int 0x80",
    ]
    number = I386_CALLS["rt_sigreturn"]
    assert code(I386, "__kernel_rt_sigreturn") == [f"mov eax, {number:#x}", "int 0x80"]


def test_the_clock_functions_of_i386_take_their_arguments_from_the_stack() -> None:
    assert code(I386, "__vdso_clock_gettime64") == [
        "push ebx",
        "mov ebx, dword ptr [esp + 8]",
        "mov ecx, dword ptr [esp + 0xc]",
        f"mov eax, {I386_CALLS['clock_gettime64']:#x}",
        "int 0x80",
        "pop ebx",
        "ret",
    ]
