"""AF_UNIX streams.

Linux: unix_stream_sendmsg, unix_stream_read_generic, unix_poll (net/unix/af_unix.c).
"""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.poll import POLLERR, POLLHUP, POLLRDHUP, READABLE
from minikernel.abi.socket import MSG_OOB, MSG_PEEK, SO_PASSCRED
from minikernel.fs.file import BrokenPipe
from minikernel.net.skb import MAX_HEAD, Creds, Scm, Skb
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
    would_block,
)
from minikernel.net.unix_conn import UnixConn

_MAX_PIECE: Final = MAX_HEAD + 32768  # SKB_MAX_ALLOC + UNIX_SKB_FRAGS_SZ


class UnixStream(UnixConn):
    """Bytes, in pieces that no reader notices but for what goes along with them."""

    __slots__ = ()

    stream = True

    def sendmsg(self, data: bytes, address: bytes | None, flags: int, scm: Scm | None, caller: Caller) -> int:
        """Queue as much of *data* at the peer as the send buffer has room for.

        Errors:
            EOPNOTSUPP: MSG_OOB, or an address; EISCONN: an address of a connected one; ENOTCONN; EPIPE; WouldBlock.
        """
        if flags & MSG_OOB:
            raise LinuxError(Errno.EOPNOTSUPP, "no out-of-band data")
        if address:
            errno = Errno.EISCONN if self.state == TCP_ESTABLISHED else Errno.EOPNOTSUPP
            raise LinuxError(errno, "an address for a stream")
        other = self.peer
        if other is None:
            raise LinuxError(Errno.ENOTCONN, "no peer")
        if self.shutdown & SEND_SHUTDOWN:
            raise BrokenPipe("shut down for sending")
        sent = 0
        while sent < len(data):
            if self.error:
                if sent:
                    break
                self.raise_error()
            if self.wmem >= self.opts.sndbuf:
                if sent:
                    break
                raise would_block(self, "the send buffer is full")
            if other.shutdown & RCV_SHUTDOWN:
                raise BrokenPipe("the peer reads no more")
            piece = data[sent : sent + min((self.opts.sndbuf >> 1) - 64, _MAX_PIECE)]
            try:
                skb = self.new_skb(piece, MAX_HEAD, scm, other, caller)
            except LinuxError:
                if sent:
                    break
                raise
            other.enqueue(skb)
            other.data_ready()
            sent += len(piece)
        return sent

    def recvmsg(self, size: int, flags: int) -> Received:
        """Take up to *size* bytes: of one writer, if credentials are asked for, and up to descriptors.

        Errors:
            EINVAL: not connected; EOPNOTSUPP: MSG_OOB; WouldBlock.
        """
        if self.state != TCP_ESTABLISHED:
            raise LinuxError(Errno.EINVAL, "not connected")
        if flags & MSG_OOB:
            raise LinuxError(Errno.EOPNOTSUPP, "no out-of-band data")
        if not self.queue:
            self.raise_error()
            if self.shutdown & RCV_SHUTDOWN:
                return Received(b"", 0)
            raise would_block(self, "nothing to read")
        return self._peek(size) if flags & MSG_PEEK else self._take(size)

    def _take(self, size: int) -> Received:
        parts: list[bytes] = []
        address = self.queue[0].address
        scm = Scm(creds=_creds(self.queue[0]))
        left = size
        passcred = self.opts.on(SO_PASSCRED)
        while self.queue and (left or not parts):
            skb = self.queue[0]
            if passcred and _creds(skb) != scm.creds:
                break
            part = skb.data[skb.start : skb.start + left]
            parts.append(part)
            skb.start += len(part)
            left -= len(part)
            taken = self.take_scm(skb, keep=False)
            if taken is not None and taken.files:
                scm.files = taken.files
            if len(skb):
                break
            self.dequeue().free()
            if scm.files:
                break
        data = b"".join(parts)
        return Received(data, len(data), 0, address, scm)

    def _peek(self, size: int) -> Received:
        parts: list[bytes] = []
        scm = Scm(creds=_creds(self.queue[0]))
        left = size
        for skb in self.queue:
            if not left or (self.opts.on(SO_PASSCRED) and _creds(skb) != scm.creds):
                break
            part = skb.data[skb.start : skb.start + left]
            parts.append(part)
            left -= len(part)
            seen = self.take_scm(skb, keep=True)
            if seen is not None and seen.files:
                scm.files = seen.files
                break
        data = b"".join(parts)
        return Received(data, len(data), 0, self.queue[0].address, scm)

    def unread(self, data: bytes) -> None:
        """The bytes return to the front; they count as ours to send, as their writer may be gone."""
        if not data:
            return
        skb = Skb(self.net.node, data, head=MAX_HEAD)
        skb.charge(self)
        self.queue.appendleft(skb)
        self.rmem += skb.truesize

    def poll(self) -> int:
        """unix_poll."""
        mask = POLLERR if self.error else 0
        if self.shutdown == SHUTDOWN_MASK:
            mask |= POLLHUP
        if self.shutdown & RCV_SHUTDOWN:
            mask |= POLLRDHUP | READABLE
        if self.queue or self.pending:
            mask |= READABLE
        if self.state == TCP_CLOSE:
            mask |= POLLHUP
        return mask | WRITE_SPACE if self.is_writable() else mask

    def inq(self) -> int:
        """unix_inq_len: all bytes.  Errors: EINVAL: it listens."""
        if self.state == TCP_LISTEN:
            raise LinuxError(Errno.EINVAL, "the socket listens")
        return sum(map(len, self.queue))

    def outq(self) -> int:
        """unix_outq_len."""
        return self.wmem

    def at_mark(self) -> bool:
        """Without out-of-band data there is no mark."""
        return False


def _creds(skb: Skb) -> Creds | None:
    return skb.scm.creds if skb.scm is not None else None
