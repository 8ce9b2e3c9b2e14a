"""The front end's side: it starts the process that holds the machine, and asks it.

    front end ── fork ──> keeper ── fork ──> machine ── fork ──> checkpoints, copies ...
        └───────────────── a socket ───────────┘

The front end owns the terminal (or gdb's connection) and no machine, so that the machine's process can be copied at
any time.  The keeper adopts and buries the copies: when the last is gone it ends, so ``close`` leaves nobody behind.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from minikernel.kdb import wire

if TYPE_CHECKING:
    from minikernel.kdb.server import Console, Handler
    from minikernel.kdb.session import Session

_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h


class MachineGoneError(Exception):
    """There is no machine any more; the text is a report for people."""


class Front:
    """A debugger's machine, seen from another process: requests go in, text and replies come out.

    ``execute`` and ``complete`` are all that a prompt needs; ``send``, ``receive`` and ``fileno`` are for who has to
    listen elsewhere meanwhile.  *write* shows text.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._keeper = 0
        self._lifeline = -1  # its other end is in every process of the machine's: closed, they all end
        self._channel: wire.Channel
        self._busy = False
        self.pid = 0  # of the process that is the machine now
        self.done = False  # the user has had enough
        self.sources = True  # files of commands are read here; otherwise `source` is a command like the others
        self._depth = 0  # files that execute each other
        self.more = False  # a command of several lines goes on

    def start(
        self, make: "Callable[[Console], Session]", handlers: "Mapping[str, Callable[[Session], Handler]] | None" = None
    ) -> None:
        """Make the session in a process of its own; *handlers* serve kinds of requests beyond the debugger's.

        Raises:
            CannotStartError: what *make* raised.  MachineGoneError.
        """
        ours, theirs = socket.socketpair()
        held, self._lifeline = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._keeper = os.fork()
        if not self._keeper:
            os.close(self._lifeline)
            ours.close()
            _keep(make, handlers or {}, theirs, held)
        theirs.close()
        os.close(held)
        self._channel = wire.Channel(ours)
        self._busy = True
        started = self.receive()
        if isinstance(started, wire.CannotStartError):
            self.close()
            raise started

    # ---- asking

    def fileno(self) -> int:
        """The socket, for select(2): readable when ``receive`` would not wait."""
        return self._channel.fileno()

    def send(self, kind: str, payload: Any) -> None:
        """Ask; the answer comes through ``receive``."""
        assert not self._busy, "Front.send: the answer to the last request has not been taken"
        self._busy = True
        try:
            self._channel.send(wire.Request(kind, payload))
        except wire.GoneError as error:
            raise MachineGoneError(_gone(error)) from None

    def receive_one(self) -> wire.Reply | None:
        """Take one message: the reply, or None for one that has been dealt with.

        Raises:
            MachineGoneError.
        """
        try:
            message = self._channel.receive()
            match message:
                case wire.Text(text, wait):
                    self._write(text)
                    if wait:
                        self._channel.send(wire.Shown())
                case wire.Active(pid):
                    self.pid = pid
                case wire.Reply():
                    self._busy = False
                    return message
                case wire.Panic(report):
                    raise MachineGoneError(report)
        except wire.GoneError as error:
            raise MachineGoneError(_gone(error)) from None
        return None

    def receive(self) -> Any:
        """Wait for the reply's payload."""
        while True:
            reply = self.receive_one()
            if reply is not None:
                return reply.payload

    def request(self, kind: str, payload: Any) -> Any:
        """Ask, and wait for the answer.

        Raises:
            MachineGoneError.
        """
        self.send(kind, payload)
        return self.receive()

    def execute(self, line: str) -> bool:
        """Run the command *line*; False if it could not be done, which one line has said."""
        word, _, rest = line.strip().partition(" ")
        if word == "source" and self.sources and not self.more:
            return self._source(rest.strip())
        executed: wire.Executed = self.request("execute", line)
        self.done, self.more = executed.done, executed.more
        return executed.ok

    def _source(self, name: str) -> bool:
        """Execute the file *name* from here: the machine's process may be another one behind each line."""
        from minikernel.kdb.command import CommandError
        from minikernel.kdb.scripting import lines_of

        try:
            lines = lines_of(name, self._depth)
        except CommandError as error:
            self._write(f"{error}\n")
            return False
        self._depth += 1
        try:
            for number, line in enumerate(lines, 1):
                if self.done:
                    return True
                if not self.execute(line):
                    self._write(f"{name}:{number}: Error in sourced command file.\n")
                    return False
        finally:
            self._depth -= 1
        return True

    def complete(self, text: str) -> tuple[int, list[str]]:
        """What may follow *text*: how many of its last characters are replaced, and by which words."""
        start, words = self.request("complete", text)
        return start, words

    def interrupt(self) -> None:
        """Stop what the machine is doing for us.  For signal handlers, too."""
        if self._busy and self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGINT)

    def close(self) -> None:
        """End the machine and all its copies; when this returns they are gone."""
        if not self._keeper:
            return
        self._channel.close()
        os.close(self._lifeline)
        os.waitpid(self._keeper, 0)
        self._keeper = 0


def _gone(error: Exception) -> str:
    return f"minikernel: the machine's process is gone: {error}\n"


def _keep(
    make: "Callable[[Console], Session]",
    handlers: "Mapping[str, Callable[[Session], Handler]]",
    end: socket.socket,
    lifeline: int,
) -> NoReturn:
    """Be the keeper: the parent of the first machine, and of every copy whose own parent has ended."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if not os.fork():
        from minikernel.kdb.server import serve

        serve(make, handlers, wire.Channel(end), lifeline)
    end.close()
    os.close(lifeline)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)
