"""A place in the bytes of a section, and the numbers and strings that DWARF writes there.  DWARF 5, 7.6."""

from typing import Final

DWARF64: Final = 0xFFFF_FFFF  # a length that says: the true one follows in eight bytes


class DamagedError(ValueError):
    """The bytes are not what the format says."""


class Cursor:
    """A place in bytes that moves on as it is read, and never beyond *end*."""

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, pos: int, end: int | None = None) -> None:
        self.data = data
        self.pos = pos
        self.end = len(data) if end is None else min(end, len(data))

    def take(self, size: int) -> int:
        """Step over *size* bytes; where they begin."""
        at = self.pos
        if not 0 <= size <= self.end - at:
            raise DamagedError("cut off")
        self.pos = at + size
        return at

    def u8(self) -> int:
        """A byte."""
        return self.data[self.take(1)]

    def number(self, size: int, *, signed: bool = False) -> int:
        """A number of *size* bytes."""
        at = self.take(size)
        return int.from_bytes(self.data[at : at + size], "little", signed=signed)

    def block(self, size: int) -> bytes:
        """*size* bytes."""
        at = self.take(size)
        return self.data[at : at + size]

    def uleb(self) -> int:
        """An unsigned LEB128."""
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 70:
                raise DamagedError("a number of more than ten bytes")

    def sleb(self) -> int:
        """A signed LEB128."""
        start = self.pos
        value = self.uleb()
        bits = 7 * (self.pos - start)
        return value - (1 << bits) if value >> (bits - 1) & 1 else value

    def string(self) -> str:
        """A text up to its NUL."""
        end = self.data.find(b"\0", self.pos, self.end)
        if end < 0:
            raise DamagedError("a string without an end")
        at, self.pos = self.pos, end + 1
        return self.data[at:end].decode(errors="backslashreplace")

    def length(self) -> tuple[int, int]:
        """An initial length: the bytes that follow it, and the size of an offset (4 or 8)."""
        length = self.number(4)
        return (self.number(8), 8) if length == DWARF64 else (length, 4)
