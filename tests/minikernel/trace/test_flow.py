"""Blocks and instructions in traces: what stepping sees, whatever the program does; filters; damage."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emu.cpu import RIP
from emu.trace import BlockCode
from minikernel.boot import System
from minikernel.trace.codec import TraceError
from minikernel.trace.compare import compare_events
from minikernel.trace.flow import CODE, FLOW, MAPS, decode_code, encode_code
from minikernel.trace.format import Writer
from minikernel.trace.select import Selection
from minikernel.trace.trace import Trace
from tests.minikernel.trace.flows import MACHINES, guest_program, record, step_through

PROGRAMS = (
    "start/hello",
    "code/self_modifying",
    "code/jit_toggle",
    "code/read_into_code",
    "cpu/rdtsc",
    "cpu/exceptions",
    "cpu/single_step",
    "signal/basics",
    "process/fork_cow",
)


def instructions(path: Path) -> list[tuple[int, int, int]]:
    """(instruction count, pid, address) of every instruction of a trace."""
    with Trace(str(path)) as trace:
        return [
            row
            for batch in trace.instructions()
            for row in zip(batch.icount.tolist(), batch.pid.tolist(), batch.address.tolist(), strict=True)
        ]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_instructions_of_a_guest_program_are_those_of_its_steps(tmp_path: Path, name: str, machine: str) -> None:
    """Faults, signals, forks, code that changes, instructions that the kernel executes."""
    program = guest_program(name, "x86-64" if machine == "x86-64" else "i386")
    stepped: list[tuple[int, int, int]] = []

    def look(system: System, before: int, rip: int) -> None:
        cpu, pid = system.kernel.cpu, system.kernel.tracer.pid
        if stepped and stepped[-1][0] + 1 < before:  # the kernel executed one: RDTSC
            stepped.append((before - 1, pid, after[-1]))
        stepped.extend((icount, pid, rip) for icount in range(before, cpu.icount))
        after.append(cpu.regs[RIP])
        del after[:-1]

    after: list[int] = []
    end = step_through(program, look=look, **MACHINES[machine])

    assert record(tmp_path / "t", "instructions", program, **MACHINES[machine]) == end
    assert instructions(tmp_path / "t") == stepped


@pytest.mark.parametrize("machine", ["x86-64", "pae"])
@pytest.mark.parametrize("level", ["blocks", "instructions"])
def test_a_traced_run_has_the_events_and_digests_of_any_other(tmp_path: Path, level: str, machine: str) -> None:
    """Threads, signals, and slices of random length."""
    program = guest_program("thread/signals", "x86-64" if machine == "x86-64" else "i386")
    fields: dict[str, Any] = {**MACHINES[machine], "schedule_seed": 11}
    record(tmp_path / "plain", "events", program, **fields)
    record(tmp_path / "traced", level, program, **fields)

    with Trace(str(tmp_path / "plain")) as plain, Trace(str(tmp_path / "traced")) as traced:
        assert compare_events(plain.events(), traced.events())[1] is None
        assert plain.digests() == traced.digests()
        assert plain.digests()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flow") / "t"
    record(path, "instructions", guest_program("process/fork_cow", "x86-64"))
    return path


def test_blocks_have_the_size_and_the_instructions_that_ran(recorded: Path) -> None:
    with Trace(str(recorded)) as trace:
        rows = list(trace.blocks())
        total = sum(int(batch.retired.sum()) for batch in rows)
        assert trace.notes is not None
        assert total == trace.notes["icount"]
        assert sum(len(batch) for batch in rows) == trace.flows.nr_blocks
        assert all((batch.retired <= trace.flows.code.icount[batch.number]).all() for batch in rows)
        assert all((batch.size == trace.flows.code.size[batch.number]).all() for batch in rows)


def test_a_piece_of_the_run_is_found_by_its_count(recorded: Path) -> None:
    every = instructions(recorded)
    with Trace(str(recorded)) as trace:
        for start, end in ((0, 0), (100, 100), (777, 12_345), (len(every) - 1, None), (len(every), None)):
            found = [int(i) for batch in trace.instructions(start=start, end=end) for i in batch.icount]
            assert found == [row[0] for row in every[start : None if end is None else end + 1]]


@pytest.mark.parametrize(
    "selection",
    [
        Selection(pids=(3,)),
        Selection(symbols=("main", "memset")),
        Selection(vmas=("fork_cow",)),
        Selection(ranges=((0x40_1000, 0x40_2000),), pids=(2,)),
        Selection(comms=(b"nobody",)),
        Selection(vmas=("[vdso]",)),
    ],
    ids=lambda chosen: "-".join(chosen.as_json()),
)
def test_a_selection_keeps_what_it_names_and_the_counts_of_the_whole_run(
    tmp_path: Path, recorded: Path, selection: Selection
) -> None:
    """A block that touches a place is kept whole."""
    record(tmp_path / "t", "instructions", guest_program("process/fork_cow", "x86-64"), selection=selection)
    with Trace(str(recorded)) as everything, Trace(str(tmp_path / "t")) as some:
        places = list(selection.ranges)
        for symbol in selection.symbols:
            places += everything.places.symbol_ranges(symbol)
        for name in selection.vmas:
            for snapshot in everything.places.snapshots:
                places += [(m.start, m.end) for m in snapshot.mappings if m.name.rsplit("/", 1)[-1] == name]
        expected: list[Any] = []
        found: list[Any] = []
        for batch in everything.blocks():
            for row in zip(
                *(c.tolist() for c in (batch.icount, batch.pid, batch.address, batch.size, batch.retired)), strict=True
            ):
                _, pid, address, size, _ = row
                inside = any(address < high and address + size > low for low, high in places)
                if (
                    (inside or not selection.has_places)
                    and (not selection.pids or pid in selection.pids)
                    and not selection.comms
                ):
                    expected.append(row)
        for batch in some.blocks():
            found += zip(
                *(c.tolist() for c in (batch.icount, batch.pid, batch.address, batch.size, batch.retired)), strict=True
            )

        assert found == expected
        assert some.header["selection"] == selection.as_json()
        if selection.filters_events:
            assert all(pid in selection.pids for _, pid, _ in some.events())


def test_names_of_events_select_events_alone(tmp_path: Path, recorded: Path) -> None:
    selection = Selection(events=("sys_enter", "sched_process_fork"))
    record(tmp_path / "t", "blocks", guest_program("process/fork_cow", "x86-64"), selection=selection)
    with Trace(str(recorded)) as everything, Trace(str(tmp_path / "t")) as some:
        assert [told for told in everything.events() if told[2].name in selection.events] == list(some.events())
        assert everything.flows.nr_blocks == some.flows.nr_blocks


def test_a_trace_of_blocks_has_no_instructions(tmp_path: Path) -> None:
    record(tmp_path / "t", "blocks", guest_program("start/hello", "x86-64"))
    with Trace(str(tmp_path / "t")) as trace:
        assert trace.flows.recorded
        with pytest.raises(TraceError, match="only blocks were recorded"):
            list(trace.instructions())


# -- damage


def code() -> BlockCode:
    columns = (np.array([0x1000, 0x1007], np.uint64), np.array([7, 2], np.uint16), np.array([2, 1], np.uint16))
    return BlockCode(*columns, np.array([64, 64], np.uint8), b"\xb8\x01\x00\x00\x00\xcd\x80\xeb\xfe")


def test_code_comes_back() -> None:
    back = decode_code(encode_code(code(), with_code=True))
    assert back.code == code().code
    for name in ("address", "size", "icount", "bits"):
        assert getattr(back, name).tolist() == getattr(code(), name).tolist()
    assert not decode_code(encode_code(code(), with_code=False)).code


def test_damaged_code_is_refused() -> None:
    good = encode_code(code(), with_code=True)
    for at in range(len(good)):
        with pytest.raises(TraceError):
            decode_code(good[:at])
    for at, value in ((0, 3), (3, 255), (4, 0), (4, 2), (24, 8), (28, 0), (28, 9), (32, 33)):
        with pytest.raises(TraceError):
            decode_code(good[:at] + bytes([value]) + good[at + 1 :])


def header() -> dict[str, object]:
    return {"level": "instructions", "events": []}


PACKED = bytes([0 << 2 | 1, 1 << 2 | 1])  # block 0, block 1


@pytest.mark.parametrize(
    ("kind", "items", "contents", "why"),
    [
        (CODE, 3, encode_code(code(), with_code=True), "2 blocks of code instead of 3"),
        (CODE, 1, struct.pack("<IB3x", 1 << 31, 1), "does not hold"),
        (FLOW, 2, b"\xff" * 20, "do not unpack"),
        (FLOW, 1, PACKED, "do not unpack"),
        (FLOW, 2, PACKED + b"\x09", "do not unpack"),  # a third
        (FLOW, 2, PACKED[:1] + b"\x0d", "do not unpack"),  # block 3
        (FLOW, 0xFFFF_FFFF, PACKED, "a piece of 4294967295 blocks"),
    ],
)
def test_chunks_that_are_not_what_they_say_are_refused_by_name(
    tmp_path: Path, kind: bytes, items: int, contents: bytes, why: str
) -> None:
    path = str(tmp_path / "t")
    writer = Writer(path, header())
    writer.add(CODE, 0, 2, encode_code(code(), with_code=True))
    writer.add(FLOW, 0, 2, PACKED)
    writer.add(kind, 3, items, contents)
    writer.finish()

    with Trace(path) as trace, pytest.raises(TraceError, match=rf"^{path}: byte \d+: .*{why}"):
        list(trace.instructions())


def test_code_that_is_no_code_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    wrong = code()
    writer = Writer(path, header())
    wrong.icount[0] = 5  # of five bytes, the first of which begins an instruction of five
    writer.add(CODE, 0, 2, encode_code(wrong, with_code=True))
    writer.add(FLOW, 0, 2, PACKED)
    writer.finish()

    with Trace(path) as trace, pytest.raises(TraceError, match="block 0 is not what it says"):
        list(trace.instructions())


@pytest.mark.parametrize(
    "contents",
    [
        b"[1]",
        b'[{"icount": 1}]',
        b'[{"icount": -1, "pid": 2, "comm": "x", "maps": [], "symbols": {}}]',
        b'[{"icount": 1, "pid": 2, "comm": "x", "maps": [[2, 1, 0, 0, "x"]], "symbols": {}}]',
        b'[{"icount": 1, "pid": 2, "comm": "x", "maps": [[0, 9, 0, 0, "x"], [5, 9, 0, 0, "y"]], "symbols": {}}]',
        b'[{"icount": 1, "pid": 2, "comm": "x", "maps": [], "symbols": {"x": [[1, 2]]}}]',
        b'[{"icount": 1, "pid": 2, "comm": "x", "maps": [], "symbols": []}]',
    ],
)
def test_damaged_mappings_are_refused(tmp_path: Path, contents: bytes) -> None:
    path = str(tmp_path / "t")
    writer = Writer(path, header())
    writer.add(MAPS, 0, 1, contents)
    writer.finish()
    with Trace(path) as trace, pytest.raises(TraceError, match=rf"^{path}: byte \d+: the mappings are damaged"):
        trace.places.describe(2, 1, 0)
