"""kswapd: the kernel task that reclaims memory while others run.  Linux: mm/vmscan.c, kswapd.

It is a task of the scheduler whose code is a coroutine, as a blocked system call's is; it is not in the process table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from minikernel.abi.abi import I386
from minikernel.abi.resource import default_rlimits
from minikernel.task.task import Process, Task, TaskState
from minikernel.wait import WaitQueue

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.mm.vmscan import Vmscan

KSWAPD_PID: Final = 1 << 15  # beyond every process
_MAX_FAILURES: Final = 16  # MAX_RECLAIM_RETRIES: runs without a page, after which only direct reclaim tries


class Kswapd:
    """The task and what wakes it."""

    __slots__ = ("_kernel", "_queue", "_vmscan", "failures", "task")

    def __init__(self, kernel: Kernel, vmscan: Callable[[], Vmscan]) -> None:
        """*vmscan* gives the room that reclaims; it is asked when memory is short for the first time."""
        self._kernel = kernel
        self._vmscan = vmscan
        self._queue = WaitQueue()
        self.failures = 0
        self.task = Task(kernel, KSWAPD_PID, Process(KSWAPD_PID, default_rlimits()), I386)
        self.task.comm = b"kswapd0"
        self.task.uninterruptible = True
        self.task.blocked_call = self._run()

    def wake(self) -> None:
        """Memory is below a low watermark (wakeup_kswapd)."""
        if self.task.state is not TaskState.SLEEPING or self._queue.is_awaited() is False:
            return
        if self.failures >= _MAX_FAILURES and not self._vmscan().has_progressed:
            return
        self._queue.wake()
        self._kernel.need_resched = True

    async def _run(self) -> int:
        while True:
            await self._queue.wait()
            vmscan = self._vmscan()
            vmscan.has_progressed = False
            self.failures = 0 if vmscan.balance() else self.failures + 1
