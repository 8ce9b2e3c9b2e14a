"""Damaged and hostile ELF files: refused with an errno, at once, and the caller goes on as if nothing had been.

The host's own kernel is asked about the same files where they are small static programs.
"""

import os
import random
import resource
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.file import OpenFile
from minikernel.mm.filemap import PageCache
from minikernel.task.elf import read_elf
from minikernel.task.exec import do_execve
from tests.minikernel.task.programs import Machine, all_programs

_VALUES: Final = (
    *(0, 1, 2, 0xFFF, 0x1000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 47, (1 << 47) - 0x1000, 1 << 63),
    *((1 << 64) - 1, (1 << 64) - 0x1000, 0x40_0000, 0x40_1000, 0x1000_0000, 0x7FFF_FFFF_F000),
)
REAL: Final = [Path(name) for name in ("/bin/true", "/lib64/ld-linux-x86-64.so.2", "/lib32/ld-linux.so.2")]
TOO_LONG: Final = 2.0  # seconds; they take a millisecond


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("root"))
    yield made
    made.validate()
    made.close()


def mutate(rng: random.Random, original: bytes) -> bytes:
    """Change one to three things in the headers: a byte, a word to something nasty, or where the file ends."""
    data = bytearray(original)
    word = 8 if data[4] == 2 else 4
    header, phdr = (64, 56) if word == 8 else (52, 32)
    number: int = struct.unpack_from("<H", data, 56 if word == 8 else 44)[0]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.random()
        if kind < 0.3:
            data[rng.randrange(header)] = rng.randrange(256)
        elif kind < 0.5:
            data[header + rng.randrange(number * phdr)] = rng.randrange(256)
        elif kind < 0.9:
            at = header + rng.randrange(number) * phdr + rng.randrange(phdr // word) * word
            value = rng.choice((*_VALUES, rng.getrandbits(64))) & (1 << 8 * word) - 1
            data[at : at + word] = value.to_bytes(word, "little")
        else:
            return bytes(data[: rng.randrange(len(data))])
    return bytes(data)


def execute(machine: Machine, path: bytes) -> Errno | None:
    """What execve of *path* ends with; nothing but an errno, and soon."""
    began = time.monotonic()
    try:
        do_execve(machine.task, path, [path], [])
    except LinuxError as error:
        return error.errno
    finally:
        assert time.monotonic() - began < TOO_LONG
    return None


def native(path: Path) -> tuple[str, int]:
    """What the host's kernel does with it: ("errno", n), ("signal", n) or ("exit", n)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            os.execve(path, [bytes(path)], {})
        except OSError as error:
            os.write(writer, bytes([error.errno or 0]))
        finally:
            os._exit(99)
    os.close(writer)
    told = os.read(reader, 1)
    os.close(reader)
    status = os.waitpid(pid, 0)[1]
    if told:
        return "errno", told[0]
    if os.WIFSIGNALED(status):
        return "signal", os.WTERMSIG(status)
    return "exit", os.WEXITSTATUS(status)


def host_runs(machine: Machine, program: bytes) -> bool:
    """Whether the host's kernel knows this kind: it need not run i386 programs."""
    return native(machine.root / machine.write("whole", program).decode()[1:]) == ("exit", 0)


def test_mutated_programs_are_refused_or_run_as_the_host_does(machine: Machine) -> None:
    """A load that fails late kills the caller on Linux; here it always leaves an errno."""
    rng = random.Random(4711)
    originals = [program for program in all_programs() if host_runs(machine, program)]
    ran = refused = 0
    for number in range(250):
        path = machine.write(f"m{number}", mutate(rng, rng.choice(originals)))
        host, ours = native(machine.root / path.decode()[1:]), execute(machine, path)
        if host[0] == "errno":
            assert ours == host[1], f"{path!r}: the host says {host[1]}"
            refused += 1
        elif host == ("exit", 0):
            # The host has more memory.
            assert ours in {None, Errno.ENOMEM}, f"{path!r} runs on the host"
            ran += 1
        (machine.root / path.decode()[1:]).unlink()
    machine.validate()
    assert ran > 50
    assert refused > 20


@pytest.mark.parametrize("original", [path for path in REAL if path.exists()], ids=lambda path: path.name)
def test_real_programs_with_flipped_bytes_leave_an_errno_or_run(machine: Machine, original: Path) -> None:
    rng = random.Random(original.name)
    data = original.read_bytes()
    for number in range(60):
        flipped = bytearray(data)
        for _ in range(rng.randrange(1, 8)):
            flipped[rng.randrange(0x400)] ^= 1 << rng.randrange(8)
        path = machine.write(f"r{number}", bytes(flipped))
        execute(machine, path)
        (machine.root / path.decode()[1:]).unlink()
    machine.validate()


def test_a_failed_exec_changes_nothing_and_gives_everything_back(machine: Machine) -> None:
    rng = random.Random(99)
    assert execute(machine, b"/init") is None
    task, kernel = machine.task, machine.kernel
    before = task.mm, kernel.cpu.root, bytes(kernel.cpu.save()), task.comm
    failures = 0
    for number in range(120):
        path = machine.write(f"f{number}", mutate(rng, rng.choice(all_programs())))
        free = kernel.node.nr_free
        caches = cached_frames(machine)
        if execute(machine, path) is not None:
            failures += 1
            assert (task.mm, kernel.cpu.root, bytes(kernel.cpu.save()), task.comm) == before
            assert kernel.node.nr_free + cached_frames(machine) - caches == free, "a frame was lost"
        else:
            assert execute(machine, b"/init") is None
            before = task.mm, kernel.cpu.root, bytes(kernel.cpu.save()), task.comm
    machine.validate()
    assert failures > 30


def cached_frames(machine: Machine) -> int:
    """Frames of page caches, and of the kernel's objects: a file that was looked at stays cached."""
    node = machine.kernel.node
    objects = node.slab.nr_reclaimable + node.slab.nr_unreclaimable
    return sum(isinstance(owner, PageCache) for owner in node.mem_map.owner) + objects


class Bytes:
    """An open file over a bytes object, as far as the reader of headers needs one."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read = 0

    def pread(self, size: int, offset: int) -> bytes:
        assert 0 <= size <= 1 << 20, "a size that the file dictates"
        assert 0 <= offset < 1 << 63
        got = self.data[offset : offset + size]
        self.read += len(got)
        return got


@given(st.binary(max_size=300), st.integers(0, 3), st.data())
def test_any_headers_are_read_or_refused(noise: bytes, which: int, data: st.DataObject) -> None:
    """Random bytes behind a prefix of a valid file."""
    original = all_programs()[which]
    image = original[: data.draw(st.integers(0, 300))] + noise
    file = Bytes(image)
    try:
        elf = read_elf(cast(OpenFile, file), image[:256])
    except LinuxError as error:
        assert error.errno in {Errno.ENOEXEC, Errno.EIO}  # noqa: PT017 - it need not be raised
    else:
        assert elf.loads
    assert file.read < 1 << 18
