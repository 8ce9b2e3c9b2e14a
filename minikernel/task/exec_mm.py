"""The address space of a new program, while the old one still stands.  Linux: fs/exec.c (setup_new_exec)."""

from typing import Final

from emu.x86 import VirtAddr
from minikernel.abi.abi import X86_64, Abi
from minikernel.abi.capability import CAP_IPC_LOCK, CAP_SYS_ADMIN, CAP_SYS_RAWIO
from minikernel.abi.resource import RLIMIT_STACK
from minikernel.mm.address_layout import TASK_SIZE_COMPAT, TASK_SIZE_I386, TASK_SIZE_X86_64, address_layout
from minikernel.mm.mm_struct import MmStruct
from minikernel.prng import Prng
from minikernel.task.binprm import BinPrm
from minikernel.task.task import Task

_ADDR_NO_RANDOMIZE: Final = 0x0040000
_ADDR_COMPAT_LAYOUT: Final = 0x0200000
_STK_LIM: Final = 8 << 20


class Image:
    """A program that is ready to replace another: its memory and its first two registers."""

    __slots__ = ("abi", "entry", "mm", "sp")

    def __init__(self, abi: Abi, mm: MmStruct, sp: int, entry: int) -> None:
        self.abi = abi
        self.mm = mm
        self.sp = sp
        self.entry = entry


def new_mm(task: Task, bprm: BinPrm, abi: Abi, *, read_implies_exec: bool) -> MmStruct:
    """An empty address space laid out for a program of *abi* (arch_pick_mmap_layout)."""
    kernel = task.kernel
    machine_64bit = kernel.cpu.long_mode
    personality = task.personality & ~bprm.per_clear
    task_size_32 = TASK_SIZE_COMPAT if machine_64bit else TASK_SIZE_I386
    stack_limit = task.rlimits[RLIMIT_STACK][0]
    layout = address_layout(
        TASK_SIZE_X86_64 if abi is X86_64 else task_size_32,
        stack_limit=min(stack_limit, _STK_LIM) if bprm.secure else stack_limit,
        random=kernel.random.next64() | 1 if randomize(task, bprm) else 0,
        machine_64bit=machine_64bit,
        bottom_up=bool(personality & _ADDR_COMPAT_LAYOUT),
    )
    mm = MmStruct(kernel.node, kernel.kernel_half, layout, kernel.tracer, task.rlimits)
    mm.read_implies_exec = read_implies_exec
    mm.thp_disabled = task.mm.thp_disabled if task.has_mm else 0
    mm.cap_sys_admin = bprm.cred.capable(CAP_SYS_ADMIN)
    mm.cap_sys_rawio = bprm.cred.capable(CAP_SYS_RAWIO)
    mm.cap_ipc_lock = bprm.cred.capable(CAP_IPC_LOCK)
    return mm


def randomize(task: Task, bprm: BinPrm) -> bool:
    """Whether the program's places are random."""
    return task.kernel.config.aslr and not task.personality & ~bprm.per_clear & _ADDR_NO_RANDOMIZE


def stack_top(mm: MmStruct, random: Prng | None) -> int:
    """Where the stack ends (randomize_stack_top)."""
    if random is None:
        return mm.layout.stack_top
    pages = 0x3FFFFF if mm.layout.is_64bit else 0x7FF
    return VirtAddr(mm.layout.stack_top - ((random.next64() & pages) << 12))
