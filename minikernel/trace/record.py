"""The recorder: a sink that writes what it hears, and stands at the doors through which the outside comes in.

recorder = Recorder(kernel);  kernel.tracer.sink = recorder.sink;  ...load the program...
recorder.start(path, program);  ...run...;  recorder.finish(status)
"""

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Final

from minikernel.events import Event, SchedProcessExit, Sink
from minikernel.fs.file import WouldBlock
from minikernel.trace.codec import Told, encode_events
from minikernel.trace.digest import take_digest
from minikernel.trace.format import DIGEST, EVENTS, INPUT, NOTES, Writer, to_json
from minikernel.trace.header import host_files, make_header, outside, pin_streams

if TYPE_CHECKING:
    from minikernel.kernel import Kernel

BATCH: Final = 4096
"""Events of one chunk: at 100,000 a second, what a crash can lose is 40 ms."""

DIGEST_EVERY: Final = 1_000_000_000
"""Instructions between two digests, at least: half a second of a busy program."""

_DIGEST_PAUSE: Final = 400_000  # instructions for each frame in use: taking digests is 2 % of the time at most

_FLUSH_EVERY: Final = 20_000_000  # instructions, however few events there were
INPUT_HEAD: Final = Struct("<IIB")  # events before it, descriptor, 1: the guest had to wait, nothing was read


class Recorder:
    """Records one run of *kernel*, which has booted and has not loaded its program yet.

    When the file cannot be written any more, the run goes on without it and ``failure`` says why.
    """

    def __init__(self, kernel: "Kernel", *, batch: int = BATCH, digest_every: int = DIGEST_EVERY) -> None:
        self._kernel = kernel
        self._batch: list[Told] = []
        self._batch_size = batch
        self._digest_every = digest_every
        self._writer: Writer | None = None
        self._next_digest = digest_every
        self._deadline = 0  # instructions: the batch is written out then
        self._waited = False
        self.events = 0  # written so far
        self.failure: OSError | None = None
        self.sink: Sink = self._make_sink()
        pin_streams(kernel)
        for fd, inode in kernel.vfs.streams.items():
            inode.tap = _Tap(self, fd)

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

    def start(self, path: str, program: bytes) -> None:
        """Begin the file, now that *program* is loaded.

        Raises:
            OSError: it cannot be written.
        """
        self._writer = Writer(path, make_header(self._kernel, program))

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
        """Write the batch.  Before there is a file it is kept."""
        batch = self._batch
        if self._writer is None:
            if self.failure is not None:
                batch.clear()
            return
        if batch:
            contents = encode_events(batch)
            self._add(EVENTS, batch[0][0], len(batch), contents)
            self.events += len(batch)
            batch.clear()

    def _add(self, kind: bytes, icount: int, items: int, contents: bytes) -> None:
        if self._writer is None:
            return
        try:
            self._writer.add(kind, icount, items, contents)
        except OSError as error:
            self.failure = error
            self._writer.close()
            self._writer = None

    def _digest(self) -> int:
        """Note the machine's state; the frames in use."""
        digest = take_digest(self._kernel, self.events)
        self._add(DIGEST, digest.icount, 1, to_json(digest.as_json()))
        return digest.frames

    def input(self, fd: int, data: bytes | None) -> None:
        """The guest has read *data* from the host's descriptor *fd*; None: it had to wait."""
        self._flush()
        self._waited |= data is None
        head = INPUT_HEAD.pack(self.events, fd, data is None)
        self._add(INPUT, self._kernel.cpu.icount, 1, head + (data or b""))

    def finish(self, status: int) -> None:
        """The run is over, with *status*: write how it ended, which files it read, and the end."""
        self._flush()
        kernel = self._kernel
        reasons = outside(kernel)
        if self._waited:
            reasons.append("the program had to wait for its input")
        notes = {
            "status": status,
            "exit_code": kernel.exit_code,
            "icount": kernel.cpu.icount,
            "events": self.events,
            "files": host_files(kernel),
            "outside": reasons,
        }
        self._add(NOTES, kernel.cpu.icount, 1, to_json(notes))
        if self._writer is None:
            return
        try:
            self._writer.finish()
        except OSError as error:
            self.failure = error


class _Tap:
    """Notes what comes in through one descriptor."""

    def __init__(self, recorder: Recorder, fd: int) -> None:
        self._recorder = recorder
        self._fd = fd

    def read(self, count: int, host: Callable[[int], bytes]) -> bytes:
        """Ask the host, and note the answer."""
        try:
            data = host(count)
        except WouldBlock:
            self._recorder.input(self._fd, None)
            raise
        self._recorder.input(self._fd, data)
        return data

    def write(self, _data: bytes) -> None:
        """The host takes it."""
        return

    def poll(self, events: int) -> int:
        """As the host says."""
        return events
