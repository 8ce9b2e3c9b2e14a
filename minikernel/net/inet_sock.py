"""What TCP and UDP sockets share: bind, names, options of the levels SOL_IP and SOL_IPV6.

Linux: struct inet_sock, net/ipv4/af_inet.c (inet_bind, inet_getname), net/ipv4/ip_sockglue.c, net/ipv6/ipv6_sockglue.c.
"""

from typing import TYPE_CHECKING, Final

from minikernel.abi import inet as ip
from minikernel.abi.capability import CAP_NET_ADMIN, CAP_NET_BIND_SERVICE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.socket import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    INT,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_STREAM,
    SOL_IP,
    SOL_IPV6,
)
from minikernel.net.inet import (
    ANY4,
    ANY6,
    LOOPBACK4,
    LOOPBACK6,
    NOWHERE4,
    NOWHERE6,
    PRIVILEGED,
    Endpoint,
    Ports,
    is_any,
    is_broadcast,
    is_local,
    is_multicast,
    is_v4,
    pack_endpoint,
    unpack_endpoint,
)
from minikernel.net.sock import TCP_CLOSE, TCP_SYN_SENT, Caller, Sock

if TYPE_CHECKING:
    from minikernel.net.net import Net

_TTL: Final = 64
# Options that are a number to be remembered, with what they are before: (lowest, highest, default).
_IP_NUMBERS: Final = {
    ip.IP_TOS: (0, 255, 0),
    ip.IP_TTL: (1, 255, _TTL),
    ip.IP_PKTINFO: (None, None, 0),
    ip.IP_MTU_DISCOVER: (0, 5, 1),
    ip.IP_RECVERR: (None, None, 0),
    ip.IP_RECVTTL: (None, None, 0),
    ip.IP_RECVTOS: (None, None, 0),
    ip.IP_FREEBIND: (None, None, 0),
    ip.IP_BIND_ADDRESS_NO_PORT: (None, None, 0),
    ip.IP_MULTICAST_TTL: (-1, 255, 1),
    ip.IP_MULTICAST_LOOP: (None, None, 1),
}
_IPV6_NUMBERS: Final = {
    ip.IPV6_UNICAST_HOPS: (-1, 255, _TTL),
    ip.IPV6_MULTICAST_HOPS: (-1, 255, 1),
    ip.IPV6_MULTICAST_LOOP: (0, 1, 1),
    ip.IPV6_MTU_DISCOVER: (0, 5, 1),
    ip.IPV6_RECVERR: (None, None, 0),
    ip.IPV6_V6ONLY: (None, None, 0),
    ip.IPV6_RECVPKTINFO: (None, None, 0),
    ip.IPV6_RECVHOPLIMIT: (None, None, 0),
    ip.IPV6_RECVTCLASS: (None, None, 0),
    ip.IPV6_TCLASS: (-1, 255, 0),
}


class InetSock(Sock):
    """A socket of AF_INET or AF_INET6: struct inet_sock.

    Invariant: it stands in ``ports``, once, if and only if it is ``hashed``.  A connection that is over has a name
    still, but not the port.
    """

    __slots__ = ("chosen", "family", "hashed", "levels", "local", "ports", "remote", "uid")

    def __init__(self, net: "Net", family: int, kind: int, protocol: int, ports: Ports, uid: int) -> None:
        """Errors: ENOMEM."""
        super().__init__(net, kind, protocol)
        self.family = family  # type: ignore[misc]  # of two families
        self.ports = ports
        self.uid = uid
        self.local = NOWHERE4 if family == AF_INET else NOWHERE6
        self.remote = self.local
        self.chosen: Endpoint | None = None  # what bind(2) said, and whether it said a port
        self.hashed = False
        self.levels: dict[tuple[int, int], int] = {}  # options of our levels, by level and name

    # Bound

    @property
    def v6only(self) -> bool:
        """IPV6_V6ONLY."""
        return bool(self.levels.get((SOL_IPV6, ip.IPV6_V6ONLY)))

    @property
    def reuse(self) -> bool:
        """SO_REUSEADDR, but of one that listens."""
        return self.opts.on(SO_REUSEADDR) and not self.is_listening

    @property
    def reuseport_uid(self) -> int | None:
        """SO_REUSEPORT."""
        return self.uid if self.opts.on(SO_REUSEPORT) else None

    @property
    def any(self) -> bytes:
        """The wildcard of its family."""
        return ANY4 if self.family == AF_INET else ANY6

    def bind(self, address: bytes, caller: Caller) -> None:
        """inet_bind, inet6_bind.

        Errors:
            EINVAL: too short, or bound already; EAFNOSUPPORT; EADDRNOTAVAIL; EACCES: a low port; EADDRINUSE.
        """
        wanted = self._bind_address(address)
        if wanted.port and wanted.port < PRIVILEGED and not caller.cred.capable(CAP_NET_BIND_SERVICE):
            raise LinuxError(Errno.EACCES, f"port {wanted.port}")
        if self.state != TCP_CLOSE or self.local.port:
            raise LinuxError(Errno.EINVAL, "the socket is bound")
        if wanted.port and self.ports.conflict(self, at=wanted):
            raise LinuxError(Errno.EADDRINUSE, f"port {wanted.port}")
        port = wanted.port or self.ports.find_free(self, wanted.ip)
        self.chosen = Endpoint(wanted.ip, port)
        self._hash(self.chosen)

    def _hash(self, local: Endpoint) -> None:
        self.local = local
        self.hashed = True
        self.ports.add(self)

    def _bind_address(self, address: bytes) -> Endpoint:
        family = int.from_bytes(address[:2], "little")
        if self.family == AF_INET and len(address) >= ip.SOCKADDR_IN.size and family == AF_UNSPEC:
            # For old programs: AF_UNSPEC means AF_INET, for the wildcard only.
            if address[4:8] != bytes(4):
                raise LinuxError(Errno.EAFNOSUPPORT, "an address of no family")
            return Endpoint(ANY4, int.from_bytes(address[2:4], "big"))
        wanted = unpack_endpoint(self.family, address)
        if self.family == AF_INET6:
            if is_multicast(wanted.ip) and not is_v4(wanted.ip) and self.kind == SOCK_STREAM:
                raise LinuxError(Errno.EINVAL, "a stream of a group")
            if is_v4(wanted.ip) and self.v6only:
                raise LinuxError(Errno.EINVAL, "IPv4 with IPV6_V6ONLY")
        known = is_any(wanted.ip) or is_local(wanted.ip) or is_multicast(wanted.ip) or is_broadcast(wanted.ip)
        if not known and not self.levels.get((SOL_IP, ip.IP_FREEBIND)):
            raise LinuxError(Errno.EADDRNOTAVAIL, "no address of this machine")
        return wanted

    def autobind(self) -> None:
        """A port that nobody has, if it has none (inet_autobind).  Errors: EAGAIN: there is none."""
        if self.local.port:
            return
        try:
            port = self.ports.find_free(self, self.local.ip)
        except LinuxError:
            raise LinuxError(Errno.EAGAIN, "every port is in use") from None
        self._hash(Endpoint(self.local.ip, port))

    def put_port(self) -> None:
        """Let go of the port; the name stays (inet_put_port)."""
        if self.hashed:
            self.ports.remove(self)
            self.hashed = False

    def forget_ends(self) -> None:
        """Be as before the connection: what bind(2) chose is kept (tcp_disconnect, __udp_disconnect)."""
        nowhere = NOWHERE4 if self.family == AF_INET else NOWHERE6
        self.remote = nowhere
        self.put_port()
        if self.chosen is not None:
            self._hash(self.chosen)
        else:
            self.local = nowhere

    def move(self, address: bytes) -> None:
        """The address becomes *address*, the port stays: a connection has chosen where it comes from."""
        if self.local.ip != address:
            # In place: who finds it by its port need not look for it anew.
            self.local = Endpoint(address, self.local.port)

    def destination(self, address: bytes) -> Endpoint:
        """Where a sockaddr leads; the wildcard means this machine.  Errors: EINVAL, EAFNOSUPPORT, ENETUNREACH."""
        to = unpack_endpoint(self.family, address)
        if to.ip == ANY6:
            to = to._replace(ip=LOOPBACK4 if is_v4(self.local.ip) and not is_any(self.local.ip) else LOOPBACK6)
        elif to.ip == ANY4:
            to = to._replace(ip=LOOPBACK4)
        if is_v4(to.ip) and self.v6only:
            raise LinuxError(Errno.ENETUNREACH, "IPv4 with IPV6_V6ONLY")
        if not is_any(self.local.ip) and is_v4(self.local.ip) != is_v4(to.ip):
            raise LinuxError(Errno.ENETUNREACH, "bound to an address of the other family")
        return to

    # Names

    def getname(self, *, peer: bool) -> bytes:
        """inet_getname, inet6_getname.  Errors: ENOTCONN."""
        if not peer:
            return self.shown(self.local)
        if not self.remote.port or self.state in {TCP_CLOSE, TCP_SYN_SENT}:
            raise LinuxError(Errno.ENOTCONN, "no peer")
        return self.shown(self.remote)

    def accepted_name(self) -> bytes:
        """The peer's name as accept(2) tells it, also of a connection that was reset meanwhile."""
        return self.shown(self.remote)

    def shown(self, endpoint: Endpoint) -> bytes:
        """*endpoint* as a sockaddr of our family."""
        if self.family == AF_INET6 and endpoint.ip == ANY4:
            endpoint = endpoint._replace(ip=ANY6)
        return pack_endpoint(self.family, endpoint)

    # Options

    def setsockopt(self, level: int, name: int, value: bytes, caller: Caller) -> None:
        """ip_setsockopt, ipv6_setsockopt.  Errors: EINVAL, ENOPROTOOPT, EPERM."""
        if level == SOL_IP:
            self._set_ip(name, value, caller)
        elif level == SOL_IPV6 and self.family == AF_INET6:
            self._set_ipv6(name, value)
        else:
            raise LinuxError(Errno.ENOPROTOOPT, f"level {level}")

    def _remember(self, level: int, name: int, value: bytes, limits: tuple[int | None, int | None, int]) -> None:
        if len(value) >= INT.size:
            (number,) = INT.unpack_from(value)
        else:
            # A char will do for a number (do_ip_setsockopt).
            number = value[0] if value else 0
        low, high, default = limits
        if low is None or high is None:
            number = int(bool(number))
        elif not low <= number <= high:
            raise LinuxError(Errno.EINVAL, f"{number}")
        self.levels[level, name] = default if number == -1 else number

    def _set_ip(self, name: int, value: bytes, caller: Caller) -> None:
        if name in _IP_NUMBERS:
            self._remember(SOL_IP, name, value, _IP_NUMBERS[name])
        elif name == ip.IP_TRANSPARENT:
            if not caller.cred.capable(CAP_NET_ADMIN):
                raise LinuxError(Errno.EPERM, "IP_TRANSPARENT")
            self.levels[SOL_IP, name] = int(any(value[:4]))
        elif name in {ip.IP_MULTICAST_IF, ip.IP_ADD_MEMBERSHIP, ip.IP_DROP_MEMBERSHIP}:
            if self.kind == SOCK_STREAM:
                raise LinuxError(Errno.EINVAL if name == ip.IP_MULTICAST_IF else Errno.EPROTO, "a stream of a group")
            raise LinuxError(Errno.ENODEV, "lo does no multicast")
        else:
            raise LinuxError(Errno.ENOPROTOOPT, f"SOL_IP option {name}")

    def _set_ipv6(self, name: int, value: bytes) -> None:
        if name in {ip.IPV6_JOIN_GROUP, ip.IPV6_LEAVE_GROUP, ip.IPV6_MULTICAST_IF}:
            raise LinuxError(Errno.ENODEV, "lo does no multicast")
        if name not in _IPV6_NUMBERS:
            raise LinuxError(Errno.ENOPROTOOPT, f"SOL_IPV6 option {name}")
        if len(value) < INT.size or (name == ip.IPV6_V6ONLY and self.local.port):
            raise LinuxError(Errno.EINVAL, "too short, or too late")
        self._remember(SOL_IPV6, name, value, _IPV6_NUMBERS[name])

    def getsockopt(self, level: int, name: int, length: int) -> bytes:
        """ip_getsockopt, ipv6_getsockopt.  Errors: ENOPROTOOPT, EOPNOTSUPP, ENOTCONN."""
        if level not in {SOL_IP, SOL_IPV6} and self.family == AF_INET:
            raise LinuxError(Errno.EOPNOTSUPP, f"level {level}")
        known = _IP_NUMBERS if level == SOL_IP else _IPV6_NUMBERS if level == SOL_IPV6 else {}
        if level == SOL_IPV6 and self.family != AF_INET6:
            known = {}
        if name in known:
            number = self.levels.get((level, name), known[name][2])
            # A short buffer gets a char.
            return bytes([number & 0xFF]) if 0 < length < INT.size and level == SOL_IP else INT.pack(number)
        if (level, name) in {(SOL_IP, ip.IP_MTU), (SOL_IPV6, ip.IPV6_MTU)} and known:
            if not self.remote.port:
                raise LinuxError(Errno.ENOTCONN, "no peer")
            return INT.pack(65536)
        if level == SOL_IP and name == ip.IP_TRANSPARENT:
            return INT.pack(self.levels.get((level, name), 0))
        raise LinuxError(Errno.ENOPROTOOPT, f"level {level}, option {name}")
