"""Who runs next.  One CPU; tasks that can run take turns.

Linux: kernel/sched/core.c (schedule, try_to_wake_up).
"""

from collections import deque

from minikernel.task.task import Task, TaskState
from minikernel.wait import Wait, WaitQueue


class Scheduler:
    """Tasks that can run, in the order they will.

    Invariant: a task is in ``queue`` if and only if its state is RUNNING.
    """

    __slots__ = ("queue",)

    def __init__(self) -> None:
        self.queue: deque[Task] = deque()

    def add(self, task: Task) -> None:
        """A new task can run."""
        task.state = TaskState.RUNNING
        self.queue.append(task)

    def remove(self, task: Task) -> None:
        """Forget *task*: it exits."""
        if task.state is TaskState.RUNNING:
            self.queue.remove(task)
        self._leave_queue(task)

    def pick_next(self) -> Task | None:
        """Choose the task that runs now; None if all sleep.  The chosen one goes to the end of the line."""
        if not self.queue:
            return None
        task = self.queue[0]
        self.queue.rotate(-1)
        return task

    def sleep(self, task: Task, queue: WaitQueue) -> None:
        """Take *task* off the line until ``wake`` (prepare_to_wait)."""
        self.queue.remove(task)
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
        if task.state is TaskState.SLEEPING:
            task.interrupted = True
            self.wake(task, woken=False)

    def stop(self, task: Task) -> None:
        """Stop *task* until SIGCONT."""
        self.queue.remove(task)
        task.state = TaskState.STOPPED

    def resume(self, task: Task) -> None:
        """SIGCONT came."""
        if task.state is TaskState.STOPPED:
            self.add(task)

    def _leave_queue(self, task: Task) -> None:
        queue = task.waiting_on
        task.wait = None
        if queue is not None:
            if task in queue.waiters:
                queue.waiters.remove(task)
            task.waiting_on = None
