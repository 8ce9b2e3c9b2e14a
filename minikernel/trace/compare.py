"""Two runs beside each other, event by event, and the first difference in words."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from minikernel.trace.codec import Told
from minikernel.trace.digest import take_digest
from minikernel.trace.inputs import TraceOver
from minikernel.trace.text import line
from minikernel.trace.trace import Trace

if TYPE_CHECKING:
    from minikernel.kernel import Kernel

CONTEXT: Final = 3  # equal events to show before the first that is not
_RIP: Final = 16  # among Cpu.regs
_HEX: Final = 1 << 16  # numbers from here on are likelier addresses


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two runs part."""

    number: int  # of the event, from 1
    first: Told | None  # None: that run is over
    second: Told | None
    before: tuple[Told, ...]  # the last equal events
    state: tuple[str, ...] = ()  # what a digest says differs, when the events do not
    where: str = ""  # what the second run was doing
    entry: str = ""  # the page-table entry of the second event's address

    def text(self, names: tuple[str, str] = ("recorded", "now")) -> str:
        """Some lines, without a line feed at the end."""
        told = self.second or self.first
        at = f" (instruction {told[0]}, process {told[1]})" if told is not None else ""
        width = max(len(name) for name in names)
        lines = [
            f"the runs differ after event {self.number}{at}: their state, not their events"
            if self.state
            else f"the runs differ at event {self.number}{at}"
        ]
        lines += [f"  {'':<{width}} {line(event)}" for event in self.before]
        if self.state:
            lines += [f"  differs: {words}" for words in self.state]
        else:
            ends = "(the run is over)"
            lines += [
                f"  {name:<{width}} {line(event) if event is not None else ends}"
                for name, event in zip(names, (self.first, self.second), strict=True)
            ]
            lines += [f"  differs: {words}" for words in differing(self.first, self.second)]
        if self.where:
            lines.append(f"  doing:   {self.where}")
        if self.entry:
            lines.append(f"  page table: {self.entry}")
        return "\n".join(lines)


def differing(first: Told | None, second: Told | None) -> list[str]:
    """Which fields of two events are not the same."""
    if first is None or second is None:
        return []
    words = []
    if first[0] != second[0]:
        words.append(f"instruction {first[0]} and {second[0]} ({second[0] - first[0]:+})")
    if first[1] != second[1]:
        words.append(f"process {first[1]} and {second[1]}")
    if type(first[2]) is not type(second[2]):
        return [*words, f"event {first[2].name} and {second[2].name}"]
    for name in first[2].__struct_fields__:
        ours, theirs = getattr(first[2], name), getattr(second[2], name)
        if ours != theirs:
            words += _field_words(name, ours, theirs)
    return words


def _field_words(name: str, ours: Any, theirs: Any) -> list[str]:
    if isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs):
        return [
            f"{name}[{index}] {_shown(a)} and {_shown(b)}"
            for index, (a, b) in enumerate(zip(ours, theirs, strict=True))
            if a != b
        ]
    return [f"{name} {_shown(ours)} and {_shown(theirs)}"]


def _shown(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    return hex(value) if type(value) is int and value >= _HEX else ascii(value)


class Diverged(Exception):  # noqa: N818 - the name says it all
    """Ends a run that has left the recorded one."""


class Comparer:
    """A sink that compares what it hears with recorded events and digests, and ends the run at the first difference.

    *open_end*: the record stops somewhere in the middle of its run.
    """

    def __init__(self, kernel: "Kernel", trace: Trace, *, open_end: bool = False) -> None:
        self._kernel = kernel
        self._recorded = trace.events()
        digests = trace.digests()
        self._digests = deque(digests)
        self._open_end = open_end
        self._before: deque[Told] = deque(maxlen=CONTEXT)
        self._next_digest = digests[0].after if digests else -1
        self.events = 0  # equal so far
        self.digests = 0  # the same
        self.divergence: Divergence | None = None

    def __call__(self, icount: int, pid: int, event: Any) -> None:
        """Compare it.

        Raises:
            Diverged: it is not what was recorded.
            TraceOver: nothing more was.
        """
        expected = next(self._recorded, None)
        told = (icount, pid, event)
        if told != expected:
            if expected is None and self._open_end:
                raise TraceOver
            self._diverge(expected, told)
        self._before.append(told)
        self.events += 1
        if self.events == self._next_digest:
            self._compare_state()

    def _compare_state(self) -> None:
        recorded = self._digests.popleft()
        self._next_digest = self._digests[0].after if self._digests else -1
        state = recorded.differences(take_digest(self._kernel, self.events))
        if state:
            told = self._before.pop()
            before = (*self._before, told)
            self.divergence = Divergence(self.events, told, told, before, tuple(state), self._where())
            raise Diverged
        self.digests += 1

    def _diverge(self, expected: Told | None, told: Told) -> None:
        self.divergence = Divergence(
            self.events + 1, expected, told, tuple(self._before), where=self._where(), entry=self._entry(told)
        )
        raise Diverged

    def finish(self) -> None:
        """The run is over: the record has to be, too."""
        expected = next(self._recorded, None)
        if expected is not None:
            self.divergence = Divergence(self.events + 1, expected, None, tuple(self._before))

    def _where(self) -> str:
        """Where the task in the CPU is: address, function, source line."""
        task = self._kernel.current
        if task is None or not task.has_mm:
            return ""
        from minikernel.report.place import locate
        from minikernel.report.symbols import Symbols

        address = self._kernel.cpu.regs[_RIP]
        place = locate(task.mm, Symbols(self._kernel.vdso), address)
        words = [str(part) for part in (place.symbol, place.line) if part is not None]
        name = task.comm.decode(errors="backslashreplace")
        return f"{name} at {address:#x}: {', '.join([*words, place.exact])}"

    def _entry(self, told: Told) -> str:
        """The page-table entry of the address that the event is about."""
        task, address = self._kernel.current, getattr(told[2], "address", None)
        if task is None or not task.has_mm or type(address) is not int or address >= task.mm.layout.task_size:
            return ""
        return f"{address:#x} -> {task.mm.pgtable.get(address):#018x}"


class DigestChecker:
    """A sink that counts what it hears, and compares the state where a digest was taken.

    *open_end*: the record stops somewhere in the middle of its run.
    """

    def __init__(self, kernel: "Kernel", trace: Trace, *, open_end: bool = False) -> None:
        self._kernel = kernel
        self._digests = deque(trace.digests())
        self._recorded = trace.nr_events
        self._next = self._digests[0].after if self._digests else -1
        self._last = self._recorded if open_end else -1
        self._told: Told | None = None
        self.events = 0
        self.digests = 0  # the same
        self.divergence: Divergence | None = None

    def __call__(self, icount: int, pid: int, event: Any) -> None:
        """Count it.

        Raises:
            Diverged: the state is not what it was.
            TraceOver: the record ends here.
        """
        self.events += 1
        if self.events == self._next:
            self._compare((icount, pid, event))
        if self.events == self._last:
            raise TraceOver

    def _compare(self, told: Told) -> None:
        recorded = self._digests.popleft()
        self._next = self._digests[0].after if self._digests else -1
        state = recorded.differences(take_digest(self._kernel, self.events))
        if state:
            self.divergence = Divergence(self.events, told, told, (told,), tuple(state))
            raise Diverged
        self.digests += 1

    def finish(self) -> None:
        """The run is over: as many events were recorded."""
        if self.events != self._recorded and self._last < 0:
            state = (f"{self._recorded} events were recorded, now there are {self.events}",)
            self.divergence = Divergence(self.events, None, None, (), state)


def compare_events(first: Iterator[Told], second: Iterator[Told]) -> tuple[int, Divergence | None]:
    """How many events two traces have in common, and where they part."""
    before: deque[Told] = deque(maxlen=CONTEXT)
    number = 0
    while True:
        ours, theirs = next(first, None), next(second, None)
        if ours != theirs:
            return number, Divergence(number + 1, ours, theirs, tuple(before))
        if ours is None:
            return number, None
        number += 1
        before.append(ours)
