"""Names for addresses in a trace: what was mapped where when, and the symbols of those files."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np

from emu.trace import Column
from minikernel.trace.codec import TraceError
from minikernel.trace.flow import MAPS
from minikernel.trace.format import Reader

_MAX_GAP: Final = 1 << 16  # a symbol without a size does not name what lies further behind it
_LIMIT: Final = 1 << 64
_PID_SHIFT: Final = np.uint64(44)  # in a word with an instruction count below it


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping that has a name."""

    start: int
    end: int
    offset: int  # in the file, bytes
    prot: int  # 1 read, 2 write, 4 execute
    name: str


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity: its hash is asked for with each address
class Snapshot:
    """What was mapped in task *pid* from instruction *icount* on, in the order of addresses."""

    icount: int
    pid: int
    comm: str
    mappings: tuple[Mapping, ...]


class Places:
    """The mappings and symbols of the trace behind *reader*.

    Raises:
        TraceError: they are damaged.
    """

    def __init__(self, reader: Reader) -> None:
        self.snapshots: list[Snapshot] = []
        self._symbols: dict[str, list[tuple[int, int, str]]] = {}  # by file: (offset, size, name)
        for chunk in reader.of_kind(MAPS):
            for entry in _list(reader.json(chunk)):
                try:
                    self._add(entry)
                except (TypeError, ValueError, KeyError, AttributeError):
                    raise TraceError(f"{reader.path}: byte {chunk.offset}: the mappings are damaged") from None
        self._by_pid: dict[int, list[Snapshot]] = {}
        for snapshot in self.snapshots:
            self._by_pid.setdefault(snapshot.pid, []).append(snapshot)
        self._starts = {pid: [snapshot.icount for snapshot in found] for pid, found in self._by_pid.items()}
        self.name = lru_cache(maxsize=1 << 16)(self._name)

    def _add(self, entry: dict[str, Any]) -> None:
        mappings = []
        for start, end, offset, prot, name in entry["maps"]:
            if not 0 <= _number(start) < _number(end) <= _LIMIT or not isinstance(name, str):
                raise ValueError(name)
            mappings.append(Mapping(start, end, _number(offset), _number(prot), name))
        if any(low.end > high.start for low, high in pairwise(mappings)):
            raise ValueError("mappings that overlap")
        for file, symbols in entry["symbols"].items():
            self._symbols[file] = sorted((_number(at), _number(size), str(name)) for at, size, name in symbols)
        self.snapshots.append(
            Snapshot(_number(entry["icount"]), _number(entry["pid"]), str(entry["comm"]), tuple(mappings))
        )

    def snapshot(self, pid: int, icount: int) -> Snapshot | None:
        """What was mapped in task *pid* when *icount* instructions had retired."""
        at = bisect_right(self._starts.get(pid, []), icount) - 1
        return self._by_pid[pid][at] if at >= 0 else None

    def mapping(self, pid: int, icount: int, address: int) -> Mapping | None:
        """The mapping of *address* then; None: one without a name, or none at all."""
        snapshot = self.snapshot(pid, icount)
        return _find(snapshot, address) if snapshot is not None else None

    def snapshots_of(self, pid: Column, icount: Column) -> Column:
        """For each row, the number in ``snapshots`` of what was mapped then, of equal ones the first; -1: none."""
        order = sorted(range(len(self.snapshots)), key=lambda n: (self.snapshots[n].pid, self.snapshots[n].icount))
        if not order:
            return np.full(len(pid), -1, np.int64)
        first: dict[tuple[Mapping, ...], int] = {}
        same = np.array([first.setdefault(self.snapshots[n].mappings, n) for n in order])
        pids = np.array([self.snapshots[n].pid for n in order], np.uint64)
        keys = pids << _PID_SHIFT | np.array([self.snapshots[n].icount for n in order], np.uint64)
        at = np.searchsorted(keys, pid.astype(np.uint64) << _PID_SHIFT | icount, side="right") - 1
        return np.where((at >= 0) & (pids[at] == pid), same[at], -1)

    def describe(self, pid: int, icount: int, address: int) -> str:
        """``symbol+0x4``, ``libc.so.6+0x1234`` or nothing."""
        snapshot = self.snapshot(pid, icount)
        return joined(self.name(snapshot, address)) if snapshot is not None else ""

    def _name(self, snapshot: Snapshot, address: int) -> tuple[str, int]:
        """The name of the symbol, or else of the mapping, that *address* lies in, and how far behind its start."""
        mapping = _find(snapshot, address)
        if mapping is None:
            return "", 0
        offset = address - mapping.start + mapping.offset
        table = self._symbols.get(mapping.name, [])
        at = bisect_right(table, (offset, _LIMIT, "")) - 1
        if at >= 0 and offset - table[at][0] < (table[at][1] or _MAX_GAP):
            return table[at][2], offset - table[at][0]
        return mapping.name.rsplit("/", 1)[-1], offset

    def symbol_ranges(self, name: str) -> list[tuple[int, int]]:
        """Every range of addresses, in whichever task, at which *name* ever was."""
        found = {
            (mapping.start + at - mapping.offset, mapping.start + at - mapping.offset + max(size, 1))
            for snapshot in self.snapshots
            for mapping in snapshot.mappings
            for at, size, symbol in self._symbols.get(mapping.name, ())
            if symbol == name and mapping.offset <= at < mapping.offset + mapping.end - mapping.start
        }
        return sorted(found)


def joined(name: tuple[str, int]) -> str:
    """What ``Places.name`` found, as text."""
    return f"{name[0]}+{name[1]:#x}" if name[1] else name[0]


def _find(snapshot: Snapshot, address: int) -> Mapping | None:
    at = bisect_right(snapshot.mappings, address, key=lambda mapping: mapping.start) - 1
    return snapshot.mappings[at] if at >= 0 and address < snapshot.mappings[at].end else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a number")
    return value
