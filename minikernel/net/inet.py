"""Addresses of the internet families, and who is bound to which port.

An address is 16 bytes for both families: IPv4's are mapped (::ffff:a.b.c.d), as a socket of AF_INET6 sees them.
The machine has one interface, lo, with 127.0.0.0/8 and ::1.

Linux: net/ipv4/inet_connection_sock.c (inet_csk_get_port), net/ipv4/inet_hashtables.c, net/ipv4/af_inet.c.
"""

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.inet import SOCKADDR_IN, SOCKADDR_IN6, SOCKADDR_IN6_MIN
from minikernel.abi.socket import AF_INET, AF_INET6

if TYPE_CHECKING:
    from minikernel.net.inet_sock import InetSock

MAPPED: Final = bytes(10) + b"\xff\xff"
ANY4: Final = MAPPED + bytes(4)
ANY6: Final = bytes(16)
LOOPBACK4: Final = MAPPED + b"\x7f\0\0\1"
LOOPBACK6: Final = bytes(15) + b"\1"
_LOOPBACK_BROADCAST: Final = MAPPED + b"\x7f\xff\xff\xff"
_EVERYBODY: Final = MAPPED + b"\xff\xff\xff\xff"
FIRST_PORT: Final = 32768  # net.ipv4.ip_local_port_range
LAST_PORT: Final = 60999
PRIVILEGED: Final = 1024  # net.ipv4.ip_unprivileged_port_start


class Endpoint(NamedTuple):
    """An address and a port (in the host's order)."""

    ip: bytes
    port: int


NOWHERE4: Final = Endpoint(ANY4, 0)
NOWHERE6: Final = Endpoint(ANY6, 0)


def is_v4(ip: bytes) -> bool:
    """Whether it is a mapped IPv4 address."""
    return ip[:12] == MAPPED


def is_any(ip: bytes) -> bool:
    """INADDR_ANY, in6addr_any."""
    return ip in {ANY4, ANY6}


def is_multicast(ip: bytes) -> bool:
    """224.0.0.0/4, ff00::/8."""
    return ip[12] >> 4 == 14 if is_v4(ip) else ip[0] == 0xFF


def is_broadcast(ip: bytes) -> bool:
    """255.255.255.255, and lo's own."""
    return ip in {_EVERYBODY, _LOOPBACK_BROADCAST}


def is_local(ip: bytes) -> bool:
    """Whether the machine has the address."""
    if is_v4(ip):
        return ip[12] == 127 and ip != _LOOPBACK_BROADCAST
    return ip == LOOPBACK6


def route(ip: bytes) -> bytes:
    """The source address of what is sent to *ip* (ip_route_output_flow).  Errors: ENETUNREACH."""
    if is_local(ip) or ip == _LOOPBACK_BROADCAST:
        return LOOPBACK4 if is_v4(ip) else LOOPBACK6
    raise LinuxError(Errno.ENETUNREACH, "only the loopback can be reached")


def unpack_endpoint(family: int, address: bytes) -> Endpoint:
    """A sockaddr of *family*.  Errors: EINVAL: too short; EAFNOSUPPORT: of another family."""
    if len(address) < (SOCKADDR_IN.size if family == AF_INET else SOCKADDR_IN6_MIN):
        raise LinuxError(Errno.EINVAL, f"an address of {len(address)} bytes")
    if int.from_bytes(address[:2], "little") != family:
        raise LinuxError(Errno.EAFNOSUPPORT, "an address of another family")
    port = int.from_bytes(address[2:4], "big")
    if family == AF_INET:
        return Endpoint(MAPPED + address[4:8], port)
    return Endpoint(address[8:24], port)


def pack_endpoint(family: int, endpoint: Endpoint) -> bytes:
    """As a sockaddr of *family*."""
    port = endpoint.port.to_bytes(2, "big")
    if family == AF_INET:
        return SOCKADDR_IN.pack(AF_INET, port, endpoint.ip[12:])
    return SOCKADDR_IN6.pack(AF_INET6, port, 0, endpoint.ip, 0)


class Bound(Protocol):
    """Who has a port: a socket, or what is left of a connection (TIME_WAIT)."""

    @property
    def local(self) -> Endpoint:
        """Its own end."""
        ...

    @property
    def v6only(self) -> bool:
        """It hears nothing of IPv4 although bound to in6addr_any."""
        ...

    @property
    def reuse(self) -> bool:
        """SO_REUSEADDR, as far as it helps others."""
        ...

    @property
    def reuseport_uid(self) -> int | None:
        """Whose sockets may share the port (SO_REUSEPORT); None: nobody's."""
        ...


def overlap(one: Bound, two: Bound) -> bool:
    """Whether some message could be for both (inet_rcv_saddr_equal)."""
    first, second = one.local.ip, two.local.ip
    if (one.v6only and is_v4(second)) or (two.v6only and is_v4(first)):
        return False
    return first == second or ANY6 in {first, second} or (ANY4 in {first, second} and is_v4(first) == is_v4(second))


def hears(bound: Bound, ip: bytes) -> bool:
    """Whether what is sent to *ip* is for *bound*."""
    own = bound.local.ip
    if own == ip:
        return True
    if own == ANY4:
        return is_v4(ip)
    return own == ANY6 and not (bound.v6only and is_v4(ip))


class Ports:
    """Who is bound to which port, of one protocol: struct inet_hashinfo, struct udp_table."""

    __slots__ = ("_next", "bound")

    def __init__(self) -> None:
        self.bound: dict[int, list[Bound]] = {}
        self._next = FIRST_PORT

    def add(self, bound: Bound) -> None:
        """*bound* has its port from now on."""
        self.bound.setdefault(bound.local.port, []).append(bound)

    def remove(self, bound: Bound) -> None:
        """*bound* lets go of its port."""
        holders = self.bound[bound.local.port]
        holders.remove(bound)
        if not holders:
            del self.bound[bound.local.port]

    def conflict(self, asking: "InetSock", *, at: Endpoint) -> bool:
        """Whether *asking* may not be bound to *at* (inet_csk_bind_conflict)."""
        wanted = _Wanted(asking, at)
        return any(
            holder is not asking and overlap(holder, wanted) and not _share(holder, wanted)
            for holder in self.bound.get(at.port, ())
        )

    def find_free(self, asking: "InetSock", ip: bytes) -> int:
        """A port that nobody has, in order, where Linux chooses at random.  Errors: EADDRINUSE: there is none."""
        for _ in range(FIRST_PORT, LAST_PORT + 1):
            port = self._next
            self._next = port + 1 if port < LAST_PORT else FIRST_PORT
            if port not in self.bound or not self.conflict(asking, at=Endpoint(ip, port)):
                return port
        raise LinuxError(Errno.EADDRINUSE, "every port is in use")

    def holders(self, port: int) -> list[Bound]:
        """Who has *port*, in the order they came."""
        return self.bound.get(port, [])


class _Wanted:
    """Who asks for an address, as if it had it."""

    __slots__ = ("local", "reuse", "reuseport_uid", "v6only")

    def __init__(self, sock: "InetSock", at: Endpoint) -> None:
        self.local = at
        self.v6only = sock.v6only
        self.reuse = sock.reuse
        self.reuseport_uid = sock.reuseport_uid


def _share(holder: Bound, wanted: _Wanted) -> bool:
    if holder.reuse and wanted.reuse:
        return True
    return wanted.reuseport_uid is not None and holder.reuseport_uid == wanted.reuseport_uid
