"""Programs of random instructions and random system calls: whatever they do, the emulator does not fall over."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.boot import System
from minikernel.config import Config
from minikernel.entry import Deadlock, InstructionLimit
from minikernel.mm.filemap import PageCache
from minikernel.mm.validate import validate_node
from tests.minikernel.task.programs import program

NR_PROGRAMS: Final = 25
_ODD: Final = (b"\xcf", b"\x9d", b"\x8e\xd8", b"\x8e\xe8", b"\x0f\x34", b"\xcd\x80", b"\x6a\x33", b"\xcb", b"\xec")
_VALUES: Final = (0, 1, 2, 3, 0x40_2000, 0x40_4000, 0x0804_A000, 0x1000, 0xFFFF_FFFF)
MACHINES: Final = [(X86_64, "x86-64", "pae"), (I386, "x86-64", "pae"), (I386, "i386", "pae"), (I386, "i386", "2level")]


def random_program(rng: random.Random, abi: Abi) -> bytes:
    """Mostly calls with random numbers and arguments; some noise, which is what ends most of them."""
    noise = rng.choice((0.01, 0.3))
    parts = []
    for _ in range(rng.randrange(20, 400)):
        kind = rng.random()
        if kind < noise:
            parts.append(rng.choice((rng.randbytes(rng.randrange(1, 6)), rng.choice(_ODD))))
        elif kind < 0.6:
            register = rng.choice((3, 1, 2, 6, 7))
            value = rng.choice((*_VALUES, rng.getrandbits(32), rng.randrange(64)))
            parts.append(bytes([0xB8 + register]) + value.to_bytes(4, "little"))
        else:
            number = rng.randrange(460).to_bytes(4, "little")
            parts.append(b"\xb8" + number + (b"\x0f\x05" if abi is X86_64 else b"\xcd\x80"))
    return program(abi, b"".join(parts)[:4000], bss=20_000)


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Standard streams lead nowhere: a program may make a file behind them as large as it likes."""
    saved = [os.dup(fd) for fd in range(3)]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nowhere, fd)
    yield
    for fd, old in enumerate(saved):
        os.dup2(old, fd)
        os.close(old)
    os.close(nowhere)


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize(("abi", "cpu", "paging"), MACHINES, ids=lambda value: getattr(value, "name", value))
def test_random_programs_end_in_the_guest(tmp_path: Path, abi: Abi, cpu: str, paging: str) -> None:
    """By a signal, by themselves, by the limit, or asleep for ever; and the books balance."""
    rng = random.Random(f"{abi.name} {cpu} {paging}")
    tmp_path.chmod(0o755)
    for number in range(NR_PROGRAMS):
        path = tmp_path / "p"
        path.write_bytes(random_program(rng, abi))
        path.chmod(0o755)
        config = Config(
            argv=(b"/p",), root=bytes(tmp_path), ram=16 << 20, cpu=cpu, paging=paging, seed=number, uid=1000, gid=1000,
            groups=(), max_instructions=100_000, max_processes=20,
        )  # fmt: skip
        with System(config) as system:
            kernel = system.kernel
            system.exec_init()
            try:
                system.run()
            except (InstructionLimit, Deadlock):
                system.power_off()
            caches = {id(owner): owner for owner in kernel.node.mem_map.owner if isinstance(owner, PageCache)}
            validate_node(kernel.node, kernel.address_spaces(), caches.values())
        kernel.cpu.close()
