"""AF_UNIX: names, and what its three types share.

Linux: net/unix/af_unix.c.
"""

from itertools import count
from typing import TYPE_CHECKING, ClassVar, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.socket import (
    AF_UNIX,
    SO_PASSCRED,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOCKADDR_UN_MAX,
    UNIX_PATH_AT,
)
from minikernel.abi.stat import S_IFMT, S_IFSOCK
from minikernel.fs.cred import MAY_WRITE, Cred, inode_permission
from minikernel.fs.dirops import mknod
from minikernel.fs.inode import Inode
from minikernel.fs.namei import lookup_at
from minikernel.net.skb import Creds, Scm, Skb
from minikernel.net.sock import (
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_CLOSE,
    TCP_LISTEN,
    WRITE_SPACE,
    Caller,
    Sock,
)
from minikernel.wait import WaitQueue

if TYPE_CHECKING:
    from minikernel.net.net import Net

MAX_DGRAM_QLEN: Final = 10  # net.unix.max_dgram_qlen
_FAMILY: Final = AF_UNIX.to_bytes(2, "little")
NOBODY: Final = _FAMILY  # the address of a socket without a name


class UnixNames:
    """What is bound: paths by inode, abstract names by name and type."""

    __slots__ = ("abstract", "next_name", "paths")

    def __init__(self) -> None:
        self.paths: dict[Inode, UnixSock] = {}
        self.abstract: dict[tuple[bytes, int], UnixSock] = {}
        self.next_name = count()  # of autobind: in order, where Linux begins at random


class UnixSock(Sock):
    """One AF_UNIX socket: struct unix_sock."""

    __slots__ = ("address", "backlog", "clients", "embryo", "inode", "peer", "peer_wait")

    family: ClassVar[int] = AF_UNIX

    def __init__(self, net: "Net", kind: int) -> None:
        """Errors: ENOMEM."""
        super().__init__(net, kind, 0)
        self.address: bytes | None = None  # sockaddr_un, when it has a name
        self.inode: Inode | None = None  # of a path
        self.peer: UnixSock | None = None
        self.clients: dict[UnixSock, None] = {}  # datagram sockets whose peer we are
        self.backlog = MAX_DGRAM_QLEN
        self.embryo = False  # connected, not yet accepted
        self.peer_wait = WaitQueue()  # those for whom our queue is full

    # Names

    def bind(self, address: bytes, caller: Caller) -> None:
        """unix_bind.

        Errors:
            EINVAL: no AF_UNIX address, or it has a name; EADDRINUSE; the path walk's.
        """
        if len(address) == UNIX_PATH_AT and address == _FAMILY:
            self.autobind()
            return
        validate_address(address)
        if address[UNIX_PATH_AT]:
            self._bind_path(address, caller)
            return
        if self.address is not None:
            raise LinuxError(Errno.EINVAL, "the socket has a name")
        if (address, self.kind) in self.net.unix.abstract:
            raise LinuxError(Errno.EADDRINUSE, f"{address!r}")
        self.net.unix.abstract[address, self.kind] = self
        self.address = address

    def _bind_path(self, address: bytes, caller: Caller) -> None:
        """unix_bind_bsd."""
        name = path_of(address)
        if self.address is not None:
            # Linux makes the file first, and removes it again.
            raise LinuxError(Errno.EINVAL, "the socket has a name")
        assert self.file is not None, "unix bind: without a file"
        mode = S_IFSOCK | self.file.inode.mode & 0o7777 & ~caller.fs.umask
        try:
            inode = mknod(caller.fs, caller.cred, name, mode, 0)
        except LinuxError as error:
            if error.errno == Errno.EEXIST:
                raise LinuxError(Errno.EADDRINUSE, f"{name!r}") from None
            raise
        inode.open_count += 1  # the name may go before us
        self.inode = inode
        self.net.unix.paths[inode] = self
        self.address = _FAMILY + name + b"\0"

    def autobind(self) -> None:
        """An abstract name of five hexadecimal digits that is free (unix_autobind)."""
        names = self.net.unix
        while self.address is None:
            address = _FAMILY + b"\0%05x" % (next(names.next_name) & 0xFFFFF)
            if (address, self.kind) not in names.abstract:
                names.abstract[address, self.kind] = self
                self.address = address

    def autobind_for_creds(self) -> None:
        """A receiver of credentials can be answered: a sender with SO_PASSCRED gets a name."""
        if self.opts.on(SO_PASSCRED) and self.address is None:
            self.autobind()

    def _unbind(self) -> None:
        names = self.net.unix
        if self.inode is not None:
            del names.paths[self.inode]
            inode, self.inode = self.inode, None
            inode.open_count -= 1
            inode.put()
        elif self.address is not None and names.abstract.get((self.address, self.kind)) is self:
            del names.abstract[self.address, self.kind]

    def getname(self, *, peer: bool) -> bytes:
        """unix_getname.  Errors: ENOTCONN."""
        sock: UnixSock | None = self
        if peer:
            sock = self.peer
            if sock is None:
                raise LinuxError(Errno.ENOTCONN, "no peer")
        assert sock is not None, "unix getname: no socket"
        return sock.address if sock.address is not None else NOBODY

    def find_other(self, address: bytes, caller: Caller) -> "UnixSock":
        """The socket that *address* names (unix_find_other).

        Errors:
            ECONNREFUSED: nobody; EPROTOTYPE: of another type; EACCES: not writable; the path walk's.
        """
        names = self.net.unix
        if address[UNIX_PATH_AT]:
            inode = lookup_at(caller.fs, caller.cred, path_of(address)).inode
            inode_permission(inode, MAY_WRITE, caller.cred)
            other = names.paths.get(inode) if inode.mode & S_IFMT == S_IFSOCK else None
            if other is None:
                raise LinuxError(Errno.ECONNREFUSED, "no socket is bound there")
            if other.kind != self.kind:
                raise LinuxError(Errno.EPROTOTYPE, "a socket of another type")
            return other
        other = names.abstract.get((address, self.kind))
        if other is None:
            raise LinuxError(Errno.ECONNREFUSED, "nobody has the name")
        return other

    # Sending

    def write_space(self) -> None:
        """unix_write_space: a quarter of the buffer is free."""
        if self.is_writable():
            self.wait.wake(key=WRITE_SPACE)

    def is_writable(self) -> bool:
        """unix_writable."""
        return self.state != TCP_LISTEN and self.wmem << 2 <= self.opts.sndbuf

    @property
    def max_message(self) -> int:
        """A message is a little shorter than the send buffer."""
        return self.opts.sndbuf - 32

    def is_full(self) -> bool:
        """unix_recvq_full."""
        return len(self.queue) > self.backlog

    def new_skb(self, data: bytes, head: int, scm: Scm | None, other: "UnixSock", caller: Caller) -> Skb:
        """A message to *other*, charged to us.  Errors: ENOBUFS."""
        skb = Skb(self.net.node, data, head=head, address=self.address)
        skb.charge(self)
        creds = scm.creds if scm is not None else None
        if creds is None and (self.opts.on(SO_PASSCRED) or other.file is None or other.opts.on(SO_PASSCRED)):
            creds = creds_of(caller)
        files = scm.files if scm is not None else []
        if creds is not None or files:
            skb.scm = Scm(files, creds)
        if scm is not None:
            scm.files = []
        self.net.enter_flight(files)
        return skb

    # Taking

    def take_scm(self, skb: Skb, *, keep: bool) -> Scm | None:
        """What came along with *skb*; with *keep* (MSG_PEEK) it stays there as well."""
        scm = skb.scm
        if scm is None:
            return None
        if keep:
            for file in scm.files:
                file.get_file()
            return Scm(scm.files[:], scm.creds)
        self.net.leave_flight(scm.files)
        taken = Scm(scm.files, scm.creds)
        scm.files = []
        return taken

    # Ending

    def shut(self, how: int) -> None:
        """unix_shutdown: a connection's other end is told."""
        self.shutdown |= how
        other = self.peer
        self.state_change()
        if other is None or self.kind == SOCK_DGRAM:
            return
        other.shutdown |= (SEND_SHUTDOWN if how & RCV_SHUTDOWN else 0) | (RCV_SHUTDOWN if how & SEND_SHUTDOWN else 0)
        other.state_change()

    def release(self) -> None:
        """unix_release_sock."""
        listening = self.state == TCP_LISTEN
        self._unbind()
        self.shutdown = SHUTDOWN_MASK
        self.state = TCP_CLOSE
        self.state_change()
        self.peer_wait.wake()
        peer, self.peer = self.peer, None
        if peer is not None:
            if self.kind == SOCK_DGRAM:
                peer.clients.pop(self, None)
            elif peer.peer is self:
                peer.shutdown = SHUTDOWN_MASK
                if self.queue or self.embryo:
                    peer.error = Errno.ECONNRESET
                peer.state_change()
        if listening:
            self.drop_backlog()
        self.embryo = False
        self.disown_clients()
        self.net.forget(self)
        self.destroy()

    def drop_backlog(self) -> None:
        """Those who wait to be accepted learn that nobody will."""

    def disown_clients(self) -> None:
        """Datagram sockets that are connected to us find that out when they send."""
        for client in self.clients:
            client.wait.wake(key=WRITE_SPACE)


def new_unix(net: "Net", kind: int, protocol: int) -> UnixSock:
    """unix_create.  Errors: EPROTONOSUPPORT, ESOCKTNOSUPPORT."""
    from minikernel.net.unix_dgram import UnixDgram, UnixSeqpacket
    from minikernel.net.unix_stream import UnixStream

    if protocol not in {0, AF_UNIX}:
        raise LinuxError(Errno.EPROTONOSUPPORT, f"protocol {protocol}")
    if kind == SOCK_STREAM:
        return UnixStream(net, kind)
    if kind in {SOCK_DGRAM, SOCK_RAW}:
        return UnixDgram(net, SOCK_DGRAM)
    if kind == SOCK_SEQPACKET:
        return UnixSeqpacket(net, kind)
    raise LinuxError(Errno.ESOCKTNOSUPPORT, f"type {kind}")


def validate_address(address: bytes) -> None:
    """unix_validate_addr.  Errors: EINVAL."""
    if not UNIX_PATH_AT < len(address) <= SOCKADDR_UN_MAX or address[:2] != _FAMILY:
        raise LinuxError(Errno.EINVAL, f"{address!r} is no address of AF_UNIX")


def path_of(address: bytes) -> bytes:
    """The path in *address*, up to its first NUL."""
    return address[UNIX_PATH_AT:].partition(b"\0")[0]


def creds_of(caller: Caller) -> Creds:
    """Who *caller* is (cred_to_ucred, with the effective ids)."""
    cred: Cred = caller.cred
    return caller.tgid, cred.euid, cred.egid
