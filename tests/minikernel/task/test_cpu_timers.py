"""ITIMER_VIRTUAL, ITIMER_PROF, RLIMIT_CPU: what counts CPU time."""

import pytest

from minikernel.abi import signal as s
from minikernel.abi.resource import RLIM_INFINITY, RLIMIT_CPU
from minikernel.abi.time import ITIMER_PROF, ITIMER_VIRTUAL, NSEC_PER_SEC
from minikernel.task.cpu_timers import TICK_NSEC, cpu_sample, cpu_timers_of, watch_cpu_limit
from minikernel.task.itimer import get_itimer, set_itimer
from tests.minikernel.task.timed import MS, Timed

BOTH = pytest.mark.parametrize(("which", "sig"), [(ITIMER_VIRTUAL, s.SIGVTALRM), (ITIMER_PROF, s.SIGPROF)])


@BOTH
def test_a_cpu_itimer_expires_a_tick_after_its_time(which: int, sig: int) -> None:
    machine = Timed()
    machine.handle(sig)
    set_itimer(machine.task, which, 5 * MS, 0)
    machine.run(5 * MS + TICK_NSEC - 1)
    assert machine.take(sig) is None
    machine.run(1)

    info = machine.take(sig)
    assert info is not None
    assert info.code == s.SI_KERNEL
    assert get_itimer(machine.task, which) == (0, 0)


@BOTH
def test_a_periodic_cpu_itimer_goes_on_from_where_it_was_due(which: int, sig: int) -> None:
    machine = Timed()
    machine.handle(sig)
    set_itimer(machine.task, which, 1 * MS, 2 * MS)
    machine.run(1 * MS + TICK_NSEC)
    assert machine.take(sig) is not None
    assert get_itimer(machine.task, which) == (2 * MS, 2 * MS)
    machine.run(2 * MS)

    assert machine.take(sig) is not None


def test_sleeping_uses_no_cpu_time() -> None:
    machine = Timed()
    machine.handle(s.SIGPROF)
    set_itimer(machine.task, ITIMER_PROF, 1 * MS, 0)
    machine.sleep(1000 * MS)

    assert machine.take(s.SIGPROF) is None


def test_threads_share_the_itimer_of_their_process() -> None:
    machine = Timed()
    machine.handle(s.SIGPROF)
    other = machine.thread(2)
    set_itimer(machine.task, ITIMER_PROF, 10 * MS, 0)
    machine.run(7 * MS)
    machine.run(7 * MS, other)

    assert machine.take(s.SIGPROF) is not None


def test_time_of_threads_that_have_ended_counts() -> None:
    machine = Timed()
    machine.run(3 * MS)
    machine.task.process.dead_usage.utime += 4 * MS

    assert cpu_sample(machine.task.process, None, ITIMER_PROF) == 7 * MS


def test_the_cpu_limit_sends_sigxcpu_every_second_and_then_sigkill() -> None:
    machine = Timed()
    machine.handle(s.SIGXCPU)
    process = machine.task.process
    process.rlimits[RLIMIT_CPU][:] = [1, 3]
    watch_cpu_limit(process)
    machine.run(NSEC_PER_SEC - 1)
    assert machine.take() is None
    machine.run(1)
    assert machine.take(s.SIGXCPU) is not None
    assert process.rlimits[RLIMIT_CPU] == [2, 3]
    machine.run(NSEC_PER_SEC)
    assert machine.take(s.SIGXCPU) is not None
    machine.run(NSEC_PER_SEC)

    assert machine.take(s.SIGXCPU) is None
    assert machine.take(s.SIGKILL) is not None


def test_without_a_limit_nothing_is_watched() -> None:
    machine = Timed()
    machine.task.process.rlimits[RLIMIT_CPU][:] = [RLIM_INFINITY, RLIM_INFINITY]
    watch_cpu_limit(machine.task.process)

    assert machine.task.process.cpu_timers is None


def test_a_slice_ends_where_the_next_timer_is_due() -> None:
    machine = Timed()
    set_itimer(machine.task, ITIMER_PROF, 8 * MS, 0)
    set_itimer(machine.task, ITIMER_VIRTUAL, 3 * MS, 0)

    assert cpu_timers_of(machine.task.process).budget(machine.task) == 3 * MS + TICK_NSEC
