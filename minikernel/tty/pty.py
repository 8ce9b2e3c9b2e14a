"""Pseudo terminals: a master, which a program holds in place of a screen and keys, and the slave, which is a terminal.

Linux: drivers/tty/pty.c, fs/devpts/inode.c.

The master's writes are typed at the slave at once; what the slave shows waits until the master reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minikernel.abi import termios as t
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_NOCTTY
from minikernel.abi.poll import POLLHUP, POLLPRI, READABLE, WRITABLE
from minikernel.abi.stat import S_IFCHR, makedev
from minikernel.fs.dentry import Path
from minikernel.fs.devpts import DevPts
from minikernel.fs.file import OpenFile, WouldBlock
from minikernel.fs.inode import Inode
from minikernel.tty.jobctl import set_controlling
from minikernel.tty.ldisc import N_TTY_BUF_SIZE
from minikernel.tty.tty import Tty, TtyFile

if TYPE_CHECKING:
    from minikernel.kernel import Kernel

UNIX98_PTY_SLAVE_MAJOR: Final = 136
_MASTER_MAJOR: Final = 128
_MINORS: Final = 256
NR_UNIX98_PTY_MAX: Final = 4096  # kernel.pty.max
_TTY_GROUP: Final = 5  # as Debian mounts devpts: gid=5,mode=620
_MODE: Final = 0o620
_BUFFER: Final = 65536  # TTYB_DEFAULT_MEM_LIMIT


class PtyMaster(Tty):
    """The end of the program that plays the terminal."""

    __slots__ = ("_pair", "incoming")

    def __init__(self, pair: Pty, kernel: Kernel) -> None:
        super().__init__(kernel, b"ptm%d" % pair.index, makedev(_MASTER_MAJOR + pair.index // _MINORS, pair.index))
        self._pair = pair
        self.incoming = bytearray()  # what the slave showed
        self.termios.iflag = self.termios.oflag = self.termios.lflag = 0

    @property
    def real(self) -> Tty:
        """Modes, size and groups are the slave's."""
        return self._pair.slave

    @property
    def pair(self) -> Pty | None:
        """The pair it is an end of."""
        return self._pair

    def put(self, data: bytes) -> None:
        """Type *data* at the slave."""
        self._pair.slave.type(data)

    def write_room(self) -> int:
        """What may still be typed."""
        return self._pair.slave.typing_room()

    def write(self, data: bytes) -> int:
        """Type *data* at the slave, or the beginning of it for which there is room."""
        room = 0 if self.stopped else self.write_room()
        if not room and data:
            raise WouldBlock(self.write_wait, "the slave does not read")
        self.put(data[:room])
        return min(len(data), room)

    def read(self, count: int, *, at_once: bool = False) -> bytes:
        """What the slave showed; in packet mode a byte goes before it, that says what happened."""
        del at_once
        if self.packet and self.packet_status:
            status, self.packet_status = self.packet_status, 0
            return bytes((status,))
        if not self.incoming:
            if self.other_closed:
                raise LinuxError(Errno.EIO, "the slave is closed")
            raise WouldBlock(self.read_wait, "the slave has shown nothing")
        head = bytes((t.TIOCPKT_DATA,)) if self.packet else b""
        data = bytes(self.incoming[: count - len(head)])
        del self.incoming[: len(data)]
        self._pair.slave.write_wait.wake(key=WRITABLE)
        return head + data

    def poll(self) -> int:
        """What can be done now."""
        events = READABLE if self.incoming else 0
        if self.packet and self.packet_status:
            events |= POLLPRI | READABLE
        if self.other_closed:
            events |= POLLHUP
        return events | (WRITABLE if not self.stopped and self.write_room() > 0 else 0)

    def set_packet(self, *, on: bool) -> None:
        """TIOCPKT."""
        if on and not self.packet:
            self.packet_status = 0
        self.packet = on

    def tell(self, status: int, *, instead_of: int = 0) -> None:
        """In packet mode the next read says *status* (TIOCPKT_*)."""
        if self.packet:
            self.packet_status = self.packet_status & ~instead_of | status
            self.readable()

    def closed(self) -> None:
        """The last one ends the pair: the slave is hung up, and its name is gone (pty_close)."""
        super().closed()
        if not self.count:
            self._pair.end()


class PtySlave(Tty):
    """The end that is a terminal."""

    __slots__ = ("_pair", "_typed")

    def __init__(self, pair: Pty, kernel: Kernel) -> None:
        number = makedev(UNIX98_PTY_SLAVE_MAJOR + pair.index // _MINORS, pair.index % _MINORS)
        super().__init__(kernel, b"pts/%d" % pair.index, number)
        self._pair = pair
        self._typed = bytearray()  # by the master, not yet taken by the line discipline

    @property
    def pair(self) -> Pty | None:
        """The pair it is an end of."""
        return self._pair

    def put(self, data: bytes) -> None:
        """Show *data* to the master."""
        if data:
            self._pair.master.incoming += data
            self._pair.master.readable()

    def write_room(self) -> int:
        """What the master has not read takes room."""
        return max(_BUFFER - len(self._pair.master.incoming), 0)

    def type(self, data: bytes) -> None:
        """The master has written *data*."""
        self._typed += data
        self._take_typed()

    def typing_room(self) -> int:
        """What the master may write."""
        return max(_BUFFER - len(self._typed), 0)

    def _take_typed(self) -> None:
        taken = self.ldisc.receive(bytes(self._typed)) if self._typed else 0
        if taken:
            del self._typed[:taken]
            self._pair.master.write_wait.wake(key=WRITABLE)

    def input_taken(self) -> None:
        """There is room for more."""
        self._take_typed()

    def input_flushed(self) -> None:
        """The master may want to know."""
        self._pair.master.tell(t.TIOCPKT_FLUSHREAD)

    def flush_output(self) -> None:
        """What the master has not read is gone, but for what its own line discipline has taken already."""
        del self._pair.master.incoming[N_TTY_BUF_SIZE - 1 :]
        self._pair.master.tell(t.TIOCPKT_FLUSHWRITE)
        self.write_wait.wake(key=WRITABLE)

    def flow_changed(self) -> None:
        """^S and ^Q."""
        both = t.TIOCPKT_STOP | t.TIOCPKT_START
        self._pair.master.tell(t.TIOCPKT_STOP if self.stopped else t.TIOCPKT_START, instead_of=both)

    def modes_changed(self, old: t.Termios) -> None:
        """A master in packet mode hears whether ^S and ^Q work (pty_set_termios)."""
        new = self.termios
        if _has_flow_keys(old) != _has_flow_keys(new) or (old.lflag ^ new.lflag) & t.EXTPROC:
            status = t.TIOCPKT_DOSTOP if _has_flow_keys(new) else t.TIOCPKT_NOSTOP
            if (old.lflag ^ new.lflag) & t.EXTPROC:
                status |= t.TIOCPKT_IOCTL
            self._pair.master.tell(status, instead_of=t.TIOCPKT_DOSTOP | t.TIOCPKT_NOSTOP)

    def closed(self) -> None:
        """After the last one the master reads the end."""
        super().closed()
        if self.count:
            return
        if self.hung_up:
            self._pair.free_slave()
            return
        self._pair.master.other_closed = True
        self._pair.master.read_wait.wake(key=READABLE | POLLHUP)
        self._pair.master.write_wait.wake(key=POLLHUP)


def _has_flow_keys(termios: t.Termios) -> bool:
    return bool(termios.iflag & t.IXON) and (termios.cc[t.VSTOP], termios.cc[t.VSTART]) == (0x13, 0x11)


class Pty:
    """A pair, as long as its master or its slave is open.  *locked*: the slave cannot be opened (unlockpt)."""

    __slots__ = ("_devpts", "_inode", "index", "locked", "master", "slave")

    def __init__(self, kernel: Kernel, devpts: DevPts) -> None:
        """Errors: ENOSPC: there are kernel.pty.max; ENOMEM."""
        self._devpts = devpts
        self.index = devpts.free_index(NR_UNIX98_PTY_MAX)
        self.locked = True
        self.master = PtyMaster(self, kernel)
        try:
            self.slave = PtySlave(self, kernel)
        except LinuxError:
            self.master.free()
            raise
        cred = kernel.current.cred if kernel.current is not None else None
        try:
            self._inode = PtsInode(devpts, self, cred.fsuid if cred is not None else 0)
        except LinuxError:
            self.slave.free()
            self.master.free()
            raise
        devpts.add(self.index, self._inode)

    def open_slave(self, path: Path, flags: int) -> OpenFile:
        """Open the slave; it may become the controlling terminal of the caller's session (tty_open).

        Errors:
            EIO: it is locked, or the master is gone; EBUSY: somebody has it for himself.
        """
        slave, kernel = self.slave, self.slave.kernel
        if self.locked or not self.master.count or slave.hung_up:
            raise LinuxError(Errno.EIO, "the slave is locked, or has no master")
        task = kernel.current
        if slave.is_exclusive and slave.count and (task is None or task.cred.euid):
            raise LinuxError(Errno.EBUSY, "TIOCEXCL")
        file = TtyFile(path, flags & ~O_NOCTTY, slave)
        self.master.other_closed = False
        may_control = not flags & O_NOCTTY and file.readable and not slave.session
        if may_control and task is not None and task.session == task.tgid and task.process.tty is None:
            set_controlling(task, slave)
        return file

    def slave_path(self) -> Path:
        """Where the slave stands in /dev/pts."""
        return self._devpts.child_path(self.index)

    def end(self) -> None:
        """The master is closed."""
        self._devpts.remove(self.index)
        self.slave.hang_up()
        self.master.free()
        if not self.slave.count:
            self.free_slave()

    def free_slave(self) -> None:
        """Nobody has the slave open, and nobody will."""
        self.slave.free()


class PtsInode(Inode):
    """/dev/pts/N."""

    __slots__ = ("pair",)

    def __init__(self, devpts: DevPts, pair: Pty, uid: int) -> None:
        super().__init__(devpts, pair.index + 3, S_IFCHR | _MODE, uid, _TTY_GROUP, pair.slave.number)
        self.pair = pair

    def open(self, path: Path, flags: int) -> OpenFile:
        """Open the slave."""
        return self.pair.open_slave(path, flags)


def open_ptmx(path: Path, flags: int, kernel: Kernel) -> OpenFile:
    """A new pair; the file is its master (ptmx_open).  Errors: ENOSPC, ENOMEM."""
    pair = Pty(kernel, kernel.vfs.devpts)
    try:
        return TtyFile(path, flags & ~O_NOCTTY, pair.master)
    except LinuxError:
        pair.end()
        raise


def open_controlling(path: Path, flags: int, kernel: Kernel) -> OpenFile:
    """/dev/tty: the terminal of the caller's session.  Errors: ENXIO without one."""
    tty = kernel.current.process.tty if kernel.current is not None else None
    if not isinstance(tty, Tty) or tty.hung_up:
        raise LinuxError(Errno.ENXIO, "no controlling terminal")
    return TtyFile(path, flags & ~O_NOCTTY, tty)
