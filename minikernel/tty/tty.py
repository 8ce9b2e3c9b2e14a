"""A terminal: struct tty_struct, the session it controls, and the open files of it.

Linux: drivers/tty/tty_io.c, tty_jobctrl.c, n_tty.c (n_tty_read, n_tty_write, n_tty_poll).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from minikernel.abi import termios as t
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_NONBLOCK
from minikernel.abi.poll import POLLERR, POLLHUP, POLLPRI, READABLE, WRITABLE
from minikernel.abi.signal import SIGTTIN, SIGTTOU, SIGWINCH
from minikernel.abi.termios import Termios
from minikernel.fs.file import OpenFile, WouldBlock
from minikernel.tty.jobctl import check_change, disassociate, kill_pgrp, leave_session
from minikernel.tty.ldisc import LineDiscipline
from minikernel.wait import WaitQueue

if TYPE_CHECKING:
    from minikernel.fs.dentry import Path
    from minikernel.kernel import Kernel
    from minikernel.task.task import Process
    from minikernel.tty.pty import Pty

_TTY_STRUCT: Final = 91  # kernel words: 728 bytes on x86-64
_NS_PER_TENTH: Final = 100_000_000  # VTIME counts tenths of a second
_WRITE_CHUNK: Final = 4096


class Tty:
    """A terminal that a line discipline works for.  A kind of terminal says what its device is: ``put`` and the rest.

    *session* and *pgrp* are those it controls and lets read, 0 without.  *count*: open files.
    """

    __slots__ = (
        "_memory",
        "count",
        "is_exclusive",
        "hung_up",
        "kernel",
        "ldisc",
        "name",
        "number",
        "other_closed",
        "packet",
        "packet_status",
        "pgrp",
        "read_wait",
        "session",
        "stopped",
        "termios",
        "winsize",
        "write_wait",
    )

    def __init__(self, kernel: Kernel, name: bytes, number: int) -> None:
        """Errors: ENOMEM."""
        self._memory = kernel.node.slab.kmalloc(_TTY_STRUCT * kernel.node.slab.word)
        self.kernel = kernel
        self.name = name
        self.number = number  # device number, as st_rdev
        self.termios = Termios()
        self.ldisc = LineDiscipline(self)
        self.winsize = 0, 0, 0, 0
        self.session = 0
        self.pgrp = 0
        self.count = 0
        self.stopped = False
        self.is_exclusive = False
        self.hung_up = False
        self.other_closed = False  # nobody is at the other end of a pair
        self.packet = False  # TIOCPKT, of a master
        self.packet_status = 0
        self.read_wait = WaitQueue()
        self.write_wait = WaitQueue()

    @property
    def real(self) -> Tty:
        """Whose modes, size and process groups requests mean: of a pair, the slave."""
        return self

    @property
    def pair(self) -> Pty | None:
        """The pair it is an end of."""
        return None

    # ---- the device

    def put(self, data: bytes) -> None:
        """Give *data* to the device, whether it has room or not: echo."""
        raise NotImplementedError

    def translated(self, char: int) -> bytes:
        """What goes to the device for *char*, which is shown."""
        return self.ldisc.output.process(char, self.termios)

    def write_room(self) -> int:
        """How many bytes the device takes now."""
        raise NotImplementedError

    def flush_output(self) -> None:
        """Forget what the device has not shown yet."""

    def input_flushed(self) -> None:
        """What was typed is forgotten: room for more, and the other end of a pair may want to know."""

    def input_taken(self) -> None:
        """Some of what was typed has been read: there is room for more."""

    def opened(self) -> None:
        """One more open file."""
        self.count += 1

    def closed(self) -> None:
        """One open file fewer."""
        self.count -= 1

    def free(self) -> None:
        """It is gone."""
        self.kernel.node.slab.kfree(self._memory)

    # ---- what the line discipline asks for

    def signal(self, sig: int) -> None:
        """*sig* for the foreground group."""
        if self.pgrp:
            kill_pgrp(self.kernel, self.pgrp, sig)

    def readable(self) -> None:
        """Tell readers."""
        self.read_wait.wake(key=READABLE)

    def set_stopped(self, *, stopped: bool) -> None:
        """^S and ^Q (stop_tty, start_tty)."""
        if stopped == self.stopped:
            return
        self.stopped = stopped
        self.flow_changed()
        if not stopped:
            self.ldisc.output_goes_on()
            self.write_wait.wake(key=WRITABLE)

    def flow_changed(self) -> None:
        """Output was stopped or goes on."""

    def modes_changed(self, old: Termios) -> None:
        """Other modes than *old* are in force."""

    def disassociate(self, process: Process) -> None:
        """*process*, the leader of the session, ends."""
        disassociate(process, self, on_exit=True)

    # ---- sessions

    def hang_up(self) -> None:
        """Nobody is at the terminal any more (__tty_hangup): its session's leader is told, and files become dead."""
        self.hung_up = True
        self._leave_session(tell_leader=True)
        self.ldisc.flush()
        self.read_wait.wake(key=READABLE | WRITABLE | POLLHUP | POLLERR)
        self.write_wait.wake(key=READABLE | WRITABLE | POLLHUP | POLLERR)

    def _leave_session(self, *, tell_leader: bool) -> None:
        leave_session(self, tell_leader=tell_leader)
        self.session = self.pgrp = 0

    def resize(self, winsize: tuple[int, int, int, int]) -> None:
        """TIOCSWINSZ: the foreground group hears of another size (tty_do_resize)."""
        if winsize != self.winsize:
            self.winsize = winsize
            self.signal(SIGWINCH)

    # ---- reading and writing, as files do

    def read(self, count: int, *, at_once: bool = False) -> bytes:
        """What n_tty_read gives now; *at_once*: what there is will do, as nobody waits or VTIME has passed.

        Errors:
            WouldBlock, with the time after which to come back; EIO, ERESTARTSYS: a background process.
        """
        check_change(self, SIGTTIN)
        termios = self.termios
        least = 1
        if not termios.lflag & t.ICANON:
            least = min(termios.cc[t.VMIN], count)
        if self.ldisc.available(least) or (at_once and self.ldisc.available()):
            data = self.ldisc.read(count)
            self.input_taken()
            return data
        if self.other_closed:
            raise LinuxError(Errno.EIO, "nobody is at the other end")
        if termios.lflag & t.ICANON:
            raise WouldBlock(self.read_wait, "no line yet")
        return self._wait_for_more(termios, least, at_once=at_once)

    def _wait_for_more(self, termios: Termios, least: int, *, at_once: bool) -> bytes:
        """VMIN and VTIME: termios(3), non-canonical mode."""
        tenths = termios.cc[t.VTIME]
        if not least and (at_once or not tenths):
            return b""
        timed = tenths and (not least or self.ldisc.available())
        raise WouldBlock(self.read_wait, "too few bytes yet", tenths * _NS_PER_TENTH if timed else None)

    def write(self, data: bytes) -> int:
        """Show *data*, or the beginning of it for which there is room (n_tty_write)."""
        if self.termios.lflag & t.TOSTOP:
            check_change(self, SIGTTOU)
        if self.other_closed:
            raise LinuxError(Errno.EIO, "nobody is at the other end")
        room = 0 if self.stopped else self.write_room()
        out = bytearray()
        done = 0
        for char in data[:_WRITE_CHUNK]:
            if len(out) + 8 > room:  # a tab may become eight spaces
                break
            out += self.translated(char)
            done += 1
        if not done and data:
            raise WouldBlock(self.write_wait, "no room")
        self.put(bytes(out))
        return done

    def poll(self) -> int:
        """POLL* (n_tty_poll)."""
        cc, lflag = self.termios.cc, self.termios.lflag
        least = cc[t.VMIN] if not lflag & t.ICANON and not cc[t.VTIME] else 1
        events = READABLE if self.ldisc.available(least) else 0
        if self.packet and self.packet_status:
            events |= POLLPRI | READABLE
        if self.other_closed:
            events |= POLLHUP
        if not self.stopped and self.write_room() > 0:
            events |= WRITABLE
        return events


class TtyFile(OpenFile):
    """An open terminal."""

    __slots__ = ("tty",)

    def __init__(self, path: Path, flags: int, tty: Tty) -> None:
        super().__init__(path, flags)
        self.tty = tty
        tty.opened()

    def release(self) -> None:
        """Close."""
        self.tty.closed()

    def read(self, count: int) -> bytes:
        """What was typed."""
        if self.tty.hung_up:
            return b""
        return self.tty.read(count, at_once=bool(self.flags & O_NONBLOCK)) if count else b""

    def read_expired(self, count: int) -> bytes:
        """The same, after VTIME."""
        return b"" if self.tty.hung_up else self.tty.read(count, at_once=True)

    def unread(self, data: bytes) -> None:
        """What was read is lost, as on Linux."""

    def write(self, data: bytes) -> int:
        """Show."""
        if self.tty.hung_up:
            raise LinuxError(Errno.EIO, "the terminal was hung up")
        return self.tty.write(data)

    def poll(self) -> int:
        """What can be done now."""
        if self.tty.hung_up:
            return READABLE | WRITABLE | POLLERR | POLLHUP
        return self.tty.poll()

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        """Both directions."""
        return self.tty.read_wait, self.tty.write_wait

    def ioctl(self, task: Any, request: int, arg: int) -> int:
        """Terminal requests."""
        from minikernel.tty.ioctl import tty_ioctl

        return tty_ioctl(task, self, request, arg)
