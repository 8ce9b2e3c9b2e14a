"""The small notations inside payloads: hexadecimal numbers and strings, thread ids, lists of fields."""

from dataclasses import dataclass

ALL = -1  # every thread, every process
ANY = 0


class BadPacket(Exception):  # noqa: N818 - it is what the packet is
    """A payload that is not what its kind wants; the answer is E01."""


@dataclass(frozen=True, slots=True)
class ThreadId:
    """``pPID.TID``: either may be ALL or ANY."""

    pid: int
    tid: int

    def __str__(self) -> str:
        return f"p{_signed(self.pid)}.{_signed(self.tid)}"


def _signed(value: int) -> str:
    return "-1" if value == ALL else f"{value:x}"


def number(text: bytes) -> int:
    """A hexadecimal number, at most 64 bits.

    Raises:
        BadPacket.
    """
    if not 0 < len(text) <= 16 or any(code not in b"0123456789abcdefABCDEF" for code in text):
        raise BadPacket(f"not a number: {text[:32]!r}")
    return int(text, 16)


def id_part(text: bytes) -> int:
    """A process or thread number; -1 is ALL."""
    return ALL if text == b"-1" else number(text)


def thread_id(text: bytes) -> ThreadId:
    """``pPID.TID``, ``pPID`` (all its threads) or ``TID`` (of any process)."""
    if text[:1] != b"p":
        return ThreadId(ANY if text != b"-1" else ALL, id_part(text))
    pid, dot, tid = text[1:].partition(b".")
    return ThreadId(id_part(pid), id_part(tid) if dot else ALL)


def pair(text: bytes, by: bytes = b",") -> tuple[int, int]:
    """Two numbers: ``ADDRESS,LENGTH``."""
    first, _, second = text.partition(by)
    return number(first), number(second)


def unhex(text: bytes) -> bytes:
    """The bytes of pairs of digits.

    Raises:
        BadPacket.
    """
    try:
        return bytes.fromhex(text.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        raise BadPacket(f"not hexadecimal: {text[:32]!r}") from None


def to_hex(data: bytes) -> bytes:
    """Pairs of digits."""
    return data.hex().encode()
