"""Sessions, their controlling terminals, and who may use one now.  Linux: drivers/tty/tty_jobctrl.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikernel.abi import signal as s
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.task.jobctl import first_thread, is_orphaned_pgrp
from minikernel.task.signal import send_signal

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.task.task import Process, Task
    from minikernel.tty.tty import Tty


def processes(kernel: Kernel) -> list[Process]:
    """Every process, in the order of their leaders' ids."""
    return [task.process for task in kernel.tasks.values() if task is task.process.leader]


def kill_pgrp(kernel: Kernel, pgrp: int, sig: int) -> None:
    """*sig* for every process of the group, from the kernel (same name)."""
    for process in processes(kernel):
        if process.pgrp == pgrp and process.threads:
            send_signal(first_thread(process), Siginfo(sig, s.SI_KERNEL), group=True)


def check_change(tty: Tty, sig: int) -> None:
    """Whether the running process may read from *tty* (SIGTTIN), or change it (SIGTTOU): __tty_check_change.

    Errors:
        EIO: it is in the background and cannot be stopped; ERESTARTSYS: it has been sent *sig*.
    """
    task = tty.kernel.current
    if task is None or task.process.tty is not tty or not tty.pgrp or task.pgrp == tty.pgrp:
        return
    action = task.process.actions[sig]
    if task.blocked & s.sigmask(sig) or action.handler == s.SIG_IGN:
        if sig == s.SIGTTIN:
            raise LinuxError(Errno.EIO, "a background process that ignores SIGTTIN")
        return
    if is_orphaned_pgrp(tty.kernel, task.pgrp):
        raise LinuxError(Errno.EIO, "nobody could continue the process group")
    kill_pgrp(tty.kernel, task.pgrp, sig)
    task.sigpending = True
    raise LinuxError(Errno.ERESTARTSYS, "a background process")


def set_controlling(task: Task, tty: Tty) -> None:
    """*tty* controls the session of *task* (__proc_set_tty)."""
    tty.session, tty.pgrp = task.session, task.pgrp
    task.process.tty = tty


def set_by_request(task: Task, tty: Tty, *, steal: bool, readable: bool) -> None:
    """TIOCSCTTY (tiocsctty).  Errors: EPERM."""
    if task.session == task.tgid and tty.session == task.session:
        return
    if task.session != task.tgid or task.process.tty is not None:
        raise LinuxError(Errno.EPERM, "no session leader, or it has a terminal already")
    privileged = task.cred.euid == 0
    if tty.session:
        if not (steal and privileged):
            raise LinuxError(Errno.EPERM, "the terminal is another session's")
        clear_session(tty.kernel, tty)
    if not readable and not privileged:
        raise LinuxError(Errno.EPERM, "the terminal is not open for reading")
    set_controlling(task, tty)


def clear_session(kernel: Kernel, tty: Tty) -> None:
    """No process has *tty* any more (session_clear_tty)."""
    for process in processes(kernel):
        if process.tty is tty:
            process.tty = None


def leave_session(tty: Tty, *, tell_leader: bool) -> None:
    """The session has no terminal any more; its leader hears SIGHUP and SIGCONT (tty_signal_session_leader)."""
    kernel = tty.kernel
    if not tty.session:
        return
    for process in processes(kernel):
        if process.session != tty.session:
            continue
        if process.tty is tty:
            process.tty = None
        if tell_leader and process.pid == process.session and process.threads:
            for sig in (s.SIGHUP, s.SIGCONT):
                send_signal(first_thread(process), Siginfo(sig, s.SI_KERNEL), group=True)


def disassociate(process: Process, tty: Tty, *, on_exit: bool) -> None:
    """The leader of a session ends, or gives its terminal up (disassociate_ctty)."""
    kernel, group = tty.kernel, tty.pgrp
    if group:
        kill_pgrp(kernel, group, s.SIGHUP)
        if not on_exit:
            kill_pgrp(kernel, group, s.SIGCONT)
    tty.session = tty.pgrp = 0
    clear_session(kernel, tty)
    process.tty = None


def give_up(task: Task, tty: Tty) -> None:
    """TIOCNOTTY.  Errors: ENOTTY: it is not the caller's."""
    if task.process.tty is not tty:
        raise LinuxError(Errno.ENOTTY, "not the controlling terminal")
    if task.session == task.tgid:
        disassociate(task.process, tty, on_exit=False)
    task.process.tty = None


def set_foreground(task: Task, tty: Tty, pgrp: int) -> None:
    """TIOCSPGRP on the terminal *tty*, the slave of a pair (tiocspgrp).  Errors: ENOTTY, EINVAL, ESRCH, EPERM."""
    if task.process.tty is not tty or tty.session != task.session:
        raise LinuxError(Errno.ENOTTY, "not the controlling terminal")
    if pgrp >> 31:
        raise LinuxError(Errno.EINVAL, "a negative process group")
    members = [process for process in processes(tty.kernel) if process.pgrp == pgrp]
    if not members:
        raise LinuxError(Errno.ESRCH, f"no process group {pgrp}")
    if members[0].session != task.session:
        raise LinuxError(Errno.EPERM, "a process group of another session")
    tty.pgrp = pgrp
