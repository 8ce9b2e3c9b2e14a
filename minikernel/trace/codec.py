"""Events as columns of numbers, and back: what is inside an ``EVNT`` chunk (docs/trace-format.md).

A batch is turned over column by column, so that most of the work is done by C code of the interpreter: about a
microsecond an event.  Whatever is wrong with bytes that are decoded, the answer is a TraceError, and what is
allocated stays within the limits below.
"""

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from itertools import accumulate, chain, islice
from operator import attrgetter, sub
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias, get_origin

from minikernel import events as ev
from minikernel.events import Event, field_types

MAX_EVENTS: Final = 1 << 20
"""Events of one chunk, at most."""

_MAX_NUMBERS: Final = 1 << 22  # of one column
_EVENT_TYPES: Final[tuple[type[Event], ...]] = (
    *(ev.PageFaultUser, ev.MmFaultResolved, ev.MmFaultFailed, ev.SysEnter, ev.SysExit, ev.SignalGenerate),
    *(
        ev.SignalDeliver,
        ev.SchedSwitch,
        ev.SchedProcessFork,
        ev.SchedProcessExec,
        ev.SchedProcessExit,
        ev.MmapRegion,
        ev.MmVmscan,
        ev.MmSwapOut,
        ev.OomKill,
        ev.HostSignal,
    ),
)
_COUNT: Final = Struct("<I")
_enum_value: Final = attrgetter("_value_")  # Enum.value is a property in Python: four times as slow
_SIZES: Final = {"B": 1, "H": 2, "I": 4, "Q": 8, "b": 1, "h": 2, "i": 4, "q": 8}
_UNSIGNED: Final = (("B", 1 << 8), ("H", 1 << 16), ("I", 1 << 32), ("Q", 1 << 64))
_SIGNED: Final = (("b", 1 << 7), ("h", 1 << 15), ("i", 1 << 31), ("q", 1 << 63))

Told: TypeAlias = tuple[int, int, Event]
"""What a sink hears: (instruction count, pid, event)."""


class SignalsAt(NamedTuple):
    """Signals of the host: the number of their event (from 1), instruction count, the signals."""

    number: int
    icount: int
    sigs: tuple[int, ...]


def signals_among(events: Iterable[Told], *, start: int = 0) -> list[SignalsAt]:
    """The signals of the host among *events*, the first of which is number *start* + 1."""
    return [
        SignalsAt(number, icount, event.sigs)
        for number, (icount, _, event) in enumerate(events, start + 1)
        if type(event) is ev.HostSignal
    ]


class TraceError(Exception):
    """A trace cannot be read or written; the message is one line."""


class EventType:
    """How the events of one class are stored: the class, and each field's name and kind."""

    __slots__ = ("cls", "fields", "get", "name")

    def __init__(self, cls: type[Event]) -> None:
        self.cls = cls
        self.name = cls.name
        self.fields = [(name, _kind(annotation)) for name, annotation in field_types(cls).items()]
        names = [name for name, _ in self.fields]
        getter = attrgetter(*names)
        self.get: Callable[[Event], tuple[Any, ...]] = getter if len(names) > 1 else lambda event: (getter(event),)


def _kind(annotation: object) -> str:
    """How values of a field are stored: ``int``, ``bool``, ``str``, ``ints`` or an Enum of strings."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "enum"
    if annotation is bool or annotation is str:
        return "bool" if annotation is bool else "str"
    return "ints" if get_origin(annotation) is tuple else "int"


OUR_TYPES: Final = tuple(EventType(cls) for cls in _EVENT_TYPES)


def schema(types: Sequence[EventType] = OUR_TYPES) -> list[list[Any]]:
    """What the header says about the events: ``[name, [[field, kind], ...]]`` each, in the order of their numbers."""
    return [[kind.name, [list(field) for field in kind.fields]] for kind in types]


def types_of(recorded: object) -> tuple[EventType, ...]:
    """The types that a header's *recorded* schema lists.

    Raises:
        TraceError: one is unknown here, or has other fields.
    """
    ours = {kind.name: kind for kind in OUR_TYPES}
    if not isinstance(recorded, list):
        raise TraceError("the header lists no events")
    found = []
    for entry in recorded:
        name = entry[0] if isinstance(entry, list) and entry else None
        kind = ours.get(name) if isinstance(name, str) else None
        if kind is None or [name, [list(field) for field in kind.fields]] != entry:
            raise TraceError(f"event {str(name)[:40]!r} is not one of this version's: record the program again")
        found.append(kind)
    return tuple(found)


# ---- columns of numbers


def _put_column(out: list[bytes], values: Sequence[int]) -> None:
    """One code, a count, and the numbers in the narrowest form that holds them all."""
    low, high = (min(values), max(values)) if values else (0, 0)
    header = _COUNT.pack(len(values))
    if low == high and _SIGNED[-1][1] > low >= -_SIGNED[-1][1]:
        out += (b"C", header, low.to_bytes(8, "little", signed=True))
        return
    ranks = _UNSIGNED if low >= 0 else _SIGNED
    code = next((code for code, limit in ranks if high < limit and (low >= 0 or -limit <= low)), None)
    if code is None:  # nothing of ours; but a number is never cut off
        text = b" ".join(b"%d" % value for value in values)
        out += (b"S", header, _COUNT.pack(len(text)), text)
        return
    data = array(code, values)
    if sys.byteorder == "big":
        data.byteswap()
    out += (code.encode(), header, data.tobytes())


def _put_strings(out: list[bytes], values: Sequence[str]) -> None:
    """The different strings, then a column of their numbers."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(values))}
    table = [text.encode("utf-8", "surrogatepass") for text in numbers]
    _put_column(out, [len(data) for data in table])
    out += table
    _put_column(out, list(map(numbers.__getitem__, values)))


class _Bytes:
    """A cursor in the contents of a chunk."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next *size* bytes."""
        data = self._data[self._at : self._at + size]
        if len(data) != size:
            raise TraceError(f"the contents end at byte {len(self._data)}, inside a column")
        self._at += size
        return data

    def count(self) -> int:
        """The next number of 32 bits."""
        return int(_COUNT.unpack(self.take(4))[0])

    def column(self, expected: int | None = None) -> list[int]:
        """The next column, which has *expected* numbers."""
        code, count = self.take(1).decode("latin-1"), self.count()
        if count > _MAX_NUMBERS or expected not in {None, count}:
            raise TraceError(f"a column of {count} numbers where {expected} belong")
        if code == "C":
            return [int.from_bytes(self.take(8), "little", signed=True)] * count
        if code == "S":
            return _decimals(self.take(self.count()), count)
        if code not in _SIZES:
            raise TraceError(f"a column of the unknown kind {code!r}")
        data = array(code)
        data.frombytes(self._column_bytes(code, count))
        if sys.byteorder == "big":
            data.byteswap()
        return data.tolist()

    def _column_bytes(self, code: str, count: int) -> bytes:
        return self.take(_SIZES[code] * count)

    def strings(self, count: int) -> list[str]:
        """The next column of *count* strings."""
        lengths = self.column()
        if any(length < 0 for length in lengths):
            raise TraceError("a string of negative length")
        try:
            table = [self.take(length).decode("utf-8", "surrogatepass") for length in lengths]
        except UnicodeDecodeError:
            raise TraceError("a string is not UTF-8") from None
        numbers = self.column(count)
        if numbers and not 0 <= min(numbers) <= max(numbers) < len(table):
            raise TraceError("a string that is not in the table")
        return [table[number] for number in numbers]

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._data):
            raise TraceError(f"{len(self._data) - self._at} bytes too many")


def _decimals(text: bytes, count: int) -> list[int]:
    try:
        values = [int(word) for word in text.split(b" ")] if text else []
    except ValueError:
        raise TraceError("a column of decimals with something else in it") from None
    if len(values) != count:
        raise TraceError(f"a column of {len(values)} numbers where {count} belong")
    return values


# ---- batches of events


def encode_events(batch: Sequence[Told], types: Sequence[EventType] = OUR_TYPES) -> bytes:
    """The contents of a chunk for *batch*, at most MAX_EVENTS events."""
    assert len(batch) <= MAX_EVENTS, "encode_events: a batch that no reader would take"
    numbers = {kind.cls: number for number, kind in enumerate(types)}
    icounts, pids, told = zip(*batch, strict=True) if batch else ((), (), ())
    kinds = [numbers[type(event)] for event in told]
    out: list[bytes] = [_COUNT.pack(len(batch))]
    _put_column(out, kinds)
    _put_column(out, [*icounts[:1], *map(sub, icounts[1:], icounts)])
    _put_column(out, pids)
    groups: dict[int, list[Event]] = {number: [] for number in set(kinds)}
    put = {number: group.append for number, group in groups.items()}  # looked up once, not for each event
    for number, event in zip(kinds, told, strict=True):
        put[number](event)
    for number in sorted(groups):
        kind = types[number]
        rows = zip(*map(kind.get, groups[number]), strict=True)
        for (_, form), values in zip(kind.fields, rows, strict=True):
            _put_values(out, form, values)
    return b"".join(out)


def _put_values(out: list[bytes], form: str, values: tuple[Any, ...]) -> None:
    if form == "str":
        _put_strings(out, values)
    elif form == "enum":
        _put_strings(out, list(map(_enum_value, values)))
    elif form == "ints":
        _put_column(out, list(map(len, values)))
        _put_column(out, list(chain.from_iterable(values)))
    else:
        _put_column(out, values)


def decode_events(data: bytes, types: Sequence[EventType] = OUR_TYPES) -> list[Told]:
    """The events of a chunk.

    Raises:
        TraceError: these are not the contents of such a chunk.
    """
    source = _Bytes(data)
    count = source.count()
    if count > MAX_EVENTS:
        raise TraceError(f"a chunk of {count} events")
    kinds = source.column(count)
    icounts = accumulate(source.column(count))
    pids = source.column(count)
    if kinds and not 0 <= min(kinds) <= max(kinds) < len(types):
        raise TraceError("an event of a type that the header does not list")
    streams: dict[int, Iterator[Event]] = {}
    for number in sorted(set(kinds)):
        kind, size = types[number], kinds.count(number)
        columns = [_values(source, form, kind.cls, name, size) for name, form in kind.fields]
        streams[number] = map(kind.cls, *columns)
    source.end()
    told = [next(streams[number]) for number in kinds]
    return list(zip(icounts, pids, told, strict=True))


def _values(source: _Bytes, form: str, cls: type[Event], name: str, count: int) -> Iterable[Any]:
    if form == "str":
        return source.strings(count)
    if form == "enum":
        enum = field_types(cls)[name]
        assert isinstance(enum, type), "decode_events: an enum field without its type"
        try:
            return [enum(text) for text in source.strings(count)]
        except ValueError as error:
            raise TraceError(str(error)) from None
    if form == "ints":
        lengths = source.column(count)
        if any(length < 0 for length in lengths) or sum(lengths) > _MAX_NUMBERS:
            raise TraceError("a list of an impossible length")
        flat = iter(source.column(sum(lengths)))
        return [tuple(islice(flat, length)) for length in lengths]
    numbers = source.column(count)
    if form == "bool":
        if not set(numbers) <= {0, 1}:
            raise TraceError("a truth value that is neither 0 nor 1")
        return [bool(number) for number in numbers]
    return numbers
