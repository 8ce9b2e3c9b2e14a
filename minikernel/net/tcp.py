"""TCP on the loopback: streams.

A segment goes from the sender's write queue to the receiver's queue at once while that is below SO_RCVBUF, and is then
acknowledged; the rest waits for the reader.  What programs see of the protocol is its states, and who is reset when.

Linux: net/ipv4/tcp.c, tcp_input.c (tcp_reset, tcp_fin), tcp_minisocks.c (tcp_time_wait).
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.poll import POLLERR, POLLHUP, POLLOUT, POLLPRI, POLLRDHUP, POLLWRNORM, READABLE
from minikernel.abi.signal import SIGURG
from minikernel.abi.socket import (
    MSG_ERRQUEUE,
    MSG_OOB,
    MSG_PEEK,
    SO_OOBINLINE,
    SOCK_STREAM,
)
from minikernel.fs.file import BrokenPipe
from minikernel.net.inet import Endpoint
from minikernel.net.skb import Scm, Skb
from minikernel.net.sock import (
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_SENT,
    Caller,
    Received,
    would_block,
)
from minikernel.net.tcp_options import TcpOptions
from minikernel.net.tcp_wait import TimeWait

if TYPE_CHECKING:
    from minikernel.net.net import Net
    from minikernel.wait import Timer

SNDBUF: Final = 16384  # tcp_wmem[1], before there is a connection
RCVBUF: Final = 131_072  # tcp_rmem[1]
LOOPBACK_SNDBUF: Final = 2_626_560  # what tcp_sndbuf_expand makes of it with lo's segments
_MIN_SNDBUF_MAX: Final = 65536
_SEGMENT: Final = 32768
_HEADERS: Final = 52  # of IPv4 and TCP with time stamps
FIN_TIMEOUT_NS: Final = 60_000_000_000
_WRITABLE: Final = POLLOUT | POLLWRNORM
NO_URGENT, URGENT_VALID, URGENT_READ = range(3)
_SENDING: Final = frozenset({TCP_ESTABLISHED, TCP_CLOSE_WAIT})


class TcpSock(TcpOptions):
    """One end of a stream: struct tcp_sock.

    Invariants:
        - ``peer`` is set while segments can pass, and then its peer is this socket;
        - ``copied`` + the bytes in ``queue`` = ``rcv_nxt``;
        - without a descriptor it is an orphan, which goes when its last byte and its FIN have, or waits in
          ``pending`` to be accepted.
    """

    __slots__ = (
        "backlog",
        "copied",
        "done",
        "fin",
        "orphan",
        "peer",
        "pending",
        "rcv_nxt",
        "timer",
        "urgent",
        "urgent_byte",
        "urgent_seq",
        "write_queue",
    )

    stream = True
    discards = True
    peek_waits = True
    connect_timeout = Errno.EINPROGRESS

    def __init__(self, net: "Net", family: int, protocol: int, uid: int) -> None:
        """Errors: ENOMEM."""
        super().__init__(net, family, SOCK_STREAM, protocol, net.inet.tcp, uid)
        self.opts.sndbuf, self.opts.rcvbuf = SNDBUF, RCVBUF
        self.peer: TcpSock | None = None
        self.pending: deque[TcpSock] = deque()
        self.backlog = 0
        self.write_queue: deque[Skb] = deque()
        self.fin = False  # a FIN follows what is in the write queue
        self.done = False  # the peer's FIN has come (SOCK_DONE)
        self.orphan = False
        self.rcv_nxt = self.copied = 0
        self.urgent, self.urgent_seq, self.urgent_byte = NO_URGENT, 0, b""
        self.timer: Timer | None = None

    def messages(self) -> Iterator[Skb]:
        """What was received, and what waits to be sent."""
        return chain(self.queue, self.write_queue)

    # Sending

    def establish(self) -> None:
        """The handshake is over (tcp_finish_connect)."""
        self.state = TCP_ESTABLISHED
        if self.opts.sndbuf == SNDBUF:
            ram = self.net.node.mem_map.nr_frames * PAGE_SIZE
            self.opts.sndbuf = min(LOOPBACK_SNDBUF, max(_MIN_SNDBUF_MAX, ram >> 7))

    def sendmsg(self, data: bytes, address: bytes | None, flags: int, scm: Scm | None, caller: Caller) -> int:
        """tcp_sendmsg; *address* is not looked at.  Errors: EPIPE, ECONNRESET and what is pending; WouldBlock."""
        del address, scm, caller
        if self.state not in _SENDING:
            if self.state == TCP_SYN_SENT:
                raise would_block(self, "not connected yet")
            self._broken()
        if self.error or self.shutdown & SEND_SHUTDOWN:
            self._broken()
        sent = 0
        while sent < len(data):
            if self.wmem >= self.opts.sndbuf:
                if sent:
                    break
                raise would_block(self, "the send buffer is full")
            try:
                sent += self._append(data[sent : sent + _SEGMENT])
            except LinuxError:
                if sent:
                    break
                raise
            if flags & MSG_OOB and sent == len(data):
                self._send_urgent(data[-1:])
            self.push()
            if self.peer is None:  # it was reset by what we sent
                break
        return sent

    def _broken(self) -> None:
        """sk_stream_error: the pending error, or EPIPE."""
        error = self.take_error()
        if error not in {0, Errno.EPIPE}:
            raise LinuxError(Errno(error), "a pending error of the connection")
        raise BrokenPipe("the connection does not send")

    def _append(self, piece: bytes) -> int:
        """Queue *piece* behind what the last segment holds, or as a segment of its own; how much of it."""
        peer = self.peer
        if self.write_queue:
            room = self.write_queue[-1].append(piece)
            if room:
                return room
        elif peer is not None and peer.queue and not peer.shutdown & RCV_SHUTDOWN:
            room = peer.queue[-1].append(piece)
            if room:
                peer.arrived(room)
                return room
        skb = Skb(self.net.node, piece, head=0)
        skb.charge(self)
        self.write_queue.append(skb)
        return len(piece)

    def arrived(self, count: int) -> None:
        """*count* more bytes are in the queue."""
        self.rcv_nxt += count
        self.data_ready()

    def push(self) -> None:
        """Let the peer have what it has room for, then the FIN (tcp_write_xmit)."""
        peer = self.peer
        if peer is None:  # an orphan that has gone meanwhile
            self.reset()
            return
        moved = False
        while self.write_queue and peer.rmem < peer.opts.rcvbuf:
            if peer.orphan:  # data for one who has closed: it answers with a reset
                peer.abort()
                return
            skb = self.write_queue.popleft()
            skb.uncharge()
            self.net.count_packet(len(skb) + _HEADERS)
            peer.enqueue(skb)
            peer.arrived(len(skb))
            moved = True
        if moved:
            self.write_space()
        if self.fin and not self.write_queue:
            self.fin = False
            self._fin_arrives(peer)

    def write_space(self) -> None:
        """sk_stream_write_space."""
        if self.is_writable():
            self.wait.wake(key=_WRITABLE)

    def is_writable(self) -> bool:
        """sk_stream_is_writeable: a third of the buffer is free."""
        return self.opts.sndbuf - self.wmem >= self.wmem >> 1

    # Urgent data

    def _send_urgent(self, byte: bytes) -> None:
        """The byte sent last is urgent (tcp_mark_urg, tcp_check_urg): the peer's owner gets SIGURG."""
        peer = self.peer
        if peer is None:
            return
        peer.urgent = URGENT_VALID
        peer.urgent_byte = byte
        peer.urgent_seq = peer.rcv_nxt + sum(map(len, self.write_queue)) - 1
        if peer.file is not None and peer.file.owner_pid:
            owner = peer.file.owner_pid
            self.net.signal(owner - (owner >> 31 << 32), SIGURG)
        peer.data_ready()

    def _take_urgent(self, flags: int) -> Received:
        """tcp_recv_urg.  Errors: EINVAL: there is none, or it is in line; ENOTCONN; EAGAIN: it has not come yet."""
        if self.opts.on(SO_OOBINLINE) or self.urgent != URGENT_VALID:
            raise LinuxError(Errno.EINVAL, "no urgent byte")
        if self.urgent_seq >= self.rcv_nxt:
            raise LinuxError(Errno.EAGAIN, "the urgent byte is on its way")
        if not flags & MSG_PEEK:
            self.urgent = URGENT_READ
        return Received(self.urgent_byte, 1, MSG_OOB)

    def at_mark(self) -> bool:
        """SIOCATMARK."""
        return self.urgent != NO_URGENT and self.urgent_seq == self.copied

    # Receiving

    def recvmsg(self, size: int, flags: int) -> Received:
        """tcp_recvmsg: up to the urgent byte, which is left out unless SO_OOBINLINE.  Errors: ENOTCONN, WouldBlock."""
        if flags & MSG_ERRQUEUE:
            raise LinuxError(Errno.EAGAIN, "no queue of errors")
        if self.state == TCP_LISTEN:
            raise LinuxError(Errno.ENOTCONN, "it listens")
        if flags & MSG_OOB:
            return self._take_urgent(flags)
        skip = 0
        if self.at_mark() and self.copied < self.rcv_nxt and not self.opts.on(SO_OOBINLINE):
            skip = 1
        elif self.urgent != NO_URGENT and self.urgent_seq > self.copied:
            size = min(size, self.urgent_seq - self.copied)
        data = self._look(size, skip)
        if not flags & MSG_PEEK and (data or skip):
            self._consume(len(data) + skip)
        if data or (self.queue and not size):
            return Received(data, len(data))
        return self._nothing()

    def _nothing(self) -> Received:
        """The end of the stream, or why there is nothing."""
        if self.done:
            return Received(b"", 0)
        self.raise_error()
        if self.shutdown & RCV_SHUTDOWN:
            return Received(b"", 0)
        if self.state == TCP_CLOSE:
            raise LinuxError(Errno.ENOTCONN, "not connected")
        raise would_block(self, "nothing to read")

    def _look(self, size: int, skip: int) -> bytes:
        parts: list[bytes] = []
        for skb in self.queue:
            if size <= 0:
                break
            start = skb.start + skip
            part = skb.data[start : start + size]
            skip = max(start - len(skb.data), 0)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _consume(self, count: int) -> None:
        self.copied += count
        while count:
            skb = self.queue[0]
            taken = min(count, len(skb))
            skb.start += taken
            count -= taken
            if not len(skb):
                self.dequeue().free()
        if self.urgent != NO_URGENT and self.copied > self.urgent_seq:
            self.urgent = NO_URGENT
        if self.peer is not None and (self.peer.write_queue or self.peer.fin):
            self.peer.push()

    def unread(self, data: bytes) -> None:
        """The bytes return to the front."""
        if data:
            skb = Skb(self.net.node, data, head=0)
            self.queue.appendleft(skb)
            self.rmem += skb.truesize
            self.copied -= len(data)

    # Ending

    def _fin_arrives(self, peer: "TcpSock") -> None:
        """All is sent, and the FIN too (tcp_fin at *peer*)."""
        peer.shutdown |= RCV_SHUTDOWN
        peer.done = True
        if self.done:  # the second FIN: who sent the first waits
            peer.time_wait()
            self.finish()
            return
        self.state = TCP_FIN_WAIT2
        if peer.state == TCP_ESTABLISHED:
            peer.state = TCP_CLOSE_WAIT
        peer.state_change()
        if self.orphan:
            self.timer = self.net.add_timer(FIN_TIMEOUT_NS, self.abort_quietly)

    def time_wait(self) -> None:
        """Both have closed, this one first: the port stays taken for a minute."""
        TimeWait.of(self)
        self.finish()

    def finish(self) -> None:
        """No more segments (tcp_done)."""
        self.state = TCP_CLOSE
        self.put_port()
        self.shutdown = SHUTDOWN_MASK
        self.peer = None
        self.fin = False
        while self.write_queue:
            self.write_queue.popleft().free()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.orphan:
            self.destroy()
        else:
            self.state_change()

    def abort(self) -> None:
        """Reset the connection (tcp_send_active_reset): the peer learns it."""
        peer = self.peer
        self.finish()
        if peer is not None:
            peer.reset()

    def abort_quietly(self) -> None:
        """An orphan has waited long enough for the other FIN; what comes later meets nobody."""
        peer = self.peer
        self.timer = None
        self.finish()
        if peer is not None:
            peer.peer = None

    def reset(self) -> None:
        """The peer has reset the connection (tcp_reset)."""
        if self.state == TCP_CLOSE:
            return
        self.error = {TCP_SYN_SENT: Errno.ECONNREFUSED, TCP_CLOSE_WAIT: Errno.EPIPE}.get(self.state, Errno.ECONNRESET)
        self.finish()

    def start_fin(self) -> None:
        """Send a FIN behind what is queued."""
        if self.state in _SENDING:
            self.fin = True
            self.state_when_closing()
            self.push()

    def state_when_closing(self) -> None:
        """What /proc/net/tcp shows until the FIN could be sent."""
        if self.write_queue:
            self.state = TCP_FIN_WAIT1 if self.state == TCP_ESTABLISHED else TCP_LAST_ACK

    def poll(self) -> int:
        """tcp_poll."""
        if self.state == TCP_LISTEN:
            return READABLE if self.pending else 0
        mask = POLLERR if self.error else 0
        if self.shutdown == SHUTDOWN_MASK or self.state == TCP_CLOSE:
            mask |= POLLHUP
        if self.shutdown & RCV_SHUTDOWN:
            mask |= READABLE | POLLRDHUP
        if self.state == TCP_SYN_SENT:
            return mask
        if self._is_readable():
            mask |= READABLE
        if self.shutdown & SEND_SHUTDOWN or self.is_writable():
            mask |= _WRITABLE
        return mask | POLLPRI if self.urgent == URGENT_VALID and self.urgent_seq < self.rcv_nxt else mask

    def _is_readable(self) -> bool:
        waiting = self.rcv_nxt - self.copied
        if self.at_mark() and not self.opts.on(SO_OOBINLINE):
            waiting -= 1
        return waiting >= self.opts.rcvlowat

    def inq(self) -> int:
        """SIOCINQ: bytes up to the urgent one.  Errors: EINVAL: it listens."""
        if self.state == TCP_LISTEN:
            raise LinuxError(Errno.EINVAL, "it listens")
        if self.opts.on(SO_OOBINLINE) or self.urgent == NO_URGENT or not self.copied <= self.urgent_seq < self.rcv_nxt:
            return self.rcv_nxt - self.copied
        return self.urgent_seq - self.copied

    def outq(self) -> int:
        """SIOCOUTQ: bytes that were not acknowledged.  Errors: EINVAL: it listens."""
        if self.state == TCP_LISTEN:
            raise LinuxError(Errno.EINVAL, "it listens")
        return sum(map(len, self.write_queue))


def matches(sock: TcpSock, local: Endpoint, remote: Endpoint) -> bool:
    """Whether *sock* is the end *local* of the connection with *remote*."""
    return sock.hashed and sock.local == local and sock.remote == remote
