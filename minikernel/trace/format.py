"""The file: a signature, then chunks, each with its checksum (docs/trace-format.md).

A file grows chunk by chunk, so what a crash leaves is a whole trace without its end.  That is read to its last whole
chunk; a file with anything wrong in it is refused with one line that says where and why.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any, Final, Self

import zstandard

from minikernel.trace.codec import TraceError

TRACE_VERSION: Final = 2
MAGIC: Final = b"\x89MKTRACE\r\n\x1a\n"
MAX_CONTENTS: Final = 64 << 20
"""Bytes of one chunk's contents, at most: what a reader allocates for it."""

HEADER, EVENTS, DIGEST, INPUT, NOTES, INDEX, END = (b"HEAD", b"EVNT", b"DGST", b"INPT", b"NOTE", b"INDX", b"TEND")
DOORS, FILE = b"door", b"file"
KNOWN: Final = frozenset({HEADER, EVENTS, DIGEST, INPUT, NOTES, INDEX, END, DOORS, FILE})
"""The kinds that this reader understands.  Of others, those whose first letter is a small one may be skipped: without
them the rest still means what it says."""

_VERSION: Final = Struct("<HH")
_CHUNK: Final = Struct("<4sQIIIB3x8s")  # kind, first icount, items, stored size, size, method, checksum
_INDEX_ENTRY: Final = Struct("<Q4sQI")
_END: Final = Struct("<QQ")  # where the index is; chunks before it
_START: Final = len(MAGIC) + _VERSION.size
_END_SIZE: Final = _CHUNK.size + _END.size
_STORED, _ZSTD = 0, 1
_SMALL: Final = 64  # bytes that are not worth compressing
_LEVEL: Final = 3  # of zstd: for columns of events as fast as 1, and a third smaller than zlib's


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where a chunk is, and what it begins with."""

    offset: int  # bytes from the start of the file
    kind: bytes
    icount: int  # of its first item
    items: int


def _checksum(head: bytes, stored: bytes) -> bytes:
    digest = blake2b(head, digest_size=8)
    digest.update(stored)
    return digest.digest()


class Writer:
    """Writes a trace to *path*, chunk by chunk, each with one write.

    Raises:
        OSError: from every method, when the host cannot.
    """

    def __init__(self, path: str, header: dict[str, Any]) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._at = 0
        self._index: list[Chunk] = []
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL)
        try:
            self._write(MAGIC + _VERSION.pack(TRACE_VERSION, 0))
            self.add(HEADER, 0, 1, to_json(header))
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._at

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]
        self._at += len(data)

    def add(self, kind: bytes, icount: int, items: int, contents: bytes) -> None:
        """Append a chunk."""
        assert len(contents) <= MAX_CONTENTS, "Writer.add: a chunk that no reader would take"
        stored, method = contents, _STORED
        if len(contents) > _SMALL:
            packed = self._zstd.compress(contents)
            if len(packed) < len(contents):
                stored, method = packed, _ZSTD
        fields = (kind, icount, items, len(stored), len(contents), method)
        head = _CHUNK.pack(*fields, _checksum(_CHUNK.pack(*fields, bytes(8)), stored))
        chunk = Chunk(self._at, kind, icount, items)
        self._write(head + stored)
        self._index.append(chunk)

    def finish(self) -> None:
        """Append the index and the end, and close the file."""
        at, chunks = self._at, list(self._index)
        entries = b"".join(_INDEX_ENTRY.pack(c.offset, c.kind, c.icount, c.items) for c in chunks)
        try:
            self.add(INDEX, 0, len(chunks), entries)
            self.add(END, 0, 0, _END.pack(at, len(chunks)))
        finally:
            self.close()

    def close(self) -> None:
        """Close the file as it is."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class Reader:
    """The chunks of the trace at *path*.

    Attributes:
        header: what to run, and how.
        complete: the trace has its end; otherwise its recorder was killed, and ``chunks`` are what there is.

    Raises:
        TraceError: from everything, when the file is damaged, of a newer version, or no trace.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._zstd = zstandard.ZstdDecompressor()
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115, PTH123 - closed by close(); no pathlib
            self._size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise TraceError(f"{path}: {error.strerror}") from None
        try:
            self._check_signature()
            self.chunks, self.complete = self._find_chunks()
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _wrong(self, offset: int, why: str) -> TraceError:
        return TraceError(f"{self.path}: byte {offset}: {why}")

    def _pread(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            raise self._wrong(offset, str(error.strerror)) from None

    def _check_signature(self) -> None:
        start = self._pread(_START, 0)
        if start[: len(MAGIC)] != MAGIC[: len(start)] or len(start) < len(MAGIC):
            raise self._wrong(0, "this is no trace")
        if len(start) < _START:
            raise self._wrong(len(start), "the file ends inside its signature")
        version, _ = _VERSION.unpack(start[len(MAGIC) :])
        if version != TRACE_VERSION:
            age = "a newer" if version > TRACE_VERSION else "an older"
            raise self._wrong(
                len(MAGIC), f"version {version} of the format, {age} one: this minikernel reads {TRACE_VERSION}"
            )

    def _head(self, offset: int) -> tuple[bytes, tuple[bytes, int, int, int, int, int, bytes]] | None:
        """The head of the chunk at *offset*; None if the file ends in the chunk."""
        head = self._pread(_CHUNK.size, offset)
        if len(head) < _CHUNK.size:
            return None
        fields = _CHUNK.unpack(head)
        kind, _, _, stored, size, method, _ = fields
        if kind not in KNOWN and not is_skippable(kind):
            raise self._wrong(offset, f"a chunk of the unknown kind {kind!r}")
        if max(size, stored) > MAX_CONTENTS or method not in {_STORED, _ZSTD}:
            raise self._wrong(offset, "the head of the chunk is damaged")
        return (head, fields) if offset + _CHUNK.size + stored <= self._size else None

    def look_again(self) -> bool:
        """Find what was added to the file since; whether there was something."""
        before = self._size, len(self.chunks), self.complete
        self._size = os.fstat(self._file.fileno()).st_size
        if self._size != before[0]:
            self.chunks, self.complete = self._find_chunks()
        return (self._size, len(self.chunks), self.complete) != before

    def _find_chunks(self) -> tuple[list[Chunk], bool]:
        """By the index if there is an end, otherwise from chunk to chunk."""
        indexed = self._by_index()
        if indexed is not None:
            return indexed, True
        chunks: list[Chunk] = []
        offset = _START
        while (found := self._head(offset)) is not None:
            kind, icount, items, stored, _, _, _ = found[1]
            chunk = Chunk(offset, kind, icount, items)
            if kind == END:
                raise self._wrong(offset, "the end of the trace, in the middle of the file")
            chunks.append(chunk)
            offset += _CHUNK.size + stored
        return [chunk for chunk in chunks if chunk.kind != INDEX], False

    def _by_index(self) -> list[Chunk] | None:
        """The chunks that the index lists; None if the file has no end."""
        at = self._size - _END_SIZE
        if at < _START or self._pread(4, at) != END:
            return None
        end = Chunk(at, END, 0, 0)
        contents = self.contents(end)
        if len(contents) != _END.size:
            raise self._wrong(at, "the end of the trace is damaged")
        index_at, count = _END.unpack(contents)
        if not _START <= index_at < at:
            raise self._wrong(at, "the end of the trace is damaged")
        entries = self.contents(Chunk(index_at, INDEX, 0, count))
        if len(entries) != count * _INDEX_ENTRY.size:
            raise self._wrong(index_at, "the index is damaged")
        return [Chunk(*fields) for fields in _INDEX_ENTRY.iter_unpack(entries)]

    def _read_header(self) -> dict[str, Any]:
        if not self.chunks or self.chunks[0].kind != HEADER:
            raise self._wrong(_START, "the header is missing or cut off")
        header = self.json(self.chunks[0])
        if not isinstance(header, dict):
            raise self._wrong(self.chunks[0].offset, "the header is not an object")
        return header

    def contents(self, chunk: Chunk) -> bytes:
        """What *chunk* holds, checked."""
        found = self._head(chunk.offset)
        if found is None:
            raise self._wrong(chunk.offset, "the chunk is cut off")
        head, (kind, icount, items, stored_size, size, method, checksum) = found
        if kind != chunk.kind or (kind not in {INDEX, END} and (icount, items) != (chunk.icount, chunk.items)):
            raise self._wrong(chunk.offset, "the chunk is not the one that the index lists")
        stored = self._pread(stored_size, chunk.offset + _CHUNK.size)
        if _checksum(head[:-8] + bytes(8), stored) != checksum:
            raise self._wrong(chunk.offset, f"the checksum of the {kind.decode()} chunk is wrong")
        data = stored if method == _STORED else self._unpack(chunk, stored, size)
        if len(data) != size:
            raise self._wrong(chunk.offset, f"the {kind.decode()} chunk has {len(data)} bytes instead of {size}")
        return data

    def _unpack(self, chunk: Chunk, stored: bytes, size: int) -> bytes:
        """The contents of a compressed chunk; no more than *size* bytes are made, whatever the frame promises."""
        kind = chunk.kind.decode()
        try:
            promised = zstandard.frame_content_size(stored)
            if promised not in {-1, size}:
                raise self._wrong(chunk.offset, f"the {kind} chunk has {promised} bytes instead of {size}")
            return self._zstd.decompress(stored, max_output_size=size, allow_extra_data=False)
        except zstandard.ZstdError:
            raise self._wrong(chunk.offset, f"the {kind} chunk does not unpack") from None

    def json(self, chunk: Chunk) -> Any:
        """What *chunk* holds, as JSON."""
        try:
            return json.loads(self.contents(chunk))
        except (ValueError, RecursionError):
            raise self._wrong(chunk.offset, f"the {chunk.kind.decode()} chunk is not JSON") from None

    def of_kind(self, kind: bytes) -> Iterator[Chunk]:
        """The chunks of one kind."""
        return (chunk for chunk in self.chunks if chunk.kind == kind)


def is_skippable(kind: bytes) -> bool:
    """Whether a reader that does not know *kind* may go on without it: four letters, the first a small one."""
    return kind.isalpha() and kind[:1].islower()


def to_json(value: Any) -> bytes:
    """*value* as compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()
