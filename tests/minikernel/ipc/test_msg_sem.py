"""Queues and semaphores at random: the books hold, nobody waits for what is possible, and no memory is lost.

What each call answers is compared with this machine's Linux by guest/ipc/msg_calls.c and sem_calls.c.
"""

from hypothesis import given
from hypothesis import strategies as st

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ipc import IPC_CREAT, IPC_NOWAIT, IPC_PRIVATE
from minikernel.abi.msg import MSG_COPY, MSG_EXCEPT, MSG_NOERROR
from minikernel.abi.sem import SEM_UNDO, Sembuf
from minikernel.fs.cred import Cred
from minikernel.ipc.msg import Message, Msg, Waiter, Wish
from minikernel.ipc.sem import Sem, SemWaiter, UndoList
from tests.minikernel.fs.fake import FakeServices

CRED = Cred()


class Services(FakeServices):
    """A kernel with one process."""

    def acting_tgid(self) -> int:
        return 7


def held(services: Services) -> int:
    """Objects of kmalloc that are in use."""
    return sum(cache.nr_in_use for name, cache in services.node.slab.caches.items() if name.startswith("kmalloc"))


SENDS = st.tuples(st.just("send"), st.integers(1, 4), st.sampled_from([0, 1, 100, 5000, 8192]))
RECEIVES = st.tuples(
    st.just("receive"), st.integers(-4, 4), st.sampled_from([0, MSG_EXCEPT, MSG_NOERROR, MSG_COPY])
)  # fmt: skip
OTHERS = st.tuples(st.sampled_from(["give up", "resize"]), st.integers(0, 9), st.just(0))


@given(st.lists(SENDS | RECEIVES | OTHERS, max_size=60))
def test_messages_come_in_order_and_none_is_lost(steps: list[tuple[str, int, int]]) -> None:
    services = Services()
    before = held(services)
    msg = Msg(services)
    queue = msg.get(IPC_PRIVATE, IPC_CREAT | 0o600, CRED)
    waiting: list[Waiter] = []
    for what, number, value in steps:
        if what == "send":
            waiter = msg.send(queue, Message(services, number, bytes(value)), CRED)
            waiting += [waiter] if waiter else []
        elif what == "receive":
            flags = value | (IPC_NOWAIT if value & MSG_COPY else 0)
            try:
                found = msg.receive(queue, 6000, Wish(number, flags), flags, CRED)
            except LinuxError as error:
                assert error.errno is Errno.E2BIG  # noqa: PT017 - only sometimes
                continue
            if isinstance(found, Message):
                found.free()
            elif not value & MSG_COPY:
                waiting.append(found)
        elif what == "resize":
            msg.set(queue, (0, 0, 0o600), number * 2000, CRED)
        elif waiting:
            waiter = waiting.pop(number % len(waiting))
            if not waiter.done:
                msg.give_up(queue, waiter)
                if waiter.message is not None:
                    waiter.message.free()
            elif isinstance(waiter.outcome, Message):
                waiter.outcome.free()
        msg.validate()
    msg.remove(queue, CRED)
    for waiter in waiting:
        assert waiter.done
        if isinstance(waiter.outcome, Message):
            waiter.outcome.free()
    assert held(services) == before


OPERATIONS = st.lists(
    st.builds(Sembuf, st.integers(0, 2), st.integers(-3, 3), st.sampled_from([0, SEM_UNDO, IPC_NOWAIT])),
    min_size=1,
    max_size=3,
)
STEPS = st.tuples(st.sampled_from(["operate", "set", "give up", "end"]), st.integers(0, 3), OPERATIONS)


@given(st.lists(STEPS, max_size=60))
def test_operations_happen_at_once_or_not_at_all(steps: list[tuple[str, int, list[Sembuf]]]) -> None:
    services = Services()
    before = held(services)
    sem = Sem(services)
    made = sem.get(IPC_PRIVATE, 3, IPC_CREAT | 0o600, CRED)
    array = sem.ids.obtain_check(made)
    tasks = [UndoList(sem), UndoList(sem)]
    waiting: list[SemWaiter] = []
    for what, number, operations in steps:
        values = [each.value for each in array.semaphores]
        if what == "operate":
            try:
                waiter = sem.operate(made, operations, tasks[number % 2], CRED)
            except LinuxError as error:
                assert error.errno is Errno.EAGAIN  # noqa: PT017 - only sometimes
                waiter = None
                assert values == [each.value for each in array.semaphores]
            if waiter is not None:
                waiting.append(waiter)
                assert values == [each.value for each in array.semaphores]
        elif what == "set":
            sem.set_values(array, {operations[0].number: number})
        elif what == "end":
            tasks[number % 2].take_back(7)
        elif waiting:
            waiter = waiting.pop(number % len(waiting))
            if waiter.outcome is None:
                sem.give_up(made, waiter)
        sem.validate()
    sem.remove(made, CRED)
    assert all(waiter.outcome is not None for waiter in waiting)
    assert held(services) == before


def test_without_memory_nothing_is_made() -> None:
    services = Services(ram=4 << 20)
    msg, sem = Msg(services), Sem(services)
    while services.node.alloc_page() is not None:
        pass
    before = held(services)
    for make in (lambda: Message(services, 1, bytes(8192)), lambda: sem.get(IPC_PRIVATE, 20000, 0o600, CRED)):
        try:
            make()
        except LinuxError as error:
            assert error.errno is Errno.ENOMEM  # noqa: PT017 - what is left of the last slab may do for a part
        else:
            raise AssertionError("there was memory")
    assert held(services) == before
    assert not len(sem.ids)
    assert not len(msg.ids)
