"""Argument types of system call handlers: how a raw register becomes a value, and how strace shows it.

A handler's signature is its C prototype; each parameter after ``kernel`` and ``task`` is annotated with one
of these names, and is a plain ``int`` to the handler.  ``decode`` reads the widths, ``strace`` the shows.
A C ``int`` is 32 bits on both ABIs and is sign-extended here; a C ``long`` is the ABI's word.

Linux: the SC_* and SYSCALL_DEFINE casts of include/linux/syscalls.h (``__SC_LONG``, ``__SC_CAST``).
"""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

# Widths: what C type the register is cast to.
INT: Final = "int"  # 32 bits, signed
UINT: Final = "uint"  # 32 bits, unsigned
LONG: Final = "long"  # the ABI's word, signed
ULONG: Final = "ulong"  # the ABI's word, unsigned


class Kind(NamedTuple):
    """What an annotation says.  *out*: the memory pointed to is the answer, shown when the call returns."""

    width: str
    show: str  # the name of a formatter in ``strace_format`` or of a set of names in ``strace_names``
    out: bool = False


if TYPE_CHECKING:
    from typing import Annotated
else:

    class Annotated:
        """The annotation itself.  typing's own costs 10 us for each alias, 1 ms of every start."""

        def __class_getitem__(cls, item: tuple[Any, Kind]) -> Kind:
            """Only what is said about the int."""
            return item[1]


# Numbers
Int = Annotated[int, Kind(INT, "dec")]
UInt = Annotated[int, Kind(UINT, "dec")]
Long = Annotated[int, Kind(LONG, "dec")]
ULong = Annotated[int, Kind(ULONG, "hex")]
Size = Annotated[int, Kind(ULONG, "dec")]  # size_t
Off = Annotated[int, Kind(LONG, "dec")]  # off_t; on i386 it is 32 bits, and loff_t comes as two UInts, low first
Hex = Annotated[int, Kind(UINT, "hex")]

# Descriptors, identities
Fd = Annotated[int, Kind(INT, "fd")]
DirFd = Annotated[int, Kind(INT, "dirfd")]  # AT_FDCWD by name
Pid = Annotated[int, Kind(INT, "dec")]
Uid = Annotated[int, Kind(UINT, "id")]  # uid_t and gid_t; -1 means "leave as it is"
Gid = Annotated[int, Kind(UINT, "id")]
OldUid = Annotated[int, Kind(UINT, "id16")]  # the 16-bit uid_t of i386's first calls
OldGid = Annotated[int, Kind(UINT, "id16")]

# Memory
Ptr = Annotated[int, Kind(ULONG, "ptr")]
PathPtr = Annotated[int, Kind(ULONG, "path")]  # NUL-terminated, never abbreviated
StrPtr = Annotated[int, Kind(ULONG, "str")]  # NUL-terminated, abbreviated
StrVecPtr = Annotated[int, Kind(ULONG, "strvec")]  # argv, envp
BufIn = Annotated[int, Kind(ULONG, "buf")]  # as many bytes as the next argument says
BufOut = Annotated[int, Kind(ULONG, "buf", out=True)]  # as many bytes as the call returns
PathOut = Annotated[int, Kind(ULONG, "buf", out=True)]  # readlink, getcwd: the same
IovecIn = Annotated[int, Kind(ULONG, "iovec")]  # as many as the next argument says
IovecOut = Annotated[int, Kind(ULONG, "iovec", out=True)]
IntOut = Annotated[int, Kind(ULONG, "int_at", out=True)]
LongOut = Annotated[int, Kind(ULONG, "long_at", out=True)]
IntPairOut = Annotated[int, Kind(ULONG, "int_pair", out=True)]  # pipe, socketpair

# Structures
TimespecIn = Annotated[int, Kind(ULONG, "timespec")]  # of the ABI's own width
TimespecOut = Annotated[int, Kind(ULONG, "timespec", out=True)]
Timespec64In = Annotated[int, Kind(ULONG, "timespec64")]  # __kernel_timespec: the time64 calls of i386
Timespec64Out = Annotated[int, Kind(ULONG, "timespec64", out=True)]
TimevalIn = Annotated[int, Kind(ULONG, "timeval")]
TimevalOut = Annotated[int, Kind(ULONG, "timeval", out=True)]
ItimervalIn = Annotated[int, Kind(ULONG, "itimerval")]
ItimervalOut = Annotated[int, Kind(ULONG, "itimerval", out=True)]
TimePtr = Annotated[int, Kind(ULONG, "long_at", out=True)]
StatOut = Annotated[int, Kind(ULONG, "stat", out=True)]
Stat64Out = Annotated[int, Kind(ULONG, "stat64", out=True)]  # i386
StatxOut = Annotated[int, Kind(ULONG, "statx", out=True)]
RlimitIn = Annotated[int, Kind(ULONG, "rlimit")]
RlimitOut = Annotated[int, Kind(ULONG, "rlimit", out=True)]
Rlimit64In = Annotated[int, Kind(ULONG, "rlimit64")]
Rlimit64Out = Annotated[int, Kind(ULONG, "rlimit64", out=True)]
RusageOut = Annotated[int, Kind(ULONG, "rusage", out=True)]
SysinfoOut = Annotated[int, Kind(ULONG, "sysinfo", out=True)]
CpuSetOut = Annotated[int, Kind(ULONG, "cpu_set", out=True)]
UtsnameOut = Annotated[int, Kind(ULONG, "utsname", out=True)]
SigsetIn = Annotated[int, Kind(ULONG, "sigset")]
SigsetOut = Annotated[int, Kind(ULONG, "sigset", out=True)]
SigactionIn = Annotated[int, Kind(ULONG, "sigaction")]
SigactionOut = Annotated[int, Kind(ULONG, "sigaction", out=True)]
SigaltstackIn = Annotated[int, Kind(ULONG, "stack_t")]
SigaltstackOut = Annotated[int, Kind(ULONG, "stack_t", out=True)]
WaitStatusOut = Annotated[int, Kind(ULONG, "wstatus", out=True)]
PollFds = Annotated[int, Kind(ULONG, "ptr")]
SockaddrIn = Annotated[int, Kind(ULONG, "sockaddr")]  # as many bytes as the next argument says
UserDescIn = Annotated[int, Kind(ULONG, "user_desc")]
UserDescOut = Annotated[int, Kind(ULONG, "user_desc", out=True)]

# Flags and choices, shown by name
Prot = Annotated[int, Kind(ULONG, "PROT_")]
MapFlags = Annotated[int, Kind(ULONG, "MAP_")]
MremapFlags = Annotated[int, Kind(ULONG, "MREMAP_")]
MsyncFlags = Annotated[int, Kind(INT, "MS_")]
MlockFlags = Annotated[int, Kind(INT, "MLOCK_")]
MlockallFlags = Annotated[int, Kind(INT, "MCL_")]
IpcKey = Annotated[int, Kind(INT, "ipc_key")]
ShmgetFlags = Annotated[int, Kind(INT, "shmget_flags")]
ShmatFlags = Annotated[int, Kind(INT, "shmat_flags")]
ShmctlCmd = Annotated[int, Kind(INT, "shmctl_cmd")]
SemctlCmd = Annotated[int, Kind(INT, "semctl_cmd")]
MsgctlCmd = Annotated[int, Kind(INT, "msgctl_cmd")]
Madvice = Annotated[int, Kind(INT, "MADV_")]
OpenFlags = Annotated[int, Kind(INT, "O_")]
AtFlags = Annotated[int, Kind(INT, "AT_")]
AccessMode = Annotated[int, Kind(INT, "_OK")]
Mode = Annotated[int, Kind(UINT, "mode")]
Dev = Annotated[int, Kind(UINT, "dev")]
Whence = Annotated[int, Kind(UINT, "SEEK_")]
FcntlCmd = Annotated[int, Kind(UINT, "F_")]
IoctlCmd = Annotated[int, Kind(UINT, "ioctl")]
StatxMask = Annotated[int, Kind(UINT, "STATX_")]
RenameFlags = Annotated[int, Kind(UINT, "RENAME_")]
FallocMode = Annotated[int, Kind(INT, "FALLOC_")]
Fadvice = Annotated[int, Kind(INT, "POSIX_FADV_")]
GetrandomFlags = Annotated[int, Kind(UINT, "GRND_")]
MemfdFlags = Annotated[int, Kind(UINT, "MFD_")]
EventfdFlags = Annotated[int, Kind(INT, "EFD_")]
EpollFlags = Annotated[int, Kind(INT, "EPOLL_")]
EpollOp = Annotated[int, Kind(INT, "EPOLL_CTL_")]
CloseRangeFlags = Annotated[int, Kind(UINT, "CLOSE_RANGE_")]
Signal = Annotated[int, Kind(INT, "signal")]
SigHow = Annotated[int, Kind(INT, "SIG_")]
Clock = Annotated[int, Kind(INT, "CLOCK_")]
TimerFlags = Annotated[int, Kind(INT, "TIMER_")]
ItimerWhich = Annotated[int, Kind(INT, "ITIMER_")]
Resource = Annotated[int, Kind(UINT, "RLIMIT_")]
RusageWho = Annotated[int, Kind(INT, "RUSAGE_")]
PrioWhich = Annotated[int, Kind(INT, "PRIO_")]
SchedPolicy = Annotated[int, Kind(INT, "SCHED_")]
CloneFlags = Annotated[int, Kind(ULONG, "CLONE_")]
WaitOptions = Annotated[int, Kind(INT, "W")]
FutexOp = Annotated[int, Kind(INT, "FUTEX_")]
PrctlOption = Annotated[int, Kind(INT, "PR_")]
ArchPrctlCode = Annotated[int, Kind(INT, "ARCH_")]
MembarrierCmd = Annotated[int, Kind(INT, "MEMBARRIER_CMD_")]
SocketFamily = Annotated[int, Kind(INT, "AF_")]
SocketType = Annotated[int, Kind(INT, "SOCK_")]
