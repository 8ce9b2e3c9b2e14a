"""What is left of a connection for a minute after it was closed.  Linux: struct inet_timewait_sock, TIME_WAIT."""

from typing import TYPE_CHECKING, Final

from minikernel.abi.socket import SO_REUSEADDR
from minikernel.net.inet import Endpoint, Ports

if TYPE_CHECKING:
    from minikernel.net.tcp import TcpSock

TIMEWAIT_NS: Final = 60_000_000_000


class TimeWait:
    """A port that is not free yet."""

    __slots__ = ("_ports", "family", "local", "remote", "reuse", "reuseport_uid", "v6only")

    def __init__(self, sock: "TcpSock") -> None:
        self._ports: Ports = sock.ports
        self.family = sock.family
        self.local: Endpoint = sock.local
        self.remote: Endpoint = sock.remote
        self.v6only = sock.v6only
        self.reuse = sock.opts.on(SO_REUSEADDR)
        self.reuseport_uid = sock.reuseport_uid

    @classmethod
    def of(cls, sock: "TcpSock") -> None:
        """Take the place of *sock*, which is about to let go of its port."""
        waiting = cls(sock)
        sock.ports.add(waiting)
        sock.net.add_timer(TIMEWAIT_NS, waiting.expire)

    def expire(self) -> None:
        """The minute is over."""
        self._ports.remove(self)
