"""A kernel with one task and no CPU: enough to make system calls by name and look at what they did."""

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.mman import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.clock import Clock
from minikernel.config import Config
from minikernel.fs.cred import Cred
from minikernel.fs.fdtable import FdTable
from minikernel.fs.namei import FsStruct
from minikernel.kernel import Kernel
from minikernel.mm.layout import I386_PAE_LAYOUT, X86_64_LAYOUT
from minikernel.mm.mmap import do_mmap
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.prng import Prng
from minikernel.syscalls.table import TABLES, advance
from minikernel.task.task import Process, Task
from minikernel.wait import Wait
from tests.minikernel.mm.touch import Machine

BAD = 0x10  # an address where nothing is mapped
SCRATCH = 64 << 10

_NOWHERE: Any = None  # a view of no tree


class Caller:
    """One task of *abi*, running as *uid*; ``scratch`` is the address of 64 KiB of its memory."""

    def __init__(self, abi: Abi = X86_64, *, uid: int = 0) -> None:
        self.machine = Machine(X86_64_LAYOUT if abi is X86_64 else I386_PAE_LAYOUT)
        node, half = self.machine.node, self.machine.kernel_half
        self.icount = 0
        clock = Clock(lambda: self.icount)
        parts = cast("Any", None)  # nothing that needs a CPU
        cpu = cast("Any", SimpleNamespace(icount=0, long_mode=abi is X86_64))
        config = Config(argv=(b"test",))
        self.kernel = Kernel(
            config, self.machine.tracer, node.physmem, cpu, node, half, parts, parts, clock, Prng(1)
        )  # fmt: skip
        self.task = self.add_task(1, abi, uid)
        self.kernel.current = self.task
        self.abi = abi
        self.scratch = int(
            do_mmap(self.task.mm, 0, SCRATCH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, None, 0)
        )

    def add_task(self, pid: int, abi: Abi, uid: int = 0, *, thread_of: Task | None = None) -> Task:
        """A task with id *pid*: a process of its own, or a thread."""
        process = thread_of.process if thread_of is not None else Process(pid, self.machine.rlimits)
        task = Task(self.kernel, pid, process, abi)
        process.threads.append(task)
        if thread_of is None:
            process.leader = task
            process.pgrp = process.session = pid
        task.mm = thread_of.mm if thread_of is not None else self.machine.mm()
        task.has_mm = True
        task.files = FdTable()
        task.fs = FsStruct(_NOWHERE, _NOWHERE, _NOWHERE)
        task.cred = Cred(uid, uid, (uid,))
        task.in_call = abi
        self.kernel.tasks[pid] = task
        return task

    def start(self, name: str, *args: int, task: Task | None = None) -> int | Coroutine[Any, Any, int]:
        """Make the call *name*; what its dispatch gives."""
        task = task or self.task
        regs = [0xDEAD_BEEF_0000_0000] * 16  # high halves that a 32-bit call must not see
        if self.abi is X86_64:
            regs = [0] * 16
        for register, value in zip(self.abi.arg_registers, args, strict=False):
            regs[register] = value & 0xFFFF_FFFF_FFFF_FFFF
        for register in self.abi.arg_registers[len(args) :]:
            regs[register] = 0
        return TABLES[self.abi.name].call(self.kernel, task, NUMBERS[self.abi.name][name], regs)

    def call(self, name: str, *args: int, task: Task | None = None) -> int:
        """Make a call that does not block; -errno on error."""
        result = self.start(name, *args, task=task)
        if isinstance(result, int):
            return result
        ended = advance(result)
        assert isinstance(ended, int), f"{name} blocks"
        return ended

    def block(self, name: str, *args: int, task: Task | None = None) -> tuple[Coroutine[Any, Any, int], Wait]:
        """Make a call that blocks; the coroutine and its first wait."""
        result = self.start(name, *args, task=task)
        assert not isinstance(result, int), f"{name} gave {result}"
        wait = advance(result)
        assert isinstance(wait, Wait), f"{name} ended with {wait}"
        return result, wait

    def put(self, data: bytes, offset: int = 0) -> int:
        """Store *data* in the scratch memory; its address."""
        copy_to_user(self.task.mm, self.scratch + offset, data)
        return self.scratch + offset

    def get(self, size: int, offset: int = 0) -> bytes:
        """The bytes at *offset* of the scratch memory."""
        return copy_from_user(self.task.mm, self.scratch + offset, size)

    def words(self, count: int, offset: int = 0, size: int = 4) -> list[int]:
        """*count* unsigned numbers of *size* bytes at *offset* of the scratch memory."""
        data = self.get(count * size, offset)
        return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]


__all__ = ["BAD", "I386", "X86_64", "Caller"]
