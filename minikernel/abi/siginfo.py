"""siginfo_t: why a signal came.  One value with all fields; which of them exist depends on signal and code.

Source: include/uapi/asm-generic/siginfo.h; kernel/signal.c: siginfo_layout, copy_siginfo_to_external32.
"""

from enum import Enum
from struct import Struct, pack_into, unpack_from
from typing import Final, NamedTuple

from minikernel.abi import signal as s
from minikernel.abi.abi import Abi

SIGINFO_SIZE: Final = 128
_HEADER = Struct("<iii")


class Layout(Enum):
    """Which member of the union counts."""

    KILL = "kill"
    TIMER = "timer"
    POLL = "poll"
    FAULT = "fault"
    CHLD = "chld"
    RT = "rt"
    SYS = "sys"


_BY_SIGNAL: Final = {
    s.SIGILL: Layout.FAULT, s.SIGFPE: Layout.FAULT, s.SIGSEGV: Layout.FAULT, s.SIGBUS: Layout.FAULT,
    s.SIGTRAP: Layout.FAULT, s.SIGCHLD: Layout.CHLD, s.SIGIO: Layout.POLL, s.SIGSYS: Layout.SYS,
}  # fmt: skip
_NR_CODES: Final = {
    s.SIGILL: 11, s.SIGFPE: 15, s.SIGSEGV: 10, s.SIGBUS: 5, s.SIGTRAP: 6, s.SIGCHLD: 6, s.SIGIO: 6, s.SIGSYS: 2,
}  # fmt: skip


def siginfo_layout(sig: int, code: int) -> Layout:
    """Which fields a siginfo of *sig* and *code* has."""
    if s.SI_USER < code < s.SI_KERNEL:
        if sig in _BY_SIGNAL and code <= _NR_CODES[sig]:
            return _BY_SIGNAL[sig]
        return Layout.POLL if code <= s.POLL_HUP else Layout.KILL
    if code == s.SI_TIMER:
        return Layout.TIMER
    if code == s.SI_SIGIO:
        return Layout.POLL
    return Layout.RT if code < 0 else Layout.KILL


class Siginfo(NamedTuple):
    """One siginfo_t.  Fields outside the layout of (signo, code) are not looked at."""

    signo: int
    code: int = s.SI_USER
    errno: int = 0
    pid: int = 0  # KILL, RT, CHLD
    uid: int = 0  # KILL, RT, CHLD
    value: int = 0  # RT, TIMER: sigval, unsigned
    addr: int = 0  # FAULT; SYS: the address of the call
    status: int = 0  # CHLD
    utime: int = 0  # CHLD, in clock ticks
    stime: int = 0  # CHLD, in clock ticks
    timer_id: int = 0  # TIMER
    overrun: int = 0  # TIMER
    band: int = 0  # POLL
    fd: int = 0  # POLL
    syscall: int = 0  # SYS
    arch: int = 0  # SYS: AUDIT_ARCH_*

    @property
    def layout(self) -> Layout:
        """Which fields count."""
        return siginfo_layout(self.signo, self.code)

    def pack(self, abi: Abi) -> bytes:
        """siginfo_t: 128 bytes."""
        data = bytearray(SIGINFO_SIZE)
        _HEADER.pack_into(data, 0, self.signo, self.errno, self.code)
        at, word = (16, "Q") if abi.word == 8 else (12, "I")  # the union is aligned to its pointers
        mask = abi.mask
        match self.layout:
            case Layout.KILL:
                pack_into("<iI", data, at, self.pid, self.uid)
            case Layout.TIMER:
                pack_into(f"<ii{word}", data, at, self.timer_id, self.overrun, self.value & mask)
            case Layout.RT:
                pack_into(f"<iI{word}", data, at, self.pid, self.uid, self.value & mask)
            case Layout.POLL:
                pack_into(f"<{word}i", data, at, self.band & mask, self.fd)
            case Layout.FAULT:
                pack_into(f"<{word}", data, at, self.addr & mask)
            case Layout.CHLD:
                # clock_t is a long: on x86-64 four bytes of padding come before it.
                gap = "4x" if abi.word == 8 else ""
                times = (self.utime & mask, self.stime & mask)
                pack_into(f"<iIi{gap}{word}{word}", data, at, self.pid, self.uid, self.status, *times)
            case Layout.SYS:
                pack_into(f"<{word}iI", data, at, self.addr & mask, self.syscall, self.arch)
        return bytes(data)


def unpack_siginfo(abi: Abi, data: bytes) -> Siginfo:
    """The siginfo_t a guest handed in (rt_sigqueueinfo(2)): header, pid, uid and value, or a timer's fields."""
    signo, errno, code = _HEADER.unpack_from(data)
    at, word = (16, "Q") if abi.word == 8 else (12, "I")
    if siginfo_layout(signo, code) is Layout.TIMER:
        timer_id, overrun, value = unpack_from(f"<ii{word}", data, at)
        return Siginfo(signo, code, errno, timer_id=timer_id, overrun=overrun, value=value)
    if siginfo_layout(signo, code) is Layout.POLL:
        band, fd = unpack_from(f"<{word}i", data, at)
        return Siginfo(signo, code, errno, band=band, fd=fd)
    pid, uid, value = unpack_from(f"<iI{word}", data, at)
    return Siginfo(signo, code, errno, pid=pid, uid=uid, value=value)
