"""Call-frame information: where a function has put its caller's registers.  DWARF 5, 6.4; LSB core 5.0, 10.6.

.eh_frame is in nearly every executable, stripped or not; .eh_frame_hdr is a sorted index of it, so that one function of
a large library is found without reading all of it.  .debug_frame is the same for compilers that make no .eh_frame.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from minikernel.report.dwarf.cursor import Cursor, DamagedError

_MAX_ENTRIES: Final = 1 << 18  # of a section without an index
_MAX_ROWS: Final = 1 << 14  # of a function
_OMIT: Final = 0xFF
_INDIRECT: Final = 0x80
_FIXED: Final = {
    0x02: (2, False),
    0x03: (4, False),
    0x04: (8, False),
    0x0A: (2, True),
    0x0B: (4, True),
    0x0C: (8, True),
}
_BINARY_SEARCH: Final = 0x3B  # datarel, sdata4: pairs of 32-bit offsets from the header


class How(Enum):
    """Where the value is that a register had in the caller."""

    UNDEFINED = "undefined"  # nowhere
    SAME = "same"  # in the register
    OFFSET = "offset"  # in memory at CFA + operand
    VAL_OFFSET = "value offset"  # it is CFA + operand
    REGISTER = "register"  # in another register
    EXPRESSION = "expression"  # in memory, at what the operand computes
    VAL_EXPRESSION = "value expression"  # it is what the operand computes


@dataclass(frozen=True, slots=True)
class Rule:
    """How to find one register; the operand is a number or a DWARF expression."""

    how: How
    operand: int = 0
    expression: bytes = b""


@dataclass(frozen=True, slots=True)
class Row:
    """What holds from the address *start* on.  CFA: *cfa_register* + *cfa_offset*, or *cfa_expression* if not empty."""

    start: int
    cfa_register: int
    cfa_offset: int
    cfa_expression: bytes
    rules: dict[int, Rule]


@dataclass(frozen=True, slots=True)
class Cie:
    """What the functions of a file have in common."""

    code_align: int
    data_align: int
    return_register: int
    encoding: int  # of the addresses in FDEs
    augmented: bool
    signal: bool  # the code is where a signal handler returns to
    instructions: bytes
    word: int


@dataclass(slots=True)
class Fde:
    """The description of the code from *start* to *end*, as the file counts."""

    start: int
    end: int
    cie: Cie
    instructions: bytes
    _rows: list[Row] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)

    def row(self, vaddr: int) -> Row:
        """What holds at *vaddr*.

        Raises:
            DamagedError.
        """
        if not self._rows:
            self._rows = _Rows(self).all()
            self._starts = [row.start for row in self._rows]
        return self._rows[max(bisect_right(self._starts, vaddr) - 1, 0)]


@dataclass(frozen=True, slots=True)
class Blob:
    """The contents of a section, and where they are in memory as the file counts."""

    vaddr: int
    data: bytes


class CallFrames:
    """The call-frame information of one file."""

    def __init__(self, word: int, eh_frame: Blob, header: Blob, debug_frame: bytes) -> None:
        self._word = word
        self._eh = _Section(word, eh_frame, eh=True)
        self._debug = _Section(word, Blob(0, debug_frame), eh=False)
        self._header = header
        self._pairs = _sorted_pairs(header)

    def find(self, vaddr: int) -> Fde | None:
        """The description of the function that contains *vaddr*."""
        for find in (self._find_by_header, self._eh.find, self._debug.find):
            try:
                found = find(vaddr)
            except DamagedError:
                continue
            if found is not None:
                return found
        return None

    def _find_by_header(self, vaddr: int) -> Fde | None:
        """By binary search in .eh_frame_hdr."""
        if self._pairs is None:
            return None
        at, count = self._pairs
        base, data = self._header.vaddr, self._header.data

        def number(where: int) -> int:
            return base + int.from_bytes(data[where : where + 4], "little", signed=True)

        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if number(at + 8 * middle) <= vaddr:
                low = middle + 1
            else:
                high = middle
        if not low:
            return None
        fde = self._eh.fde(number(at + 8 * low - 4) - self._eh.blob.vaddr)
        return fde if fde is not None and fde.start <= vaddr < fde.end else None


def _sorted_pairs(header: Blob) -> tuple[int, int] | None:
    """Where the table of .eh_frame_hdr begins, and its length; None: there is none that can be searched."""
    cursor = Cursor(header.data, 0)
    try:
        version, frame_encoding, count_encoding, encoding = (cursor.u8() for _ in range(4))
        if version != 1 or encoding != _BINARY_SEARCH or count_encoding not in {0x02, 0x03, 0x04}:
            return None
        cursor.take(8 if frame_encoding & 0xF in {0x04, 0x0C} else 4)
        count = cursor.number(_FIXED[count_encoding][0])
    except DamagedError:
        return None
    return cursor.pos, min(count, (len(header.data) - cursor.pos) // 8)


class _Section:
    """The entries of .eh_frame (*eh*) or .debug_frame."""

    def __init__(self, word: int, blob: Blob, *, eh: bool) -> None:
        self.blob = blob
        self._word = word
        self._eh = eh
        self._cies: dict[int, Cie] = {}
        self._fdes: dict[int, Fde | None] = {}
        self._index: tuple[list[int], list[Fde]] | None = None

    def find(self, vaddr: int) -> Fde | None:
        """The entry for *vaddr*, by an index of all that is made once."""
        if self._index is None:
            fdes = sorted(self._all(), key=lambda fde: fde.start)
            self._index = [fde.start for fde in fdes], fdes
        starts, fdes = self._index
        at = bisect_right(starts, vaddr) - 1
        return fdes[at] if at >= 0 and vaddr < fdes[at].end else None

    def _all(self) -> list[Fde]:
        found = []
        at = 0
        for _ in range(_MAX_ENTRIES):
            try:
                cursor, following, _, _ = self._head(at)
            except DamagedError:
                break
            if cursor.pos == following:
                at = following  # a terminator; those of several files may follow each other
                continue
            try:
                fde = self.fde(at)
            except DamagedError:
                fde = None
            if fde is not None:
                found.append(fde)
            at = following
        return found

    def _head(self, at: int) -> tuple[Cursor, int, int, int]:
        """A cursor behind the length and the id of the entry at *at*, where the next is, and what the id refers to.

        That is the offset of the CIE, or -1 for a CIE; last the offset's size.
        """
        cursor = Cursor(self.blob.data, at)
        if not 0 <= at < len(self.blob.data):
            raise DamagedError("an entry outside of its section")
        length, size = cursor.length()
        following = cursor.pos + length
        if following > len(self.blob.data):
            raise DamagedError("an entry beyond its section")
        if not length:
            return cursor, following, -1, size
        cursor.end = following
        here = cursor.pos
        if self._eh:
            size = 4
        number = cursor.number(size)
        if self._eh:
            return cursor, following, here - number if number else -1, size
        return cursor, following, number if number != (1 << 8 * size) - 1 else -1, size

    def fde(self, at: int) -> Fde | None:
        """The entry at *at*; None if it is a CIE."""
        if at not in self._fdes:
            self._fdes[at] = self._decode_fde(at)
        return self._fdes[at]

    def _decode_fde(self, at: int) -> Fde | None:
        cursor, _, at_cie, _ = self._head(at)
        if at_cie < 0:
            return None
        cie = self._cie(at_cie)
        start = self._pointer(cursor, cie.encoding)
        size = self._pointer(cursor, cie.encoding & 0xF)
        if cie.augmented:
            cursor.take(cursor.uleb())
        return Fde(start, start + size, cie, cursor.block(cursor.end - cursor.pos))

    def _cie(self, at: int) -> Cie:
        cie = self._cies.get(at)
        if cie is None:
            cie = self._cies[at] = self._decode_cie(at)
        return cie

    def _decode_cie(self, at: int) -> Cie:
        cursor, _, at_cie, _ = self._head(at)
        if at_cie >= 0:
            raise DamagedError("an FDE where a CIE should be")
        version = cursor.u8()
        augmentation = cursor.string()
        if version >= 4:
            cursor.take(2)  # sizes of addresses and segment selectors
        code_align, data_align = cursor.uleb(), cursor.sleb()
        return_register = cursor.u8() if version == 1 else cursor.uleb()
        encoding = 0
        if augmentation[:1] == "z":
            end = cursor.uleb() + cursor.pos
            for letter in augmentation[1:]:
                if letter == "R":
                    encoding = cursor.u8()
                elif letter == "L":
                    cursor.u8()
                elif letter == "P":
                    self._pointer(cursor, cursor.u8())
                elif letter not in "SB":
                    break  # the length says where the instructions begin
            cursor.pos = end
        elif augmentation:
            raise DamagedError(f"an augmentation {augmentation[:8]!r} that cannot be stepped over")
        code = cursor.block(cursor.end - cursor.pos)
        augmented = augmentation[:1] == "z"
        return Cie(code_align, data_align, return_register, encoding, augmented, "S" in augmentation, code, self._word)

    def _pointer(self, cursor: Cursor, encoding: int) -> int:
        """An address; one that has to be read from memory is only stepped over, for we need none."""
        if encoding == _OMIT:
            return 0
        here = self.blob.vaddr + cursor.pos
        kind = encoding & 0xF
        if kind in {0x00, 0x08}:
            value = cursor.number(self._word, signed=kind == 0x08)
        elif kind == 0x01:
            value = cursor.uleb()
        elif kind == 0x09:
            value = cursor.sleb()
        elif kind in _FIXED:
            size, signed = _FIXED[kind]
            value = cursor.number(size, signed=signed)
        else:
            raise DamagedError(f"an address encoding {encoding:#x} that is not defined")
        relative = encoding & 0x70
        if relative not in {0x00, 0x10} and not encoding & _INDIRECT:
            raise DamagedError(f"an address encoding {encoding:#x} that x86 does not use")
        return (value + here if relative == 0x10 else value) & ((1 << 8 * self._word) - 1)


class _Rows:
    """Executes the instructions of one FDE."""

    def __init__(self, fde: Fde) -> None:
        self._fde = fde
        self._cie = fde.cie
        self._start = fde.start
        self._cfa: tuple[int, int, bytes] = (0, 0, b"")
        self._rules: dict[int, Rule] = {}
        self._initial: dict[int, Rule] = {}
        self._stack: list[tuple[tuple[int, int, bytes], dict[int, Rule]]] = []
        self._rows: list[Row] = []

    def all(self) -> list[Row]:
        """The rows, ascending."""
        self._run(self._cie.instructions)
        self._initial = dict(self._rules)
        self._run(self._fde.instructions)
        self._row()
        return self._rows

    def _row(self) -> None:
        if len(self._rows) >= _MAX_ROWS:
            raise DamagedError("too many rows")
        self._rows.append(Row(self._start, *self._cfa, dict(self._rules)))

    def _advance(self, delta: int) -> None:
        self._row()
        self._start += delta * self._cie.code_align

    def _run(self, code: bytes) -> None:
        cursor = Cursor(code, 0)
        while cursor.pos < cursor.end:
            op = cursor.u8()
            low = op & 0x3F
            match op >> 6:
                case 1:
                    self._advance(low)
                case 2:
                    self._rules[low] = Rule(How.OFFSET, cursor.uleb() * self._cie.data_align)
                case 3:
                    self._restore(low)
                case _:
                    self._extended(op, cursor)

    def _restore(self, register: int) -> None:
        rule = self._initial.get(register)
        if rule is None:
            self._rules.pop(register, None)
        else:
            self._rules[register] = rule

    def _extended(self, op: int, cursor: Cursor) -> None:
        """The instructions without an operand in the opcode."""
        align = self._cie.data_align
        register, offset, _ = self._cfa
        match op:
            case 0x00:  # nop
                pass
            case 0x01:  # set_loc
                self._row()
                self._start = cursor.number(self._cie.word)
            case 0x02 | 0x03 | 0x04:  # advance_loc1, 2, 4
                self._advance(cursor.number(1 << (op - 2)))
            case 0x06:  # restore_extended
                self._restore(cursor.uleb())
            case 0x0A:  # remember_state
                self._stack.append((self._cfa, dict(self._rules)))
            case 0x0B:  # restore_state
                if not self._stack:
                    raise DamagedError("a state that was not remembered")
                self._cfa, self._rules = self._stack.pop()
            case 0x0C:  # def_cfa
                self._cfa = cursor.uleb(), cursor.uleb(), b""
            case 0x0D:  # def_cfa_register
                self._cfa = cursor.uleb(), offset, b""
            case 0x0E:  # def_cfa_offset
                self._cfa = register, cursor.uleb(), b""
            case 0x0F:  # def_cfa_expression
                self._cfa = 0, 0, cursor.block(cursor.uleb())
            case 0x12:  # def_cfa_sf
                self._cfa = cursor.uleb(), cursor.sleb() * align, b""
            case 0x13:  # def_cfa_offset_sf
                self._cfa = register, cursor.sleb() * align, b""
            case 0x2E:  # GNU_args_size
                cursor.uleb()
            case _:
                self._rule(op, cursor.uleb(), cursor)

    def _rule(self, op: int, register: int, cursor: Cursor) -> None:
        """The instructions that say where *register* is."""
        align = self._cie.data_align
        match op:
            case 0x05:  # offset_extended
                rule = Rule(How.OFFSET, cursor.uleb() * align)
            case 0x07:
                rule = Rule(How.UNDEFINED)
            case 0x08:
                rule = Rule(How.SAME)
            case 0x09:
                rule = Rule(How.REGISTER, cursor.uleb())
            case 0x10:
                rule = Rule(How.EXPRESSION, 0, cursor.block(cursor.uleb()))
            case 0x11:  # offset_extended_sf
                rule = Rule(How.OFFSET, cursor.sleb() * align)
            case 0x14:
                rule = Rule(How.VAL_OFFSET, cursor.uleb() * align)
            case 0x15:  # val_offset_sf
                rule = Rule(How.VAL_OFFSET, cursor.sleb() * align)
            case 0x16:
                rule = Rule(How.VAL_EXPRESSION, 0, cursor.block(cursor.uleb()))
            case 0x2F:  # GNU_negative_offset_extended
                rule = Rule(How.OFFSET, -cursor.uleb() * align)
            case _:
                raise DamagedError(f"a call-frame instruction {op:#x} that is not defined")
        self._rules[register] = rule
