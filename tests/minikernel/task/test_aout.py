"""a.out programs, made by hand: all four kinds, on both machines."""

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from minikernel.abi.aout import EXEC, MAGICS, NMAGIC, OMAGIC, QMAGIC, ZMAGIC, Exec
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import RLIMIT_DATA
from minikernel.config import Config
from minikernel.task.exec import do_execve
from tests.minikernel.machine import run_and_audit
from tests.minikernel.task.programs import Machine

_TEXT = 0x1000
_TOO_LONG = 2.0  # seconds; they take a millisecond
_MACHINES = ("x86-64", "i386")

# write(1, message, 6); then add the byte in bss (0), argc and **argv[0], and exit with the sum.
_CODE = bytes.fromhex(
    "b804000000 bb01000000 b944332211 ba06000000 cd80"  # mov eax, 4; mov ebx, 1; mov ecx, M; mov edx, 6; int 0x80
    "8b1c24 8b442404 8b00 0fb600 01c3"  # mov ebx,[esp]; mov eax,[esp+4]; mov eax,[eax]; movzx eax,[eax]; add ebx,eax
    "031d88776655 c6058877665501"  # add ebx, [B]; mov byte [B], 1
    "b801000000 cd80"
)


def image(magic: int, *, bss: int = 5000, entry: int | None = None) -> bytes:
    """A program of kind *magic*: a page of text, 8 bytes or a page of data, and *bss* bytes of zeroes."""
    data = b"hello\n\0\0".ljust(0x1000, b"\0")
    base = 0x1000 if magic == QMAGIC else 0
    inside = EXEC.size if magic == QMAGIC else 0  # the header is the beginning of the text
    start = base + inside if entry is None else entry
    head = EXEC.pack(magic | 100 << 16, _TEXT, len(data), bss, 0, start, 0, 0)
    message, zeroes = base + _TEXT, base + _TEXT + len(data)
    code = _CODE.replace(b"\x44\x33\x22\x11", message.to_bytes(4, "little"))
    code = code.replace(b"\x88\x77\x66\x55", (zeroes + 4).to_bytes(4, "little"))
    if magic == QMAGIC:
        return (head + code).ljust(_TEXT, b"\0") + data
    return head.ljust(Exec(head).text_offset, b"\0") + code.ljust(_TEXT, b"\0") + data


@pytest.mark.parametrize("cpu", _MACHINES)
@pytest.mark.parametrize("magic", sorted(MAGICS))
def test_every_kind_runs(tmp_path: Path, cpu: str, magic: int) -> None:
    path = tmp_path / "old"
    path.write_bytes(image(magic))
    path.chmod(0o755)
    ended = run_and_audit(Config(argv=(b"/old", b"x"), root=bytes(tmp_path), cpu=cpu, ram=32 << 20))

    assert ended.stdout == b"hello\n"
    assert ended.code == (2 + ord("/")) << 8


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A 64-bit machine over an empty directory."""
    tmp_path.chmod(0o755)
    built = Machine(tmp_path)
    yield built
    built.close()


def mappings(machine: Machine) -> list[tuple[int, int, bool]]:
    """Start, end, and whether a file is behind it, of all but the stack."""
    return [(vma.start, vma.end, vma.file is not None) for vma in list(machine.task.mm.vmas)[:-1]]


def test_a_qmagic_file_is_mapped_and_leaves_page_0_alone(machine: Machine) -> None:
    do_execve(machine.task, machine.write("old", image(QMAGIC)), [b"old"], [])

    assert mappings(machine) == [(0x1000, 0x2000, True), (0x2000, 0x3000, True), (0x3000, 0x5000, False)]
    mm = machine.task.mm
    assert (mm.start_code, mm.end_code, mm.start_data, mm.end_data) == (0x1000, 0x2000, 0x2000, 0x3000)
    assert (mm.start_brk, mm.brk, mm.vdso, mm.saved_auxv) == (0x3000, 0x3000 + 5000, 0, b"")
    machine.validate()


@pytest.mark.parametrize("magic", [OMAGIC, NMAGIC, ZMAGIC])
def test_page_0_needs_a_capability(machine: Machine, magic: int) -> None:
    path = machine.write("old", image(magic))
    do_execve(machine.task, path, [b"old"], [])
    assert mappings(machine) == [(0, 0x4000, False)]

    cred = machine.task.cred
    cred.uid = cred.euid = cred.suid = cred.fsuid = 1000
    cred.cap_effective = cred.cap_permitted = 0
    with pytest.raises(LinuxError) as caught:
        do_execve(machine.task, path, [b"old"], [])
    assert caught.value.errno == Errno.EPERM
    machine.validate()


def test_damaged_files_are_refused(machine: Machine) -> None:
    good = image(QMAGIC)
    relocations = good[:24] + (8).to_bytes(4, "little") + good[28:]
    for name, data in (("short", good[:20]), ("cut", good[:-1]), ("relocated", relocations)):
        with pytest.raises(LinuxError) as caught:
            do_execve(machine.task, machine.write(name, data), [b"old"], [])
        assert caught.value.errno == Errno.ENOEXEC
    huge = image(QMAGIC, bss=0xFFFF_F000)
    with pytest.raises(LinuxError) as caught:
        do_execve(machine.task, machine.write("old", huge), [b"old"], [])
    assert caught.value.errno == Errno.ENOMEM
    machine.validate()


def test_rlimit_data_counts(machine: Machine) -> None:
    machine.task.rlimits[RLIMIT_DATA][0] = 0x1000
    with pytest.raises(LinuxError) as caught:
        do_execve(machine.task, machine.write("old", image(QMAGIC)), [b"old"], [])
    assert caught.value.errno == Errno.ENOMEM


_SIZES = (
    0,
    1,
    31,
    0xFFF,
    0x1000,
    0x1001,
    0x2000,
    0x7FFF_F000,
    0x8000_0000,
    0xBFFF_F000,
    0xF7FF_F000,
    0xFFFF_F000,
    0xFFFF_FFFF,
)


def test_hostile_headers_end_in_an_errno_or_a_program(machine: Machine) -> None:
    """Whatever the header says: at once, and the books of the machine are right."""
    rng = random.Random(7)
    for number in range(250):
        data = bytearray(image(rng.choice(sorted(MAGICS))))
        for _ in range(rng.choice((1, 1, 2, 3))):
            at = rng.randrange(1, 8) * 4
            data[at : at + 4] = rng.choice((*_SIZES, rng.getrandbits(32))).to_bytes(4, "little")
        path = machine.write(f"hostile{number}", bytes(data))
        began = time.monotonic()
        with suppress(LinuxError):
            do_execve(machine.task, path, [path], [])
        assert time.monotonic() - began < _TOO_LONG
    machine.validate()


@pytest.mark.parametrize("magic", [OMAGIC, QMAGIC])
def test_whichever_allocation_fails_the_caller_goes_on(machine: Machine, magic: int) -> None:
    path = machine.write("old", image(magic))
    node = machine.kernel.node
    for n in range(40):
        before = machine.task.mm
        node.fail_allocation(n)
        with suppress(LinuxError):
            do_execve(machine.task, path, [b"old"], [])
        node.fail_allocation(None)
        machine.validate()
        if machine.task.mm is not before:
            break
    else:
        pytest.fail("it needs more than 40 allocations")
    assert n > 3
