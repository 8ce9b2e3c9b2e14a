"""Futexes with priority inheritance: who is next, and with what priority the owner runs."""

from collections.abc import Coroutine
from typing import Any

from minikernel.abi.sched import SCHED_FIFO
from minikernel.syscalls.table import advance
from minikernel.task.futex_pi import exit_pi_state_list, priority
from minikernel.task.task import Task
from tests.minikernel.syscalls.calls import Caller

LOCK_PI, UNLOCK_PI, TRYLOCK_PI, WAIT_REQUEUE_PI, CMP_REQUEUE_PI = 6, 7, 8, 11, 12
WAITERS, OWNER_DIED = 1 << 31, 1 << 30
EAGAIN, EDEADLK, ERESTARTNOINTR = -11, -35, -513


class Locks:
    """A process whose threads take the locks at *address*, one word each."""

    def __init__(self) -> None:
        self.caller = Caller()
        self.kernel = self.caller.kernel
        self.address = self.caller.put(bytes(16))

    def thread(self, pid: int, rt_priority: int = 0) -> Task:
        """One more thread; FIFO with *rt_priority*, if that is not 0."""
        task = self.caller.add_task(pid, self.caller.abi, thread_of=self.caller.task)
        if rt_priority:
            task.attributes.policy, task.attributes.rt_priority = SCHED_FIFO, rt_priority
        return task

    def take(self, task: Task, lock: int) -> int:
        """The lock is free."""
        return self.caller.call("futex", self.address + 4 * lock, LOCK_PI, 0, 0, task=task)

    def wait(self, task: Task, lock: int) -> Coroutine[Any, Any, int]:
        """The lock is taken."""
        return self.caller.block("futex", self.address + 4 * lock, LOCK_PI, 0, 0, task=task)[0]

    def give(self, task: Task, lock: int) -> int:
        """Unlock."""
        return self.caller.call("futex", self.address + 4 * lock, UNLOCK_PI, 0, 0, task=task)

    def words(self) -> list[int]:
        """What is in the first two locks."""
        return self.caller.words(2)

    def is_clean(self) -> bool:
        """Nobody waits, and nobody has a priority that is not its own."""
        tasks = self.kernel.tasks.values()
        return not (self.kernel.pi_states or self.kernel.pi_blocked or any(task.pi_priority for task in tasks))


def test_the_lock_goes_to_the_highest_priority_and_equals_in_the_order_they_came() -> None:
    locks = Locks()
    owner, low, high, other = locks.thread(10), locks.thread(11), locks.thread(12, 5), locks.thread(13)
    assert locks.take(owner, 0) == 0
    calls = {task.pid: locks.wait(task, 0) for task in (low, high, other)}

    order = []
    holder = owner
    for _ in range(3):
        assert locks.give(holder, 0) == 0
        holder = locks.kernel.tasks[locks.words()[0] & 0xFFFF]
        assert advance(calls[holder.pid], True) == 0
        order.append(holder.pid)
    assert order == [12, 11, 13]
    assert locks.words()[0] == 13 | WAITERS  # Linux leaves the bit for the last one, who then asks in vain
    assert locks.give(holder, 0) == 0
    assert locks.words()[0] == 0
    assert locks.is_clean()


def test_the_owner_inherits_through_a_chain_and_only_for_so_long() -> None:
    """10 has lock 0; 11 has lock 1 and waits for 0; 12, real-time, waits for 1: both owners run with its priority."""
    locks = Locks()
    first, second, urgent = locks.thread(10), locks.thread(11), locks.thread(12, 50)
    locks.take(first, 0)
    locks.take(second, 1)
    waiting = locks.wait(second, 0)
    assert (priority(first), priority(second)) == (0, 0)

    call = locks.wait(urgent, 1)
    assert (priority(first), priority(second)) == (50, 50)
    assert locks.kernel.need_resched

    assert advance(call, None, interrupt=True) == ERESTARTNOINTR
    assert (priority(first), priority(second)) == (0, 0)
    locks.give(first, 0)
    assert advance(waiting, True) == 0
    assert locks.is_clean()


def test_a_waiter_with_a_new_priority_gets_another_place() -> None:
    locks = Locks()
    owner, early, late = locks.thread(10), locks.thread(11, 3), locks.thread(12, 2)
    locks.take(owner, 0)
    calls = [locks.wait(early, 0), locks.wait(late, 0)]
    param = locks.caller.put((40).to_bytes(4, "little"), 64)

    assert locks.caller.call("sched_setscheduler", 12, SCHED_FIFO, param) == 0
    assert priority(owner) == 40
    locks.give(owner, 0)
    assert advance(calls[1], True) == 0
    assert (priority(owner), priority(late)) == (0, 40)
    calls[0].close()


def test_a_circle_is_refused() -> None:
    locks = Locks()
    first, second, third = (locks.thread(pid) for pid in (10, 11, 12))
    for lock, task in enumerate((first, second, third)):
        locks.take(task, lock)
    calls = [locks.wait(first, 1), locks.wait(second, 2)]

    assert locks.caller.call("futex", locks.address, LOCK_PI, 0, 0, task=third) == EDEADLK
    assert locks.caller.call("futex", locks.address, LOCK_PI, 0, 0, task=first) == EDEADLK
    for call in calls:
        call.close()
    assert locks.is_clean()


def test_the_heir_of_a_dead_owner_is_told() -> None:
    locks = Locks()
    owner, heir = locks.thread(10), locks.thread(11)
    locks.take(owner, 0)
    call = locks.wait(heir, 0)

    exit_pi_state_list(owner)
    assert advance(call, True) == 0
    assert locks.words()[0] == 11 | WAITERS | OWNER_DIED
    assert locks.is_clean()


def test_requeued_waiters_get_the_lock_one_after_the_other() -> None:
    """The first gets it at once, the others stand in line for it; a signal there is EAGAIN."""
    locks = Locks()
    threads = [locks.thread(pid) for pid in (10, 11, 12)]
    cond = locks.address + 8
    calls = [
        locks.caller.block("futex", cond, WAIT_REQUEUE_PI, 0, 0, locks.address, 0, task=thread)[0] for thread in threads
    ]
    assert locks.caller.call("futex", cond, CMP_REQUEUE_PI, 1, 9, locks.address, 0) == 3
    assert locks.words()[0] == 10 | WAITERS
    assert advance(calls[0], True) == 0
    assert advance(calls[2], None, interrupt=True) == EAGAIN
    assert locks.give(threads[0], 0) == 0
    assert advance(calls[1], True) == 0
    assert locks.give(threads[1], 0) == 0
    assert locks.words()[0] == 0
    assert locks.is_clean()
    assert locks.kernel.futexes == {}
