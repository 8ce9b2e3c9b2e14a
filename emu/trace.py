"""What ran, block by block: the Python side of ``native/trace.c`` and ``native/flow.c``.

``CpuTrace`` hands out what a CPU collected, packed; ``unpack_flow`` and ``split_blocks`` read that again, with no CPU.
The columns are numpy arrays.  What the packed bytes mean is in docs/trace-format.md.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from emu import native
from emu.native import Prototype

Column: TypeAlias = npt.NDArray[Any]

MAX_ROWS: Final = 1 << 24
"""Rows of one piece that are unpacked, at most."""

NR_ACCESS_COLUMNS: Final = 5

_POINTER, _WORD, _NUMBER = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int


class _Bytes(ctypes.Structure):
    """struct bytes."""

    _fields_ = (("data", _POINTER), ("size", ctypes.c_size_t), ("room", ctypes.c_size_t))


class _Piece(ctypes.Structure):
    """struct trace_piece."""

    _fields_ = (
        ("data", _POINTER),
        *((name, _WORD) for name in ("size", "start", "end", "rows", "nr_blocks", "code_size", "ran", "accesses")),
        ("columns", _Bytes * NR_ACCESS_COLUMNS),
        ("wrong", _WORD),
    )


class _AccessColumns(ctypes.Structure):
    """struct access_columns."""

    _fields_ = (
        *((name, _POINTER) for name in ("icount", "address", "physical", "value", "size", "store")),
        ("rows", _WORD),
    )


class _Columns(ctypes.Structure):
    """struct flow_columns."""

    _fields_ = (
        *((name, _POINTER) for name in ("icount", "block", "retired", "tag", "counts")),
        ("nr_blocks", _WORD),
        ("rows", _WORD),
    )


_TRACE_FUNCTIONS: Final[tuple[Prototype, ...]] = (
    ("machine_trace_start", _NUMBER, (_POINTER, ctypes.c_size_t, _NUMBER)),
    ("machine_trace_stop", _NUMBER, (_POINTER,)),
    ("machine_trace_task", None, (_POINTER, ctypes.c_uint32, _NUMBER)),
    ("machine_trace_ranges", _NUMBER, (_POINTER, _POINTER, ctypes.c_size_t)),
    ("machine_trace_retired", None, (_POINTER,)),
    ("machine_trace_piece", None, (_POINTER, _POINTER)),
    ("machine_trace_blocks", None, (_POINTER,) * 6),
    ("machine_trace_next", None, (_POINTER,)),
)
_FLOW_FUNCTIONS: Final[tuple[Prototype, ...]] = (
    ("access_read", _NUMBER, (ctypes.c_char_p, _POINTER, _WORD, _POINTER)),
    ("flow_read", _NUMBER, (ctypes.c_char_p, ctypes.c_size_t, _POINTER, _POINTER)),
    ("flow_split", ctypes.c_size_t, (ctypes.c_char_p, *(_POINTER,) * 3, ctypes.c_size_t, _POINTER)),
)


@dataclass(frozen=True, slots=True)
class BlockCode:
    """Blocks of code, as columns: where each was, how long, and its bytes one behind the other."""

    address: Column  # uint64
    size: Column  # uint16: bytes
    icount: Column  # uint16: instructions
    bits: Column  # uint8: 16, 32 or 64
    code: bytes

    def __len__(self) -> int:
        return len(self.address)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the run, packed."""

    data: bytes
    start: int  # instruction counts
    end: int
    rows: int  # blocks in it, each time they ran
    accesses: int
    access_columns: tuple[bytes, ...]  # the accesses, packed: NR_ACCESS_COLUMNS
    new_blocks: BlockCode  # numbered on from those of the pieces before


@dataclass(frozen=True, slots=True)
class Flow:
    """Blocks in the order in which they ran, as columns."""

    icount: Column  # uint64: before the block's first instruction
    block: Column  # uint32: its number
    retired: Column  # uint16: how many of its instructions
    tag: Column  # uint32: in which task

    def __len__(self) -> int:
        return len(self.icount)


@dataclass(frozen=True, slots=True)
class Memory:
    """Loads and stores in their order, as columns."""

    icount: Column  # uint64: before the instruction
    address: Column  # uint64
    physical: Column  # uint64: of the first byte
    value: Column  # uint64: what the bytes were after it, as a little-endian number
    size: Column  # uint8: bytes
    store: Column  # uint8: 1 for a store, 0 for a load

    def __len__(self) -> int:
        return len(self.icount)


class FlowError(ValueError):
    """Bytes that are not what was packed."""


class CpuTrace:
    """What one CPU notes; made by ``Cpu.start_trace``."""

    def __init__(
        self,
        library: ctypes.PyDLL,
        handle: ctypes.c_void_p,
        on_full: "Callable[[CpuTrace], None]",
        limit: int,
        on_stop: Callable[[], None],
        *,
        accesses: bool,
    ) -> None:
        native.declare(library, _TRACE_FUNCTIONS)
        self._native = library
        self._handle = handle
        self._piece = _Piece()
        self._on_stop = on_stop
        self.on_full = on_full
        error = library.machine_trace_start(handle, limit, int(accesses))
        assert error != -2, "this engine is another one than that whose accesses can be noted"
        if error:
            raise MemoryError("the host has no memory for a trace")

    def stop(self) -> None:
        """Note nothing any more; what was not fetched is lost."""
        self._native.machine_trace_stop(self._handle)
        self._on_stop()

    def set_task(self, tag: int, *, on: bool) -> None:
        """What runs from now on belongs to *tag*, a number of the caller's; if not *on*, it is not wanted."""
        self._native.machine_trace_task(self._handle, tag, int(on))

    def set_ranges(self, ranges: Sequence[tuple[int, int]] | None) -> None:
        """Keep only blocks that touch one of *ranges* (start, end); None: all blocks."""
        flat = [address for pair in ranges or () for address in pair] or [0, 0]
        array = (ctypes.c_uint64 * len(flat))(*flat)
        count = 0 if ranges is None else len(flat) // 2
        if self._native.machine_trace_ranges(self._handle, array, count):
            raise MemoryError("the host has no memory for a trace")

    def note_emulated(self) -> None:
        """The kernel has executed the instruction in front of which the last run ended."""
        self._native.machine_trace_retired(self._handle)

    @property
    def ran(self) -> int:
        """Instructions of the run that ``on_full`` interrupts."""
        self._native.machine_trace_piece(self._handle, ctypes.byref(self._piece))
        return int(self._piece.ran)

    @property
    def pending(self) -> int:
        """Packed bytes that wait to be fetched."""
        self._native.machine_trace_piece(self._handle, ctypes.byref(self._piece))
        return int(self._piece.size)

    def fetch(self) -> Piece | None:
        """Take what was packed since the last time; None if no block was."""
        piece = self._piece
        self._native.machine_trace_piece(self._handle, ctypes.byref(piece))
        assert not piece.wrong, "CpuTrace.fetch: the blocks noted do not add up to the instruction count"
        found = None
        if piece.rows or piece.nr_blocks:
            data = ctypes.string_at(piece.data, piece.size)
            blocks = self._new_blocks(piece.nr_blocks, piece.code_size)
            columns = tuple(ctypes.string_at(column.data, column.size) for column in piece.columns)
            found = Piece(data, piece.start, piece.end, piece.rows, piece.accesses, columns, blocks)
        self._native.machine_trace_next(self._handle)
        return found

    def _new_blocks(self, count: int, code_size: int) -> BlockCode:
        columns = [np.empty(count, kind) for kind in (np.uint64, np.uint16, np.uint16, np.uint8)]
        code = np.empty(code_size, np.uint8)
        self._native.machine_trace_blocks(self._handle, *(column.ctypes.data for column in (*columns, code)))
        return BlockCode(columns[0], columns[1], columns[2], columns[3], code.tobytes())


_library: list[ctypes.PyDLL] = []


def _flow_library() -> ctypes.PyDLL:
    if not _library:
        library = native.load()
        native.declare(library, _FLOW_FUNCTIONS)
        _library.append(library)
    return _library[0]


def unpack_flow(data: bytes, start: int, rows: int, counts: Column) -> tuple[Flow, int]:
    """The *rows* blocks of a piece that begins at instruction *start*, and where it ends.

    *counts* are the instructions of each block that there is (uint16).

    Raises:
        FlowError: *data* is no such piece.
    """
    if not 0 <= rows <= MAX_ROWS:
        raise FlowError(f"a piece of {rows} blocks")
    counts = np.ascontiguousarray(counts, np.uint16)
    flow = Flow(*(np.empty(rows, kind) for kind in (np.uint64, np.uint32, np.uint16, np.uint32)))
    pointers = (column.ctypes.data for column in (flow.icount, flow.block, flow.retired, flow.tag, counts))
    icount = ctypes.c_uint64(start)
    columns = _Columns(*pointers, len(counts), rows)
    error = _flow_library().flow_read(data, len(data), ctypes.byref(icount), ctypes.byref(columns))
    if error == -2:
        raise MemoryError("the host has no memory to read a trace")
    if error:
        raise FlowError("the blocks do not unpack")
    return flow, icount.value


def unpack_accesses(data: bytes, sizes: Sequence[int], start: int, rows: int) -> Memory:
    """The *rows* accesses of a piece that begins at instruction *start*; *data* are its columns, of these sizes.

    Raises:
        FlowError: *data* is no such piece.
    """
    if not 0 <= rows <= MAX_ROWS or len(sizes) != NR_ACCESS_COLUMNS or sum(sizes) != len(data):
        raise FlowError(f"a piece of {rows} accesses in {len(data)} bytes")
    names = ("icount", "address", "physical", "value")
    words = {name: np.empty(rows, np.uint64) for name in names}
    memory = Memory(**words, size=np.empty(rows, np.uint8), store=np.empty(rows, np.uint8))
    pointers = (
        column.ctypes.data
        for column in (memory.icount, memory.address, memory.physical, memory.value, memory.size, memory.store)
    )
    columns = _AccessColumns(*pointers, rows)
    error = _flow_library().access_read(data, (ctypes.c_uint64 * len(sizes))(*sizes), start, ctypes.byref(columns))
    if error == -2:
        raise MemoryError("the host has no memory to read a trace")
    if error:
        raise FlowError("the accesses do not unpack")
    return memory


def split_blocks(blocks: BlockCode) -> Column:
    """The offset of each instruction in its block, block after block (uint16).

    Raises:
        FlowError: the code of a block does not have as many instructions as it should.
    """
    total = int(blocks.icount.sum(dtype=np.int64))
    if int(blocks.size.sum(dtype=np.int64)) != len(blocks.code):
        raise FlowError("the code of the blocks is not as long as they are")
    sizes, icounts = (np.ascontiguousarray(column, np.uint16) for column in (blocks.size, blocks.icount))
    bits = np.ascontiguousarray(blocks.bits, np.uint8)
    offsets = np.empty(total, np.uint16)
    pointers = (column.ctypes.data for column in (sizes, icounts, bits))
    good = _flow_library().flow_split(blocks.code, *pointers, len(blocks), offsets.ctypes.data)
    if good != len(blocks):
        raise FlowError(f"block {good} is not what it says: its code does not have {icounts[good]} instructions")
    return offsets
