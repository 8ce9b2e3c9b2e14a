"""Clocks and sleeping."""

import struct

import pytest

from minikernel.abi.abi import ABIS, Abi
from minikernel.syscalls.table import advance
from minikernel.wait import Wait
from tests.minikernel.syscalls.calls import BAD, I386, Caller

SECOND = 1_000_000_000
EINVAL, EFAULT, EPERM, EOPNOTSUPP, EINTR = -22, -14, -1, -95, -4
RESTART_BLOCK, RESTART_NOHAND = -516, -514
PAIR = {"x86-64": "<qq", "i386": "<ii"}


def pair(abi: Abi, first: int, second: int) -> bytes:
    """A timespec or timeval of *abi*."""
    return struct.pack(PAIR[abi.name], first, second)


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_the_monotonic_clock_counts_instructions(abi: Abi) -> None:
    caller = Caller(abi)
    caller.icount = 5 * SECOND + 7

    assert caller.call("clock_gettime", 1, caller.scratch) == 0
    assert caller.get(2 * abi.word) == pair(abi, 5, 7)


def test_seconds_of_i386_wrap_in_the_old_calls_and_not_in_the_new() -> None:
    caller = Caller(I386)
    caller.icount = (2**31 + 5) * SECOND

    assert caller.call("clock_gettime", 1, caller.scratch) == 0
    assert struct.unpack("<ii", caller.get(8)) == (-(2**31) + 5, 0)
    assert caller.call("clock_gettime64", 1, caller.scratch) == 0
    assert struct.unpack("<qq", caller.get(16)) == (2**31 + 5, 0)


# Which clocks there are, their resolutions, and whether one can sleep on them: as the host's Linux 6.18 answers.
CLOCKS = [
    (0, 0, 1, 0), (1, 0, 1, 0), (3, 0, 1, EOPNOTSUPP), (4, 0, 1, EOPNOTSUPP), (5, 0, 4_000_000, EOPNOTSUPP),
    (6, 0, 4_000_000, EOPNOTSUPP), (7, 0, 1, 0), (8, EINVAL, 0, EOPNOTSUPP), (9, EINVAL, 0, EOPNOTSUPP),
    (10, EINVAL, 0, EINVAL), (11, 0, 1, 0), (12, EINVAL, 0, EINVAL),
]  # fmt: skip


@pytest.mark.parametrize(("clock", "found", "resolution", "sleep"), CLOCKS)
def test_clocks_are_those_of_linux(clock: int, found: int, resolution: int, sleep: int) -> None:
    caller = Caller()
    caller.put(bytes(64))

    assert caller.call("clock_gettime", clock, caller.scratch) == found
    assert caller.call("clock_getres", clock, caller.scratch) == found
    if not found:
        assert struct.unpack("<qq", caller.get(16)) == (0, resolution)
    caller.put(struct.pack("<qq", 0, 0))
    assert caller.call("clock_nanosleep", clock, 0, caller.scratch, 0) == sleep


# A negative clock id is ~pid << 3 | which, with 4 for one thread: the host's answers for pid 0.
@pytest.mark.parametrize(("clock", "found"), [(-9, EINVAL), (-8, 0), (-7, 0), (-6, 0), (-5, EINVAL),
                                              (-4, 0), (-3, 0), (-2, 0), (-1, EINVAL)])  # fmt: skip
def test_cpu_clocks_go_by_negative_numbers(clock: int, found: int) -> None:
    caller = Caller()

    assert caller.call("clock_gettime", clock, caller.scratch) == found


def test_cpu_clocks_show_what_threads_used() -> None:
    caller = Caller()
    thread = caller.add_task(2, caller.abi, thread_of=caller.task)
    caller.task.utime, thread.utime, caller.task.process.dead_usage.utime = 3, 4, 5
    for clock, used in ((2, 12), (3, 3)):
        caller.call("clock_gettime", clock, caller.scratch)

        assert struct.unpack("<qq", caller.get(16)) == (0, used)


def test_nobody_sets_the_clock_and_errors_come_in_linux_s_order() -> None:
    caller = Caller()
    good, bad = caller.put(struct.pack("<qq", 1, 0)), caller.put(struct.pack("<qq", 1, SECOND), 32)

    assert caller.call("clock_settime", 1, BAD) == EINVAL
    assert caller.call("clock_settime", 0, BAD) == EFAULT
    assert caller.call("clock_settime", 0, bad) == EINVAL
    assert caller.call("clock_settime", 0, good) == EPERM
    assert caller.call("settimeofday", good, 0) == EPERM


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_gettimeofday_and_time_tell_the_real_time(abi: Abi) -> None:
    caller = Caller(abi)
    now = caller.kernel.clock.realtime_ns()

    assert caller.call("gettimeofday", caller.scratch, 0) == 0
    assert caller.get(2 * abi.word) == pair(abi, now // SECOND, now % SECOND // 1000)
    assert caller.call("time", caller.scratch) == now // SECOND
    assert caller.words(1, size=abi.word) == [now // SECOND]
    assert caller.call("time", BAD) == EFAULT


def test_times_counts_in_clock_ticks() -> None:
    caller = Caller()
    caller.icount = 2 * SECOND
    caller.task.utime = SECOND

    assert caller.call("times", caller.scratch) == 200
    assert caller.words(4, size=8) == [100, 0, 0, 0]
    assert caller.call("times", BAD) == EFAULT


def test_a_sleep_ends_when_its_time_has_come() -> None:
    caller = Caller()
    call, wait = caller.block("nanosleep", caller.put(struct.pack("<qq", 1, 500)), 0)

    assert wait.timeout_ns == SECOND + 500
    caller.icount = SECOND  # woken too early: it goes on waiting for the rest
    again = advance(call, True)
    assert isinstance(again, Wait)
    assert again.timeout_ns == 500
    caller.icount = SECOND + 500
    assert advance(call, False) == 0


@pytest.mark.parametrize(("seconds", "rest"), [(-1, 0), (0, -1), (0, SECOND)])
def test_a_sleep_of_no_sensible_length_is_refused(seconds: int, rest: int) -> None:
    caller = Caller()

    assert caller.call("nanosleep", caller.put(struct.pack("<qq", seconds, rest)), 0) == EINVAL


def test_the_longest_sleep_is_no_error() -> None:
    caller = Caller()
    _, wait = caller.block("nanosleep", caller.put(struct.pack("<qq", 2**63 - 1, 0)), 0)

    assert wait.timeout_ns == 2**63 - 1


def test_a_32_bit_program_may_leave_garbage_beside_its_nanoseconds() -> None:
    caller = Caller(I386)
    when = caller.put(struct.pack("<qIi", 0, 7, -1))
    _, wait = caller.block("clock_nanosleep_time64", 1, 0, when, 0)

    assert wait.timeout_ns == 7


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_an_interrupted_sleep_tells_the_rest_and_can_go_on(abi: Abi) -> None:
    caller = Caller(abi)
    call, _ = caller.block("nanosleep", caller.put(pair(abi, 3, 0)), caller.scratch + 64)
    caller.icount = SECOND

    assert advance(call, interrupt=True) == RESTART_BLOCK
    assert caller.get(2 * abi.word, 64) == pair(abi, 2, 0)
    resumed, wait = caller.block("restart_syscall")
    assert wait.timeout_ns == 2 * SECOND
    caller.icount = 3 * SECOND
    assert advance(resumed, False) == 0
    assert caller.call("restart_syscall") == EINTR


def test_an_absolute_sleep_starts_again_from_its_arguments() -> None:
    caller = Caller()
    now = caller.kernel.clock.realtime_ns()
    call, wait = caller.block("clock_nanosleep", 0, 1, caller.put(struct.pack("<qq", now // SECOND + 2, 0)), 0)

    assert wait.timeout_ns == (now // SECOND + 2) * SECOND - now
    assert advance(call, interrupt=True) == RESTART_NOHAND
