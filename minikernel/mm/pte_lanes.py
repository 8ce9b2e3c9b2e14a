"""Whole tables of entries at once, as one long integer: a vector unit that costs no import.

Python's arithmetic on an integer of 4096 bytes takes about a microsecond, so a table of 512 entries, its lanes, is
write-protected and copied for fork in a tenth of the time of a loop; numpy is no faster, and loading it costs 60 ms.
A mask of some lanes, a 1 in the lowest bit of each, becomes a mask of all their bits by (mask << width) - mask.
"""

from array import array
from typing import Final

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_ADDR, Pfn

_BIT_RW: Final = 1  # bit numbers of PTE_*; P is bit 0
_BIT_A: Final = 5
_BIT_D: Final = 6
_BIT_SPECIAL: Final = 9


class TableLanes:
    """Operations on tables, or runs of entries in one, for one entry size."""

    __slots__ = ("_address_bits", "_code", "_ones", "_width")

    def __init__(self, entry_size: int) -> None:
        self._width = 8 * entry_size
        self._code = "Q" if entry_size == 8 else "I"
        count = PAGE_SIZE // entry_size
        self._ones = int.from_bytes((1).to_bytes(entry_size, "little") * count, "little")
        address_bits = PTE_ADDR & ((1 << self._width) - 1)
        self._address_bits = int.from_bytes(address_bits.to_bytes(entry_size, "little") * count, "little")

    def fork(self, table: bytes, *, wrprotect: bool) -> tuple[bytes, bytes, list[Pfn]] | None:
        """What parent and child have in place of *table*, and the frames of its present entries; None if it is empty.

        Present entries lose R/W on both sides if *wrprotect*, else D in the child, and A in the child; frames of
        special entries are left out.  Entries that are not present are copied as they are.
        """
        entries = int.from_bytes(table, "little")
        if not entries:
            return None
        size = len(table)
        present = entries & self._ones
        parent = entries
        cleared = present << _BIT_A
        if wrprotect:
            parent ^= entries & (present << _BIT_RW)
        else:
            cleared |= present << _BIT_D
        child = parent ^ (parent & cleared)
        mapped = present ^ (present & (entries >> _BIT_SPECIAL))
        frames = entries & self._address_bits & ((mapped << self._width) - mapped)
        column = array(self._code, (frames >> PAGE_SHIFT).to_bytes(size, "little"))
        pfns: list[Pfn] = [pfn for pfn in column.tolist() if pfn]  # type: ignore[misc]  # frame 0 is nobody's
        return parent.to_bytes(size, "little"), child.to_bytes(size, "little"), pfns
