"""Debugging information entries: the tree in .debug_info, versions 3 to 5, decoded as far as it is asked for.

DWARF 5, chapter 7.  Entries are found by their offset in the section, and each is decoded once.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

from minikernel.report.dwarf import names as n
from minikernel.report.dwarf.cursor import Cursor, DamagedError
from minikernel.report.dwarf.lists import Lists

_MAX_UNITS: Final = 1 << 16
_MAX_DIES: Final = 1 << 20  # of a unit
_MAX_ORIGINS: Final = 16
_DATA: Final = {0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1}  # data2, data4, data8, data1
_REFERENCES: Final = {0x11: 1, 0x12: 2, 0x13: 4, 0x14: 8}  # ref1 to ref8
_STRINGS: Final = {0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4}  # strx1 to strx4
_ADDRESSES: Final = {0x29: 1, 0x2A: 2, 0x2B: 3, 0x2C: 4}  # addrx1 to addrx4
_FIXED: Final = _DATA | _REFERENCES | _STRINGS | _ADDRESSES


class Kind(Enum):
    """The class of an attribute's value; DWARF 5, 7.5.5."""

    ADDRESS = "address"
    ADDRESS_INDEX = "index of .debug_addr"
    CONSTANT = "constant"
    BLOCK = "block or expression"
    STRING = "string"
    STRING_INDEX = "index of .debug_str_offsets"
    REFERENCE = "offset of an entry"
    LIST = "offset of a list"
    LIST_INDEX = "index of a list"
    UNKNOWN = "in a file that we have not"


@dataclass(frozen=True, slots=True)
class Value:
    """What an attribute says; which of the fields depends on *kind*."""

    kind: Kind
    number: int = 0
    data: bytes = b""
    text: str = ""


class Die:
    """One entry.  What it refers to and cannot be decoded is as if it were not there."""

    __slots__ = ("_children", "attributes", "end", "has_children", "offset", "tag", "unit")

    def __init__(
        self, unit: "Unit", offset: int, tag: int, attributes: dict[int, Value], end: int, *, has_children: bool
    ) -> None:
        self.unit = unit
        self.offset = offset
        self.tag = tag
        self.attributes = attributes
        self.end = end  # offset behind the attributes
        self.has_children = has_children
        self._children: list[Die] | None = None

    def own(self, attribute: int) -> Value | None:
        """The attribute of this very entry."""
        return self.attributes.get(attribute)

    def get(self, attribute: int) -> Value | None:
        """The attribute of this entry, or of the one that it is an instance or completion of."""
        die: Die | None = self
        for _ in range(_MAX_ORIGINS):
            if die is None:
                return None
            value = die.attributes.get(attribute)
            if value is not None:
                return value
            die = die.reference(n.AT_abstract_origin) or die.reference(n.AT_specification)
        return None

    @property
    def origin(self) -> "Die":
        """The entry that this one is an instance of; itself if of none."""
        die = self
        for _ in range(_MAX_ORIGINS):
            other = die.reference(n.AT_abstract_origin)
            if other is None:
                break
            die = other
        return die

    def reference(self, attribute: int) -> "Die | None":
        """The entry that the attribute of this one refers to."""
        value = self.attributes.get(attribute)
        return self.unit.debug.die(value.number) if value is not None and value.kind is Kind.REFERENCE else None

    @property
    def name(self) -> str:
        """Its name, or that of its origin; "" for none."""
        return self.text(n.AT_name)

    def text(self, attribute: int) -> str:
        """An attribute that is a text; "" if there is none."""
        value = self.get(attribute)
        if value is None:
            return ""
        if value.kind is Kind.STRING_INDEX:
            with suppress(DamagedError):
                return self.unit.indexed_string(value.number)
        return value.text

    def number(self, attribute: int, default: int = 0) -> int:
        """An attribute that is a constant."""
        value = self.get(attribute)
        return value.number if value is not None and value.kind is Kind.CONSTANT else default

    def flag(self, attribute: int) -> bool:
        """An attribute that is yes or no."""
        return bool(self.number(attribute))

    @property
    def type(self) -> "Die | None":
        """The entry of its type; None is void, or not said."""
        value = self.get(n.AT_type)
        return self.unit.debug.die(value.number) if value is not None and value.kind is Kind.REFERENCE else None

    @property
    def children(self) -> "list[Die]":
        """The entries below."""
        if self._children is None:
            self._children = []
            if self.has_children:
                with suppress(DamagedError):
                    self._children = self.unit.children_of(self)
        return self._children

    def address(self, attribute: int) -> int | None:
        """An attribute that is an address, as the file counts."""
        value = self.attributes.get(attribute)
        if value is None:
            return None
        if value.kind is Kind.ADDRESS_INDEX:
            with suppress(DamagedError):
                return self.unit.indexed_address(value.number)
        return value.number if value.kind is Kind.ADDRESS else None

    def ranges(self) -> list[tuple[int, int]]:
        """Where its code is: (first address, the one behind), as the file counts."""
        value = self.attributes.get(n.AT_ranges)
        if value is not None:
            with suppress(DamagedError):
                return self.unit.ranges(value)
            return []
        low, high = self.address(n.AT_low_pc), self.attributes.get(n.AT_high_pc)
        if low is None or high is None:
            return []
        if high.kind is Kind.CONSTANT:
            return [(low, low + high.number)]
        end = self.address(n.AT_high_pc)
        return [(low, end)] if end is not None else []

    def contains(self, vaddr: int) -> bool:
        """Whether the code at *vaddr* belongs to it."""
        return any(low <= vaddr < high for low, high in self.ranges())

    @property
    def entry_pc(self) -> int | None:
        """Its first instruction."""
        low = self.address(n.AT_low_pc)
        if low is not None:
            return low
        ranges = self.ranges()
        return ranges[0][0] if ranges else None


class Unit:
    """One compilation unit: what its entries need to be understood."""

    def __init__(self, debug: "Debug", offset: int) -> None:
        self.debug = debug
        self.offset = offset
        cursor = Cursor(debug.info, offset)
        length, self.offset_size = cursor.length()
        self.end = cursor.pos + length
        if self.end > len(debug.info) or length < 7:
            raise DamagedError("a unit beyond the section")
        self.version = cursor.number(2)
        self.kind = cursor.u8() if self.version >= 5 else 1
        if self.version >= 5:
            self.word = cursor.u8()
            at_abbreviations = cursor.number(self.offset_size)
            cursor.take({4: 8, 5: 8, 2: 8 + self.offset_size, 6: 8 + self.offset_size}.get(self.kind, 0))
        else:
            at_abbreviations = cursor.number(self.offset_size)
            self.word = cursor.u8()
        if not 2 <= self.version <= 5 or self.word not in {4, 8}:
            self.end = max(self.end, offset + 1)
            self._abbreviations: dict[int, _Abbreviation] = {}
        else:
            self._abbreviations = debug.abbreviations(at_abbreviations)
        self._first = cursor.pos
        self._dies: dict[int, Die | None] = {}
        self._intervals: list[tuple[int, int, Die]] | None = None

    # ---- entries

    @property
    def root(self) -> Die:
        """The entry of the unit itself.

        Raises:
            DamagedError.
        """
        die = self.at(self._first)
        if die is None:
            raise DamagedError("a unit without an entry")
        return die

    def at(self, offset: int) -> Die | None:
        """The entry at *offset* of the section; None for the end of a row of siblings."""
        if offset not in self._dies:
            if len(self._dies) > _MAX_DIES:
                raise DamagedError("too many entries")
            self._dies[offset] = self._decode(offset)
        return self._dies[offset]

    def _decode(self, offset: int) -> Die | None:
        if not self._first <= offset < self.end:
            raise DamagedError("an entry outside of its unit")
        cursor = Cursor(self.debug.info, offset, self.end)
        code = cursor.uleb()
        if not code:
            return None
        abbreviation = self._abbreviations.get(code)
        if abbreviation is None:
            raise DamagedError("an abbreviation that is not defined")
        attributes = {
            attribute: self._value(cursor, form, implicit) for attribute, form, implicit in abbreviation.attributes
        }
        return Die(self, offset, abbreviation.tag, attributes, cursor.pos, has_children=abbreviation.has_children)

    def children_of(self, parent: Die) -> list[Die]:
        """The entries below *parent*."""
        found = []
        at = parent.end
        while (child := self.at(at)) is not None:
            found.append(child)
            at = self._behind(child)
        return found

    def _behind(self, die: Die) -> int:
        """Where the entry behind *die* and all below it begins."""
        sibling = die.own(n.AT_sibling)
        if sibling is not None and sibling.kind is Kind.REFERENCE and die.end <= sibling.number <= self.end:
            return sibling.number
        at, depth = die.end, int(die.has_children)
        while depth:
            below = self.at(at)
            if below is None:
                depth -= 1
                at += 1
            else:
                at = below.end
                depth += below.has_children
        return at

    def functions(self) -> list[tuple[int, int, Die]]:
        """Its functions with code: (first address, the one behind, entry), ascending."""
        if self._intervals is None:
            self._intervals = sorted(
                (
                    (low, high, die)
                    for die in self.members()
                    if die.tag == n.TAG_subprogram
                    for low, high in die.ranges()
                ),
                key=lambda interval: interval[:2],
            )
        return self._intervals

    def members(self) -> Iterator[Die]:
        """The entries of the unit's own level, and those in its name spaces."""
        pending = [self.root]
        while pending:
            for die in pending.pop().children:
                yield die
                if die.tag in {n.TAG_namespace, n.TAG_module}:
                    pending.append(die)

    # ---- values

    def _value(self, cursor: Cursor, form: int, implicit: int) -> Value:
        if form in _FIXED:
            return self._fixed(form, cursor.number(_FIXED[form]))
        match form:
            case 0x01:
                return Value(Kind.ADDRESS, cursor.number(self.word))
            case 0x08:
                return Value(Kind.STRING, text=cursor.string())
            case 0x0E | 0x1F:  # strp, line_strp
                table = self.debug.strings if form == 0x0E else self.debug.line_strings
                offset = cursor.number(self.offset_size)
                return Value(Kind.STRING, text=Cursor(table, min(offset, len(table))).string())
            case 0x0D:
                return Value(Kind.CONSTANT, cursor.sleb())
            case 0x0F:
                return Value(Kind.CONSTANT, cursor.uleb())
            case 0x0C:
                return Value(Kind.CONSTANT, cursor.u8())
            case 0x19:
                return Value(Kind.CONSTANT, 1)
            case 0x21:
                return Value(Kind.CONSTANT, implicit)
            case 0x18 | 0x09:  # exprloc, block
                return Value(Kind.BLOCK, data=cursor.block(cursor.uleb()))
            case 0x0A | 0x03 | 0x04:  # block1, block2, block4
                return Value(Kind.BLOCK, data=cursor.block(cursor.number({0x0A: 1, 0x03: 2, 0x04: 4}[form])))
            case 0x1E:  # data16
                return Value(Kind.BLOCK, data=cursor.block(16))
            case 0x15:  # ref_udata
                return Value(Kind.REFERENCE, self.offset + cursor.uleb())
            case 0x10:  # ref_addr
                return Value(Kind.REFERENCE, cursor.number(self.offset_size if self.version > 2 else self.word))
            case 0x17:  # sec_offset
                return Value(Kind.LIST, cursor.number(self.offset_size))
            case 0x1A:
                return Value(Kind.STRING_INDEX, cursor.uleb())
            case 0x1B:
                return Value(Kind.ADDRESS_INDEX, cursor.uleb())
            case 0x22 | 0x23:  # loclistx, rnglistx
                return Value(Kind.LIST_INDEX, cursor.uleb())
            case 0x16:  # indirect
                form = cursor.uleb()
                if form in {0x16, 0x21}:
                    raise DamagedError("a form that is indirect twice")
                return self._value(cursor, form, 0)
            case 0x20:  # ref_sig8
                return Value(Kind.UNKNOWN, cursor.number(8))
            case 0x1C | 0x24:  # ref_sup4, ref_sup8
                return Value(Kind.UNKNOWN, cursor.number(4 if form == 0x1C else 8))
            case 0x1D | 0x1F20 | 0x1F21:  # strp_sup, GNU_ref_alt, GNU_strp_alt
                return Value(Kind.UNKNOWN, cursor.number(self.offset_size))
        raise DamagedError(f"a form {form:#x} that is not defined")

    def _fixed(self, form: int, number: int) -> Value:
        if form in _DATA:
            # Up to version 3 the offsets of lists have the forms of constants; they are told apart where they are used.
            return Value(Kind.CONSTANT, number)
        if form in _REFERENCES:
            return Value(Kind.REFERENCE, self.offset + number)
        return Value(Kind.STRING_INDEX if form in _STRINGS else Kind.ADDRESS_INDEX, number)

    def _base(self, attribute: int) -> int:
        value = self.root.own(attribute)
        return value.number if value is not None else 0

    def indexed_string(self, index: int) -> str:
        """String *index* of the unit."""
        table = self.debug.section(".debug_str_offsets")
        at = self._base(n.AT_str_offsets_base) + index * self.offset_size
        offset = Cursor(table, min(at, len(table))).number(self.offset_size)
        return Cursor(self.debug.strings, min(offset, len(self.debug.strings))).string()

    def indexed_address(self, index: int) -> int:
        """Address *index* of the unit."""
        table = self.debug.section(".debug_addr")
        return Cursor(table, min(self._base(n.AT_addr_base) + index * self.word, len(table))).number(self.word)

    @property
    def low_pc(self) -> int:
        """What its lists count from."""
        return self.root.address(n.AT_low_pc) or 0

    def ranges(self, value: Value) -> list[tuple[int, int]]:
        """The addresses in the list that *value* names."""
        lists = Lists(self.word, self.low_pc, self.indexed_address)
        if self.version >= 5:
            table = self.debug.section(".debug_rnglists")
            return lists.ranges5(table, self._list_offset(value, table, n.AT_rnglists_base))
        return lists.ranges4(self.debug.section(".debug_ranges"), value.number)

    def location(self, value: Value, vaddr: int) -> bytes | None:
        """The expression in the location list that *value* names, for code at *vaddr*; None: there is none then."""
        lists = Lists(self.word, self.low_pc, self.indexed_address)
        if self.version >= 5:
            table = self.debug.section(".debug_loclists")
            return lists.location5(table, self._list_offset(value, table, n.AT_loclists_base), vaddr)
        return lists.location4(self.debug.section(".debug_loc"), value.number, vaddr)

    def _list_offset(self, value: Value, table: bytes, attribute: int) -> int:
        if value.kind is not Kind.LIST_INDEX:
            return value.number
        base = self._base(attribute)
        return base + Cursor(table, min(base + value.number * self.offset_size, len(table))).number(self.offset_size)


@dataclass(frozen=True, slots=True)
class _Abbreviation:
    """The shape of an entry: (attribute, form, value of an implicit constant)."""

    tag: int
    has_children: bool
    attributes: tuple[tuple[int, int, int], ...]


class Debug:
    """The debugging information of one file, by the contents of its sections."""

    def __init__(self, contents: Callable[[str], bytes]) -> None:
        self._contents = contents
        self._sections: dict[str, bytes] = {}
        self.info = self.section(".debug_info")
        self.strings = self.section(".debug_str")
        self.line_strings = self.section(".debug_line_str")
        self._abbreviations: dict[int, dict[int, _Abbreviation]] = {}
        self.units: list[Unit] = []
        self._starts: list[int] = []
        self._find_units()
        self._intervals: list[tuple[int, int, Unit]] | None = None

    def section(self, name: str) -> bytes:
        """The contents of a section; nothing if there is none."""
        if name not in self._sections:
            self._sections[name] = self._contents(name)
        return self._sections[name]

    def _find_units(self) -> None:
        at = 0
        while at < len(self.info) and len(self.units) < _MAX_UNITS:
            try:
                unit = Unit(self, at)
            except DamagedError:
                break
            self.units.append(unit)
            at = unit.end
        self._starts = [unit.offset for unit in self.units]

    def abbreviations(self, at: int) -> dict[int, _Abbreviation]:
        """The table at offset *at* of .debug_abbrev."""
        if at not in self._abbreviations:
            self._abbreviations[at] = _abbreviations(Cursor(self.section(".debug_abbrev"), at))
        return self._abbreviations[at]

    def die(self, offset: int) -> Die | None:
        """The entry at *offset*; None if there is none."""
        at = bisect_right(self._starts, offset) - 1
        with suppress(DamagedError):
            return self.units[at].at(offset) if at >= 0 else None
        return None

    def unit_of(self, vaddr: int) -> Unit | None:
        """The unit whose code contains *vaddr*."""
        if self._intervals is None:
            self._intervals = []
            for unit in self.units:
                try:
                    self._intervals += [(low, high, unit) for low, high in unit.root.ranges()]
                except DamagedError:
                    continue
            self._intervals.sort(key=lambda interval: interval[:2])
        at = bisect_right(self._intervals, vaddr, key=lambda interval: interval[0]) - 1
        # Units may be interleaved, but hardly are: the one that began last, and a few before.
        for low, high, unit in reversed(self._intervals[max(at - 8, 0) : at + 1]):
            if low <= vaddr < high:
                return unit
        return None


def _abbreviations(cursor: Cursor) -> dict[int, _Abbreviation]:
    found = {}
    while code := cursor.uleb():
        tag, has_children = cursor.uleb(), bool(cursor.u8())
        attributes = []
        while True:
            attribute, form = cursor.uleb(), cursor.uleb()
            implicit = cursor.sleb() if form == 0x21 else 0
            if not attribute and not form:
                break
            attributes.append((attribute, form, implicit))
        found[code] = _Abbreviation(tag, has_children, tuple(attributes))
    return found
