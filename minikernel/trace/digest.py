"""The machine's state in a few bytes: registers, page tables, and the RAM that is in use.

Two runs whose digests agree are, as far as the guest and the kernel's tables go, the same run.  The contents of free
frames are not looked at.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import compress
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from emu.x86 import PAGE_SHIFT
from minikernel.mm.page import PG_table
from minikernel.report.crash import saved_registers
from minikernel.trace.codec import TraceError

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.task.task import Task

REGISTERS: Final = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    *("rip", "rflags", "fs_base", "gs_base"),
)
_SIZE: Final = 16  # bytes of a hash
_RUN: Final = 256  # frames of one checksum, at most


@dataclass(frozen=True, slots=True)
class Digest:
    """The state after event number *after* (from 1), *pid* being in the CPU."""

    after: int
    icount: int
    pid: int
    registers: tuple[int, ...]  # REGISTERS
    tables: str
    ram: str
    frames: int  # in use, tables among them
    fpu: str  # the x87 and SSE state of the task in the CPU
    tasks: str  # every task: its state, saved registers, signals
    swap: str  # which slots are in use, and the checksums of what is in them
    clock: int  # CLOCK_MONOTONIC in ns; 0 where it is the host's

    def as_json(self) -> dict[str, Any]:
        """For a ``DGST`` chunk."""
        return {
            "after": self.after,
            "icount": self.icount,
            "pid": self.pid,
            "registers": list(self.registers),
            "tables": self.tables,
            "ram": self.ram,
            "frames": self.frames,
            "fpu": self.fpu,
            "tasks": self.tasks,
            "swap": self.swap,
            "clock": self.clock,
        }

    @classmethod
    def from_json(cls, value: Any) -> "Digest":
        """What ``as_json`` made.

        Raises:
            TraceError: it did not.
        """
        try:
            registers = tuple(int(number) for number in value["registers"])
            numbers = (int(value["after"]), int(value["icount"]), int(value["pid"]))
            hashes = [str(value[name]) for name in ("tables", "ram", "fpu", "tasks", "swap")]
            tables, ram, fpu, tasks, swap = hashes
            frames, clock = int(value["frames"]), int(value["clock"])
            found = cls(*numbers, registers, tables, ram, frames, fpu, tasks, swap, clock)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise TraceError("a digest is damaged") from None
        if len(registers) != len(REGISTERS):
            raise TraceError("a digest of other registers")
        return found

    def differences(self, other: "Digest") -> list[str]:
        """What is not the same, in words; *other* is the run that is compared with this one."""
        words = []
        if self.pid != other.pid:
            words.append(f"the task in the CPU: {self.pid}, now {other.pid}")
        words += [
            f"register {name}: {ours:#x}, now {theirs:#x}"
            for name, ours, theirs in zip(REGISTERS, self.registers, other.registers, strict=True)
            if ours != theirs
        ]
        if self.frames != other.frames:
            words.append(f"frames in use: {self.frames}, now {other.frames}")
        if self.tables != other.tables:
            words.append("the page tables")
        if self.ram != other.ram:
            words.append("the contents of RAM")
        if self.fpu != other.fpu:
            words.append("the FPU's and SSE registers")
        if self.tasks != other.tasks:
            words.append("the tasks: their states, saved registers or signals")
        if self.swap != other.swap:
            words.append("the contents of swap")
        if self.clock != other.clock:
            words.append(f"the clock: {self.clock} ns, now {other.clock}")
        return words


def take_digest(kernel: "Kernel", after: int) -> Digest:
    """The state of *kernel* now.  About a millisecond, and one for each 5 MiB in use."""
    cpu, node = kernel.cpu, kernel.node
    mem_map, flags = node.mem_map, node.mem_map.flags
    used = list(compress(range(mem_map.nr_frames), mem_map.refcount))
    tables = [pfn for pfn in used if flags[pfn] & PG_table]
    others = [pfn for pfn in used if not flags[pfn] & PG_table]
    registers = (*cpu.regs[:17], cpu.rflags, cpu.fs_base, cpu.gs_base)
    return Digest(
        after=after,
        icount=cpu.icount,
        pid=kernel.tracer.pid,
        registers=registers,
        tables=_hash(kernel, tables),
        ram=_hash(kernel, others),
        frames=len(used),
        fpu=_digest(cpu.fxsave()),
        tasks=_digest(*map(_task_words, kernel.tasks.values())),
        swap=_digest(*(data for area in node.swap.areas if area for data in (area.count, area.checksums))),
        clock=0 if kernel.clock.is_host else kernel.clock.now_ns(),
    )


def _digest(*parts: "bytes | array[int]") -> str:
    digest = blake2b(digest_size=_SIZE)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _task_words(task: "Task") -> bytes:
    """A task as bytes; the registers of the one in the CPU are looked at elsewhere."""
    registers = saved_registers(task) if task is not task.kernel.current else ()
    pending = [info.signo for info in task.pending.queue]
    return repr((task.pid, task.state.name, task.blocked, pending, registers)).encode()


def _hash(kernel: "Kernel", pfns: Iterable[int]) -> str:
    """A hash of the frames' numbers and contents; runs of neighbours are taken at once.

    Of the contents it takes checksums: a difference escapes CRC-32 once in four thousand millions, for each megabyte
    anew, and it is five times as fast as a hash that nobody could deceive.
    """
    digest = blake2b(digest_size=_SIZE)
    view = kernel.physmem.view8
    start = end = -1
    for pfn in (*pfns, -1):
        if pfn == end and end - start < _RUN:
            end += 1
            continue
        if start >= 0:
            digest.update(b"%d-%d:%d " % (start, end, crc32(view[start << PAGE_SHIFT : end << PAGE_SHIFT])))
        start, end = pfn, pfn + 1
    return digest.hexdigest()
