"""Socket calls but for those that pass messages (``socket_msg``).  Linux: net/socket.c (__sys_*)."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from minikernel.abi import socket as so
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_NONBLOCK
from minikernel.fs.file import WouldBlock
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.net import options
from minikernel.net.sock import Sock, SocketFile
from minikernel.syscalls.entry_types import Result
from minikernel.syscalls.file_common import WaitLimit, abi_of, holding, nofile_limit
from minikernel.task.task import Task

Attempt = Callable[[], int]
"""One try at a call; raises WouldBlock if it has to wait."""


def socket_of(task: Task, fd: int) -> SocketFile:
    """The socket of *fd* (sockfd_lookup_light).  Errors: EBADF, ENOTSOCK."""
    file = task.files.get(fd)
    if not isinstance(file, SocketFile):
        raise LinuxError(Errno.ENOTSOCK, f"descriptor {fd} is no socket")
    return file


def address_from_user(task: Task, address: int, length: int) -> bytes:
    """A sockaddr (move_addr_to_kernel).  Errors: EINVAL, EFAULT."""
    if not 0 <= length <= so.SOCKADDR_MAX:
        raise LinuxError(Errno.EINVAL, f"an address of {length} bytes")
    return copy_from_user(task.mm, address, length) if length else b""


def address_to_user(task: Task, name: bytes, address: int, length_at: int) -> None:
    """Store a sockaddr, cut to the room there is, and its whole length (move_addr_to_user).  Errors: EFAULT, EINVAL."""
    (room,) = so.INT.unpack(copy_from_user(task.mm, length_at, 4))
    if room < 0:
        raise LinuxError(Errno.EINVAL, f"room for {room} bytes")
    copy_to_user(task.mm, address, name[:room])
    copy_to_user(task.mm, length_at, so.INT.pack(len(name)))


def run(task: Task, file: SocketFile, attempt: Attempt, *, nowait: bool, timeout: int | None) -> Result:
    """Make *attempt*; unless *nowait*, make it again and again for up to *timeout* ns until it does not block."""
    try:
        return attempt()
    except WouldBlock as blocked:
        if nowait:
            raise
        return holding(file, _wait(WaitLimit(task, timeout), attempt, blocked))


async def _wait(limit: WaitLimit, attempt: Attempt, blocked: WouldBlock) -> int:
    while True:
        await limit.wait(blocked.queue)
        try:
            return attempt()
        except WouldBlock as again:
            blocked = again


# ---- making


def _flags(kind: int) -> int:
    """The flags beside a type.  Errors: EINVAL."""
    flags = kind & ~so.SOCK_TYPE_MASK
    if flags & ~(so.SOCK_CLOEXEC | so.SOCK_NONBLOCK):
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    return flags


def make(kernel: Kernel, task: Task, family: int, kind: int, protocol: int) -> int:
    """socket(2).  Errors: EINVAL, EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM, EMFILE, ENOMEM."""
    flags = _flags(kind)
    net = kernel.net
    sock = net.create(family, kind & so.SOCK_TYPE_MASK, protocol, task)
    file = net.open(sock, flags & O_NONBLOCK, task)
    return task.files.add(file, nofile_limit(task), cloexec=bool(flags & so.SOCK_CLOEXEC))


def make_pair(kernel: Kernel, task: Task, family: int, kind: int, protocol: int, where: int) -> int:
    """socketpair(2): the descriptors are chosen, and told, before the sockets are made."""
    flags = _flags(kind)
    cloexec = bool(flags & so.SOCK_CLOEXEC)
    files, limit, net = task.files, nofile_limit(task), kernel.net
    first = files.find_free(limit)
    second = files.find_free(limit, first + 1)
    copy_to_user(task.mm, where, so.INT.pack(first) + so.INT.pack(second))
    one = net.create(family, kind & so.SOCK_TYPE_MASK, protocol, task)
    try:
        two = net.create(family, kind & so.SOCK_TYPE_MASK, protocol, task)
    except LinuxError:
        one.release()
        raise
    try:
        one.pair(two, task)
        file = net.open(one, flags & O_NONBLOCK, task)
    except LinuxError:
        if one.is_alive():
            one.release()
        two.release()
        raise
    try:
        other = net.open(two, flags & O_NONBLOCK, task)
    except LinuxError:
        file.put_file()
        raise
    files.install(first, file, cloexec=cloexec)
    files.install(second, other, cloexec=cloexec)
    return 0


# ---- names and connections


def bind(task: Task, fd: int, address: int, length: int) -> int:
    """Give a socket a name."""
    sock = socket_of(task, fd).sock
    sock.bind(address_from_user(task, address, length), task)
    return 0


def listen(task: Task, fd: int, backlog: int) -> int:
    """Wait for connections."""
    sock = socket_of(task, fd).sock
    sock.listen(backlog if 0 <= backlog <= so.SOMAXCONN else so.SOMAXCONN, task)
    return 0


def connect(task: Task, fd: int, address: int, length: int) -> Result:
    """Connect, waiting if the socket may."""
    task.files.get(fd)
    name = address_from_user(task, address, length)  # before it is known whether there is a socket
    file = socket_of(task, fd)
    nonblock = bool(file.flags & O_NONBLOCK)

    def attempt() -> int:
        file.sock.connect(name, task, nonblock=nonblock)
        return 0

    result = run(task, file, attempt, nowait=nonblock, timeout=file.sock.opts.sndtimeo)
    return result if isinstance(result, int) else _connect_wait(file.sock, result)


async def _connect_wait(sock: Sock, call: Coroutine[Any, Any, int]) -> int:
    """Go on waiting; a limit that is over has a name of its own."""
    try:
        return await call
    except LinuxError as error:
        if error.errno == Errno.EAGAIN:
            raise LinuxError(sock.connect_timeout, "not connected in time") from None
        raise


def accept(kernel: Kernel, task: Task, fd: int, address: int, length_at: int, flags: int) -> Result:
    """accept4(2).  Errors: EINVAL, EBADF, ENOTSOCK, EMFILE, ECONNABORTED, and what accept says."""
    if flags & ~(so.SOCK_CLOEXEC | so.SOCK_NONBLOCK):
        raise LinuxError(Errno.EINVAL, f"flags {flags:#x}")
    file = socket_of(task, fd)
    task.files.find_free(nofile_limit(task))  # EMFILE comes first
    net = kernel.net

    def attempt() -> int:
        made = net.open(file.sock.accept(), flags & O_NONBLOCK, task)
        if address:
            try:
                address_to_user(task, made.sock.accepted_name(), address, length_at)
            except LinuxError:
                made.put_file()
                raise
        return task.files.add(made, nofile_limit(task), cloexec=bool(flags & so.SOCK_CLOEXEC))

    return run(task, file, attempt, nowait=bool(file.flags & O_NONBLOCK), timeout=file.sock.opts.rcvtimeo)


def getname(task: Task, fd: int, address: int, length_at: int, *, peer: bool) -> int:
    """getsockname(2), getpeername(2)."""
    address_to_user(task, socket_of(task, fd).sock.getname(peer=peer), address, length_at)
    return 0


def shutdown(task: Task, fd: int, how: int) -> int:
    """End one direction, or both.  Errors: EBADF, ENOTSOCK, EINVAL, ENOTCONN."""
    sock = socket_of(task, fd).sock
    if not so.SHUT_RD <= how <= so.SHUT_RDWR:
        raise LinuxError(Errno.EINVAL, f"shutdown {how}")
    sock.shut(how + 1)
    return 0


# ---- options


def setsockopt(task: Task, fd: int, level: int, name: int, value: int, length: int) -> int:
    """Set an option.  Errors: EBADF, ENOTSOCK, EINVAL, EFAULT, ENOPROTOOPT and the option's."""
    sock = socket_of(task, fd).sock
    if length < 0:
        raise LinuxError(Errno.EINVAL, f"length {length}")
    data = copy_from_user(task.mm, value, min(length, _MAX_OPTION)) if length else b""
    if level == so.SOL_SOCKET:
        options.setsockopt(sock, name, data, task, abi_of(task).word)
    else:
        sock.setsockopt(level, name, data, task)
    return 0


_MAX_OPTION: Final = 4096


def getsockopt(task: Task, fd: int, level: int, name: int, value: int, length_at: int) -> int:
    """Read an option.  Errors: EBADF, ENOTSOCK, EFAULT, EINVAL, ENOPROTOOPT."""
    sock = socket_of(task, fd).sock
    (room,) = so.INT.unpack(copy_from_user(task.mm, length_at, 4))
    if room < 0:
        raise LinuxError(Errno.EINVAL, f"length {room}")
    if level == so.SOL_SOCKET:
        data = options.getsockopt(sock, name, room, abi_of(task).word)
    else:
        data = sock.getsockopt(level, name, room)
    copy_to_user(task.mm, value, data[:room])
    copy_to_user(task.mm, length_at, so.INT.pack(min(len(data), room)))
    return 0


# ---- socketcall

# How many arguments each call takes (nargs), and the handler's name.
_CALLS: Final = (
    *((3, "sys_socket"), (3, "sys_bind"), (3, "sys_connect"), (2, "sys_listen"), (3, "sys_accept")),
    *((3, "sys_getsockname"), (3, "sys_getpeername"), (4, "sys_socketpair"), (4, "send"), (4, "recv")),
    *((6, "sys_sendto"), (6, "sys_recvfrom"), (2, "sys_shutdown"), (5, "sys_setsockopt"), (5, "sys_getsockopt")),
    *((3, "sys_sendmsg"), (3, "sys_recvmsg"), (4, "sys_accept4"), (5, "sys_recvmmsg"), (4, "sys_sendmmsg")),
)


def socketcall(kernel: Kernel, task: Task, call: int, where: int) -> Result:
    """Make call *call* with the words at *where*, as its own system call takes them.

    Errors:
        EINVAL: no such call; EFAULT; the call's own.
    """
    from minikernel.syscalls import socket
    from minikernel.syscalls.decode import cast_register, signature

    if not 1 <= call <= len(_CALLS):
        raise LinuxError(Errno.EINVAL, f"socketcall {call}")
    nr_args, name = _CALLS[call - 1]
    abi = abi_of(task)
    words = abi.unpack_words(copy_from_user(task.mm, where, nr_args * abi.word))
    if name in {"send", "recv"}:
        name = "sys_sendto" if name == "send" else "sys_recvfrom"
        words += [0, 0]
    handler: Callable[..., int | Coroutine[Any, Any, int]] = getattr(socket, name)
    kinds = [kind for _, kind in signature(handler)]
    return handler(
        kernel, task, *(cast_register(abi, kind.width, word) for kind, word in zip(kinds, words, strict=True))
    )
