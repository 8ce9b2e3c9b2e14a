"""Signals as the protocol numbers them, which is gdb's own way.  Source: gdb, include/gdb/signals.def."""

from typing import Final

from minikernel.abi import signal as s

_UNKNOWN: Final = 143
_FROM_LINUX: Final = {
    s.SIGHUP: 1, s.SIGINT: 2, s.SIGQUIT: 3, s.SIGILL: 4, s.SIGTRAP: 5, s.SIGABRT: 6, s.SIGBUS: 10, s.SIGFPE: 8,
    s.SIGKILL: 9, s.SIGUSR1: 30, s.SIGSEGV: 11, s.SIGUSR2: 31, s.SIGPIPE: 13, s.SIGALRM: 14, s.SIGTERM: 15,
    s.SIGCHLD: 20, s.SIGCONT: 19, s.SIGSTOP: 17, s.SIGTSTP: 18, s.SIGTTIN: 21, s.SIGTTOU: 22, s.SIGURG: 16,
    s.SIGXCPU: 24, s.SIGXFSZ: 25, s.SIGVTALRM: 26, s.SIGPROF: 27, s.SIGWINCH: 28, s.SIGIO: 23, s.SIGPWR: 32,
    s.SIGSYS: 12,
    32: 77, 64: 78, **{sig: sig + 12 for sig in range(33, 64)},
}  # fmt: skip
_TO_LINUX: Final = {number: sig for sig, number in _FROM_LINUX.items()}
GDB_SIGINT: Final = 2
GDB_SIGTRAP: Final = 5


def to_gdb(sig: int) -> int:
    """Gdb's number of a signal of Linux (SIGSTKFLT has none: unknown)."""
    return _FROM_LINUX.get(sig, _UNKNOWN)


def from_gdb(number: int) -> int:
    """Linux's number of a signal of gdb; 0: there is no such signal here."""
    return _TO_LINUX.get(number, 0)
