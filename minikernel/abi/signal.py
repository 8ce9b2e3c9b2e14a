"""Signals as user space sees them: numbers, flags, masks, struct sigaction and stack_t.  ``siginfo`` is next door.

Source: include/uapi/asm-generic/signal.h, arch/x86/include/uapi/asm/signal.h, kernel/signal.c (siginitset macros).
"""

from struct import Struct
from typing import Final, NamedTuple

from minikernel.abi.abi import Abi

SIGHUP: Final = 1
SIGINT: Final = 2
SIGQUIT: Final = 3
SIGILL: Final = 4
SIGTRAP: Final = 5
SIGABRT: Final = 6
SIGBUS: Final = 7
SIGFPE: Final = 8
SIGKILL: Final = 9
SIGUSR1: Final = 10
SIGSEGV: Final = 11
SIGUSR2: Final = 12
SIGPIPE: Final = 13
SIGALRM: Final = 14
SIGTERM: Final = 15
SIGSTKFLT: Final = 16
SIGCHLD: Final = 17
SIGCONT: Final = 18
SIGSTOP: Final = 19
SIGTSTP: Final = 20
SIGTTIN: Final = 21
SIGTTOU: Final = 22
SIGURG: Final = 23
SIGXCPU: Final = 24
SIGXFSZ: Final = 25
SIGVTALRM: Final = 26
SIGPROF: Final = 27
SIGWINCH: Final = 28
SIGIO: Final = 29
SIGPWR: Final = 30
SIGSYS: Final = 31
SIGRTMIN: Final = 32
SIGRTMAX: Final = 64
NSIG: Final = 64  # signals are 1..NSIG

_NAMES: Final = (
    "0 SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM "
    "SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF "
    "SIGWINCH SIGIO SIGPWR SIGSYS"
)
NAMES: Final = _NAMES.split()  # by number

DESCRIPTIONS: Final = {  # strsignal(3): what a shell prints when a job dies of it
    SIGHUP: "Hangup", SIGINT: "Interrupt", SIGQUIT: "Quit", SIGILL: "Illegal instruction",
    SIGTRAP: "Trace/breakpoint trap", SIGABRT: "Aborted", SIGBUS: "Bus error", SIGFPE: "Floating point exception",
    SIGKILL: "Killed", SIGUSR1: "User defined signal 1", SIGSEGV: "Segmentation fault",
    SIGUSR2: "User defined signal 2", SIGPIPE: "Broken pipe", SIGALRM: "Alarm clock", SIGTERM: "Terminated",
    SIGSTKFLT: "Stack fault", SIGCHLD: "Child exited", SIGCONT: "Continued", SIGSTOP: "Stopped (signal)",
    SIGTSTP: "Stopped", SIGTTIN: "Stopped (tty input)", SIGTTOU: "Stopped (tty output)",
    SIGURG: "Urgent I/O condition", SIGXCPU: "CPU time limit exceeded", SIGXFSZ: "File size limit exceeded",
    SIGVTALRM: "Virtual timer expired", SIGPROF: "Profiling timer expired", SIGWINCH: "Window changed",
    SIGIO: "I/O possible", SIGPWR: "Power failure", SIGSYS: "Bad system call",
}  # fmt: skip

SIG_DFL: Final = 0
SIG_IGN: Final = 1
SIG_BLOCK: Final = 0
SIG_UNBLOCK: Final = 1
SIG_SETMASK: Final = 2

SA_NOCLDSTOP: Final = 0x1
SA_NOCLDWAIT: Final = 0x2
SA_SIGINFO: Final = 0x4
SA_UNSUPPORTED: Final = 0x400
SA_EXPOSE_TAGBITS: Final = 0x800
SA_RESTORER: Final = 0x0400_0000
SA_ONSTACK: Final = 0x0800_0000
SA_RESTART: Final = 0x1000_0000
SA_NODEFER: Final = 0x4000_0000
SA_RESETHAND: Final = 0x8000_0000

SS_ONSTACK: Final = 1
SS_DISABLE: Final = 2
SS_AUTODISARM: Final = 1 << 31
MINSIGSTKSZ: Final = 2048

# si_code: include/uapi/asm-generic/siginfo.h
SI_USER: Final = 0
SI_KERNEL: Final = 0x80
SI_QUEUE: Final = -1
SI_TIMER: Final = -2
SI_MESGQ: Final = -3
SI_ASYNCIO: Final = -4
SI_SIGIO: Final = -5
SI_TKILL: Final = -6
ILL_ILLOPC: Final = 1
ILL_ILLOPN: Final = 2
ILL_PRVOPC: Final = 5
FPE_INTDIV: Final = 1
FPE_INTOVF: Final = 2
FPE_FLTDIV: Final = 3
FPE_FLTOVF: Final = 4
FPE_FLTUND: Final = 5
FPE_FLTRES: Final = 6
FPE_FLTINV: Final = 7
SEGV_MAPERR: Final = 1
SEGV_ACCERR: Final = 2
SEGV_PKUERR: Final = 4
BUS_ADRALN: Final = 1
BUS_ADRERR: Final = 2
BUS_OBJERR: Final = 3
TRAP_BRKPT: Final = 1
TRAP_TRACE: Final = 2
TRAP_HWBKPT: Final = 4
CLD_EXITED: Final = 1
CLD_KILLED: Final = 2
CLD_DUMPED: Final = 3
CLD_TRAPPED: Final = 4
CLD_STOPPED: Final = 5
CLD_CONTINUED: Final = 6
POLL_IN: Final = 1
POLL_HUP: Final = 6
SYS_SECCOMP: Final = 1


def sigmask(*signals: int) -> int:
    """The set of *signals* as an int: bit n-1 is signal n."""
    mask = 0
    for sig in signals:
        mask |= 1 << (sig - 1)
    return mask


def sigset_signals(mask: int) -> list[int]:
    """The signals in *mask*, in order."""
    return [sig for sig in range(1, NSIG + 1) if mask >> (sig - 1) & 1]


# What happens by default: kernel/signal.c, include/linux/signal.h (sig_kernel_*).
UNMASKABLE: Final = sigmask(SIGKILL, SIGSTOP)
IGNORED_BY_DEFAULT: Final = sigmask(SIGCONT, SIGCHLD, SIGWINCH, SIGURG)
STOPS_BY_DEFAULT: Final = sigmask(SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU)
DUMPS_CORE: Final = sigmask(
    SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGSYS, SIGXCPU, SIGXFSZ
)  # fmt: skip
SYNCHRONOUS: Final = sigmask(SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS)  # delivered first


def signal_name(sig: int) -> str:
    """SIGSEGV, SIGRT_3: as strace writes it; the number where there is no such signal."""
    if 0 < sig < len(NAMES):
        return NAMES[sig]
    if SIGRTMIN <= sig <= SIGRTMAX:
        return "SIGRTMIN" if sig == SIGRTMIN else f"SIGRT_{sig - SIGRTMIN}"
    return str(sig)


_SIGSET = Struct("<Q")
_OLD_SIGACTION = Struct("<IIII")  # i386: handler, mask, flags, restorer
_SIGACTION = {8: Struct("<QQQQ"), 4: Struct("<IIIQ")}  # handler, flags, restorer, mask
_STACK = {8: Struct("<QiiQ"), 4: Struct("<IiI")}  # sp, flags, (padding,) size


class Sigaction(NamedTuple):
    """A struct sigaction of the kernel: what to do about one signal.  *mask*: blocked while the handler runs."""

    handler: int = SIG_DFL
    flags: int = 0
    restorer: int = 0
    mask: int = 0

    def pack(self, abi: Abi) -> bytes:
        """A struct sigaction of rt_sigaction(2)."""
        return _SIGACTION[abi.word].pack(self.handler, self.flags, self.restorer, self.mask)

    def pack_old(self) -> bytes:
        """A struct old_sigaction of i386's sigaction(2)."""
        return _OLD_SIGACTION.pack(self.handler, self.mask & 0xFFFF_FFFF, self.flags, self.restorer)


def sigaction_size(abi: Abi) -> int:
    """Bytes of struct sigaction: 32 or 20."""
    return _SIGACTION[abi.word].size


def unpack_sigaction(abi: Abi, data: bytes) -> Sigaction:
    """A struct sigaction of rt_sigaction(2)."""
    return Sigaction(*_SIGACTION[abi.word].unpack(data))


OLD_SIGACTION_SIZE: Final = _OLD_SIGACTION.size


def unpack_old_sigaction(data: bytes) -> Sigaction:
    """A struct old_sigaction of i386's sigaction(2)."""
    handler, mask, flags, restorer = _OLD_SIGACTION.unpack(data)
    return Sigaction(handler, flags, restorer, mask)


def pack_sigset(mask: int) -> bytes:
    """sigset_t of the kernel: 8 bytes on both ABIs."""
    return _SIGSET.pack(mask)


def unpack_sigset(data: bytes) -> int:
    """The mask in a sigset_t of 8 bytes."""
    mask: int = _SIGSET.unpack(data)[0]
    return mask


class SignalStack(NamedTuple):
    """stack_t: the alternate signal stack.  *size* in bytes."""

    sp: int = 0
    flags: int = SS_DISABLE
    size: int = 0

    def pack(self, abi: Abi) -> bytes:
        """stack_t of sigaltstack(2) and of struct ucontext."""
        flags = self.flags - (1 << 32) if self.flags >> 31 else self.flags
        if abi.word == 8:
            return _STACK[8].pack(self.sp, flags, 0, self.size)
        return _STACK[4].pack(self.sp, flags, self.size)


def stack_size(abi: Abi) -> int:
    """Bytes of stack_t: 24 or 12."""
    return _STACK[abi.word].size


def unpack_stack(abi: Abi, data: bytes) -> SignalStack:
    """stack_t of sigaltstack(2); flags as an unsigned int."""
    fields = _STACK[abi.word].unpack(data)
    return SignalStack(fields[0], fields[1] & 0xFFFF_FFFF, fields[-1])
