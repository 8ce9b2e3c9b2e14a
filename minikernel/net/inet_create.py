"""Makes sockets of AF_INET and AF_INET6.  Linux: inet_create (net/ipv4/af_inet.c), inet6_create."""

from typing import TYPE_CHECKING

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.inet import IPPROTO_ICMP, IPPROTO_MAX, IPPROTO_TCP, IPPROTO_UDP
from minikernel.abi.socket import SOCK_DGRAM, SOCK_RAW, SOCK_STREAM
from minikernel.net.inet import Ports
from minikernel.net.inet_sock import InetSock
from minikernel.net.tcp_conn import TcpConn
from minikernel.net.udp import UdpSock

if TYPE_CHECKING:
    from minikernel.net.net import Net

_PROTOCOLS = {SOCK_STREAM: IPPROTO_TCP, SOCK_DGRAM: IPPROTO_UDP}
_IPPROTO_ICMPV6 = 58


class InetTables:
    """Who is bound where, by protocol."""

    __slots__ = ("tcp", "udp")

    def __init__(self) -> None:
        self.tcp = Ports()
        self.udp = Ports()


def new_inet(net: "Net", family: int, kind: int, protocol: int, uid: int) -> InetSock:
    """A socket of *family*, which belongs to user *uid*.

    Errors:
        EINVAL, ESOCKTNOSUPPORT, EPROTONOSUPPORT; EPERM: raw sockets; EACCES: ping.
    """
    if not 0 <= protocol < IPPROTO_MAX:
        raise LinuxError(Errno.EINVAL, f"protocol {protocol}")
    if kind == SOCK_RAW and protocol:
        raise LinuxError(Errno.EPERM, "raw sockets")
    if kind == SOCK_DGRAM and protocol in {IPPROTO_ICMP, _IPPROTO_ICMPV6}:
        raise LinuxError(Errno.EACCES, "ping, as with an empty ping_group_range")
    if kind == SOCK_RAW:
        raise LinuxError(Errno.EPROTONOSUPPORT, "a raw socket of no protocol")
    if kind not in _PROTOCOLS:
        raise LinuxError(Errno.ESOCKTNOSUPPORT, f"type {kind}")
    if protocol not in {0, _PROTOCOLS[kind]}:
        raise LinuxError(Errno.EPROTONOSUPPORT, f"protocol {protocol}")
    make = TcpConn if kind == SOCK_STREAM else UdpSock
    return make(net, family, _PROTOCOLS[kind], uid)
