"""Resource limits and usage.

Source: include/uapi/asm-generic/resource.h, include/asm-generic/resource.h (INIT_RLIMITS),
include/uapi/linux/resource.h.
"""

from struct import Struct
from typing import Final

from minikernel.abi.abi import Abi
from minikernel.abi.time import pack_timeval

RLIMIT_CPU: Final = 0
RLIMIT_FSIZE: Final = 1
RLIMIT_DATA: Final = 2
RLIMIT_STACK: Final = 3
RLIMIT_CORE: Final = 4
RLIMIT_RSS: Final = 5
RLIMIT_NPROC: Final = 6
RLIMIT_NOFILE: Final = 7
RLIMIT_MEMLOCK: Final = 8
RLIMIT_AS: Final = 9
RLIMIT_LOCKS: Final = 10
RLIMIT_SIGPENDING: Final = 11
RLIMIT_MSGQUEUE: Final = 12
RLIMIT_NICE: Final = 13
RLIMIT_RTPRIO: Final = 14
RLIMIT_RTTIME: Final = 15
RLIM_NLIMITS: Final = 16

RLIM_INFINITY: Final = (1 << 64) - 1
RLIM32_INFINITY: Final = (1 << 32) - 1  # on i386
OLD_RLIM32_MAX: Final = 0x7FFF_FFFF  # i386's first getrlimit

STACK_LIMIT: Final = 8 << 20
MEMLOCK_LIMIT: Final = 8 << 20  # MLOCK_LIMIT since Linux 5.16
NOFILE_SOFT: Final = 1024  # INR_OPEN_CUR
NOFILE_HARD: Final = 4096  # INR_OPEN_MAX
MSGQUEUE_LIMIT: Final = 819200  # MQ_BYTES_MAX

NR_OPEN: Final = 1024 * 1024  # sysctl_nr_open: the ceiling of RLIMIT_NOFILE


def default_rlimits(nr_processes: int = 4096) -> list[list[int]]:
    """[soft, hard] of the first task, by RLIMIT_*.  *nr_processes*: half the threads memory allows (fork_init)."""
    limits = [[RLIM_INFINITY, RLIM_INFINITY] for _ in range(RLIM_NLIMITS)]
    limits[RLIMIT_STACK][0] = STACK_LIMIT
    limits[RLIMIT_CORE][0] = 0
    limits[RLIMIT_NPROC] = [nr_processes, nr_processes]
    limits[RLIMIT_NOFILE] = [NOFILE_SOFT, NOFILE_HARD]
    limits[RLIMIT_MEMLOCK] = [MEMLOCK_LIMIT, MEMLOCK_LIMIT]
    limits[RLIMIT_SIGPENDING] = [nr_processes, nr_processes]
    limits[RLIMIT_MSGQUEUE] = [MSGQUEUE_LIMIT, MSGQUEUE_LIMIT]
    limits[RLIMIT_NICE] = [0, 0]
    limits[RLIMIT_RTPRIO] = [0, 0]
    return limits


_RLIMIT64 = Struct("<QQ")
_RLIMIT32 = Struct("<II")


def rlimit_size(abi: Abi) -> int:
    """Bytes of struct rlimit."""
    return 2 * abi.word


def pack_rlimit(abi: Abi, soft: int, hard: int) -> bytes:
    """A struct rlimit; on i386 what does not fit is infinity (compat_sys_getrlimit)."""
    if abi.word == 8:
        return _RLIMIT64.pack(soft, hard)
    return _RLIMIT32.pack(min(soft, RLIM32_INFINITY), min(hard, RLIM32_INFINITY))


def pack_old_rlimit(soft: int, hard: int) -> bytes:
    """A struct rlimit of i386's first getrlimit: what does not fit in 31 bits is their maximum."""
    return _RLIMIT32.pack(min(soft, OLD_RLIM32_MAX), min(hard, OLD_RLIM32_MAX))


def unpack_rlimit(abi: Abi, data: bytes) -> tuple[int, int]:
    """Soft and hard limit; i386's infinity becomes ours."""
    if abi.word == 8:
        return unpack_rlimit64(data)
    soft, hard = [RLIM_INFINITY if value == RLIM32_INFINITY else value for value in _RLIMIT32.unpack(data)]
    return soft, hard


def pack_rlimit64(soft: int, hard: int) -> bytes:
    """A struct rlimit64 (prlimit64)."""
    return _RLIMIT64.pack(soft, hard)


def unpack_rlimit64(data: bytes) -> tuple[int, int]:
    """Soft and hard limit of a struct rlimit64."""
    soft, hard = _RLIMIT64.unpack(data)
    return soft, hard


RLIMIT64_SIZE: Final = _RLIMIT64.size

RUSAGE_SELF: Final = 0
RUSAGE_CHILDREN: Final = -1
RUSAGE_BOTH: Final = -2
RUSAGE_THREAD: Final = 1


class Rusage:
    """What a task (or its dead children) used.  Times in ns, *maxrss* in KiB."""

    __slots__ = ("inblock", "majflt", "maxrss", "minflt", "nivcsw", "nvcsw", "oublock", "stime", "utime")

    def __init__(
        self,
        *,
        utime: int = 0,
        stime: int = 0,
        maxrss: int = 0,
        minflt: int = 0,
        majflt: int = 0,
        inblock: int = 0,
        oublock: int = 0,
        nvcsw: int = 0,
        nivcsw: int = 0,
    ) -> None:
        self.utime = utime
        self.stime = stime
        self.maxrss = maxrss
        self.minflt = minflt
        self.majflt = majflt
        self.inblock = inblock
        self.oublock = oublock
        self.nvcsw = nvcsw
        self.nivcsw = nivcsw

    def copy(self) -> "Rusage":
        """One of its own with the same figures."""
        other = Rusage()
        other.add(self)
        return other

    def add(self, other: "Rusage") -> None:
        """Count what *other* used too; of *maxrss* the larger."""
        self.utime += other.utime
        self.stime += other.stime
        self.maxrss = max(self.maxrss, other.maxrss)
        self.minflt += other.minflt
        self.majflt += other.majflt
        self.inblock += other.inblock
        self.oublock += other.oublock
        self.nvcsw += other.nvcsw
        self.nivcsw += other.nivcsw

    def add_memory(self, minflt: int, majflt: int, rss: int) -> None:
        """Count an address space that is given up; *rss*: the most pages it ever had."""
        self.minflt += minflt
        self.majflt += majflt
        self.maxrss = max(self.maxrss, rss * 4)

    def pack(self, abi: Abi) -> bytes:
        """A struct rusage: 144 or 72 bytes; what Linux does not maintain is 0 there too."""
        head = pack_timeval(abi, self.utime) + pack_timeval(abi, self.stime)
        memory = abi.pack_words(self.maxrss, 0, 0, 0, self.minflt, self.majflt, 0)
        rest = abi.pack_words(self.inblock, self.oublock, 0, 0, 0, self.nvcsw, self.nivcsw)
        return head + memory + rest


PRIO_PROCESS: Final = 0
PRIO_PGRP: Final = 1
PRIO_USER: Final = 2
MIN_NICE: Final = -20
MAX_NICE: Final = 19

IOPRIO_WHO_PROCESS: Final = 1
IOPRIO_WHO_PGRP: Final = 2
IOPRIO_WHO_USER: Final = 3
IOPRIO_CLASS_SHIFT: Final = 13
IOPRIO_CLASS_NONE: Final = 0
IOPRIO_CLASS_RT: Final = 1
IOPRIO_CLASS_BE: Final = 2
IOPRIO_CLASS_IDLE: Final = 3
