"""Memory of a process for the debugger: read without touching it, searched, summed; kdb/poke.py writes it."""

from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.report.peek import peek

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct

_CHUNK: Final = 1 << 16
_POLYNOMIAL: Final = 0x04C1_1DB7
_TOP: Final = 1 << 31
_MAX_SPAN: Final = 1 << 30  # bytes that one search or sum may go through


def crc32(mm: "MmStruct", address: int, length: int) -> int | None:
    """Gdb's CRC over memory: the polynomial of CRC-32, most significant bit first, from all ones; None: unreadable."""
    if length > _MAX_SPAN:
        return None
    table = _crc_table()
    crc = 0xFFFF_FFFF
    for at in range(address, address + length, _CHUNK):
        size = min(_CHUNK, address + length - at)
        data = peek(mm, at, size)
        if len(data) < size:
            return None
        for byte in data:
            crc = (crc << 8 & 0xFFFF_FFFF) ^ table[(crc >> 24 ^ byte) & 0xFF]
    return crc


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = crc << 1 ^ _POLYNOMIAL if crc & _TOP else crc << 1
        table.append(crc & 0xFFFF_FFFF)
    return table


def search(mm: "MmStruct", address: int, length: int, pattern: bytes) -> int | None:
    """The first place of *pattern* in [address, address + length); None: nowhere before memory ends.

    Raises:
        LinuxError (EFAULT): nothing can be read at *address*.
    """
    end = address + min(length, _MAX_SPAN)
    if length and not peek(mm, address, 1):
        raise LinuxError(Errno.EFAULT, f"{address:#x}")
    while address < end:
        size = min(_CHUNK + len(pattern), end - address)
        data = peek(mm, address, size)
        at = data.find(pattern)
        if at >= 0:
            return address + at
        if len(data) < size or size <= _CHUNK:
            return None
        address += _CHUNK
    return None
