"""Loads and stores in traces: what RAM holds when the program is stepped; their instructions and tasks; damage."""

import struct
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emu.x86 import PhysAddr
from minikernel.boot import System
from minikernel.trace.codec import TraceError
from minikernel.trace.compare import compare_events
from minikernel.trace.flow import ACCESSES, CODE, FLOW, decode_accesses, encode_accesses, encode_code
from minikernel.trace.format import Writer
from minikernel.trace.select import Selection
from minikernel.trace.trace import Trace
from tests.minikernel.trace.flows import MACHINES, guest_program, record, step_through
from tests.minikernel.trace.test_flow import PACKED, code, header, instructions

Row = tuple[Any, ...]


def accesses(path: Path, **span: Any) -> list[Row]:
    """(instruction count, pid, instruction, address, physical address, size, value, is a store)."""
    with Trace(str(path)) as trace:
        return [
            row
            for a in trace.accesses(**span)
            for row in zip(
                *(
                    column.tolist()
                    for column in (a.icount, a.pid, a.instruction, a.address, a.physical, a.size, a.value, a.store)
                ),
                strict=True,
            )
        ]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["code/self_modifying", "signal/basics", "process/fork_cow", "cpu/sse"])
def test_memory_holds_what_an_access_tells_when_its_instruction_has_been_stepped(
    tmp_path: Path, name: str, machine: str
) -> None:
    """At the physical address, by the last access of the instruction there; by the instruction and task it tells."""
    program = guest_program(name, "x86-64" if machine == "x86-64" else "i386")
    end = record(tmp_path / "t", "memory", program, **MACHINES[machine])
    told = {icount: list(rows) for icount, rows in groupby(accesses(tmp_path / "t"), key=lambda row: row[0])}
    checked = 0

    def look(system: System, before: int, rip: int) -> None:
        nonlocal checked
        kernel = system.kernel
        for icount in range(before, kernel.cpu.icount):
            last: dict[int, tuple[int, int]] = {}
            for _, pid, instruction, address, physical, size, value, _ in told.pop(icount, ()):
                assert (pid, instruction) == (kernel.tracer.pid, rip)
                if address % 4096 + size <= 4096:
                    last[physical] = size, value
            for physical, (size, value) in last.items():
                if not any(physical < other < physical + size for other in last):
                    assert int.from_bytes(kernel.physmem.read(PhysAddr(physical), size), "little") == value
                    checked += 1

    assert step_through(program, look=look, **MACHINES[machine]) == end
    assert not told
    assert checked > 1000


def test_a_run_with_its_accesses_noted_has_the_events_and_digests_of_any_other(tmp_path: Path) -> None:
    program = guest_program("thread/signals", "x86-64")
    record(tmp_path / "plain", "events", program, schedule_seed=5)
    record(tmp_path / "traced", "memory", program, schedule_seed=5)

    with Trace(str(tmp_path / "plain")) as plain, Trace(str(tmp_path / "traced")) as traced:
        assert compare_events(plain.events(), traced.events())[1] is None
        assert plain.digests() == traced.digests()
        assert traced.flows.nr_accesses > 1000


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("accesses") / "t"
    record(path, "memory", guest_program("process/fork_cow", "x86-64"))
    return path


def test_a_stretch_of_accesses_is_found_by_its_count(recorded: Path) -> None:
    every = accesses(recorded)
    middle = every[len(every) // 2][0]
    assert accesses(recorded, start=middle, end=middle + 99) == [r for r in every if middle <= r[0] < middle + 100]
    assert accesses(recorded, start=every[-1][0] + 1) == []


def test_a_mapping_selects_its_accesses_and_the_instructions_that_make_them(tmp_path: Path, recorded: Path) -> None:
    record(tmp_path / "t", "memory", guest_program("process/fork_cow", "x86-64"), selection=Selection(vmas=("[heap]",)))
    chosen = accesses(tmp_path / "t")
    with Trace(str(recorded)) as trace:
        heap = [
            row
            for row in accesses(recorded)
            if (mapping := trace.places.mapping(row[1], row[0], row[3])) is not None and mapping.name == "[heap]"
        ]

    assert chosen
    assert chosen == heap
    assert {row[0] for row in chosen} <= {row[0] for row in instructions(tmp_path / "t")}


def access_chunk(icount_step: int = 0) -> bytes:
    """One store of a byte, so many instructions behind the chunk's first."""
    return encode_accesses([bytes([icount_step]), b"\x04", b"\x02", b"\x05", b"\x07"])


def write(path: str, *chunks: tuple[bytes, int, int, bytes]) -> None:
    writer = Writer(path, header())
    writer.add(CODE, 0, 2, encode_code(code(), with_code=True))
    writer.add(FLOW, 0, 2, PACKED)
    for chunk in chunks:
        writer.add(*chunk)
    writer.finish()


def test_an_access_is_read_with_its_instruction(tmp_path: Path) -> None:
    write(str(tmp_path / "t"), (ACCESSES, 0, 1, access_chunk(2)))
    assert accesses(tmp_path / "t") == [(2, 0, 0x1007, 1, 0x5001, 1, 7, True)]


@pytest.mark.parametrize(
    ("chunk", "why"),
    [
        ((ACCESSES, 0, 1, b""), "cut off"),
        ((ACCESSES, 0, 2, access_chunk()), "do not unpack"),
        ((ACCESSES, 0, 1, access_chunk()[:-1]), "a piece of 1 accesses in 4 bytes"),
        ((ACCESSES, 0, 1, access_chunk() + b"\0"), "a piece of 1 accesses in 6 bytes"),
        ((ACCESSES, 0, 1, access_chunk(3)), "an access of no instruction"),
        ((ACCESSES, 5, 1, access_chunk()), "accesses without the blocks that made them"),
        ((ACCESSES, 0, 1 << 31, access_chunk()), "a piece of 2147483648 accesses"),
        ((ACCESSES, 0, 1, struct.pack("<5I", 1 << 31, 1, 1, 1, 1) + bytes(5)), "a piece of 1 accesses"),
    ],
)
def test_damaged_accesses_are_refused_by_name(tmp_path: Path, chunk: tuple[bytes, int, int, bytes], why: str) -> None:
    path = tmp_path / "t"
    write(str(path), chunk)
    with pytest.raises(TraceError, match=rf"^{path}: byte \d+: .*{why}"):
        accesses(path)


def test_columns_of_accesses_come_back() -> None:
    columns = [b"a", b"", b"ccc", b"dd", b"e"]
    data, sizes = decode_accesses(encode_accesses(columns))
    assert (data, list(sizes)) == (b"".join(columns), [1, 0, 3, 2, 1])
    assert np.array(sizes).sum() == len(data)
