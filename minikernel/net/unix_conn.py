"""AF_UNIX connections: listen, connect, accept, for streams and sequenced packets.

Linux: unix_listen, unix_stream_connect, unix_accept (net/unix/af_unix.c).
"""

from collections import deque
from typing import TYPE_CHECKING

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.socket import SOMAXCONN
from minikernel.fs.file import WouldBlock
from minikernel.net.sock import (
    RCV_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    WRITE_SPACE,
    Caller,
    Sock,
    would_block,
)
from minikernel.net.unix import UnixSock, creds_of, validate_address

if TYPE_CHECKING:
    from minikernel.net.net import Net


class UnixConn(UnixSock):
    """A socket that listens or is connected.  *pending*: embryos, the other ends of connections to be accepted."""

    __slots__ = ("pending",)

    def __init__(self, net: "Net", kind: int) -> None:
        """Errors: ENOMEM."""
        super().__init__(net, kind)
        self.pending: deque[UnixConn] = deque()

    def is_full(self) -> bool:
        """Whether there are more connections to be accepted than the backlog holds."""
        return len(self.pending) > self.backlog

    def listen(self, backlog: int, caller: Caller) -> None:
        """unix_listen.  Errors: EINVAL: no name, or connected."""
        if self.address is None:
            raise LinuxError(Errno.EINVAL, "the socket has no name")
        if self.state not in {TCP_CLOSE, TCP_LISTEN}:
            raise LinuxError(Errno.EINVAL, "the socket is connected")
        if backlog > self.backlog:
            self.peer_wait.wake()
        self.backlog = backlog if 0 <= backlog <= SOMAXCONN else SOMAXCONN
        self.state = TCP_LISTEN
        self.peercred = creds_of(caller)

    def connect(self, address: bytes, caller: Caller, *, nonblock: bool) -> None:
        """unix_stream_connect.

        Errors:
            EINVAL: no address, or it listens; ECONNREFUSED; EISCONN; EPROTOTYPE; WouldBlock: the backlog is full.
        """
        del nonblock  # never EINPROGRESS: EAGAIN
        validate_address(address)
        self.autobind_for_creds()
        other = self.find_other(address, caller)
        if not isinstance(other, UnixConn) or other.state != TCP_LISTEN or other.shutdown & RCV_SHUTDOWN:
            raise LinuxError(Errno.ECONNREFUSED, "nobody listens")
        if other.is_full():
            raise WouldBlock(other.peer_wait, "the backlog is full")
        if self.state != TCP_CLOSE:
            errno = Errno.EISCONN if self.state == TCP_ESTABLISHED else Errno.EINVAL
            raise LinuxError(errno, "the socket is connected, or listens")
        embryo = type(self)(self.net, self.kind)
        embryo.embryo = True
        embryo.state = TCP_ESTABLISHED
        embryo.peer = self
        embryo.peercred = creds_of(caller)
        embryo.address = other.address
        embryo.opts.flags = dict(other.opts.flags)
        self.peer = embryo
        self.peercred = other.peercred
        self.state = TCP_ESTABLISHED
        other.pending.append(embryo)
        other.data_ready()
        self.state_change()

    def accept(self) -> Sock:
        """unix_accept.  Errors: EINVAL: it does not listen; WouldBlock."""
        if self.state != TCP_LISTEN:
            raise LinuxError(Errno.EINVAL, "the socket does not listen")
        if not self.pending:
            self.raise_error()
            if self.shutdown & RCV_SHUTDOWN:
                raise LinuxError(Errno.EINVAL, "the socket was shut down")
            raise would_block(self, "no connection")
        embryo = self.pending.popleft()
        self.peer_wait.wake(key=WRITE_SPACE)
        embryo.embryo = False
        return embryo

    def pair(self, other: Sock, caller: Caller) -> None:
        """unix_socketpair."""
        assert isinstance(other, UnixConn), "pair: of two families"
        for one, two in ((self, other), (other, self)):
            one.peer = two
            one.state = TCP_ESTABLISHED
            one.peercred = creds_of(caller)

    def drop_backlog(self) -> None:
        """Connections that were not accepted are reset."""
        while self.pending:
            self.pending.popleft().release()


def is_hung_up(sock: Sock) -> bool:
    """Whether poll says POLLHUP of *sock*."""
    return sock.shutdown == SHUTDOWN_MASK or sock.state == TCP_CLOSE
