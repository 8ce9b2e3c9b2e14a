"""Sockets as user space sees them: families, types, flags, options, and the structures of both ABIs.

Source: include/linux/socket.h, include/uapi/linux/un.h, include/uapi/asm-generic/socket.h, include/net/compat.h.
"""

from struct import Struct
from typing import Final, NamedTuple

from minikernel.abi.abi import Abi
from minikernel.abi.errno import Errno, LinuxError

AF_UNSPEC: Final = 0
AF_UNIX: Final = 1
AF_INET: Final = 2
AF_INET6: Final = 10
AF_NETLINK: Final = 16
NPROTO: Final = 46  # AF_MAX

SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
SOCK_RAW: Final = 3
SOCK_RDM: Final = 4
SOCK_SEQPACKET: Final = 5
SOCK_DCCP: Final = 6
SOCK_PACKET: Final = 10
SOCK_MAX: Final = 11
SOCK_TYPE_MASK: Final = 0xF
SOCK_NONBLOCK: Final = 0o4000
SOCK_CLOEXEC: Final = 0o2000000

MSG_OOB: Final = 1
MSG_PEEK: Final = 2
MSG_DONTROUTE: Final = 4
MSG_CTRUNC: Final = 8
MSG_TRUNC: Final = 0x20
MSG_DONTWAIT: Final = 0x40
MSG_EOR: Final = 0x80
MSG_WAITALL: Final = 0x100
MSG_ERRQUEUE: Final = 0x2000
MSG_NOSIGNAL: Final = 0x4000
MSG_MORE: Final = 0x8000
MSG_WAITFORONE: Final = 0x10000
MSG_FASTOPEN: Final = 0x2000_0000
MSG_CMSG_CLOEXEC: Final = 0x4000_0000

SOL_IP: Final = 0
SOL_SOCKET: Final = 1
SOL_TCP: Final = 6
SOL_UDP: Final = 17
SOL_IPV6: Final = 41
SOL_NETLINK: Final = 270

SO_DEBUG: Final = 1
SO_REUSEADDR: Final = 2
SO_TYPE: Final = 3
SO_ERROR: Final = 4
SO_DONTROUTE: Final = 5
SO_BROADCAST: Final = 6
SO_SNDBUF: Final = 7
SO_RCVBUF: Final = 8
SO_KEEPALIVE: Final = 9
SO_OOBINLINE: Final = 10
SO_NO_CHECK: Final = 11
SO_PRIORITY: Final = 12
SO_LINGER: Final = 13
SO_BSDCOMPAT: Final = 14
SO_REUSEPORT: Final = 15
SO_PASSCRED: Final = 16
SO_PEERCRED: Final = 17
SO_RCVLOWAT: Final = 18
SO_SNDLOWAT: Final = 19
SO_RCVTIMEO: Final = 20
SO_SNDTIMEO: Final = 21
SO_BINDTODEVICE: Final = 25
SO_ATTACH_FILTER: Final = 26
SO_DETACH_FILTER: Final = 27
SO_PEERNAME: Final = 28
SO_TIMESTAMP: Final = 29
SO_ACCEPTCONN: Final = 30
SO_PEERSEC: Final = 31
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
SO_PASSSEC: Final = 34
SO_TIMESTAMPNS: Final = 35
SO_MARK: Final = 36
SO_PROTOCOL: Final = 38
SO_DOMAIN: Final = 39
SO_RXQ_OVFL: Final = 40
SO_PEEK_OFF: Final = 42
SO_INCOMING_CPU: Final = 49
SO_COOKIE: Final = 57
SO_PEERGROUPS: Final = 59
SO_RCVTIMEO_NEW: Final = 66
SO_SNDTIMEO_NEW: Final = 67

SCM_RIGHTS: Final = 1
SCM_CREDENTIALS: Final = 2
SCM_MAX_FD: Final = 253

SHUT_RD: Final = 0
SHUT_WR: Final = 1
SHUT_RDWR: Final = 2

SIOCINQ: Final = 0x541B  # FIONREAD
SIOCOUTQ: Final = 0x5411  # TIOCOUTQ
FIOSETOWN: Final = 0x8901
SIOCSPGRP: Final = 0x8902
FIOGETOWN: Final = 0x8903
SIOCGPGRP: Final = 0x8904
SIOCATMARK: Final = 0x8905

SOMAXCONN: Final = 4096
OVERFLOW_ID: Final = 65534

SOCKADDR_MAX: Final = 128  # sizeof(struct sockaddr_storage)
UNIX_PATH_AT: Final = 2  # offsetof(struct sockaddr_un, sun_path)
SOCKADDR_UN_MAX: Final = 110

INT: Final = Struct("<i")
UCRED: Final = Struct("<III")  # pid, uid, gid
LINGER: Final = Struct("<ii")
_MSGHDR_64: Final = Struct("<QixxxxQQQQIxxxx")
_MSGHDR_32: Final = Struct("<IiIIIII")
_CMSGHDR_64: Final = Struct("<Qii")
_CMSGHDR_32: Final = Struct("<Iii")


class Msghdr(NamedTuple):
    """struct msghdr: where a message's address, data and control messages are."""

    name: int
    namelen: int
    iov: int
    iovlen: int
    control: int
    controllen: int
    flags: int


class Cmsg(NamedTuple):
    """One control message."""

    level: int
    type: int
    data: bytes


def msghdr_struct(abi: Abi) -> Struct:
    """The layout of struct msghdr."""
    return _MSGHDR_64 if abi.word == 8 else _MSGHDR_32


def mmsghdr_size(abi: Abi) -> int:
    """Bytes of struct mmsghdr: a msghdr and the length of its message."""
    return 64 if abi.word == 8 else 32


def msg_controllen_at(abi: Abi) -> int:
    """offsetof(struct msghdr, msg_controllen); msg_flags follows, and msg_len of mmsghdr that (``msg_flags_at``)."""
    return 40 if abi.word == 8 else 20


def msg_flags_at(abi: Abi) -> int:
    """offsetof(struct msghdr, msg_flags)."""
    return 48 if abi.word == 8 else 24


def msg_len_at(abi: Abi) -> int:
    """offsetof(struct mmsghdr, msg_len)."""
    return msghdr_struct(abi).size


def cmsghdr_size(abi: Abi) -> int:
    """CMSG_LEN(0)."""
    return 16 if abi.word == 8 else 12


def cmsg_align(abi: Abi, size: int) -> int:
    """CMSG_ALIGN: *size* rounded up to words."""
    return (size + abi.word - 1) & -abi.word


def pack_cmsghdr(abi: Abi, length: int, level: int, kind: int) -> bytes:
    """The head of a control message."""
    return (_CMSGHDR_64 if abi.word == 8 else _CMSGHDR_32).pack(length, level, kind)


def parse_cmsgs(abi: Abi, control: bytes) -> list[Cmsg]:
    """The control messages in a buffer.  Errors: EINVAL: one whose length is wrong (CMSG_OK)."""
    layout = _CMSGHDR_64 if abi.word == 8 else _CMSGHDR_32
    found = []
    at = 0
    while at + layout.size <= len(control):
        length, level, kind = layout.unpack_from(control, at)
        if length < layout.size or length > len(control) - at:
            raise LinuxError(Errno.EINVAL, f"a control message of {length} bytes")
        found.append(Cmsg(level, kind, control[at + layout.size : at + length]))
        at += cmsg_align(abi, length)
    return found
