"""Options of level SOL_TCP: remembered, and told again.  Linux: do_tcp_setsockopt (net/ipv4/tcp.c)."""

from typing import Final

from minikernel.abi import inet as ip
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.socket import INT, SOL_TCP
from minikernel.net.inet_sock import InetSock
from minikernel.net.sock import TCP_CLOSE, TCP_LISTEN, Caller

_INT_MAX: Final = (1 << 31) - 1
_MSS: Final = 65483  # lo's MTU of 65536, less the headers with time stamps
_DEFAULT_MSS: Final = 536
_INFO_BYTES: Final = 232  # struct tcp_info
# name -> (lowest, highest, what it is before)
_NUMBERS: Final = {
    ip.TCP_NODELAY: (0, 0, 0),
    ip.TCP_CORK: (0, 0, 0),
    ip.TCP_KEEPIDLE: (1, 32767, 7200),
    ip.TCP_KEEPINTVL: (1, 32767, 75),
    ip.TCP_KEEPCNT: (1, 127, 9),
    ip.TCP_SYNCNT: (1, 127, 6),
    ip.TCP_LINGER2: (-_INT_MAX, _INT_MAX, 60),
    ip.TCP_DEFER_ACCEPT: (-_INT_MAX, _INT_MAX, 0),
    ip.TCP_WINDOW_CLAMP: (-_INT_MAX, _INT_MAX, 0),
    ip.TCP_QUICKACK: (0, 0, 1),
    ip.TCP_USER_TIMEOUT: (0, _INT_MAX, 0),
    ip.TCP_FASTOPEN: (0, _INT_MAX, 0),
    ip.TCP_NOTSENT_LOWAT: (-_INT_MAX, _INT_MAX, 0),
}
_SWITCHES: Final = frozenset({ip.TCP_NODELAY, ip.TCP_CORK, ip.TCP_QUICKACK})
_CONGESTION: Final = b"cubic"


class TcpOptions(InetSock):
    """The part of a TCP socket that its options are."""

    __slots__ = ()

    def setsockopt(self, level: int, name: int, value: bytes, caller: Caller) -> None:
        """Errors: EINVAL, ENOPROTOOPT; ENOENT: no such congestion control."""
        if level != SOL_TCP:
            super().setsockopt(level, name, value, caller)
            return
        if name == ip.TCP_CONGESTION:
            if not value:
                raise LinuxError(Errno.EINVAL, "no name")
            if value.partition(b"\0")[0] not in {_CONGESTION, b"reno"}:
                raise LinuxError(Errno.ENOENT, f"congestion control {value!r}")
            self.levels[level, name] = int(value[:4] == b"reno")
            return
        if len(value) < INT.size:
            raise LinuxError(Errno.EINVAL, "shorter than an int")
        (number,) = INT.unpack_from(value)
        if name == ip.TCP_MAXSEG:
            if number and not 88 <= number <= 32767:
                raise LinuxError(Errno.EINVAL, f"segments of {number} bytes")
            self.levels[level, name] = number
            return
        if name not in _NUMBERS:
            raise LinuxError(Errno.ENOPROTOOPT, f"SOL_TCP option {name}")
        low, high, _ = _NUMBERS[name]
        if name in _SWITCHES:
            number = int(bool(number))
        elif not low <= number <= high:
            raise LinuxError(Errno.EINVAL, f"SOL_TCP option {name} = {number}")
        if name == ip.TCP_FASTOPEN and self.state not in {TCP_CLOSE, TCP_LISTEN}:
            raise LinuxError(Errno.EINVAL, "TCP_FASTOPEN of a connection")
        self.levels[level, name] = number

    def getsockopt(self, level: int, name: int, length: int) -> bytes:
        """Errors: ENOPROTOOPT."""
        if level != SOL_TCP:
            return super().getsockopt(level, name, length)
        if name == ip.TCP_CONGESTION:
            text = b"reno" if self.levels.get((level, name)) else _CONGESTION
            return text.ljust(16, b"\0")
        if name == ip.TCP_INFO:
            return bytes([self.state]).ljust(_INFO_BYTES, b"\0")
        if name == ip.TCP_MAXSEG:
            connected = self.state not in {TCP_CLOSE, TCP_LISTEN}
            return INT.pack(_MSS if connected else self.levels.get((level, name), 0) or _DEFAULT_MSS)
        if name not in _NUMBERS:
            raise LinuxError(Errno.ENOPROTOOPT, f"SOL_TCP option {name}")
        return INT.pack(self.levels.get((level, name), _NUMBERS[name][2]))
