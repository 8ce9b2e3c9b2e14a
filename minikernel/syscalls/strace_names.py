"""Names of flags and constants for strace text, taken from the abi modules that define them.

A prefix such as ``PROT_`` stands for all the constants of the abi that begin with it.
"""

from functools import cache
from importlib import import_module
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Where the constants of a prefix are defined.
_MODULES: Final = {
    "PROT_": "mman", "MAP_": "mman", "MREMAP_": "mman", "MS_": "mman", "MLOCK_": "mman", "MCL_": "mman",
    "MADV_": "mman", "O_": "fcntl", "AT_": "fcntl", "SEEK_": "fcntl", "F_": "fcntl", "RENAME_": "fcntl",
    "FALLOC_": "fcntl", "MFD_": "fcntl", "CLOSE_RANGE_": "fcntl", "STATX_": "stat", "ioctl": "ioctl",
    "GRND_": "random", "SIG_": "signal", "SA_": "signal", "SS_": "signal", "CLOCK_": "time", "TIMER_": "time",
    "ITIMER_": "time", "RLIMIT_": "resource", "RUSAGE_": "resource", "PRIO_": "resource", "SCHED_": "sched",
    "CLONE_": "sched", "FUTEX_": "futex", "PR_": "prctl", "ARCH_": "prctl",
}  # fmt: skip

# Masks, sizes and the like that begin as flags do.
_NOT_FLAGS: Final = _words(
    "MAP_TYPE MAP_SHARED MAP_PRIVATE MAP_SHARED_VALIDATE MAP_HUGE_SHIFT MAP_HUGE_MASK O_ACCMODE O_RDONLY O_WRONLY "
    "O_RDWR O_TMPFILE_BIT O_PATH_FLAGS AT_FDCWD AT_STATX_SYNC_TYPE F_ALL_SEALS "
    "STATX_ATTR_MOUNT_ROOT"
)

# What no abi module defines: other rooms' numbers, named here for the text only.
_LITERAL: Final = {
    "_OK": {4: "R_OK", 2: "W_OK", 1: "X_OK"},
    "W": {1: "WNOHANG", 2: "WSTOPPED", 4: "WEXITED", 8: "WCONTINUED", 0x0100_0000: "WNOWAIT",
          0x2000_0000: "__WNOTHREAD", 0x4000_0000: "__WALL", 0x8000_0000: "__WCLONE"},
    "POSIX_FADV_": dict(enumerate(f"POSIX_FADV_{name}" for name in
                                  ("NORMAL", "RANDOM", "SEQUENTIAL", "WILLNEED", "DONTNEED", "NOREUSE"))),
    "shmat_flags": {0o10000: "SHM_RDONLY", 0o20000: "SHM_RND", 0o40000: "SHM_REMAP", 0o100000: "SHM_EXEC"},
    "shmctl_cmd": {0: "IPC_RMID", 1: "IPC_SET", 2: "IPC_STAT", 3: "IPC_INFO", 11: "SHM_LOCK", 12: "SHM_UNLOCK",
                   13: "SHM_STAT", 14: "SHM_INFO", 15: "SHM_STAT_ANY"},
    "semctl_cmd": {0: "IPC_RMID", 1: "IPC_SET", 2: "IPC_STAT", 3: "IPC_INFO", 11: "GETPID", 12: "GETVAL", 13: "GETALL",
                   14: "GETNCNT", 15: "GETZCNT", 16: "SETVAL", 17: "SETALL", 18: "SEM_STAT", 19: "SEM_INFO",
                   20: "SEM_STAT_ANY"},
    "msgctl_cmd": {0: "IPC_RMID", 1: "IPC_SET", 2: "IPC_STAT", 3: "IPC_INFO", 11: "MSG_STAT", 12: "MSG_INFO",
                   13: "MSG_STAT_ANY"},
    "shmget_flags": {0o1000: "IPC_CREAT", 0o2000: "IPC_EXCL", 0o4000: "SHM_HUGETLB", 0o10000: "SHM_NORESERVE"},
    "ipc_key": {0: "IPC_PRIVATE"},
    "EPOLL_CTL_": {1: "EPOLL_CTL_ADD", 2: "EPOLL_CTL_DEL", 3: "EPOLL_CTL_MOD"},
    "EPOLL_": {0o2000000: "EPOLL_CLOEXEC"},
    "EFD_": {1: "EFD_SEMAPHORE", 0o2000000: "EFD_CLOEXEC", 0o4000: "EFD_NONBLOCK"},
    "FD_": {1: "FD_CLOEXEC"},
    "pipe_flags": {0o2000000: "O_CLOEXEC", 0o4000: "O_NONBLOCK", 0o40000: "O_DIRECT"},
    "AF_": {0: "AF_UNSPEC", 1: "AF_UNIX", 2: "AF_INET", 10: "AF_INET6", 16: "AF_NETLINK", 17: "AF_PACKET"},
    "SOCK_": {1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 5: "SOCK_SEQPACKET"},
    "MEMBARRIER_CMD_": {
        0: "MEMBARRIER_CMD_QUERY", 1: "MEMBARRIER_CMD_GLOBAL", 2: "MEMBARRIER_CMD_GLOBAL_EXPEDITED",
        4: "MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED", 8: "MEMBARRIER_CMD_PRIVATE_EXPEDITED",
        16: "MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED", 32: "MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE",
        64: "MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE", 128: "MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ",
        256: "MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ", 512: "MEMBARRIER_CMD_GET_REGISTRATIONS"},
}  # fmt: skip

_CHOICES: Final = _words(
    "MADV_ SEEK_ F_ ioctl SIG_ CLOCK_ ITIMER_ RLIMIT_ RUSAGE_ PRIO_ PR_ ARCH_ POSIX_FADV_ EPOLL_CTL_ AF_ "
    "MEMBARRIER_CMD_ ipc_key shmctl_cmd semctl_cmd msgctl_cmd"
)
_SIG_HOW: Final = ("SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK")
SOCK_TYPE_MASK: Final = 0xF
_FUTEX_COMMANDS: Final = 0x7F


@cache
def names(prefix: str) -> dict[int, str]:
    """Value -> name of the constants that begin with *prefix*; of several names of a value, the first."""
    if prefix in _LITERAL:
        return _LITERAL[prefix]
    module = import_module(f"minikernel.abi.{_MODULES[prefix]}")
    found: dict[int, str] = {}
    wanted = "" if prefix == "ioctl" else prefix
    only = _SIG_HOW if prefix == "SIG_" else None
    for name, value in vars(module).items():
        if not isinstance(value, int) or not name.isupper() or not name.startswith(wanted) or name in _NOT_FLAGS:
            continue
        if only is None or name in only:
            found.setdefault(value, name)
    return found


def knows(prefix: str) -> bool:
    """Whether *prefix* stands for constants."""
    return prefix in _MODULES or prefix in _LITERAL


def show_bits(known: dict[int, str], value: int, default: str = "0") -> str:
    """*value* as names joined by |, and what no name covers in hex; wide names before those they contain."""
    if value == 0:
        return known.get(0, default)
    parts = []
    rest = value
    for bits in sorted(known, key=lambda bits: -bits.bit_count()):
        if bits > 0 and rest & bits == bits:
            parts.append((bits, known[bits]))
            rest &= ~bits
    parts.sort()
    shown = [name for _, name in parts]
    if rest:
        shown.append(hex(rest))
    return "|".join(shown)


def show(prefix: str, value: int) -> str:
    """*value* by the names of *prefix*: a choice or a set of bits."""
    special = _SPECIAL.get(prefix)
    if special is not None:
        return special(value)
    known = names(prefix)
    if prefix in _CHOICES:
        return known.get(value) or (hex(value) if value >= 0 else str(value))
    return show_bits(known, value)


def _map_flags(value: int) -> str:
    kinds = {1: "MAP_SHARED", 2: "MAP_PRIVATE", 3: "MAP_SHARED_VALIDATE"}
    first = kinds.get(value & 0xF, hex(value & 0xF))
    rest = value & ~0xF
    return f"{first}|{show_bits(names('MAP_'), rest)}" if rest else first


def open_flags(value: int) -> str:
    """O_* flags, access mode first."""
    access = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[value & 3]
    known = {bits: name for bits, name in names("O_").items() if name.startswith("O_")}
    known[0o20200000] = "O_TMPFILE"
    rest = value & ~3
    return f"{access}|{show_bits(known, rest)}" if rest else access


def _clone_flags(value: int) -> str:
    flags, sig = value & ~0xFF, value & 0xFF
    from minikernel.abi.signal import signal_name

    parts = [show_bits(names("CLONE_"), flags)] if flags else []
    if sig or not flags:
        parts.append(signal_name(sig) if sig else "0")
    return "|".join(parts)


def _futex_op(value: int) -> str:
    private, realtime = value & 128, value & 256
    name = names("FUTEX_").get(value & _FUTEX_COMMANDS) or hex(value & _FUTEX_COMMANDS)
    return name + ("_PRIVATE" if private else "") + ("|FUTEX_CLOCK_REALTIME" if realtime else "")


def _socket_type(value: int) -> str:
    name = names("SOCK_").get(value & SOCK_TYPE_MASK, str(value & SOCK_TYPE_MASK))
    flags = show_bits({0o2000000: "SOCK_CLOEXEC", 0o4000: "SOCK_NONBLOCK"}, value & ~SOCK_TYPE_MASK, "")
    return f"{name}|{flags}" if flags else name


def _shmget_flags(value: int) -> str:
    flags, mode = value & ~0o777, f"{value & 0o777:#o}".replace("0o", "0")
    mode = mode if value & 0o777 else "000"
    return f"{show_bits(names('shmget_flags'), flags)}|{mode}" if flags else mode


def _sched_policy(value: int) -> str:
    policies = {0: "SCHED_OTHER", 1: "SCHED_FIFO", 2: "SCHED_RR", 3: "SCHED_BATCH", 5: "SCHED_IDLE",
                6: "SCHED_DEADLINE", 7: "SCHED_EXT"}  # fmt: skip
    reset = value & 0x4000_0000
    name = policies.get(value & ~0x4000_0000, hex(value & ~0x4000_0000))
    return f"{name}|SCHED_RESET_ON_FORK" if reset else name


def _access_mode(value: int) -> str:
    shown = [name for bit, name in names("_OK").items() if value & bit]
    return "|".join(shown + ([hex(value & ~7)] if value & ~7 else [])) or "F_OK"


def _prctl_option(value: int) -> str:
    name = names("PR_").get(value)
    return name if value and name else hex(value) if value else "0"


_SPECIAL: Final = {
    "MAP_": _map_flags,
    "O_": open_flags,
    "CLONE_": _clone_flags,
    "FUTEX_": _futex_op,
    "SOCK_": _socket_type,
    "SCHED_": _sched_policy,
    "shmget_flags": _shmget_flags,
    "_OK": _access_mode,
    "PR_": _prctl_option,
}
