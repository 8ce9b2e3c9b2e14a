"""Stopping, continuing, orphaned groups, and what parents are told."""

import pytest

from minikernel.abi import signal as s
from minikernel.abi.signal import SIG_IGN, Sigaction
from minikernel.abi.wait import WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WSTOPPED
from minikernel.syscalls.table import advance
from minikernel.task.exit import do_exit, do_group_exit
from minikernel.task.jobctl import first_thread, is_orphaned_pgrp
from minikernel.task.reap import Reaped, Selector, do_wait
from minikernel.task.task import Task, TaskState
from minikernel.wait import WaitQueue
from tests.minikernel.task.timed import Timed

STOPS = (s.SIGSTOP, s.SIGTSTP, s.SIGTTIN, s.SIGTTOU)


@pytest.fixture
def machine() -> Timed:
    """The caller is in a group of its own; its parent listens to SIGCHLD."""
    made = Timed()
    made.task.process.session = made.parent.process.session
    made.handle(s.SIGCHLD, task=made.parent)
    return made


def is_running(task: Task) -> bool:
    """Whether *task* is on the line."""
    return task.state is TaskState.RUNNING


def waited(task: Task, options: int) -> tuple[int, int] | None:
    """What wait4 gives: (id, status)."""
    call = do_wait(task, Selector(), options | WNOHANG)
    try:
        call.send(None)
    except StopIteration as stop:
        reaped: Reaped | None = stop.value
        return (reaped.pid, reaped.status) if reaped is not None else None
    raise AssertionError("WNOHANG waits")


def told(machine: Timed) -> list[tuple[int, int]]:
    """(code, status) of each SIGCHLD the parent has not taken."""
    found = []
    while (info := machine.take(s.SIGCHLD, task=machine.parent)) is not None:
        found.append((info.code, info.status))
    return found


@pytest.mark.parametrize("sig", STOPS)
def test_a_stop_signal_stops_and_the_parent_is_told(machine: Timed, sig: int) -> None:
    machine.kill(machine.task, sig)
    assert machine.to_user_mode(machine.task) == []
    assert machine.task.state is TaskState.STOPPED
    assert told(machine) == [(s.CLD_STOPPED, sig)]
    assert waited(machine.parent, WEXITED) is None
    assert waited(machine.parent, WSTOPPED | WNOWAIT) == (1, sig << 8 | 0x7F)
    assert waited(machine.parent, WSTOPPED) == (1, sig << 8 | 0x7F)

    assert waited(machine.parent, WSTOPPED) is None


def test_sigcont_continues_and_the_parent_is_told(machine: Timed) -> None:
    machine.kill(machine.task, s.SIGSTOP)
    machine.to_user_mode(machine.task)
    told(machine)
    machine.kill(machine.task, s.SIGCONT)
    assert machine.task.state is TaskState.RUNNING
    assert machine.task.sigpending
    assert waited(machine.parent, WCONTINUED | WNOWAIT) == (1, 0xFFFF)
    assert waited(machine.parent, WCONTINUED) == (1, 0xFFFF)
    assert waited(machine.parent, WCONTINUED | WSTOPPED) is None
    assert told(machine) == []
    machine.to_user_mode(machine.task)

    assert told(machine) == [(s.CLD_CONTINUED, s.SIGCONT)]


@pytest.mark.parametrize("action", [Sigaction(SIG_IGN), Sigaction(0x1000, s.SA_NOCLDSTOP)])
def test_parents_that_do_not_care_are_only_woken(machine: Timed, action: Sigaction) -> None:
    machine.parent.process.actions[s.SIGCHLD] = action
    call = do_wait(machine.parent, Selector(), WSTOPPED)
    call.send(None)
    queue = machine.parent.process.wait_chldexit
    machine.kernel.scheduler.sleep(machine.parent, queue)
    machine.kill(machine.task, s.SIGSTOP)
    machine.to_user_mode(machine.task)

    assert told(machine) == []
    assert not queue.waiters
    assert machine.parent.state is TaskState.RUNNING
    call.close()


def test_a_stop_is_complete_when_every_thread_has_joined(machine: Timed) -> None:
    other = machine.thread(2)
    queue = WaitQueue()
    machine.kernel.scheduler.sleep(other, queue)
    machine.kill(machine.task, s.SIGSTOP)
    machine.to_user_mode(machine.task)
    assert machine.task.state is TaskState.STOPPED
    assert (other.state, other.interrupted) == (TaskState.RUNNING, True)
    assert told(machine) == []
    assert waited(machine.parent, WSTOPPED) is None
    machine.to_user_mode(other)

    assert other.state is TaskState.STOPPED
    assert told(machine) == [(s.CLD_STOPPED, s.SIGSTOP)]


def test_a_thread_that_ends_instead_of_stopping_completes_the_stop(machine: Timed) -> None:
    other = machine.thread(2)
    machine.kill(machine.task, s.SIGSTOP)
    machine.to_user_mode(machine.task)
    do_exit(other, 0)

    assert told(machine) == [(s.CLD_STOPPED, s.SIGSTOP)]


def test_sigcont_in_the_middle_of_a_stop_counts_as_stopped(machine: Timed) -> None:
    other = machine.thread(2)
    machine.kill(machine.task, s.SIGSTOP)
    machine.to_user_mode(machine.task)
    machine.kill(machine.task, s.SIGCONT)
    machine.to_user_mode(machine.task, other)

    assert [machine.task.state, other.state] == [TaskState.RUNNING] * 2
    assert told(machine) == [(s.CLD_STOPPED, 0)]


def test_only_sigcont_and_sigkill_reach_a_stopped_process(machine: Timed) -> None:
    machine.kill(machine.task, s.SIGSTOP)
    machine.to_user_mode(machine.task)
    machine.kill(machine.task, s.SIGTERM)
    assert machine.task.state is TaskState.STOPPED
    machine.kill(machine.task, s.SIGKILL)

    assert is_running(machine.task)


def test_sigkill_ends_an_uninterruptible_sleep(machine: Timed) -> None:
    machine.task.uninterruptible = True
    machine.kernel.scheduler.sleep(machine.task, WaitQueue())
    machine.kill(machine.task, s.SIGSTOP)
    assert machine.task.state is TaskState.SLEEPING
    machine.kill(machine.task, s.SIGTERM)

    assert is_running(machine.task)


def test_stops_and_sigcont_take_each_other_back(machine: Timed) -> None:
    machine.block_signals(*STOPS, s.SIGCONT)
    machine.kill(machine.task, s.SIGTSTP)
    machine.kill(machine.task, s.SIGCONT)
    assert machine.task.process.shared_pending.mask == s.sigmask(s.SIGCONT)
    machine.kill(machine.task, s.SIGTTIN)

    assert machine.task.process.shared_pending.mask == s.sigmask(s.SIGTTIN)


@pytest.mark.parametrize("sig", STOPS)
def test_the_terminals_stops_do_nothing_in_an_orphaned_group(machine: Timed, sig: int) -> None:
    machine.task.process.session = 77
    assert is_orphaned_pgrp(machine.kernel, machine.task.pgrp)
    machine.kill(machine.task, sig)
    machine.to_user_mode(machine.task)

    assert (machine.task.state is TaskState.STOPPED) == (sig == s.SIGSTOP)


def test_a_group_that_becomes_orphaned_is_hung_up_if_it_has_stopped(machine: Timed) -> None:
    member = machine.child_of(machine.task.process, 3)
    machine.handle(s.SIGHUP, s.SIGCONT, task=member)
    machine.kill(member, s.SIGSTOP)
    machine.to_user_mode(member)
    do_group_exit(machine.task, 0)

    assert member.state is TaskState.RUNNING
    assert machine.to_user_mode(member) == [s.SIGHUP, s.SIGCONT]


def test_a_group_whose_members_run_is_orphaned_quietly(machine: Timed) -> None:
    member = machine.child_of(machine.task.process, 3)
    machine.handle(s.SIGHUP, s.SIGCONT, task=member)
    do_group_exit(machine.task, 0)

    assert machine.to_user_mode(member) == []


@pytest.mark.parametrize(
    ("action", "signals", "reaped"),
    [
        (Sigaction(0x1000), 1, False),
        (Sigaction(0x1000, s.SA_NOCLDWAIT), 1, True),
        (Sigaction(SIG_IGN), 0, True),
        (Sigaction(), 0, False),
    ],
)
def test_a_parent_decides_whether_it_will_wait(machine: Timed, action: Sigaction, signals: int, reaped: bool) -> None:
    machine.parent.process.actions[s.SIGCHLD] = action
    do_group_exit(machine.task, 3 << 8)

    assert len(told(machine)) == signals
    assert (machine.task.state is TaskState.DEAD) == reaped
    assert (1 not in machine.kernel.tasks) == reaped


def test_what_a_child_used_is_added_up(machine: Timed) -> None:
    grandchild = machine.child_of(machine.task.process, 3)
    machine.run(5_000_000, grandchild)
    machine.run(7_000_000)
    do_group_exit(grandchild, 0)
    assert waited(machine.task, WEXITED) == (3, 0)
    do_group_exit(machine.task, 0)
    assert waited(machine.parent, WEXITED) == (1, 0)

    assert machine.parent.process.children_usage.utime == 12_000_000


def test_signals_for_a_process_go_to_a_living_thread_first(machine: Timed) -> None:
    other = machine.thread(2)
    assert first_thread(machine.task.process) is machine.task
    do_exit(machine.task, 0)

    assert first_thread(machine.task.process) is other


def test_waiting_for_nobody_is_echild(machine: Timed) -> None:
    assert advance(do_wait(machine.task, Selector(), WEXITED)) == -10  # type: ignore[arg-type]  # its int is an errno
