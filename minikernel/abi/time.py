"""Clocks and the structures of time, in nanoseconds on our side.

Source: include/uapi/linux/time.h, time_types.h; include/vdso/time32.h for the 32-bit forms of i386.
"""

from struct import Struct
from typing import Final

from minikernel.abi.abi import Abi
from minikernel.abi.errno import Errno, LinuxError

NSEC_PER_SEC: Final = 1_000_000_000
NSEC_PER_USEC: Final = 1_000
USEC_PER_SEC: Final = 1_000_000
USER_HZ: Final = 100  # clock_t ticks a second
NSEC_PER_TICK: Final = NSEC_PER_SEC // USER_HZ
KTIME_MAX: Final = (1 << 63) - 1  # ns; longer times are cut to this

CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
CLOCK_PROCESS_CPUTIME_ID: Final = 2
CLOCK_THREAD_CPUTIME_ID: Final = 3
CLOCK_MONOTONIC_RAW: Final = 4
CLOCK_REALTIME_COARSE: Final = 5
CLOCK_MONOTONIC_COARSE: Final = 6
CLOCK_BOOTTIME: Final = 7
CLOCK_REALTIME_ALARM: Final = 8
CLOCK_BOOTTIME_ALARM: Final = 9
CLOCK_TAI: Final = 11

TIMER_ABSTIME: Final = 1
ITIMER_REAL: Final = 0
ITIMER_VIRTUAL: Final = 1
ITIMER_PROF: Final = 2

_PAIR64 = Struct("<qq")
_PAIR32 = Struct("<ii")
_ABI_PAIR = {8: _PAIR64, 4: _PAIR32}
_MASK32 = 0xFFFF_FFFF


def _int32(value: int) -> int:
    """The low 32 bits of *value*, signed: what a 32-bit field keeps of it."""
    return ((value & _MASK32) ^ 0x8000_0000) - 0x8000_0000


def pair_size(abi: Abi) -> int:
    """Bytes of the ABI's own struct timespec, and of its struct timeval."""
    return 2 * abi.word


def pack_timespec(abi: Abi, nanoseconds: int) -> bytes:
    """A struct timespec of the ABI's own width; i386 keeps 32 bits of the seconds."""
    seconds, rest = divmod(nanoseconds, NSEC_PER_SEC)
    if abi.word == 8:
        return _PAIR64.pack(seconds, rest)
    return _PAIR32.pack(_int32(seconds), rest)


def pack_timespec64(nanoseconds: int) -> bytes:
    """A struct __kernel_timespec: the time64 calls of i386."""
    return _PAIR64.pack(*divmod(nanoseconds, NSEC_PER_SEC))


def timespec_ns(seconds: int, nanoseconds: int) -> int:
    """A valid timespec in ns, no more than KTIME_MAX.

    Errors:
        EINVAL: negative seconds, or a part of a second that is not one (timespec64_valid).
    """
    if seconds < 0 or not 0 <= nanoseconds < NSEC_PER_SEC:
        raise LinuxError(Errno.EINVAL, "timespec: not a time")
    return min(seconds * NSEC_PER_SEC + nanoseconds, KTIME_MAX)


def unpack_timespec(abi: Abi, data: bytes) -> tuple[int, int]:
    """Seconds and nanoseconds of a struct timespec of the ABI's own width, unchecked."""
    seconds, nanoseconds = _ABI_PAIR[abi.word].unpack(data)
    return seconds, nanoseconds


def unpack_timespec64(abi: Abi, data: bytes) -> tuple[int, int]:
    """Seconds and nanoseconds of a struct __kernel_timespec, unchecked.

    A 32-bit program leaves garbage above the 32 bits of its tv_nsec (get_timespec64, kernel/time/time.c).
    """
    seconds, nanoseconds = _PAIR64.unpack(data)
    return seconds, nanoseconds if abi.word == 8 else _int32(nanoseconds)


def pack_timeval(abi: Abi, nanoseconds: int) -> bytes:
    """A struct timeval of the ABI's own width."""
    seconds, rest = divmod(nanoseconds, NSEC_PER_SEC)
    if abi.word == 8:
        return _PAIR64.pack(seconds, rest // NSEC_PER_USEC)
    return _PAIR32.pack(_int32(seconds), rest // NSEC_PER_USEC)


def unpack_timeval(abi: Abi, data: bytes) -> tuple[int, int]:
    """Seconds and microseconds of a struct timeval of the ABI's own width, unchecked."""
    seconds, microseconds = _ABI_PAIR[abi.word].unpack(data)
    return seconds, microseconds


def timeval_ns(seconds: int, microseconds: int) -> int:
    """A valid timeval in ns, no more than KTIME_MAX.

    Errors:
        EINVAL: negative seconds, or a part of a second that is not one (timeval_valid).
    """
    if seconds < 0 or not 0 <= microseconds < USEC_PER_SEC:
        raise LinuxError(Errno.EINVAL, "timeval: not a time")
    return min(seconds * NSEC_PER_SEC + microseconds * NSEC_PER_USEC, KTIME_MAX)


def ticks(nanoseconds: int) -> int:
    """*nanoseconds* in clock_t ticks (USER_HZ)."""
    return nanoseconds // NSEC_PER_TICK
