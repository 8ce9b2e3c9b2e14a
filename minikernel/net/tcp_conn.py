"""TCP connections: listen, connect, accept, shutdown, close.

Linux: net/ipv4/af_inet.c (__inet_stream_connect, inet_shutdown), tcp_ipv4.c (tcp_v4_connect), tcp.c (__tcp_close),
inet_connection_sock.c.
"""

from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.socket import AF_UNSPEC
from minikernel.net.inet import Endpoint, hears, is_any, is_broadcast, is_local, is_multicast, route
from minikernel.net.sock import (
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT2,
    TCP_LISTEN,
    TCP_SYN_SENT,
    Caller,
    Sock,
    would_block,
)
from minikernel.net.tcp import FIN_TIMEOUT_NS, NO_URGENT, TcpSock, matches

if TYPE_CHECKING:
    from minikernel.net.net import Net

_SYN_RETRIES: Final = 6  # net.ipv4.tcp_syn_retries: the last gives up after 127 s
_FIRST_RETRY_NS: Final = 1_000_000_000


class TcpConn(TcpSock):
    """A TCP socket.  *connecting*: connect(2) has begun and nobody was told how it ended (SS_CONNECTING)."""

    __slots__ = ("connected", "connecting", "retries")

    peer: TcpSock | None

    def __init__(self, net: "Net", family: int, protocol: int, uid: int) -> None:
        """Errors: ENOMEM."""
        super().__init__(net, family, protocol, uid)
        self.connecting = False
        self.connected = False  # SS_CONNECTED
        self.retries = 0

    # Connect

    def connect(self, address: bytes, caller: Caller, *, nonblock: bool) -> None:
        """inet_stream_connect.

        Errors:
            EISCONN; EALREADY; EINPROGRESS: without waiting, always, although the loopback has answered by then;
            ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL; ECONNABORTED; WouldBlock.
        """
        del caller
        if len(address) < 2:
            raise LinuxError(Errno.EINVAL, f"an address of {len(address)} bytes")
        if int.from_bytes(address[:2], "little") == AF_UNSPEC:
            self._disconnect()
            return
        if self.connected:
            raise LinuxError(Errno.EISCONN, "connected")
        if not self.connecting:
            if self.state != TCP_CLOSE:
                raise LinuxError(Errno.EISCONN, "it listens, or was connected")
            self._start(address)
            if nonblock:
                raise LinuxError(Errno.EINPROGRESS, "the answer comes at once, and is told later")
        if self.state == TCP_SYN_SENT:
            if nonblock:
                raise LinuxError(Errno.EALREADY, "connecting")
            raise would_block(self, "the backlog is full")
        self.connecting = False
        if self.state == TCP_CLOSE:
            error = self.take_error()
            self._disconnect()
            raise LinuxError(Errno(error) if error else Errno.ECONNABORTED, "the connection was not made")
        self.connected = True

    def _start(self, address: bytes) -> None:
        """tcp_v4_connect, tcp_v6_connect."""
        to = self.destination(address)
        if is_multicast(to.ip) or is_broadcast(to.ip):
            raise LinuxError(Errno.ENETUNREACH, "not a single machine")
        source = route(to.ip)
        if is_any(self.local.ip):
            self.move(source)
        try:
            self.autobind()
        except LinuxError:
            raise LinuxError(Errno.EADDRNOTAVAIL, "every port is in use") from None
        if any(isinstance(holder, TcpSock) and matches(holder, self.local, to) for holder in self._holders()):
            raise LinuxError(Errno.EADDRNOTAVAIL, "there is such a connection")
        self.remote = to
        self.state = TCP_SYN_SENT
        self.shutdown = 0
        self.connecting = True
        self.retries = 0
        self._syn()

    def _holders(self) -> list[object]:
        return [*self.ports.holders(self.local.port)]

    def _syn(self) -> None:
        """Ask whoever listens there: refused if nobody does, later if the backlog is full."""
        self.timer = None
        listener = find_listener(self, self.remote)
        if listener is None:
            self.reset()
            return
        if len(listener.pending) <= listener.backlog:
            try:
                listener.make_child(self)
            except LinuxError:  # no memory for it: the SYN is lost
                pass
            else:
                self.establish()
                self.state_change()
                return
        if self.retries > _SYN_RETRIES:
            self.error = Errno.ETIMEDOUT
            self.finish()
            return
        self.timer = self.net.add_timer(_FIRST_RETRY_NS << self.retries, self._syn)
        self.retries += 1

    def _disconnect(self) -> None:
        """tcp_disconnect: as new, but for what bind(2) chose."""
        if self.state == TCP_LISTEN:
            self._drop_pending()
            self.state = TCP_CLOSE
            self.put_port()
        elif self.state != TCP_CLOSE:
            self.abort()
        self.purge()
        self.error = 0
        self.shutdown = 0
        self.done = False
        self.rcv_nxt = self.copied = 0
        self.urgent = NO_URGENT
        self.connected = self.connecting = False
        self.forget_ends()

    # Listen

    def listen(self, backlog: int, caller: Caller) -> None:
        """inet_listen.  Errors: EINVAL: connected; EADDRINUSE."""
        del caller
        if self.state not in {TCP_CLOSE, TCP_LISTEN} or self.connecting or self.connected:
            raise LinuxError(Errno.EINVAL, "the socket is connected")
        self.backlog = backlog
        if self.state == TCP_LISTEN:
            return
        self.autobind()
        if self.ports.conflict(self, at=self.local):
            raise LinuxError(Errno.EADDRINUSE, f"port {self.local.port}")
        self.state = TCP_LISTEN
        self.shutdown = 0

    def make_child(self, client: "TcpConn") -> None:
        """The other end of *client*'s connection, to be accepted (tcp_v4_syn_recv_sock).  Errors: ENOMEM."""
        child = TcpConn(self.net, self.family, self.protocol, self.uid)
        child.opts = self.opts.copy()
        child.levels = dict(self.levels)
        child.chosen = None
        child.remote = client.local
        child._hash(Endpoint(client.remote.ip, self.local.port))
        child.peer, client.peer = client, child
        child.connected = True
        child.establish()
        self.pending.append(child)
        self.data_ready()

    def accept(self) -> Sock:
        """inet_csk_accept.  Errors: EINVAL: it does not listen; WouldBlock."""
        if self.state != TCP_LISTEN:
            raise LinuxError(Errno.EINVAL, "the socket does not listen")
        if not self.pending:
            raise would_block(self, "no connection")
        return self.pending.popleft()

    def _drop_pending(self) -> None:
        while self.pending:
            child = self.pending.popleft()
            child.orphan = True
            child.purge()
            if child.state == TCP_CLOSE:
                child.destroy()
            else:
                child.abort()

    # End

    def shut(self, how: int) -> None:
        """inet_shutdown.  Errors: ENOTCONN, and the shutdown counts nevertheless."""
        if self.connecting:
            self.connecting = False
            self.connected = self.state not in {TCP_SYN_SENT, TCP_CLOSE}
        if self.state == TCP_LISTEN:
            if how & RCV_SHUTDOWN:
                self._disconnect()
        elif self.state == TCP_SYN_SENT:
            self._disconnect()
        else:
            closed = self.state == TCP_CLOSE
            self.shutdown |= how
            if how & SEND_SHUTDOWN:
                self.start_fin()
            self.state_change()
            if closed:
                raise LinuxError(Errno.ENOTCONN, "not connected")
            return
        self.state_change()

    def release(self) -> None:
        """__tcp_close: with a reset if something was not read, or SO_LINGER says 0 seconds."""
        self.shutdown = SHUTDOWN_MASK
        self.orphan = True
        unread = self.copied < self.rcv_nxt
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.net.forget(self)
        if self.state == TCP_LISTEN:
            self._drop_pending()
            self.state = TCP_CLOSE
        if self.state in {TCP_CLOSE, TCP_SYN_SENT}:
            self.finish()
            return
        self.purge()
        self.copied = self.rcv_nxt
        if unread or self.opts.linger == (1, 0) or self.peer is None:
            self.abort()
        elif self.state in {TCP_ESTABLISHED, TCP_CLOSE_WAIT}:
            self.start_fin()
        elif self.state == TCP_FIN_WAIT2:
            self.timer = self.net.add_timer(FIN_TIMEOUT_NS, self.abort_quietly)


def find_listener(client: TcpConn, to: Endpoint) -> TcpConn | None:
    """Who listens at *to*: with that very address before the wildcard (inet_lookup_listener)."""
    best = [
        holder
        for holder in client.ports.holders(to.port)
        if isinstance(holder, TcpConn) and holder.state == TCP_LISTEN and hears(holder, to.ip) and is_local(to.ip)
    ]
    exact = [sock for sock in best if sock.local.ip == to.ip] or best
    return exact[client.local.port % len(exact)] if exact else None
