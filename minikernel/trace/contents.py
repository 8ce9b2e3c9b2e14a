"""The contents of the host's files: stored in a trace by content, or looked for on this host again.

A ``file`` chunk is a piece of PIECE bytes, the last one shorter; its head's instruction count is the content's number.
The same bytes have one number, whatever files hold them.
"""

import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

from minikernel.trace.codec import TraceError
from minikernel.trace.format import FILE, Chunk, Reader, Writer

PIECE: Final = 1 << 20
_CACHED: Final = 32  # pieces


def hash_of(fd: int) -> tuple[str, int]:
    """The sha256 and the size of what is behind *fd*, whose position stays.  Raises OSError."""
    digest, size = sha256(), 0
    for piece in _pieces(fd):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _pieces(fd: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(fd, PIECE, at):
        yield piece
        at += len(piece)


class Packer:
    """Writes contents, each once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def add(self, writer: Writer, fd: int, known: dict[str, Any]) -> None:
        """Store what is behind *fd*, of which *known* has size and hash; it gets the content's number.

        Raises:
            OSError: the host cannot read, or write.
        """
        number = self._numbers.get(known["sha256"])
        if number is None:
            number = len(self._numbers)
            self._numbers[known["sha256"]] = number
            digest, size = sha256(), 0
            for piece in _pieces(fd):
                writer.add(FILE, number, 1, piece)
                digest.update(piece)
                size += len(piece)
            if digest.hexdigest() != known["sha256"]:  # it changes while we look: what we have is what counts
                known["sha256"], known["size"] = digest.hexdigest(), size
        known["content"] = number


class PackedContents:
    """The contents that a trace holds."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._pieces: dict[int, list[Chunk]] = {}
        for chunk in reader.of_kind(FILE):
            self._pieces.setdefault(chunk.icount, []).append(chunk)
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def whole(self, known: dict[str, Any]) -> Iterator[bytes]:
        """All of it, piece by piece."""
        for index in range(len(self._pieces.get(known["content"], ()))):
            yield self._piece(known["content"], index)

    def read(self, door: int, path: bytes, known: dict[str, Any], count: int, offset: int) -> bytes:
        """Up to *count* bytes at *offset*."""
        del door, path
        parts = []
        end = min(offset + count, known["size"])
        while offset < end:
            index, at = divmod(offset, PIECE)
            part = self._piece(known["content"], index)[at : at + end - offset]
            if not part:
                raise TraceError(f"{self._reader.path}: content {known['content']} is not whole")
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _piece(self, number: int, index: int) -> bytes:
        piece = self._cache.get((number, index))
        if piece is not None:
            self._cache.move_to_end((number, index))
            return piece
        chunks = self._pieces.get(number, [])
        if index >= len(chunks):
            raise TraceError(f"{self._reader.path}: content {number} is not whole")
        piece = self._reader.contents(chunks[index])
        self._cache[number, index] = piece
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return piece


class HostContents:
    """The same files, found on this host below *roots* (one for each door), as long as they are what they were."""

    def __init__(self, roots: list[bytes]) -> None:
        self._roots = roots
        self._open: dict[tuple[int, bytes], int] = {}

    def name(self, door: int, path: bytes) -> bytes:
        """Where the file is on this host."""
        return (self._roots[door].rstrip(b"/") if door < len(self._roots) else b"") + path

    def problem(self, door: int, path: bytes, known: dict[str, Any]) -> str:
        """Why the file cannot be used, in a word or two; "" if it can."""
        try:
            fd = os.open(self.name(door, path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            return (error.strerror or "gone").lower()
        if not stat.S_ISREG(os.fstat(fd).st_mode) or hash_of(fd)[0] != known.get("sha256"):
            os.close(fd)
            return "not the file it was"
        self._open[door, path] = fd
        return ""

    def read(self, door: int, path: bytes, known: dict[str, Any], count: int, offset: int) -> bytes:
        """Up to *count* bytes at *offset*."""
        if (door, path) not in self._open:
            why = self.problem(door, path, known)
            if why:
                raise TraceError(f"{os.fsdecode(self.name(door, path))} is needed: {why}")
        return os.pread(self._open[door, path], count, offset)

    def close(self) -> None:
        """Close what is open."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
