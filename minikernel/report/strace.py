"""strace for a run: the formatter of ``syscalls.strace``, with the running task's memory to look at."""

from typing import TYPE_CHECKING, TextIO

from minikernel.report.peek import peek
from minikernel.syscalls.strace import Strace

if TYPE_CHECKING:
    from minikernel.kernel import Kernel


class CurrentMemory:
    """The memory of the task in the CPU, read without touching it."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel

    def read_bytes(self, address: int, size: int) -> bytes | None:
        """*size* bytes; None if they are not all there."""
        task = self._kernel.current
        if task is None or not task.has_mm:
            return None
        data = peek(task.mm, address, size)
        return data if len(data) == size else None

    def read_string(self, address: int, limit: int) -> bytes | None:
        """The string at *address* without its NUL, or *limit* bytes of it; None if it is not there."""
        task = self._kernel.current
        if task is None or not task.has_mm:
            return None
        data = peek(task.mm, address, limit)
        text, end, _ = data.partition(b"\0")
        return text if end or len(data) == limit else None


def strace_sink(kernel: "Kernel", file: TextIO) -> Strace:
    """A sink that prints every system call to *file*."""
    return Strace(file.write, CurrentMemory(kernel))
