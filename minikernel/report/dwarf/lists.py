"""Range lists and location lists: .debug_ranges and .debug_loc, .debug_rnglists and .debug_loclists.

DWARF 4, 2.17.3 and 2.6.2; DWARF 5, 7.25, 7.28 and 7.29.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from minikernel.report.dwarf.cursor import Cursor, DamagedError

_MAX_ENTRIES: Final = 1 << 16
_DEFAULT_LOCATION: Final = 5
_VIEW_PAIR: Final = 9


@dataclass(frozen=True, slots=True)
class Lists:
    """How the lists of a unit are to be read: they count from *base* at first."""

    word: int
    base: int
    indexed: Callable[[int], int]

    def ranges4(self, table: bytes, at: int) -> list[tuple[int, int]]:
        """The ranges at offset *at* of .debug_ranges."""
        return [(low, high) for low, high, _ in self._pairs(Cursor(table, min(at, len(table))), blocks=False)]

    def location4(self, table: bytes, at: int, vaddr: int) -> bytes | None:
        """The expression for *vaddr* in the list at offset *at* of .debug_loc."""
        for low, high, expression in self._pairs(Cursor(table, min(at, len(table))), blocks=True):
            if low <= vaddr < high:
                return expression
        return None

    def _pairs(self, cursor: Cursor, *, blocks: bool) -> Iterator[tuple[int, int, bytes]]:
        word, base = self.word, self.base
        highest = (1 << 8 * word) - 1
        for _ in range(_MAX_ENTRIES):
            low, high = cursor.number(word), cursor.number(word)
            if low == highest:
                base = high
                continue
            if not low and not high:
                return
            yield base + low, base + high, cursor.block(cursor.number(2)) if blocks else b""

    def ranges5(self, table: bytes, at: int) -> list[tuple[int, int]]:
        """The ranges at offset *at* of .debug_rnglists."""
        cursor = Cursor(table, min(at, len(table)))
        # The codes are those of location lists without 5, the default location.
        return [
            (low, high)
            for low, high, _ in self._entries(cursor, lambda code: code if code < _DEFAULT_LOCATION else code + 1)
            if low != high
        ]

    def location5(self, table: bytes, at: int, vaddr: int) -> bytes | None:
        """The expression for *vaddr* in the list at offset *at* of .debug_loclists."""
        default = None
        for low, high, code in self._entries(Cursor(table, min(at, len(table))), None):
            if code is None:
                continue
            if low < 0:
                default = code
            elif low <= vaddr < high:
                return code
        return default

    def _entries(
        self, cursor: Cursor, renumber: Callable[[int], int] | None
    ) -> Iterator[tuple[int, int, bytes | None]]:
        """(start, end, expression); a start below 0 is the default location."""
        base, word = self.base, self.word
        for _ in range(_MAX_ENTRIES):
            code = cursor.u8()
            kind = renumber(code) if renumber is not None else code
            low, high = 0, 0
            match kind:
                case 0:
                    return
                case 1:
                    base = self.indexed(cursor.uleb())
                    continue
                case 2:
                    low, high = self.indexed(cursor.uleb()), self.indexed(cursor.uleb())
                case 3:
                    low = self.indexed(cursor.uleb())
                    high = low + cursor.uleb()
                case 4:
                    low, high = base + cursor.uleb(), base + cursor.uleb()
                case 5:
                    low = high = -1
                case 6:
                    base = cursor.number(word)
                    continue
                case 7:
                    low, high = cursor.number(word), cursor.number(word)
                case 8:
                    low = cursor.number(word)
                    high = low + cursor.uleb()
                case 9 if renumber is None:  # GNU_view_pair: which of the instructions at one address
                    cursor.uleb(), cursor.uleb()
                    continue
                case _:
                    raise DamagedError(f"an entry {code} that no list has")
            yield low, high, cursor.block(cursor.uleb()) if renumber is None else None
