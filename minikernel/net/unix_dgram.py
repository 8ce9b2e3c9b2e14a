"""AF_UNIX datagrams and sequenced packets: whole messages.

Linux: unix_dgram_sendmsg, unix_dgram_recvmsg, unix_dgram_poll, unix_dgram_connect (net/unix/af_unix.c).
"""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.poll import POLLERR, POLLHUP, POLLRDHUP, READABLE
from minikernel.abi.socket import AF_UNSPEC, MSG_OOB, MSG_PEEK, MSG_TRUNC, SOCK_SEQPACKET
from minikernel.fs.file import WouldBlock
from minikernel.net.skb import MAX_ALLOC, Scm, Skb
from minikernel.net.sock import (
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    WRITE_SPACE,
    Caller,
    Received,
    Sock,
    would_block,
)
from minikernel.net.unix import UnixSock, creds_of, validate_address
from minikernel.net.unix_conn import UnixConn


class QuietlyBroken(LinuxError):  # noqa: N818 - it says what is broken
    """EPIPE without SIGPIPE."""

    def __init__(self, why: str) -> None:
        super().__init__(Errno.EPIPE, why)


def send_message(
    sock: UnixSock, data: bytes, address: bytes | None, flags: int, scm: Scm | None, caller: Caller
) -> int:
    """unix_dgram_sendmsg.

    Errors:
        EOPNOTSUPP: MSG_OOB; ENOTCONN; EMSGSIZE; ECONNREFUSED, ECONNRESET, EPERM, EPIPE; WouldBlock.
    """
    if flags & MSG_OOB:
        raise LinuxError(Errno.EOPNOTSUPP, "no out-of-band data")
    other = sock.peer
    if address:
        validate_address(address)
    elif other is None:
        raise LinuxError(Errno.ENOTCONN, "no peer, and no address")
    sock.autobind_for_creds()
    if len(data) > sock.max_message:
        raise LinuxError(Errno.EMSGSIZE, f"{len(data)} bytes")
    sock.raise_error()
    if sock.shutdown & SEND_SHUTDOWN:
        raise QuietlyBroken("shut down for sending")
    if sock.wmem >= sock.opts.sndbuf:
        raise would_block(sock, "the send buffer is full")
    if address:
        other = sock.find_other(address, caller)
    assert other is not None, "send_message: to nobody"
    if not _may_send(sock, other):
        raise LinuxError(Errno.EPERM, "the receiver is connected to another")
    if not other.is_alive():
        if sock.kind == SOCK_SEQPACKET:
            raise QuietlyBroken("the peer is gone")
        _disconnect(sock)
        raise LinuxError(Errno.ECONNREFUSED, "the peer is gone")
    if other.shutdown & RCV_SHUTDOWN:
        raise QuietlyBroken("the peer reads no more")
    if other is not sock and other.peer is not sock and other.is_full():
        raise WouldBlock(other.peer_wait, "the receiver's queue is full")
    other.enqueue(sock.new_skb(data, MAX_ALLOC, scm, other, caller))
    other.data_ready()
    return len(data)


def _may_send(sock: UnixSock, other: UnixSock) -> bool:
    """unix_may_send."""
    return other.peer is None or other.peer is sock


def _disconnect(sock: UnixSock) -> None:
    """The peer is gone, or another takes its place."""
    peer, sock.peer = sock.peer, None
    sock.state = TCP_CLOSE
    if peer is not None:
        peer.clients.pop(sock, None)
    if sock.queue:
        sock.purge()
        sock.wait.wake(key=WRITE_SPACE)


def receive_message(sock: UnixSock, size: int, flags: int) -> Received:
    """unix_dgram_recvmsg.  Errors: EOPNOTSUPP: MSG_OOB; WouldBlock."""
    if flags & MSG_OOB:
        raise LinuxError(Errno.EOPNOTSUPP, "no out-of-band data")
    if not sock.queue:
        sock.raise_error()
        if sock.shutdown & RCV_SHUTDOWN and (sock.kind == SOCK_SEQPACKET or not flags & _DONTWAIT):
            return Received(b"", 0)
        raise would_block(sock, "nothing to read")
    skb = sock.queue[0]
    keep = bool(flags & MSG_PEEK)
    got = _received(sock, skb, size, keep=keep)
    if not keep:
        sock.dequeue().free()
        sock.peer_wait.wake(key=WRITE_SPACE)
        for client in sock.clients:
            client.wait.wake(key=WRITE_SPACE)
    return got


_DONTWAIT: Final = 0x40


def _received(sock: UnixSock, skb: Skb, size: int, *, keep: bool) -> Received:
    scm = sock.take_scm(skb, keep=keep)
    truncated = MSG_TRUNC if len(skb.data) > size else 0
    return Received(skb.data[:size], len(skb.data), truncated, skb.address, scm)


def poll_messages(sock: UnixSock) -> int:
    """unix_dgram_poll."""
    mask = POLLERR if sock.error else 0
    if sock.shutdown & RCV_SHUTDOWN:
        mask |= POLLRDHUP | READABLE
    if sock.shutdown == SHUTDOWN_MASK:
        mask |= POLLHUP
    if sock.queue:
        mask |= READABLE
    if not sock.is_writable():
        return mask
    other = sock.peer
    full = other is not None and other.peer is not sock and other.is_alive() and other.is_full()
    return mask if full else mask | WRITE_SPACE


class UnixDgram(UnixSock):
    """Datagrams."""

    __slots__ = ()

    def connect(self, address: bytes, caller: Caller, *, nonblock: bool) -> None:
        """unix_dgram_connect: where what is sent goes.  Errors: EINVAL, EPERM, ECONNREFUSED, EPROTOTYPE."""
        del nonblock
        if int.from_bytes(address[:2], "little") == AF_UNSPEC:
            self._change_peer(None)
            return
        validate_address(address)
        self.autobind_for_creds()
        other = self.find_other(address, caller)
        if not _may_send(self, other):
            raise LinuxError(Errno.EPERM, "the receiver is connected to another")
        self._change_peer(other)

    def _change_peer(self, other: UnixSock | None) -> None:
        old = self.peer
        if old is not None:
            old.clients.pop(self, None)
            if other is not old:
                if self.queue:
                    self.purge()
                    self.peer_wait.wake(key=WRITE_SPACE)
                if old.peer is self:
                    old.error = Errno.ECONNRESET
                    old.state_change()
        self.peer = other
        self.state = TCP_CLOSE
        if other is not None:
            other.clients[self] = None
            self.state = other.state = TCP_ESTABLISHED

    def pair(self, other: Sock, caller: Caller) -> None:
        """unix_socketpair."""
        assert isinstance(other, UnixDgram), "pair: of two families"
        for one, two in ((self, other), (other, self)):
            one._change_peer(two)
            one.peercred = creds_of(caller)

    def sendmsg(self, data: bytes, address: bytes | None, flags: int, scm: Scm | None, caller: Caller) -> int:
        """One datagram."""
        return send_message(self, data, address, flags, scm, caller)

    def recvmsg(self, size: int, flags: int) -> Received:
        """One datagram."""
        return receive_message(self, size, flags)

    def poll(self) -> int:
        """unix_dgram_poll."""
        return poll_messages(self)

    def inq(self) -> int:
        """unix_inq_len: of the first datagram."""
        return len(self.queue[0]) if self.queue else 0

    def outq(self) -> int:
        """unix_outq_len."""
        return self.wmem


class UnixSeqpacket(UnixConn):
    """Messages over a connection."""

    __slots__ = ()

    def sendmsg(self, data: bytes, address: bytes | None, flags: int, scm: Scm | None, caller: Caller) -> int:
        """unix_seqpacket_sendmsg: *address* is not looked at.  Errors: ENOTCONN."""
        del address
        self.raise_error()
        if self.state != TCP_ESTABLISHED:
            raise LinuxError(Errno.ENOTCONN, "not connected")
        return send_message(self, data, None, flags, scm, caller)

    def recvmsg(self, size: int, flags: int) -> Received:
        """unix_seqpacket_recvmsg.  Errors: ENOTCONN."""
        if self.state != TCP_ESTABLISHED:
            raise LinuxError(Errno.ENOTCONN, "not connected")
        return receive_message(self, size, flags)

    def poll(self) -> int:
        """unix_dgram_poll."""
        mask = poll_messages(self)
        if self.pending:
            mask |= READABLE
        return mask | POLLHUP if self.state == TCP_CLOSE else mask

    def inq(self) -> int:
        """unix_inq_len: all bytes.  Errors: EINVAL: it listens."""
        if self.state == TCP_LISTEN:
            raise LinuxError(Errno.EINVAL, "the socket listens")
        return sum(map(len, self.queue))

    def outq(self) -> int:
        """unix_outq_len."""
        return self.wmem
