"""The machine's side of the server: what its process answers the front end, which has the connection."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from minikernel.abi.errno import Errno
from minikernel.gdb import reverse
from minikernel.gdb.client import Client
from minikernel.gdb.signals import GDB_SIGINT
from minikernel.gdb.stops import Stop
from minikernel.gdb.stub import CommandLine, Stub
from minikernel.kdb import back
from minikernel.kdb.command import CommandError
from minikernel.kdb.machine import Why

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

KIND: Final = "packet"  # of the requests to Front


@dataclass(frozen=True, slots=True)
class Order:
    """What the front end asks for: *what* is "packet" (with its payload), "connected" or "free"."""

    what: str
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """Payloads to send; *status* is the exit status that the machine's end means, None while it lives."""

    payloads: tuple[bytes, ...] = ()
    status: int | None = None
    gone: bool = False  # the client has left the machine to itself
    extended: bool = False  # the client may start the program again
    words: str = ""  # for standard error


class Service:
    """Serves one session's machine; *stub* is the state that one client has made, in this copy of the machine."""

    def __init__(self, session: "Session", stub: Stub) -> None:
        self._session = session
        self.stub = stub

    def handle(self, order: Order) -> Answer:
        """Do what the front end wants."""
        stub = self.stub
        payloads: list[bytes] = []
        words = ""
        match order.what:
            case "packet" if order.payload in {b"bs", b"bc"}:
                return self._go_back(order.payload)
            case "packet":
                if order.payload.startswith(_RESUMING):
                    self._begin_history()
                stub.extra_features = _REVERSE if reverse.is_possible(self._session) else ()
                payloads = stub.handle(order.payload)
            case "connected":
                stub.connected()
            case "free":
                self._begin_history()
                pause = stub.control.run_free()
                words = pause.text if pause.why is Why.STUCK else ""
        return self.answer(payloads, words)

    def answer(self, payloads: list[bytes], words: str = "") -> Answer:
        """*payloads*, with how things stand."""
        stub = self.stub
        gone = stub.killed or not stub.client.inferiors
        return Answer(tuple(payloads), _status(stub, words), gone, stub.client.extended, words)

    def _begin_history(self) -> None:
        """What has been changed by hand no run comes to by itself: the past that can be gone back to begins here."""
        timeline = self._session.timeline
        if self.stub.control.changed and timeline is not None and timeline.enabled:
            self.stub.control.changed = False
            timeline.begin_here()

    def _go_back(self, packet: bytes) -> Answer:
        """Reverse-step and reverse-continue.  Where another copy of the machine takes over it answers, not we."""
        session, client = self._session, self.stub.client
        try:
            if not client.inferiors:
                return self.answer([b"E%02x" % Errno.ESRCH])
            self._begin_history()
            find = reverse.instruction_back if packet == b"bs" else reverse.point_back
            found = find(session, client) or reverse.beginning(session)
            answer: Answer = back.go_to(session, back.AtPosition(found.position), partial(arrive, client, found))
        except CommandError as error:
            task = self.stub.control.someone()
            words = f"{error}\n"
            if task is None:
                return self.answer([b"E01"])
            return self.answer(self.stub.report(Stop(task.tgid, task.pid, GDB_SIGINT, words=words)))
        return answer


_RESUMING: Final = (b"c", b"C", b"s", b"S", b"vCont;")
_REVERSE: Final = ("ReverseStep+", "ReverseContinue+")
_services: "WeakKeyDictionary[Session, Service]" = WeakKeyDictionary()  # one for each session, in any copy
_makers: "WeakKeyDictionary[Session, Callable[[Session], Service]]" = WeakKeyDictionary()


def service_of(session: "Session") -> Service:
    """The service of *session*; a copy of the machine that was made before there was one makes its own."""
    if session not in _services:
        _services[session] = _makers[session](session)
    return _services[session]


def prepare(session: "Session", printed: list[str], line: CommandLine) -> None:
    """Say how a service for *session* is made: *printed* is where its output goes."""
    _makers[session] = lambda session: Service(session, Stub(session, printed, line))


def handler(session: "Session") -> Callable[[Order], Answer]:
    """The handler of KIND."""
    return lambda order: service_of(session).handle(order)


def arrive(client: Client, found: reverse.Found, session: "Session") -> Answer:
    """Report *found*, where the machine of *session* is now; it may be another copy than the one that looked for it."""
    service = service_of(session)
    service.stub.adopt(client)
    return service.answer(service.stub.report(reverse.as_stop(found, service.stub.control)))


def _status(stub: Stub, words: str) -> int | None:
    """As ``minikernel run`` would end."""
    code = stub.control.kernel.exit_code
    if code is None:
        return 125 if words else None
    return 128 + (code & 0x7F) if code & 0x7F else os.WEXITSTATUS(code)
