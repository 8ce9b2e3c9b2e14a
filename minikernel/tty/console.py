"""The host's terminal as the machine's console: keys come from it, and what the machine shows goes to it.

The host's own line discipline is switched off for as long as the machine runs, so that ^C, ^Z and editing are the
guest's business; the translation of what is written is left to the host, with the guest's modes.
"""

from __future__ import annotations

import fcntl
import os
import select
from typing import TYPE_CHECKING, Final

from minikernel.abi import termios as t
from minikernel.abi.errno import LinuxError
from minikernel.abi.fcntl import O_NOCTTY
from minikernel.abi.ioctl import TCGETS, TCSETSW, TIOCGWINSZ
from minikernel.abi.poll import POLLOUT, READABLE
from minikernel.abi.signal import SIGKILL
from minikernel.abi.termios import Termios
from minikernel.fs.file import OpenFile, WouldBlock
from minikernel.fs.hostio import HostStream
from minikernel.tty.jobctl import set_controlling
from minikernel.tty.tty import Tty, TtyFile

if TYPE_CHECKING:
    from minikernel.fs.dentry import Path
    from minikernel.kernel import Kernel
    from minikernel.task.task import Task

_CHUNK: Final = 4096
_ROOM: Final = 65536
_WINSIZE_SIZE: Final = 8
_ESCAPE: Final = 0x1D  # ^]
_ESCAPES: Final = 3  # in a row: the machine is switched off
_RAW_IFLAG: Final = 0o1 | 0o2 | t.PARMRK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL | t.IXON  # with IGNBRK and BRKINT
_RAW_LFLAG: Final = t.ECHO | t.ECHONL | t.ICANON | t.ISIG | t.IEXTEN


class Console(Tty):
    """The terminal that standard input is.  Stays in the queue of the host's stream, and takes what comes."""

    __slots__ = ("_escapes", "_is_raw", "_stream")

    exclusive = False  # as a watcher: others may hear, too

    def __init__(self, kernel: Kernel, stream: HostStream) -> None:
        """Errors: ENOMEM."""
        super().__init__(kernel, b"console", stream.inode.rdev)
        self._stream = stream
        self._is_raw = False
        self._escapes = 0
        self.termios = Termios().with_new(stream.ask(TCGETS, bytes(t.TERMIOS_SIZE)))
        self.winsize = self._host_size()
        stream.inode.queue.watch(self)

    def _host_size(self) -> tuple[int, int, int, int]:
        return t.unpack_winsize(self._stream.ask(TIOCGWINSZ, bytes(_WINSIZE_SIZE)))

    # ---- keys: a watcher of the host's stream

    @property
    def events(self) -> int:
        """It wants keys as long as there is room for them."""
        return READABLE if self.ldisc.room() > 0 else 0

    def is_awaited(self) -> bool:
        """A key can wake any task: ^C, if nothing else."""
        return True

    def on_wake(self, key: int) -> bool:
        """The host has keys."""
        del key
        while (room := min(self.ldisc.room(), _CHUNK)) > 0:
            try:
                data = self._stream.read(room)
            except WouldBlock:
                break
            except LinuxError:
                data = b""
            if not data:
                self.hang_up()
                break
            self._typed(data)
        self._stream.inode.announced = False
        return True

    def _typed(self, data: bytes) -> None:
        for char in data:
            self._escapes = self._escapes + 1 if char == _ESCAPE else 0
            if self._escapes == _ESCAPES:
                self.kernel.exit_code = SIGKILL
        self.ldisc.receive(data)

    # ---- the screen

    def translated(self, char: int) -> bytes:
        """The host translates; only the column is counted here."""
        super().translated(char)
        return bytes((char,))

    def put(self, data: bytes) -> None:
        """Show *data*, however long the host takes."""
        while data:
            try:
                data = data[self._stream.write(data) :]
            except WouldBlock:
                self._wait_for_host()
            except LinuxError:
                return  # the host's terminal is gone; reading will tell

    def _wait_for_host(self) -> None:
        if os.isatty(self._stream.fd):  # not where a record plays the terminal
            poller = select.poll()
            poller.register(self._stream.fd, POLLOUT)
            poller.poll()

    def write_room(self) -> int:
        """The host takes all."""
        return _ROOM

    def modes_changed(self, old: Termios) -> None:
        """The host translates as the guest wants it."""
        if self._is_raw and old.oflag != self.termios.oflag:
            self._set_host()

    def host_resized(self) -> None:
        """The window of the host's terminal has another size (SIGWINCH)."""
        self.resize(self._host_size())

    # ---- the host's modes

    def take_host(self) -> None:
        """From now on keys have no meaning for the host.  ``HostInode.restore`` undoes it."""
        inode = self._stream.inode
        if os.isatty(self._stream.fd):
            inode.saved_termios = fcntl.ioctl(self._stream.fd, TCGETS, bytes(t.TERMIOS_SIZE))
            self._is_raw = True
            self._set_host()

    def _set_host(self) -> None:
        saved = self._stream.inode.saved_termios
        assert saved is not None, "Console._set_host: nothing to go back to"
        modes = Termios().with_new(saved)
        modes.iflag &= ~_RAW_IFLAG
        modes.lflag &= ~_RAW_LFLAG
        modes.oflag = self.termios.oflag
        cc = bytearray(modes.cc)
        cc[t.VMIN], cc[t.VTIME] = 1, 0
        modes.cc = bytes(cc)
        fcntl.ioctl(self._stream.fd, TCSETSW, modes.pack())

    # ---- opening it again

    def open(self, path: Path, flags: int) -> OpenFile:
        """By its name."""
        file = TtyFile(path, flags & ~O_NOCTTY, self)
        task = self.kernel.current
        may_control = not flags & O_NOCTTY and file.readable and not self.session
        if may_control and task is not None and task.session == task.tgid and task.process.tty is None:
            set_controlling(task, self)
        return file


def attach_console(kernel: Kernel, task: Task) -> None:
    """Make the terminal that *task*, the first one, has as standard input its controlling terminal; if it is one."""
    files = task.files
    stream = files.fds[0] if files.fds else None
    if not isinstance(stream, HostStream) or not stream.inode.is_tty:
        return
    console = kernel.console = Console(kernel, stream)
    stream.get_file()
    stream.inode.console = console
    set_controlling(task, console)
    for fd, file in enumerate(list(files.fds)):
        if isinstance(file, HostStream) and file.inode is stream.inode:
            path, flags = file.f_path, file.flags
            files.close(fd)
            files.install(fd, TtyFile(path, flags, console), cloexec=False)
