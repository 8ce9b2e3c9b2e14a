"""A machine without a CPU whose faults are explained: the stand-in hardware of the mm tests, and a kernel around it."""

import os
from pathlib import Path
from typing import cast

from emu.cpu import RIP, RSP
from emu.x86 import PAGE_MASK, PF_U, VirtAddr
from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.mman import PROT_EXEC, PROT_READ
from minikernel.events import Event, PageFaultUser
from minikernel.kernel import Kernel
from minikernel.mm.fault import handle_mm_fault
from minikernel.mm.layout import X86_64_LAYOUT, KernelLayout
from minikernel.mm.mm_struct import MmStruct
from minikernel.report.explain import Explainer
from minikernel.report.explanation import Explanation
from minikernel.task.task import Task
from tests.minikernel.mm.touch import BASE, Machine, Store, access_fault, map_fixed

CODE = BASE - 0x10_0000  # where the program's code is
GOLDEN = Path(__file__).parent / "golden"
STORE_INSN = bytes.fromhex("c60001")  # mov byte ptr [rax], 1


class FakeCpu:
    """Registers, and nothing that runs."""

    def __init__(self, *, long_mode: bool) -> None:
        self.regs = [0x1000 + index for index in range(17)]
        self.rflags = 0x246
        self.code_bits = 64 if long_mode else 32
        self.long_mode = long_mode
        self.fs_base = 0x7000
        self.gs_base = 0
        self.icount = 1234

    def segment(self, name: str) -> int:
        return {"cs": 0x33, "ss": 0x2B}.get(name, 0)


class FakeConfig:
    argv = (b"/bin/prog", b"-x")
    cpu = "x86-64"


class FakeClock:
    def now_ns(self) -> int:
        return 5_000_000


class FakeTask:
    def __init__(self, mm: MmStruct, abi: Abi) -> None:
        self.pid = 7
        self.mm = mm
        self.has_mm = True
        self.abi = abi
        self.comm = b"prog"
        self.context = b""
        self.trap_nr = self.error_code = self.cr2 = 0


class FakeKernel:
    """What the reports ask of a kernel."""

    def __init__(self, machine: Machine, mm: MmStruct, abi: Abi) -> None:
        self.cpu = FakeCpu(long_mode=machine.node.layout.mode.va_bits > 32)
        self.node = machine.node
        self.physmem = machine.node.physmem
        self.task = FakeTask(mm, abi)
        self.tasks = {self.task.pid: self.task}
        self.current: FakeTask | None = self.task
        self.vdso: dict[object, object] = {}
        self.config = FakeConfig()
        self.clock = FakeClock()


class Stage:
    """One program with a page of code at CODE, and its explainer."""

    def __init__(self, layout: KernelLayout = X86_64_LAYOUT, *, ram: int = 16 << 20) -> None:
        self.machine = Machine(layout, ram=ram)
        self.mm = self.machine.mm()
        self.abi = X86_64 if layout.mode.va_bits > 32 else I386
        self.fake = FakeKernel(self.machine, self.mm, self.abi)
        self.code = self.machine.file(store=Store(STORE_INSN.ljust(16, b"\x90")))
        self.code.path = b"/bin/prog"
        map_fixed(self.mm, CODE, 1, PROT_READ | PROT_EXEC, file=self.code)
        self.fake.cpu.regs[RIP] = CODE
        self.fake.cpu.regs[RSP] = BASE
        self.explainer = Explainer(self.kernel)
        self.stories: list[Explanation] = []

    @property
    def kernel(self) -> Kernel:
        """The fake, for those who want the real one."""
        return cast("Kernel", self.fake)

    @property
    def task(self) -> Task:
        """The program's task, likewise."""
        return cast("Task", self.fake.task)

    def hear(self, icount: int, pid: int, event: Event) -> None:
        """Be the machine's sink."""
        del icount, pid
        story = self.explainer.feed(self.fake.cpu.icount, self.fake.task.pid, event)
        if story is not None:
            self.stories.append(story)

    def fault(self, address: int, access: int, *, error_code: int | None = None, ip: int = CODE) -> Explanation:
        """Have the program access one byte; its fault, explained.  *error_code*: as if the hardware had said so."""
        if error_code is None:
            found = access_fault(self.mm, address, access)
            assert found is not None, "no fault happened"
            error_code = found.error_code
        tracer = self.machine.tracer
        tracer.sink = self.hear
        try:
            tracer.emit(PageFaultUser(VirtAddr(address), VirtAddr(ip), error_code))
            handle_mm_fault(self.mm, address, error_code)
        finally:
            tracer.sink = None
        return self.stories[-1]


def check_golden(name: str, text: str) -> None:
    """Compare *text* with golden/NAME.txt; UPDATE_GOLDEN=1 in the environment records it instead."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs"


USER = PF_U
PAGE = PAGE_MASK + 1
