"""POSIX timers and timer descriptors as user space sees them.

Source: include/uapi/asm-generic/siginfo.h (struct sigevent), include/uapi/linux/time.h, timerfd.h, signalfd.h.
"""

from struct import Struct
from typing import Final, NamedTuple

from minikernel.abi.abi import Abi
from minikernel.abi.siginfo import Layout, Siginfo
from minikernel.abi.time import (
    pack_timespec,
    pack_timespec64,
    pair_size,
    timespec_ns,
    unpack_timespec,
    unpack_timespec64,
)

SIGEV_SIGNAL: Final = 0
SIGEV_NONE: Final = 1
SIGEV_THREAD: Final = 2
SIGEV_THREAD_ID: Final = 4
SIGEVENT_SIZE: Final = 64
TIMESPEC64_SIZE: Final = 16

TFD_TIMER_ABSTIME: Final = 1
TFD_TIMER_CANCEL_ON_SET: Final = 2
TFD_IOC_SET_TICKS: Final = 0x4008_5400

_SIGEVENT = {8: Struct("<Qiii"), 4: Struct("<Iiii")}  # value, signo, notify, thread id
_SIGINFO = Struct("<IiiIIiIIIIiiQQQQHHiQI28x")
SIGNALFD_SIGINFO_SIZE: Final = _SIGINFO.size


class Sigevent(NamedTuple):
    """A struct sigevent: how a timer tells of its expiry.  *value*: a sigval, unsigned."""

    value: int
    signo: int
    notify: int
    thread_id: int


def unpack_sigevent(abi: Abi, data: bytes) -> Sigevent:
    """The fields of a struct sigevent."""
    return Sigevent(*_SIGEVENT[abi.word].unpack_from(data))


def itimerspec_size(abi: Abi, *, wide: bool) -> int:
    """Bytes of struct itimerspec; *wide*: of struct __kernel_itimerspec."""
    return 2 * (TIMESPEC64_SIZE if wide else pair_size(abi))


def pack_itimerspec(abi: Abi, value: int, interval: int, *, wide: bool) -> bytes:
    """A struct itimerspec of times in ns."""
    if wide:
        return pack_timespec64(interval) + pack_timespec64(value)
    return pack_timespec(abi, interval) + pack_timespec(abi, value)


def unpack_itimerspec(abi: Abi, data: bytes, *, wide: bool) -> tuple[int, int]:
    """Value and interval of a struct itimerspec, in ns.  Errors: EINVAL (itimerspec64_valid)."""
    half = len(data) // 2
    if wide:
        interval, value = unpack_timespec64(abi, data[:half]), unpack_timespec64(abi, data[half:])
    else:
        interval, value = unpack_timespec(abi, data[:half]), unpack_timespec(abi, data[half:])
    return timespec_ns(*value), timespec_ns(*interval)


def pack_signalfd_siginfo(info: Siginfo) -> bytes:
    """A struct signalfd_siginfo: only what the layout of *info* has (signalfd_copyinfo)."""
    layout = info.layout
    has_sender = layout in {Layout.KILL, Layout.CHLD, Layout.RT}
    value = info.value if layout in {Layout.RT, Layout.TIMER} else 0
    integer = ((value & 0xFFFF_FFFF) ^ 0x8000_0000) - 0x8000_0000
    is_timer, is_child, is_poll = layout is Layout.TIMER, layout is Layout.CHLD, layout is Layout.POLL
    is_sys = layout is Layout.SYS
    return _SIGINFO.pack(
        info.signo,
        info.errno,
        info.code,
        info.pid if has_sender else 0,
        info.uid if has_sender else 0,
        info.fd if is_poll else 0,
        info.timer_id & 0xFFFF_FFFF if is_timer else 0,
        info.band & 0xFFFF_FFFF if is_poll else 0,
        info.overrun & 0xFFFF_FFFF if is_timer else 0,
        0,
        info.status if is_child else 0,
        integer,
        value & 0xFFFF_FFFF_FFFF_FFFF,
        info.utime if is_child else 0,
        info.stime if is_child else 0,
        info.addr if layout is Layout.FAULT else 0,
        0,
        0,
        info.syscall if is_sys else 0,
        info.addr if is_sys else 0,
        info.arch & 0xFFFF_FFFF if is_sys else 0,
    )


assert SIGNALFD_SIGINFO_SIZE == 128, "timer: struct signalfd_siginfo"
