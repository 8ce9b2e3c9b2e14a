"""Reading blocks, instructions and accesses: batches of columns, in the order in which they ran."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from emu.trace import BlockCode, Column, Flow, FlowError, Memory, split_blocks, unpack_accesses, unpack_flow
from minikernel.trace.codec import TraceError
from minikernel.trace.flow import ACCESSES, CODE, FLOW, decode_accesses, decode_code
from minikernel.trace.format import Chunk, Reader

_BATCH: Final = 1 << 20  # instructions of a batch, about


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks that ran, one a row."""

    icount: Column  # uint64: instructions retired before it
    pid: Column  # uint32
    address: Column  # uint64
    size: Column  # uint16: bytes of all of it
    retired: Column  # uint16: how many of its instructions; 0: it faulted at the first
    number: Column  # uint32: in Flows.code

    def __len__(self) -> int:
        return len(self.icount)


@dataclass(frozen=True, slots=True)
class Instructions:
    """Instructions that retired, one a row; each turn of a REP is one, and one more finds the counter at zero."""

    icount: Column  # uint64: instructions retired before it
    pid: Column  # uint32
    address: Column  # uint64
    size: Column  # uint8: bytes
    at: Column  # uint64: where its bytes begin in Flows.code.code

    def __len__(self) -> int:
        return len(self.icount)


@dataclass(frozen=True, slots=True)
class Accesses:
    """Loads and stores of instructions that retired, one a row, as the engine made them: 16 bytes are two of 8."""

    icount: Column  # uint64: instructions retired before the one that made it
    pid: Column  # uint32
    instruction: Column  # uint64: its address
    address: Column  # uint64
    physical: Column  # uint64: of the first byte
    size: Column  # uint8: bytes
    value: Column  # uint64: what the bytes were after it, as a little-endian number
    store: Column  # bool: a store, or a load
    at: Column  # uint64: where the instruction's bytes begin in Flows.code.code

    def __len__(self) -> int:
        return len(self.icount)


class Flows:
    """The blocks, instructions and accesses of the trace behind *reader*.

    Raises:
        TraceError: from everything, when the file is damaged.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._chunks = list(reader.of_kind(FLOW))
        self._access_chunks = list(reader.of_kind(ACCESSES))
        self._code: BlockCode | None = None
        self._offsets: Column | None = None

    @property
    def recorded(self) -> bool:
        """Whether the trace has any blocks."""
        return bool(self._chunks)

    @property
    def nr_blocks(self) -> int:
        """Blocks that ran, by the heads of the chunks."""
        return sum(chunk.items for chunk in self._chunks)

    @property
    def end(self) -> int:
        """The instruction count behind the last block."""
        return self._unpack(self._chunks[-1])[1] if self._chunks else 0

    @property
    def code(self) -> BlockCode:
        """Every block of code that ran, once."""
        if self._code is None:
            parts = [self._decode(chunk) for chunk in self._reader.of_kind(CODE)] or [decode_code(bytes(8))]
            if len({bool(part.code) for part in parts if len(part)}) > 1:
                raise TraceError(f"{self._reader.path}: the code of some blocks is missing")
            names = ("address", "size", "icount", "bits")
            columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
            self._code = BlockCode(**columns, code=b"".join(part.code for part in parts))
        return self._code

    def _decode(self, chunk: Chunk) -> BlockCode:
        try:
            found = decode_code(self._reader.contents(chunk))
        except TraceError as error:
            raise self._named(chunk, error) from None
        if len(found) != chunk.items:
            raise self._named(chunk, f"{len(found)} blocks of code instead of {chunk.items}")
        return found

    def _named(self, chunk: Chunk, why: object) -> TraceError:
        text = str(why)
        path = self._reader.path
        return TraceError(text if text.startswith(f"{path}: ") else f"{path}: byte {chunk.offset}: {text}")

    def blocks(self, *, start: int = 0, end: int | None = None) -> Iterator[Blocks]:
        """The blocks that ran in instructions *start* to *end* (None: the last), in batches."""
        first = max(bisect_right([chunk.icount for chunk in self._chunks], start) - 1, 0)
        code = self.code
        for chunk in self._chunks[first:]:
            if end is not None and chunk.icount > end:
                return
            flow, _ = self._unpack(chunk)
            wanted = flow.icount + np.maximum(flow.retired, 1) > start
            if end is not None:
                wanted &= flow.icount <= end
            rows = slice(None) if bool(wanted.all()) else wanted
            number = flow.block[rows]
            if len(number):
                yield Blocks(
                    flow.icount[rows],
                    flow.tag[rows],
                    code.address[number],
                    code.size[number],
                    flow.retired[rows],
                    number,
                )

    def _unpack(self, chunk: Chunk) -> tuple[Flow, int]:
        try:
            return unpack_flow(self._reader.contents(chunk), chunk.icount, chunk.items, self.code.icount)
        except FlowError as error:
            raise self._named(chunk, error) from None

    @property
    def has_code(self) -> bool:
        """Whether the bytes of the code were recorded, without which there are no instructions."""
        return bool(self.code.code)

    def instructions(self, *, start: int = 0, end: int | None = None) -> Iterator[Instructions]:
        """The instructions from number *start* to *end* (None: the last), in batches."""
        if not self.recorded:
            return
        if not self.has_code:
            raise TraceError(f"{self._reader.path}: only blocks were recorded, not their instructions")
        table = self.instruction_table()
        for blocks in self.blocks(start=start, end=end):
            ends = np.cumsum(blocks.retired, dtype=np.int64)
            cuts = np.searchsorted(ends, np.arange(_BATCH, int(ends[-1]) + _BATCH, _BATCH), side="left") + 1
            for low, high in zip([0, *cuts[:-1].tolist()], cuts.tolist(), strict=True):
                found = _spell_out(blocks, slice(low, high), table)
                wanted = found.icount >= start
                if end is not None:
                    wanted &= found.icount <= end
                if not bool(wanted.all()):
                    found = Instructions(
                        *(getattr(found, name)[wanted] for name in ("icount", "pid", "address", "size", "at"))
                    )
                if len(found):
                    yield found

    @property
    def nr_accesses(self) -> int:
        """Loads and stores, by the heads of the chunks."""
        return sum(chunk.items for chunk in self._access_chunks)

    def accesses(self, *, start: int = 0, end: int | None = None) -> Iterator[Accesses]:
        """The loads and stores of the instructions from number *start* to *end* (None: the last), in batches."""
        by_start = {chunk.icount: chunk for chunk in self._chunks}
        first = max(bisect_right([chunk.icount for chunk in self._access_chunks], start) - 1, 0)
        for chunk in self._access_chunks[first:]:
            if end is not None and chunk.icount > end:
                return
            if chunk.icount not in by_start:
                raise self._named(chunk, "accesses without the blocks that made them")
            try:
                memory = unpack_accesses(*decode_accesses(self._reader.contents(chunk)), chunk.icount, chunk.items)
            except (FlowError, TraceError) as error:
                raise self._named(chunk, error) from None
            wanted = memory.icount >= start
            if end is not None:
                wanted &= memory.icount <= end
            if bool(wanted.any()):
                yield self._join(chunk, self._unpack(by_start[chunk.icount])[0], memory, wanted)

    def _join(self, chunk: Chunk, flow: Flow, memory: Memory, wanted: Column) -> Accesses:
        """Say of each access which instruction made it."""
        table = self.instruction_table()
        icount = memory.icount[wanted]
        row = np.searchsorted(flow.icount, icount, side="right") - 1
        within = icount - flow.icount[row]
        if bool((row < 0).any()) or bool((within >= flow.retired[row]).any()):
            raise self._named(chunk, "an access of no instruction")
        index = table.first[flow.block[row]] + within.astype(np.int64)
        return Accesses(
            icount,
            flow.tag[row],
            table.address[index],
            memory.address[wanted],
            memory.physical[wanted],
            memory.size[wanted],
            memory.value[wanted],
            memory.store[wanted].astype(bool),
            table.at[index],
        )

    def instruction_table(self) -> "InstructionTable":
        """The instructions in ``code``, block after block."""
        code = self.code
        if self._offsets is None:
            try:
                self._offsets = split_blocks(code)
            except FlowError as error:
                raise TraceError(f"{self._reader.path}: {error}") from None
        return InstructionTable(code, self._offsets)


class InstructionTable:
    """Where each instruction of each block is."""

    def __init__(self, code: BlockCode, offsets: Column) -> None:
        counts = code.icount.astype(np.int64)
        self.first = np.concatenate([[0], np.cumsum(counts)])  # of each block, in the columns below
        block = np.repeat(np.arange(len(code)), counts)
        start = np.concatenate([[0], np.cumsum(code.size, dtype=np.int64)])
        offset = offsets.astype(np.int64)
        self.address: Column = code.address[block] + offsets.astype(np.uint64)
        self.at: Column = (start[block] + offset).astype(np.uint64)  # in code.code
        ends = np.append(self.at[1:], np.uint64(len(code.code)))
        self.size: Column = (ends - self.at).astype(np.uint8)


def _spell_out(blocks: Blocks, rows: slice, table: InstructionTable) -> Instructions:
    """The instructions of some rows of *blocks*."""
    retired = blocks.retired[rows].astype(np.int64)
    before = np.cumsum(retired) - retired
    within = np.arange(int(retired.sum())) - np.repeat(before, retired)
    index = np.repeat(table.first[blocks.number[rows]], retired) + within
    return Instructions(
        np.repeat(blocks.icount[rows], retired) + within.astype(np.uint64),
        np.repeat(blocks.pid[rows], retired),
        table.address[index],
        table.size[index],
        table.at[index],
    )
