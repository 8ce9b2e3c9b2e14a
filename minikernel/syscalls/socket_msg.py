"""Socket calls that pass messages.  Linux: net/socket.c, net/core/scm.c, net/compat.c."""

from collections.abc import Callable
from typing import Final

from minikernel.abi import socket as so
from minikernel.abi.abi import Abi
from minikernel.abi.capability import CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_NONBLOCK
from minikernel.abi.time import timespec_ns, unpack_timespec, unpack_timespec64
from minikernel.abi.uio import UIO_MAXIOV
from minikernel.fs.file import MAX_RW_COUNT, BrokenPipe, OpenFile, WouldBlock
from minikernel.mm.uaccess import copy_from_user, copy_to_user, copy_to_user_partial
from minikernel.net.skb import Creds, Scm
from minikernel.net.sock import RCV_SHUTDOWN, Received, Sock, SocketFile
from minikernel.syscalls.entry_types import Result
from minikernel.syscalls.file_common import (
    WaitLimit,
    abi_of,
    check_access,
    holding,
    nofile_limit,
    send_sigpipe,
)
from minikernel.syscalls.file_io import Segment, _load, _store, import_iovec
from minikernel.syscalls.socket_calls import address_from_user, address_to_user, socket_of
from minikernel.task.task import Task
from minikernel.wait import Interrupted

_CHUNK: Final = 1 << 20  # bytes of a stream that are copied at a time
_OPTMEM_MAX: Final = 131_072  # net.core.optmem_max
_INT_MAX: Final = (1 << 31) - 1


# ---- sending


class _Send:
    """One message on its way out: what is to be sent, and how much of it is."""

    __slots__ = ("address", "done", "file", "flags", "scm", "segments", "task", "total")

    def __init__(
        self, task: Task, file: SocketFile, segments: list[Segment], flags: int, address: bytes | None, scm: Scm | None
    ) -> None:
        self.task = task
        self.file = file
        self.segments = segments
        self.flags = flags | (so.MSG_DONTWAIT if file.flags & O_NONBLOCK else 0)
        self.address = address
        self.scm = scm
        self.total = min(sum(size for _, size in segments), MAX_RW_COUNT)
        self.done = 0

    def attempt(self) -> int:
        """Send what can be sent now; how much that is by now.  Errors: WouldBlock: not all of it."""
        sock = self.file.sock
        while True:
            wanted = self.total - self.done
            if sock.stream:
                wanted = min(wanted, _CHUNK)
            elif wanted > _CHUNK:
                raise LinuxError(Errno.EMSGSIZE, f"a message of {wanted} bytes")
            data = _load(self.task, self.segments, self.done, wanted)
            if len(data) < wanted and (not sock.stream or not data):
                if not sock.stream and wanted > sock.max_message:
                    raise LinuxError(Errno.EMSGSIZE, f"a message of {wanted} bytes")
                raise LinuxError(Errno.EFAULT, "the message cannot be read")
            sent = sock.sendmsg(data, self.address, self.flags, self.scm, self.task)
            self.done += sent
            if not sock.stream or self.done >= self.total or (sent == len(data) < wanted):
                return self.done

    def run(self) -> Result:
        """Send it, waiting where that is allowed; descriptors that did not go along are let go."""
        waiting = False
        try:
            return self.attempt()
        except WouldBlock as blocked:
            if self.flags & so.MSG_DONTWAIT:
                return self._ended(blocked)
            waiting = True
            return holding(self.file, self._wait(blocked))
        except LinuxError as error:
            return self._ended(error)
        finally:
            if not waiting:
                self._release()

    async def _wait(self, blocked: WouldBlock) -> int:
        limit = WaitLimit(self.task, self.file.sock.opts.sndtimeo)
        try:
            while True:
                await limit.wait(blocked.queue)
                try:
                    return self.attempt()
                except WouldBlock as again:
                    blocked = again
        except LinuxError as error:
            return self._ended(error)
        except Interrupted:
            if not self.done:
                raise
            return self.done
        finally:
            self._release()

    def _ended(self, error: LinuxError) -> int:
        """What was sent before *error*, which is raised if that is nothing."""
        if self.done:
            return self.done
        if isinstance(error, BrokenPipe) and not self.flags & so.MSG_NOSIGNAL:
            send_sigpipe(self.task)
        raise error

    def _release(self) -> None:
        if self.scm is not None:
            self.scm.release()


def sendto(task: Task, fd: int, buf: int, count: int, flags: int, addr: int, addrlen: int) -> Result:
    """One buffer, to an address or the peer."""
    check_access(buf, count)
    file = socket_of(task, fd)
    address = address_from_user(task, addr, addrlen) if addr else None
    return _Send(task, file, [(buf, count)], flags, address, None).run()


def _read_msghdr(task: Task, where: int, layout_abi: Abi) -> so.Msghdr:
    """copy_msghdr_from_user, without the vector.  Errors: EFAULT, EINVAL, EMSGSIZE."""
    layout = so.msghdr_struct(layout_abi)
    header = so.Msghdr(*layout.unpack(copy_from_user(task.mm, where, layout.size)))
    namelen = header.namelen if header.name else 0
    if namelen < 0:
        raise LinuxError(Errno.EINVAL, f"an address of {namelen} bytes")
    if header.iovlen > UIO_MAXIOV:
        raise LinuxError(Errno.EMSGSIZE, f"{header.iovlen} segments")
    return header._replace(namelen=min(namelen, so.SOCKADDR_MAX))


def _send_of(task: Task, file: SocketFile, where: int, flags: int) -> _Send:
    """The message that the msghdr at *where* describes (___sys_sendmsg)."""
    abi = abi_of(task)
    header = _read_msghdr(task, where, abi)
    address = address_from_user(task, header.name, header.namelen) if header.namelen else None
    segments = import_iovec(task, header.iov, header.iovlen)
    if header.controllen > _INT_MAX or header.controllen > _OPTMEM_MAX:
        raise LinuxError(Errno.ENOBUFS, f"{header.controllen} bytes of control messages")
    scm = None
    if header.controllen:
        control = copy_from_user(task.mm, header.control, header.controllen)
        scm = scm_send(task, file.sock, so.parse_cmsgs(abi, control))
    return _Send(task, file, segments, flags, address, scm)


def sendmsg(task: Task, fd: int, msg: int, flags: int) -> Result:
    """Several buffers, and what goes along."""
    return _send_of(task, socket_of(task, fd), msg, flags).run()


def scm_send(task: Task, sock: Sock, cmsgs: list[so.Cmsg]) -> Scm | None:
    """What the control messages of level SOL_SOCKET say (__scm_send); others are the protocol's.

    Errors:
        EINVAL: a bad message; EBADF; EPERM: credentials that are not the sender's; ETOOMANYREFS.
    """
    scm = Scm()
    try:
        for cmsg in cmsgs:
            if cmsg.level != so.SOL_SOCKET:
                continue
            _add_cmsg(task, sock, scm, cmsg)
    except LinuxError:
        scm.release()
        raise
    return scm if scm.files or scm.creds is not None else None


def _add_cmsg(task: Task, sock: Sock, scm: Scm, cmsg: so.Cmsg) -> None:
    if cmsg.type == so.SCM_RIGHTS and sock.family == so.AF_UNIX:
        _add_files(task, scm, cmsg.data)
    elif cmsg.type == so.SCM_CREDENTIALS and len(cmsg.data) == so.UCRED.size:
        pid, uid, gid = so.UCRED.unpack(cmsg.data)
        scm.creds = _check_creds(task, (pid, uid, gid))
    else:
        raise LinuxError(Errno.EINVAL, f"control message {cmsg.type}")


def _add_files(task: Task, scm: Scm, data: bytes) -> None:
    """scm_fp_copy.  Errors: EINVAL: too many; EBADF."""
    count = len(data) // 4
    if len(scm.files) + count > so.SCM_MAX_FD:
        raise LinuxError(Errno.EINVAL, f"{count} descriptors")
    for number in range(count):
        (fd,) = so.INT.unpack_from(data, 4 * number)
        file = task.files.get_raw(fd)
        file.get_file()
        scm.files.append(file)


def _check_creds(task: Task, creds: Creds) -> Creds:
    """scm_check_creds.  Errors: EPERM."""
    pid, uid, gid = creds
    cred = task.cred
    if (
        (pid == task.tgid or cred.capable(CAP_SYS_ADMIN))
        and (uid in {cred.uid, cred.euid, cred.suid} or cred.capable(CAP_SETUID))
        and (gid in {cred.gid, cred.egid, cred.sgid} or cred.capable(CAP_SETGID))
    ):
        if pid != task.tgid and pid not in task.kernel.tasks:
            raise LinuxError(Errno.ESRCH, f"no process {pid}")
        return creds
    raise LinuxError(Errno.EPERM, "credentials of another")


def sendmmsg(task: Task, fd: int, mmsg: int, vlen: int, flags: int) -> Result:
    """Several messages: those before an error count."""
    file = socket_of(task, fd)
    return holding(file, _sendmmsg(task, file, mmsg, min(vlen, UIO_MAXIOV), flags))


async def _sendmmsg(task: Task, file: SocketFile, mmsg: int, vlen: int, flags: int) -> int:
    abi = abi_of(task)
    size = so.mmsghdr_size(abi)
    for number in range(vlen):
        at = mmsg + number * size
        try:
            sent = _send_of(task, file, at, flags).run()
            if not isinstance(sent, int):
                sent = await sent
            copy_to_user(task.mm, at + so.msg_len_at(abi), sent.to_bytes(4, "little"))
        except (LinuxError, Interrupted):
            if number:
                return number
            raise
    return vlen


# ---- receiving


class _Receive:
    """One receive: where the data goes, and how much has."""

    __slots__ = ("done", "file", "first", "flags", "room", "segments", "store", "task")

    def __init__(
        self, task: Task, file: SocketFile, segments: list[Segment], flags: int, store: Callable[[Received], None]
    ) -> None:
        """*store* puts the address and what came along into user memory, once the data is there."""
        self.task = task
        self.file = file
        self.segments = segments
        self.flags = flags | (so.MSG_DONTWAIT if file.flags & O_NONBLOCK else 0)
        self.room = min(sum(size for _, size in segments), MAX_RW_COUNT)
        self.done = 0
        self.first: Received | None = None  # of a stream, what its first piece came with
        self.store = store

    def _target(self) -> int:
        """Bytes of a stream that end the call (sock_rcvlowat)."""
        if self.flags & so.MSG_WAITALL:
            return self.room
        return min(self.file.sock.opts.rcvlowat, self.room) or 1

    def attempt(self) -> int:
        """Take what is there; the call's answer.  Errors: WouldBlock: not enough."""
        sock = self.file.sock
        got = sock.recvmsg(self.room - self.done, self.flags)
        if not sock.stream:
            return self._message(got)
        final = sock.shutdown & RCV_SHUTDOWN or sock.error or self.flags & so.MSG_DONTWAIT
        if (
            sock.peek_waits
            and self.flags & so.MSG_PEEK
            and not final
            and len(got.data) < min(self._target(), self.room)
        ):
            _drop(got)
            raise WouldBlock(sock.wait, "not enough to peek at")
        return self._piece(got)

    def _message(self, got: Received) -> int:
        if _store(self.task, self.segments, 0, got.data) < len(got.data):
            _drop(got)
            raise LinuxError(Errno.EFAULT, "the message cannot be stored")
        self.store(got)
        return got.length if self.flags & so.MSG_TRUNC else len(got.data)

    def _piece(self, got: Received) -> int:
        discard = self.flags & so.MSG_TRUNC and self.file.sock.discards
        stored = len(got.data) if discard else _store(self.task, self.segments, self.done, got.data)
        if self.first is None:
            self.first = got
        if stored < len(got.data):
            if not self.flags & so.MSG_PEEK:
                self.file.sock.unread(got.data[stored:])
            self.done += stored
            if not self.done:
                _drop(got)
                raise LinuxError(Errno.EFAULT, "the bytes cannot be stored")
            return self._finish()
        self.done += stored
        has_files = got.scm is not None and bool(got.scm.files)
        if not got.data or self.flags & so.MSG_PEEK or has_files or got.flags:
            return self._finish(got)
        if self.done >= self._target():
            return self._finish()
        return self.attempt()

    def _finish(self, last: Received | None = None) -> int:
        """What the call says: the first piece's sender, the last one's descriptors."""
        first = self.first
        assert first is not None, "recv: nothing was received"
        if last is not None and last is not first and last.scm is not None and last.scm.files:
            first = first._replace(scm=last.scm)
        if last is not None:
            first = first._replace(flags=last.flags)
        self.store(first)
        return self.done

    def run(self) -> Result:
        """Receive, waiting where that is allowed."""
        try:
            return self.attempt()
        except WouldBlock as blocked:
            if self.flags & so.MSG_DONTWAIT:
                return self._ended(blocked)
            return holding(self.file, self._wait(blocked))
        except LinuxError as error:
            return self._ended(error)

    async def _wait(self, blocked: WouldBlock) -> int:
        limit = WaitLimit(self.task, self.file.sock.opts.rcvtimeo)
        while True:
            try:
                await limit.wait(blocked.queue)
                return self.attempt()
            except WouldBlock as again:
                blocked = again
            except LinuxError as error:
                return self._ended(error)
            except Interrupted:
                if not self.done:
                    raise
                return self._finish()

    def _ended(self, error: LinuxError) -> int:
        if self.done:
            return self._finish()
        raise error


def _drop(got: Received) -> None:
    if got.scm is not None:
        got.scm.release()


def recvfrom(task: Task, fd: int, buf: int, count: int, flags: int, addr: int, addrlen: int) -> Result:
    """Into one buffer."""
    check_access(buf, count)
    file = socket_of(task, fd)

    def store(got: Received) -> None:
        _drop(got)
        if addr:
            address_to_user(task, got.address if got.address is not None else b"", addr, addrlen)

    return _Receive(task, file, [(buf, count)], flags, store).run()


def _receive_of(task: Task, file: SocketFile, where: int, flags: int) -> _Receive:
    """The receive that the msghdr at *where* describes (___sys_recvmsg)."""
    abi = abi_of(task)
    header = _read_msghdr(task, where, abi)
    segments = import_iovec(task, header.iov, header.iovlen)

    def store(got: Received) -> None:
        writer = _ControlWriter(task, abi, file.sock, header.control, header.controllen)
        writer.put_all(got, cloexec=bool(flags & so.MSG_CMSG_CLOEXEC))
        if header.name:
            name = got.address if got.address is not None else b""
            copy_to_user(task.mm, header.name, name[: header.namelen])
            copy_to_user(task.mm, where + abi.word, so.INT.pack(len(name)))
        answer = got.flags | flags & so.MSG_CMSG_CLOEXEC | writer.flags
        copy_to_user(task.mm, where + so.msg_flags_at(abi), answer.to_bytes(4, "little"))
        used = abi.pack_word(writer.used)
        copy_to_user(task.mm, where + so.msg_controllen_at(abi), used)

    return _Receive(task, file, segments, flags, store)


class _ControlWriter:
    """Control messages on their way to user memory: put_cmsg, scm_detach_fds."""

    __slots__ = ("abi", "address", "flags", "left", "sock", "task", "used")

    def __init__(self, task: Task, abi: Abi, sock: Sock, address: int, room: int) -> None:
        self.task = task
        self.abi = abi
        self.sock = sock
        self.address = address
        self.left = room if address else 0
        self.used = 0
        self.flags = 0

    def _advance(self, size: int) -> None:
        size = min(size, self.left)
        self.address += size
        self.left -= size
        self.used += size

    def put(self, level: int, kind: int, data: bytes) -> None:
        """One message; what does not fit is cut off, and MSG_CTRUNC says so.  A bad address is no error."""
        abi = self.abi
        if self.left < so.cmsghdr_size(abi):
            self.flags |= so.MSG_CTRUNC
            return
        length = so.cmsghdr_size(abi) + len(data)
        if self.left < length:
            self.flags |= so.MSG_CTRUNC
            length = self.left
        image = so.pack_cmsghdr(abi, length, level, kind) + data
        if copy_to_user_partial(self.task.mm, self.address, image[:length]) < length:
            return
        self._advance(so.cmsghdr_size(abi) + so.cmsg_align(abi, len(data)))

    def put_all(self, got: Received, *, cloexec: bool) -> None:
        """Everything that came with a message."""
        for level, kind, data in got.cmsgs:
            self.put(level, kind, data)
        scm = got.scm
        passcred = self.sock.opts.on(so.SO_PASSCRED)
        if not self.address:
            if passcred or (scm is not None and scm.files):
                self.flags |= so.MSG_CTRUNC
        else:
            if passcred:
                creds = scm.creds if scm is not None else None
                pid, uid, gid = creds if creds is not None else (0, so.OVERFLOW_ID, so.OVERFLOW_ID)
                self.put(so.SOL_SOCKET, so.SCM_CREDENTIALS, so.UCRED.pack(pid, uid, gid))
            if scm is not None and scm.files:
                self._put_files(scm.files, cloexec=cloexec)
        if scm is not None:
            scm.release()

    def _put_files(self, files: list[OpenFile], *, cloexec: bool) -> None:
        """scm_detach_fds: as many descriptors as there is room for, and as may be open."""
        header = so.cmsghdr_size(self.abi)
        room = max(self.left - header, 0) // 4
        task = self.task
        installed = 0
        for file in files[:room]:
            try:
                fd = task.files.find_free(nofile_limit(task))
                copy_to_user(task.mm, self.address + header + 4 * installed, so.INT.pack(fd))
            except LinuxError:
                break
            file.get_file()
            task.files.install(fd, file, cloexec=cloexec)
            installed += 1
        if installed:
            image = so.pack_cmsghdr(self.abi, header + 4 * installed, so.SOL_SOCKET, so.SCM_RIGHTS)
            copy_to_user_partial(task.mm, self.address, image)
            self._advance(header + so.cmsg_align(self.abi, 4 * installed))
        if installed < len(files):
            self.flags |= so.MSG_CTRUNC


def recvmsg(task: Task, fd: int, msg: int, flags: int) -> Result:
    """Into several buffers, with what came along."""
    return _receive_of(task, socket_of(task, fd), msg, flags).run()


def recvmmsg(task: Task, fd: int, mmsg: int, vlen: int, flags: int, timeout: int, *, wide: bool) -> Result:
    """Several messages; *wide*: the timeout has 64-bit seconds.  Errors: EFAULT, EINVAL; EBADF, ENOTSOCK."""
    limit = None
    if timeout:
        abi = abi_of(task)
        if wide:
            limit = timespec_ns(*unpack_timespec64(abi, copy_from_user(task.mm, timeout, 16)))
        else:
            limit = timespec_ns(*unpack_timespec(abi, copy_from_user(task.mm, timeout, 2 * abi.word)))
    file = socket_of(task, fd)
    file.sock.raise_error()
    return holding(file, _recvmmsg(task, file, mmsg, min(vlen, UIO_MAXIOV), flags, limit))


async def _recvmmsg(task: Task, file: SocketFile, mmsg: int, vlen: int, flags: int, limit: int | None) -> int:
    """do_recvmmsg: the timeout is looked at behind each message."""
    abi = abi_of(task)
    clock = task.kernel.clock
    deadline = None if limit is None else clock.now_ns() + limit
    for number in range(vlen):
        at = mmsg + number * so.mmsghdr_size(abi)
        try:
            got = _receive_of(task, file, at, flags & ~so.MSG_WAITFORONE).run()
            if not isinstance(got, int):
                got = await got
            copy_to_user(task.mm, at + so.msg_len_at(abi), got.to_bytes(4, "little"))
        except LinuxError as error:
            if not number:
                raise
            if error.errno != Errno.EAGAIN:
                file.sock.error = error.errno
            return number
        except Interrupted:
            if not number:
                raise
            return number
        if flags & so.MSG_WAITFORONE:
            flags |= so.MSG_DONTWAIT
        if deadline is not None and clock.now_ns() >= deadline:
            return number + 1
    return vlen
