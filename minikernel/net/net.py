"""The sockets of one machine: who makes them, what they are bound to, what is in flight.

Linux: struct net (include/net/net_namespace.h), sock_create, sock_alloc_file (net/socket.c).
"""

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.socket import AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, NPROTO, SOCK_MAX
from minikernel.abi.stat import makedev
from minikernel.abi.statfs import SOCKFS_MAGIC
from minikernel.fs.anon import DetachedFs
from minikernel.fs.file import OpenFile
from minikernel.fs.services import KernelServices
from minikernel.mm.page_alloc import Node
from minikernel.net.sock import Caller, Sock, SocketFile, SockInode
from minikernel.wait import Timer

if TYPE_CHECKING:
    from minikernel.net.inet_create import InetTables
    from minikernel.net.unix import UnixNames

_DEV_SOCKFS: Final = makedev(0, 8)


class Signaller(Protocol):
    """Who sends SIGURG to a descriptor's owner: a process, or (negative) a group."""

    def __call__(self, owner: int, signo: int) -> None:
        """Send it, if there is such a process."""
        ...


class Net:
    """All sockets of one machine.

    Invariants, checked by ``validate_net``:
        - ``socks`` has every socket that was made and not destroyed;
        - ``in_flight`` counts, for each file, the messages in queues that carry it.
    """

    def __init__(self, services: KernelServices, caller: Callable[[], Caller], signal: Signaller) -> None:
        """*caller*: who makes the call that runs; *signal* sends SIGURG and SIGIO."""
        self.services = services
        self.node: Node = services.node
        self.caller = caller
        self.signal = signal
        self.sockfs = DetachedFs(services, b"sockfs", SOCKFS_MAGIC, _DEV_SOCKFS)
        self.sockfs.inode_cache = self.sockfs.objects.inode_cache
        self.socks: dict[Sock, None] = {}
        self.in_flight: dict[OpenFile, int] = {}
        self.collecting = False  # garbage.collect is at work
        self._cookies: dict[Sock, int] = {}
        self._next_cookie = count(1)
        self.lo_bytes = self.lo_packets = 0  # what went over lo
        self._unix: UnixNames | None = None
        self._inet: InetTables | None = None

    @property
    def unix_used(self) -> bool:
        """Whether there ever was an AF_UNIX socket with a name."""
        return self._unix is not None

    @property
    def inet(self) -> "InetTables":
        """Who is bound to which port."""
        if self._inet is None:
            from minikernel.net.inet_create import InetTables

            self._inet = InetTables()
        return self._inet

    def count_packet(self, size: int) -> None:
        """*size* bytes go over lo."""
        self.lo_bytes += size
        self.lo_packets += 1

    def add_timer(self, delay_ns: int, callback: Callable[[], None]) -> Timer:
        """Call *callback* once, in *delay_ns*."""
        clock = self.services.clock
        return cast("Timer", clock.add_timer(clock.now_ns() + delay_ns, callback))

    @property
    def unix(self) -> "UnixNames":
        """The names of AF_UNIX."""
        if self._unix is None:
            from minikernel.net.unix import UnixNames

            self._unix = UnixNames()
        return self._unix

    def create(self, family: int, kind: int, protocol: int, caller: Caller) -> Sock:
        """A socket without a descriptor (__sock_create).

        Errors:
            EAFNOSUPPORT, EINVAL, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM, EACCES; ENOMEM.
        """
        if not 0 <= family < NPROTO:
            raise LinuxError(Errno.EAFNOSUPPORT, f"family {family}")
        if not 0 <= kind < SOCK_MAX:
            raise LinuxError(Errno.EINVAL, f"type {kind}")
        if family == AF_UNIX:
            from minikernel.net.unix import new_unix

            return new_unix(self, kind, protocol)
        if family in {AF_INET, AF_INET6}:
            from minikernel.net.inet_create import new_inet

            return new_inet(self, family, kind, protocol, caller.cred.euid)
        if family == AF_NETLINK:
            from minikernel.net.netlink import new_netlink

            return new_netlink(self, kind, protocol)
        raise LinuxError(Errno.EAFNOSUPPORT, f"family {family}")

    def open(self, sock: Sock, flags: int, caller: Caller) -> SocketFile:
        """An open file for *sock*, which is released if there is none (sock_alloc_file).  Errors: ENOMEM."""
        inode = None
        try:
            inode = SockInode(self.sockfs, self.sockfs.new_ino(), caller.cred)
            return SocketFile(self.sockfs.path(b"socket:[%d]" % inode.ino, inode), flags, sock)
        except LinuxError:
            if inode is not None:
                inode.put()
            sock.release()
            raise

    def cookie(self, sock: Sock) -> int:
        """SO_COOKIE: a number that no other socket has."""
        if sock not in self._cookies:
            self._cookies[sock] = next(self._next_cookie)
        return self._cookies[sock]

    def forget(self, sock: Sock) -> None:
        """*sock* is gone."""
        self._cookies.pop(sock, None)

    # Files in flight

    def enter_flight(self, files: list[OpenFile]) -> None:
        """A message that carries *files* enters a queue (unix_add_edges)."""
        for file in files:
            self.in_flight[file] = self.in_flight.get(file, 0) + 1

    def leave_flight(self, files: list[OpenFile]) -> None:
        """It left the queue (unix_del_edges)."""
        for file in files:
            left = self.in_flight[file] - 1
            if left:
                self.in_flight[file] = left
            else:
                del self.in_flight[file]

    def ioctl(self, task: Any, file: SocketFile, request: int, arg: int) -> int:
        """Requests that are the network's, not a socket's: SIOCGIF*.  Errors: ENOTTY, ENODEV, EPERM, EFAULT."""
        del file
        from minikernel.net.ifreq import interface_ioctl

        return interface_ioctl(task, request, arg)
