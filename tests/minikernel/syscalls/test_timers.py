"""The calls of timers: structures of both ABIs, order of checks, restarts of sleeps."""

import struct

import pytest

from minikernel.abi import signal as s
from minikernel.abi.abi import ABIS, I386, Abi
from minikernel.abi.capability import CAP_WAKE_ALARM
from minikernel.abi.resource import RLIMIT_SIGPENDING
from minikernel.syscalls.table import advance
from tests.minikernel.syscalls.calls import BAD
from tests.minikernel.task.timed import MS, Timed

EINVAL, EFAULT, EBADF, EAGAIN, EOPNOTSUPP, EINTR = -22, -14, -9, -11, -95, -4
RESTART_BLOCK = -516
PAIRS = {"x86-64": "<4q", "i386": "<4i"}
WIDE = "<4q"
BOTH = pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)


def four(machine: Timed, *fields: int, offset: int = 0, wide: bool = False) -> int:
    """interval.s, interval.us|ns, value.s, value.us|ns in memory; its address."""
    return machine.put(struct.pack(WIDE if wide else PAIRS[machine.abi.name], *fields), offset)


def read_four(machine: Timed, offset: int, *, wide: bool = False) -> tuple[int, ...]:
    form = WIDE if wide else PAIRS[machine.abi.name]
    return struct.unpack(form, machine.get(struct.calcsize(form), offset))


@BOTH
def test_setitimer_tells_what_was_set_before(abi: Abi) -> None:
    machine = Timed(abi)
    assert machine.call("setitimer", 0, four(machine, 1, 2, 3, 4), 0) == 0
    machine.sleep(1000 * MS)
    assert machine.call("setitimer", 0, four(machine, 0, 0, 0, 0), machine.scratch + 64) == 0
    assert read_four(machine, 64) == (1, 2, 2, 4)
    assert machine.call("getitimer", 0, machine.scratch) == 0

    assert read_four(machine, 0) == (0, 0, 0, 0)


@BOTH
@pytest.mark.parametrize("fields", [(0, 0, 0, 1_000_000), (0, 0, 0, -1), (-1, 0, 0, 0), (0, 1_000_000, 1, 0)])
def test_setitimer_wants_times(abi: Abi, fields: tuple[int, ...]) -> None:
    machine = Timed(abi)

    assert machine.call("setitimer", 0, four(machine, *fields), 0) == EINVAL


def test_setitimer_reads_the_time_before_it_looks_at_the_timer() -> None:
    machine = Timed()

    assert machine.call("setitimer", 7, BAD, 0) == EFAULT
    assert machine.call("setitimer", 7, four(machine, 0, 0, 0, 0), 0) == EINVAL
    assert machine.call("getitimer", -1, machine.scratch) == EINVAL
    assert machine.call("getitimer", 0, BAD) == EFAULT


def test_without_a_new_time_setitimer_switches_off() -> None:
    machine = Timed()
    machine.call("alarm", 5)

    assert machine.call("setitimer", 0, 0, 0) == 0
    assert machine.call("alarm", 0) == 0


@pytest.mark.parametrize(("left_ms", "told"), [(100, 1), (499, 1), (1499, 1), (1500, 2), (4000, 4)])
def test_alarm_rounds_what_was_left(left_ms: int, told: int) -> None:
    machine = Timed()
    machine.call("alarm", 10)
    machine.sleep((10_000 - left_ms) * MS)

    assert machine.call("alarm", 0) == told


def test_a_real_timer_is_set_again_when_its_signal_is_taken() -> None:
    machine = Timed()
    machine.handle(s.SIGALRM)
    machine.call("setitimer", 0, four(machine, 0, 10_000, 0, 5_000), 0)
    machine.sleep(27 * MS)
    machine.call("getitimer", 0, machine.scratch)
    assert read_four(machine, 0) == (0, 10_000, 0, 0)
    assert machine.take(s.SIGALRM) is not None
    assert machine.take(s.SIGALRM) is None
    machine.call("getitimer", 0, machine.scratch)

    assert read_four(machine, 0) == (0, 10_000, 0, 8_000)


def sigevent(abi: Abi, value: int, signo: int, notify: int, tid: int = 0) -> bytes:
    """A struct sigevent."""
    return struct.pack("<Qiii" if abi.word == 8 else "<Iiii", value, signo, notify, tid).ljust(64, b"\0")


@BOTH
def test_timers_are_numbered_from_0_and_known_by_number(abi: Abi) -> None:
    machine = Timed(abi)
    for expected in range(3):
        assert machine.call("timer_create", 1, 0, machine.scratch) == 0
        assert machine.words(1) == [expected]
    assert machine.call("timer_delete", 1) == 0
    assert machine.call("timer_delete", 1) == EINVAL
    assert machine.call("timer_create", 1, 0, machine.scratch) == 0

    assert machine.words(1) == [3]


@BOTH
def test_a_timer_counts_in_the_structures_of_its_abi(abi: Abi) -> None:
    machine = Timed(abi)
    event = machine.put(sigevent(abi, 0x1234_5678, s.SIGUSR1, 0), 200)
    machine.handle(s.SIGUSR1)
    assert machine.call("timer_create", 1, event, machine.scratch + 100) == 0
    assert machine.call("timer_settime", 0, 0, four(machine, 3, 4, 1, 2), 0) == 0
    assert machine.call("timer_gettime", 0, machine.scratch + 64) == 0
    assert read_four(machine, 64) == (3, 4, 1, 2)
    machine.sleep(1000 * MS + 2)
    info = machine.take(s.SIGUSR1)

    assert info is not None
    assert info.value == 0x1234_5678
    assert machine.call("timer_getoverrun", 0) == 0


def test_i386_has_calls_with_64_bit_seconds() -> None:
    machine = Timed(I386)
    machine.call("timer_create", 1, 0, machine.scratch + 100)
    far = 2**33
    assert machine.call("timer_settime64", 0, 0, four(machine, 0, 5, far, 6, wide=True), 0) == 0
    assert machine.call("timer_gettime64", 0, machine.scratch + 64) == 0

    assert read_four(machine, 64, wide=True) == (0, 5, far, 6)


@pytest.mark.parametrize(
    ("value", "signo", "notify", "tid"),
    [(0, 0, 0, 0), (0, 65, 0, 0), (0, 10, 3, 0), (0, 10, 4, 99), (0, 10, 4, 50), (0, 0, 2, 0), (0, 10, 5, 1)],
)
def test_events_that_mean_nothing_are_einval(value: int, signo: int, notify: int, tid: int) -> None:
    machine = Timed()
    event = machine.put(sigevent(machine.abi, value, signo, notify, tid))

    assert machine.call("timer_create", 1, event, machine.scratch + 100) == EINVAL


@pytest.mark.parametrize(
    ("clock", "result"),
    [
        (0, 0), (1, 0), (2, 0), (3, 0), (4, EOPNOTSUPP), (5, EOPNOTSUPP), (6, EOPNOTSUPP), (7, 0), (8, EOPNOTSUPP),
        (9, EOPNOTSUPP), (10, EINVAL), (11, 0), (12, EINVAL), (-6, 0), (-2, 0), (-5, EOPNOTSUPP), (~99 << 3, EINVAL),
    ],
)  # fmt: skip
def test_which_clocks_have_timers(clock: int, result: int) -> None:
    machine = Timed()

    assert machine.call("timer_create", clock, 0, machine.scratch) == result


def test_a_timer_nobody_can_be_told_the_number_of_is_not_made() -> None:
    machine = Timed()

    assert machine.call("timer_create", 1, 0, BAD) == EFAULT
    assert not machine.task.process.posix_timers


def test_timers_count_against_rlimit_sigpending() -> None:
    machine = Timed(uid=1000)
    machine.task.process.rlimits[RLIMIT_SIGPENDING][0] = 1

    assert machine.call("timer_create", 1, 0, machine.scratch) == 0
    assert machine.call("timer_create", 1, 0, machine.scratch) == EAGAIN


def test_timer_settime_checks_in_order() -> None:
    machine = Timed()
    bad = four(machine, 0, 0, 0, 1_000_000_000)

    assert machine.call("timer_settime", 5, 0, 0, 0) == EINVAL
    assert machine.call("timer_settime", 5, 0, BAD, 0) == EFAULT
    assert machine.call("timer_settime", 5, 0, bad, 0) == EINVAL
    assert machine.call("timer_gettime", 5, BAD) == EINVAL
    assert machine.call("timer_getoverrun", 5) == EINVAL


def test_sigaction_wakes_timers_whose_signal_was_ignored() -> None:
    machine = Timed()
    event = machine.put(sigevent(machine.abi, 0, s.SIGUSR1, 0), 200)
    machine.call("rt_sigaction", s.SIGUSR1, machine.put(struct.pack("<4Q", 1, 0, 0, 0), 300), 0, 8)
    machine.call("timer_create", 1, event, machine.scratch + 100)
    machine.call("timer_settime", 0, 0, four(machine, 0, MS, 0, MS), 0)
    machine.sleep(5 * MS)
    assert machine.take(s.SIGUSR1) is None
    machine.call("rt_sigaction", s.SIGUSR1, machine.put(struct.pack("<4Q", 0x1000, 0, 0, 0), 300), 0, 8)

    assert machine.take(s.SIGUSR1) is not None


@pytest.mark.parametrize(
    ("clock", "flags", "result"), [(2, 0, EINVAL), (3, 0, EINVAL), (11, 0, EINVAL), (1, 1, EINVAL), (9, 0, -1)]
)
def test_timerfd_create_checks(clock: int, flags: int, result: int) -> None:
    machine = Timed(uid=1000)
    assert not machine.task.cred.capable(CAP_WAKE_ALARM)

    assert machine.call("timerfd_create", clock, flags) == result


def test_calls_on_no_timerfd() -> None:
    machine = Timed()

    assert machine.call("timerfd_settime", 99, 0, four(machine, 0, 0, 1, 0), 0) == EBADF
    assert machine.call("timerfd_settime", 99, 4, four(machine, 0, 0, 1, 0), 0) == EINVAL
    assert machine.call("timerfd_settime", 99, 0, four(machine, 0, 0, 0, -1), 0) == EINVAL
    assert machine.call("timerfd_settime", 99, 0, BAD, 0) == EFAULT
    assert machine.call("timerfd_gettime", 99, machine.scratch) == EBADF


def test_signalfd_checks_in_order() -> None:
    machine = Timed()
    mask = machine.put(bytes(8))

    assert machine.call("signalfd4", -1, BAD, 4, 77) == EINVAL
    assert machine.call("signalfd4", -1, BAD, 8, 77) == EFAULT
    assert machine.call("signalfd4", 99, mask, 8, 1) == EINVAL
    assert machine.call("signalfd4", 99, mask, 8, 0) == EBADF


def test_a_sleep_that_was_interrupted_goes_on_to_its_first_end() -> None:
    machine = Timed()
    request = machine.put(struct.pack("<qq", 0, 60 * MS))
    call, wait = machine.block("nanosleep", request, machine.scratch + 32)
    assert wait.timeout_ns == 60 * MS
    machine.sleep(10 * MS)
    assert advance(call, interrupt=True) == RESTART_BLOCK
    assert struct.unpack("<qq", machine.get(16, 32)) == (0, 50 * MS)
    machine.sleep(20 * MS)
    again, wait = machine.block("restart_syscall")
    assert wait.timeout_ns == 30 * MS
    machine.sleep(30 * MS)

    assert advance(again, woken=False) == 0


def test_a_sleep_that_is_continued_too_late_is_over() -> None:
    machine = Timed()
    call, _ = machine.block("nanosleep", machine.put(struct.pack("<qq", 0, 60 * MS)), 0)
    assert advance(call, interrupt=True) == RESTART_BLOCK
    machine.sleep(100 * MS)

    assert machine.call("restart_syscall") == 0
    assert machine.call("restart_syscall") == EINTR


def test_poll_goes_on_to_its_first_end() -> None:
    machine = Timed()
    call, wait = machine.block("poll", 0, 0, 60)
    assert wait.timeout_ns == 60 * MS
    machine.sleep(10 * MS)
    assert advance(call, interrupt=True) == RESTART_BLOCK
    again, wait = machine.block("restart_syscall")

    assert wait.timeout_ns == 50 * MS
    again.close()


def test_a_sleep_on_a_cpu_clock_ends_when_others_have_run() -> None:
    machine = Timed()
    other = machine.thread(2)
    call, wait = machine.block("clock_nanosleep", 2, 0, machine.put(struct.pack("<qq", 0, 5 * MS)), 0)
    assert wait.timeout_ns is None
    machine.kernel.scheduler.sleep(machine.task, wait.queue)
    machine.sleep(100 * MS)
    assert wait.queue.waiters
    machine.run(5 * MS, other)

    assert not wait.queue.waiters
    assert advance(call, woken=True) == 0


def test_an_interrupted_sleep_on_a_cpu_clock_tells_what_is_left() -> None:
    machine = Timed()
    other = machine.thread(2)
    request = machine.put(struct.pack("<qq", 0, 5 * MS))
    call, _ = machine.block("clock_nanosleep", 2, 0, request, machine.scratch + 32)
    machine.run(2 * MS, other)

    assert advance(call, interrupt=True) == RESTART_BLOCK
    assert struct.unpack("<qq", machine.get(16, 32)) == (0, 3 * MS)
    assert machine.task.process.cpu_timers is not None
    assert not machine.task.process.cpu_timers.armed


@pytest.mark.parametrize(("clock", "result"), [(-2, EINVAL), (~1 << 3 | 6, EINVAL), (-5, EOPNOTSUPP), (3, EOPNOTSUPP)])
def test_nobody_sleeps_on_his_own_cpu_time(clock: int, result: int) -> None:
    machine = Timed()

    assert machine.call("clock_nanosleep", clock, 0, machine.put(struct.pack("<qq", 0, 1)), 0) == result
