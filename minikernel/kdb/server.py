"""The machine's side: a process that holds a session and serves the front end's requests, one after another."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from minikernel.kdb import wire
from minikernel.kdb.checkpoints import Order, Timeline, Woken

if TYPE_CHECKING:
    from types import FrameType

    from minikernel.kdb.session import Session

Handler = Callable[[Any], Any]
"""Serves requests of one kind: payload to reply's payload, plain data both."""

_ENOUGH: Final = 1 << 15  # characters: longer texts are sent in pieces


class Console:
    """Where a session's words go: to the front end, in front of whatever the program writes afterwards."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel
        self._pieces: list[str] = []
        self._size = 0

    def write(self, text: str) -> None:
        """Show *text*, soon."""
        self._pieces.append(text)
        self._size += len(text)
        if self._size > _ENOUGH:
            self.flush(wait=False)

    def flush(self, *, wait: bool = True) -> None:
        """Show it now; *wait* until it is on the screen, because somebody else is about to write there."""
        if self._pieces:
            text = "".join(self._pieces)
            self.drop()
            self._channel.send(wire.Text(text, wait))
            if wait:
                self._channel.receive()

    def drop(self) -> None:
        """Forget what has not been shown."""
        self._pieces.clear()
        self._size = 0


class Interrupts:
    """SIGINT to this process pauses the machine.  A handler of signals."""

    def __init__(self) -> None:
        self.session: Session | None = None

    def __call__(self, _number: int, _frame: "FrameType | None") -> None:
        """Ctrl-C was pressed."""
        if self.session is not None:
            self.session.machine.interrupt()


class Server:
    """Serves one session."""

    def __init__(
        self,
        channel: wire.Channel,
        console: Console,
        session: "Session",
        handlers: Mapping[str, "Callable[[Session], Handler]"],
        interrupts: "Interrupts",
    ) -> None:
        self._interrupts = interrupts
        self._channel = channel
        self._console = console
        self._session = session
        self._makers = handlers
        self._handlers: dict[str, Handler] = {"execute": self._execute, "complete": self._complete}

    def loop(self) -> None:
        """Serve until the front end has gone.  Raises GoneError."""
        serve: Callable[[], None] = self._begin
        while True:
            try:
                serve()
                serve = self._serve
            except Woken as woken:  # this is a copy now, and here all that the original was doing is left
                serve = partial(self._obey, woken.order, woken.sockets)

    def _begin(self) -> None:
        """Say that there is a machine."""
        assert self._session.timeline is not None, "Server._begin: a session without a timeline"
        self._session.timeline.begin()
        self._reply(None)

    def _serve(self) -> None:
        """Answer one request."""
        request: wire.Request = self._channel.receive()
        self._session.machine.forget_interrupt()
        payload = self._handler(request.kind)(request.payload)
        self._reply(payload)

    def _obey(self, order: Order, sockets: list[socket.socket]) -> None:
        """Go where *order* says, and be the machine that answers the request which led there."""
        timeline = self._session.timeline
        assert timeline is not None, "Server._obey: woken without a timeline"
        self._console.drop()
        then = timeline.obey(order, sockets)
        signal.signal(signal.SIGINT, self._interrupts)
        doorbell = self._session.kernel.vfs.doorbell
        doorbell.close()
        doorbell.connect_signals()
        self._channel.send(wire.Active(os.getpid()))
        self._reply(then(self._session))

    def _reply(self, payload: Any) -> None:
        self._console.flush(wait=False)
        self._channel.send(wire.Reply(payload))

    def _handler(self, kind: str) -> Handler:
        if kind not in self._handlers:
            self._handlers[kind] = self._makers[kind](self._session)
        return self._handlers[kind]

    def _execute(self, line: str) -> wire.Executed:
        self._session.at_prompt = True
        try:
            ok = self._session.execute(line)
        finally:
            self._session.at_prompt = False
        return wire.Executed(ok, self._session.done, self._session.workbench.block is not None)

    def _complete(self, text: str) -> tuple[int, list[str]]:
        return self._session.complete(text)


def serve(
    make: "Callable[[Console], Session]",
    handlers: Mapping[str, "Callable[[Session], Handler]"],
    channel: wire.Channel,
    lifeline: int,
) -> NoReturn:
    """Be the machine's process until the front end has gone."""
    interrupts = Interrupts()
    signal.signal(signal.SIGINT, interrupts)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # copies that end leave nothing behind
    session = None
    try:
        channel.send(wire.Active(os.getpid()))
        console = Console(channel)
        try:
            session = make(console)
        except wire.CannotStartError as error:
            channel.send(wire.Reply(error))
            os._exit(0)
        session.flush = console.flush
        session.timeline = Timeline(session, lifeline)
        interrupts.session = session
        Server(channel, console, session, handlers, interrupts).loop()
    except wire.GoneError:  # the front end has ended
        if session is not None:
            session.close()
    except Exception as error:  # noqa: BLE001 - our own bugs end here: a panic, not a traceback
        _panic(channel, session, error)
    finally:
        sys.stderr.flush()
        os._exit(0)


def _panic(channel: wire.Channel, session: "Session | None", error: Exception) -> None:
    """Tell the front end of a mistake of ours."""
    from minikernel.report.panic import panic_report

    report = panic_report(session.kernel if session is not None else None, error)
    try:
        channel.send(wire.Panic(report))
    except wire.GoneError:
        sys.stderr.write(report)
