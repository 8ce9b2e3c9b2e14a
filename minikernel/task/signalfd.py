"""Signals read from a file.  Linux: fs/signalfd.c.

What is read is pending for whoever reads: a signalfd belongs to no process, and a child that inherits it reads its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_RDWR
from minikernel.abi.poll import POLLIN
from minikernel.abi.signal import UNMASKABLE
from minikernel.abi.timer import SIGNALFD_SIGINFO_SIZE, pack_signalfd_siginfo
from minikernel.fs.file import OpenFile, WouldBlock
from minikernel.task.signal import dequeue_signal
from minikernel.wait import WaitQueue

if TYPE_CHECKING:
    from minikernel.fs.dentry import Path
    from minikernel.kernel import Kernel
    from minikernel.task.task import Process, Task


def _queue_of(process: Process) -> WaitQueue:
    """Where the readers of *process* wait for any signal (sighand->signalfd_wqh)."""
    if process.signalfd_queue is None:
        process.signalfd_queue = WaitQueue()
    return process.signalfd_queue


class SignalFile(OpenFile):
    """One signalfd: struct signalfd_ctx."""

    __slots__ = ("_kernel", "_mask")

    def __init__(self, path: Path, flags: int, kernel: Kernel, mask: int) -> None:
        super().__init__(path, flags | O_RDWR)
        self._kernel = kernel
        self._mask = mask & ~UNMASKABLE

    def set_mask(self, mask: int) -> None:
        """Read other signals from now on."""
        self._mask = mask & ~UNMASKABLE
        _queue_of(self._reader().process).wake(key=POLLIN)

    def _reader(self) -> Task:
        task = self._kernel.current
        assert task is not None, "SignalFile: used while no task runs"
        return task

    def read(self, count: int) -> bytes:
        """As many struct signalfd_siginfo as are pending and fit (signalfd_read_iter)."""
        room = count // SIGNALFD_SIGINFO_SIZE
        if not room:
            raise LinuxError(Errno.EINVAL, "a signalfd is read in 128 bytes")
        reader = self._reader()
        found: list[bytes] = []
        while len(found) < room and (info := dequeue_signal(reader, self._mask)) is not None:
            found.append(pack_signalfd_siginfo(info))
        if not found:
            raise WouldBlock(_queue_of(reader.process), "none of its signals is pending")
        return b"".join(found)

    def unread(self, data: bytes) -> None:
        """The signals are lost, as on Linux."""

    def seek(self, offset: int, whence: int) -> int:
        """Nowhere to go (noop_llseek)."""
        del offset, whence
        return self.pos

    def poll(self) -> int:
        """signalfd_poll: of who asks."""
        reader = self._reader()
        pending = reader.pending.mask | reader.process.shared_pending.mask
        return POLLIN if pending & self._mask else 0

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        """Woken by every signal that is sent to who asks."""
        return (_queue_of(self._reader().process),)

    def fdinfo(self) -> bytes:
        """signalfd_show_fdinfo."""
        return b"sigmask:\t%016x\n" % self._mask
