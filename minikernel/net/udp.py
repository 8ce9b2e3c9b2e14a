"""UDP on the loopback: datagrams.

What finds no socket comes back as ECONNREFUSED to a connected sender, at its next call; what finds a full one is lost.

Linux: net/ipv4/udp.c, net/ipv6/udp.c, net/ipv4/datagram.c.
"""

from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.inet import IN6_PKTINFO, IN_PKTINFO, IP_PKTINFO, IPV6_PKTINFO, IPV6_RECVPKTINFO
from minikernel.abi.poll import POLLERR, POLLHUP, POLLRDHUP, READABLE
from minikernel.abi.socket import (
    AF_INET,
    AF_UNSPEC,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    SO_BROADCAST,
    SO_REUSEADDR,
    SOCK_DGRAM,
    SOL_IP,
    SOL_IPV6,
)
from minikernel.net.inet import ANY4, Endpoint, hears, is_any, is_broadcast, is_multicast, is_v4, route
from minikernel.net.inet_sock import InetSock
from minikernel.net.skb import Scm, Skb
from minikernel.net.sock import (
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    WRITE_SPACE,
    Caller,
    Received,
    would_block,
)

if TYPE_CHECKING:
    from minikernel.net.net import Net

MAX_DATAGRAM: Final = 65507
_LENGTH_MAX: Final = 0xFFFF
_HEADERS: Final = 28  # of IPv4 and UDP
_LO: Final = 1  # its interface index


class Datagram(Skb):
    """A datagram in a queue, and where it was sent from and to."""

    __slots__ = ("source", "to")

    source: Endpoint
    to: bytes


class UdpSock(InetSock):
    """A UDP socket: struct udp_sock."""

    __slots__ = ("drops",)

    def __init__(self, net: "Net", family: int, protocol: int, uid: int) -> None:
        """Errors: ENOMEM."""
        super().__init__(net, family, SOCK_DGRAM, protocol, net.inet.udp, uid)
        self.drops = 0  # datagrams that found the queue full

    @property
    def reuse(self) -> bool:
        """SO_REUSEADDR: all who share a port must have it."""
        return self.opts.on(SO_REUSEADDR)

    @property
    def max_message(self) -> int:
        """What fits into a packet."""
        return MAX_DATAGRAM

    # Where to

    def connect(self, address: bytes, caller: Caller, *, nonblock: bool) -> None:
        """ip4_datagram_connect, and udp_disconnect for AF_UNSPEC."""
        del caller, nonblock
        if len(address) < 2:
            raise LinuxError(Errno.EINVAL, f"an address of {len(address)} bytes")
        if int.from_bytes(address[:2], "little") == AF_UNSPEC:
            self.state = TCP_CLOSE
            self.forget_ends()
            return
        self.autobind()
        to = self.destination(address)
        source = self._route(to)
        if is_any(self.local.ip):
            self.move(source)
        self.remote = to
        self.state = TCP_ESTABLISHED

    def _route(self, to: Endpoint) -> bytes:
        """Where a datagram comes from.  Errors: ENETUNREACH; EACCES: broadcast without SO_BROADCAST."""
        if is_multicast(to.ip):
            raise LinuxError(Errno.ENETUNREACH, "lo does no multicast")
        source = route(to.ip)
        if is_broadcast(to.ip) and not self.opts.on(SO_BROADCAST):
            raise LinuxError(Errno.EACCES, "a broadcast")
        return source

    # Sending

    def sendmsg(self, data: bytes, address: bytes | None, flags: int, scm: Scm | None, caller: Caller) -> int:
        """udp_sendmsg.

        Errors:
            EMSGSIZE; EOPNOTSUPP: MSG_OOB; EDESTADDRREQ; EINVAL: port 0; EAFNOSUPPORT; ENETUNREACH; EACCES;
            ECONNREFUSED: of an earlier datagram; EPIPE: shut down; WouldBlock.
        """
        del scm, caller
        if len(data) > _LENGTH_MAX:
            raise LinuxError(Errno.EMSGSIZE, f"{len(data)} bytes")
        if flags & MSG_OOB:
            raise LinuxError(Errno.EOPNOTSUPP, "no urgent datagrams")
        self.autobind()
        to = self.remote
        if address:
            to = self._address(address)
        elif self.state != TCP_ESTABLISHED:
            raise LinuxError(Errno.EDESTADDRREQ, "not connected, and no address")
        source = self._route(to)
        if len(data) > MAX_DATAGRAM:
            raise LinuxError(Errno.EMSGSIZE, f"{len(data)} bytes")
        self.raise_error()
        if self.shutdown & SEND_SHUTDOWN:
            raise LinuxError(Errno.EPIPE, "shut down for sending")
        if self.wmem >= self.opts.sndbuf:
            raise would_block(self, "the send buffer is full")
        if not is_any(self.local.ip):
            source = self.local.ip
        self._deliver(data, Endpoint(source, self.local.port), to)
        return len(data)

    def _address(self, address: bytes) -> Endpoint:
        family = int.from_bytes(address[:2], "little")
        if family == AF_UNSPEC and self.family == AF_INET and len(address) >= 16:
            address = AF_INET.to_bytes(2, "little") + address[2:]
        elif family == AF_INET and self.family != AF_INET and len(address) >= 16:
            return Endpoint(ANY4[:12] + address[4:8], int.from_bytes(address[2:4], "big"))
        to = self.destination(address)
        if not to.port:
            raise LinuxError(Errno.EINVAL, "port 0")
        return to

    def _deliver(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        """Across lo: to whoever is bound there (__udp4_lib_rcv)."""
        self.net.count_packet(len(data) + _HEADERS)
        receiver = self._find_receiver(source, to)
        if receiver is None:
            if self.state == TCP_ESTABLISHED and self.remote == to:
                self.error = Errno.ECONNREFUSED
                self.wait.wake()
            return
        if receiver.rmem > receiver.opts.rcvbuf:
            receiver.drops += 1
            return
        skb = Datagram(self.net.node, data)
        skb.source = source
        skb.to = to.ip
        receiver.enqueue(skb)
        receiver.data_ready()

    def _find_receiver(self, source: Endpoint, to: Endpoint) -> "UdpSock | None":
        """Connected to us before bound to the address before bound to all (compute_score)."""
        best: list[tuple[int, UdpSock]] = []
        for holder in self.ports.holders(to.port):
            if not isinstance(holder, UdpSock) or not hears(holder, to.ip):
                continue
            score = 2 * (holder.local.ip == to.ip)
            if holder.state == TCP_ESTABLISHED:
                if holder.remote != source:
                    continue
                score += 4
            best.append((score, holder))
        top = max((score for score, _ in best), default=0)
        group = [holder for score, holder in best if score == top]
        if not group:
            return None
        # SO_REUSEPORT spreads senders; otherwise whoever came last hears it.
        shared = [holder for holder in group if holder.reuseport_uid is not None]
        return shared[source.port % len(shared)] if shared else group[-1]

    # Receiving

    def recvmsg(self, size: int, flags: int) -> Received:
        """udp_recvmsg.  Errors: ECONNREFUSED: of an earlier datagram; WouldBlock."""
        if flags & MSG_ERRQUEUE:
            raise LinuxError(Errno.EAGAIN, "no queue of errors")
        self.raise_error()
        if not self.queue:
            if self.shutdown & RCV_SHUTDOWN and not flags & MSG_DONTWAIT:
                return Received(b"", 0)
            raise would_block(self, "nothing to read")
        skb = self.queue[0]
        assert isinstance(skb, Datagram), "udp recvmsg: no datagram"
        got = Received(
            skb.data[:size],
            len(skb.data),
            MSG_TRUNC if len(skb.data) > size else 0,
            self.shown(skb.source),
            cmsgs=self._cmsgs(skb),
        )
        if not flags & MSG_PEEK:
            self.dequeue().free()
        return got

    def _cmsgs(self, skb: Datagram) -> tuple[tuple[int, int, bytes], ...]:
        """Where it was sent to, if somebody asked (ip_cmsg_recv)."""
        if self.levels.get((SOL_IP, IP_PKTINFO)) and is_v4(skb.to):
            return ((SOL_IP, IP_PKTINFO, IN_PKTINFO.pack(_LO, skb.to[12:], skb.to[12:])),)
        if self.levels.get((SOL_IPV6, IPV6_RECVPKTINFO)):
            return ((SOL_IPV6, IPV6_PKTINFO, IN6_PKTINFO.pack(skb.to, _LO)),)
        return ()

    # The rest

    def shut(self, how: int) -> None:
        """inet_shutdown.  Errors: ENOTCONN, and the shutdown counts nevertheless."""
        self.shutdown |= how
        self.state_change()
        if self.state == TCP_CLOSE:
            raise LinuxError(Errno.ENOTCONN, "not connected")

    def release(self) -> None:
        """udp_destroy_sock."""
        self.shutdown = SHUTDOWN_MASK
        self.state_change()
        self.put_port()
        self.net.forget(self)
        self.destroy()

    def poll(self) -> int:
        """datagram_poll."""
        mask = POLLERR if self.error else 0
        if self.shutdown & RCV_SHUTDOWN:
            mask |= POLLRDHUP | READABLE
        if self.shutdown == SHUTDOWN_MASK:
            mask |= POLLHUP
        if self.queue:
            mask |= READABLE
        return mask | WRITE_SPACE

    def inq(self) -> int:
        """Of the first datagram."""
        return len(self.queue[0]) if self.queue else 0

    def outq(self) -> int:
        """What is sent has arrived."""
        return self.wmem
