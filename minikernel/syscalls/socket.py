"""Handlers: sockets.  Linux: net/socket.c.

The calls themselves are in ``socket_calls`` and ``socket_msg``, which load the room ``net``; most programs make no
socket, so they are imported with the first one.
"""

from typing import Final

from minikernel.kernel import Kernel
from minikernel.syscalls.args import (
    BufIn,
    BufOut,
    Fd,
    Hex,
    Int,
    IntPairOut,
    Ptr,
    Size,
    SockaddrIn,
    SocketFamily,
    SocketType,
    Timespec64In,
    TimespecIn,
    UInt,
)
from minikernel.syscalls.entry_types import Entry, Result, full, partial
from minikernel.task.task import Task


def sys_socket(kernel: Kernel, task: Task, family: SocketFamily, kind: SocketType, protocol: Int) -> int:
    """Make a socket: socket(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.make(kernel, task, family, kind, protocol)


def sys_socketpair(
    kernel: Kernel, task: Task, family: SocketFamily, kind: SocketType, protocol: Int, sv: IntPairOut
) -> int:
    """Make two connected sockets: socketpair(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.make_pair(kernel, task, family, kind, protocol, sv)


def sys_bind(kernel: Kernel, task: Task, fd: Fd, addr: SockaddrIn, addrlen: Int) -> int:
    """Give a socket a name: bind(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.bind(task, fd, addr, addrlen)


def sys_listen(kernel: Kernel, task: Task, fd: Fd, backlog: Int) -> int:
    """Wait for connections: listen(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.listen(task, fd, backlog)


def sys_accept(kernel: Kernel, task: Task, fd: Fd, addr: Ptr, addrlen: Ptr) -> Result:
    """Take a connection: accept(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.accept(kernel, task, fd, addr, addrlen, 0)


def sys_accept4(kernel: Kernel, task: Task, fd: Fd, addr: Ptr, addrlen: Ptr, flags: Int) -> Result:
    """Take a connection: accept4(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.accept(kernel, task, fd, addr, addrlen, flags)


def sys_connect(kernel: Kernel, task: Task, fd: Fd, addr: SockaddrIn, addrlen: Int) -> Result:
    """Connect to a name: connect(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.connect(task, fd, addr, addrlen)


def sys_getsockname(kernel: Kernel, task: Task, fd: Fd, addr: Ptr, addrlen: Ptr) -> int:
    """The socket's own name: getsockname(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.getname(task, fd, addr, addrlen, peer=False)


def sys_getpeername(kernel: Kernel, task: Task, fd: Fd, addr: Ptr, addrlen: Ptr) -> int:
    """The other end's name: getpeername(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.getname(task, fd, addr, addrlen, peer=True)


def sys_shutdown(kernel: Kernel, task: Task, fd: Fd, how: Int) -> int:
    """End one direction, or both: shutdown(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.shutdown(task, fd, how)


def sys_setsockopt(kernel: Kernel, task: Task, fd: Fd, level: Int, optname: Int, optval: Ptr, optlen: Int) -> int:
    """Set an option: setsockopt(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.setsockopt(task, fd, level, optname, optval, optlen)


def sys_getsockopt(kernel: Kernel, task: Task, fd: Fd, level: Int, optname: Int, optval: Ptr, optlen: Ptr) -> int:
    """Read an option: getsockopt(2)."""
    from minikernel.syscalls import socket_calls

    return socket_calls.getsockopt(task, fd, level, optname, optval, optlen)


def sys_sendto(
    kernel: Kernel, task: Task, fd: Fd, buf: BufIn, count: Size, flags: Hex, addr: Ptr, addrlen: Int
) -> Result:
    """Send a message: sendto(2)."""
    from minikernel.syscalls import socket_msg

    return socket_msg.sendto(task, fd, buf, count, flags, addr, addrlen)


def sys_recvfrom(
    kernel: Kernel, task: Task, fd: Fd, buf: BufOut, count: Size, flags: Hex, addr: Ptr, addrlen: Ptr
) -> Result:
    """Receive a message: recvfrom(2)."""
    from minikernel.syscalls import socket_msg

    return socket_msg.recvfrom(task, fd, buf, count, flags, addr, addrlen)


def sys_sendmsg(kernel: Kernel, task: Task, fd: Fd, msg: Ptr, flags: Hex) -> Result:
    """Send a message from several buffers, with what goes along: sendmsg(2)."""
    from minikernel.syscalls import socket_msg

    return socket_msg.sendmsg(task, fd, msg, flags)


def sys_recvmsg(kernel: Kernel, task: Task, fd: Fd, msg: Ptr, flags: Hex) -> Result:
    """Receive a message into several buffers, with what came along: recvmsg(2)."""
    from minikernel.syscalls import socket_msg

    return socket_msg.recvmsg(task, fd, msg, flags)


def sys_sendmmsg(kernel: Kernel, task: Task, fd: Fd, mmsg: Ptr, vlen: UInt, flags: Hex) -> Result:
    """Send several messages: sendmmsg(2)."""
    from minikernel.syscalls import socket_msg

    return socket_msg.sendmmsg(task, fd, mmsg, vlen, flags)


def sys_recvmmsg(kernel: Kernel, task: Task, fd: Fd, mmsg: Ptr, vlen: UInt, flags: Hex, timeout: TimespecIn) -> Result:
    """Receive several messages: recvmmsg(2)."""
    from minikernel.syscalls import socket_msg

    return socket_msg.recvmmsg(task, fd, mmsg, vlen, flags, timeout, wide=False)


def sys_recvmmsg_time64(
    kernel: Kernel, task: Task, fd: Fd, mmsg: Ptr, vlen: UInt, flags: Hex, timeout: Timespec64In
) -> Result:
    """The same with 64-bit seconds: recvmmsg_time64(2) of i386."""
    from minikernel.syscalls import socket_msg

    return socket_msg.recvmmsg(task, fd, mmsg, vlen, flags, timeout, wide=True)


def sys_socketcall(kernel: Kernel, task: Task, call: Int, args: Ptr) -> Result:
    """All socket calls in one, with their arguments in memory: socketcall(2) of i386."""
    from minikernel.syscalls import socket_calls

    return socket_calls.socketcall(kernel, task, call, args)


_FAMILIES: Final = "AF_UNIX; AF_INET, AF_INET6 (TCP, UDP) on the loopback; NETLINK_ROUTE of lo; no raw sockets"
_OPTIONS: Final = "no filters, no time stamps, no peeking at an offset"
_MESSAGES: Final = "no MSG_OOB on AF_UNIX, MSG_ZEROCOPY or MSG_FASTOPEN"

ENTRIES: Final[tuple[Entry, ...]] = (
    partial("socket", sys_socket, _FAMILIES),
    full("socketpair", sys_socketpair),
    full("bind", sys_bind),
    full("listen", sys_listen),
    full("accept", sys_accept),
    full("accept4", sys_accept4),
    full("connect", sys_connect),
    full("getsockname", sys_getsockname),
    full("getpeername", sys_getpeername),
    full("shutdown", sys_shutdown),
    partial("setsockopt", sys_setsockopt, _OPTIONS),
    partial("getsockopt", sys_getsockopt, _OPTIONS),
    partial("sendto", sys_sendto, _MESSAGES),
    partial("recvfrom", sys_recvfrom, _MESSAGES),
    partial("sendmsg", sys_sendmsg, _MESSAGES),
    partial("recvmsg", sys_recvmsg, _MESSAGES),
    partial("sendmmsg", sys_sendmmsg, _MESSAGES),
    partial("recvmmsg", sys_recvmmsg, _MESSAGES),
    partial("recvmmsg_time64", sys_recvmmsg_time64, _MESSAGES, abi="i386"),
    full("socketcall", sys_socketcall, abi="i386"),
)
