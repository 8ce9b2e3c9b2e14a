"""What every task costs: a kernel stack, and objects.  Linux: kernel/fork.c (alloc_thread_stack_node, dup_task_struct).

Our kernel runs in Python and leaves these bytes alone but for the mark at a stack's end.  On x86-64 a stack lies in
the vmalloc area, with a guard page behind it (CONFIG_VMAP_STACK); on i386 it is a block of frames.
"""

from struct import Struct
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, Pfn
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.kernel_half import KernelHalf
from minikernel.mm.page import PG_kernel
from minikernel.mm.slab_objects import Charge, charge

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.task.task import Task

NR_CACHED_STACKS: Final = 2
_IMAGE: Final = Struct("<IIQQ16s")  # pid, tgid, addresses of the stack and of the mm_struct, comm
STACK_END_MAGIC: Final = 0x57AC6E9D  # at the lowest address: include/uapi/linux/magic.h


class KernelStacks:
    """Gives stacks out; keeps up to two that came back for the next tasks, as Linux does for each CPU.

    *size* is THREAD_SIZE in bytes; *nr_stacks* counts those in use, in /proc/meminfo's KernelStack.
    """

    __slots__ = ("_cached", "_half", "_order", "nr_stacks", "size")

    def __init__(self, half: KernelHalf) -> None:
        self._half = half
        self._cached: list[int] = []
        self._order = 2 if half.mode.va_bits > 32 else 1
        self.size = PAGE_SIZE << self._order
        self.nr_stacks = 0

    def alloc(self) -> int:
        """The lowest address of a stack.

        Errors:
            ENOMEM: no memory for one.
        """
        address = self._cached.pop() if self._cached else self._make()
        self.nr_stacks += 1
        return address

    def free(self, address: int) -> None:
        """The task of the stack at *address* runs no more."""
        self.nr_stacks -= 1
        if len(self._cached) < NR_CACHED_STACKS:
            self._cached.append(address)
            return
        self._free(address)

    def free_cached(self) -> None:
        """Give back the stacks that wait for the next tasks (free_vm_stack_cache)."""
        while self._cached:
            self._free(self._cached.pop())

    def _free(self, address: int) -> None:
        assert self._magic(address) == STACK_END_MAGIC, f"free_thread_stack: the end of {address:#x} is overwritten"
        if self._half.mode.va_bits > 32:
            self._half.vmalloc.vfree(address)
        else:
            self._half.node.put_page(Pfn((address - self._half.layout.page_offset) >> PAGE_SHIFT))

    def _make(self) -> int:
        half = self._half
        magic = STACK_END_MAGIC.to_bytes(4, "little")
        if half.mode.va_bits > 32:
            where = half.vmalloc.vmalloc(self.size, "kernel_clone")
            half.vmalloc.write(where, magic)
            return where
        pfn = half.node.alloc_pages(self._order)
        if pfn is None:
            raise LinuxError(Errno.ENOMEM, "no block for a kernel stack")
        half.node.mem_map.flags[pfn] |= PG_kernel
        address = half.layout.page_offset + (pfn << PAGE_SHIFT)
        half.node.slab.write(address, magic)
        return address

    def _magic(self, address: int) -> int:
        half = self._half
        read = half.vmalloc.read if half.mode.va_bits > 32 else half.node.slab.read
        return int.from_bytes(read(address, 4), "little")


def charge_task(kernel: "Kernel") -> list[Charge]:
    """The objects of one task: its task_struct, pid and credentials.  Errors: ENOMEM."""
    objects = kernel.node.objects
    return charge([objects.task_struct, objects.pid, objects.cred_jar])


def read_image(task: "Task") -> tuple[int, int, int, int, bytes]:
    """Pid, tgid, stack, mm_struct and name, as the bytes of the task's task_struct say."""
    pid, tgid, stack, mm, comm = _IMAGE.unpack(task.kernel.node.slab.read(task.objects[0][1], _IMAGE.size))
    return pid, tgid, stack, mm, comm.rstrip(b"\0")


def write_image(task: "Task") -> None:
    """Store in a task's task_struct what it stands for: _IMAGE, at offsets of our own."""
    if task.objects:
        mm = task.mm.address if task.has_mm else 0
        image = _IMAGE.pack(task.pid, task.tgid, task.stack, mm, task.comm)
        task.kernel.node.slab.write(task.objects[0][1], image)


def charge_process(kernel: "Kernel", *, own_sighand: bool) -> list[Charge]:
    """The objects that the threads of a process share.  Errors: ENOMEM.

    Handlers that another process shares (CLONE_SIGHAND without CLONE_THREAD) count as that process's.
    """
    objects = kernel.node.objects
    return charge([objects.signal_cache, objects.sighand_cache] if own_sighand else [objects.signal_cache])
