"""Which signals are pending, in which order they are taken, and which never arrive: kernel/signal.c's rules."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikernel.abi import signal as s
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import Sigaction, sigmask
from minikernel.task.signal import dequeue_signal, force_signal, get_signal, send_signal, set_blocked
from minikernel.task.task import Sigpending, Task
from tests.minikernel.task.programs import Machine

EVERYTHING = (1 << 64) - 1
HANDLED = Sigaction(0x40_1234)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("root"))
    yield made
    made.close()


@pytest.fixture
def task(machine: Machine) -> Task:
    return fresh(machine)


def fresh(machine: Machine) -> Task:
    """The machine's task with everything about signals as in a new process."""
    task = machine.task
    task.blocked, task.sigpending = 0, False
    task.pending, task.process.shared_pending = Sigpending(), Sigpending()
    for sig in range(1, s.NSIG + 1):
        task.process.actions[sig] = Sigaction()
    return task


def taken(task: Task, allowed: int = EVERYTHING) -> list[int]:
    """Signals in the order in which they are dequeued."""
    order = []
    while (info := dequeue_signal(task, allowed)) is not None:
        order.append(info.signo)
    return order


def test_a_standard_signal_is_pending_once_and_keeps_its_first_siginfo(task: Task) -> None:
    task.blocked = EVERYTHING & ~s.UNMASKABLE
    for pid in (1, 2, 3):
        send_signal(task, Siginfo(s.SIGUSR1, pid=pid), group=False)

    info = dequeue_signal(task, EVERYTHING)
    assert info is not None
    assert info.pid == 1
    assert taken(task) == []


def test_realtime_signals_queue_in_order(task: Task) -> None:
    task.blocked = EVERYTHING & ~s.UNMASKABLE
    for value in range(5):
        send_signal(task, Siginfo(s.SIGRTMIN + 2, s.SI_QUEUE, value=value), group=False)

    infos = [dequeue_signal(task, EVERYTHING) for _ in range(5)]
    assert [info.value for info in infos if info] == list(range(5))
    assert not task.pending.mask


def test_one_of_a_kind_may_wait_for_the_thread_and_one_for_the_process(task: Task) -> None:
    task.blocked = EVERYTHING & ~s.UNMASKABLE
    for group in (True, False):
        send_signal(task, Siginfo(s.SIGUSR1, pid=7 if group else 8), group=group)

    first, second = dequeue_signal(task, EVERYTHING), dequeue_signal(task, EVERYTHING)
    assert first is not None
    assert second is not None
    assert (first.pid, second.pid) == (8, 7)


@given(st.permutations([s.SIGHUP, s.SIGUSR1, s.SIGSEGV, s.SIGTERM, s.SIGBUS, s.SIGRTMIN, s.SIGRTMAX]))
def test_synchronous_signals_come_first_then_the_lowest(machine: Machine, order: list[int]) -> None:
    task = fresh(machine)
    task.blocked = EVERYTHING & ~s.UNMASKABLE
    for sig in order:
        send_signal(task, Siginfo(sig), group=False)

    assert taken(task) == [s.SIGBUS, s.SIGSEGV, s.SIGHUP, s.SIGUSR1, s.SIGTERM, s.SIGRTMIN, s.SIGRTMAX]


@given(st.lists(st.tuples(st.integers(1, 64), st.booleans()), max_size=30), st.integers(0, EVERYTHING))
def test_mask_and_queue_agree(machine: Machine, sent: list[tuple[int, bool]], allowed: int) -> None:
    """Whatever is sent and taken."""
    task = fresh(machine)
    task.blocked = EVERYTHING & ~s.UNMASKABLE
    for sig, group in sent:
        if not sigmask(sig) & (s.UNMASKABLE | s.STOPS_BY_DEFAULT | sigmask(s.SIGCONT)):
            send_signal(task, Siginfo(sig), group=group)
    took = taken(task, allowed)

    assert all(sigmask(sig) & allowed for sig in took)
    for pending in (task.pending, task.process.shared_pending):
        assert pending.mask == sigmask(*{info.signo for info in pending.queue})
        assert not pending.mask & allowed


def test_what_is_ignored_does_not_arrive_unless_it_is_blocked(task: Task) -> None:
    """Blocked, it may be heard later: the action can change (sig_ignored)."""
    task.process.actions[s.SIGUSR1] = Sigaction(s.SIG_IGN)
    for sig in (s.SIGUSR1, s.SIGCHLD, s.SIGWINCH):
        send_signal(task, Siginfo(sig), group=False)
    assert not task.pending.queue

    task.blocked = sigmask(s.SIGUSR1, s.SIGCHLD)
    for sig in (s.SIGUSR1, s.SIGCHLD, s.SIGWINCH):
        send_signal(task, Siginfo(sig), group=False)
    assert taken(task) == [s.SIGUSR1, s.SIGCHLD]


def test_stop_signals_and_sigcont_cancel_each_other(task: Task) -> None:
    task.blocked = EVERYTHING & ~s.UNMASKABLE
    send_signal(task, Siginfo(s.SIGTSTP), group=False)
    send_signal(task, Siginfo(s.SIGCONT), group=True)
    assert taken(task) == [s.SIGCONT]

    send_signal(task, Siginfo(s.SIGCONT), group=True)
    send_signal(task, Siginfo(s.SIGTTIN), group=False)
    assert taken(task) == [s.SIGTTIN]


def test_kill_and_stop_cannot_be_blocked(task: Task) -> None:
    set_blocked(task, EVERYTHING)

    assert task.blocked == EVERYTHING & ~s.UNMASKABLE


def test_unblocking_makes_a_pending_signal_a_thing_to_do(task: Task) -> None:
    task.process.actions[s.SIGUSR1] = HANDLED
    task.blocked = sigmask(s.SIGUSR1)
    send_signal(task, Siginfo(s.SIGUSR1), group=True)
    assert not task.sigpending

    set_blocked(task, 0)
    assert task.sigpending
    chosen = get_signal(task)
    assert chosen is not None
    assert (chosen[0].signo, chosen[1]) == (s.SIGUSR1, HANDLED)
    assert not task.sigpending


def test_a_forced_signal_with_a_handler_is_delivered_to_it(task: Task) -> None:
    task.process.actions[s.SIGSEGV] = HANDLED

    force_signal(task, Siginfo(s.SIGSEGV, s.SEGV_ACCERR, addr=0x1000))

    chosen = get_signal(task)
    assert chosen is not None
    assert (chosen[0].addr, chosen[1]) == (0x1000, HANDLED)


@pytest.mark.parametrize("blocked", [False, True])
def test_a_forced_signal_that_is_blocked_or_ignored_gets_the_default_action(task: Task, blocked: bool) -> None:
    task.process.actions[s.SIGSEGV] = HANDLED if blocked else Sigaction(s.SIG_IGN)
    task.blocked = sigmask(s.SIGSEGV, s.SIGUSR1) if blocked else 0

    force_signal(task, Siginfo(s.SIGSEGV))

    assert task.process.actions[s.SIGSEGV].handler == s.SIG_DFL
    assert task.blocked == (sigmask(s.SIGUSR1) if blocked else 0)
    assert task.sigpending
