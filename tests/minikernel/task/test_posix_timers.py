"""POSIX timers: expiry, overruns, what setting anew, deleting and ignoring do."""

import pytest

from minikernel.abi import signal as s
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import Sigaction
from minikernel.abi.time import KTIME_MAX
from minikernel.task.cpu_timers import CPUCLOCK_SCHED
from minikernel.task.exit import do_exit
from minikernel.task.itimer import hrtimer_forward
from minikernel.task.posix_timers import (
    CpuClock,
    PosixTimer,
    WallClock,
    find_timer,
    timers_of_heard_signal,
    timers_of_ignored_signal,
)
from minikernel.task.signal import flush, nr_queued
from minikernel.task.task import Task
from tests.minikernel.task.timed import MS, Timed

SIG = s.SIGUSR1


@pytest.fixture
def machine() -> Timed:
    made = Timed()
    made.handle(SIG)
    made.block_signals(SIG)
    made.sleep(100 * MS)
    return made


def wall_timer(
    machine: Timed, signo: int | None = SIG, value: int | None = 7, thread: Task | None = None
) -> PosixTimer:
    return PosixTimer(machine.task.process, WallClock(machine.kernel, realtime=False), signo, value, thread)


@pytest.mark.parametrize(
    ("expires", "now", "after"),
    [(100, 99, (100, 0)), (100, 100, (110, 1)), (100, 109, (110, 1)), (100, 110, (120, 2)), (100, 145, (150, 5))],
)
def test_forward_goes_to_the_first_interval_after_now(expires: int, now: int, after: tuple[int, int]) -> None:
    assert hrtimer_forward(expires, 10, now) == after


def test_a_oneshot_timer_sends_its_value_once(machine: Timed) -> None:
    timer = wall_timer(machine)
    timer.set(5 * MS, 0, absolute=False)
    assert timer.get() == (5 * MS, 0)
    machine.sleep(5 * MS)

    info = machine.take(SIG)
    assert info is not None
    assert (info.code, info.value, info.timer_id, info.overrun) == (s.SI_TIMER, 7, timer.id, 0)
    assert timer.get() == (0, 0)
    machine.sleep(50 * MS)
    assert machine.take(SIG) is None


def test_an_absolute_time_that_is_past_expires_at_once(machine: Timed) -> None:
    timer = wall_timer(machine)
    timer.set(1, 0, absolute=True)
    machine.sleep(0)

    assert machine.take(SIG) is not None


def test_the_real_time_clock_has_its_own_zero(machine: Timed) -> None:
    clock = WallClock(machine.kernel, realtime=True)
    timer = PosixTimer(machine.task.process, clock, SIG, 0, None)
    timer.set(clock.now() + 5 * MS, 0, absolute=True)
    machine.sleep(5 * MS - 1)
    assert machine.take(SIG) is None
    machine.sleep(1)

    assert machine.take(SIG) is not None


def test_overruns_are_what_passed_while_the_signal_waited(machine: Timed) -> None:
    timer = wall_timer(machine)
    timer.set(5 * MS, 10 * MS, absolute=False)
    machine.sleep(37 * MS)  # 5, 15, 25, 35
    assert timer.overrun_last == 0
    info = machine.take(SIG)
    assert info is not None
    assert info.overrun == timer.overrun_last == 3
    assert timer.get() == (8 * MS, 10 * MS)
    assert machine.take(SIG) is None
    machine.sleep(8 * MS)
    info = machine.take(SIG)

    assert info is not None
    assert info.overrun == timer.overrun_last == 0


def test_looking_at_a_pending_timer_counts_what_passed(machine: Timed) -> None:
    timer = wall_timer(machine)
    timer.set(5 * MS, 10 * MS, absolute=False)
    machine.sleep(27 * MS)
    assert timer.get() == (8 * MS, 10 * MS)
    info = machine.take(SIG)

    assert info is not None
    assert info.overrun == 2


def test_setting_anew_takes_back_a_signal_that_waits(machine: Timed) -> None:
    timer = wall_timer(machine)
    timer.set(5 * MS, 0, absolute=False)
    machine.sleep(5 * MS)
    timer.set(50 * MS, 0, absolute=False)
    assert machine.take(SIG) is None
    machine.sleep(50 * MS)

    assert machine.take(SIG) is not None


def test_deleting_takes_back_a_signal_that_waits(machine: Timed) -> None:
    timer = wall_timer(machine)
    timer.set(5 * MS, 0, absolute=False)
    machine.sleep(5 * MS)
    timer.delete()

    assert not machine.task.process.shared_pending.queue
    assert not machine.task.process.shared_pending.mask
    with pytest.raises(LinuxError) as failure:
        find_timer(machine.task.process, timer.id)
    assert failure.value.errno is Errno.EINVAL


def test_two_timers_queue_one_standard_signal_each(machine: Timed) -> None:
    first, second = wall_timer(machine, value=1), wall_timer(machine, value=2)
    first.set(1 * MS, 0, absolute=False)
    second.set(2 * MS, 0, absolute=False)
    machine.sleep(3 * MS)

    taken = [machine.take(SIG), machine.take(SIG), machine.take(SIG)]
    assert [info.value if info else None for info in taken] == [1, 2, None]


def test_without_a_value_the_timer_tells_its_id(machine: Timed) -> None:
    wall_timer(machine)
    timer = wall_timer(machine, value=None)
    timer.set(1, 0, absolute=False)
    machine.sleep(1)
    info = machine.take(SIG)

    assert info is not None
    assert info.value == timer.id == 1


def test_a_silent_timer_only_runs(machine: Timed) -> None:
    timer = wall_timer(machine, signo=None)
    assert timer.get() == (0, 0)
    timer.set(5 * MS, 0, absolute=False)
    assert timer.get() == (5 * MS, 0)
    machine.sleep(5 * MS)
    assert timer.get() == (0, 0)
    timer.set(5 * MS, 10 * MS, absolute=False)
    machine.sleep(18 * MS)

    assert timer.get() == (7 * MS, 10 * MS)
    assert machine.take() is None


def test_a_timer_of_an_ignored_signal_rests_until_that_has_a_handler(machine: Timed) -> None:
    machine.task.blocked = 0
    process = machine.task.process
    process.actions[SIG] = Sigaction(s.SIG_IGN)
    timer = wall_timer(machine)
    timer.set(5 * MS, 10 * MS, absolute=False)
    machine.sleep(37 * MS)
    assert machine.take() is None
    assert process.ignored_timers == [timer]
    machine.handle(SIG)
    timers_of_heard_signal(process, SIG)
    info = machine.take(SIG)

    assert info is not None
    assert info.overrun == 3
    assert not process.ignored_timers


def test_ignoring_a_signal_that_waits_lets_its_timer_rest(machine: Timed) -> None:
    process = machine.task.process
    timer = wall_timer(machine)
    timer.set(5 * MS, 10 * MS, absolute=False)
    machine.sleep(5 * MS)
    timers_of_ignored_signal(process, flush(process.shared_pending, 1 << (SIG - 1)))
    assert process.ignored_timers == [timer]
    timer.delete()

    assert not process.ignored_timers


def test_a_forged_signal_of_a_timer_passes(machine: Timed) -> None:
    timer = wall_timer(machine)

    made_up = Siginfo(SIG, s.SI_TIMER, timer_id=timer.id, overrun=9)
    assert timer.deliver(made_up) is made_up


def test_a_timer_for_one_thread_ends_with_it(machine: Timed) -> None:
    thread = machine.thread(2)
    timer = wall_timer(machine, thread=thread)
    timer.set(1 * MS, 0, absolute=False)
    machine.sleep(1 * MS)
    assert machine.take(SIG) is None
    assert machine.take(SIG, task=thread) is not None
    do_exit(thread, 0)
    timer.set(1 * MS, 0, absolute=False)
    machine.sleep(1 * MS)

    assert machine.take(SIG) is None


def test_cpu_clocks_count_their_thread_or_their_process(machine: Timed) -> None:
    process, thread = machine.task.process, machine.thread(2)
    alone = PosixTimer(process, CpuClock(machine.kernel, process, machine.task, CPUCLOCK_SCHED), SIG, 1, None)
    together = PosixTimer(process, CpuClock(machine.kernel, process, None, CPUCLOCK_SCHED), SIG, 2, None)
    alone.set(5 * MS, 0, absolute=False)
    together.set(5 * MS, 0, absolute=False)
    machine.run(3 * MS)
    machine.run(3 * MS, thread)
    info = machine.take(SIG)
    assert info is not None
    assert info.value == 2
    assert machine.take(SIG) is None
    assert alone.get() == (2 * MS, 0)
    machine.run(2 * MS)
    info = machine.take(SIG)

    assert info is not None
    assert info.value == 1


def test_a_cpu_timer_that_is_due_when_it_is_set_expires_at_once(machine: Timed) -> None:
    process = machine.task.process
    timer = PosixTimer(process, CpuClock(machine.kernel, process, None, CPUCLOCK_SCHED), SIG, 1, None)
    machine.run(5 * MS)
    timer.set(1 * MS, 0, absolute=True)

    assert machine.take(SIG) is not None


def test_a_cancelled_cpu_timer_is_off_the_list(machine: Timed) -> None:
    process = machine.task.process
    timer = PosixTimer(process, CpuClock(machine.kernel, process, None, CPUCLOCK_SCHED), SIG, 1, None)
    timer.set(5 * MS, 0, absolute=False)
    timer.set(0, 0, absolute=False)
    assert process.cpu_timers is not None
    assert not process.cpu_timers.armed
    machine.run(10 * MS)

    assert machine.take(SIG) is None


def test_the_farthest_time_is_not_exceeded(machine: Timed) -> None:
    timer = wall_timer(machine)
    timer.set(KTIME_MAX, 0, absolute=False)

    assert timer.get() == (KTIME_MAX - 100 * MS, 0)


def test_each_timer_counts_against_the_limit_of_queued_signals(machine: Timed) -> None:
    before = nr_queued(machine.task)
    timer = wall_timer(machine)
    assert nr_queued(machine.task) == before + 1
    timer.delete()

    assert nr_queued(machine.task) == before
