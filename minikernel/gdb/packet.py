"""Packets of the remote serial protocol: ``$payload#checksum``, escapes, acknowledgements, the interrupt byte.

What comes in may be anything: it is cut into items or thrown away, never believed.  Source: the gdb manual, appendix
"gdb Remote Serial Protocol": Overview, Interrupts, Packet Acknowledgment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

PACKET_SIZE: Final = 0x20000  # bytes between $ and # that we take: what qSupported promises
INTERRUPT: Final = 0x03
_ESCAPE: Final = 0x7D  # '}': the next byte comes XORed
_ESCAPE_XOR: Final = 0x20
_REPEAT: Final = 0x2A  # '*': run-length encoding
_RUN_BIAS: Final = 29
_START: Final = 0x24  # '$'
_END: Final = 0x23  # '#'
_MUST_ESCAPE: Final = {code: bytes((_ESCAPE, code ^ _ESCAPE_XOR)) for code in (_START, _END, _ESCAPE, _REPEAT)}
_HEX: Final = b"0123456789abcdefABCDEF"


class Mark(Enum):
    """What else may come between packets."""

    ACK = "+"
    NAK = "-"
    INTERRUPT = "\x03"
    BAD = "bad"  # a packet whose checksum is wrong, or that is too long: to be sent again


@dataclass(frozen=True, slots=True)
class Packet:
    """A payload whose checksum was right, escapes and runs undone."""

    payload: bytes


def checksum(body: bytes) -> int:
    """The sum of the bytes between $ and #, modulo 256."""
    return sum(body) & 0xFF


def escape(data: bytes) -> bytes:
    """*data* as the binary part of a payload."""
    return b"".join(_MUST_ESCAPE.get(code, bytes((code,))) for code in data) if _special(data) else data


def _special(data: bytes) -> bool:
    return any(bytes((code,)) in data for code in _MUST_ESCAPE)


def escaped_prefix(data: bytes, limit: int) -> tuple[bytes, int]:
    """As much of *data*, escaped, as fits into *limit* bytes, and how many bytes of it that is."""
    piece = data[:limit]
    while len(escaped := escape(piece)) > limit:
        piece = piece[: max(len(piece) - (len(escaped) - limit), 0)]
    return escaped, len(piece)


def encode(payload: bytes) -> bytes:
    """The packet of *payload*, whose binary parts are escaped already."""
    return b"$%b#%02x" % (payload, checksum(payload))


def unescape(body: bytes) -> bytes | None:
    """*body* without escapes and runs; None if it is malformed or grows beyond PACKET_SIZE."""
    if bytes((_ESCAPE,)) not in body and bytes((_REPEAT,)) not in body:
        return body
    out = bytearray()
    codes = iter(body)
    for code in codes:
        if code == _ESCAPE:
            follower = next(codes, None)
            if follower is None:
                return None
            out.append(follower ^ _ESCAPE_XOR)
        elif code == _REPEAT:
            count = next(codes, 0) - _RUN_BIAS
            if count < 1 or not out or len(out) + count > PACKET_SIZE:
                return None
            out += out[-1:] * count
        else:
            out.append(code)
    return bytes(out)


class Decoder:
    """Cuts a stream of bytes into packets and marks.

    Invariant: what is kept for the next bytes is never longer than the longest packet.
    """

    def __init__(self) -> None:
        self._kept = bytearray()
        self._skipping = False  # in a packet that is too long

    def feed(self, data: bytes) -> Iterator[Packet | Mark]:
        """What *data* completes, in its order."""
        kept = self._kept
        kept += data
        while kept:
            if self._skipping:
                if not self._skip():
                    return
                yield Mark.BAD
            elif kept[0] == _START:
                item = self._packet()
                if item is not None:
                    yield item
                elif not self._skipping:
                    return
            else:
                code = kept.pop(0)
                if code in _MARKS:
                    yield _MARKS[code]

    def _packet(self) -> Packet | Mark | None:
        """The packet at the start of what is kept; None if it is not complete."""
        kept = self._kept
        end = kept.find(_END, 1)
        length = end if end >= 0 else len(kept)
        again = kept.find(_START, 1, length)
        if again > 0:  # the sender gave the packet up and began another
            del kept[:again]
            return Mark.BAD
        if length > PACKET_SIZE + 1:
            self._skipping = True
            return None
        if end < 0 or len(kept) < end + 3:
            return None
        body, digits = bytes(kept[1:end]), bytes(kept[end + 1 : end + 3])
        del kept[: end + 3]
        good = all(digit in _HEX for digit in digits) and int(digits, 16) == checksum(body)
        payload = unescape(body) if good else None
        return Mark.BAD if payload is None else Packet(payload)

    def _skip(self) -> bool:
        """Throw away what belongs to a packet that is too long; whether its end has come."""
        end = self._kept.find(_END)
        if end < 0:
            self._kept.clear()
        elif len(self._kept) >= end + 3:
            del self._kept[: end + 3]
            self._skipping = False
            return True
        return False


_MARKS: Final = {ord("+"): Mark.ACK, ord("-"): Mark.NAK, INTERRUPT: Mark.INTERRUPT}
