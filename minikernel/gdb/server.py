"""The front end: a listening socket or a pair of pipes, one client at a time, and no machine.

    gdb ── bytes ── Connection ── packets ── Server ── Front ── the machine's process (service.py)

Whatever a client sends, the machine goes on as it was; a client that breaks the connection leaves it standing still,
and the next one finds it so.  One that detaches leaves it running.
"""

import contextlib
import os
import select
import socket
import sys
from collections import deque
from typing import Final

from minikernel.gdb.packet import Decoder, Mark, Packet, encode
from minikernel.gdb.service import KIND, Answer, Order
from minikernel.kdb.front import Front

LOOPBACK: Final = "127.0.0.1"
_RECEIVE: Final = 1 << 16
_SEND_TIMEOUT: Final = 30.0  # seconds in which a client must take what it asked for
_AGAIN: Final = 0.1  # seconds: how soon an interrupt is repeated, should the machine not have been running yet
_MOST_WAITING: Final = 4096  # packets that a client may send ahead
_KILLED: Final = 128 + 9


class AddressError(ValueError):
    """--gdb wants another kind of address; the message is one line."""


def parse_address(text: str) -> tuple[str, int] | None:
    """Where to listen: ``PORT`` (loopback) or ``HOST:PORT``; None for ``-``: standard input and output.

    Raises:
        AddressError.
    """
    if text == "-":
        return None
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdecimal() or int(port) > 0xFFFF:
        raise AddressError(f"{text!r} is not PORT, HOST:PORT or -")
    return host or LOOPBACK, int(port)


def listen(address: tuple[str, int]) -> socket.socket:
    """A socket that listens at *address*.  Raises OSError."""
    family, kind, protocol, _, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


class LostError(Exception):
    """The client is gone, and has not said good-bye."""


class Connection:
    """Bytes to and from one client."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self._write_fd = write_fd
        self._decoder = Decoder()
        self.waiting: deque[Packet | Mark] = deque()  # received, and not looked at
        self.acknowledging = True
        self._last = b""

    def receive(self) -> None:
        """Take what has come.  Raises LostError at the end."""
        try:
            data = os.read(self.read_fd, _RECEIVE)
        except OSError as error:
            raise LostError(str(error)) from None
        if not data:
            raise LostError("the client has closed the connection")
        self.waiting.extend(self._decoder.feed(data))

    def send(self, data: bytes) -> None:
        """Write all of *data*.  Raises LostError."""
        view = memoryview(data)
        while view:
            if not select.select([], [self._write_fd], [], _SEND_TIMEOUT)[1]:
                raise LostError("the client takes no answers")
            try:
                view = view[os.write(self._write_fd, view[:_RECEIVE]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise LostError(str(error)) from None

    def send_payload(self, payload: bytes) -> None:
        """Send a packet."""
        self._last = encode(payload)
        self.send(self._last)

    def acknowledge(self, *, good: bool) -> None:
        """Say that a packet came as it was sent, or not."""
        if self.acknowledging:
            self.send(b"+" if good else b"-")

    def repeat(self) -> None:
        """The client asks for the last packet again."""
        if self.acknowledging:
            self.send(self._last)


class Server:
    """Serves one client after another, until the machine has ended."""

    def __init__(self, front: Front, listener: socket.socket | None) -> None:
        self._front = front
        self._listener = listener
        self._answer = Answer()

    def serve_pipes(self, read_fd: int, write_fd: int) -> int:
        """One client, at the ends of two pipes; the exit status."""
        self._talk(Connection(read_fd, write_fd))
        if self._answer.gone and self._answer.status is None:
            self._answer = self._ask(Order("free"))
        return self._answer.status if self._answer.status is not None else _KILLED

    def serve_clients(self) -> int:
        """Whoever connects; the exit status."""
        assert self._listener is not None, "serve_clients: nowhere to listen"
        while True:
            with self._accept() as client:
                with contextlib.suppress(OSError):
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._talk(Connection(client.fileno(), client.fileno()))
            if self._answer.status is not None:
                return self._answer.status
            if self._answer.gone and (status := self._run_free()) is not None:
                return status

    def _accept(self) -> socket.socket:
        assert self._listener is not None, "Server: nowhere to listen"
        client, address = self._listener.accept()
        complain(f"gdb: connection from {address[0]}:{address[1]}")
        return client

    def _run_free(self) -> int | None:
        """Nobody is attached: the program runs until it ends (its status), or the next client comes (None)."""
        assert self._listener is not None, "Server: nowhere to listen"
        self._front.send(KIND, Order("free"))
        watched: list[socket.socket | Front] = [self._front, self._listener]
        while True:
            timeout = None if self._listener in watched else _AGAIN
            ready = select.select(watched, [], [], timeout)[0]
            if self._front in ready:
                reply = self._front.receive_one()
                if reply is not None:
                    self._answer = reply.payload
                    break
            elif self._listener in ready or self._listener not in watched:
                watched = [self._front]
                self._front.interrupt()
        if self._answer.words:
            complain(self._answer.words)
        return self._answer.status

    # ---- one client

    def _talk(self, connection: Connection) -> None:
        """Answer what comes until the client is gone."""
        self._answer = self._ask(Order("connected"))
        try:
            while True:
                while not connection.waiting:
                    connection.receive()
                self._take(connection, connection.waiting.popleft())
                if not self._answer.payloads and self._answer.gone:
                    return  # it was killed: no more is to be said
        except LostError as error:
            if not self._answer.gone and self._answer.status is None and self._listener is not None:
                complain(f"gdb: {error}; the program stands still until the next client comes")

    def _take(self, connection: Connection, item: Packet | Mark) -> None:
        match item:
            case Mark.NAK:
                connection.repeat()
            case Mark.BAD:
                connection.acknowledge(good=False)
            case Packet(b"QStartNoAckMode"):
                connection.acknowledge(good=True)
                connection.send_payload(b"OK")
                connection.acknowledging = False
            case Packet(payload):
                connection.acknowledge(good=True)
                self._answer = self._ask(Order("packet", payload), connection)
                for answer in self._answer.payloads:
                    connection.send_payload(answer)

    def _ask(self, order: Order, connection: Connection | None = None) -> Answer:
        """Have the machine's process do *order*; meanwhile the client may interrupt, or break the connection."""
        self._front.send(KIND, order)
        lost: LostError | None = None
        interrupting = False
        while True:
            watched: list[int | Front] = [self._front]
            if connection is not None and lost is None and len(connection.waiting) < _MOST_WAITING:
                watched.append(connection.read_fd)
            ready = select.select(watched, [], [], _AGAIN if interrupting else None)[0]
            if self._front in ready:
                reply = self._front.receive_one()
                if reply is not None:
                    break
            elif ready and connection is not None:
                try:
                    connection.receive()
                except LostError as error:
                    lost, interrupting = error, True
            if connection is not None and Mark.INTERRUPT in connection.waiting:
                connection.waiting.remove(Mark.INTERRUPT)
                interrupting = True
            if interrupting:
                self._front.interrupt()
        answer: Answer = reply.payload
        if lost is not None:
            self._answer = answer
            raise lost
        return answer


def complain(message: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"minikernel: {message}\n")
    sys.stderr.flush()
