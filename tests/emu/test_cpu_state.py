"""The CPU's state: contexts, segments, floating point, CPUID, dropping of translations, and refusals to start."""

import importlib.machinery
import struct
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unicorn import x86_const as reg

from emu import cpu as cpu_module
from emu import cpuid, native
from emu.cpu import R8, R15, RAX, RBX, RCX, RDI, RDX, RIP, RSP, Cpu, MachineError
from emu.exits import CpuException, PageFault, Syscall
from emu.native import NativeMissingError
from emu.paging import FOUR_LEVEL, PAE, TWO_LEVEL
from emu.physmem import PhysMem
from emu.x86 import FLAG_CF, PAGE_SIZE, VEC_GP, PhysAddr
from tests.emu.rig import FRESH_FPU, MACHINE_IDS, MACHINES, RW, RWX, RX, USER32_CS, USER64_CS, USER_DS, Rig, rig

CODE: Final = 0x0040_0000
DATA: Final = 0x0060_0000
INT80: Final = b"\xcd\x80"
all_machines = pytest.mark.parametrize(("mode", "bits"), MACHINES, ids=MACHINE_IDS)


# -- contexts


@all_machines
def test_a_saved_state_comes_back_whole(mode: Any, bits: int) -> None:
    with rig(mode, bits) as it:
        cpu = it.cpu
        nr_registers = 16 if bits == 64 else 8
        for index in range(nr_registers):
            cpu.regs[index] = 0x1000 + index
        cpu.regs[RIP] = CODE
        cpu.rflags |= FLAG_CF
        image = FRESH_FPU[:160] + bytes(range(128)) + FRESH_FPU[288:]
        cpu.fxrstor(image)
        context = cpu.save()

        it.begin(bits)
        cpu.fxrstor(FRESH_FPU)
        cpu.restore(context)
        cpu.set_root(it.root)

        assert [cpu.regs[index] for index in range(nr_registers)] == [0x1000 + index for index in range(nr_registers)]
        assert (cpu.regs[RIP], cpu.rflags & FLAG_CF) == (CODE, FLAG_CF)
        assert cpu.fxsave() == image
        assert cpu.save() == context


@all_machines
def test_tasks_with_other_code_at_the_same_addresses_take_turns(mode: Any, bits: int) -> None:
    """Each counts in its own memory, with its own step, for a slice of any length."""
    with rig(mode, bits) as it:
        cpu = it.cpu
        tasks = []
        for number in range(1, 5):
            root = it.new_root()
            # add dword [edi], number; jmp back
            it.code(
                CODE,
                b"\x83\x07" + bytes([number]) + b"\x90" * number + b"\xeb" + bytes([0x100 - 5 - number]),
                root=root,
            )
            frame = it.map(DATA, None, RW, root=root)
            it.begin(bits, root)
            cpu.regs[RIP], cpu.regs[RDI] = CODE, DATA
            tasks.append((root, frame, number, cpu.save()))
        retired = {number: 0 for *_, number, _ in tasks}
        for turn in range(1, 40):
            root, frame, number, context = tasks.pop(0)
            cpu.restore(context)
            cpu.set_root(root)
            before = cpu.icount
            cpu.run(turn * 7)
            retired[number] += cpu.icount - before
            tasks.append((root, frame, number, cpu.save()))

        for _, frame, number, _ in tasks:
            turns = retired[number] // (number + 2)
            assert struct.unpack("<I", it.ram.read(frame, 4))[0] == turns * number


def test_32_and_64_bit_tasks_share_one_cpu() -> None:
    """48 FF C0 is `inc rax`, or `dec eax; inc eax`."""
    with rig() as it:
        cpu = it.cpu
        it.code(CODE, b"\x48\xff\xc0" + INT80)
        for bits, expected, selector in ((64, 6, USER64_CS), (32, 5, USER32_CS), (64, 6, USER64_CS)):
            it.begin(bits)
            cpu.regs[RAX] = 5
            assert isinstance(it.run(CODE), Syscall)
            assert cpu.regs[RAX] == expected
            assert (cpu.code_bits, cpu.segment("cs"), cpu.segment("ss")) == (bits, selector, USER_DS)


def test_a_restored_state_alone_keeps_the_old_tlb() -> None:
    """So whoever restores sets the root."""
    with rig() as it:
        it.code(CODE, b"\x8a\x07" + INT80)
        other = it.new_root()
        it.code(CODE, b"\x8a\x07" + INT80, root=other)
        it.map(DATA, None, RW)
        it.cpu.regs[RDI] = DATA
        it.run(CODE)
        context = it.cpu.save()

        it.cpu.restore(context)
        it.cpu.set_root(other)

        assert isinstance(it.run(CODE), PageFault)


@all_machines
def test_segments_are_loaded_from_the_table(mode: Any, bits: int) -> None:
    with rig(mode, bits) as it:
        it.cpu.load_segment("gs", USER_DS)
        assert it.cpu.segment("gs") == USER_DS
        it.cpu.load_segment("gs", 0)
        assert it.cpu.segment("gs") == 0
        for selector in (0x1234, 0xFFFF, 0x10, 0x18, 0x50):  # behind the table, the kernel's, not there
            assert not it.cpu.load_segment("gs", selector)
            assert it.cpu.segment("gs") == 0
        with pytest.raises(AssertionError, match="only entered"):
            it.cpu.load_segment("cs", USER_DS)
        with pytest.raises(AssertionError, match="SS"):
            it.cpu.load_segment("ss", USER_DS)


def test_the_bases_of_fs_and_gs() -> None:
    """mov al, fs:[edi]; mov ah, gs:[edi]."""
    with rig() as it:
        it.code(CODE, b"\x64\x8a\x07\x65\x8a\x27" + INT80)
        frame = it.map(DATA, None, RW)
        it.ram.write(PhysAddr(frame + 0x10), b"\x11\x22")
        it.cpu.fs_base, it.cpu.gs_base = DATA, DATA + 1
        it.cpu.regs[RDI] = 0x10

        it.run(CODE)

        assert it.cpu.regs[RAX] & 0xFFFF == 0x2211
        assert (it.cpu.fs_base, it.cpu.gs_base) == (DATA, DATA + 1)
        it.cpu.fs_base = 0x7FFF_FFFF_0000
        assert it.cpu.fs_base == 0x7FFF_FFFF_0000


@all_machines
def test_flags_are_read_and_written(mode: Any, bits: int) -> None:
    with rig(mode, bits) as it:
        it.code(CODE, b"\x0f\x92\xc0" + INT80)  # setc al
        assert it.cpu.rflags == 0x202
        it.cpu.rflags |= FLAG_CF
        it.run(CODE)
        assert it.cpu.regs[RAX] == 1
        assert it.cpu.rflags == 0x203


# -- floating point


def test_a_new_engine_has_the_floating_point_state_of_a_new_program() -> None:
    with rig() as it:
        assert it.cpu.fxsave() == FRESH_FPU


@all_machines
def test_fxsave_is_what_the_guests_own_instruction_stores(mode: Any, bits: int) -> None:
    """Three x87 values (one of them 80 bits wide: pi), a store, XMM registers, MXCSR and the control word changed."""
    with rig(mode, bits) as it:
        data = it.map(DATA, None, RW)
        it.ram.write(PhysAddr(data + 0x300), b"\x7f\x02" + b"\x80\x3f\x00\x00" + bytes(10) + bytes(range(0x40, 0x50)))
        it.cpu.regs[RDI] = DATA
        code = bytes.fromhex(
            "d9af00030000 d9eb d9e8 d9ee 0fae9702030000 0f288f10030000 0f28f1 0fae07 cd80".replace(" ", "")
        )
        it.code(CODE, code)  # fldcw; fldpi; fld1; fldz; ldmxcsr; movaps xmm1, [..]; movaps xmm6, xmm1; fxsave [edi]

        assert isinstance(it.run(CODE), Syscall)

        stored, ours = it.ram.read(data, 512), it.cpu.fxsave()
        # The last instruction's address and operand (bytes 8..23) the engine does not keep up to date.
        registers = 288 if bits == 32 and mode is FOUR_LEVEL else 416
        assert ours[:8] == stored[:8]
        assert ours[24:28] == stored[24:28] == b"\x80\x3f\x00\x00"
        assert ours[32:registers] == stored[32:registers]
        assert ours[64:74] == bytes.fromhex("35c26821a2da0fc90040"), "pi, as 80 bits"


@all_machines
def test_fxrstor_is_what_the_guest_sees(mode: Any, bits: int) -> None:
    with rig(mode, bits) as it:
        data = it.map(DATA, None, RW)
        it.cpu.regs[RDI] = DATA
        it.code(CODE, b"\x0f\xae\x07\xdb\x7f\x40\xdb\xbf\x00\x04\x00\x00" + INT80)  # fxsave; fstp [+40]; fstp [+400]
        image = bytearray(FRESH_FPU)
        image[0:2] = b"\x7f\x02"
        image[2:4] = (5 << 11 | 0x4100).to_bytes(2, "little")  # TOP 5, C0 and C3
        image[4] = 0b1110_0000
        for index in range(3):
            image[32 + 16 * index : 42 + 16 * index] = struct.pack("<QH", 0x8000_0000_0000_0001 + index, 0x4010)
        image[160:176] = bytes(range(16))

        it.cpu.fxrstor(bytes(image))

        assert it.cpu.fxsave() == bytes(image)
        assert isinstance(it.run(CODE), Syscall)
        assert it.ram.read(PhysAddr(data + 0x400), 10) == bytes(image[48:58]), "st(1), popped second"
        assert it.ram.read(PhysAddr(data + 160), 16) == bytes(image[160:176])
        assert it.ram.read(data, 5) == bytes(image[:5])


@given(
    top=st.integers(0, 7),
    tags=st.integers(0, 255),
    registers=st.lists(st.binary(min_size=10, max_size=10), min_size=8, max_size=8),
    xmm=st.binary(min_size=256, max_size=256),
    status=st.integers(0, 0x7FF),
    mxcsr=st.integers(0, 0xFFFF),
)
def test_any_floating_point_state_makes_the_round_trip(
    top: int, tags: int, registers: list[bytes], xmm: bytes, status: int, mxcsr: int
) -> None:
    image = struct.pack("<HHBxxx16xII", 0x37F, (status & 0x47FF) | top << 11, tags, mxcsr, 0xFFFF)
    image += b"".join(register + bytes(6) for register in registers) + xmm + bytes(96)
    cpu = _shared().cpu

    cpu.fxrstor(image)

    got = cpu.fxsave()
    # The engine keeps ES and B of the status word itself.
    assert got[2:4] == image[2:4] or int.from_bytes(got[2:4], "little") & 0x7F7F == (status & 0x477F) | top << 11
    assert (got[:2], got[4:]) == (image[:2], image[4:])


_RIGS: list[Rig] = []


def _shared() -> Rig:
    if not _RIGS:
        _RIGS.append(Rig())
    return _RIGS[0]


# -- CPUID and time


def test_cpuid_answers_from_the_table_and_nothing_else() -> None:
    with rig() as it:
        it.code(CODE, b"\x0f\xa2" + INT80)
        rows = cpuid.answers(long_mode=True)
        for leaf, subleaf, *expected in rows:
            it.cpu.regs[RAX], it.cpu.regs[RCX] = leaf, 0 if subleaf == cpuid.ANY_SUBLEAF else subleaf
            it.run(CODE)
            assert [it.cpu.regs[index] for index in (RAX, RBX, RCX, RDX)] == expected
        for leaf in (3, 5, 7, 0xD, 0x4000_0000, 0x8000_0005, 0x8000_0009, 0xFFFF_FFFF):
            it.cpu.regs[RAX], it.cpu.regs[RCX] = leaf, 0
            it.run(CODE)
            assert [it.cpu.regs[index] for index in (RAX, RBX, RCX, RDX)] == [0, 0, 0, 0]


def test_cpuid_offers_nothing_that_the_engine_lacks_or_that_varies() -> None:
    rows = {row[0]: row for row in cpuid.answers(long_mode=True)}
    ecx, edx = rows[1][4], rows[1][5]

    for bit in (12, 20 + 6, 27, 28, 29, 30):  # FMA, XSAVE, OSXSAVE, AVX, F16C, RDRAND
        assert not ecx >> bit & 1
    assert edx >> 24 & 7 == 7, "FXSR, SSE, SSE2"
    assert 7 not in rows


def test_a_32_bit_machine_has_no_long_mode() -> None:
    with rig(PAE, 32) as it:
        it.code(CODE, b"\x0f\xa2" + INT80)
        it.cpu.regs[RAX] = 0x8000_0001
        it.run(CODE)
        assert it.cpu.regs[RDX] == 1 << 20  # NX alone


def test_the_time_stamp_counter_is_the_kernels_to_answer() -> None:
    with rig() as it:
        it.code(CODE, b"\x0f\x31")
        assert it.run(CODE) == CpuException(VEC_GP, 0)


# -- translations


@all_machines
def test_stale_code_is_dropped_through_the_identity_root(mode: Any, bits: int) -> None:
    """The host changes code that was translated at two addresses; nobody but ``invalidate_code`` notices."""
    with rig(mode, bits) as it:
        frame = it.code(CODE, b"\xb8\x01\x00\x00\x00" + INT80)
        it.map(DATA, frame, RX)
        for value in range(2, 6):
            for address in (CODE, DATA):
                it.run(address)
                assert it.cpu.regs[RAX] == value - 1
            it.ram.write(PhysAddr(frame + 1), bytes([value]))
            it.run(CODE)
            assert it.cpu.regs[RAX] == value - 1, "stale: if this fails, invalidate_code is not needed any more"
            it.changed(frame)
        assert it.cpu.root == it.root


def test_a_block_that_began_in_the_page_before_is_dropped_with_the_page_it_ends_in() -> None:
    with rig() as it:
        at = CODE + PAGE_SIZE - 3
        it.code(at, b"\x90\x90\xb8\x01\x00\x00\x00" + INT80)
        second = PhysAddr(it.view[it.entry(CODE + PAGE_SIZE)] & 0xFFFF_F000)
        it.run(at)
        it.ram.write(second, b"\x09")
        it.changed(second)

        it.run(at)

        assert it.cpu.regs[RAX] == 9


def test_dropping_code_does_not_disturb_the_next_fault() -> None:
    """The engine may fault inside while it looks for translations (trap 1, trap 6)."""
    with rig() as it:
        frame = it.code(CODE, b"\x8a\x07" + INT80)
        it.cpu.regs[RDI] = DATA
        for _ in range(3):
            assert isinstance(it.run(CODE), PageFault)
            it.changed(frame, *(PhysAddr(page) for page in range(0x10_0000, 0x12_0000, PAGE_SIZE)))
            it.cpu.flush_code()


@all_machines
def test_code_that_stores_into_itself_runs_as_stored(mode: Any, bits: int) -> None:
    """Into the next instruction of the same block."""
    with rig(mode, bits) as it:
        it.code(CODE, b"\xc6\x47\x05\x2a\xb8\x01\x00\x00\x00" + INT80, flags=RWX)  # mov byte [edi + 5], 42
        it.cpu.regs[RDI] = CODE

        assert isinstance(it.run(CODE), Syscall)
        assert it.cpu.regs[RAX] == 42


# -- what emu/cpu.py takes for granted


def test_register_numbers_are_unicorns() -> None:
    ours = {name: number for name, number in vars(cpu_module).items() if name.startswith("_REG_")}

    assert len(ours) > 10
    assert ours == {name: getattr(reg, f"UC_X86{name}") for name in ours}


def test_registers_are_where_the_engine_keeps_them() -> None:
    """Set by the guest in SDM order: mov r32, index for each."""
    with rig() as it:
        code = b"".join(
            (b"" if n < 8 else b"\x41") + bytes([0xB8 + n % 8]) + bytes([n + 1, 0, 0, 0]) for n in range(16)
        )
        it.code(CODE, code + INT80)
        it.run(CODE)
        assert [it.cpu.regs[index] for index in range(16)] == list(range(1, 17))
        assert (R8, R15, RSP) == (8, 15, 4)


def test_a_missing_package_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_module, "find_spec", lambda _name: None)

    with pytest.raises(MachineError, match="`unicorn` is not installed"):
        Cpu(PhysMem(4 << 20), FOUR_LEVEL)


def test_a_package_without_its_library_is_refused_with_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = importlib.machinery.ModuleSpec("unicorn", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(cpu_module, "find_spec", lambda _name: spec)

    with pytest.raises(MachineError, match=f"cannot load the engine: {tmp_path}.*No such file"):
        Cpu(PhysMem(4 << 20), FOUR_LEVEL)


def test_a_native_part_that_was_not_built_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(native, "LIBRARY", str(tmp_path / "libemunative.so"))

    with pytest.raises(NativeMissingError, match=r"pip install \."):
        native.load()


def test_machines_come_and_go() -> None:
    """A closed engine leaves a copy of its registers in the host's heap, which calibration must not take for live."""
    for mode in (FOUR_LEVEL, PAE, TWO_LEVEL) * 10:
        with rig(mode, 32) as it:
            it.code(CODE, b"\xb8\x07\x00\x00\x00" + INT80)
            it.run(CODE)
            assert it.cpu.regs[RAX] == 7


def test_a_closed_cpu_can_be_closed_again() -> None:
    cpu = Cpu(PhysMem(4 << 20), FOUR_LEVEL)
    cpu.close()
    cpu.close()
