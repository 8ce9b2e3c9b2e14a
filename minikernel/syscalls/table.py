"""The system call tables of both ABIs, and the one place where a LinuxError becomes -errno.

The tables are data: every number Linux has is there, joined by name with the handlers that exist.  An entry
without a handler, and a number that stands for nothing, answer -ENOSYS and are noted once for the report.

Linux: arch/x86/entry/syscall_64.c (do_syscall_64), syscall_32.c; kernel/sys_ni.c.
"""

from collections.abc import Coroutine, Sequence
from typing import Any, Final

from minikernel.abi.abi import ABIS, I386, X86_64, Abi
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.kernel import Kernel
from minikernel.syscalls import (
    absences,
    caps,
    clone,
    cred,
    files,
    futex,
    futex2,
    ident,
    ipc,
    itimer,
    kcmp,
    machine,
    misc,
    mman,
    msg,
    numa,
    posix_timers,
    prctl,
    process,
    process_vm,
    resource,
    sched,
    sem,
    shm,
    sigaction,
    signalfd,
    sigsend,
    socket,
    swap,
    time,
    timerfd,
)
from minikernel.syscalls.decode import Caller, compile_caller
from minikernel.syscalls.entry_types import Entry, Result, absent
from minikernel.syscalls.io_accounting import counted
from minikernel.task.task import Task
from minikernel.wait import Interrupted, Wait

_MAX_NOTED: Final = 1024  # a guest that tries random numbers shall not fill the host's memory
_NOSYS: Final = -int(Errno.ENOSYS)

ENTRIES: Final[tuple[Entry, ...]] = (
    *absences.ENTRIES,  # first: whoever does a call after all wins
    *files.ENTRIES,
    *mman.ENTRIES,
    *numa.ENTRIES,
    *process_vm.ENTRIES,
    *kcmp.ENTRIES,
    *process.ENTRIES,
    *clone.ENTRIES,
    *sigaction.ENTRIES,
    *sigsend.ENTRIES,
    *itimer.ENTRIES,
    *posix_timers.ENTRIES,
    *timerfd.ENTRIES,
    *signalfd.ENTRIES,
    *futex.ENTRIES,
    *futex2.ENTRIES,
    *time.ENTRIES,
    *ident.ENTRIES,
    *cred.ENTRIES,
    *caps.ENTRIES,
    *resource.ENTRIES,
    *sched.ENTRIES,
    *machine.ENTRIES,
    *prctl.ENTRIES,
    *swap.ENTRIES,
    *misc.ENTRIES,
    *shm.ENTRIES,
    *sem.ENTRIES,
    *msg.ENTRIES,
    *ipc.ENTRIES,
    *socket.ENTRIES,
)


def entries_of(abi: Abi) -> dict[int, Entry]:
    """Number -> entry, for every number of *abi*; a name nobody claims is absent."""
    claimed = {entry.name: entry for entry in ENTRIES if entry.abi is None}
    claimed.update({entry.name: entry for entry in ENTRIES if entry.abi == abi.name})
    return {nr: claimed.get(name) or absent(name, "") for name, nr in NUMBERS[abi.name].items()}


class SyscallTable:
    """The table of one ABI.  Callers are compiled when their number is first used."""

    __slots__ = ("_callers", "abi", "entries")

    def __init__(self, abi: Abi) -> None:
        self.abi = abi
        self.entries = entries_of(abi)
        self._callers: dict[int, Caller] = {}

    def call(self, kernel: Kernel, task: Task, nr: int, regs: Sequence[int]) -> Result:
        """Do system call *nr* with the arguments in *regs* (16 registers in SDM order).

        Gives the signed return value, -errno on error; or, from a call that blocks, the coroutine
        that ``advance`` takes to its end.  *nr* is the low 32 bits of rax, unsigned.
        """
        caller = self._callers.get(nr)
        if caller is None:
            caller = self._bind(nr)
        try:
            return caller(kernel, task, regs)
        except LinuxError as error:
            return -int(error.errno)

    def name(self, nr: int) -> str:
        """The name of call *nr*; as strace writes it where there is none."""
        entry = self.entries.get(nr)
        return entry.name if entry is not None else f"syscall_{nr:#x}"

    def _bind(self, nr: int) -> Caller:
        """The caller of *nr*, remembered if the table has the number."""
        entry = self.entries.get(nr)
        if entry is not None and entry.handler is not None:
            caller = counted(entry.name, compile_caller(self.abi, entry.handler))
        else:
            caller = self._missing(nr)
        if entry is not None:
            self._callers[nr] = caller
        return caller

    def _missing(self, nr: int) -> Caller:
        """A caller that notes *nr* and answers -ENOSYS."""
        key, name = (self.abi.name, nr), self.name(nr)

        def call(kernel: Kernel, _task: Task, _regs: Sequence[int]) -> int:
            if key not in kernel.syscall_missing and len(kernel.syscall_missing) < _MAX_NOTED:
                kernel.syscall_missing[key] = name
            return _NOSYS

        return call


TABLE_64: Final = SyscallTable(X86_64)
TABLE_32: Final = SyscallTable(I386)
TABLES: Final = {table.abi.name: table for table in (TABLE_64, TABLE_32)}
assert len(TABLES) == len(ABIS), "table: an ABI has no system call table"


def dispatch(kernel: Kernel, task: Task, nr: int, regs: Sequence[int]) -> Result:
    """``SyscallTable.call`` of the task's own ABI.

    ``int 0x80`` in a 64-bit task means the i386 table: its caller uses ``TABLE_32.call`` itself.
    """
    return (TABLE_64 if task.abi is X86_64 else TABLE_32).call(kernel, task, nr, regs)


def advance(call: Coroutine[Any, Any, int], woken: bool | None = None, *, interrupt: bool = False) -> Wait | int:
    """Run a blocking *call* on: where it wants to wait next, or its return value (signed, -errno on error).

    *woken*: what the last wait ended with (None to start the coroutine).  *interrupt*: a signal is
    pending.  A call that does not care how it is interrupted ends in -ERESTARTSYS.
    """
    try:
        if interrupt:
            waiting: Wait = call.throw(Interrupted())
        else:
            waiting = call.send(woken)
    except StopIteration as stop:
        result: int = stop.value
        return result
    except LinuxError as error:
        return -int(error.errno)
    except Interrupted:
        return -int(Errno.ERESTARTSYS)
    return waiting
