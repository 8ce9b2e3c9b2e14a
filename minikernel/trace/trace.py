"""A recorded run to look at: its header, events, digests, inputs and end, read as they are wanted."""

import time
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

from minikernel.trace.codec import EventType, SignalsAt, Told, TraceError, decode_events, signals_among, types_of
from minikernel.trace.contents import PackedContents
from minikernel.trace.digest import Digest
from minikernel.trace.doors import is_answer
from minikernel.trace.format import DIGEST, DOORS, EVENTS, INPUT, NOTES, Chunk, Reader
from minikernel.trace.inputs import Entry, decode_entries

if TYPE_CHECKING:
    from minikernel.trace.flow_read import Accesses, Blocks, Flows, Instructions
    from minikernel.trace.places import Places

EXIT_TIMED_OUT: Final = 124
"""The status of a run that --timeout ended."""


class Trace:
    """The trace at *path*.

    Attributes:
        header: what to run, and how (docs/trace-format.md).
        notes: how the run ended; None if the recorder was killed.

    Raises:
        TraceError: from everything, when the file is damaged, of a newer version, or no trace.
    """

    def __init__(self, path: str) -> None:
        self._reader = Reader(path)
        self.path = path
        self.header = self._reader.header
        try:
            self._types: tuple[EventType, ...] = types_of(self.header.get("events"))
            self._chunks = list(self._reader.of_kind(EVENTS))
            self.notes = self._read_notes()
        except TraceError as error:
            self._reader.close()
            raise self._named(error) from None

    def _read_notes(self) -> dict[str, Any] | None:
        for chunk in self._reader.of_kind(NOTES):
            notes = self._reader.json(chunk)
            if not isinstance(notes, dict):
                raise TraceError("the notes are not an object")
            return notes
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def check(self) -> None:
        """Look at every chunk.  Raises TraceError: one is damaged."""
        for chunk in self._reader.chunks:
            self._reader.contents(chunk)

    def _named(self, error: TraceError) -> TraceError:
        text = str(error)
        return error if text.startswith(f"{self.path}: ") else TraceError(f"{self.path}: {text}")

    @property
    def complete(self) -> bool:
        """The trace has its end."""
        return self._reader.complete and self.notes is not None

    @property
    def timed_out(self) -> bool:
        """The record stops where --timeout said, not where its run ended."""
        return self.notes is not None and self.notes.get("status") == EXIT_TIMED_OUT

    @property
    def nr_events(self) -> int:
        """How many events there are, by the heads of the chunks."""
        return sum(chunk.items for chunk in self._chunks)

    @property
    def nr_chunks(self) -> int:
        """Chunks of all kinds."""
        return len(self._reader.chunks)

    def events(self, *, start: int = 0) -> Iterator[Told]:
        """The events in their order; with *start*, those from that instruction count on."""
        # Chunks are looked up by their first event; the one before may end with events of the same count.
        first = max(bisect_right([chunk.icount for chunk in self._chunks], start - 1) - 1, 0) if start else 0
        for chunk in self._chunks[first:]:
            for told in self._decode(chunk):
                if told[0] >= start:
                    yield told

    def follow(self, *, start: int = 0, pause: float = 0.2) -> Iterator[Told]:
        """The events in their order, and those that are still to be written, until the trace has its end.

        *pause*: seconds between two looks at the file.
        """
        done = 0
        while True:
            for chunk in self._chunks[done:]:
                for told in self._decode(chunk):
                    if told[0] >= start:
                        yield told
            done = len(self._chunks)
            if self._reader.complete:
                return
            if not self._reader.look_again():
                time.sleep(pause)
            self._chunks = list(self._reader.of_kind(EVENTS))

    def _decode(self, chunk: Chunk) -> list[Told]:
        contents = self._reader.contents(chunk)
        try:
            events = decode_events(contents, self._types)
        except TraceError as error:
            raise TraceError(f"{self.path}: byte {chunk.offset}: {error}") from None
        if len(events) != chunk.items:
            raise TraceError(f"{self.path}: byte {chunk.offset}: {len(events)} events instead of {chunk.items}")
        return events

    @cached_property
    def flows(self) -> "Flows":
        """The blocks and instructions, as far as they were recorded."""
        from minikernel.trace.flow_read import Flows

        return Flows(self._reader)

    @cached_property
    def places(self) -> "Places":
        """Names for the addresses of blocks and instructions, as far as these were recorded."""
        from minikernel.trace.places import Places

        return Places(self._reader)

    def blocks(self, *, start: int = 0, end: int | None = None) -> "Iterator[Blocks]":
        """The blocks that ran in instructions *start* to *end*, in batches of columns (numpy arrays)."""
        return self.flows.blocks(start=start, end=end)

    def instructions(self, *, start: int = 0, end: int | None = None) -> "Iterator[Instructions]":
        """The instructions number *start* to *end*, in batches of columns (numpy arrays)."""
        return self.flows.instructions(start=start, end=end)

    def accesses(self, *, start: int = 0, end: int | None = None) -> "Iterator[Accesses]":
        """The loads and stores of instructions *start* to *end*, in batches of columns (numpy arrays)."""
        return self.flows.accesses(start=start, end=end)

    def digests(self) -> list[Digest]:
        """The digests in their order."""
        try:
            return [Digest.from_json(self._reader.json(chunk)) for chunk in self._reader.of_kind(DIGEST)]
        except TraceError as error:
            raise self._named(error) from None

    def inputs(self) -> list[Entry]:
        """What came from outside, in its order."""
        found = []
        for chunk in self._reader.of_kind(INPUT):
            contents = self._reader.contents(chunk)
            try:
                found += decode_entries(contents)
            except TraceError as error:
                raise TraceError(f"{self.path}: byte {chunk.offset}: {error}") from None
        return found

    def answers(self) -> list[list[Any]]:
        """What the host said about its files (minikernel/trace/doors.py)."""
        found: list[list[Any]] = []
        for chunk in self._reader.of_kind(DOORS):
            answers = self._reader.json(chunk)
            if not isinstance(answers, list) or not all(map(is_answer, answers)):
                raise TraceError(f"{self.path}: byte {chunk.offset}: what the host said is damaged")
            found += answers
        return found

    def host_signals(self) -> list[SignalsAt]:
        """The signals of the host: the notes have them; without notes, every event is looked at."""
        if self.notes is None:
            return signals_among(self.events())
        signals = self.notes.get("signals")
        if signals is None:
            raise TraceError(f"{self.path}: signals of the host came, and only some events were recorded")
        try:
            return [SignalsAt(int(n), int(icount), tuple(map(int, sigs))) for n, icount, sigs in signals]
        except (TypeError, ValueError):
            raise TraceError(f"{self.path}: the notes are damaged") from None

    @property
    def has_all_events(self) -> bool:
        """No filter kept events out."""
        selection = self.header.get("selection")
        return not isinstance(selection, dict) or selection.keys() <= {"ranges", "symbols", "vmas"}

    @property
    def packed(self) -> bool:
        """The contents of the host's files are in the trace."""
        return self.header.get("packed") is True

    def contents(self) -> PackedContents:
        """The contents that the trace holds."""
        return PackedContents(self._reader)
