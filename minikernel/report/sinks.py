"""Sinks made of sinks: who hears the events of a run (minikernel/events.py)."""

from collections.abc import Collection

from minikernel.events import Event, Sink


def combine(*sinks: Sink) -> Sink:
    """One sink that tells every event to each of *sinks*, in their order."""
    assert sinks, "combine: nobody listens; leave Tracer.sink None instead"
    if len(sinks) == 1:
        return sinks[0]

    def tell_all(icount: int, pid: int, event: Event) -> None:
        for sink in sinks:
            sink(icount, pid, event)

    return tell_all


def only(kinds: Collection[type[Event]], sink: Sink) -> Sink:
    """A sink that passes on events of the types *kinds* alone."""
    wanted = frozenset(kinds)

    def tell_some(icount: int, pid: int, event: Event) -> None:
        if type(event) in wanted:
            sink(icount, pid, event)

    return tell_some


class Recorder:
    """A sink that keeps what it hears, as (instruction count, pid, event)."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: list[tuple[int, int, Event]] = []

    def __call__(self, icount: int, pid: int, event: Event) -> None:
        """Keep it."""
        self.events.append((icount, pid, event))

    def text(self) -> str:
        """One line an event: instruction count, pid, name and fields."""
        return "".join(f"{icount:>10} {pid:>4} {event.text()}\n" for icount, pid, event in self.events)
