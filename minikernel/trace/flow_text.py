"""Blocks, instructions and accesses for people, between the events that they belong to."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Final

import numpy as np

from emu.disasm import disassemble
from emu.trace import Column
from emu.x86 import VirtAddr
from minikernel.trace.codec import TraceError
from minikernel.trace.flow_read import Accesses, Blocks, Instructions
from minikernel.trace.text import line
from minikernel.trace.trace import Trace

_LEVELS: Final = ("events", "blocks", "instructions", "memory")
_LEVELS_IN_WORDS: Final = {"blocks": "blocks", "instructions": "instructions", "memory": "accesses"}
_EVENT, _CODE = 0, 1  # an event comes before the instruction with the same count
_NAME_WIDTH: Final = 28


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show; empty: everything."""

    pids: Collection[int] = ()
    names: Collection[str] = ()  # of events
    symbols: Collection[str] = ()
    ranges: Collection[tuple[int, int]] = ()
    start: int = 0
    end: int | None = None


def check_level(trace: Trace, level: str) -> None:
    """Raises TraceError: *trace* was recorded at a level below *level*."""
    recorded = trace.header.get("level")
    if recorded not in _LEVELS or _LEVELS.index(recorded) < _LEVELS.index(level):
        raise TraceError(f"{trace.path}: its level is {recorded}: it has no {_LEVELS_IN_WORDS[level]}")


def show_flow(trace: Trace, level: str, chosen: Filter) -> Iterator[str]:
    """The lines of *level* (blocks, instructions or memory), and of the events between them.

    Raises:
        TraceError: the trace has no such level.
    """
    check_level(trace, level)
    ranges = list(chosen.ranges)
    for name in chosen.symbols:
        found = trace.places.symbol_ranges(name)
        if not found:
            raise TraceError(f"{trace.path}: no mapped file has the symbol {name}")
        ranges += found
    code = Disassembly(trace)
    if level == "blocks":
        lines = (
            row
            for blocks in trace.blocks(start=chosen.start, end=chosen.end)
            for row in code.of_blocks(blocks, chosen, ranges)
        )
    elif level == "memory":
        lines = (
            row
            for accesses in trace.accesses(start=chosen.start, end=chosen.end)
            for row in code.of_accesses(accesses, chosen, ranges)
        )
    else:
        lines = (
            row
            for batch in trace.instructions(start=chosen.start, end=chosen.end)
            for row in code.of_instructions(batch, chosen, ranges)
        )
    for _, _, text in merge(_events(trace, chosen), lines):
        yield text


def _events(trace: Trace, chosen: Filter) -> Iterator[tuple[int, int, str]]:
    for told in trace.events(start=chosen.start):
        icount, pid, event = told
        if chosen.end is not None and icount > chosen.end:
            return
        if (not chosen.pids or pid in chosen.pids) and (not chosen.names or event.name in chosen.names):
            yield icount, _EVENT, line(told)


def rows_wanted(
    pid: Column, address: Column, size: Column, pids: Collection[int], ranges: Collection[tuple[int, int]]
) -> Column:
    """Which rows are of one of *pids* and touch one of *ranges*; empty: of all, anywhere."""
    wanted = np.isin(pid, list(pids)) if pids else np.ones(len(pid), bool)
    if ranges:
        near = np.zeros(len(pid), bool)
        for low, high in ranges:
            near |= (address <= np.uint64(high - 1)) & (address + size.astype(np.uint64) > np.uint64(low))
        wanted &= near
    return wanted


class Disassembly:
    """Lines for blocks and instructions; each instruction is decoded once."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._code = trace.flows.code
        self._texts: dict[int, str] = {}
        self._starts = np.concatenate([[0], np.cumsum(self._code.size, dtype=np.int64)])

    def of_blocks(
        self, blocks: Blocks, chosen: Filter, ranges: Collection[tuple[int, int]]
    ) -> Iterator[tuple[int, int, str]]:
        """What there is to show of *blocks*: (instruction count, _CODE, line)."""
        wanted = rows_wanted(blocks.pid, blocks.address, blocks.size, chosen.pids, ranges)
        columns = (blocks.icount, blocks.pid, blocks.address, blocks.size, blocks.retired)
        for icount, pid, address, size, retired in zip(*(column[wanted].tolist() for column in columns), strict=True):
            name = self._trace.places.describe(pid, icount, address)
            yield (
                icount,
                _CODE,
                f"{icount:>12} {pid:>5} {address:#x} {name:<{_NAME_WIDTH}} {retired} instructions, {size} bytes",
            )

    def of_instructions(
        self, batch: Instructions, chosen: Filter, ranges: Collection[tuple[int, int]]
    ) -> Iterator[tuple[int, int, str]]:
        """The same of instructions."""
        wanted = rows_wanted(batch.pid, batch.address, batch.size, chosen.pids, ranges)
        columns = (batch.icount, batch.pid, batch.address, batch.size, batch.at)
        for icount, pid, address, size, at in zip(*(column[wanted].tolist() for column in columns), strict=True):
            name = self._trace.places.describe(pid, icount, address)
            text = self.text(address, size, at)
            yield icount, _CODE, f"{icount:>12} {pid:>5} {address:#x} {name:<{_NAME_WIDTH}} {text}"

    def of_accesses(
        self, batch: Accesses, chosen: Filter, ranges: Collection[tuple[int, int]]
    ) -> Iterator[tuple[int, int, str]]:
        """The same of loads and stores: those in a place, and those of instructions in it."""
        wanted = rows_wanted(batch.pid, batch.instruction, np.ones(len(batch), np.uint8), chosen.pids, ranges)
        wanted |= rows_wanted(batch.pid, batch.address, batch.size, chosen.pids, ranges)
        columns = (batch.icount, batch.pid, batch.store, batch.address, batch.size, batch.value, batch.physical)
        instructions = batch.instruction[wanted].tolist()
        rows = zip(*(column[wanted].tolist() for column in columns), instructions, strict=True)
        for icount, pid, store, address, size, value, physical, instruction in rows:
            where = self._trace.places.describe(pid, icount, address)
            by = self._trace.places.describe(pid, icount, instruction)
            what = f"{'store' if store else 'load':<5} {address:#x} {where:<{_NAME_WIDTH}} {size} = {value:#x}"
            yield (
                icount,
                _CODE,
                f"{icount:>12} {pid:>5} {what} physical {physical:#x} by {instruction:#x} {by}".rstrip(),
            )

    def text(self, address: int, size: int, at: int) -> str:
        """The instruction whose bytes begin at *at* in the code of all blocks."""
        text = self._texts.get(at)
        if text is None:
            block = int(np.searchsorted(self._starts, at, side="right")) - 1
            found = disassemble(self._code.code[at : at + size], VirtAddr(address), bits=int(self._code.bits[block]))
            text = self._texts[at] = found[0].text
        return text
