"""Why the machine stopped, as values, and as stop replies.  Source: the gdb manual, "Stop Reply Packets"."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from minikernel.abi.abi import X86_64
from minikernel.gdb import registers
from minikernel.gdb.signals import GDB_SIGTRAP, to_gdb
from minikernel.gdb.text import to_hex

if TYPE_CHECKING:
    from minikernel.gdb.client import Client
    from minikernel.kdb.machine import Machine
    from minikernel.task.task import Task

_EXPEDITED: Final = {True: (6, 7, 16), False: (5, 4, 8)}  # frame pointer, stack pointer, program counter
TRAP_BRKPT: Final = 0x80  # si_code of a breakpoint: the int3 that ptrace would have put there says SI_KERNEL
TRAP_TRACE: Final = 2
TRAP_HWBKPT: Final = 4


@dataclass(frozen=True, slots=True)
class Stop:
    """Thread *tid* of process *pid* stopped; *reason* is what T says of it, *code* its si_code if that is a trap."""

    pid: int
    tid: int
    signal: int = GDB_SIGTRAP
    reason: str = ""
    code: int = 0
    words: str = ""  # for the user's console


@dataclass(frozen=True, slots=True)
class End:
    """Process *pid* ended; *status* is in wait(2)'s form."""

    pid: int
    status: int
    words: str = ""


@dataclass(frozen=True, slots=True)
class NoneLeft:
    """No thread that was to run exists any more."""

    words: str = ""


Outcome = Stop | End | NoneLeft


def reply(machine: "Machine", client: "Client", outcome: Outcome) -> bytes:
    """The packet that tells of *outcome*."""
    multiprocess = "multiprocess" in client.features
    match outcome:
        case Stop():
            task = machine.kernel.tasks.get(outcome.tid)
            return _stop_reply(machine, outcome, task, thread_name(outcome.pid, outcome.tid, multiprocess=multiprocess))
        case End(pid, status):
            letter, code = (b"X", to_gdb(status & 0x7F)) if status & 0x7F else (b"W", status >> 8 & 0xFF)
            return b"%b%02x" % (letter, code) + (b";process:%x" % pid if multiprocess else b"")
        case NoneLeft():
            return b"N"


def thread_name(pid: int, tid: int, *, multiprocess: bool) -> str:
    """A thread, as the client wants threads named."""
    return f"p{pid:x}.{tid:x}" if multiprocess else f"{tid:x}"


def _stop_reply(machine: "Machine", stop: Stop, task: "Task | None", name: str) -> bytes:
    fields = f"T{stop.signal:02x}{stop.reason}"
    if task is not None and registers.is_readable(task):
        numbers = list(_EXPEDITED[task.abi is X86_64])
        for number, value in zip(numbers, registers.read(machine, task, numbers), strict=True):
            fields += f"{number:02x}:{value.hex()};"
    return f"{fields}thread:{name};core:0;".encode()


def exec_reason(path: bytes) -> str:
    """``exec:PATH;``."""
    return f"exec:{to_hex(path).decode()};"
