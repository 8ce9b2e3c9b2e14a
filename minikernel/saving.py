"""``save`` and ``load``: a position of a run as one file, which goes on anywhere.

A saved position is a packed trace (docs/trace-format.md) without events: what to run, all that the host said, the
contents of the files that were read; and where the run was, with a digest of the machine.  Loading runs the program
again on that, up to the position, and compares the digest.  From there on the program meets the host it is on: its
streams are this debugger's, and files that it has not asked for before are looked for here.
"""

import os
from typing import TYPE_CHECKING, Any, Final

from minikernel.abi.errno import LinuxError
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Sink, Tracer
from minikernel.fs.outside import CopyableOutside, Outside
from minikernel.kdb.back import AtPosition
from minikernel.kdb.command import CommandError
from minikernel.kdb.machine import Position
from minikernel.runner import find_program
from minikernel.trace.codec import TraceError
from minikernel.trace.contents import Packer, hash_of
from minikernel.trace.digest import Digest, take_digest
from minikernel.trace.format import DIGEST, DOORS, INPUT, NOTES, Writer, to_json
from minikernel.trace.header import guest_name, make_header
from minikernel.trace.inputs import encode_entries
from minikernel.trace.outside import RecordingOutside, streams_to_json
from minikernel.trace.replay import Replay
from minikernel.trace.resumed import ResumedOutside
from minikernel.trace.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from minikernel.kdb.session import Session
    from minikernel.kernel import Kernel

POSITION: Final = "position"
_MOST_ENTRIES: Final = 1 << 16  # of input in a chunk


class DebuggedOutside(RecordingOutside, CopyableOutside):  # type: ignore[misc]  # the first asks the second for swap
    """The host of a machine that is debugged: all it says is noted, for the run may be saved."""


class Launcher:
    """Boots the machine of a session, as often as it is asked to, and knows how to save and load it.

    *replay*: the host's part is played by a trace.
    """

    def __init__(self, config: Config, replay: Replay | None = None) -> None:
        self.config = config
        self._replay = replay
        self._saved: _Saved | None = None  # what was loaded takes the place of the two
        self._outside: Outside | None = None  # of the last machine
        self._streams: dict[str, dict[str, Any]] = {}  # as they were at boot
        self._program = b""

    def boot(self, listen: "Callable[[Kernel], Sink]") -> System:
        """A machine with its program loaded; *listen* hears it."""
        config = self.config
        if self._saved is not None:
            config, self._outside = self._saved.config, self._saved.outside()
            system = System(config, Tracer(), outside=self._outside)
            system.kernel.tracer.sink = listen(system.kernel)
        elif self._replay is not None:
            system = self._replay.boot(Tracer())
            system.kernel.tracer.sink = self._replay.listen(system.kernel, listen(system.kernel))
        else:
            outside = self._outside = DebuggedOutside(config)
            system = System(config, Tracer(), outside=outside)
            self._streams = streams_to_json(outside.found)
            system.kernel.tracer.sink = listen(system.kernel)
        return system

    def exec_init(self, system: System) -> None:
        """Load the program.  Errors: LinuxError."""
        self._program = find_program(system, system.kernel.config.argv[0])
        system.exec_init(self._program)

    # ---- saving

    def save(self, session: "Session", path: str) -> int:
        """Write where *session* is to *path*; the size in bytes.

        Raises:
            CommandError: it cannot be written, or not run again.
        """
        outside, kernel = self._outside, session.kernel
        if not isinstance(outside, DebuggedOutside):
            raise CommandError("This run comes from a file already: copy that, and note the position (`when`).")
        timeline = session.timeline
        reason = timeline.why_not() if timeline is not None else None
        if timeline is not None and timeline.changed:
            reason = "You have changed the machine: its run does not lead here any more, so it cannot be saved."
        if reason is not None:
            raise CommandError(reason)
        try:
            return self._write(session, outside, kernel, path)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}.") from None

    def _write(self, session: "Session", outside: DebuggedOutside, kernel: "Kernel", path: str) -> int:
        packer, answers, hashes = Packer(), list(outside.log.answers), {}
        header = make_header(
            kernel, self._program, self._streams, {}, packed=True, level="events", selection={}
        )  # fmt: skip
        header[POSITION] = list(session.machine.position)
        writer = Writer(path, header)
        try:
            for fd, stream in self._streams.items():
                if "sha256" in stream:
                    packer.add(writer, outside.found[int(fd)].fd, stream)
                    content = {name: stream[name] for name in ("sha256", "size", "content")}
                    answers.append([-1, "stream", fd, 1, content])
            for door in outside.doors:
                for node in door.opened:
                    known = _pack(writer, packer, door.open_file(node, os.O_RDONLY))
                    answers.append([door.number, "file", os.fsdecode(node.path()), 1, known])
                    hashes[guest_name(kernel, door, node.path())] = known["sha256"]
            icount = kernel.cpu.icount
            writer.add(DOORS, icount, len(answers), to_json(answers))
            for at in range(0, len(outside.inputs), _MOST_ENTRIES):
                entries = outside.inputs[at : at + _MOST_ENTRIES]
                writer.add(INPUT, icount, len(entries), encode_entries(entries))
            writer.add(DIGEST, icount, 1, to_json(take_digest(kernel, session.nr_events).as_json()))
            notes: dict[str, Any] = {
                "status": 0,
                "exit_code": kernel.exit_code,
                "icount": icount,
                "events": 0,
                "signals": [],
            }
            writer.add(NOTES, icount, 1, to_json({**notes, "files": hashes, "outside": []}))
            writer.finish()
        except LinuxError as error:
            writer.close()
            raise CommandError(f"A file of the program cannot be read any more: {error.why}.") from None
        except OSError:
            writer.close()
            raise
        return writer.size

    # ---- loading

    def load(self, session: "Session", path: str) -> None:
        """Make the machine of *session* the one that was saved in *path*, where it was.

        Raises:
            CommandError: the file is damaged, newer, or no saved position; or the run goes another way here.
        """
        saved = _Saved(path)
        session.close()
        self._saved = saved
        try:
            session.start()
            saved.session = session
            AtPosition(saved.position).reach(session)
        except (LinuxError, OSError, ValueError, TraceError, AssertionError) as error:
            session.done = True  # there is no machine any more to ask about
            raise CommandError(f"{path}: the run cannot be gone over again here: {error}.") from None
        wrong = saved.digest.differences(take_digest(session.kernel, saved.digest.after))
        if wrong:
            raise CommandError(f"{path}: the machine is not what it was: {'; '.join(wrong[:4])}.")


def config_of(path: str) -> Config:
    """What machine is saved in *path*.

    Raises:
        CommandError: none.
    """
    return _Saved(path).config


def _pack(writer: Writer, packer: Packer, fd: int) -> dict[str, Any]:
    """Store what is behind *fd*, which is closed; its hash, size and number."""
    try:
        sha256, size = hash_of(fd)
        known: dict[str, Any] = {"sha256": sha256, "size": size}
        packer.add(writer, fd, known)
    finally:
        os.close(fd)
    return known


class _Saved:
    """A saved position.

    Raises:
        CommandError: it is none, damaged, or newer than we are.
    """

    def __init__(self, path: str) -> None:
        try:
            self._trace = Trace(path)
            self._replay = Replay(self._trace)
            self._trace.check()
            place, digests = self._trace.header.get(POSITION), self._trace.digests()
        except TraceError as error:
            raise CommandError(f"{error}.") from None
        if not isinstance(place, list) or len(place) != 2 or not all(type(n) is int and n >= 0 for n in place):
            raise CommandError(f"{path}: no saved position: `debug --replay` runs a trace.")
        if not self._trace.complete or len(digests) != 1:
            raise CommandError(f"{path}: it was not written to its end.")
        self.position = Position(*place)
        self.digest: Digest = digests[0]
        self.config = self._replay.config
        self.session: Session | None = None  # whose machine is this one

    def _is_live(self) -> bool:
        """The run is behind the position."""
        return self.session is not None and self.session.machine.position > self.position

    def outside(self) -> Outside:
        """A host for one machine: the recorded one up to the position, this one afterwards."""
        return self._replay.outside(ResumedOutside, is_live=self._is_live)
