"""Queues of signals, their limit, and which thread takes one."""

import pytest

from minikernel.abi import signal as s
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import RLIMIT_SIGPENDING
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import SIG_IGN, Sigaction, sigmask
from minikernel.task.signal import force_signal, is_ignored, send_signal, set_blocked
from minikernel.task.task import TaskState
from minikernel.wait import WaitQueue
from tests.minikernel.task.timed import Timed

RT = s.SIGRTMIN + 2


@pytest.fixture
def machine() -> Timed:
    made = Timed(uid=1000)
    made.handle(s.SIGUSR1, s.SIGUSR2, RT, RT + 1)
    return made


def queue(machine: Timed, sig: int, value: int = 0, *, group: bool = True, code: int = s.SI_QUEUE) -> None:
    send_signal(machine.task, Siginfo(sig, code, pid=9, value=value), group=group)


def test_standard_signals_are_kept_once_and_realtime_ones_all(machine: Timed) -> None:
    machine.block_signals(s.SIGUSR1, RT)
    for value in range(3):
        queue(machine, s.SIGUSR1, value)
        queue(machine, RT, value)

    taken = []
    while (info := machine.take()) is not None:
        taken.append((info.signo, info.value))
    assert taken == [(s.SIGUSR1, 0), (RT, 0), (RT, 1), (RT, 2)]


def test_low_numbers_and_the_threads_own_come_first(machine: Timed) -> None:
    machine.block_signals(s.SIGUSR1, s.SIGUSR2, RT, RT + 1)
    for sig in (RT + 1, s.SIGUSR2, RT):
        queue(machine, sig)
    queue(machine, RT, group=False)
    queue(machine, s.SIGUSR1)

    taken = []
    while (info := machine.take()) is not None:
        taken.append(info.signo)
    assert taken == [RT, s.SIGUSR1, s.SIGUSR2, RT, RT + 1]


def test_beyond_the_limit_sigqueue_is_eagain_and_kill_loses_what_it_tells(machine: Timed) -> None:
    machine.block_signals(s.SIGUSR1, RT, RT + 1)
    machine.task.process.rlimits[RLIMIT_SIGPENDING][0] = 2
    queue(machine, RT)
    queue(machine, RT)
    with pytest.raises(LinuxError) as failure:
        queue(machine, RT)
    assert failure.value.errno is Errno.EAGAIN
    with pytest.raises(LinuxError):
        queue(machine, RT + 1, code=s.SI_TKILL)
    queue(machine, RT, code=s.SI_USER)  # pending already: lost
    queue(machine, RT + 1, code=s.SI_USER)
    queue(machine, s.SIGUSR1, 5)

    assert [info.signo for info in machine.task.process.shared_pending.queue] == [RT, RT, RT + 1, s.SIGUSR1]
    told = [machine.take(RT + 1), machine.take(s.SIGUSR1)]
    assert [(info.code, info.pid, info.value) for info in told if info] == [(s.SI_USER, 0, 0)] * 2


def test_the_kernels_own_standard_signals_have_no_limit(machine: Timed) -> None:
    machine.block_signals(s.SIGUSR1)
    machine.task.process.rlimits[RLIMIT_SIGPENDING][0] = 0
    queue(machine, s.SIGUSR1, code=s.SI_KERNEL)
    info = machine.take(s.SIGUSR1)

    assert info is not None
    assert info.code == s.SI_KERNEL


@pytest.mark.parametrize("sig", [s.SIGCHLD, s.SIGURG, s.SIGWINCH, s.SIGCONT])
def test_what_is_ignored_by_default_is_not_kept_unless_it_is_blocked(machine: Timed, sig: int) -> None:
    assert is_ignored(machine.task.process, sig)
    queue(machine, sig, code=s.SI_USER)
    assert machine.take(sig) is None
    machine.block_signals(sig)
    queue(machine, sig, code=s.SI_USER)

    assert machine.take(sig) is not None


def test_what_sigtimedwait_unblocks_is_kept_though_it_is_ignored(machine: Timed) -> None:
    machine.task.real_blocked = sigmask(s.SIGCHLD)
    queue(machine, s.SIGCHLD, code=s.SI_USER)

    assert machine.take(s.SIGCHLD) is not None


def test_a_signal_for_the_process_goes_to_a_thread_that_does_not_block_it(machine: Timed) -> None:
    other = machine.thread(2)
    machine.kernel.scheduler.sleep(other, WaitQueue())
    machine.block_signals(s.SIGUSR1)
    queue(machine, s.SIGUSR1)

    assert not machine.task.sigpending
    assert other.sigpending
    assert (other.state, other.interrupted) == (TaskState.RUNNING, True)


def test_a_thread_that_blocks_a_pending_signal_leaves_it_to_another(machine: Timed) -> None:
    other = machine.thread(2)
    queue(machine, s.SIGUSR1)
    assert machine.task.sigpending
    assert not other.sigpending
    set_blocked(machine.task, sigmask(s.SIGUSR1))

    assert not machine.task.sigpending
    assert other.sigpending


def test_a_fault_is_fatal_if_its_signal_is_ignored(machine: Timed) -> None:
    machine.task.process.actions[s.SIGSEGV] = Sigaction(SIG_IGN)
    force_signal(machine.task, Siginfo(s.SIGSEGV, s.SEGV_MAPERR, addr=5))

    assert machine.task.process.actions[s.SIGSEGV] == Sigaction()
    info = machine.take(s.SIGSEGV)
    assert info is not None
    assert info.addr == 5


def test_a_handler_that_is_reset_runs_once(machine: Timed) -> None:
    machine.task.process.actions[s.SIGUSR1] = Sigaction(0x1000, s.SA_RESETHAND)
    queue(machine, s.SIGUSR1)

    assert machine.to_user_mode(machine.task) == [s.SIGUSR1]
    assert machine.task.process.actions[s.SIGUSR1].handler == s.SIG_DFL
