"""Who runs next: one CPU, real-time tasks by priority, the others fairly by virtual runtime.

Linux: kernel/sched/core.c (schedule, try_to_wake_up), fair.c (update_curr, place_entity), rt.c.
Runtime is counted in retired instructions, so the order is the same every time.
"""

from typing import Final

from minikernel.abi.sched import SCHED_FIFO, SCHED_IDLE, SCHED_RR
from minikernel.prng import Prng
from minikernel.task.task import Task, TaskState
from minikernel.wait import Wait, WaitQueue

# Weight of each nice level: sched_prio_to_weight, kernel/sched/core.c.
NICE_TO_WEIGHT: Final = (
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916,
    9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277,
    1024, 820, 655, 526, 423, 335, 272, 215, 172, 137,
    110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
)  # fmt: skip
NICE_0_WEIGHT: Final = 1024
IDLE_WEIGHT: Final = 3
BASE_SLICE: Final = 3_000_000  # instructions: base_slice_ns, 3 ms at one instruction a nanosecond
RR_SLICE: Final = 100_000_000  # RR_TIMESLICE, 100 ms
_MAGNITUDES: Final = 11  # of the slices that a seed draws: the shortest are about a thousandth of the longest


class Scheduler:
    """Tasks that can run.

    Invariant: a task is in ``queue`` if and only if its state is RUNNING.  The queue is in the order of arrival,
    which decides between equals.  Tasks in ``held`` are not picked, whatever their state: a debugger keeps them.
    """

    __slots__ = ("_arrivals", "_min_vruntime", "_noise", "exec_start", "held", "queue", "was_held")

    def __init__(self, seed: int | None = None) -> None:
        self.queue: dict[Task, int] = {}  # task -> when it came, a running number
        self.held: frozenset[Task] = frozenset()
        self.was_held = False  # a task that would have been picked was held
        self.exec_start = 0  # instruction count up to which the running task has been charged
        self._arrivals = 0
        self._min_vruntime = 0
        self._noise = Prng(seed) if seed is not None else None

    # ---- the line

    def add(self, task: Task) -> None:
        """*task* can run: it takes its place behind those that wait (enqueue_task)."""
        task.state = TaskState.RUNNING
        self._arrivals += 1
        self.queue[task] = self._arrivals
        # A sleeper gets no credit beyond one slice for the time it slept (place_entity).
        task.vruntime = max(task.vruntime, self._min_vruntime - BASE_SLICE)
        if _is_realtime(task):
            task.kernel.need_resched = True

    def add_new(self, task: Task, parent: Task) -> None:
        """A new task can run; it starts where its maker is."""
        task.vruntime = max(parent.vruntime, self._min_vruntime)
        self.add(task)

    def remove(self, task: Task) -> None:
        """Forget *task*: it exits."""
        self.queue.pop(task, None)
        self._leave_queue(task)

    def pick_next(self) -> Task | None:
        """Choose the task that runs now; None if all sleep."""
        queue = self.queue
        if self.held:
            self.was_held = self.was_held or not self.held.isdisjoint(queue)
            queue = {task: arrival for task, arrival in queue.items() if task not in self.held}
        if len(queue) <= 1:
            return next(iter(queue), None)
        best = min(queue, key=self._rank)
        if not _is_realtime(best):
            self._min_vruntime = max(self._min_vruntime, best.vruntime)
        return best

    def _rank(self, task: Task) -> tuple[int, int, int]:
        attributes = task.attributes
        if task.pi_priority or attributes.policy in {SCHED_FIFO, SCHED_RR}:
            return (-max(attributes.rt_priority, task.pi_priority), 0, self.queue[task])
        return (1, task.vruntime, self.queue[task])

    def slice_of(self, task: Task, longest: int) -> int:
        """How many instructions *task* may run before others are looked at, at most *longest*."""
        if len(self.queue) <= 1:
            return longest
        policy = task.attributes.policy
        if policy == SCHED_FIFO:
            return longest
        span = min(longest, RR_SLICE if policy == SCHED_RR else BASE_SLICE)
        if self._noise is not None:
            # Of every magnitude alike: also what runs for microseconds only is cut in the middle.
            chance = self._noise.next64()
            span = 1 + (chance >> 8) % (span >> (chance & 0xFF) % _MAGNITUDES)
        return span

    def account(self, task: Task, instructions: int) -> None:
        """*task* ran for *instructions* (update_curr)."""
        attributes = task.attributes
        weight = IDLE_WEIGHT if attributes.policy == SCHED_IDLE else NICE_TO_WEIGHT[attributes.nice + 20]
        task.vruntime += instructions * NICE_0_WEIGHT // weight
        task.utime += instructions

    def slice_over(self, task: Task) -> None:
        """*task* used its slice up: behind the others of its kind (yield, and SCHED_RR's round)."""
        if task in self.queue and task.attributes.policy != SCHED_FIFO:
            self._arrivals += 1
            self.queue[task] = self._arrivals
            task.nr_involuntary_switches += len(self.queue) > 1

    def yield_task(self, task: Task) -> None:
        """sched_yield(2): everybody else first."""
        self._arrivals += 1
        self.queue[task] = self._arrivals
        if not _is_realtime(task):
            others = [other.vruntime for other in self.queue if other is not task and not _is_realtime(other)]
            task.vruntime = max(task.vruntime, *others) if others else task.vruntime

    # ---- sleeping

    def sleep(self, task: Task, queue: WaitQueue) -> None:
        """Take *task* off the line until ``wake`` (prepare_to_wait)."""
        del self.queue[task]
        task.state = TaskState.SLEEPING
        task.waiting_on = queue
        task.nr_voluntary_switches += 1
        queue.waiters.append(task)

    def wake(self, task: Task, *, woken: bool = True) -> None:
        """End the sleep of *task*; *woken* is what its wait answers (False: the time is up)."""
        if task.state is not TaskState.SLEEPING:
            return
        self._leave_queue(task)
        task.woken = woken
        self.add(task)

    def time_out(self, task: Task, wait: Wait) -> None:
        """The time of *wait* is up, if *task* is still in it."""
        if task.wait is wait:
            self.wake(task, woken=False)

    def signal_wake(self, task: Task) -> None:
        """A signal came for *task* (signal_wake_up): an interruptible sleep ends."""
        if task.state is TaskState.SLEEPING and not task.uninterruptible:
            task.interrupted = True
            self.wake(task, woken=False)

    def kill_wake(self, task: Task) -> None:
        """A signal came that ends *task*: so does every sleep, and a stop."""
        if task.state is TaskState.SLEEPING:
            task.interrupted = True
            self.wake(task, woken=False)
        else:
            self.resume(task)

    def stop(self, task: Task) -> None:
        """Stop *task*, which is on its way to user mode, until SIGCONT."""
        if task.state is TaskState.RUNNING:
            del self.queue[task]
            task.state = TaskState.STOPPED

    def resume(self, task: Task) -> None:
        """SIGCONT came."""
        if task.state is TaskState.STOPPED:
            self.add(task)

    def _leave_queue(self, task: Task) -> None:
        queue, wait = task.waiting_on, task.wait
        task.wait = None
        if wait is not None and wait.timer is not None:
            wait.timer.cancel()
        if queue is not None:
            if task in queue.waiters:
                queue.waiters.remove(task)
            task.waiting_on = None


def _is_realtime(task: Task) -> bool:
    return task.pi_priority != 0 or task.attributes.policy in {SCHED_FIFO, SCHED_RR}
