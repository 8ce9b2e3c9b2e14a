"""Random file calls, seeded: whatever the numbers, the answer is a result or an errno, and the books balance."""

import random
from pathlib import Path

import pytest

from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.resource import RLIMIT_FSIZE
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.fs.validate import page_caches, validate_fs
from minikernel.syscalls import files
from minikernel.syscalls.decode import signature
from minikernel.syscalls.table import advance
from minikernel.wait import Wait
from tests.minikernel.syscalls.file_calls import Emulated
from tests.minikernel.syscalls.test_files_oracle import populate

NAMES = (b"file", b"dir", b"dir/inner", b"link", b"loop", b"new", b"dir/new", b"../x", b"/dev/zero", b"/dev/null",
         b"/dev/full", b".", b"..", b"", b"/", b"fifo", b"x" * 300, b"file/", b"/dev/shm/s")  # fmt: skip
NUMBERS_OF_INTEREST = (
    0, 1, 2, 3, 4, 7, 8, 16, 64, 100, 255, 256, 0x1000, 0x10000, 0x80000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
    0xFFFF_FFFF_FFFF_FFFF, 1 << 40, 0o100644, 0o10644, 0x5401, 0x5421, 0x541B,
)  # fmt: skip
NOT_TRIED = {"fallocate", "ftruncate", "truncate", "ftruncate64", "truncate64"}  # sizes: see below
SIZES = (0, 1, 5, 4096, 10000)


class Fuzzer:
    """Draws calls and arguments."""

    def __init__(self, abi: Abi, root: bytes, seed: int) -> None:
        self.draw = random.Random(seed)
        self.side = Emulated(abi, root)
        self.side.caller.task.rlimits[RLIMIT_FSIZE][0] = 1 << 20  # sparse giants take honest time to copy
        self.names = sorted(
            entry.name
            for entry in files.ENTRIES
            if entry.handler is not None and entry.abi in {None, abi.name} and entry.name in NUMBERS[abi.name]
        )
        self.handlers = {entry.name: entry.handler for entry in files.ENTRIES if entry.abi in {None, abi.name}}

    def argument(self, name: str, show: str) -> int:
        """A value that may mean something to a parameter shown as *show*."""
        draw = self.draw
        chosen: int
        if show in {"fd", "dirfd"}:
            chosen = draw.choice([*range(12), -100, -1, 999])
            return chosen
        if show in {"path", "str"}:
            offset = draw.randrange(8) * 512
            return self.side.put(draw.choice(NAMES) + b"\0", offset) if draw.random() < 0.95 else 0x10
        if name in NOT_TRIED and show == "dec":
            return draw.choice(SIZES)
        if draw.random() < 0.5:
            return draw.choice([0, 1, 2, 3, 8, 64, 4096])
        if draw.random() < 0.5:
            return self.side.memory() + draw.randrange(60000)
        return draw.choice(NUMBERS_OF_INTEREST)

    def one(self) -> None:
        """Make one call; a coroutine is woken once, or interrupted, and then dropped."""
        name = self.draw.choice(self.names)
        handler = self.handlers[name]
        assert handler is not None
        args = [self.argument(name, kind.show) for _, kind in signature(handler)]
        result = self.side.caller.start(name, *args)
        if isinstance(result, int):
            assert result > -4096
            return
        waiting = advance(result)
        if isinstance(waiting, Wait):
            waiting = advance(result, woken=True, interrupt=self.draw.random() < 0.5)
        if isinstance(waiting, Wait):
            result.close()


@pytest.mark.slow
@pytest.mark.parametrize("abi", [X86_64, I386])
@pytest.mark.parametrize("seed", range(3))
def test_random_calls_end_in_an_answer(tmp_path: Path, abi: Abi, seed: int) -> None:
    populate(tmp_path)
    before = sorted((path, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*"))
    fuzzer = Fuzzer(abi, bytes(tmp_path), seed)
    vfs, machine, task = fuzzer.side.vfs, fuzzer.side.caller.machine, fuzzer.side.caller.task
    for number in range(3000):
        fuzzer.one()
        if number % 300 == 0:
            validate_fs(vfs, [task.files])
    machine.caches = page_caches(vfs, [task.files])
    machine.validate()
    task.files.close_all()
    machine.caches = page_caches(vfs)
    machine.validate()
    validate_fs(vfs)
    vfs.shutdown()

    assert all(file is None for file in task.files.fds)
    assert sorted((path, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
