"""A socket: what all families share.

An operation ends at once.  One that would have to wait raises ``WouldBlock`` with the socket's wait queue, and the
system call layer waits there and tries again, as with pipes.

Linux: struct sock, struct socket (include/net/sock.h, net/core/sock.c, net/socket.c).
"""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_NONBLOCK, O_RDWR
from minikernel.abi.ioctl import FIONREAD
from minikernel.abi.poll import POLLIN, POLLOUT, POLLPRI, POLLRDBAND, POLLRDNORM, POLLWRBAND, POLLWRNORM
from minikernel.abi.socket import (
    FIOGETOWN,
    FIOSETOWN,
    INT,
    MSG_DONTWAIT,
    SIOCATMARK,
    SIOCGPGRP,
    SIOCOUTQ,
    SIOCSPGRP,
)
from minikernel.abi.stat import S_IFSOCK
from minikernel.fs.cred import Cred
from minikernel.fs.dentry import Path
from minikernel.fs.file import OpenFile, WouldBlock
from minikernel.fs.inode import Inode, SuperBlock
from minikernel.fs.namei import FsStruct
from minikernel.net.options import SockOptions
from minikernel.net.skb import Creds, Scm, Skb
from minikernel.wait import WaitQueue

if TYPE_CHECKING:
    from minikernel.net.net import Net

TCP_ESTABLISHED: Final = 1
TCP_SYN_SENT: Final = 2
TCP_SYN_RECV: Final = 3
TCP_FIN_WAIT1: Final = 4
TCP_FIN_WAIT2: Final = 5
TCP_TIME_WAIT: Final = 6
TCP_CLOSE: Final = 7
TCP_CLOSE_WAIT: Final = 8
TCP_LAST_ACK: Final = 9
TCP_LISTEN: Final = 10
TCP_CLOSING: Final = 11

RCV_SHUTDOWN: Final = 1
SEND_SHUTDOWN: Final = 2
SHUTDOWN_MASK: Final = 3

DATA_READY: Final = POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND
WRITE_SPACE: Final = POLLOUT | POLLWRNORM | POLLWRBAND

_SOCK_BYTES: Final = 1024  # struct unix_sock and its relatives


class Caller(Protocol):
    """Who makes a call, as far as sockets look: a task."""

    cred: Cred
    fs: FsStruct

    @property
    def tgid(self) -> int:
        """The process id."""
        ...


class Received(NamedTuple):
    """What one receive took.  *length*: of the message, which may be longer than *data*."""

    data: bytes
    length: int
    flags: int = 0  # MSG_TRUNC, MSG_OOB, MSG_EOR
    address: bytes | None = None  # the sender's; None: it says nothing
    scm: Scm | None = None
    cmsgs: tuple[tuple[int, int, bytes], ...] = ()  # level, type, data of more control messages


class Sock:
    """One end: struct sock.  Subclasses are protocols; the defaults are what Linux answers where they have none.

    Invariants:
        - ``rmem`` is the sum of the truesizes in ``queue``;
        - ``wmem`` is that of the messages charged to it, wherever they are;
        - it holds its piece of kernel memory until ``destroy``.
    """

    __slots__ = (
        "_memory",
        "error",
        "file",
        "kind",
        "net",
        "opts",
        "peercred",
        "protocol",
        "queue",
        "rmem",
        "shutdown",
        "state",
        "wait",
        "wmem",
    )

    family: ClassVar[int] = 0
    stream: ClassVar[bool] = False  # bytes, not messages
    connect_timeout: ClassVar[Errno] = Errno.EAGAIN  # what connect says when SO_SNDTIMEO is over
    discards: ClassVar[bool] = False  # MSG_TRUNC throws the bytes of a stream away
    peek_waits: ClassVar[bool] = False  # MSG_PEEK, too, waits for as much as MSG_WAITALL wants

    def __init__(self, net: "Net", kind: int, protocol: int) -> None:
        """Errors: ENOMEM."""
        self._memory = net.node.slab.kmalloc(_SOCK_BYTES)
        self.net = net
        self.kind = kind
        self.protocol = protocol
        self.state = TCP_CLOSE
        self.shutdown = 0
        self.error = 0  # sk_err: an error number that the next call tells
        self.queue: deque[Skb] = deque()
        self.rmem = 0
        self.wmem = 0
        self.opts = SockOptions()
        self.wait = WaitQueue()  # sk_wq: readers, writers and polls alike
        self.file: SocketFile | None = None
        self.peercred: Creds | None = None
        net.socks[self] = None

    def destroy(self) -> None:
        """Nobody can reach it any more: its memory goes back (sk_free)."""
        assert self._memory, "Sock.destroy: twice"
        self.purge()
        del self.net.socks[self]
        self.net.node.slab.kfree(self._memory)
        self._memory = 0

    def is_alive(self) -> bool:
        """Whether it was not closed yet."""
        return bool(self._memory)

    @property
    def is_listening(self) -> bool:
        """SO_ACCEPTCONN."""
        return self.state == TCP_LISTEN

    @property
    def max_message(self) -> int:
        """Bytes of the longest message that can be sent."""
        return self.opts.sndbuf

    # What happens to it

    def data_ready(self) -> None:
        """Something can be read (sock_def_readable)."""
        self.wait.wake(key=DATA_READY)

    def write_space(self) -> None:
        """A message that it sent was freed (sock_def_write_space)."""
        if self.wmem << 1 <= self.opts.sndbuf:
            self.wait.wake(key=WRITE_SPACE)

    def state_change(self) -> None:
        """Anything may be different (sock_def_wakeup)."""
        self.wait.wake()

    def take_error(self) -> int:
        """The pending error, which is then gone (sock_error)."""
        error, self.error = self.error, 0
        return error

    def raise_error(self) -> None:
        """Tell the pending error, if there is one."""
        if self.error:
            raise LinuxError(Errno(self.take_error()), "a pending error of the socket")

    # Its queue

    def enqueue(self, skb: Skb) -> None:
        """*skb* arrives; the reader is not told yet."""
        self.queue.append(skb)
        self.rmem += skb.truesize

    def dequeue(self) -> Skb:
        """The first message leaves the queue; it is the caller's to free."""
        skb = self.queue.popleft()
        self.rmem -= skb.truesize
        return skb

    def messages(self) -> Iterator[Skb]:
        """Every message that this socket keeps."""
        return iter(self.queue)

    def purge(self) -> None:
        """Throw away what was not read."""
        while self.queue:
            self.dequeue().free()

    # Calls

    def bind(self, address: bytes, caller: Caller) -> None:
        """Give it a name."""
        raise LinuxError(Errno.EOPNOTSUPP, f"bind to {address!r} by {caller}")

    def connect(self, address: bytes, caller: Caller, *, nonblock: bool) -> None:
        """One attempt to connect; a blocking one is made again when ``wait`` was woken."""
        raise LinuxError(Errno.EOPNOTSUPP, f"connect to {address!r} by {caller} {nonblock}")

    def pair(self, other: "Sock", caller: Caller) -> None:
        """socketpair(2)."""
        raise LinuxError(Errno.EOPNOTSUPP, f"pair with {other} by {caller}")

    def listen(self, backlog: int, caller: Caller) -> None:
        """Wait for connections."""
        raise LinuxError(Errno.EOPNOTSUPP, f"listen {backlog} by {caller}")

    def accept(self) -> "Sock":
        """The next connection."""
        raise LinuxError(Errno.EOPNOTSUPP, "accept")

    def getname(self, *, peer: bool) -> bytes:
        """getsockname(2), getpeername(2)."""
        raise LinuxError(Errno.EOPNOTSUPP, f"getname {peer}")

    def accepted_name(self) -> bytes:
        """The peer's name as accept(2) tells it."""
        return self.getname(peer=True)

    def shut(self, how: int) -> None:
        """shutdown(2); *how* is RCV_SHUTDOWN, SEND_SHUTDOWN or both."""
        raise LinuxError(Errno.EOPNOTSUPP, f"shutdown {how}")

    def sendmsg(self, data: bytes, address: bytes | None, flags: int, scm: Scm | None, caller: Caller) -> int:
        """Send *data*: all of a message, or as much of a stream as there is room for.  Errors: WouldBlock."""
        raise LinuxError(Errno.EOPNOTSUPP, f"send {len(data)} {address!r} {flags} {scm} {caller}")

    def recvmsg(self, size: int, flags: int) -> Received:
        """Take a message, or up to *size* bytes of a stream.  Errors: WouldBlock."""
        raise LinuxError(Errno.EOPNOTSUPP, f"receive {size} {flags}")

    def unread(self, data: bytes) -> None:
        """Take back the end of what a stream's reader got and could not store; a message is lost, as on Linux."""

    def setsockopt(self, level: int, name: int, value: bytes, caller: Caller) -> None:
        """An option of the protocol's own level."""
        raise LinuxError(Errno.EOPNOTSUPP, f"level {level}, option {name} = {value!r} of {caller}")

    def getsockopt(self, level: int, name: int, length: int) -> bytes:
        """An option of the protocol's own level, at most *length* bytes of it."""
        raise LinuxError(Errno.EOPNOTSUPP, f"level {level}, option {name}, {length} bytes")

    def poll(self) -> int:
        """POLL* events that are true now."""
        raise NotImplementedError

    def release(self) -> None:
        """The last descriptor was closed."""
        raise NotImplementedError

    def inq(self) -> int:
        """SIOCINQ."""
        raise LinuxError(Errno.ENOTTY, "SIOCINQ")

    def outq(self) -> int:
        """SIOCOUTQ."""
        raise LinuxError(Errno.ENOTTY, "SIOCOUTQ")

    def at_mark(self) -> bool:
        """SIOCATMARK."""
        raise LinuxError(Errno.ENOTTY, "SIOCATMARK")


class SockInode(Inode):
    """The inode of a socket: struct socket_alloc.  It cannot be opened again."""

    __slots__ = ()

    def __init__(self, sb: SuperBlock, ino: int, cred: Cred) -> None:
        super().__init__(sb, ino, S_IFSOCK | 0o777, cred.fsuid, cred.fsgid)

    def put(self) -> None:
        """The socket was closed: the inode has no name that keeps it."""
        if not self.open_count:
            self.free_object()


class SocketFile(OpenFile):
    """A descriptor's view of a socket: sockfs's struct file."""

    __slots__ = ("sock",)

    is_socket = True

    def __init__(self, path: Path, flags: int, sock: Sock) -> None:
        """Errors: ENOMEM."""
        super().__init__(path, flags | O_RDWR)
        self.sock = sock
        sock.file = self

    @property
    def read_timeout(self) -> int | None:  # type: ignore[override]  # only read
        """SO_RCVTIMEO in ns; None: for ever."""
        return self.sock.opts.rcvtimeo

    @property
    def write_timeout(self) -> int | None:  # type: ignore[override]  # only read
        """SO_SNDTIMEO in ns; None: for ever."""
        return self.sock.opts.sndtimeo

    def put_file(self) -> None:
        """One descriptor or message fewer refers to it; if only messages do, they may be garbage."""
        super().put_file()
        net = self.sock.net
        if net.in_flight and not self.released and net.in_flight.get(self, 0) == self.refs:
            from minikernel.net.garbage import collect

            collect(net)

    def release(self) -> None:
        """The last descriptor was closed (sock_close)."""
        self.sock.file = None
        self.sock.release()

    def read(self, count: int) -> bytes:
        """What recv(2) without flags takes; descriptors that came along are closed."""
        if not count:
            return b""
        got = self.sock.recvmsg(count, MSG_DONTWAIT if self.flags & O_NONBLOCK else 0)
        if got.scm is not None:
            got.scm.release()
        return got.data

    def unread(self, data: bytes) -> None:
        """Put back what a stream's reader could not store."""
        self.sock.unread(data)

    def write(self, data: bytes) -> int:
        """What send(2) without flags does."""
        return self.sock.sendmsg(data, None, 0, None, self.sock.net.caller())

    def poll(self) -> int:
        """sock_poll."""
        return self.sock.poll()

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        """One for both directions."""
        return (self.sock.wait,)

    def ioctl(self, task: Any, request: int, arg: int) -> int:
        """sock_ioctl."""
        from minikernel.mm.uaccess import copy_to_user, get_user

        sock = self.sock
        match request:
            case 0x5411:
                answer = sock.outq()
            case 0x541B:
                answer = sock.inq()
            case 0x8905:
                answer = int(sock.at_mark())
            case 0x8903 | 0x8904:
                answer = self.owner_pid
            case 0x8901 | 0x8902:
                self.owner_pid = get_user(task.mm, arg, 4)
                return 0
            case _:
                return sock.net.ioctl(task, self, request, arg)
        copy_to_user(task.mm, arg, INT.pack(answer & 0x7FFF_FFFF if answer >= 0 else answer))
        return 0


assert (FIONREAD, SIOCOUTQ, SIOCATMARK) == (0x541B, 0x5411, 0x8905), "sock: ioctl numbers"
assert (FIOSETOWN, SIOCSPGRP, FIOGETOWN, SIOCGPGRP) == (0x8901, 0x8902, 0x8903, 0x8904), "sock: ioctl numbers"


def would_block(sock: Sock, why: str) -> WouldBlock:
    """Nothing can be done before *sock* changes."""
    return WouldBlock(sock.wait, why)
