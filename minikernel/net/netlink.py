"""Netlink: questions about the network in messages.  NETLINK_ROUTE tells of lo, its addresses and its routes.

Linux: net/netlink/af_netlink.c, net/core/rtnetlink.c, net/ipv4/devinet.c (inet_dump_ifaddr), net/ipv6/addrconf.c.
"""

from struct import Struct
from typing import TYPE_CHECKING, ClassVar, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.poll import POLLERR, READABLE
from minikernel.abi.socket import AF_INET, AF_INET6, AF_NETLINK, AF_UNSPEC, INT, MSG_OOB, MSG_PEEK, MSG_TRUNC
from minikernel.net.skb import Scm, Skb
from minikernel.net.sock import SHUTDOWN_MASK, WRITE_SPACE, Caller, Received, Sock, would_block

if TYPE_CHECKING:
    from minikernel.net.net import Net

NETLINK_ROUTE: Final = 0
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 1
NLM_F_MULTI: Final = 2
NLM_F_ACK: Final = 4
NLM_F_ROOT: Final = 0x100
NLM_F_DUMP: Final = 0x300
NLM_F_CAPPED: Final = 0x100
RTM_NEWLINK: Final = 16
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26
_RTM_MAX: Final = 123
_GET_KINDS: Final = 2  # of every four message types, the third asks

SOCKADDR_NL: Final = Struct("<HHII")
_NLMSGHDR: Final = Struct("<IHHII")
_IFINFOMSG: Final = Struct("<BxHiII")
_IFADDRMSG: Final = Struct("<BBBBI")
_RTMSG: Final = Struct("<BBBBBBBBI")
_ATTRIBUTE: Final = Struct("<HH")

LO_INDEX: Final = 1
LO_FLAGS: Final = 0x10049  # IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_LOWER_UP
LO_MTU: Final = 65536
_ARPHRD_LOOPBACK: Final = 772
_FOREVER: Final = Struct("<IIII")  # struct ifa_cacheinfo: preferred, valid, created, updated
_STATS64_BYTES: Final = 192
_U32: Final = Struct("<I")


class NetlinkSock(Sock):
    """A netlink socket.  The kernel's answers are in its queue when sendmsg returns."""

    __slots__ = ("groups", "portid", "to")

    family: ClassVar[int] = AF_NETLINK

    def __init__(self, net: "Net", kind: int, protocol: int) -> None:
        """Errors: ENOMEM."""
        super().__init__(net, kind, protocol)
        self.portid = 0
        self.groups = 0
        self.to = (0, 0)  # where to, after connect

    # Names

    def _check(self, address: bytes) -> tuple[int, int]:
        if len(address) < SOCKADDR_NL.size:
            raise LinuxError(Errno.EINVAL, f"an address of {len(address)} bytes")
        family, _, portid, groups = SOCKADDR_NL.unpack_from(address)
        if family != AF_NETLINK:
            raise LinuxError(Errno.EINVAL, f"an address of family {family}")
        return portid, groups

    def bind(self, address: bytes, caller: Caller) -> None:
        """netlink_bind.  Errors: EINVAL; EADDRINUSE."""
        portid, groups = self._check(address)
        if self.portid:
            if portid != self.portid:
                raise LinuxError(Errno.EINVAL, "the socket has another port")
        elif portid:
            self._take(portid)
        else:
            self._autobind(caller)
        self.groups = groups

    def _ports(self) -> set[int]:
        return {
            sock.portid for sock in self.net.socks if isinstance(sock, NetlinkSock) and self.protocol == sock.protocol
        }

    def _take(self, portid: int) -> None:
        if portid in self._ports():
            raise LinuxError(Errno.EADDRINUSE, f"port {portid}")
        self.portid = portid

    def _autobind(self, caller: Caller) -> None:
        """The process id if it is free, or a high number (netlink_autobind)."""
        if self.portid:
            return
        taken = self._ports()
        portid = caller.tgid
        while portid in taken:
            portid = portid - 1 & 0xFFFF_FFFF if portid > 1 << 31 else 0xFFFF_EFFF
        self.portid = portid

    def connect(self, address: bytes, caller: Caller, *, nonblock: bool) -> None:
        """netlink_connect.  Errors: EINVAL; EPERM: to another than the kernel."""
        del nonblock
        if len(address) >= 2 and int.from_bytes(address[:2], "little") == AF_UNSPEC:
            self.to = (0, 0)
            return
        to = self._check(address)
        if to != (0, 0) and caller.cred.euid:
            raise LinuxError(Errno.EPERM, "to another process")
        self._autobind(caller)
        self.to = to

    def getname(self, *, peer: bool) -> bytes:
        """netlink_getname."""
        portid, groups = self.to if peer else (self.portid, self.groups)
        return SOCKADDR_NL.pack(AF_NETLINK, 0, portid, groups)

    # Messages

    def sendmsg(self, data: bytes, address: bytes | None, flags: int, scm: Scm | None, caller: Caller) -> int:
        """netlink_sendmsg: ask the kernel.  Errors: EOPNOTSUPP, EINVAL, EPERM, ECONNREFUSED, EMSGSIZE, ENOBUFS."""
        del scm
        if flags & MSG_OOB:
            raise LinuxError(Errno.EOPNOTSUPP, "no urgent messages")
        portid, groups = self._check(address) if address else self.to
        if (portid or groups) and caller.cred.euid:
            raise LinuxError(Errno.EPERM, "to another process")
        self._autobind(caller)
        if len(data) > self.opts.sndbuf - 32:
            raise LinuxError(Errno.EMSGSIZE, f"{len(data)} bytes")
        if portid:
            raise LinuxError(Errno.ECONNREFUSED, f"nobody has port {portid}")
        if self.protocol == NETLINK_ROUTE:
            self._requests(data)
        return len(data)

    def _requests(self, data: bytes) -> None:
        """netlink_rcv_skb: one message after the other."""
        at = 0
        while at + _NLMSGHDR.size <= len(data):
            length, kind, flags, sequence, _ = _NLMSGHDR.unpack_from(data, at)
            if length < _NLMSGHDR.size or at + length > len(data):
                return
            request = data[at : at + length]
            if flags & NLM_F_REQUEST and kind >= RTM_NEWLINK:
                error = self._request(request, kind, flags, sequence)
                if error or (flags & NLM_F_ACK and not flags & NLM_F_DUMP):
                    self._acknowledge(request, error, sequence)
            elif flags & NLM_F_ACK:
                self._acknowledge(request, 0, sequence)
            at += length + 3 & -4

    def _acknowledge(self, request: bytes, error: int, sequence: int) -> None:
        shown = request if error else request[: _NLMSGHDR.size]
        self._answer(
            _message(NLMSG_ERROR, 0 if error else NLM_F_CAPPED, sequence, self.portid, INT.pack(-error) + shown)
        )

    def _answer(self, data: bytes) -> None:
        skb = Skb(self.net.node, data, address=SOCKADDR_NL.pack(AF_NETLINK, 0, 0, 0))
        self.enqueue(skb)
        self.data_ready()

    def _request(self, request: bytes, kind: int, flags: int, sequence: int) -> int:
        """rtnetlink_rcv_msg: the error number of what went wrong."""
        family = request[_NLMSGHDR.size] if len(request) > _NLMSGHDR.size else 0
        if kind > _RTM_MAX:
            return Errno.EOPNOTSUPP
        if kind % 4 != _GET_KINDS:
            return Errno.EPERM  # nothing of the network can be changed
        if kind not in {RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE}:
            return Errno.EOPNOTSUPP
        if flags & NLM_F_DUMP:
            parts = list(_dump(kind, family))
            made = [_message(reply, NLM_F_MULTI, sequence, self.portid, body) for reply, body in parts]
            if made:
                self._answer(b"".join(made))
            self._answer(_message(NLMSG_DONE, NLM_F_MULTI, sequence, self.portid, INT.pack(0)))
            return 0
        if kind == RTM_GETLINK:
            _, _, index, _, _ = _IFINFOMSG.unpack_from(request.ljust(32, b"\0"), _NLMSGHDR.size)
            if index not in {0, LO_INDEX} or (not index and b"lo\0" not in request):
                return Errno.ENODEV
            self._answer(_message(RTM_NEWLINK, 0, sequence, self.portid, _link()))
            return 0
        return Errno.EOPNOTSUPP if kind == RTM_GETADDR else Errno.ENETUNREACH

    def recvmsg(self, size: int, flags: int) -> Received:
        """netlink_recvmsg.  Errors: EOPNOTSUPP: MSG_OOB; WouldBlock."""
        if flags & MSG_OOB:
            raise LinuxError(Errno.EOPNOTSUPP, "no urgent messages")
        self.raise_error()
        if not self.queue:
            raise would_block(self, "no message")
        skb = self.queue[0]
        got = Received(skb.data[:size], len(skb), MSG_TRUNC if len(skb) > size else 0, skb.address)
        if not flags & MSG_PEEK:
            self.dequeue().free()
        return got

    def setsockopt(self, level: int, name: int, value: bytes, caller: Caller) -> None:
        """netlink_setsockopt: remembered by nobody, as nothing here changes.  Errors: ENOPROTOOPT, EINVAL."""
        del caller
        if level != 270 or not 1 <= name <= 12:
            raise LinuxError(Errno.ENOPROTOOPT, f"level {level}, option {name}")
        if len(value) < INT.size:
            raise LinuxError(Errno.EINVAL, "shorter than an int")

    def poll(self) -> int:
        """datagram_poll."""
        return (POLLERR if self.error else 0) | (READABLE if self.queue else 0) | WRITE_SPACE

    def release(self) -> None:
        """netlink_release."""
        self.shutdown = SHUTDOWN_MASK
        self.state_change()
        self.net.forget(self)
        self.destroy()

    def inq(self) -> int:
        """Of the first message."""
        return len(self.queue[0]) if self.queue else 0

    def outq(self) -> int:
        """What is sent was answered."""
        return self.wmem


def _message(kind: int, flags: int, sequence: int, portid: int, body: bytes) -> bytes:
    """A struct nlmsghdr and what follows it, in whole words."""
    length = _NLMSGHDR.size + len(body)
    return _NLMSGHDR.pack(length, kind, flags, sequence, portid) + body + bytes(-length % 4)


def _attribute(kind: int, data: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + bytes(-length % 4)


def _link() -> bytes:
    """lo: rtnl_fill_ifinfo."""
    return _IFINFOMSG.pack(AF_UNSPEC, _ARPHRD_LOOPBACK, LO_INDEX, LO_FLAGS, 0) + b"".join(
        (
            _attribute(3, b"lo\0"),  # IFLA_IFNAME
            _attribute(13, _U32.pack(1000)),  # IFLA_TXQLEN
            _attribute(16, b"\0"),  # IFLA_OPERSTATE: unknown
            _attribute(17, b"\0"),  # IFLA_LINKMODE
            _attribute(4, _U32.pack(LO_MTU)),  # IFLA_MTU
            _attribute(27, _U32.pack(0)),  # IFLA_GROUP
            _attribute(30, _U32.pack(0)),  # IFLA_PROMISCUITY
            _attribute(1, bytes(6)),  # IFLA_ADDRESS
            _attribute(2, bytes(6)),  # IFLA_BROADCAST
            _attribute(6, b"noqueue\0"),  # IFLA_QDISC
            _attribute(23, bytes(_STATS64_BYTES)),  # IFLA_STATS64
        )
    )


def _address4() -> bytes:
    """127.0.0.1/8: inet_fill_ifaddr."""
    own = b"\x7f\0\0\1"
    return _IFADDRMSG.pack(AF_INET, 8, 0x80, 254, LO_INDEX) + b"".join(
        (
            _attribute(1, own),  # IFA_ADDRESS
            _attribute(2, own),  # IFA_LOCAL
            _attribute(3, b"lo\0"),  # IFA_LABEL
            _attribute(8, _U32.pack(0x80)),  # IFA_FLAGS: permanent
            _attribute(6, _FOREVER.pack(0xFFFF_FFFF, 0xFFFF_FFFF, 0, 0)),  # IFA_CACHEINFO
        )
    )


def _address6() -> bytes:
    """::1/128: inet6_fill_ifaddr."""
    return _IFADDRMSG.pack(AF_INET6, 128, 0x80, 254, LO_INDEX) + b"".join(
        (
            _attribute(1, bytes(15) + b"\1"),
            _attribute(6, _FOREVER.pack(0xFFFF_FFFF, 0xFFFF_FFFF, 0, 0)),
            _attribute(8, _U32.pack(0x80)),
        )
    )


def _routes(family: int) -> list[bytes]:
    """The local table: fib_dump_info.  Family, prefix, ..., table 255 (local), by the kernel, scope, type."""
    found = []
    own = b"\x7f\0\0\1"
    if family in {AF_UNSPEC, AF_INET}:
        for to, bits, scope, kind in (
            (b"\x7f\0\0\0", 8, 254, 2),
            (own, 32, 254, 2),
            (b"\x7f\xff\xff\xff", 32, 253, 3),
        ):
            head = _RTMSG.pack(AF_INET, bits, 0, 0, 255, 2, scope, kind, 0)
            attributes = (
                _attribute(15, _U32.pack(255)),
                _attribute(1, to),
                _attribute(7, own),
                _attribute(4, _U32.pack(1)),
            )
            found.append(head + b"".join(attributes))
    if family in {AF_UNSPEC, AF_INET6}:
        head = _RTMSG.pack(AF_INET6, 128, 0, 0, 255, 2, 0, 2, 0)
        attributes = (
            _attribute(15, _U32.pack(255)),
            _attribute(1, bytes(15) + b"\1"),
            _attribute(6, _U32.pack(0)),
            _attribute(4, _U32.pack(1)),
        )
        found.append(head + b"".join(attributes))
    return found


def _dump(kind: int, family: int) -> list[tuple[int, bytes]]:
    """All there is of what *kind* asks for, of one family or (AF_UNSPEC) of all."""
    if kind == RTM_GETLINK:
        return [(RTM_NEWLINK, _link())]
    if kind == RTM_GETADDR:
        addresses = [_address4()] if family in {AF_UNSPEC, AF_INET} else []
        addresses += [_address6()] if family in {AF_UNSPEC, AF_INET6} else []
        return [(RTM_NEWADDR, body) for body in addresses]
    return [(RTM_NEWROUTE, body) for body in _routes(family)]


def new_netlink(net: "Net", kind: int, protocol: int) -> NetlinkSock:
    """netlink_create.  Errors: ESOCKTNOSUPPORT, EPROTONOSUPPORT."""
    if kind not in {2, 3}:
        raise LinuxError(Errno.ESOCKTNOSUPPORT, f"type {kind}")
    if protocol not in {NETLINK_ROUTE, 15}:  # 15: uevents, of which there are none
        raise LinuxError(Errno.EPROTONOSUPPORT, f"netlink protocol {protocol}")
    return NetlinkSock(net, kind, protocol)
