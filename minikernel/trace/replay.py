"""A recorded run goes again: what the host said the first time comes from the trace.

    with Trace(path) as trace, Replay(trace, output=print_it) as replay:
        system = replay.boot(Tracer())          # a machine like the recorded one, before its program is loaded
        system.kernel.tracer.sink = replay.listen(system.kernel)
        system.exec_init(find_program(system, replay.config.argv[0]))
        system.run()

The debugger boots its machines in this way, too: each boot begins the record from its start.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec.structs import replace

from emu.cpu import MachineError
from emu.native import NativeMissingError
from minikernel.abi.errno import LinuxError
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Event, HostSignal, Sink, Tracer
from minikernel.trace.codec import SignalsAt, TraceError
from minikernel.trace.contents import HostContents, PackedContents
from minikernel.trace.doors import stat_from_json
from minikernel.trace.header import config_from_json, streams_from_json
from minikernel.trace.inputs import Script
from minikernel.trace.outside import RecordedOutside
from minikernel.trace.taps import Output
from minikernel.trace.trace import Trace

if TYPE_CHECKING:
    from minikernel.kernel import Kernel

_SHOWN: Final = 4  # files that a refusal names


class Replay:
    """The run of *trace*, ready to go again, as often as it is booted.

    *live*: the host's files are looked at as they are now (for ``verify``); otherwise what the trace says about them
    counts, and their contents come from the trace if they are packed, and from this host if they are the same.
    *config*: run this instead of what was recorded.  *output* hears what the guest writes to its streams.

    Raises:
        TraceError: the trace is damaged, or needs files that are not here.
    """

    def __init__(
        self, trace: Trace, *, live: bool = False, config: Config | None = None, output: Output | None = None
    ) -> None:
        self.trace = trace
        recorded = config_from_json(trace.header.get("config"))
        self.config = replace(recorded, timeout=None) if config is None else config
        doors = [os.fsdecode(bind.host) for bind in recorded.binds if bind.writable]
        if doors:  # nobody said so this time, and the trace may be a stranger's
            raise TraceError(f"{trace.path}: the program could write to the host's {doors[0]}, so it is not run again")
        self._streams = streams_from_json(trace.header.get("streams"))
        self._output = output
        self._outsides: list[RecordedOutside] = []
        self._packed: PackedContents | None = None
        self._contents: PackedContents | HostContents | None = None
        self._answers = None if live else trace.answers()
        if self._answers is None:
            return
        if trace.packed:
            self._contents = self._packed = trace.contents()
            return
        roots = [os.fsencode(answer) for _, question, _, _, answer in self._answers if question == "tree"]
        host = self._contents = HostContents(roots)
        self._check_files(host)

    def _check_files(self, host: HostContents) -> None:
        """Refuse to start what cannot be finished."""
        problems = []
        for door, question, path, _, answer in self._answers or ():
            if question == "file":
                where = os.fsencode(path)
                why = host.problem(door, where, answer)
                if why:
                    problems.append(f"{os.fsdecode(host.name(door, where))} ({why})")
        if problems:
            more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise TraceError(
                f"{self.trace.path}: files that the trace does not hold are not here as they were: "
                f"{', '.join(problems[:_SHOWN])}{more} (record --pack keeps them)"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for outside in self._outsides:
            outside.close()
        if isinstance(self._contents, HostContents):
            self._contents.close()

    @property
    def has_open_end(self) -> bool:
        """The record stops where the host said, not where its run ended."""
        return not self.trace.complete or self.trace.timed_out

    @property
    def missing(self) -> list[bytes]:
        """Paths that the last boot asked for, and the recorded run did not."""
        return self._outsides[-1].missing if self._outsides else []

    def outside(self, kind: type[RecordedOutside] = RecordedOutside, **more: Any) -> RecordedOutside:
        """A host for one machine, which says what the recorded one did, from the start; *kind*: of that class."""
        outside = kind(
            self._streams,
            Script(self.trace.inputs(), open_end=self.has_open_end),
            stdin=self._stream_file,
            output=self._output,
            answers=self._answers,
            contents=self._contents,
            **more,
        )
        self._outsides.append(outside)
        return outside

    def boot(self, tracer: Tracer | None = None) -> System:
        """A machine like the recorded one, whose program is not loaded yet.  ``System.close`` ends it.

        Raises:
            TraceError: it cannot be built.
        """
        try:
            return System(self.config, tracer or Tracer(), outside=self.outside())
        except (ValueError, MachineError, NativeMissingError, OSError, LinuxError) as error:
            raise TraceError(f"{self.trace.path}: the machine cannot be built again: {error}") from None

    def listen(self, kernel: "Kernel", sink: Sink | None = None) -> Sink | None:
        """*sink*, or one that tells it and sends *kernel* the host's signals where the recorded run got them."""
        signals = self.trace.host_signals()
        return _SignalPlayer(kernel, signals, sink) if signals else sink

    def _stream_file(self, entry: dict[str, Any]) -> int:
        """A descriptor that stands in for a file that was a stream: with its bytes, or as long as it was."""
        name = entry["name"]
        fd = os.memfd_create(os.path.basename(name) or "stream", os.MFD_CLOEXEC)  # noqa: PTH119 - no path
        if "sha256" not in entry:
            os.ftruncate(fd, stat_from_json(entry["stat"]).st_size)
        elif self._packed is not None:
            known = self._stream_content(entry["sha256"])
            for piece in self._packed.whole(known):
                os.write(fd, piece)
        else:
            self._copy_stream(fd, entry)
        os.lseek(fd, max(entry["offset"], 0), os.SEEK_SET)
        return fd

    def _stream_content(self, sha256: str) -> dict[str, Any]:
        for _, question, _, _, answer in self._answers or ():
            if question == "stream" and answer["sha256"] == sha256:
                return dict(answer)
        raise TraceError(f"{self.trace.path}: the contents of a stream are missing")

    def _copy_stream(self, fd: int, entry: dict[str, Any]) -> None:
        """From this host, if it is still the same."""
        from minikernel.trace.contents import hash_of

        name = entry["name"]
        try:
            source = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise TraceError(f"{self.trace.path}: a stream was the file {name}: {error.strerror}") from None
        try:
            if self._answers is not None and hash_of(source)[0] != entry["sha256"]:
                raise TraceError(f"{self.trace.path}: a stream was the file {name}, which is not what it was")
            at = 0
            while piece := os.pread(source, 1 << 20, at):
                at += os.write(fd, piece)
        except OSError as error:
            raise TraceError(f"{self.trace.path}: a stream was the file {name}: {error.strerror}") from None
        finally:
            os.close(source)


def write_out(fd: int, data: bytes) -> None:
    """An ``Output``: what the guest writes goes where our own output goes."""
    left = memoryview(data)
    while left:
        left = left[os.write(fd if fd == 2 else 1, left) :]


class _SignalPlayer:
    """Sends the host's signals again: each between the same two events, at the same instruction."""

    def __init__(self, kernel: "Kernel", signals: list[SignalsAt], sink: Sink | None) -> None:
        self._kernel = kernel
        self._signals = signals[::-1]
        self._sink = sink
        self._events = 0
        self._arm(0)

    def __call__(self, icount: int, pid: int, event: Event) -> None:
        """An event."""
        self._events += 1
        if self._sink is not None:
            self._sink(icount, pid, event)
        if self._signals:
            if type(event) is HostSignal:
                self._signals.pop()
            self._arm(icount)

    def _arm(self, icount: int) -> None:
        """Get ready, if signals are the next thing."""
        if self._signals and self._signals[-1].number == self._events + 1:
            due = self._signals[-1].icount
            self._kernel.host_signals = _Due(lambda: self._kernel.cpu.icount >= due, self._signals[-1].sigs)
            if icount == due:
                self._kernel.need_resched = True


class _Due(list[int]):
    """Signals that are there as soon as *is_due* says so."""

    def __init__(self, is_due: Callable[[], bool], sigs: tuple[int, ...]) -> None:
        super().__init__(sigs)
        self._is_due = is_due

    def __bool__(self) -> bool:
        return self._is_due()
