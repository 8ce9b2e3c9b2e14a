"""The requests of terminals.  Linux: drivers/tty/tty_ioctl.c, tty_io.c (tty_ioctl), n_tty.c, pty.c."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from minikernel.abi import ioctl as io
from minikernel.abi import termios as t
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.signal import SIGINT, SIGQUIT, SIGTSTP, SIGTTOU
from minikernel.mm.uaccess import copy_from_user, copy_to_user, get_user, put_user
from minikernel.tty import jobctl
from minikernel.tty.jobctl import check_change

if TYPE_CHECKING:
    from minikernel.task.task import Task
    from minikernel.tty.pty import Pty
    from minikernel.tty.tty import Tty, TtyFile

_WINSIZE_SIZE: Final = 8
_N_TTY: Final = 0
_KEY_SIGNALS: Final = (SIGINT, SIGQUIT, SIGTSTP)  # what TIOCSIG may send

# request: bytes of the structure, what is forgotten first (1: what was typed)
_SETS: Final = {
    io.TCSETS: (t.TERMIOS_SIZE, 0),
    io.TCSETSW: (t.TERMIOS_SIZE, 0),
    io.TCSETSF: (t.TERMIOS_SIZE, 1),
    t.TCSETS2: (t.TERMIOS2_SIZE, 0),
    t.TCSETSW2: (t.TERMIOS2_SIZE, 0),
    t.TCSETSF2: (t.TERMIOS2_SIZE, 1),
    t.TCSETA: (t.TERMIO_SIZE, 0),
    t.TCSETAW: (t.TERMIO_SIZE, 0),
    t.TCSETAF: (t.TERMIO_SIZE, 1),
}
_GETS: Final[dict[int, Callable[[t.Termios], bytes]]] = {
    io.TCGETS: t.Termios.pack,
    t.TCGETS2: t.Termios.pack2,
    io.TCGETA: t.Termios.pack_old,
}
_HARMLESS: Final = frozenset({io.TCSBRK, t.TCSBRKP})  # a break, which no terminal of ours could show


def tty_ioctl(task: Task, file: TtyFile, request: int, arg: int) -> int:
    """Answer *request* about the terminal that *file* is open on.

    Errors:
        ENOTTY: no terminal has it; EIO: the terminal was hung up; EFAULT, and what the request says.
    """
    tty = file.tty
    if tty.hung_up:
        raise LinuxError(Errno.ENOTTY if request == io.TIOCSPGRP else Errno.EIO, "the terminal was hung up")
    answer = _pair_ioctl(task, file, request, arg)
    if answer is None:
        answer = _modes_ioctl(task, tty.real, request, arg)
    if answer is None:
        answer = _session_ioctl(task, file, request, arg)
    if answer is None:
        answer = _other_ioctl(task, tty, request, arg)
    if answer is None:
        raise LinuxError(Errno.ENOTTY, f"terminal request {request:#x}")
    return answer


def set_termios(tty: Tty, new: t.Termios) -> None:
    """Other modes are in force (tty_set_termios)."""
    old = tty.termios
    tty.termios = new
    tty.ldisc.modes_changed(old)
    tty.modes_changed(old)


def _modes_ioctl(task: Task, tty: Tty, request: int, arg: int) -> int | None:
    """Modes and window size; of a pair, the slave's."""
    if request in _GETS:
        copy_to_user(task.mm, arg, _GETS[request](tty.termios))
        return 0
    if request in _SETS:
        size, flushes = _SETS[request]
        check_change(tty, SIGTTOU)
        data = copy_from_user(task.mm, arg, size)
        if flushes:
            tty.ldisc.flush()
        new = tty.termios.with_new(data)
        new.cflag = new.cflag & ~(t.CSIZE | t.PARENB) | t.CS8 | t.CREAD  # a pair knows nothing else (pty_set_termios)
        set_termios(tty, new)
        return 0
    if request == io.TIOCGWINSZ:
        copy_to_user(task.mm, arg, t.pack_winsize(tty.winsize))
        return 0
    if request == io.TIOCSWINSZ:
        tty.resize(t.unpack_winsize(copy_from_user(task.mm, arg, _WINSIZE_SIZE)))
        return 0
    return None


def _session_ioctl(task: Task, file: TtyFile, request: int, arg: int) -> int | None:
    """Sessions and process groups."""
    tty = file.tty
    real = tty.real
    if request == io.TIOCSCTTY:
        jobctl.set_by_request(task, tty, steal=arg == 1, readable=file.readable)
    elif request == io.TIOCNOTTY:
        jobctl.give_up(task, tty)
    elif request in {io.TIOCGPGRP, io.TIOCGSID}:
        if tty is real and task.process.tty is not real:
            raise LinuxError(Errno.ENOTTY, "not the controlling terminal")
        if request == io.TIOCGSID and not real.session:
            raise LinuxError(Errno.ENOTTY, "it controls no session")
        put_user(task.mm, arg, real.pgrp if request == io.TIOCGPGRP else real.session, 4)
    elif request == io.TIOCSPGRP:
        check_change(real, SIGTTOU)
        jobctl.set_foreground(task, real, get_user(task.mm, arg, 4))
    else:
        return None
    return 0


def _other_ioctl(task: Task, tty: Tty, request: int, arg: int) -> int | None:
    """Queues, flow, exclusive use."""
    if request == io.FIONREAD:
        put_user(task.mm, arg, tty.ldisc.nr_readable, 4)
    elif request == io.TIOCOUTQ:
        put_user(task.mm, arg, 0, 4)
    elif request == io.TCFLSH:
        check_change(tty, SIGTTOU)
        _flush(tty, arg)
    elif request == io.TCXONC:
        check_change(tty, SIGTTOU)
        _flow(tty, arg)
    elif request in _HARMLESS:
        check_change(tty, SIGTTOU)
    elif request in {t.TIOCEXCL, t.TIOCNXCL}:
        tty.is_exclusive = request == t.TIOCEXCL
    elif request == t.TIOCGEXCL:
        put_user(task.mm, arg, int(tty.is_exclusive), 4)
    elif request == t.TIOCGETD:
        put_user(task.mm, arg, _N_TTY, 4)
    elif request == t.TIOCSETD:
        if get_user(task.mm, arg, 4) != _N_TTY:
            raise LinuxError(Errno.EINVAL, "there is one line discipline")
    elif request == t.TIOCSTI:
        raise LinuxError(Errno.EIO, "dev.tty.legacy_tiocsti is 0")
    elif request == t.TIOCVHANGUP:
        if task.cred.euid:
            raise LinuxError(Errno.EPERM, "vhangup is the superuser's")
        tty.hang_up()
    else:
        return None
    return 0


def _flush(tty: Tty, which: int) -> None:
    if which not in {t.TCIFLUSH, t.TCOFLUSH, t.TCIOFLUSH}:
        raise LinuxError(Errno.EINVAL, f"TCFLSH {which}")
    if which in {t.TCIFLUSH, t.TCIOFLUSH}:
        tty.ldisc.flush()
    if which in {t.TCOFLUSH, t.TCIOFLUSH}:
        tty.flush_output()


def _flow(tty: Tty, how: int) -> None:
    if how in {t.TCOOFF, t.TCOON}:
        tty.set_stopped(stopped=how == t.TCOOFF)
    elif how not in {t.TCIOFF, t.TCION}:
        raise LinuxError(Errno.EINVAL, f"TCXONC {how}")
    else:
        char = tty.termios.cc[t.VSTOP if how == t.TCIOFF else t.VSTART]
        if char != t.DISABLED_CHAR:
            tty.put(bytes((char,)))


# ---- pairs


def _pair_ioctl(task: Task, file: TtyFile, request: int, arg: int) -> int | None:
    """What a master has, and a slave does not (pty_unix98_ioctl)."""
    pair: Pty | None = file.tty.pair
    if pair is None or file.tty is not pair.master:
        return None
    master = pair.master
    if request == t.TIOCGPTN:
        put_user(task.mm, arg, pair.index, 4)
    elif request == t.TIOCSPTLCK:
        pair.locked = bool(get_user(task.mm, arg, 4))
    elif request == t.TIOCGPTLCK:
        put_user(task.mm, arg, int(pair.locked), 4)
    elif request == t.TIOCPKT:
        master.set_packet(on=bool(get_user(task.mm, arg, 4)))
    elif request == t.TIOCGPKT:
        put_user(task.mm, arg, int(master.packet), 4)
    elif request == t.TIOCSIG:
        if arg not in _KEY_SIGNALS:
            raise LinuxError(Errno.EINVAL, f"signal {arg}")
        pair.slave.signal(arg)
    elif request == t.TIOCGPTPEER:
        return _open_peer(task, pair, arg)
    else:
        return None
    return 0


def _open_peer(task: Task, pair: Pty, flags: int) -> int:
    """A descriptor of the slave, by no name (ptm_open_peer)."""
    from minikernel.abi.fcntl import O_ACCMODE, O_CLOEXEC, O_NOCTTY
    from minikernel.abi.resource import RLIMIT_NOFILE

    if flags & ~(O_ACCMODE | O_CLOEXEC | O_NOCTTY):
        raise LinuxError(Errno.EINVAL, f"open flags {flags:#o}")
    made = pair.open_slave(pair.slave_path(), flags & ~O_CLOEXEC)
    return task.files.add(made, task.rlimits[RLIMIT_NOFILE][0], cloexec=bool(flags & O_CLOEXEC))
