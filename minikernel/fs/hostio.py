"""The descriptors that the emulator was started with: standard input, output and error.

Bytes pass as they are.  A terminal of the host stays one for the guest: its modes and size are asked of the host.
These files are the user's choice, so reading and writing them goes to the host directly, past the page cache.
"""

import errno
import fcntl
import os
import select
import stat
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_ACCMODE, O_APPEND, O_LARGEFILE, O_NONBLOCK, SEEK_CUR
from minikernel.abi.ioctl import (
    FIONREAD,
    TCFLSH,
    TCGETA,
    TCGETS,
    TCSBRK,
    TCSETS,
    TCSETSF,
    TCSETSW,
    TCXONC,
    TERMIOS_SIZE,
    TIOCGPGRP,
    TIOCGSID,
    TIOCGWINSZ,
    TIOCOUTQ,
    TIOCSCTTY,
    TIOCSPGRP,
    TIOCSWINSZ,
    WINSIZE_SIZE,
)
from minikernel.abi.poll import POLLERR, POLLHUP, READABLE, WRITABLE
from minikernel.abi.stat import Kstat
from minikernel.fs.chrdev import open_chrdev
from minikernel.fs.dentry import Dentry, Path
from minikernel.fs.file import BrokenPipe, OpenFile, WouldBlock
from minikernel.fs.hostdoor import from_host
from minikernel.fs.hostjournal import Journal
from minikernel.fs.inode import Attributes, Inode, SuperBlock
from minikernel.mm.filemap import PageCache
from minikernel.wait import WaitQueue

T = TypeVar("T")

_PAGE: Final = 4096
_MEM_MAJOR: Final = 1
_AT_POSITION: Final = -1
_PIPE_BUF: Final = 4096
_KEPT_FLAGS: Final = O_ACCMODE | O_APPEND | O_NONBLOCK | O_LARGEFILE
_REOPEN_FLAGS: Final = O_ACCMODE | O_APPEND
_READ_SIZES: Final = {TCGETS: TERMIOS_SIZE, TCGETA: 18, TIOCGWINSZ: WINSIZE_SIZE, FIONREAD: 4, TIOCOUTQ: 4}
_WRITE_SIZES: Final = {
    TCSETS: TERMIOS_SIZE,
    TCSETSW: TERMIOS_SIZE,
    TCSETSF: TERMIOS_SIZE,
    TIOCSWINSZ: WINSIZE_SIZE,
}


class StreamTap(Protocol):
    """Who stands between the host's streams and the guest: a recorder, or the record itself."""

    def read(self, count: int, host: Callable[[int], bytes]) -> bytes:
        """What the guest reads; *host* asks the host for so many bytes, or raises WouldBlock."""
        ...

    def write(self, data: bytes, host: Callable[[bytes], int]) -> int:
        """How many bytes were taken; *host* gives them to the host, or raises WouldBlock, BrokenPipe, LinuxError."""
        ...

    def poll(self, host: Callable[[], int]) -> int:
        """What the stream is ready for; *host* asks the host."""
        ...

    def ioctl(self, request: int, data: bytes | int, host: Callable[[int, bytes | int], bytes]) -> bytes:
        """The answer to *request* with the argument *data*; *host* asks the host, or raises LinuxError."""
        ...


class Console(Protocol):
    """A terminal of the machine's whose keys and screen are the host's (minikernel.tty)."""

    def open(self, path: Path, flags: int) -> OpenFile:
        """An open file of it."""
        ...


class HostInode(Inode):
    """A file of the host that is already open as *host_fd*.  Changed attributes stay here (copy-up)."""

    __slots__ = (
        "_changed",
        "announced",
        "can_wait",
        "console",
        "foreground",
        "host_fd",
        "is_tty",
        "journal",
        "pinned",
        "queue",
        "room",
        "saved_termios",
        "shown_name",
        "tap",
    )

    def __init__(self, sb: SuperBlock, host_fd: int) -> None:
        st = os.fstat(host_fd)
        super().__init__(sb, st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_rdev)
        self.dev = st.st_dev
        self.nlink = max(st.st_nlink, 1)
        self.host_fd = host_fd
        self.is_tty = os.isatty(host_fd)
        kind = stat.S_IFMT(st.st_mode)
        self.can_wait = kind in {stat.S_IFIFO, stat.S_IFSOCK} or (
            kind == stat.S_IFCHR and os.major(st.st_rdev) != _MEM_MAJOR
        )
        self.queue = WaitQueue()  # who waits for input; hostwait looks at both
        self.room = WaitQueue()  # who waits until output is taken
        self.announced = False  # epoll has been told that there is input
        self.saved_termios: bytes | None = None
        self.tap: StreamTap | None = None  # a recorder or a replayer stands here
        self.journal: Journal | None = None  # what the host answers is kept there
        self.pinned: os.stat_result | None = None  # what stat(2) says whatever the host says now
        self.shown_name: bytes | None = None  # what ``name`` says whatever the host says
        self.console: Console | None = None  # the terminal of the machine's that this is
        self.foreground = 0  # the terminal's process group in the guest (tcsetpgrp); 0: nobody has said
        self._changed: Attributes | None = None

    def ask(self, what: str, host: Callable[[], T]) -> T:
        """What *host* answers, or did the first time, if a journal is kept."""
        return host() if self.journal is None else self.journal.ask(what, host)

    def stat(self) -> Kstat:
        """What the host says now, with what the guest changed."""
        host = self.pinned or self.ask("stat", lambda: os.fstat(self.host_fd))
        size, blocks = host.st_size, host.st_blocks
        if self.pinned and stat.S_ISREG(host.st_mode):  # only what does not depend on its writers is pinned
            size = self.ask("stat", lambda: os.fstat(self.host_fd)).st_size
            blocks = (size + 511) // 512
        self.atime, self.mtime, self.ctime = host.st_atime_ns, host.st_mtime_ns, host.st_ctime_ns
        self.btime = None
        self.size = size
        if self._changed is not None:
            self.atime = self._changed.atime or self.atime
            self.mtime = self._changed.mtime or self.mtime
        st = super().stat()
        st.blocks = blocks
        st.blksize = host.st_blksize
        return st

    def pin(self, st: os.stat_result) -> None:
        """From now on be the file that *st* describes, so that runs are alike."""
        self.pinned = st
        self.ino, self.dev, self.rdev = st.st_ino, st.st_dev, st.st_rdev
        self.mode, self.uid, self.gid, self.nlink = st.st_mode, st.st_uid, st.st_gid, max(st.st_nlink, 1)

    def setattr(self, attrs: Attributes) -> None:
        """Kept in memory; the size alone is the host file's."""
        super().setattr(attrs)
        self._changed = attrs

    def truncate(self, size: int) -> None:
        """Set the length of the host's file, which the user gave us open."""
        try:
            self.ask("truncate", lambda: os.ftruncate(self.host_fd, size))
        except OSError as error:
            raise from_host(error) from None

    def open(self, path: Path, flags: int) -> OpenFile:
        """Once more, e.g. through /dev/stdin or /proc/self/fd/0: a file anew, with a position of its own."""
        if self.console is not None:
            return self.console.open(path, flags)
        if not stat.S_ISREG(self.mode):
            return HostStream(path, flags, self.host_fd)
        try:
            # By descriptor, not by name: it is the very file that the user gave us.
            fd = os.open(b"/proc/self/fd/%d" % self.host_fd, flags & _REOPEN_FLAGS | os.O_CLOEXEC)
        except OSError as error:
            raise from_host(error) from None
        return HostStream(path, flags, fd, owned=True)

    def name(self) -> bytes:
        """What /proc/self/fd shows."""
        if self.shown_name is not None:
            return self.shown_name
        kind = stat.S_IFMT(self.mode)
        if kind == stat.S_IFIFO:
            return b"pipe:[%d]" % self.ino
        if kind == stat.S_IFSOCK:
            return b"socket:[%d]" % self.ino
        if self.is_tty:
            return os.fsencode(os.ttyname(self.host_fd))
        try:
            return os.readlink(b"/proc/self/fd/%d" % self.host_fd)  # noqa: PTH115 - bytes
        except OSError:
            return b"/host/fd/%d" % self.host_fd

    def restore(self) -> None:
        """Give the terminal back the modes it had before the guest changed them."""
        if self.saved_termios is not None and os.isatty(self.host_fd):  # not where a record plays the terminal
            fcntl.ioctl(self.host_fd, TCSETS, self.saved_termios)
            self.saved_termios = None


class StreamStore:
    """Backing store of a mapping of standard input: its file, read in place."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read_page(self, index: int) -> bytes:
        """A page."""
        try:
            return os.pread(self._fd, _PAGE, index * _PAGE)
        except OSError as error:
            raise LinuxError(Errno.EIO, f"the host could not read: {error}") from None

    def write_page(self, index: int, data: bytes) -> None:
        """Store a page of a shared mapping."""
        try:
            os.pwrite(self._fd, data, index * _PAGE)
        except OSError as error:
            raise LinuxError(Errno.EIO, f"the host could not write: {error}") from None


class HostStream(OpenFile):
    """An open file over descriptor *fd* of the host, which is closed with it only if it is *owned*."""

    __slots__ = ("_owned", "fd")

    inode: HostInode
    seekable = True

    def __init__(self, path: Path, flags: int, fd: int, *, owned: bool = False) -> None:
        super().__init__(path, flags)
        self.fd = fd
        self._owned = owned
        inode = self.inode
        if stat.S_ISREG(inode.mode) and inode.mapping is None:
            size = os.fstat(fd).st_size
            inode.mapping = PageCache(inode.sb.services.node, StreamStore(fd), size)
        self.mapping = inode.mapping

    def release(self) -> None:
        """Close what was opened for the guest alone."""
        if self._owned:
            os.close(self.fd)

    def read(self, count: int) -> bytes:
        """Read from the host."""
        tap = self.inode.tap
        return self._host_read(count) if tap is None else tap.read(count, self._host_read)

    def _host_read(self, count: int) -> bytes:
        if self.inode.can_wait and not self._host_poll() & (READABLE | POLLHUP | POLLERR):
            raise WouldBlock(self.inode.queue, "the host is not ready")
        try:
            return self.inode.ask("read", lambda: os.read(self.fd, count))
        except BlockingIOError:
            self.inode.announced = False
            raise WouldBlock(self.inode.queue, "the host is not ready") from None
        except OSError as error:
            raise from_host(error) from None

    def write(self, data: bytes) -> int:
        """Write to the host what it takes without waiting."""
        tap = self.inode.tap
        return self._host_write(data) if tap is None else tap.write(data, self._host_write)

    def _host_write(self, data: bytes) -> int:
        try:
            if self.inode.can_wait:
                return self.inode.ask("write", lambda: self._write_nowait(data))
            return self.inode.ask("write", lambda: os.write(self.fd, data))
        except BlockingIOError:
            raise WouldBlock(self.inode.room, "the host is not ready") from None
        except BrokenPipeError:
            raise BrokenPipe("nobody reads our output") from None
        except OSError as error:
            raise from_host(error) from None

    def _write_nowait(self, data: bytes) -> int:
        """One write that does not stop the emulator, whatever the flags of the host's descriptor are."""
        try:
            return os.pwritev(self.fd, [data], _AT_POSITION, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
        # A terminal: when it is ready it takes some bytes at once, and a whole line soon.
        if not self._poll_now() & (WRITABLE | POLLERR | POLLHUP):
            raise BlockingIOError(errno.EAGAIN, "the terminal is not ready")
        return os.write(self.fd, data[:_PIPE_BUF])

    def pread(self, count: int, offset: int) -> bytes:
        """Read from a file of the host."""
        try:
            return self.inode.ask("pread", lambda: os.pread(self.fd, count, offset))
        except OSError as error:
            raise from_host(error) from None

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write to a file of the host."""
        try:
            return self.inode.ask("pwrite", lambda: os.pwrite(self.fd, data, offset))
        except OSError as error:
            raise from_host(error) from None

    def unread(self, data: bytes) -> None:
        """Move the host's position back, where it has one."""
        try:
            self.inode.ask("unread", lambda: os.lseek(self.fd, -len(data), SEEK_CUR))
        except OSError:
            return

    def seek(self, offset: int, whence: int) -> int:
        """Move the host's position, which other processes of the host may share."""
        try:
            return self.inode.ask("seek", lambda: os.lseek(self.fd, offset, whence))
        except OSError as error:
            raise from_host(error) from None

    def fsync(self) -> None:
        """Fsync of the host's file."""
        try:
            self.inode.ask("fsync", lambda: os.fsync(self.fd))
        except OSError as error:
            raise from_host(error) from None

    def stat(self) -> Kstat:
        """What the host says now."""
        return self.inode.stat()

    def _poll_now(self) -> int:
        poller = select.poll()
        poller.register(self.fd, READABLE | WRITABLE)
        ready = poller.poll(0)
        return ready[0][1] if ready else 0

    def _host_poll(self) -> int:
        events = self.inode.ask("poll", self._poll_now)
        if not events & READABLE:
            self.inode.announced = False
        return events

    def poll(self) -> int:
        """What the host's poll says."""
        wanted = POLLERR | POLLHUP
        wanted |= READABLE if self.readable else 0
        wanted |= WRITABLE if self.writable else 0
        tap = self.inode.tap
        return (self._host_poll() if tap is None else tap.poll(self._host_poll)) & wanted

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        """Woken by whoever polls the host; none for what is always ready."""
        inode = self.inode
        if not inode.can_wait:
            return ()
        return ((inode.queue,) if self.readable else ()) + ((inode.room,) if self.writable else ())

    def ioctl(self, task: Any, request: int, arg: int) -> int:
        """Terminal requests, passed on to the host; process groups and sessions are the guest's own."""
        from minikernel.mm import uaccess

        if request in _READ_SIZES:
            answer = self.ask(request, bytes(_READ_SIZES[request]))
            uaccess.copy_to_user(task.mm, arg, answer)
            return 0
        if not self.inode.is_tty:
            raise LinuxError(Errno.ENOTTY, "not a terminal")
        if request in _WRITE_SIZES:
            data = uaccess.copy_from_user(task.mm, arg, _WRITE_SIZES[request])
            if self.inode.saved_termios is None and request != TIOCSWINSZ:
                self.inode.saved_termios = self.ask(TCGETS, bytes(TERMIOS_SIZE))
            self.ask(request, data)
            return 0
        if request == TIOCGPGRP:
            uaccess.copy_to_user(task.mm, arg, (self.inode.foreground or task.pgrp).to_bytes(4, "little"))
            return 0
        if request == TIOCSPGRP:
            self.inode.foreground = self._group_of_session(task, uaccess.get_user(task.mm, arg, 4))
            return 0
        if request == TIOCGSID:
            uaccess.copy_to_user(task.mm, arg, task.session.to_bytes(4, "little"))
            return 0
        if request == TIOCSCTTY:
            return 0
        if request in {TCSBRK, TCXONC, TCFLSH}:
            self.ask(request, arg & 0x7FFF_FFFF)
            return 0
        raise LinuxError(Errno.ENOTTY, f"terminal request {request:#x}")

    @staticmethod
    def _group_of_session(task: Any, pgrp: int) -> int:
        """*pgrp*, if it may be the foreground (tiocspgrp).  Errors: EINVAL, ESRCH, EPERM."""
        if pgrp >> 31:
            raise LinuxError(Errno.EINVAL, "a negative process group")
        members = [other for other in task.kernel.tasks.values() if other.pgrp == pgrp]
        if not members:
            raise LinuxError(Errno.ESRCH, f"no process group {pgrp}")
        if members[0].session != task.session:
            raise LinuxError(Errno.EPERM, "a process group of another session")
        return pgrp

    def ask(self, request: int, data: bytes | int) -> bytes:
        """The host's answer to a terminal request.  Errors: what the host says."""
        tap = self.inode.tap
        return self._host_ioctl(request, data) if tap is None else tap.ioctl(request, data, self._host_ioctl)

    def _host_ioctl(self, request: int, data: bytes | int) -> bytes:
        try:
            answer = self.inode.ask("ioctl", lambda: fcntl.ioctl(self.fd, request, data))
            return answer if isinstance(answer, bytes) else b""
        except OSError as error:
            raise from_host(error) from None


class TtyNode(Inode):
    """/dev/tty: the controlling terminal of the session, or the host's if one of the standard streams is it."""

    __slots__ = ("terminal",)

    def __init__(self, sb: SuperBlock, ino: int, mode: int, rdev: int, terminal: HostInode | None) -> None:
        super().__init__(sb, ino, mode, rdev=rdev)
        self.terminal = terminal

    def open(self, path: Path, flags: int) -> OpenFile:
        """The terminal.  Errors: ENXIO without one."""
        try:
            return open_chrdev(path, flags)
        except LinuxError as error:
            if self.terminal is None or self.terminal.console is not None or error.errno != Errno.ENXIO:
                raise
        place = Dentry(path.dentry.name, path.dentry.parent, self.terminal)
        return self.terminal.open(Path(path.mnt, place), flags)


def host_flags(fd: int) -> int:
    """Open flags of the host's descriptor *fd*, as F_GETFL of the guest shows them."""
    return fcntl.fcntl(fd, fcntl.F_GETFL) & _KEPT_FLAGS
