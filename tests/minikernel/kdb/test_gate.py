"""A gate in the machine: what it keeps waits, and a run that it lets through in the end is the free run."""

from pathlib import Path

from minikernel.abi import signal as s
from minikernel.abi.siginfo import Siginfo
from minikernel.kdb.machine import Why
from minikernel.task.signal import next_signal
from minikernel.task.task import Task
from tests.minikernel.kdb.test_machine import free, left, machine


class Doorkeeper:
    """Keeps every call and every signal once."""

    def __init__(self) -> None:
        self.calls: list[Task] = []
        self.signals: list[int] = []
        self.approved: list[Siginfo] = []

    def holds_call(self, task: Task) -> bool:
        self.calls.append(task)
        return True

    def holds_signal(self, task: Task) -> bool:
        found = next_signal(task)
        if found is None or any(found[1] is info for info in self.approved):
            return False
        self.signals.append(found[1].signo)
        return True

    def approve(self, task: Task) -> None:
        found = next_signal(task)
        if found is not None:
            self.approved.append(found[1])


def test_calls_and_signals_that_are_kept_for_a_while_change_nothing(story: Path) -> None:
    expected = free(story)
    keeper = Doorkeeper()
    with machine(story) as it:
        it.set_gate(keeper)
        at_calls = 0
        while (pause := it.run()).why is not Why.EXITED:
            assert pause.why is Why.ASKED
            task = it.kernel.current
            assert task is not None
            at_calls += it.held_call(task)
            keeper.approve(task)
        result = left(it)
    assert result == expected
    assert at_calls == len(keeper.calls) == result[3]
    assert set(keeper.signals) == {s.SIGUSR1}


def test_a_task_that_is_held_does_not_run(story: Path) -> None:
    with machine(story) as it:
        task = it.kernel.current
        assert task is not None
        it.step()
        it.kernel.scheduler.held = frozenset({task})
        count = it.icount
        pause = it.run()
        assert (pause.why, it.icount) == (Why.STUCK, count)
        it.kernel.scheduler.held = frozenset()
        assert it.step().why is Why.STEPPED
        assert it.icount == count + 1
