"""What of a run is recorded: of which processes, in which places, which events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minikernel.events import Event, HostSignal, Sink
from minikernel.report.place import base_name, display_name

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.report.symbols import Symbols
    from minikernel.task.task import Task


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters; an empty one lets everything through.

    An event, a block or an access passes if its task does, and an event by its name, the others by their place.
    """

    pids: Sequence[int] = ()
    comms: Sequence[bytes] = ()
    ranges: Sequence[tuple[int, int]] = ()  # addresses, the end not included
    symbols: Sequence[str] = ()
    vmas: Sequence[str] = ()  # a path, its last part, [heap], [stack] ...
    events: Sequence[str] = ()

    @property
    def has_places(self) -> bool:
        """Whether addresses matter."""
        return bool(self.ranges or self.symbols or self.vmas)

    @property
    def filters_events(self) -> bool:
        """Whether some events are left out: such a run cannot be verified."""
        return bool(self.pids or self.comms or self.events)

    def wants_task(self, task: "Task") -> bool:
        """Whether what *task* does is wanted."""
        return (not self.pids or task.pid in self.pids) and (not self.comms or task.comm in self.comms)

    def sink(self, kernel: "Kernel", sink: Sink) -> Sink:
        """A sink that passes on to *sink* the events that are wanted."""
        names = frozenset(self.events)
        by_task = bool(self.pids or self.comms)

        def tell_some(icount: int, pid: int, event: Event) -> None:
            if type(event) is HostSignal:  # a part of the input
                sink(icount, pid, event)
                return
            if names and event.name not in names:
                return
            task = kernel.tasks.get(pid)
            if by_task and (task is None or not self.wants_task(task)):
                return
            sink(icount, pid, event)

        return tell_some

    def places(self, mm: "MmStruct", symbols: "Symbols") -> list[tuple[int, int]]:
        """The addresses in *mm*, as it is now, that are wanted; for a selection that has places."""
        found = list(self.ranges)
        for vma in mm.vmas.items if self.vmas else ():
            name = display_name(mm, vma)
            if name in self.vmas or (name.startswith("/") and base_name(name) in self.vmas):
                found.append((vma.start, vma.end))
        for name in self.symbols:
            for address in symbols.addresses(mm, name):
                about = symbols.find(mm, address)
                found.append((address, address + max(about.size if about is not None else 0, 1)))
        return found

    def as_json(self) -> dict[str, Any]:
        """For the header; nothing for what filters nothing."""
        values = {
            "pids": list(self.pids),
            "comms": [comm.decode(errors="surrogateescape") for comm in self.comms],
            "ranges": [list(pair) for pair in self.ranges],
            "symbols": list(self.symbols),
            "vmas": list(self.vmas),
            "events": list(self.events),
        }
        return {name: value for name, value in values.items() if value}
