"""The recorder: a sink that writes what it hears, and what the host says at the doors (minikernel/trace/outside.py).

outside = RecordingOutside(config);  system = System(config, outside=outside)
recorder = Recorder(system.kernel, outside);  kernel.tracer.sink = recorder.sink;  ...load the program...
recorder.start(path, program);  ...run...;  recorder.finish(status)
"""

import os
from typing import TYPE_CHECKING, Any, Final

from minikernel.abi.errno import LinuxError
from minikernel.events import Event, HostSignal, SchedProcessExit, Sink
from minikernel.fs.hostdoor import HostDoor, HostNode
from minikernel.trace.codec import SignalsAt, Told, encode_events, signals_among
from minikernel.trace.contents import Packer, hash_of
from minikernel.trace.digest import take_digest
from minikernel.trace.doors import RecordingDoor
from minikernel.trace.format import DIGEST, DOORS, EVENTS, INPUT, NOTES, Writer, to_json
from minikernel.trace.header import guest_name, make_header, outside
from minikernel.trace.inputs import encode_entries
from minikernel.trace.outside import RecordingOutside, streams_to_json

if TYPE_CHECKING:
    from minikernel.entry import RunCpu
    from minikernel.kernel import Kernel
    from minikernel.trace.flow_record import FlowRecorder
    from minikernel.trace.select import Selection

BATCH: Final = 4096
"""Events of one chunk: at 100,000 a second, what a crash can lose is 40 ms."""

DIGEST_EVERY: Final = 1_000_000_000
"""Instructions between two digests, at least: half a second of a busy program."""

_DIGEST_PAUSE: Final = 400_000  # instructions for each frame in use: taking digests is 2 % of the time at most

_FLUSH_EVERY: Final = 20_000_000  # instructions, however few events there were


class Recorder:
    """Records one run of *kernel*, which has booted on *outside* and has not loaded its program yet.

    *pack*: the trace gets the contents of the host's files, too, so that it can be replayed anywhere.
    When the file cannot be written any more, the run goes on without it and ``failure`` says why.
    """

    def __init__(
        self,
        kernel: "Kernel",
        outside: RecordingOutside,
        *,
        pack: bool = False,
        level: str = "events",
        selection: "Selection | None" = None,
        batch: int = BATCH,
        digest_every: int = DIGEST_EVERY,
    ) -> None:
        """*level*: as `record --level` has it; above ``events``, ``run_cpu`` must run the machine after ``start``."""
        self._kernel = kernel
        self._outside = outside
        self._packer = Packer() if pack else None
        self._files: dict[tuple[RecordingDoor, HostNode], os.stat_result | None] = {}  # as they were when first read
        self._hashes: dict[str, str] = {}
        self._level = level
        self._selection = selection
        self._flow: FlowRecorder | None = None
        self._batch: list[Told] = []
        self._batch_size = batch
        self._digest_every = digest_every
        self._writer: Writer | None = None
        self._next_digest = digest_every
        self._deadline = 0  # instructions: the batch is written out then
        self._signals: list[SignalsAt] = []
        self._signals_lost = False
        self.events = 0  # written so far
        self.failure: OSError | None = None
        self.sink: Sink = self._make_sink()
        outside.bell_recorder.on_idle = self._flush  # who follows the trace sees what led to the wait
        if selection is not None and selection.filters_events:
            self.sink = self._heard(selection.sink(kernel, self.sink))

    def _make_sink(self) -> Sink:
        """A closure: attributes of ``self`` would cost twice as much, and this is called for every event."""
        batch, limit, full = self._batch, self._batch_size, self._full
        keep = batch.append
        deadline = self._deadline

        def sink(icount: int, pid: int, event: Event) -> None:
            nonlocal deadline
            keep((icount, pid, event))
            if len(batch) >= limit or icount >= deadline or type(event) is SchedProcessExit:
                deadline = full(icount, pid, event)

        return sink

    def _heard(self, chosen: Sink) -> Sink:
        """*chosen* hears only some events: where among all of them a signal of the host came is not written down."""

        def sink(icount: int, pid: int, event: Event) -> None:
            self._signals_lost |= type(event) is HostSignal
            chosen(icount, pid, event)

        return sink

    def start(self, path: str, program: bytes) -> None:
        """Begin the file, now that *program* is loaded.

        Raises:
            OSError: it cannot be written.
        """
        streams = streams_to_json(self._outside.found)
        fresh = self._fresh_files()
        packed = self._packer is not None
        chosen = self._selection.as_json() if self._selection is not None else {}
        files = dict(self._hashes)
        header = make_header(self._kernel, program, streams, files, packed=packed, level=self._level, selection=chosen)
        self._writer = Writer(path, header)
        try:
            for fd, stream in streams.items():
                if self._packer is not None and "sha256" in stream:
                    self._packer.add(self._writer, self._outside.found[int(fd)].fd, stream)
                    self._outside.log.note(-1, "stream", fd.encode(), _content(stream))
            self._write_files(fresh)
        except OSError:
            self._writer.close()
            raise
        if self._level != "events":
            self._start_flow()

    def _start_flow(self) -> None:
        """From now on the CPU is looked at, too."""
        from minikernel.report.sinks import combine
        from minikernel.trace.flow_record import FlowRecorder
        from minikernel.trace.select import Selection

        kernel, selection = self._kernel, self._selection or Selection()
        self._flow = FlowRecorder(kernel, selection, self._add, self._flush, level=self._level)
        kernel.tracer.sink = combine(self._flow.sink, kernel.tracer.sink or self.sink)

    @property
    def run_cpu(self) -> "RunCpu | None":
        """What runs the CPU; None: nobody looks on."""
        return self._flow.run if self._flow is not None else None

    def _full(self, icount: int, pid: int, event: Event) -> int:
        """It is time to write, or a process ends; the instruction count when it is time again."""
        init = self._kernel.init
        last = type(event) is SchedProcessExit and init is not None and pid == init.pid
        if not last and len(self._batch) < self._batch_size and icount < self._deadline:
            return self._deadline  # another process ends: nothing to do
        self._flush()
        if self._writer is not None and (last or icount >= self._next_digest):
            frames = self._digest()
            self._next_digest = icount + max(self._digest_every, frames * _DIGEST_PAUSE)
        self._deadline = min(icount + _FLUSH_EVERY, max(self._next_digest, icount + 1))
        return self._deadline

    def _flush(self) -> None:
        """Write what the host has said, then the events that came of it.  Before there is a file all is kept."""
        batch = self._batch
        if self._writer is None:
            if self.failure is not None:
                batch.clear()
                self._outside.inputs.clear()
            return
        try:
            self._write_files(self._fresh_files())
            self._write_inputs()
        except OSError as error:
            self._fail(error)
        if batch:
            self._signals += signals_among(batch, start=self.events)
            self._add(EVENTS, batch[0][0], len(batch), encode_events(batch))
            self.events += len(batch)
            batch.clear()

    def _write_inputs(self) -> None:
        icount, inputs, answers = self._kernel.cpu.icount, self._outside.inputs, self._outside.log.answers
        if answers:
            self._add(DOORS, icount, len(answers), to_json(answers))
            answers.clear()
        if inputs:
            self._add(INPUT, icount, len(inputs), encode_entries(inputs))
            inputs.clear()

    def _fresh_files(self) -> list[tuple[RecordingDoor, HostNode, int, dict[str, Any]]]:
        """The files that were read from for the first time since we asked last: an open descriptor, size and hash."""
        fresh = []
        for door in self._outside.doors:
            for node in [node for node in door.opened if (door, node) not in self._files]:
                self._files[door, node] = None
                name = guest_name(self._kernel, door, node.path())
                self._hashes[name] = "gone"
                try:
                    fd = door.open_file(node, os.O_RDONLY)
                    self._files[door, node] = os.fstat(fd)
                    sha256, size = hash_of(fd)
                except (OSError, LinuxError):
                    continue
                self._hashes[name] = sha256
                fresh.append((door, node, fd, {"sha256": sha256, "size": size}))
        return fresh

    def _write_files(self, fresh: list[tuple[RecordingDoor, HostNode, int, dict[str, Any]]]) -> None:
        """Note the *fresh* files, and pack them.  Raises OSError."""
        for door, node, fd, known in fresh:
            try:
                if self._packer is not None and self._writer is not None:
                    self._packer.add(self._writer, fd, known)
            finally:
                os.close(fd)
            self._outside.log.note(door.number, "file", node.path(), known)

    def _add(self, kind: bytes, icount: int, items: int, contents: bytes) -> None:
        if self._writer is None:
            return
        try:
            self._writer.add(kind, icount, items, contents)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failure = error
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _digest(self) -> int:
        """Note the machine's state; the frames in use."""
        digest = take_digest(self._kernel, self.events)
        self._add(DIGEST, digest.icount, 1, to_json(digest.as_json()))
        return digest.frames

    def finish(self, status: int) -> None:
        """The run is over, with *status*: write how it ended, which files it read, and the end."""
        self._flush()
        if self._flow is not None:
            self._flow.finish()
        kernel = self._kernel
        notes = {
            "status": status,
            "exit_code": kernel.exit_code,
            "icount": kernel.cpu.icount,
            "events": self.events,
            "signals": None if self._signals_lost else self._signals,
            "files": dict(sorted(self._hashes.items())),
            "outside": [*outside(kernel), *self._changed()],
        }
        self._add(NOTES, kernel.cpu.icount, 1, to_json(notes))
        if self._writer is None:
            return
        try:
            self._writer.finish()
        except OSError as error:
            self.failure = error

    def _changed(self) -> list[str]:
        """Which files are not any more what they were when the program first read them."""
        words = []
        for (door, node), before in self._files.items():
            if before is None or node.parent is None:
                continue
            try:
                now = HostDoor.lstat(door, node.parent, node.name)  # nobody has to hear of it
            except LinuxError:
                now = None
            if now is None or (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                words.append(f"{guest_name(self._kernel, door, node.path())} changed while the program ran")
        return words


def _content(known: dict[str, Any]) -> dict[str, Any]:
    return {name: known[name] for name in ("sha256", "size", "content")}
