"""Blocks, instructions and accesses in a trace: the kinds of chunk, and what they hold (docs/trace-format.md).

A ``flow`` chunk is a piece as the CPU packed it (emu/native/flow.c); the blocks that it is the first to name stand in
the ``code`` chunk in front of it, the accesses that they made in the ``mems`` chunk behind it.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Any, Final

import numpy as np

from emu.trace import NR_ACCESS_COLUMNS, BlockCode, Column
from minikernel.trace.codec import TraceError

CODE, FLOW, ACCESSES, MAPS = b"code", b"flow", b"mems", b"maps"

MAX_BLOCKS: Final = 1 << 24
"""Blocks of one chunk, at most."""

_HEAD: Final = Struct("<IB3x")  # blocks, 1: their code follows
_SIZES: Final = Struct(f"<{NR_ACCESS_COLUMNS}I")
_KINDS: Final[tuple[np.dtype[Any], ...]] = (np.dtype("<u8"), np.dtype("<u2"), np.dtype("<u2"), np.dtype("u1"))
_ROW: Final = sum(kind.itemsize for kind in _KINDS)


def encode_code(blocks: BlockCode, *, with_code: bool) -> bytes:
    """The contents of a ``code`` chunk."""
    columns = blocks.address, blocks.size, blocks.icount, blocks.bits
    parts = [_HEAD.pack(len(blocks), with_code)]
    parts += [column.astype(kind).tobytes() for column, kind in zip(columns, _KINDS, strict=True)]
    return b"".join([*parts, blocks.code] if with_code else parts)


def decode_code(data: bytes) -> BlockCode:
    """The blocks of a ``code`` chunk; ``code`` is empty where it was not recorded.

    Raises:
        TraceError: these are not the contents of such a chunk.
    """
    if len(data) < _HEAD.size:
        raise TraceError("the code chunk is cut off")
    count, has_code = _HEAD.unpack_from(data)
    at = _HEAD.size
    if count > MAX_BLOCKS or has_code > 1 or len(data) < at + count * _ROW:
        raise TraceError(f"the code chunk does not hold {count} blocks")
    columns: list[Column] = []
    for kind in _KINDS:
        columns.append(np.frombuffer(data, kind, count, at))
        at += count * kind.itemsize
    address, size, icount, bits = columns
    code = data[at:]
    if len(code) != (int(size.sum(dtype=np.int64)) if has_code else 0):
        raise TraceError("the code chunk is not as long as its blocks")
    if not bool(np.isin(bits, (16, 32, 64)).all()) or bool((icount > size).any()) or bool((icount == 0).any()):
        raise TraceError("a block of code that cannot be")
    return BlockCode(address, size, icount, bits, code)


def encode_accesses(columns: Sequence[bytes]) -> bytes:
    """The contents of a ``mems`` chunk."""
    return b"".join([_SIZES.pack(*map(len, columns)), *columns])


def decode_accesses(data: bytes) -> tuple[bytes, Sequence[int]]:
    """The columns of a ``mems`` chunk, one behind the other, and their sizes.

    Raises:
        TraceError: these are not the contents of such a chunk.
    """
    if len(data) < _SIZES.size:
        raise TraceError("the accesses are cut off")
    return data[_SIZES.size :], _SIZES.unpack_from(data)
