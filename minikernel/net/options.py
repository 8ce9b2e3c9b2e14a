"""Options of level SOL_SOCKET.

Linux: sk_setsockopt, sk_getsockopt (net/core/sock.c).
"""

from struct import Struct
from typing import TYPE_CHECKING, Final

from minikernel.abi import socket as so
from minikernel.abi.capability import CAP_NET_ADMIN, CAP_NET_RAW
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.time import NSEC_PER_SEC, NSEC_PER_USEC, USEC_PER_SEC

if TYPE_CHECKING:
    from minikernel.net.sock import Caller, Sock

WMEM_DEFAULT: Final = 212_992  # net.core.wmem_default, wmem_max and their rmem twins
MIN_SNDBUF: Final = 4608  # SOCK_MIN_SNDBUF
MIN_RCVBUF: Final = 2304  # SOCK_MIN_RCVBUF
_INT_MAX: Final = (1 << 31) - 1
_TIMEVAL: Final = {8: Struct("<ii"), 16: Struct("<qq")}


class SockOptions:
    """What setsockopt(2) set at level SOL_SOCKET, and what it was before.  Times in ns; None: for ever."""

    __slots__ = ("flags", "linger", "rcvbuf", "rcvlowat", "rcvtimeo", "sndbuf", "sndtimeo")

    def __init__(self) -> None:
        self.flags: dict[int, int] = {}  # options that are a number, by name
        self.linger: tuple[int, int] = (0, 0)
        self.sndbuf = self.rcvbuf = WMEM_DEFAULT
        self.rcvlowat = 1
        self.rcvtimeo: int | None = None
        self.sndtimeo: int | None = None

    def on(self, name: int) -> bool:
        """Whether option *name* is set."""
        return bool(self.flags.get(name))

    def copy(self) -> "SockOptions":
        """What an accepted socket inherits (sk_clone)."""
        other = SockOptions()
        other.flags = dict(self.flags)
        other.linger = self.linger
        other.sndbuf, other.rcvbuf, other.rcvlowat = self.sndbuf, self.rcvbuf, self.rcvlowat
        other.rcvtimeo, other.sndtimeo = self.rcvtimeo, self.sndtimeo
        return other


# Switches: any value but 0 sets them.
_SWITCHES: Final = frozenset(
    (
        *(so.SO_REUSEADDR, so.SO_DONTROUTE, so.SO_BROADCAST, so.SO_KEEPALIVE, so.SO_OOBINLINE, so.SO_NO_CHECK),
        *(so.SO_TIMESTAMP, so.SO_TIMESTAMPNS, so.SO_RXQ_OVFL, so.SO_PASSSEC),
    )
)
_READ_ONLY: Final = frozenset((so.SO_TYPE, so.SO_PROTOCOL, so.SO_DOMAIN, so.SO_ERROR))
_PRIORITY_MAX: Final = 6


def setsockopt(sock: "Sock", name: int, value: bytes, caller: "Caller", word: int) -> None:
    """Set option *name*; *word* is the caller's, for its struct timeval.

    Errors:
        EINVAL: too short, or a bad value; EDOM: a bad time; EPERM, EACCES; EOPNOTSUPP; ENOPROTOOPT: no such option.
    """
    opts = sock.opts
    if name == so.SO_BINDTODEVICE:
        _bind_to_device(sock, value, caller)
        return
    if len(value) < so.INT.size:
        raise LinuxError(Errno.EINVAL, "shorter than an int")
    (number,) = so.INT.unpack_from(value)
    match name:
        case so.SO_SNDBUF | so.SO_SNDBUFFORCE:
            opts.sndbuf = max(_buffer(name == so.SO_SNDBUFFORCE, number, caller), MIN_SNDBUF)
            sock.write_space()
        case so.SO_RCVBUF | so.SO_RCVBUFFORCE:
            opts.rcvbuf = max(_buffer(name == so.SO_RCVBUFFORCE, number, caller), MIN_RCVBUF)
        case so.SO_LINGER:
            if len(value) < so.LINGER.size:
                raise LinuxError(Errno.EINVAL, "shorter than struct linger")
            on, seconds = so.LINGER.unpack_from(value)
            opts.linger = (1, seconds & 0xFFFF_FFFF) if on else (0, opts.linger[1])
        case so.SO_RCVLOWAT:
            opts.rcvlowat = (_INT_MAX if number < 0 else number) or 1
        case so.SO_RCVTIMEO | so.SO_RCVTIMEO_NEW:
            opts.rcvtimeo = _timeout(value, 16 if name == so.SO_RCVTIMEO_NEW else 2 * word)
        case so.SO_SNDTIMEO | so.SO_SNDTIMEO_NEW:
            opts.sndtimeo = _timeout(value, 16 if name == so.SO_SNDTIMEO_NEW else 2 * word)
        case so.SO_PRIORITY:
            if not 0 <= number <= _PRIORITY_MAX and not (
                caller.cred.capable(CAP_NET_ADMIN) or caller.cred.capable(CAP_NET_RAW)
            ):
                raise LinuxError(Errno.EPERM, f"priority {number}")
            opts.flags[name] = number
        case so.SO_DEBUG:
            if number and not caller.cred.capable(CAP_NET_ADMIN):
                raise LinuxError(Errno.EACCES, "SO_DEBUG")
            opts.flags[name] = bool(number)
        case so.SO_REUSEPORT:
            if number and sock.family == so.AF_UNIX:
                raise LinuxError(Errno.EOPNOTSUPP, "SO_REUSEPORT is for internet sockets")
            opts.flags[name] = bool(number)
        case so.SO_PASSCRED:
            if sock.family not in {so.AF_UNIX, so.AF_NETLINK}:
                raise LinuxError(Errno.EOPNOTSUPP, "SO_PASSCRED is for local sockets")
            opts.flags[name] = bool(number)
        case so.SO_MARK:
            if not (caller.cred.capable(CAP_NET_ADMIN) or caller.cred.capable(CAP_NET_RAW)):
                raise LinuxError(Errno.EPERM, "SO_MARK")
            opts.flags[name] = number
        case so.SO_PEEK_OFF:
            raise LinuxError(Errno.EOPNOTSUPP, "no peeking at an offset")
        case so.SO_BSDCOMPAT:
            pass
        case so.SO_INCOMING_CPU:
            opts.flags[name] = number
        case so.SO_ATTACH_FILTER:
            raise LinuxError(Errno.EINVAL, "no socket filters")
        case so.SO_DETACH_FILTER:
            raise LinuxError(Errno.ENOENT, "no socket filter is attached")
        case _ if name in _SWITCHES:
            opts.flags[name] = bool(number)
        case _:
            raise LinuxError(Errno.ENOPROTOOPT, f"option {name}")


def _buffer(force: bool, number: int, caller: "Caller") -> int:
    """Twice the bytes asked for, as half is bookkeeping; up to 416 KiB unless forced.  Errors: EPERM."""
    if force:
        if not caller.cred.capable(CAP_NET_ADMIN):
            raise LinuxError(Errno.EPERM, "buffers beyond the limit")
        return min(max(number, 0), _INT_MAX // 2) * 2
    # Compared unsigned: a negative number is a large one.
    return min(number & 0xFFFF_FFFF, WMEM_DEFAULT) * 2


def _timeout(value: bytes, size: int) -> int | None:
    """sock_set_timeout.  Errors: EINVAL: too short; EDOM: the microseconds are none."""
    if len(value) < size:
        raise LinuxError(Errno.EINVAL, "shorter than struct timeval")
    seconds, microseconds = _TIMEVAL[size].unpack_from(value)
    if not 0 <= microseconds < USEC_PER_SEC:
        raise LinuxError(Errno.EDOM, f"{microseconds} microseconds")
    if seconds < 0:
        return 0
    nanoseconds: int = seconds * NSEC_PER_SEC + microseconds * NSEC_PER_USEC
    return nanoseconds or None


def _bind_to_device(sock: "Sock", value: bytes, caller: "Caller") -> None:
    """SO_BINDTODEVICE: lo is all there is.  Errors: ENODEV, EPERM."""
    name = value[:15].partition(b"\0")[0]
    if not caller.cred.capable(CAP_NET_RAW):
        raise LinuxError(Errno.EPERM, "SO_BINDTODEVICE")
    if name not in {b"", b"lo"}:
        raise LinuxError(Errno.ENODEV, f"device {name!r}")
    sock.opts.flags[so.SO_BINDTODEVICE] = int(name == b"lo")


def _creds(sock: "Sock") -> bytes:
    pid, uid, gid = sock.peercred if sock.peercred is not None else (0, 0xFFFF_FFFF, 0xFFFF_FFFF)
    return so.UCRED.pack(pid, uid, gid)


def _pack_timeout(timeout: int | None, size: int) -> bytes:
    seconds, rest = divmod(timeout or 0, NSEC_PER_SEC)
    return _TIMEVAL[size].pack(seconds, rest // NSEC_PER_USEC)


def _bound_device(sock: "Sock", length: int) -> bytes:
    if not sock.opts.on(so.SO_BINDTODEVICE):
        return b""
    if length < 16:
        raise LinuxError(Errno.EINVAL, "no room for a device's name")
    return b"lo\0"


def _number_of(sock: "Sock", name: int) -> int | None:
    """An option that is a number and stands in no dictionary; None: *name* is another one."""
    match name:
        case so.SO_TYPE:
            return sock.kind
        case so.SO_PROTOCOL:
            return sock.protocol
        case so.SO_DOMAIN:
            return sock.family
        case so.SO_ERROR:
            return sock.take_error()
        case so.SO_SNDBUF:
            return sock.opts.sndbuf
        case so.SO_RCVBUF:
            return sock.opts.rcvbuf
        case so.SO_RCVLOWAT:
            return sock.opts.rcvlowat
        case so.SO_SNDLOWAT:
            return 1
        case so.SO_ACCEPTCONN:
            return int(sock.is_listening)
        case so.SO_BSDCOMPAT | so.SO_INCOMING_CPU:
            return 0
        case _:
            return None


_NUMBERS: Final = _SWITCHES | {so.SO_DEBUG, so.SO_REUSEPORT, so.SO_PASSCRED, so.SO_PRIORITY, so.SO_MARK}


def getsockopt(sock: "Sock", name: int, length: int, word: int) -> bytes:
    """The value of option *name*, which the caller cuts to *length* bytes.  Errors: ENOPROTOOPT, ENOTCONN, EINVAL."""
    number = _number_of(sock, name)
    if number is not None:
        return so.INT.pack(number)
    if name in _NUMBERS:
        return so.INT.pack(int(sock.opts.flags.get(name, 0)))
    match name:
        case so.SO_LINGER:
            on, seconds = sock.opts.linger
            return so.LINGER.pack(on, seconds - (seconds >> 31 << 32))
        case so.SO_RCVTIMEO | so.SO_RCVTIMEO_NEW:
            return _pack_timeout(sock.opts.rcvtimeo, 16 if name == so.SO_RCVTIMEO_NEW else 2 * word)
        case so.SO_SNDTIMEO | so.SO_SNDTIMEO_NEW:
            return _pack_timeout(sock.opts.sndtimeo, 16 if name == so.SO_SNDTIMEO_NEW else 2 * word)
        case so.SO_PEERCRED:
            return _creds(sock)
        case so.SO_PEERNAME:
            address = sock.getname(peer=True)
            if len(address) < length:
                raise LinuxError(Errno.EINVAL, "more room than the address has bytes")
            return address
        case so.SO_BINDTODEVICE:
            return _bound_device(sock, length)
        case so.SO_PEEK_OFF:
            raise LinuxError(Errno.EOPNOTSUPP, "no peeking at an offset")
        case so.SO_COOKIE:
            if length < 8:
                raise LinuxError(Errno.EINVAL, "a cookie has 8 bytes")
            return sock.net.cookie(sock).to_bytes(8, "little")
        case _:
            raise LinuxError(Errno.ENOPROTOOPT, f"option {name}")
