"""What passes between the debugger's front end and the process that holds the machine: plain data, over a socket.

The front end asks (``Request``); the machine's side says what is to be shown on the way (``Text``) and answers
(``Reply``).  Both ends are forked from one program, so values are pickled; nobody else can reach the socket.
"""

import pickle
import socket
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

_LENGTH: Final = Struct("<I")
_MOST_SOCKETS: Final = 250  # in one message: SCM_MAX_FD of linux/net/scm.h is 253


class CannotStartError(Exception):
    """There is no machine to debug: one line why, and the exit status for it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """Something is asked of the machine's side: *kind* is one of the names its server was given."""

    kind: str
    payload: Any


@dataclass(frozen=True, slots=True)
class Text:
    """To be shown now; *wait*: the program is about to write itself, so say (``Shown``) when that is done."""

    text: str
    wait: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """The text is on the screen."""


@dataclass(frozen=True, slots=True)
class Active:
    """From now on process *pid* is the machine: it serves requests, and SIGINT to it is Ctrl-C."""

    pid: int


@dataclass(frozen=True, slots=True)
class Executed:
    """The payload of the reply to a command line: *ok*, it could be done; *done*, the user has had enough.

    *more*: it is a command of several lines, of which the next is awaited.
    """

    ok: bool
    done: bool
    more: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request."""

    payload: Any


@dataclass(frozen=True, slots=True)
class Panic:
    """A mistake of ours has ended the machine: the report."""

    report: str


class GoneError(EOFError):
    """The other side has ended."""


def send_with_sockets(end: socket.socket, message: object, sockets: list[socket.socket]) -> None:
    """Pass *message*, and copies of *sockets*.

    Raises:
        GoneError.
    """
    data = pickle.dumps(message)
    try:
        socket.send_fds(end, [_LENGTH.pack(len(data))], [each.fileno() for each in sockets])
        end.sendall(data)
    except OSError as error:
        raise GoneError(str(error)) from None


def receive_with_sockets(end: socket.socket) -> tuple[Any, list[socket.socket]]:
    """Wait for a message that comes with sockets.

    Raises:
        GoneError.
    """
    try:
        head, descriptors, _, _ = socket.recv_fds(end, _LENGTH.size, _MOST_SOCKETS)
    except OSError as error:
        raise GoneError(str(error)) from None
    if not head:
        raise GoneError("the other side has ended")
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    return pickle.loads(_exactly(end, *_LENGTH.unpack(head))), sockets  # noqa: S301 - our own other half wrote it


def _exactly(end: socket.socket, size: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < size:
        try:
            data = end.recv(size - len(pieces))
        except OSError as error:
            raise GoneError(str(error)) from None
        if not data:
            raise GoneError("the other side has ended")
        pieces += data
    return bytes(pieces)


class Channel:
    """One end of a socket that passes whole messages."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def fileno(self) -> int:
        """For select(2)."""
        return self._end.fileno()

    def send(self, message: object) -> None:
        """Pass *message*.

        Raises:
            GoneError.
        """
        data = pickle.dumps(message)
        try:
            self._end.sendall(_LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise GoneError(str(error)) from None

    def receive(self) -> Any:
        """Wait for a message.

        Raises:
            GoneError.
        """
        (length,) = _LENGTH.unpack(_exactly(self._end, _LENGTH.size))
        return pickle.loads(_exactly(self._end, length))  # noqa: S301 - our own other half wrote it

    def close(self) -> None:
        """Nothing more will be said."""
        self._end.close()
